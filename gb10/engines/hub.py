"""Fetch a model from the Hugging Face hub: what is needed and no more, with progress, resumed after an interruption.

Only safetensors, JSON and tokenizer files are fetched: pickled weights can run code when they are loaded, and the
course loads none. The token is taken from the environment (HF_TOKEN), never from a file, and never shown.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from gb10.engines.progress import Progress
from gb10.errors import UserError, WorkFailed
from gb10.paths import STATE

FOLDER = STATE / "models"
WANTED = ("*.safetensors", "*.json", "tokenizer.model", "*.tiktoken", "merges.txt", "vocab.txt", "chat_template.jinja",
          "LICENSE*", "README.md")
NOTE = "gb10-revision.json"
SPARE = 500_000_000     # bytes of disk to leave free


def folder(repo: str) -> Path:
    """Where a model of this name is kept."""
    return FOLDER / repo.replace("/", "--")


def fetch(repo: str, *, revision: str | None = None, quiet: bool = False, tries: int = 3) -> Path:
    """The folder with a hub model's files; fetches what is missing of them.

    A model that is here whole is used without asking the hub. An interrupted transfer goes on where it stopped, in this
    call (up to `tries` times) or in the next. The revision (commit) is recorded in gb10-revision.json.
    Raises UserError (no such model, no access) or WorkFailed (hub not reachable, disk full), each in a sentence.
    """
    target = folder(repo)
    note = _note(target)
    if note and note.get("complete") and revision in (None, note.get("revision"), note.get("asked")):
        return target
    from huggingface_hub import HfApi

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    token = os.environ.get("HF_TOKEN") or False     # False: don't look for one on disk
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)
    try:
        info = api.model_info(repo, revision=revision, files_metadata=True, timeout=20)
    except Exception as e:  # noqa: BLE001 - every error of the hub becomes a sentence
        raise _explained(e, repo) from None
    files = {s.rfilename: s.size or 0 for s in info.siblings if wanted(s.rfilename)}
    if not any(f.endswith(".safetensors") for f in files):
        raise UserError(f"{repo} offers no safetensors weights (pickled ones can run code when loaded, and are not fetched): "
                        f"choose another model.")
    _room(repo, target, files)
    target.mkdir(parents=True, exist_ok=True)
    _write_note(target, {"repo": repo, "revision": info.sha, "asked": revision, "complete": False})
    progress = Progress(repo, quiet=quiet)
    progress.say(f"Fetching {repo} at {info.sha[:12]}: {len(files)} files, {sum(files.values()) / 1e9:.2f} GB, into {target}")
    for attempt in range(1, tries + 1):
        try:
            _transfer(repo, info.sha, target, files, token, progress)
            break
        except KeyboardInterrupt:
            progress.clear()
            progress.say("Stopped; what has come is kept, the next call goes on from there.")
            raise
        except Exception as e:  # noqa: BLE001 - every error of the hub becomes a sentence
            progress.clear()
            explained = _explained(e, repo)
            if attempt == tries or isinstance(explained, UserError) or _is_final(e):
                raise explained from None
            progress.say(f"  interrupted; going on (try {attempt + 1} of {tries})")
            time.sleep(attempt)
    if wrong := [f for f, size in files.items() if (target / f).stat().st_size != size]:
        raise WorkFailed(f"{repo}: {wrong[0]} did not arrive whole. Run this again; it goes on where it stopped.")
    _write_note(target, {"repo": repo, "revision": info.sha, "asked": revision, "complete": True, "files": files})
    progress.done(f"{sum(files.values()) / 1e9:.2f} GB here")
    return target


def wanted(name: str) -> bool:
    """Is this file of a repository fetched? Only what lies at its top, and no pickles."""
    return "/" not in name and any(fnmatch.fnmatch(name, p) for p in WANTED)


def _transfer(repo: str, revision: str, target: Path, files: dict[str, int], token, progress: Progress) -> None:
    """Fetch what is not here yet, file by file.

    Done here and not with snapshot_download, because that (huggingface_hub 1.33) starts a file anew after a break.
    """
    total, before, t0 = sum(files.values()), _here(target, files), time.monotonic()
    for name, size in files.items():
        if (target / name).exists() and (target / name).stat().st_size == size:
            continue
        for _ in _download(repo, revision, name, size, target, token):
            have = _here(target, files)
            rate = (have - before) / max(time.monotonic() - t0, 0.1)
            left = f", {(total - have) / rate / 60:.0f} min left" if rate > 0 else ""
            progress.update(f"{have / 1e6:.0f}/{total / 1e6:.0f} MB, {rate / 1e6:.1f} MB/s{left}")


def _download(repo: str, revision: str, name: str, size: int, target: Path, token) -> Iterator[None]:
    """One file into NAME.part, going on where that ends; yields now and then; moved into place when it is whole."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    url = hf_hub_url(repo, name, revision=revision, endpoint=os.environ.get("HF_ENDPOINT") or None)
    meta = get_hf_file_metadata(url, token=token, timeout=20)
    part = target / f"{name}.part"
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={have}-"} if 0 < have < size else {"Accept-Encoding": "identity"}
    if urlsplit(meta.location).netloc == urlsplit(url).netloc:    # the token goes to the hub and to nobody else
        headers |= build_hf_headers(token=token)
    with get_session().stream("GET", meta.location, headers=headers, timeout=30, follow_redirects=True) as answer:
        hf_raise_for_status(answer)
        with open(part, "ab" if answer.status_code == 206 else "wb") as f:
            last = 0.0
            for chunk in answer.iter_raw():
                f.write(chunk)
                if time.monotonic() - last > 0.2:
                    f.flush()
                    last = time.monotonic()
                    yield
    if part.stat().st_size != size:
        if part.stat().st_size > size:
            part.unlink()
        raise ConnectionError(f"incomplete: {name}")
    if meta.etag and re.fullmatch(r"[0-9a-f]{64}", meta.etag):    # large files: the hub's etag is their SHA-256
        with open(part, "rb") as f:
            if hashlib.file_digest(f, "sha256").hexdigest() != meta.etag:
                part.unlink()
                raise ConnectionError(f"incomplete: {name} differs from what the hub has")
    os.replace(part, target / name)


def _here(target: Path, files: dict[str, int]) -> int:
    """Bytes that have come: whole files, and the part of the one under way."""
    done = 0
    for f, size in files.items():
        for path in (target / f, target / f"{f}.part"):
            if path.exists():
                done += min(path.stat().st_size, size)
                break
    return done


def _room(repo: str, target: Path, files: dict[str, int]) -> None:
    existing = next(p for p in (target, *target.parents) if p.exists())
    missing = sum(files.values()) - _here(target, files)
    free = shutil.disk_usage(existing).free
    if missing + SPARE > free:
        raise WorkFailed(f"{repo} needs {missing / 1e9:.2f} GB of disk, {free / 1e9:.2f} GB are free in {existing}: free some, "
                         f"then run this again.")


def _explained(e: Exception, repo: str) -> UserError | WorkFailed:
    """The hub's errors, each in one sentence that says what to do."""
    status = getattr(getattr(e, "response", None), "status_code", None)
    kind = type(e).__name__
    has_token = bool(os.environ.get("HF_TOKEN"))
    if kind == "GatedRepoError" or status == 403:
        hint = "the token in HF_TOKEN has no access yet" if has_token else "and there is no HF_TOKEN in the environment"
        return UserError(f"{repo} is gated: accept its terms on its page at the hub, then set HF_TOKEN to a token that may "
                         f"read it ({hint}).")
    if kind == "RevisionNotFoundError":
        return UserError(f"{repo} has no such revision.")
    if kind == "RepositoryNotFoundError" or status in (401, 404):
        hint = "the token in HF_TOKEN may not see it" if has_token else "or it is private and HF_TOKEN is not set"
        return UserError(f"the hub has no model {repo} (check the spelling), {hint}.")
    if status == 429:
        return WorkFailed("the hub asks to slow down (too many requests from here): wait some minutes, or set HF_TOKEN, which "
                          "raises the limit; then run this again, it goes on where it stopped.")
    if isinstance(e, OSError) and e.errno == 28:
        return WorkFailed(f"the disk is full while fetching {repo}: free some, then run this again; it goes on where it stopped.")
    if status and status >= 500:
        return WorkFailed(f"the hub has trouble of its own (HTTP {status}): try again later.")
    if kind == "OfflineModeIsEnabled":
        return WorkFailed(f"{repo} is not on this machine, and HF_HUB_OFFLINE forbids fetching it: unset it.")
    text = str(e).lower()
    if kind in ("HFValidationError",):
        return UserError(f"{repo!r} is not a model's name on the hub: it has the form owner/name.")
    if any(w in text for w in ("connect", "resolve", "timed out", "timeout", "network", "peer closed", "incomplete")) or \
            "Connect" in kind or "Timeout" in kind or kind in ("RemoteProtocolError", "LocalEntryNotFoundError"):
        return WorkFailed(f"{repo} can't be fetched: the connection to the hub failed or broke off. What has come is kept; run "
                          f"this again when the network is back.")
    return WorkFailed(f"{repo} can't be fetched: {kind}: {str(e).splitlines()[0][:200] if str(e) else 'no reason given'}")


def _is_final(e: Exception) -> bool:
    """Would trying again at once be useless or rude?"""
    return getattr(getattr(e, "response", None), "status_code", None) == 429 or getattr(e, "errno", None) == 28


def _note(target: Path) -> dict | None:
    try:
        note = json.loads((target / NOTE).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(note, dict):
        return None
    files = note.get("files") or {}
    whole = bool(files) and all((target / f).exists() and (target / f).stat().st_size == size for f, size in files.items())
    return note | {"complete": bool(note.get("complete")) and whole}


def _write_note(target: Path, note: dict) -> None:
    tmp = target / (NOTE + ".tmp")
    tmp.write_text(json.dumps(note, indent=1) + "\n")
    os.replace(tmp, target / NOTE)
