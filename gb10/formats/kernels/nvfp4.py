"""NVFP4 on CPU tensors through the compiled loops: stretches of blocks, shared out over threads.

The tensor scale is one number and the block scales are E4M3 bytes, so that a tensor has at most 126 different divisors
s * g. For each of them the seven boundaries of E2M1 are turned into thresholds on the elements' own bit patterns, by
the very division that they replace: after that an element costs seven comparisons of integers.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from gb10.formats.elements import E2M1_BOUNDS, E2M1_MAX, decode_e2m1
from gb10.formats.kernels import load, memory

BLOCK = 16
STRETCH = 1 << 15                                # blocks for one thread at a time; starting one costs about 0.1 ms
PIECE = 1 << 17                                  # elements of a strided tensor that are brought together at a time

# dtype -> (its number in the loops, bit pattern of infinity, integers of its size)
_KINDS = {torch.float32: (0, 0x7F800000, torch.uint32, np.uint32),
          torch.bfloat16: (1, 0x7F80, torch.uint16, np.uint16),
          torch.float16: (2, 0x7C00, torch.uint16, np.uint16)}
_LAST = 2.0 ** -150                              # what is above rounds to an FP32 number, this and below to zero


@functools.cache
def _constants():
    """(the 256 E4M3 numbers, the boundaries as `tables` takes them, the 8 magnitudes, byte -> its two values)."""
    e4m3 = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    codes = torch.arange(256)
    pairs = torch.stack((decode_e2m1(codes & 15), decode_e2m1(codes >> 4)), dim=1).contiguous()
    return e4m3, np.array((*E2M1_BOUNDS, _LAST)), decode_e2m1(torch.arange(8)), pairs.numpy()


def loops_for(job: str, x: torch.Tensor, dtype: torch.dtype):
    """The loops for x and elements of `dtype`, or None: not a plain tensor in this machine's memory, or no numba."""
    plain = type(x) in (torch.Tensor, torch.nn.Parameter) and x.device.type == "cpu" and x.layout == torch.strided
    return load.get(job, _KINDS[dtype][0]) if plain and dtype in _KINDS else None


class Blocks:
    """x [..., K] cut into blocks, with the largest magnitude of each: what both directions of work begin with."""

    def __init__(self, loops, x: torch.Tensor):
        self.loops, self.x, self.count = loops, x.detach(), x.numel() // BLOCK
        self.kind, self.infinity, self.pattern, self.numpy = _KINDS[x.dtype]
        self.magnitudes = memory.empty((self.count,), torch.float32).numpy()
        tops = _share(self.count, self._pieces(), lambda first, u: loops["block_amax"](
            u, self.kind, self.magnitudes[first:first + u.size // BLOCK]))
        self.top = max(tops, default=0)

    @property
    def finite(self) -> bool:
        return self.top < self.infinity

    def amax(self) -> torch.Tensor:
        """The largest magnitude, FP32 scalar."""
        return torch.from_numpy(np.array([self.top], self.numpy)).view(self.x.dtype)[0].float()

    def _pieces(self) -> Iterator[tuple[int, Callable]]:
        """(first block, a function that gives the patterns from there on), in order."""
        size = _stretch(self.count) * BLOCK if self.x.is_contiguous() else PIECE
        first = 0
        for part in _parts(self.x, size):
            yield first, functools.partial(_patterns, part, self.pattern)
            first += part.numel() // BLOCK

    def quantize(self, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(packed [..., K/2], scales [..., K/16]) for the tensor scale g."""
        *rows, k = self.x.shape
        packed = memory.empty((*rows, k // 2), torch.uint8)
        scales = memory.empty((*rows, k // BLOCK), torch.uint8)
        codes, bytes_, thresholds = packed.view(-1).numpy(), scales.view(-1).numpy(), self._thresholds(g)[0]
        d6 = np.float32((E2M1_MAX * g).item())

        def work(first, u):
            mine = slice(first, first + u.size // BLOCK)
            self.loops["block_scales"](self.magnitudes[mine], d6, bytes_[mine])
            self.loops["encode"](u, bytes_[mine], thresholds, codes[mine.start * 8:mine.stop * 8])

        _share(self.count, self._pieces(), work)
        return packed, scales.view(torch.float8_e4m3fn)

    def round_trip(self, g: torch.Tensor) -> torch.Tensor:
        """What x [..., K] decodes to after quantizing with the tensor scale g, in x's dtype."""
        out = memory.empty(tuple(self.x.shape), self.x.dtype)
        patterns, (thresholds, c) = out.view(-1).view(self.pattern).numpy(), self._thresholds(g)
        values = (_constants()[2] * c[:, None]).to(self.x.dtype).view(self.pattern).numpy()
        d6 = np.float32((E2M1_MAX * g).item())

        def work(first, u):
            scales = np.empty(u.size // BLOCK, np.uint8)
            self.loops["block_scales"](self.magnitudes[first:first + scales.size], d6, scales)
            self.loops["snap"](u, scales, thresholds, values, patterns[first * BLOCK:first * BLOCK + u.size])

        _share(self.count, self._pieces(), work)
        return out

    def _thresholds(self, g: torch.Tensor):
        e4m3, bounds, _, _ = _constants()
        c = e4m3[:127] * g                       # 127 is NaN; a block scale is never negative
        thresholds = np.empty((127, 8), self.numpy)
        self.loops["tables"](c.numpy(), bounds, self.kind, self.infinity, thresholds)
        return thresholds, c


def dequantize(loops, packed: torch.Tensor, scales: torch.Tensor, g: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[..., K] in `dtype`, one of the three."""
    e4m3, _, _, pairs = _constants()
    out = memory.empty((*packed.shape[:-1], packed.shape[-1] * 2), dtype)
    kind, _, pattern, _ = _KINDS[dtype]
    decode = loops[("decode_fp32", "decode_bf16", "decode_fp16")[kind]]
    values = out.view(-1).numpy() if kind == 0 else out.view(-1).view(pattern).numpy()
    c = (e4m3 * g).numpy()
    codes, bytes_ = _patterns(packed, torch.uint8), _patterns(scales, torch.uint8)

    def work(first, mine):
        last = first + mine.size
        decode(codes[first * 8:last * 8], mine, c, pairs, values[first * BLOCK:last * BLOCK])

    size = _stretch(bytes_.size)
    _share(bytes_.size, ((first, functools.partial(bytes_.__getitem__, slice(first, first + size)))
                         for first in range(0, bytes_.size, size)), work)
    return out


@contextmanager
def subnormals(loops):
    """Inside, subnormal numbers count, even after `torch.set_flush_denormal(True)` in this thread.

    Threads that are started inside inherit it.
    """
    flushed = loops["flushes"](np.array([1e-38], np.float32))
    if flushed:
        torch.set_flush_denormal(False)
    try:
        yield
    finally:
        if flushed:
            torch.set_flush_denormal(True)


def _parts(x: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """x in pieces of about `size` elements, whole blocks each, in the order of its elements; nothing is copied."""
    if x.is_contiguous():
        x = x.view(-1)
    if x.numel() <= size:
        if x.numel():
            yield x
    elif x.ndim == 1:
        yield from x.split(size)
    else:
        for part in x.split(max(1, size // x[0].numel())):
            yield from (_parts(part[0], size) if len(part) == 1 else [part])


def _patterns(x: torch.Tensor, dtype: torch.dtype) -> np.ndarray:
    """The bits of x, one contiguous axis of integers."""
    x = x.contiguous()
    if x.data_ptr() % x.itemsize:                # a view into a file, say: the loops want elements at their own size
        x = x.clone()
    return x.view(-1).view(dtype).numpy()


def _threads(blocks: int) -> int:
    """As many as torch may use here and the work is worth."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(torch.get_num_threads(), cores, -(-blocks // STRETCH))


def _stretch(blocks: int) -> int:
    """Blocks to a stretch: a few for each thread, so that one that is held up doesn't hold up the rest."""
    return max(STRETCH, -(-blocks // (4 * _threads(blocks))) + 1 & -2) if blocks else STRETCH


def _share(blocks: int, pieces: Iterator[tuple[int, Callable]], work: Callable) -> list:
    """[work(first, patterns) of every piece], by as many threads as torch may use here and the pieces are worth."""
    threads = _threads(blocks)
    if threads < 2:
        return [work(first, get()) for first, get in pieces]
    # Started anew each time: threads that wait for work would be missing in a forked process, and it would hang.
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda piece: work(piece[0], piece[1]()), pieces))
