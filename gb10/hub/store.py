"""The course's own store of models: one folder each, with a note (gb10-revision.json) that says what is to be in it.

A model counts as whole when its note says so and every file has the size that the note gives. The note says so only
after everything has come and was verified, so that a killed transfer leaves nothing that passes for a model.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from gb10.errors import UserError, WorkFailed
from gb10.hub.names import NOTE, checked
from gb10.paths import STATE

FOLDER = STATE / "models"
SPARE = 500_000_000     # bytes of disk to leave free


@dataclass(frozen=True)
class Note:
    """What the note in a model's folder says."""

    repo: str
    revision: str                                            # the commit
    asked: str | None = None                                 # what was asked for: a branch, a tag, None
    complete: bool = False
    files: dict[str, int] = field(default_factory=dict)      # name -> bytes
    sha256: dict[str, str] = field(default_factory=dict)     # of the files that have come and were found right
    wrong: tuple[str, ...] = ()                              # files that a check found wrong since
    source: str = ""                                         # the bundle that it was installed from; "" = the hub


def folder(repo: str) -> Path:
    """Where a model of this name is kept. Raises UserError for what can't be a name on the hub."""
    return FOLDER / checked(repo).replace("/", "--")


def local(repo: str) -> Path | None:
    """The model's folder if it is whole in the course's own store, else None. Asks no network."""
    where = folder(repo)
    note = read(where)
    return where if note and whole(where, note) else None


def read(where: Path) -> Note | None:
    """The note in a folder; None if there is none that can be read."""
    try:
        raw = json.loads((where / NOTE).read_text(encoding="utf-8"))
        note = Note(raw["repo"], raw["revision"], raw.get("asked"), raw.get("complete") is True, raw.get("files") or {},
                    raw.get("sha256") or {}, tuple(raw.get("wrong") or ()), raw.get("source") or "")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    sound = isinstance(note.files, dict) and isinstance(note.sha256, dict) and isinstance(note.repo, str)
    return note if sound and all(isinstance(size, int) and "/" not in name for name, size in note.files.items()) else None


def whole(where: Path, note: Note) -> bool:
    """Is everything there that the note lists, and was nothing found wrong?"""
    return note.complete and bool(note.files) and not note.wrong and all(
        size_of(where / name) == size for name, size in note.files.items())


def size_of(file: Path) -> int:
    """Bytes of a regular file (or of what a link leads to); -1 if there is none."""
    try:
        return file.stat().st_size if file.is_file() else -1
    except OSError:
        return -1


def write(where: Path, note: Note) -> None:
    """Put the note into the folder, at once or not at all."""
    content = {"repo": note.repo, "revision": note.revision, "asked": note.asked, "complete": note.complete,
               "files": note.files, "sha256": note.sha256}
    content |= {"wrong": list(note.wrong)} if note.wrong else {}
    content |= {"source": note.source} if note.source else {}
    tmp = where / (NOTE + ".tmp")
    with open(tmp, "w", encoding="utf-8") as f:
        f.write(json.dumps(content, indent=1) + "\n")
        f.flush()
        os.fsync(f.fileno())
    os.replace(tmp, where / NOTE)


def mark(where: Path, note: Note, wrong: list[str]) -> None:
    """Record what a check found: with a wrong file the model isn't whole, and the next `get` fetches that file anew."""
    with contextlib.suppress(OSError):           # a store that can't be written to is still checked
        if tuple(wrong) != note.wrong:
            write(where, replace(note, wrong=tuple(wrong)))


@contextlib.contextmanager
def busy(repo: str, *, quiet: bool = False) -> Iterator[None]:
    """Hold a model's folder for this process; waits for another one that fills it."""
    locks = FOLDER / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with open(locks / folder(repo).name, "w") as lock:
        try:
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not quiet:
                    print(f"Another process is at work on {repo}; waiting for it.", file=sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
        except ImportError:      # Windows
            pass
        yield


def room(what: str, missing: int, at: Path) -> None:
    """Refuse (WorkFailed) what the disk that holds `at` has no place for: `missing` bytes, and SPARE left free."""
    free = free_bytes(at)
    if missing and missing + SPARE > free:
        raise WorkFailed(f"{what} needs {missing / 1e9:.2f} GB of disk, {free / 1e9:.2f} GB are free in {existing(at)}: free "
                         f"some (0.5 GB stay in reserve), then run this again.")


def free_bytes(at: Path) -> int:
    return shutil.disk_usage(existing(at)).free


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(p for p in (path, *path.absolute().parents) if p.exists())


def remove(repo: str) -> int:
    """Delete a model from the course's own store; returns the bytes that it took. Nothing else is ever deleted."""
    where = folder(repo)
    if where.is_symlink():
        raise UserError(f"{where} is a link to somewhere else: delete it yourself, the course deletes only what it fetched.")
    if not where.is_dir():
        raise UserError(f"{repo} is not in the course's own store ({FOLDER}): './course models' lists what is there.")
    size = sum(f.lstat().st_size for f in where.rglob("*") if f.is_file())
    with busy(repo):
        (where / NOTE).unlink(missing_ok=True)               # from here on it is no model, whatever happens
        shutil.rmtree(where)
    return size
