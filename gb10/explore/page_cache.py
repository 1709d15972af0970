"""A file and the page cache: write it, read it, and have the kernel forget it, without root."""

from __future__ import annotations

import os
import time
from pathlib import Path

CHUNK = 2**20


def write(path: Path, size: int) -> float:
    """Write `size` bytes that no file system can compress away, wait until they are on the disk; seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chunk, start = os.urandom(CHUNK), time.perf_counter()
    with path.open("wb") as file:
        for done in range(0, size, CHUNK):
            file.write(chunk[: min(CHUNK, size - done)])
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - start


def read(path: Path) -> float:
    """Read the file from its beginning to its end and keep nothing; seconds."""
    start = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(CHUNK)
        while file.readinto(buffer):
            pass
    return time.perf_counter() - start


def drop(path: Path) -> bool:
    """Ask the kernel to take this file's pages out of the cache (posix_fadvise DONTNEED, which any user may do).

    False where the system has no such call. A file system that lives in memory keeps its pages all the same.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    with path.open("rb") as file:
        os.fsync(file.fileno())          # a page that isn't on the disk yet can't be forgotten
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True
