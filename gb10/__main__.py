"""`python -m gb10 SUB …`: what the script ./course hands over to."""

import sys

from gb10.cli import main

if __name__ == "__main__":
    sys.exit(main())
