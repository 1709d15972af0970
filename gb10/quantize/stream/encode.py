"""One group of weights from file to file: first its largest magnitude, then its codes, a stretch at a time.

A stretch is read into memory that fits the processor's cache and is worked on there, so that a run needs a few megabytes
for each thread, whatever the size of the model. Files are read, not mapped: one that shrinks meanwhile is an error then
and not the end of the process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np

from gb10.errors import WorkFailed
from gb10.formats.kernels import plain
from gb10.formats.kernels.plain import BLOCK
from gb10.quantize.inside.header import TensorInfo

STRETCH = 1 << 16                      # blocks: 2 MB of BF16
COPY = 8 << 20                         # bytes copied at a time

Write = Callable[[str, int, memoryview], None]      # (tensor, offset in it, bytes)
Count = Callable[[int], None]                       # bytes of the source that are done


class Encoder:
    """What one thread needs. `open_file(name)` gives the descriptor of a source file; `stop()` is asked between stretches."""

    def __init__(self, open_file: Callable[[str], int], count: Count = lambda n: None, stop: Callable[[], None] = lambda: None):
        self.open_file, self.count, self.stop = open_file, count, stop
        self._rooms: dict[str, plain.Plain | _Torch] = {}

    def group(self, infos: list[TensorInfo], write: Write) -> list[str]:
        """Quantize weights that share a tensor scale. Returns the names of those that are all zero.

        Raises WorkFailed for a weight with NaN or infinity. An all-zero group has the scale 1, and decodes to zeros
        (ModelOpt's export has no defined scale there).
        """
        largest = [self._amax(info) for info in infos]
        g = plain.tensor_scale(max(largest))
        for info in infos:
            self._encode(info, g, write)
        return [info.name for info, amax in zip(infos, largest, strict=True) if amax == 0]

    def copy(self, info: TensorInfo, write: Write, to: str | None = None) -> None:
        """Copy a tensor; with `to`, in that dtype (rounded to nearest even, as torch does)."""
        fd = self.open_file(info.file)
        for at in range(0, info.bytes, COPY):
            self.stop()
            data = bytearray(min(COPY, info.bytes - at))
            _read(fd, memoryview(data), info.offset + at, info)
            if to is None:
                write(info.name, at, memoryview(data))
            else:
                converted = _cast(data, info.dtype, to)
                write(info.name, at * len(converted) // len(data), converted)
            self.count(len(data))

    def _room(self, kind: str):
        if kind not in self._rooms:
            self._rooms[kind] = plain.Plain(kind, STRETCH) if plain.available() else _Torch(kind, STRETCH)
        return self._rooms[kind]

    def _stretches(self, info: TensorInfo, room):
        """(first block, blocks) of each stretch, after its bytes were read into room.data."""
        fd, size = self.open_file(info.file), BLOCK * room.itemsize
        total, view = info.bytes // size, room.data.data
        for first in range(0, total, STRETCH):
            self.stop()
            blocks = min(STRETCH, total - first)
            _read(fd, view[:blocks * size], info.offset + first * size, info)
            yield first, blocks

    def _amax(self, info: TensorInfo) -> float:
        room, top = self._room(info.dtype), 0
        for _, blocks in self._stretches(info, room):
            top = max(top, room.largest(blocks))
        if top >= room.infinity:
            raise WorkFailed(f"{info.name} in {info.file} holds NaN or infinity: NVFP4 has no scale for it. Was the model "
                             f"trained and saved whole?")
        return room.value(top)

    def _encode(self, info: TensorInfo, g: np.float32, write: Write) -> None:
        room = self._room(info.dtype)
        room.set_scale(g)
        for first, blocks in self._stretches(info, room):
            packed, scales = room.encode(blocks)
            write(info.name, first * BLOCK // 2, packed)
            write(f"{info.name}_scale", first, scales)
            self.count(blocks * BLOCK * room.itemsize)
        write(f"{info.name}_scale_2", 0, memoryview(g.tobytes()))


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


class _Torch:
    """`plain.Plain` on a machine that has no compiled loops: the same bits by torch."""

    def __init__(self, kind: str, blocks: int):
        import torch

        self.itemsize, _, self.infinity = plain.KINDS[kind]
        self.kind, self.dtype = kind, getattr(torch, {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[kind])
        self.data = np.empty(blocks * BLOCK * self.itemsize, np.uint8)

    def _tensor(self, blocks: int):
        import torch

        return torch.from_numpy(self.data[:blocks * BLOCK * self.itemsize]).view(self.dtype)

    def largest(self, blocks: int) -> int:
        import torch

        whole = {2: torch.int16, 4: torch.int32}[self.itemsize]
        return int((self._tensor(blocks).view(whole) & ((1 << 8 * self.itemsize - 1) - 1)).max())

    def value(self, pattern: int) -> float:
        import torch

        whole = {2: torch.int16, 4: torch.int32}[self.itemsize]
        return torch.tensor([pattern], dtype=whole).view(self.dtype).float().item()

    def set_scale(self, g: np.float32) -> None:
        self.g = g

    def encode(self, blocks: int):
        import torch

        from gb10.formats.elements import encode_e2m1
        from gb10.formats.nvfp4 import _magnitudes, _scaled, pack_nibbles

        x = self._tensor(blocks)
        y, s = _scaled(x, _magnitudes(x), torch.tensor(float(self.g)))
        packed = pack_nibbles(encode_e2m1(y).flatten(-2))
        return packed.numpy().data, s.view(torch.uint8).numpy().data


def _read(fd: int, view: memoryview, at: int, info: TensorInfo) -> None:
    while view:
        n = os.preadv(fd, [view], at)
        if n == 0:
            raise WorkFailed(f"{info.file} became shorter while it was read: is it still being downloaded?")
        view, at = view[n:], at + n


def _cast(data: bytearray, dtype: str, to: str) -> memoryview:
    import torch

    names = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
    if dtype not in names or to not in names:
        raise WorkFailed(f"a tensor of {dtype} can't be kept as {to}.")
    return torch.frombuffer(data, dtype=names[dtype]).to(names[to]).view(torch.uint8).numpy().data
