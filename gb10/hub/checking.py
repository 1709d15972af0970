"""Is a model still what was fetched? Sizes, SHA-256 and safetensors headers, file by file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gb10.errors import CourseError, UserError
from gb10.hub import cache, store
from gb10.hub.meter import Meter
from gb10.hub.receive import sha256_of


@dataclass
class Verdict:
    """What a check found of one model."""

    repo: str
    path: Path
    where: str                                                  # "course" or "cache"
    revision: str
    files: int
    bytes: int
    wrong: dict[str, str] = field(default_factory=dict)         # file -> what is wrong with it
    unrecorded: list[str] = field(default_factory=list)         # files whose SHA-256 nobody wrote down

    @property
    def ok(self) -> bool:
        return not self.wrong


def verify(repo: str, *, quiet: bool = False) -> Verdict:
    """Check one model, that of the course's store before that of the cache; reads every byte.

    A wrong file of the store is recorded in its note: the model no longer counts as whole, and the next fetch brings that
    file anew. Raises UserError if the model isn't here.
    """
    where = store.folder(repo)
    note = store.read(where)
    if note:
        return _own(repo, where, note, quiet)
    if snapshot := cache.cached(repo):
        files = {name: (path, path.stat().st_size, sha256) for name, (path, sha256) in cache.files(snapshot).items()}
        return _check(Verdict(repo, snapshot, "cache", snapshot.name, 0, 0), files, quiet)
    raise UserError(f"{repo} is not on this machine: './course models' lists what is, './course models get {repo}' fetches it.")


def _own(repo: str, where: Path, note: store.Note, quiet: bool) -> Verdict:
    verdict = Verdict(repo, where, "course", note.revision, 0, 0)
    if not note.files:
        verdict.wrong["config.json"] = "has not come yet"
        return verdict
    files = {name: (where / name, size, note.sha256.get(name)) for name, size in note.files.items()}
    _check(verdict, files, quiet)
    store.mark(where, note, [f for f in verdict.wrong if f in note.files])
    for stray in sorted(where.glob("*.safetensors")):
        if stray.name not in note.files:
            verdict.wrong[stray.name] = "is not of this model at this revision, and engines would load it: delete it"
    return verdict


def _check(verdict: Verdict, files: dict[str, tuple[Path, int, str | None]], quiet: bool) -> Verdict:
    verdict.files, verdict.bytes = len(files), sum(size for _, size, _ in files.values())
    meter = Meter(f"verifying {verdict.repo}", verdict.bytes, quiet=quiet)
    done = 0
    for name, (path, size, sha256) in files.items():
        why = _wrong(path, size, sha256, lambda n, done=done: meter.at(done + n))
        if why:
            verdict.wrong[name] = why
        elif sha256 is None:
            verdict.unrecorded.append(name)
        done += size
    meter.clear()
    return verdict


def _wrong(path: Path, size: int, sha256: str | None, tick) -> str | None:
    """What is wrong with one file, as the rest of a sentence; None if nothing is."""
    found = store.size_of(path)
    if found < 0:
        part = path.with_name(path.name + ".part").exists()
        return "has come only in part" if part else "is missing"
    if found != size:
        return f"has {found:,} bytes and not {size:,}"
    try:
        if sha256 and sha256_of(path, tick) != sha256:
            return "has another SHA-256 than when it was fetched: its content has changed"
        if path.name.endswith(".safetensors") or path.suffix == ".safetensors":
            _header(path)
    except OSError as e:
        return f"can't be read ({e.strerror})"
    except CourseError as e:
        return e.message.removeprefix(f"{path} ").removesuffix("; fetch or export it again.")
    return None


def _header(path: Path) -> None:
    from gb10.quantize.inside.header import read_header

    read_header(path)
