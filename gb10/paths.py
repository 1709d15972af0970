"""Where things live in a checkout of the course.

The course is installed in editable mode, so the repository is the folder above this package. Everything that
the course makes lies inside it, in folders that git ignores; nothing is written to a learner's home.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "lessons"          # what the course ships; never written to by a learner
WORK = ROOT / "work"                # the learner's copies
PICO = ROOT / "appendix" / "pico" / "model"
STATE = ROOT / ".course"            # what runs now, logs, stamps
VENV_VLLM = ROOT / ".venv-vllm"     # vLLM's own environment: its pins differ from the course's
