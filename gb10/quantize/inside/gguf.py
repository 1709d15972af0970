"""The head of a GGUF file: its key-value pairs and the table of its tensors, checked as strictly as ggml does.

Layout (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): "GGUF", version, number of tensors, number of pairs;
the pairs; the tensors' names, dimensions (the fastest first), types and offsets; padding; data. No weight is read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from gb10.quantize.inside.ggml import REMOVED, TYPES
from gb10.quantize.inside.header import MOST_ELEMENTS, MOST_TENSORS, TensorInfo, elements
from gb10.quantize.inside.sniff import HEAD, container, damaged, opened, refuse, show

VERSIONS = (2, 3)
MOST_PAIRS = 10_000               # a model has fewer than a hundred
MOST_STEPS = 4_000_000           # strings in all arrays: a vocabulary of 262,144 with its merges is 0.8 million
LONGEST_NAME = 1024              # ggml itself stops at 63, some programs write more
LONGEST_KEPT = 4096              # bytes of a text that is kept; a longer one (a chat template) is stepped over
_CHUNK = 1 << 20
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class GGUF:
    path: Path
    tensors: list[TensorInfo]
    pairs: dict                  # scalars and short texts; arrays are stepped over
    version: int
    size: int

    def text(self, key: str) -> str | None:
        value = self.pairs.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        value = self.pairs.get(key)
        return value if type(value) is int else None


def read_gguf(path: Path) -> GGUF:
    """The head of one GGUF file. Raises UserError for whatever isn't one, whole and sound."""
    with opened(path) as (file, size):
        head = file.read(HEAD)
        if container(path, head, size) != "gguf":
            raise refuse(path, "is a safetensors file in spite of its name: rename it to *.safetensors.")
        return _Reader(path, file, size).read()


class _Reader:
    """Walks through the file by steps that are checked against its size before they are taken."""

    def __init__(self, path: Path, file, size: int):
        self.path, self.file, self.size = path, file, size
        self.position, self.start, self.buffer, self.steps = 0, 0, b"", 0

    def read(self) -> GGUF:
        self.take(4)
        version = self.scalar("I")
        if version not in VERSIONS:
            if version & 0xFFFF == 0 and version:
                raise refuse(self.path, "is a big-endian GGUF file: this reads little-endian ones, as engines do.")
            raise refuse(self.path, f"is GGUF of version {version}, and this reads 2 and 3: convert or fetch it again.")
        n_tensors, n_pairs = self.scalar("Q"), self.scalar("Q")
        if n_tensors > min(MOST_TENSORS, self.size // 24) or n_pairs > min(MOST_PAIRS, self.size // 13):
            raise damaged(self.path, f"it claims {n_tensors:,} tensors and {n_pairs:,} metadata entries, which such a "
                                     f"file can't hold")
        pairs: dict = {}
        for _ in range(n_pairs):
            key = self.text(LONGEST_NAME, "a metadata key")
            if key in pairs or not key:
                raise damaged(self.path, f"its metadata has {show(key)!r} twice" if key else "a metadata key is empty")
            pairs[key] = self.value(self.scalar("I"), 0)
        rows, seen = [], set()
        for _ in range(n_tensors):
            rows.append(self.tensor())
            if rows[-1].name in seen:
                raise damaged(self.path, f"it names {show(rows[-1].name)!r} twice")
            seen.add(rows[-1].name)
        return GGUF(self.path, self.placed(rows, pairs), pairs, version, self.size)

    def take(self, n: int) -> memoryview:
        """The next n bytes."""
        if n > self.size - self.position:
            raise damaged(self.path, f"cut off: it ends at byte {self.size:,}, inside its own head")
        at = self.position - self.start
        if at < 0 or at + n > len(self.buffer):
            self.file.seek(self.position)
            self.buffer, self.start, at = self.file.read(max(n, _CHUNK)), self.position, 0
            if len(self.buffer) < n:
                raise damaged(self.path, "it became shorter while it was read")
        self.position += n
        return memoryview(self.buffer)[at:at + n]

    def skip(self, n: int) -> None:
        if n > self.size - self.position:
            raise damaged(self.path, f"cut off: it ends at byte {self.size:,}, inside its own head")
        self.position += n

    def scalar(self, code: str):
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self, most: int, what: str) -> str:
        length = self.scalar("Q")
        if length > most:
            raise damaged(self.path, f"{what} is {length:,} bytes long")
        try:
            return str(self.take(length), "utf-8")
        except UnicodeDecodeError:
            raise damaged(self.path, f"{what} is no text") from None

    def value(self, kind: int, depth: int):
        """A metadata value; None for an array or a text too long to keep."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise refuse(self.path, f"has more than {MOST_STEPS:,} metadata values: no model has, and it isn't read.")
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            length = self.scalar("Q")
            if length > LONGEST_KEPT:
                return self.skip(length)
            return str(self.take(length), "utf-8", "replace")
        if kind != _ARRAY:
            raise damaged(self.path, f"a metadata value has the unknown type {kind}")
        if depth > 2:
            raise damaged(self.path, "its metadata has arrays in arrays in arrays")
        of, count = self.scalar("I"), self.scalar("Q")
        if of in _SCALARS:
            return self.skip(count * struct.calcsize("<" + _SCALARS[of]))
        if count > (self.size - self.position) // 8:
            raise damaged(self.path, f"an array in its metadata claims {count:,} entries")
        if self.steps + count > MOST_STEPS:
            raise refuse(self.path, f"has more than {MOST_STEPS:,} metadata values: no model has, and it isn't read.")
        if of == _STRING:
            return self.skip_texts(count)
        for _ in range(count):
            self.value(of, depth + 1)
        return None

    def skip_texts(self, count: int) -> None:
        """Step over `count` texts: a vocabulary, a million of them in a large model, so this loop is a tight one."""
        self.steps += count
        length_at, position = struct.Struct("<Q").unpack_from, self.position
        self.start, self.buffer = position, b""
        for _ in range(count):
            at = position - self.start
            if at + 8 > len(self.buffer):
                self.file.seek(position)
                self.start, self.buffer, at = position, self.file.read(_CHUNK), 0
                if len(self.buffer) < 8:
                    raise damaged(self.path, f"cut off: it ends at byte {self.size:,}, inside its own head")
            position += 8 + length_at(self.buffer, at)[0]
            if position > self.size:
                raise damaged(self.path, "a text in its metadata is longer than the file")
        self.position = position

    def tensor(self) -> TensorInfo:
        """One row of the table, its offset still counted from the start of the data."""
        name = self.text(LONGEST_NAME, "a tensor's name")
        dims = self.scalar("I")
        if dims > 4:
            raise damaged(self.path, f"{show(name)!r} has {dims} dimensions, and GGUF has at most 4")
        shape = tuple(reversed(struct.unpack(f"<{dims}Q", self.take(8 * dims))))
        code, offset = self.scalar("I"), self.scalar("Q")
        if code not in TYPES:
            gone = f" ({REMOVED[code]}, which llama.cpp dropped: convert it again)" if code in REMOVED else ""
            raise refuse(self.path, f"holds {show(name)!r} in the unknown ggml type {code}{gone}.")
        kind, block, size = TYPES[code]
        count = elements(shape)
        if count >= MOST_ELEMENTS or any(n >= MOST_ELEMENTS for n in shape):
            raise damaged(self.path, f"{show(name)!r} has an impossible shape")
        row = shape[-1] if shape else 1
        if row % block:
            raise damaged(self.path, f"{show(name)!r} has rows of {row:,}, no multiple of the {block} of {kind}")
        return TensorInfo(name, kind, shape, count // block * size, self.path.name, offset)

    def placed(self, rows: list[TensorInfo], pairs: dict) -> list[TensorInfo]:
        align = pairs.get("general.alignment", 32)
        if type(align) is not int or not 0 < align <= 1 << 20 or align & (align - 1):
            raise damaged(self.path, f"its alignment is {show(align, 30)}, not a power of two")
        data = -(-self.position // align) * align
        expected = 0
        for row in rows:
            if row.offset != expected:
                raise damaged(self.path, f"{show(row.name)!r} lies at {row.offset:,} in the data instead of {expected:,}")
            expected += -(-row.bytes // align) * align
        end = data + (rows[-1].offset + rows[-1].bytes if rows else 0)
        if rows and end > self.size:
            raise damaged(self.path, f"cut off: {end - self.size:,} bytes are missing at its end")
        if self.size > data + expected + align:
            raise damaged(self.path, f"{self.size - data - expected:,} bytes at its end belong to no tensor")
        return [TensorInfo(r.name, r.dtype, r.shape, r.bytes, r.file, r.offset + data) for r in rows]
