"""Room for results. Fresh memory costs more than the codec itself: the kernel clears every page before it hands it out.

Two things help. Large pages (2 MB) need 512 times fewer page faults. And the memory of a result that has died is used
for the next one of the same size, as in a loop over the layers of a model. Meanwhile the system may take that memory
back whenever it is short of it (MADV_FREE), so that keeping it takes nothing from anybody.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import weakref

import numpy as np
import torch

LEAST = 4 << 20                                  # smaller ones malloc serves well
MOST = 256 << 20                                 # kept in all; the oldest goes first
PAGE = 2 << 20

_spare: list[mmap.mmap] = []


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """`torch.empty(shape, dtype=dtype)` on the CPU."""
    size = math.prod(shape) * dtype.itemsize
    if size < LEAST or not hasattr(mmap, "MADV_FREE"):
        return torch.empty(shape, dtype=dtype, device="cpu")
    pages = _take(-(-size // PAGE) * PAGE)
    memory = np.frombuffer(pages, np.uint8, size)
    # torch holds on to `memory` as long as any tensor shows it.
    weakref.finalize(memory, _give_back, pages).atexit = False
    return torch.from_numpy(memory).view(dtype).view(shape)


def _take(size: int) -> mmap.mmap:
    for pages in list(_spare):
        if len(pages) == size:
            try:
                _spare.remove(pages)             # this very one: other threads may have moved it along the list
                return pages
            except ValueError:                   # one of them was faster
                continue
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            pages.madvise(mmap.MADV_HUGEPAGE)
        except OSError:                          # a kernel without large pages
            pass
    return pages


def _give_back(pages: mmap.mmap) -> None:
    if len(pages) > MOST:
        return
    try:
        pages.madvise(mmap.MADV_FREE)
    except OSError:
        return
    _spare.append(pages)
    for oldest in list(_spare):
        if sum(map(len, _spare)) <= MOST:
            break
        with contextlib.suppress(ValueError):    # another thread took it
            _spare.remove(oldest)
