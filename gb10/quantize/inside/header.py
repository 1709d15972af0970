"""The header of a safetensors file: names, dtypes, shapes and places of its tensors, checked as strictly as the format.

A file starts with an 8-byte little-endian length and a JSON header of that length; the tensors follow without gaps
(https://github.com/huggingface/safetensors#format). No weight is read, and nothing is unpickled.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from gb10.quantize.inside import guard
from gb10.quantize.inside.sniff import HEAD, HEADER_LIMIT, container, damaged, opened, refuse, show

# Bits of one element, as safetensors 0.8 names the types
BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "F64": 64, "I64": 64, "U64": 64, "C64": 64,
}
MOST_TENSORS = 1_000_000         # of one file; the largest models of 2026 have 0.3 million in all files together
MOST_ELEMENTS = 2**63


@dataclass(frozen=True, slots=True)
class TensorInfo:
    name: str
    dtype: str                   # as the file writes it: BF16, U8, F8_E4M3, F32 …; in GGUF the ggml type, Q4_K …
    shape: tuple[int, ...]
    bytes: int
    file: str                    # name of the file it lies in
    offset: int = 0              # of its first byte in that file


@dataclass(frozen=True)
class Header:
    path: Path
    tensors: list[TensorInfo]    # in the order of their bytes
    metadata: dict[str, str]     # what the writer left under "__metadata__"
    size: int                    # of the whole file, bytes


def read_header(path: Path) -> Header:
    """The header of one safetensors file. Raises UserError for whatever isn't one, whole and sound."""
    with opened(path) as (file, size):
        head = file.read(HEAD)
        if container(path, head, size) != "safetensors":
            raise refuse(path, "is a GGUF file in spite of its name: rename it to *.gguf.")
        length = struct.unpack("<Q", head[:8])[0]
        if length > size - 8:
            raise damaged(path, f"cut off inside its header ({size:,} bytes of at least {8 + length:,} are there)")
        file.seek(8)
        raw = file.read(min(length, HEADER_LIMIT))
    if raw.count(b'"data_offsets"') > MOST_TENSORS:
        raise refuse(path, f"lists more than {MOST_TENSORS:,} tensors: no model has so many, and it isn't read.")
    return _checked(path, guard.parse(raw, path, what="its header", pairs=_objects), size, 8 + length)


class _Pairs(list):
    """A JSON object as its pairs, so that a key that comes twice is still seen."""

    __slots__ = ()


class _Entry(NamedTuple):
    """What the header says of one tensor, still unchecked."""

    dtype: object
    shape: object
    place: object


def _objects(pairs: list) -> _Pairs | _Entry:
    """object_pairs_hook: entries become small at once, for there may be hundreds of thousands."""
    if len(pairs) == 3:
        fields = dict(pairs)
        if fields.keys() == {"dtype", "shape", "data_offsets"}:
            return _Entry(fields["dtype"], fields["shape"], fields["data_offsets"])
    return _Pairs(pairs)


def _checked(path: Path, header, size: int, start: int) -> Header:
    if not isinstance(header, _Pairs):
        raise damaged(path, "its header is not a JSON object")
    metadata, rows, seen = {}, [], set()
    for name, entry in header:
        if name in seen:
            raise damaged(path, f"its header names {show(name)!r} twice")
        seen.add(name)
        if name == "__metadata__":
            if not isinstance(entry, _Pairs) or not all(isinstance(v, str) for _, v in entry):
                raise damaged(path, "its metadata is no list of texts")
            metadata = dict(entry)
        else:
            rows.append(_row(path, name, entry, start))
    rows.sort(key=attrgetter("offset", "bytes"))
    position = start
    for i, row in enumerate(rows):
        if row.offset != position:
            how = "overlap" if row.offset < position else "leave a gap"
            before = f" and {show(rows[i - 1].name)!r}" if i else ""
            raise damaged(path, f"the bytes of {show(row.name)!r}{before} {how}")
        position += row.bytes
    if position > size:
        raise damaged(path, f"cut off: {position - size:,} bytes are missing at its end")
    if position < size:
        raise damaged(path, f"{size - position:,} bytes at its end belong to no tensor")
    return Header(path, rows, metadata, size)


def _row(path: Path, name: str, entry, start: int) -> TensorInfo:
    """One entry, checked; its place counted from the start of the file instead of from the end of the header."""
    if type(entry) is not _Entry:
        raise damaged(path, f"the entry of {show(name)!r} is not its dtype, shape and data_offsets")
    dtype, shape, place = entry
    if not isinstance(dtype, str) or dtype not in BITS:
        raise damaged(path, f"{show(name)!r} has the unknown dtype {show(dtype, 30)!r}")
    if not _sizes(shape) or len(shape) > 32:
        raise damaged(path, f"{show(name)!r} has an impossible shape")
    if not _sizes(place) or len(place) != 2:
        raise damaged(path, f"{show(name)!r} has an impossible place")
    if not name.isascii():
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise damaged(path, "its header has a name that is no text") from None
    begin, end = place
    count = elements(shape)
    if count >= MOST_ELEMENTS or count * BITS[dtype] != 8 * (end - begin):
        raise damaged(path, f"{show(name)!r} takes {end - begin:,} bytes, which isn't what its shape and dtype take")
    return TensorInfo(name, dtype, tuple(shape), end - begin, path.name, begin + start)


def _sizes(numbers) -> bool:
    """A list of whole numbers from 0 to 2^63?"""
    if type(numbers) is not list:
        return False
    for n in numbers:                        # all() of a generator takes twice as long, and there are many of these
        if type(n) is not int or not 0 <= n < MOST_ELEMENTS:
            return False
    return True


def elements(shape) -> int:
    """Elements of a shape; stops counting at 2^63."""
    if 0 in shape:
        return 0
    total = 1
    for n in shape:
        total *= n
        if total >= MOST_ELEMENTS:
            break
    return total


def read_small(folder: Path, tensors: list[TensorInfo]) -> dict[str, tuple[float | int, ...]]:
    """The values of small tensors (scales of whole tensors, shapes); kinds of numbers not known here are left out.

    Read in the order of the bytes: a file keeps its scalars together, so this touches few pages of it.
    """
    out = {}
    by_file: dict[str, list[TensorInfo]] = {}
    for t in tensors:
        by_file.setdefault(t.file, []).append(t)
    for name, rows in by_file.items():
        with opened(folder / name) as (file, _):
            for t in sorted(rows, key=lambda t: t.offset):
                file.seek(t.offset)
                data = file.read(t.bytes)
                values = _numbers(data, t.dtype) if len(data) == t.bytes else None
                if values is not None:
                    out[t.name] = values
    return out


_CODES = {"F32": "f", "F64": "d", "F16": "e", "I64": "q", "I32": "i", "U8": "B"}


def _numbers(data: bytes, dtype: str) -> tuple[float | int, ...] | None:
    if dtype == "BF16":                      # the upper half of an F32
        data, dtype = b"".join(b"\0\0" + data[i:i + 2] for i in range(0, len(data), 2)), "F32"
    code = _CODES.get(dtype)
    return struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data) if code else None
