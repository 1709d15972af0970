"""Fetch a model from the Hugging Face hub: what is needed and no more, with progress, resumed after an interruption.

Only safetensors, JSON and tokenizer files are fetched: pickled weights can run code when they are loaded, and the
course loads none. The token is taken from the environment (HF_TOKEN), never from a file, and never shown. The transfer
is the course's own, because snapshot_download (huggingface_hub 1.33) starts a file anew after a break.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from gb10.errors import UserError, WorkFailed
from gb10.hub import store
from gb10.hub.meter import Meter
from gb10.hub.names import checked, wanted
from gb10.hub.reasons import explained, gated, is_final
from gb10.hub.receive import arrived, receive, sha256_of
from gb10.hub.store import Note


@dataclass(frozen=True)
class Plan:
    """What fetching a model would mean. Sizes in bytes."""

    repo: str
    revision: str                   # the commit
    asked: str | None
    files: dict[str, int]
    gated: bool                     # do its terms have to be accepted?
    access: bool                    # may this machine's token (or none) read it?
    folder: Path
    sha256: dict[str, str] = field(repr=False, default_factory=dict)    # of large files, as the hub says
    git: dict[str, str] = field(repr=False, default_factory=dict)       # of small files: git's own hash

    @property
    def bytes(self) -> int:
        return sum(self.files.values())

    @property
    def missing_bytes(self) -> int:
        return self.bytes - sum(arrived(self.folder / f, size) for f, size in self.files.items())


def fetch(repo: str, *, revision: str | None = None, quiet: bool = False, tries: int = 3) -> Path:
    """The folder with a hub model's files; fetches what is missing of them.

    A model that is here whole is used without asking the hub. An interrupted transfer goes on where it stopped, in this
    call (up to `tries` times) or in the next. The revision (commit), sizes and SHA-256 are kept in gb10-revision.json.
    Raises UserError (no such model, no access) or WorkFailed (hub not reachable, disk full), each in a sentence.
    """
    if here := _whole(repo, revision):
        return here
    plan_ = plan(repo, revision)
    if not plan_.access:
        raise gated(repo)
    store.room(repo, plan_.missing_bytes, plan_.folder)
    with store.busy(repo, quiet=quiet):
        return _whole(repo, revision) or _fetch(plan_, quiet, tries)


def plan(repo: str, revision: str | None = None) -> Plan:
    """Ask the hub what a model consists of; writes nothing. Raises UserError or WorkFailed as `fetch` does."""
    from huggingface_hub import HfApi

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    where = store.folder(repo)
    try:
        info = HfApi(endpoint=_endpoint(), token=_token()).model_info(repo, revision=revision, files_metadata=True, timeout=20)
        files = {s.rfilename: s for s in info.siblings or () if wanted(s.rfilename)}
        if not any(f.endswith(".safetensors") for f in files):
            raise UserError(f"{repo} offers no safetensors weights (pickled ones can run code when loaded, and are not "
                            f"fetched): choose another model.")
        return Plan(repo, info.sha, revision, {f: s.size or 0 for f, s in files.items()}, bool(info.gated),
                    not info.gated or _may_read(repo, info.sha, next(iter(files))), where,
                    {f: s.lfs.sha256 for f, s in files.items() if s.lfs}, {f: s.blob_id for f, s in files.items()
                                                                           if s.blob_id and not s.lfs})
    except Exception as e:  # noqa: BLE001 - every error of the hub becomes a sentence
        raise explained(e, repo) from None


def _whole(repo: str, revision: str | None) -> Path | None:
    note = store.read(store.folder(repo))
    return store.local(repo) if note and revision in (None, note.revision, note.asked) else None


def _token() -> str | bool:
    return os.environ.get("HF_TOKEN") or False     # False: don't look for one on disk


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _may_read(repo: str, revision: str, name: str) -> bool:
    """The hub lists the files of a gated model to everybody; what counts is whether it would hand one out."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repo, name, revision=revision, endpoint=_endpoint()), token=_token(), timeout=20)
        return True
    except Exception as e:
        if type(e).__name__ == "GatedRepoError" or getattr(getattr(e, "response", None), "status_code", None) in (401, 403):
            return False
        raise


def _fetch(plan: Plan, quiet: bool, tries: int) -> Path:
    target, repo = plan.folder, plan.repo
    target.mkdir(parents=True, exist_ok=True)
    before = store.read(target)
    right = dict(before.sha256) if before and before.revision == plan.revision else {}
    for name in before.wrong if before else ():
        right.pop(name, None)
    _record(plan, right, complete=False)
    meter = Meter(repo, plan.bytes, plan.bytes - plan.missing_bytes, quiet=quiet)
    meter.say(f"Fetching {repo} at {plan.revision[:12]}: {len(plan.files)} files, {plan.bytes / 1e9:.2f} GB, into {target}")
    for attempt in range(1, tries + 1):
        try:
            _transfer(plan, right, meter)
            break
        except KeyboardInterrupt:
            meter.say("Stopped; what has come is kept, the next call goes on from there.")
            raise
        except Exception as e:  # noqa: BLE001 - every error of the hub becomes a sentence
            meter.clear()
            if attempt == tries or is_final(e):
                raise explained(e, repo) from None
            meter.say(f"  interrupted; going on (try {attempt + 1} of {tries})")
            time.sleep(attempt)
    if wrong := [f for f, size in plan.files.items() if store.size_of(target / f) != size]:
        raise WorkFailed(f"{repo}: {wrong[0]} did not arrive whole. Run this again; it goes on where it stopped.")
    for name in (before.files if before else {}).keys() - plan.files.keys():
        (target / name).unlink(missing_ok=True)          # of another revision; engines load every safetensors file
    _record(plan, right, complete=True)
    meter.done(f"{plan.bytes / 1e9:.2f} GB here")
    return target


def _record(plan: Plan, right: dict[str, str], *, complete: bool) -> None:
    store.write(plan.folder, Note(plan.repo, plan.revision, plan.asked, complete, plan.files,
                                  {f: right[f] for f in plan.files if f in right}))


def _transfer(plan: Plan, right: dict[str, str], meter: Meter) -> None:
    """Fetch what is not here yet, file by file; `right` gets the SHA-256 of every file that is here and as announced."""
    for name, size in plan.files.items():
        there = plan.folder / name
        others = sum(arrived(plan.folder / f, s) for f, s in plan.files.items() if f != name)
        if store.size_of(there) == size:
            if name in right or _as_announced(plan, name, right):
                continue
            there.unlink()
        right.pop(name, None)
        right[name] = _download(plan, name, size, lambda have, others=others: meter.at(others + have))
        if plan.git.get(name) and not _is_git(there, plan.git[name]):
            there.unlink()
            del right[name]
            raise ConnectionError(f"incomplete: {name} differs from what the hub has")
        _record(plan, right, complete=False)


def _as_announced(plan: Plan, name: str, right: dict[str, str]) -> bool:
    """A file that lies there from before: is it the one that the hub has? Without a hash to compare with, no."""
    sha256 = sha256_of(plan.folder / name)
    if sha256 == plan.sha256.get(name) or (plan.git.get(name) and _is_git(plan.folder / name, plan.git[name])):
        right[name] = sha256
        return True
    return False


def _is_git(path: Path, oid: str) -> bool:
    """Is this the content that git calls `oid`? (SHA-1 over "blob SIZE\\0" and the bytes; unknown kinds of ids pass.)"""
    if not re.fullmatch(r"[0-9a-f]{40}", oid):
        return True
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == oid


def _download(plan: Plan, name: str, size: int, tick) -> str:
    """One file from the hub; returns its SHA-256, checked against the hub's where it has one."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    url = hf_hub_url(checked(plan.repo), name, revision=plan.revision, endpoint=_endpoint())
    meta = get_hf_file_metadata(url, token=_token(), timeout=20)
    tagged = meta.etag if meta.etag and re.fullmatch(r"[0-9a-f]{64}", meta.etag) else None    # large files: their SHA-256

    @contextlib.contextmanager
    def open_at(have: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        if urlsplit(meta.location).netloc == urlsplit(url).netloc:    # the token goes to the hub and to nobody else
            headers |= build_hf_headers(token=_token())
        with get_session().stream("GET", meta.location, headers=headers, timeout=30, follow_redirects=True) as answer:
            hf_raise_for_status(answer)
            yield (have if answer.status_code == 206 else 0), answer.iter_raw()

    return receive(plan.folder / name, size, plan.sha256.get(name) or tagged, open_at, tick)
