"""One group of weights from file to file: first its largest magnitude, then its codes, a stretch at a time.

Weights are looked at where they are, in the system's page cache, through a window on the file that moves along; what is
made of a stretch fits the processor's cache and is written at once. So memory depends neither on the size of the model nor,
beyond some 8 MB each, on the number of threads, which share what there is: below 1 GB for the 20 cores of a Spark.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
from collections.abc import Callable

import numpy as np

from gb10.errors import WorkFailed
from gb10.formats.kernels import plain
from gb10.formats.kernels.plain import BLOCK
from gb10.quantize.inside.header import TensorInfo, elements

STRETCH = 1 << 15                      # blocks: 1 MB of BF16
WINDOW, WINDOWS = 32 << 20, 256 << 20   # bytes of a file that a thread maps at a time; that all of them map together
COPY = 1 << 20                         # bytes copied at a time
REMEMBERED, ALL_REMEMBERED = 16 << 20, 128 << 20     # blocks of a group whose magnitudes are kept between both passes (4
                                       # bytes each), by one thread and by all of them
GATHERED = 4 << 20                     # block scales that are written at once: small writes cost most

Write = Callable[[str, int, memoryview], None]      # (tensor, offset in it, bytes)
Count = Callable[[int], None]                       # bytes of the source that are done


class Encoder:
    """What one of `threads` threads needs. `open_file(name)` gives the descriptor of a source file; `stop()` is asked between
    stretches."""

    def __init__(self, open_file: Callable[[str], int], count: Count = lambda n: None, stop: Callable[[], None] = lambda: None,
                 threads: int = 1):
        self.open_file, self.count, self.stop = open_file, count, stop
        self.remembered = min(REMEMBERED, ALL_REMEMBERED // threads)
        stretch = STRETCH * BLOCK * 4                    # a window holds whole stretches, of any kind
        self.window = max(stretch, min(WINDOW, WINDOWS // threads) // stretch * stretch)
        self._memory = np.empty(max(COPY, STRETCH * BLOCK * 4), np.uint8)
        self.room, self.aligned = self._memory.data, self._memory.ctypes.data
        self.magnitudes = np.empty(0, np.float32)
        self.scales = np.empty(GATHERED, np.uint8)
        self._codecs: dict[str, plain.Plain | _Torch] = {}

    def group(self, infos: list[TensorInfo], write: Write) -> list[str]:
        """Quantize weights that share a tensor scale. Returns the names of those that are all zero.

        Raises WorkFailed for a weight with NaN or infinity. An all-zero group has the scale 1, and decodes to zeros
        (ModelOpt's export has no defined scale there).
        """
        blocks = [elements(info.shape) // BLOCK for info in infos]
        remembered = sum(blocks) <= self.remembered
        if remembered:
            self._remember(sum(blocks))
        at, largest = [4 * sum(blocks[:i]) for i in range(len(infos))], []
        for info, first in zip(infos, at, strict=True):
            largest.append(self._amax(info, self.magnitudes.ctypes.data + first if remembered else None))
        g = plain.tensor_scale(max(largest))
        for info, first in zip(infos, at, strict=True):
            self._encode(info, g, write, self.magnitudes.ctypes.data + first if remembered else None)
        return [info.name for info, amax in zip(infos, largest, strict=True) if amax == 0]

    def _remember(self, blocks: int) -> None:
        if len(self.magnitudes) < blocks:
            self.magnitudes = np.empty(blocks, np.float32)

    def copy(self, info: TensorInfo, write: Write, to: str | None = None) -> None:
        """Copy a tensor; with `to`, in that dtype (rounded to nearest even, as torch does)."""
        fd = self.open_file(info.file)
        for at in range(0, info.bytes, COPY):
            self.stop()
            data = self.room[:min(COPY, info.bytes - at)]
            _read(fd, data, info.offset + at, info)
            if to is None:
                write(info.name, at, data)
            else:
                converted = _cast(data, info.dtype, to)
                write(info.name, at * len(converted) // len(data), converted)
            self.count(len(data))

    def _codec(self, kind: str):
        if kind not in self._codecs:
            self._codecs[kind] = plain.Plain(kind, STRETCH) if plain.available() else _Torch(kind)
        return self._codecs[kind]

    def _stretches(self, info: TensorInfo, itemsize: int):
        """(address, first block, blocks) of each stretch; what lies there is valid until the next one."""
        fd, size = self.open_file(info.file), BLOCK * itemsize
        step = STRETCH * size
        self._refuse_short(fd, info)
        for first in range(0, info.bytes, self.window):
            last = min(first + self.window, info.bytes)
            with _mapped(fd, info.offset + first, info.offset + last) as address:
                for at in range(first, last, step):
                    self.stop()
                    where, length = address + at - first, min(at + step, last) - at
                    if where % itemsize:                 # legal, and slow: brought into line first
                        ctypes.memmove(self.aligned, where, length)
                        where = self.aligned
                    yield where, at // size, length // size

    def _amax(self, info: TensorInfo, magnitudes: int | None) -> float:
        codec, top = self._codec(info.dtype), 0
        for at, first, blocks in self._stretches(info, codec.itemsize):
            top = max(top, codec.largest(at, blocks, magnitudes and magnitudes + 4 * first))
        if top >= codec.infinity:
            raise Unusable(f"{info.name} in {info.file} holds NaN or infinity: NVFP4 has no scale for it. Was the model "
                           f"trained and saved whole?")
        return codec.value(top)

    def _encode(self, info: TensorInfo, g: np.float32, write: Write, magnitudes: int | None) -> None:
        codec, scales, written = self._codec(info.dtype), self.scales.ctypes.data, 0
        codec.set_scale(g)
        for at, first, blocks in self._stretches(info, codec.itemsize):
            if first + blocks - written > GATHERED:
                write(f"{info.name}_scale", written, self.scales[:first - written].data)
                written = first
            packed = codec.encode(at, blocks, scales + first - written, magnitudes and magnitudes + 4 * first)
            write(info.name, first * BLOCK // 2, packed)
            self.count(blocks * BLOCK * codec.itemsize)
        write(f"{info.name}_scale", written, self.scales[:first + blocks - written].data)
        write(f"{info.name}_scale_2", 0, memoryview(g.tobytes()))

    def _refuse_short(self, fd: int, info: TensorInfo) -> None:
        if os.fstat(fd).st_size < info.offset + info.bytes:
            raise _shorter(info)


@contextlib.contextmanager
def _mapped(fd: int, begin: int, end: int):
    """The address at which bytes begin..end of a file can be read."""
    start = begin - begin % mmap.ALLOCATIONGRANULARITY
    with mmap.mmap(fd, end - start, access=mmap.ACCESS_READ, offset=start) as window:
        yield np.frombuffer(window, np.uint8).ctypes.data + begin - start


class Files:
    """Descriptors of files in a folder, opened once, shared by threads."""

    def __init__(self, folder, flags: int = os.O_RDONLY):
        self.folder, self.flags = folder, flags | getattr(os, "O_CLOEXEC", 0)
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str) -> int:
        with self._lock:
            if name not in self._open:
                self._open[name] = os.open(os.path.join(self.folder, name), self.flags)
            return self._open[name]

    def close(self) -> None:
        with self._lock:
            for fd in self._open.values():
                os.close(fd)
            self._open.clear()


def same(open_file: Callable[[str], int], a: TensorInfo, b: TensorInfo) -> bool:
    """Whether two tensors hold the same bytes."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    one, two = memoryview(bytearray(COPY)), memoryview(bytearray(COPY))
    for at in range(0, a.bytes, COPY):
        n = min(COPY, a.bytes - at)
        _read(open_file(a.file), one[:n], a.offset + at, a)
        _read(open_file(b.file), two[:n], b.offset + at, b)
        if one[:n] != two[:n]:
            return False
    return True


class Unusable(WorkFailed):
    """A weight that NVFP4 can't hold: trying again is no use."""


class _Torch:
    """`plain.Plain` on a machine that has no compiled loops: the same bits by torch."""

    def __init__(self, kind: str):
        import torch

        self.itemsize, _, self.infinity = plain.KINDS[kind]
        self.dtype = getattr(torch, {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[kind])
        self.whole = {2: torch.int16, 4: torch.int32}[self.itemsize]

    def _tensor(self, at: int, blocks: int):
        import torch

        size = blocks * BLOCK * self.itemsize
        return torch.frombuffer(bytearray(ctypes.string_at(at, size)), dtype=self.dtype)

    def largest(self, at: int, blocks: int, magnitudes: int | None = None) -> int:
        return int((self._tensor(at, blocks).view(self.whole) & ((1 << 8 * self.itemsize - 1) - 1)).max())

    def value(self, pattern: int) -> float:
        import torch

        return torch.tensor([pattern], dtype=self.whole).view(self.dtype).float().item()

    def set_scale(self, g: np.float32) -> None:
        import torch

        self.g = torch.tensor(float(g))

    def encode(self, at: int, blocks: int, scales: int, magnitudes: int | None = None) -> memoryview:
        import torch

        from gb10.formats.elements import encode_e2m1, pack_nibbles
        from gb10.formats.nvfp4 import _magnitudes, _scaled

        x = self._tensor(at, blocks)
        y, s = _scaled(x, _magnitudes(x), self.g)
        ctypes.memmove(scales, s.view(torch.uint8).data_ptr(), blocks)
        return pack_nibbles(encode_e2m1(y).flatten(-2)).numpy().data


def _read(fd: int, view: memoryview, at: int, info: TensorInfo) -> None:
    while view:
        n = os.preadv(fd, [view], at)
        if n == 0:
            raise _shorter(info)
        view, at = view[n:], at + n


def _shorter(info: TensorInfo) -> WorkFailed:
    return WorkFailed(f"{info.file} became shorter while it was read: is it still being downloaded?")


def _cast(data: memoryview, dtype: str, to: str) -> memoryview:
    import torch

    names = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
    if dtype not in names or to not in names:
        raise WorkFailed(f"a tensor of {dtype} can't be kept as {to}.")
    return torch.frombuffer(data, dtype=names[dtype]).to(names[to]).view(torch.uint8).numpy().data
