"""How many bytes per second the CPU's threads can stream, for a working set of a given size.

A measurement runs one loop (read, copy, triad) on every thread at once, each on its own part of the working set, for a
few hundredths of a second, and counts the bytes that the loop names: 8 per element for read, 16 for copy, 24 for triad.
(A store to memory usually fetches the line first; STREAM doesn't count that traffic, and neither do we.) What is kept is
the best of several repeats: whatever else runs on a machine can only make a stream slower.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

KIB, MIB = 2**10, 2**20
ARRAYS = {"read": 1, "copy": 2, "triad": 3}
LEAST = 4 * KIB                  # of one thread; below, the loop's own start outweighs the bytes
SECONDS = 0.02


@dataclass(frozen=True)
class Point:
    """One measurement. size: bytes of the whole working set, all arrays and threads; rate: bytes per second."""

    kernel: str
    size: int
    threads: int
    rate: float
    device: str = "cpu"


@cache
def _loops():
    from gb10.bandwidth import loops

    try:
        out = loops.compiled(keep=True)
        _rehearse(out)
    except Exception:  # noqa: BLE001 - a folder that can't be written, a damaged file: whatever it is, do without keeping
        out = loops.compiled(keep=False)
        _rehearse(out)
    return out


def _rehearse(loops) -> None:
    """Compile now what isn't compiled yet, not while the clock runs."""
    import numpy as np

    for name, loop in loops.items():
        loop(*(np.zeros(64, np.int64) for _ in range(ARRAYS[name])), 1)


def sizes(available: int, caches: Sequence[int] = ()) -> list[int]:
    """Working sets from 16 KiB on, two to each doubling: up to four times the largest cache, at least 256 MiB and at
    most 1 GiB, and never above an eighth of the available memory (bytes)."""
    top = min(max(256 * MIB, 4 * max(caches, default=0)), 1024 * MIB, available // 8)
    out = [16 * KIB * 2**i * f // 2 for i in range(17) for f in (2, 3)]
    return [s for s in out if s <= top] or out[:1]


def measure(kernel: str, size: int, threads: int, seconds: float = SECONDS, repeats: int = 3) -> Point:
    """The best of `repeats` runs of about `seconds` each. Raises ValueError for an unknown kernel, no threads, or a
    working set with less than 4 KiB for each thread."""
    if kernel not in ARRAYS:
        raise ValueError(f"there is no kernel {kernel!r}: take one of {', '.join(ARRAYS)}.")
    if threads < 1 or size < threads * LEAST:
        raise ValueError(f"{size} bytes can't be shared by {threads} threads: give each 4096 bytes or more.")
    loop = _loops()[kernel]
    elements = size // threads // ARRAYS[kernel] // 8 // 4 * 4
    moved = elements * 8 * ARRAYS[kernel] * threads
    start = threading.Barrier(threads)

    def run(arrays, passes):
        start.wait()
        begin = time.perf_counter()
        loop(*arrays, passes)
        return begin, time.perf_counter()

    with ThreadPoolExecutor(threads) as pool:
        # each thread fills its own arrays: pages belong to the memory next to the core that first touches them
        mine = list(pool.map(_arrays, [kernel] * threads, [elements] * threads))

        def once(passes):
            times = list(pool.map(run, mine, [passes] * threads))
            return max(end for _, end in times) - min(begin for begin, _ in times)

        first = once(1)
        passes = max(1, round(seconds / max(first, 1e-7)))
        if passes > 3:           # the first pass brings everything in: only the second shows how fast it is there
            passes = max(1, round(seconds / max(once(passes) / passes, 1e-9)))
        best = min(once(passes) for _ in range(repeats))
    return Point(kernel, moved, threads, moved * passes / best)


def _arrays(kernel: str, elements: int):
    import numpy as np

    return [np.full(elements, i + 1, np.int64) for i in range(ARRAYS[kernel])]


def sweep(kernels: Sequence[str], working_sets: Sequence[int], threads: Sequence[int],
          progress: Callable[[int, int], None] | None = None, **options) -> list[Point]:
    """measure() for every combination that makes sense; progress(done, all) after each."""
    jobs = [(k, s, t) for k in kernels for t in threads for s in working_sets if s >= t * LEAST]
    out = []
    for k, s, t in jobs:
        out.append(measure(k, s, t, **options))
        if progress:
            progress(len(out), len(jobs))
    return out


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4, … and all of them."""
    return sorted({2**i for i in range(cores.bit_length()) if 2**i <= cores} | {cores})
