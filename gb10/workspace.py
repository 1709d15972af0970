"""The learner's copies: lessons laid out in work/, never overwriting what a learner changed.

work/.course.json remembers, for every file that was laid, the SHA-256 of the bytes that were laid and, for a notebook,
of its cell sources. Three versions decide what happens to a file: what was laid, what is in work/ now, and what the
course ships now.

    not laid before   nothing there -> added            something else there -> kept
    untouched         course moved on -> updated         course dropped it -> removed
    merely run        course moved on -> updated, the run copy is kept beside it as NAME.before-DATE-TIME.ipynb
    changed           kept, always; "newer" when the course moved on
    deleted           stays deleted (but not the syllabus); ./course reset brings it back

A file is written before the manifest mentions it, and both by rename, so an interrupted layout is continued by the
next one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from gb10 import paths
from gb10.errors import UserError
from gb10.lessons import lessons, upstream
from gb10.syllabus import SYLLABUS, syllabus

MANIFEST = ".course.json"
VERSION = 1


@dataclass
class Report:
    """What a layout did; each list holds paths below work/, except `notes` (sentences)."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)      # changed by the learner, and the course has moved on
    kept: list[str] = field(default_factory=list)       # changed by the learner
    deleted: list[str] = field(default_factory=list)    # deleted by the learner
    backups: list[str] = field(default_factory=list)    # older copies that were put aside
    notes: list[str] = field(default_factory=list)


# ---------------------------------------------------------------- fingerprints

def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def source_sha(data: bytes) -> str | None:
    """Fingerprint of a notebook's cells without outputs, counts and metadata; None if it is no notebook.

    Empty code cells at the end don't count: JupyterLab adds one when the last cell is run.
    """
    try:
        cells = [(c["cell_type"], "".join(c["source"])) for c in json.loads(data)["cells"]]
    except (ValueError, KeyError, TypeError):
        return None
    while cells and cells[-1][0] == "code" and not cells[-1][1].strip():
        cells.pop()
    return sha(json.dumps(cells).encode())


def fingerprint(name: str, data: bytes) -> dict[str, str]:
    """A manifest entry: {"laid": …} and, for notebooks, {"source": …}."""
    entry = {"laid": sha(data)}
    if name.endswith(".ipynb") and (s := source_sha(data)):
        entry["source"] = s
    return entry


# ---------------------------------------------------------------- writing

def stamp() -> str:
    return time.strftime("%Y%m%d-%H%M%S")


def _free(path: Path) -> Path:
    """`path`, or with -2, -3, … before its suffix when something of that name is there."""
    candidate, n = path, 1
    while os.path.lexists(candidate):
        n += 1
        candidate = path.with_name(f"{path.stem}-{n}{path.suffix}" if path.suffix in (".ipynb", ".md") else f"{path.name}-{n}")
    return candidate


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, tmp = tempfile.mkstemp(dir=path.parent, prefix=".laying-")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
        os.chmod(tmp, 0o666 & ~_umask())   # mkstemp gives 0600
        os.replace(tmp, path)
    except BaseException:
        Path(tmp).unlink(missing_ok=True)
        raise


class Manifest:
    """work/.course.json: {"version": 1, "files": {path: {"laid": sha, "source": sha}}}."""

    def __init__(self, work: Path):
        self.path = work / MANIFEST
        self.files: dict[str, dict[str, str]] = {}
        self.broken: Path | None = None    # where an unreadable one was put
        try:
            data = json.loads(self.path.read_bytes())
            files = data["files"]
            if data["version"] != VERSION or not all(isinstance(e["laid"], str) for e in files.values()):
                raise ValueError("not a manifest of this version")
            self.files = files
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError):
            self.broken = _free(self.path.with_name(f"{MANIFEST}.broken-{stamp()}"))
            os.replace(self.path, self.broken)

    def save(self) -> None:
        data = {"version": VERSION, "files": dict(sorted(self.files.items()))}
        write_atomically(self.path, json.dumps(data, indent=1).encode() + b"\n")


@contextmanager
def _locked(work: Path):
    """One layout at a time (two terminals); where the file system can't lock, none."""
    if os.path.lexists(work) and not work.is_dir():
        raise UserError(f"{work} is not a folder: move it away and run the command again.")
    work.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(work / ".course.lock", "w") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX)
        except OSError:
            pass
        for left in work.glob(".laying-*"):    # of a layout that was killed
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink(missing_ok=True)
        yield


# ---------------------------------------------------------------- laying out

NOT_A_FILE = b"\0 not a regular file"    # equals nothing that is ever laid


def _read(path: Path) -> bytes | None:
    """What a learner has there; None when nothing is. A link or a folder is theirs and never taken for ours."""
    if not os.path.lexists(path):
        return None
    return NOT_A_FILE if path.is_symlink() or not path.is_file() else path.read_bytes()


def _put_aside(path: Path, now: bytes, work: Path, report: Report) -> None:
    backup = _free(path.with_name(f"{path.stem}.before-{stamp()}{path.suffix}"))
    write_atomically(backup, now)
    report.backups.append(backup.relative_to(work).as_posix())


def _lay_one(name: str, new: bytes, work: Path, files: dict, report: Report) -> None:
    path, entry, fresh = work / name, files.get(name), fingerprint(name, new)
    now = _read(path)
    if now is None:
        if entry is not None and "/" in name:    # the syllabus itself comes back: JupyterLab opens on it
            report.deleted.append(name)
            return
        if any(p.is_symlink() or (p.exists() and not p.is_dir()) for p in path.parents if p != work and work in p.parents):
            report.kept.append(name)    # something of the learner's stands where its folder would be
            return
        write_atomically(path, new)
        files[name] = fresh
        report.added.append(name)
        return
    mine = fingerprint(name, now)
    same_source = "source" in fresh and mine.get("source") == fresh["source"]
    if mine["laid"] == fresh["laid"] or (entry is None and same_source):
        files[name] = fresh
        return
    if entry is None:
        if "/" in name:
            report.kept.append(name)
            return
        _put_aside(path, now, work, report)     # the syllabus is made, not written: after a lost manifest too
        write_atomically(path, new)
        files[name] = fresh
        return
    moved_on = fresh["laid"] != entry["laid"]
    if mine["laid"] == entry["laid"]:                                        # untouched
        write_atomically(path, new)
        report.updated.append(name)
    elif "source" in entry and mine.get("source") == entry["source"]:        # merely run
        if not moved_on or same_source:
            return
        _put_aside(path, now, work, report)
        write_atomically(path, new)
        report.updated.append(name)
    elif same_source:                                                        # the learner's change became the course's
        pass
    else:
        (report.newer if moved_on else report.kept).append(name)
        return
    files[name] = fresh


def _drop(name: str, work: Path, files: dict, report: Report) -> None:
    """A file that the course no longer ships: removed if untouched, otherwise the learner's from now on."""
    path = work / name
    now, entry = _read(path), files.pop(name)
    if now is None:
        return
    if sha(now) == entry["laid"]:
        path.unlink()
        report.removed.append(name)
        for folder in path.parents:
            if folder == work or any(folder.iterdir()):
                break
            folder.rmdir()
    else:
        report.notes.append(f"{name} is no longer part of the course; yours is kept.")


def lay_out(work: Path | None = None, root: Path | None = None) -> Report:
    """Bring work/ up to date with the lessons and return what was done. Safe to interrupt and to repeat."""
    work, root, report = work or paths.WORK, root or paths.LESSONS, Report()
    with _locked(work):
        manifest = Manifest(work)
        if manifest.broken:
            report.notes.append(f"work/{MANIFEST} could not be read; it is kept as {manifest.broken.name}, and every "
                                "file that differs from the course's is taken to be yours.")
        names = lessons(root)
        shipped = {SYLLABUS}
        try:
            for lesson in names:
                contents = upstream(lesson, root)
                shipped |= contents.keys()
                for name, data in contents.items():
                    _lay_one(name, data, work, manifest.files, report)
                manifest.save()
            _lay_one(SYLLABUS, syllabus(root).encode(), work, manifest.files, report)
            for name in [n for n in manifest.files if n not in shipped]:
                _drop(name, work, manifest.files, report)
        finally:
            manifest.save()
    return report


# ---------------------------------------------------------------- a clean copy

ALREADY_CLEAN = "already clean"


def reset(lesson: str, work: Path | None = None, root: Path | None = None) -> Path | str | None:
    """Put a clean copy of `lesson` (a folder name) into work/; the old folder is renamed, never deleted.

    Returns where the old copy is now, None when there was none, ALREADY_CLEAN when there was nothing to do.
    """
    work = work or paths.WORK
    contents = upstream(lesson, root)
    with _locked(work):
        manifest = Manifest(work)
        target, backup = work / lesson, None
        clean = target.is_dir() and not target.is_symlink() and contents == {
            p.relative_to(work).as_posix(): _read(p) for p in target.rglob("*")
            if not p.is_dir() and ".ipynb_checkpoints" not in p.parts}
        if not clean:
            # The whole new copy first, then two renames: at no moment is the learner's work in danger.
            staged = Path(tempfile.mkdtemp(dir=work, prefix=".laying-"))
            try:
                for name, data in contents.items():
                    write_atomically(staged / PurePosixPath(name).relative_to(lesson), data)
                os.chmod(staged, 0o777 & ~_umask())
                if os.path.lexists(target):
                    backup = _free(work / f"{lesson}.before-{stamp()}")
                    os.rename(target, backup)
                os.rename(staged, target)
            except BaseException:
                if backup and not os.path.lexists(target):
                    os.rename(backup, target)
                shutil.rmtree(staged, ignore_errors=True)
                raise
        manifest.files = {n: e for n, e in manifest.files.items() if not n.startswith(f"{lesson}/")}
        manifest.files |= {name: fingerprint(name, data) for name, data in contents.items()}
        manifest.save()
    return ALREADY_CLEAN if clean else backup


def changed(work: Path | None = None) -> tuple[int, int]:
    """(files laid, of which the learner changed) according to the manifest; (0, 0) when nothing is laid."""
    work = work or paths.WORK
    try:
        files = json.loads((work / MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0
    count = 0
    for name, entry in files.items():
        now = _read(work / name)
        mine = fingerprint(name, now) if now is not None else {}
        same = mine.get("laid") == entry["laid"] or ("source" in entry and mine.get("source") == entry["source"])
        count += not same
    return len(files), count
