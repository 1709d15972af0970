"""The memory bandwidth of this machine, measured with streaming loops.

    points = bandwidth.sweep(("read",), bandwidth.sizes(available), (1, 2))
    bandwidth.memory_rate(points)          bytes/s from memory, caches left behind
    bandwidth.save(rate)                   for catalog.machine("this")

cpu: the measurement; gpu: the same through torch; caches: what lies between; loops: what numba compiles.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from gb10.bandwidth.caches import Cache, caches
from gb10.bandwidth.cpu import ARRAYS, Point, measure, sizes, sweep, thread_counts

FILE = "bandwidth.json"          # in the course's state folder; gb10.catalog.machines reads it

__all__ = ["ARRAYS", "Cache", "Point", "caches", "measure", "memory_rate", "rate_at", "save", "sizes", "sweep",
           "thread_counts"]


def memory_rate(points: Sequence[Point], kernel: str = "read") -> float:
    """Bytes per second from memory: the best thread count at the largest working set. Raises ValueError without points."""
    mine = [p for p in points if p.kernel == kernel]
    if not mine:
        raise ValueError(f"nothing was measured with the kernel {kernel!r}.")
    largest = max(p.size for p in mine)
    # arrays are cut to whole elements per thread, so sizes of the same working set differ by a few bytes
    return max(p.rate for p in mine if p.size > 0.9 * largest)


def rate_at(points: Sequence[Point], size: float, kernel: str = "read") -> float:
    """Bytes per second for a working set of about `size` bytes: the best thread count at the nearest measured size."""
    mine = [p for p in points if p.kernel == kernel]
    if not mine or size <= 0:
        raise ValueError(f"nothing was measured with the kernel {kernel!r} for {size:g} bytes.")
    near = min(mine, key=lambda p: abs(math.log(p.size / size))).size
    return max(p.rate for p in mine if abs(p.size / near - 1) < 0.1)


def save(rate: float, folder: Path | None = None) -> Path:
    """Write the measured bytes per second down, for catalog.machine("this"); returns the file."""
    from gb10 import paths

    if not 1e8 < rate < 1e14:
        raise ValueError(f"a memory bandwidth of {rate:g} bytes per second makes no sense.")
    path = (folder or paths.STATE) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{FILE}.partial-{os.getpid()}")
    partial.write_text(json.dumps({"read_gbs": round(rate / 1e9, 2), "measured": date.today().isoformat()}) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path
