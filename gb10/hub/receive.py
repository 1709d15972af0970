"""One file, from wherever it comes, into NAME.part and then into place: resumed, hashed on the way, whole or not there."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from gb10.errors import WorkFailed

CHUNK = 1 << 20

# open_at(n) -> context of (where the bytes start: n, or 0 if the source can't begin in the middle; the bytes)
OpenAt = Callable[[int], AbstractContextManager[tuple[int, Iterable[bytes]]]]


class Incomplete(ConnectionError):
    """The source ended too early; what has come is kept."""


class Differs(ConnectionError):
    """All bytes came, and they are not the right ones; nothing is kept."""


def receive(target: Path, size: int, sha256: str | None, open_at: OpenAt, tick: Callable[[int], None]) -> str:
    """Bring a file of `size` bytes to `target`; returns its SHA-256. tick(bytes so far) is called now and then.

    Goes on where target.part ends. Raises Incomplete or Differs (if `sha256` is given), or what the source raises.
    """
    part = target.with_name(target.name + ".part")
    if part.exists() and part.stat().st_size > size:
        part.unlink()
    digest, have, last = hashlib.sha256(), 0, 0.0
    with open(part, "a+b") as f:
        f.seek(0)
        while chunk := f.read(CHUNK):
            digest.update(chunk)
            have += len(chunk)
        if have < size:
            with open_at(have) as (start, chunks):
                if start != have:
                    f.truncate(0)
                    digest, have = hashlib.sha256(), 0
                for chunk in chunks:
                    f.write(chunk)
                    digest.update(chunk)
                    have += len(chunk)
                    if have > size:
                        break
                    if time.monotonic() - last > 0.2:
                        f.flush()
                        last = time.monotonic()
                        tick(have)
        f.flush()
        os.fsync(f.fileno())         # the name must not promise what a power cut could still take
    if have > size:
        part.unlink()
        raise Differs(f"incomplete: {target.name} is longer than announced")
    if have < size:
        raise Incomplete(f"incomplete: {target.name}")
    if sha256 and digest.hexdigest() != sha256:
        part.unlink()
        raise Differs(f"incomplete: {target.name} differs from what was announced")
    os.replace(part, target)
    tick(have)
    return digest.hexdigest()


def arrived(target: Path, size: int) -> int:
    """Bytes of a file that are here: it, or its part."""
    for path in (target, target.with_name(target.name + ".part")):
        if path.is_file():
            return min(path.stat().st_size, size)
    return 0


def sha256_of(path: Path, tick: Callable[[int], None] = lambda n: None) -> str:
    """SHA-256 of a file; tick(bytes so far) is called for each MB."""
    digest, have = hashlib.sha256(), 0
    with open(path, "rb") as f:
        while chunk := f.read(CHUNK):
            digest.update(chunk)
            have += len(chunk)
            tick(have)
    return digest.hexdigest()


def trouble(e: OSError, what: str, where: Path) -> WorkFailed:
    """What the disk says while files are written, in a sentence."""
    if e.errno in (28, 122):
        return WorkFailed(f"the disk is full while {what}: free some, then run this again; it goes on where it stopped.")
    if e.errno == 27:
        return WorkFailed(f"the file system of {where} takes no file this large (FAT32 ends at 4 GB): format it as exFAT, or "
                          f"choose another disk.")
    if e.errno in (1, 13, 30):
        return WorkFailed(f"{e.filename or where} can't be written or read ({e.strerror}): give another folder, or mend its "
                          f"permissions.")
    return WorkFailed(f"{what} failed: {e.strerror or type(e).__name__}{f' ({e.filename})' if e.filename else ''}. Run this "
                      f"again; it goes on where it stopped.")
