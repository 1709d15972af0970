"""The manifest of an offline bundle: what it holds, and a reader that believes nothing of it.

    BUNDLE/manifest.json                     {"format": "gb10-bundle", "version": 1, "made": date, "course": version,
    BUNDLE/models/OWNER--NAME/FILE            "models": [{"repo", "revision", "files": [{"name", "size", "sha256"}]}]}

The manifest is written last: a folder without one is no bundle. File names are plain names of the kinds that the course
fetches, so that no manifest can lead out of its folder or bring a pickle.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

from gb10.errors import UserError
from gb10.hub.names import checked, wanted

NAME, MODELS = "manifest.json", "models"
FORMAT, VERSION = "gb10-bundle", 1
LARGEST = 16_000_000            # bytes of a manifest; one of 1,000 models with 100 files each has 15 MB
LARGEST_FILE = 2**50


@dataclass(frozen=True)
class File:
    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One model of a bundle."""

    repo: str
    revision: str
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        return sum(f.size for f in self.files)

    def path(self, file: File) -> str:
        """Where a file lies in the bundle, from its top, with slashes."""
        return str(PurePosixPath(MODELS, self.repo.replace("/", "--"), file.name))


@dataclass(frozen=True)
class Manifest:
    models: tuple[Entry, ...]
    made: str                   # date, YYYY-MM-DD
    course: str                 # version of the course that made it

    def to_bytes(self) -> bytes:
        body = {"format": FORMAT, "version": VERSION, "made": self.made, "course": self.course,
                "models": [{**asdict(m), "files": [asdict(f) for f in m.files]} for m in self.models]}
        return (json.dumps(body, indent=1) + "\n").encode()


def read_manifest(raw: bytes, where: str) -> Manifest:
    """A manifest from its bytes, every field checked. Raises UserError with one sentence that names `where`."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise UserError(f"{where} is no bundle: its {NAME} is not JSON.") from None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise UserError(f"{where} is no bundle of this course: './course models bundle' makes one.")
    if body.get("version") != VERSION or isinstance(body["version"], bool):
        raise UserError(f"{where} is a bundle of format version {str(body.get('version'))[:20]}, and this course reads "
                        f"{VERSION}: bring the course up to date, or make the bundle anew.")
    rows = body.get("models")
    if not isinstance(rows, list) or not 0 < len(rows) <= 1000:
        raise _bad(where, "it lists no models")
    models = tuple(_entry(row, where) for row in rows)
    if len({m.repo.lower() for m in models}) != len(models):
        raise _bad(where, "it lists a model twice")
    return Manifest(models, str(body.get("made"))[:10], str(body.get("course"))[:20])


def _entry(row, where: str) -> Entry:
    if not isinstance(row, dict) or not isinstance(row.get("files"), list) or not 0 < len(row["files"]) <= 10_000:
        raise _bad(where, "a model in it lists no files")
    try:
        repo = checked(row.get("repo"))
    except UserError:
        raise _bad(where, f"{str(row.get('repo'))[:100]!r} is not a model's name") from None
    revision = row.get("revision")
    if not isinstance(revision, str) or not re.fullmatch(r"[0-9A-Za-z][\w.-]{0,99}", revision, re.ASCII):
        raise _bad(where, f"{repo} has no revision")
    files = tuple(_file(f, repo, where) for f in row["files"])
    if len({f.name.lower() for f in files}) != len(files):
        raise _bad(where, f"{repo} lists a file twice")
    if not any(f.name.endswith(".safetensors") for f in files):
        raise _bad(where, f"{repo} has no safetensors weights")
    return Entry(repo, revision, files)


def _file(row, repo: str, where: str) -> File:
    name, size, sha256 = (row.get(k) for k in ("name", "size", "sha256")) if isinstance(row, dict) else (None,) * 3
    if not isinstance(name, str) or not wanted(name):
        raise _bad(where, f"{str(name)[:100]!r} of {repo} is not a file that belongs into a model's folder")
    if type(size) is not int or not 0 <= size <= LARGEST_FILE:
        raise _bad(where, f"{name} of {repo} has an impossible size")
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise _bad(where, f"{name} of {repo} has no SHA-256")
    return File(name, size, sha256)


def _bad(where: str, why: str) -> UserError:
    return UserError(f"the manifest of {where} can't be trusted: {why}; nothing was written. Make the bundle anew.")
