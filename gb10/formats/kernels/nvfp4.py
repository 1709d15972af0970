"""NVFP4 on CPU tensors through the compiled loops: stretches of blocks, shared out over threads.

The tensor scale is one number and the block scales are E4M3 bytes, so that a tensor has at most 126 different divisors
s * g. For each of them the seven boundaries of E2M1 are turned into thresholds on the elements' own bit patterns, by
the very division that they replace: after that an element costs seven comparisons of integers.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from gb10.formats.elements import E2M1_BOUNDS, E2M1_MAX, decode_e2m1
from gb10.formats.kernels import load, memory

BLOCK = 16
STRETCH = 1 << 15                                # blocks to a stretch, at least
WORTH = 1 << 17                                  # blocks that are worth a further thread: half a millisecond of work
PIECE = 1 << 17                                  # elements of a strided tensor that are brought together at a time

# dtype -> (its number in loops.py, bits of an element, bit pattern of infinity)
_KINDS = {torch.float32: (0, 32, 0x7F800000), torch.bfloat16: (1, 16, 0x7F80), torch.float16: (2, 16, 0x7C00)}
_INTEGERS = {16: torch.uint16, 32: torch.uint32}
_DECODERS = {torch.float32: "decode_fp32", torch.bfloat16: "decode_bf16", torch.float16: "decode_fp16"}
_SMALL = torch.tensor([1.2e-38], dtype=torch.float32, device="cpu")      # the half of it is subnormal
_LAST = 2.0 ** -150                              # what is above rounds to an FP32 number, this and below to zero


@functools.cache
def _constants() -> tuple[torch.Tensor, ...]:
    """(the 256 E4M3 numbers, the boundaries as `tables` takes them, the 8 magnitudes, byte -> its two values)."""
    codes = torch.arange(256, device="cpu")
    return (codes.to(torch.uint8).view(torch.float8_e4m3fn).float(),
            torch.tensor((*E2M1_BOUNDS, _LAST), dtype=torch.float64, device="cpu"), decode_e2m1(codes[:8]).float(),
            torch.stack((decode_e2m1(codes & 15), decode_e2m1(codes >> 4)), dim=1).float().contiguous())


def loops_for(dtype: torch.dtype, *tensors: torch.Tensor) -> dict[str, Callable] | None:
    """The loops, if they serve: plain tensors in this machine's memory, and they know elements of `dtype`."""
    plain = all(type(x) in (torch.Tensor, torch.nn.Parameter) and x.device.type == "cpu" and x.layout == torch.strided
                for x in tensors)
    return load.loops() if plain and dtype in _KINDS else None


class Blocks:
    """x [..., K] cut into blocks, with the largest magnitude of each: what both directions of work begin with."""

    def __init__(self, loops: dict[str, Callable], x: torch.Tensor):
        self.x, self.count = x.detach(), x.numel() // BLOCK
        self.kind, bits, self.infinity = _KINDS[x.dtype]
        self.integer, self.bytes = _INTEGERS[bits], bits // 8
        self.block_scales, self.tables = loops["block_scales"], loops[f"tables_{bits}"]
        self.encode, self.snap = loops[f"encode_{bits}"], loops[f"snap_{bits}"]
        self.magnitudes = memory.empty((self.count,), torch.float32)
        amax, at = loops[f"block_amax_{bits}"], self.magnitudes.data_ptr()
        self.top = max(self._each(lambda x, first, blocks: amax(x, self.kind, at + 4 * first, blocks)), default=0)

    @property
    def finite(self) -> bool:
        return self.top < self.infinity

    def amax(self) -> torch.Tensor:
        """The largest magnitude, FP32 scalar."""
        return torch.tensor(self.top, device="cpu").to(self.integer).view(self.x.dtype).float()

    def quantize(self, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(packed [..., K/2], scales [..., K/16]) for the tensor scale g."""
        *rows, k = self.x.shape
        packed = memory.empty((*rows, k // 2), torch.uint8)
        scales = memory.empty((*rows, k // BLOCK), torch.uint8)
        thresholds, _ = self._thresholds(g)
        d6 = E2M1_MAX * g

        def work(x, first, blocks):
            bytes_ = scales.data_ptr() + first
            self.block_scales(self.magnitudes.data_ptr() + 4 * first, d6.data_ptr(), bytes_, blocks)
            self.encode(x, bytes_, thresholds.data_ptr(), packed.data_ptr() + 8 * first, blocks)

        self._each(work)
        return packed, scales.view(torch.float8_e4m3fn)

    def round_trip(self, g: torch.Tensor) -> torch.Tensor:
        """What x [..., K] decodes to after quantizing with the tensor scale g, in x's dtype."""
        out = memory.empty(tuple(self.x.shape), self.x.dtype)
        thresholds, c = self._thresholds(g)
        values = (_constants()[2] * c[:, None]).to(self.x.dtype)
        d6 = E2M1_MAX * g

        def work(x, first, blocks):
            scales = torch.empty(blocks, dtype=torch.uint8, device="cpu")
            self.block_scales(self.magnitudes.data_ptr() + 4 * first, d6.data_ptr(), scales.data_ptr(), blocks)
            self.snap(x, scales.data_ptr(), thresholds.data_ptr(), values.data_ptr(),
                      out.data_ptr() + self.bytes * BLOCK * first, blocks)

        self._each(work)
        return out

    def _thresholds(self, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(thresholds [127, 8] in x's patterns, divisors c [127] FP32), by scale byte; 127 would be NaN."""
        e4m3, bounds, _, _ = _constants()
        c = e4m3[:127] * g
        thresholds = torch.empty((127, 8), dtype=self.integer, device="cpu")
        self.tables(c.data_ptr(), bounds.data_ptr(), self.kind, self.infinity, thresholds.data_ptr(), 127)
        return thresholds, c

    def _each(self, work: Callable[[int, int, int], int | None]) -> list:
        """work(pointer to elements, first block, number of blocks) of all of x, piece by piece, in any order."""
        # Strided tensors: torch brings a piece together with all its threads, then one of them goes over it.
        threads = _threads(self.count) if self.x.is_contiguous() else 1
        size = _stretch(self.count, threads) * BLOCK if self.x.is_contiguous() else PIECE

        def one(piece):
            first, part = piece
            part = _aligned(part)
            return work(part.data_ptr(), first, part.numel() // BLOCK)

        return _share(threads, one, _pieces(self.x, size))


def dequantize(loops: dict[str, Callable], packed: torch.Tensor, scales: torch.Tensor, g: torch.Tensor,
               dtype: torch.dtype) -> torch.Tensor:
    """[..., K] in `dtype`, one of the three."""
    e4m3, _, _, pairs = _constants()
    out, decode = memory.empty((*packed.shape[:-1], packed.shape[-1] * 2), dtype), loops[_DECODERS[dtype]]
    packed, scales, c = packed.contiguous(), scales.contiguous(), e4m3 * g
    blocks = scales.numel()
    threads = _threads(blocks)
    size = _stretch(blocks, threads)

    def work(first):
        decode(packed.data_ptr() + 8 * first, scales.data_ptr() + first, c.data_ptr(), pairs.data_ptr(),
               out.data_ptr() + dtype.itemsize * BLOCK * first, min(size, blocks - first))

    _share(threads, work, range(0, blocks, size))
    return out


@contextmanager
def subnormals(loops):
    """Inside, subnormal numbers count, even after `torch.set_flush_denormal(True)` in this thread.

    The threads of `_pool` are started inside, and so inherit it.
    """
    flushed = loops["flushes"](_SMALL.data_ptr())
    if flushed:
        torch.set_flush_denormal(False)
    try:
        yield
    finally:
        if flushed:
            torch.set_flush_denormal(True)


def _pieces(x: torch.Tensor, size: int) -> Iterator[tuple[int, torch.Tensor]]:
    """(first block, view of x) in pieces of about `size` elements, whole blocks each, in the order of the elements."""
    first = 0
    for part in _parts(x, size):
        yield first, part
        first += part.numel() // BLOCK


def _parts(x: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
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


def _aligned(x: torch.Tensor) -> torch.Tensor:
    """x, its elements side by side, each at a multiple of its size (a view into a file may lie otherwise)."""
    if x.ndim == 2 and x.stride(0) == 1 < x.stride(1):
        x = x.t().contiguous().t()               # torch turns over a whole matrix far sooner than a slice of one
    x = x.contiguous()
    return x.clone() if x.data_ptr() % x.itemsize else x


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads(blocks: int) -> int:
    """As many as torch may use here and the work is worth."""
    return min(torch.get_num_threads(), _cores(), 1 + blocks // WORTH)


def _stretch(blocks: int, threads: int) -> int:
    """Blocks to a stretch: a few for each thread, so that one that is held up doesn't hold up the rest; even."""
    return max(STRETCH, blocks // (8 * threads) + 2 & -2)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Threads that wait for work: a new one may start 3 ms late, on the core of the one that started it."""
    return ThreadPoolExecutor(max(1, _cores() - 1), "gb10-formats")


if hasattr(os, "register_at_fork"):              # a forked process has none of them
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _share(threads: int, work: Callable, pieces: Iterable) -> list:
    """work(piece) of every piece, in any order, by so many threads, this one among them."""
    pieces, results, failures, working, state = iter(pieces), [], [], set(), threading.Condition()

    def run():
        me = object()
        while True:
            with state:
                piece = None if failures else next(pieces, None)
                if piece is None:
                    return
                working.add(me)
            try:
                results.append(work(piece))
            except BaseException as e:  # noqa: BLE001 - whatever it is goes on in the caller's thread
                failures.append(e)
            with state:
                working.discard(me)
                state.notify_all()

    # One that comes too late finds nothing left and goes; nobody waits for it.
    for _ in range(threads - 1):
        _pool().submit(run)
    run()
    with state:
        state.wait_for(lambda: not working)
    if failures:
        raise failures[0]
    return results
