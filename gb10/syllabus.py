"""The page on which JupyterLab opens: made from the lesson cards and the notebooks' own headings.

Pure text in, Markdown out; links are relative to work/, so they open in JupyterLab.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import quote

from gb10 import paths
from gb10.lessons import lesson_files, lessons

SYLLABUS = "Syllabus.md"

INTRO = """\
# Blackwell at Your Desk

NVFP4 and LLM serving on the NVIDIA DGX Spark (GB10), hands on. Open a notebook below, run it from the top, and change
what you like: these are your own copies, and updating the course never overwrites them.
"""
OUTRO = """\
## Good to know

- **Run a cell** with Shift+Enter, a whole notebook with *Run* > *Run All Cells*.
- **Start a lesson afresh:** type `./course reset NN` in a terminal, in the course's folder. Your copy is kept beside
  the clean one.
- **Is this machine ready?** `./course check` says what it has, what is missing and how to mend it.
- **Stop** with Ctrl-C in the terminal where `./course lab` runs.
"""


def heading_and_lead(markdown: str) -> tuple[str, str]:
    """(first heading, first paragraph after it) of a Markdown text; "" for what isn't there."""
    heading, lead = "", []
    for line in markdown.splitlines():
        if not heading:
            if m := re.match(r"#\s+(.+?)\s*#*$", line):
                heading = m[1]
        elif re.match(r"\s*([#|<>!]|```|---|[-*+] |\d+\. )", line):
            break
        elif line.strip():
            lead.append(line.strip())
        elif lead:
            break
    # A link of the card would point somewhere else from work/: keep its words.
    return heading, re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(lead))


def notebook_title(path: Path) -> str:
    """The first heading of a notebook, else its file name."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            if cell["cell_type"] == "markdown" and (title := heading_and_lead("".join(cell["source"]))[0]):
                return title
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return path.stem


def _link(title: str, target: str) -> str:
    return f"[{title.replace('[', '(').replace(']', ')')}]({quote(target)})"


def syllabus(root: Path | None = None) -> str:
    """Markdown: every lesson with its card, notebooks in reading order and solutions."""
    root = root or paths.LESSONS
    parts = [INTRO]
    for lesson in lessons(root):
        files = list(lesson_files(root / lesson))
        title, lead = "", ""
        if "README.md" in files:
            title, lead = heading_and_lead((root / lesson / "README.md").read_text(encoding="utf-8"))
        lines = [f"## {title or lesson[3:].replace('-', ' ').capitalize()}", ""]
        if lead:
            lines += [lead, ""]
        for f in [f for f in files if f.endswith(".ipynb") and "/" not in f]:
            line = f"- {_link(notebook_title(root / lesson / f), f'{lesson}/{f}')}"
            if f"solutions/{f}" in files:
                line += f" ({_link('solution', f'{lesson}/solutions/{f}')})"
            lines.append(line)
        if "README.md" in files:
            lines.append(f"- {_link('What it needs, how long it takes', f'{lesson}/README.md')}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join([*parts, OUTRO])
