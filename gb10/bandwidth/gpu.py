"""The same streams on a CUDA device, through torch: sum, copy, and a + 3 b, timed by the device's own events."""

from __future__ import annotations

from collections.abc import Sequence

from gb10.bandwidth.cpu import ARRAYS, MIB, Point

ROUNDS = 20


def sizes(free: int) -> list[int]:
    """Working sets from 1 MiB to 1 GiB, as far as a quarter of the free bytes goes."""
    return [s for s in (MIB * 2**i for i in range(11)) if s <= free // 4] or [MIB]


def measure(kernel: str, size: int, repeats: int = 3) -> Point:
    """Bytes per second on the current CUDA device; the best of `repeats`. Raises RuntimeError without one."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no CUDA device here")
    n = size // ARRAYS[kernel] // 4
    arrays = [torch.full((n,), float(i + 1), device="cuda") for i in range(ARRAYS[kernel])]
    out = torch.empty((), device="cuda")
    run = {"read": lambda x: torch.sum(x, 0, out=out), "copy": lambda x, y: y.copy_(x),
           "triad": lambda x, y, z: torch.add(x, y, alpha=3, out=z)}[kernel]
    best = float("inf")
    for _ in range(repeats + 1):                       # the first one warms up
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(ROUNDS):
            run(*arrays)
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) / 1e3 / ROUNDS)
    moved = n * 4 * ARRAYS[kernel]
    return Point(kernel, moved, 0, moved / best, torch.cuda.get_device_name())


def sweep(kernels: Sequence[str], working_sets: Sequence[int]) -> list[Point]:
    return [measure(k, s) for k in kernels for s in working_sets]
