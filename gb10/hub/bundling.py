"""Make an offline bundle: models in a folder, for a stick or a share, verified while they are written."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path

from gb10 import __version__
from gb10.errors import UserError, WorkFailed
from gb10.hub import cache, store
from gb10.hub.manifest import LARGEST, MODELS, NAME, Entry, File, Manifest, read_manifest
from gb10.hub.meter import Meter
from gb10.hub.receive import Differs, arrived, receive, sha256_of, trouble
from gb10.hub.sources import chunks, opened


@dataclass(frozen=True)
class Origin:
    """A whole model on this machine: file -> (where it lies, bytes, SHA-256 if it was recorded)."""

    repo: str
    revision: str
    files: dict[str, tuple[Path, int, str | None]]

    @property
    def bytes(self) -> int:
        return sum(size for _, size, _ in self.files.values())


def origin(repo: str) -> Origin:
    """The model from the course's store, else from the Hugging Face cache. Raises UserError if it is whole in neither."""
    if where := store.local(repo):
        note = store.read(where)
        return Origin(repo, note.revision, {f: (where / f, size, note.sha256.get(f)) for f, size in note.files.items()})
    if where := cache.cached(repo):
        files = {f: (path, path.stat().st_size, sha256) for f, (path, sha256) in cache.files(where).items()}
        if any(f.endswith(".safetensors") for f in files):
            return Origin(repo, where.name, files)
    raise UserError(f"{repo} is not whole on this machine: fetch it first (./course models get {repo}).")


def bundle(out: str | Path, repos: list[str], *, quiet: bool = False) -> Manifest:
    """Put models into the bundle at `out`, made if need be; returns what it holds now.

    On the same file system files are hard links, elsewhere copies. Whatever is there already and right is kept, so an
    interrupted call goes on. The manifest is written last. Raises UserError or WorkFailed.
    """
    out = Path(out).expanduser().absolute()
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: give a folder, new or of a stick.")
    old = existing(out)
    origins = [origin(r) for r in dict.fromkeys(repos)]
    entries = {m.repo: m for m in old.models} if old else {}
    if not _on_one_disk(out):
        missing = sum(size - arrived(_at(out, o, f), size) for o in origins for f, (_, size, _) in o.files.items())
        store.room("the bundle", missing, out)
    meter = Meter("bundle", sum(o.bytes for o in origins), quiet=quiet)
    try:
        out.mkdir(parents=True, exist_ok=True)
        replaced = [o.repo for o in origins if o.repo in entries and entries[o.repo].revision != o.revision]
        for repo in replaced:                    # its files are about to change: the manifest must not promise the old ones
            del entries[repo]
        if replaced:
            _write(out, entries)
        done = 0
        for o in origins:
            entries[o.repo] = _model(o, out, lambda n, done=done: meter.at(done + n))
            done += o.bytes
        made = _write(out, entries)
    except OSError as e:
        meter.clear()
        raise trouble(e, "writing the bundle", out) from None
    except KeyboardInterrupt:
        meter.say("Stopped; what is written is kept, the same command goes on.")
        raise
    meter.done(f"{sum(o.bytes for o in origins) / 1e9:.2f} GB in {out}")
    return made


def existing(out: Path) -> Manifest | None:
    """The manifest of a bundle that is there already."""
    file = out / NAME
    if not os.path.lexists(file):
        return None
    with opened(file) as f:
        return read_manifest(f.read(LARGEST + 1)[:LARGEST], str(out))


def _on_one_disk(out: Path) -> bool:
    """Do the bundle and the store share a file system, so that links will do?"""
    return os.stat(store.existing(out)).st_dev == os.stat(store.existing(store.FOLDER)).st_dev


def _at(out: Path, o: Origin, name: str) -> Path:
    return out / MODELS / o.repo.replace("/", "--") / name


def _model(o: Origin, out: Path, tick) -> Entry:
    files, done = [], 0
    for name, (path, size, sha256) in o.files.items():
        target = _at(out, o, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        found = _place(o.repo, path, target, size, sha256, lambda n, done=done: tick(done + n))
        files.append(File(name, size, found))
        done += size
    return Entry(o.repo, o.revision, tuple(files))


def _place(repo: str, path: Path, target: Path, size: int, sha256: str | None, tick) -> str:
    """One file into the bundle; returns its SHA-256, computed from what is in the bundle now."""
    changed = WorkFailed(f"{path.name} of {repo} is not what was fetched: './course models verify {repo}' says more, then "
                         f"'./course models get {repo}' brings it anew.")
    sha256 = sha256 or sha256_of(path)
    if not target.is_symlink() and store.size_of(target) == size and sha256_of(target, tick) == sha256:
        return sha256
    link = target.with_name(target.name + ".link")
    try:
        link.unlink(missing_ok=True)
        os.link(path.resolve(), link)
    except OSError:                              # another file system, or one without links
        try:
            return receive(target, size, sha256, lambda have: chunks(path, have), tick)
        except Differs:
            raise changed from None
    if sha256_of(link, tick) != sha256:
        link.unlink()
        raise changed
    os.replace(link, target)
    return sha256


def _write(out: Path, entries: dict[str, Entry]) -> Manifest:
    """The manifest, at once or not at all; none where there is nothing to list."""
    made = Manifest(tuple(entries.values()), datetime.date.today().isoformat(), __version__)
    if not entries:
        (out / NAME).unlink(missing_ok=True)
        return made
    tmp = out / (NAME + ".tmp")
    with open(tmp, "wb") as f:
        f.write(made.to_bytes())
        f.flush()
        os.fsync(f.fileno())
    os.replace(tmp, out / NAME)
    return made
