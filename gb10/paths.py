"""Where things live in a checkout of the course.

The course is installed in editable mode, so the repository is the folder above this package. Everything that
the course makes lies inside it, in folders that git ignores; nothing is written to a learner's home.
"""

import os
from pathlib import Path


def _folder(variable, default):
    """The folder that an environment variable names, else the default: tests point these at scratch folders."""
    return Path(os.environ.get(variable) or default).resolve()


ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "lessons"                        # what the course ships; never written to by a learner
PICO = ROOT / "appendix" / "pico" / "model"       # the model that the course ships
WORK = _folder("GB10_WORK", ROOT / "work")        # the learner's copies of the lessons
STATE = _folder("GB10_STATE", ROOT / ".course")   # what runs now, logs, stamps
VENV_VLLM = _folder("GB10_VENV_VLLM", ROOT / ".venv-vllm")  # vLLM's own environment: its pins differ
