"""Install models from an offline bundle: a folder, or a machine that shares one. Every file is held against its SHA-256."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from gb10.errors import UserError, WorkFailed
from gb10.hub import store
from gb10.hub.manifest import Entry, File, Manifest
from gb10.hub.meter import Meter
from gb10.hub.receive import Differs, arrived, receive, sha256_of, trouble
from gb10.hub.sources import Folder, Lan, Unreachable, source
from gb10.hub.store import Note

TRIES = 3


@dataclass(frozen=True)
class Installed:
    repo: str
    revision: str
    path: Path
    bytes: int
    already: bool               # was whole here before


def install(where: str | Path, repos: list[str] | None = None, *, quiet: bool = False) -> list[Installed]:
    """Bring models of a bundle (all of them, or those named) into the course's own store.

    An interrupted call goes on where it stopped; a model counts as whole only after its last file was verified. What is
    here whole at the same revision is left as it is. Raises UserError or WorkFailed; a manifest that can't be trusted is
    refused before anything is written.
    """
    bundle = source(where)
    try:
        manifest = bundle.manifest()
        chosen = _chosen(manifest, repos, bundle.name)
        todo = [m for m in chosen if not _here(m)]
        for entry in todo:
            bundle.check(entry)
        missing = sum(f.size - arrived(store.folder(m.repo) / f.name, f.size) for m in todo for f in m.files)
        store.room("the installation", missing, store.FOLDER)
        for entry in todo:
            with store.busy(entry.repo, quiet=quiet):
                if not _here(entry):
                    _install(bundle, entry, quiet)
    except Unreachable as e:
        raise WorkFailed(f"{e}: is './course models share' running there, is the address right, and does no firewall stand "
                         f"between? What has come is kept.") from None
    except ConnectionError:
        raise WorkFailed(f"{bundle.name}: the connection broke off. What has come is kept; run this again.") from None
    except OSError as e:
        raise trouble(e, "installing", store.FOLDER) from None
    return [Installed(m.repo, m.revision, store.folder(m.repo), m.bytes, m not in todo) for m in chosen]


def _chosen(manifest: Manifest, repos: list[str] | None, name: str) -> list[Entry]:
    there = {m.repo: m for m in manifest.models}
    if missing := [r for r in repos or () if r not in there]:
        raise UserError(f"{name} doesn't hold {missing[0]}: it holds {', '.join(there)}.")
    return [there[r] for r in dict.fromkeys(repos or there)]


def _here(entry: Entry) -> bool:
    """Is this very revision whole here? Another whole revision is refused: nothing that works is written over."""
    where = store.folder(entry.repo)
    if where.is_symlink():
        raise UserError(f"{where} is a link to somewhere else: delete it, the course writes only into its own store.")
    if not store.local(entry.repo):
        return False
    note = store.read(where)
    if note.revision != entry.revision:
        raise UserError(f"{entry.repo} is here at revision {note.revision[:12]}, the bundle has {entry.revision[:12]}: to take "
                        f"the bundle's, first './course models remove {entry.repo}'.")
    return True


def _install(bundle: Folder | Lan, entry: Entry, quiet: bool) -> None:
    target = store.folder(entry.repo)
    target.mkdir(parents=True, exist_ok=True)
    before = store.read(target)
    sizes, sums = {f.name: f.size for f in entry.files}, {f.name: f.sha256 for f in entry.files}
    store.write(target, Note(entry.repo, entry.revision, None, False, sizes, {}, (), bundle.name))
    meter = Meter(entry.repo, entry.bytes, sum(arrived(target / f.name, f.size) for f in entry.files), quiet=quiet)
    meter.say(f"Installing {entry.repo} at {entry.revision[:12]}: {len(entry.files)} files, {entry.bytes / 1e9:.2f} GB, into "
              f"{target}")
    done = 0
    try:
        for file in entry.files:
            _bring(bundle, entry, file, target / file.name, meter, done)
            done += file.size
    except KeyboardInterrupt:
        meter.say("Stopped; what has come is kept, the same command goes on.")
        raise
    finally:
        meter.clear()
    for name in (before.files if before else {}).keys() - sizes.keys():
        (target / name).unlink(missing_ok=True)              # of another revision
    store.write(target, Note(entry.repo, entry.revision, None, True, sizes, sums, (), bundle.name))
    meter.done(f"{entry.bytes / 1e9:.2f} GB here, verified")


def _bring(bundle: Folder | Lan, entry: Entry, file: File, target: Path, meter: Meter, done: int) -> None:
    def tick(have: int) -> None:
        meter.at(done + have)

    if not target.is_symlink() and store.size_of(target) == file.size and sha256_of(target, tick) == file.sha256:
        return
    for attempt in range(1, TRIES + 1):
        try:
            receive(target, file.size, file.sha256, lambda have: bundle.open(entry, file, have), tick)
            return
        except Differs:          # a part from elsewhere may have been to blame; it is gone now
            if attempt > 1:
                raise WorkFailed(f"{file.name} of {entry.repo} differs from what the manifest of {bundle.name} says: the bundle "
                                 f"is damaged. Make it anew ('./course models bundle'), or copy it again.") from None
        except ConnectionError:
            if attempt == TRIES:
                raise
            meter.say(f"  interrupted; going on (try {attempt + 1} of {TRIES})")
            time.sleep(attempt)
