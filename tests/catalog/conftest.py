"""The tests of this folder share a module that also makes a data file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
