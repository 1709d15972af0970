"""What the course ships: the lesson folders, and the files in them that a learner gets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from gb10 import paths
from gb10.errors import UserError

LESSON = re.compile(r"\d\d-[a-z0-9][a-z0-9-]*")
SKIPPED_FOLDERS = {"__pycache__", "source", "sources"}


def lessons(root: Path | None = None) -> list[str]:
    """Names of the lesson folders that hold something, in order."""
    root = root or paths.LESSONS
    if not root.is_dir():
        return []
    return [p.name for p in sorted(root.iterdir()) if p.is_dir() and LESSON.fullmatch(p.name) and any(lesson_files(p))]


def lesson_files(folder: Path) -> Iterator[str]:
    """Paths below a lesson folder that a learner gets, with forward slashes.

    Left out: hidden files, sources from which notebooks are made (X.py beside X.ipynb), and in solutions/ everything
    but notebooks.
    """
    for path in sorted(folder.rglob("*")):
        rel = path.relative_to(folder)
        if any(part.startswith(".") or part in SKIPPED_FOLDERS for part in rel.parts) or not path.is_file():
            continue
        if path.suffix == ".py" and path.with_suffix(".ipynb").exists():
            continue
        if rel.parts[0] == "solutions" and path.suffix != ".ipynb":
            continue
        yield rel.as_posix()


def find_lesson(word: str, root: Path | None = None) -> str:
    """"3", "03", "03-quant", "work/03-quantize…/" -> the lesson's folder name.

    Raises:
        UserError: no lesson, or more than one, is meant.
    """
    names = lessons(root)
    listing = "; the lessons are: " + ", ".join(names) if names else "; no lesson is shipped here"
    key = PurePosixPath(word.strip().replace("\\", "/")).name.lower()
    if key.isdecimal():
        hits = [n for n in names if int(n[:2]) == int(key)]
    else:
        hits = [n for n in names if n == key] or [n for n in names if key and n.startswith(key)] or [
            n for n in names if key and n[3:].startswith(key)]
    if len(hits) == 1:
        return hits[0]
    what = f"'{word}' could be {' or '.join(hits)}" if hits else f"there is no lesson '{word}'"
    raise UserError(what + listing + ".")


def upstream(lesson: str, root: Path | None = None) -> dict[str, bytes]:
    """{path below work/: contents} of one lesson as the course ships it now."""
    folder = (root or paths.LESSONS) / lesson
    return {f"{lesson}/{rel}": (folder / rel).read_bytes() for rel in lesson_files(folder)}
