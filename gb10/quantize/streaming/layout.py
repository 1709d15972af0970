"""The files of the checkpoint to be written, laid out before the first weight is read.

NVFP4's size depends on shapes alone, so that every tensor's place is known beforehand, and the tensors can be written in
any order, by any thread, on any machine. Order and header are those of the safetensors library (0.8): by dtype, the
widest first, then by name; with at most 10 GB in one file, which is ModelOpt's limit, one file is the same to the byte.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from gb10.formats.kernels.plain import BLOCK
from gb10.quantize.inside.header import BITS, TensorInfo, elements
from gb10.quantize.streaming.plan import Plan
from gb10.quantize.streaming.source import Source

SHARD = 10 * 1000**3                   # bytes; as `export_hf_checkpoint` splits
# The order of `Dtype` in the safetensors library, reversed: it sorts tensors by it, so that each is aligned
_WIDEST_FIRST = ("U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
                 "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8", "U8", "F6_E3M2", "F6_E2M3", "F4", "BOOL")


@dataclass(frozen=True)
class Layout:
    headers: dict[str, bytes]          # file name -> its first bytes
    sizes: dict[str, int]              # file name -> its size
    places: dict[str, TensorInfo]      # tensor name -> file, offset from its start, bytes, dtype, shape

    @property
    def nbytes(self) -> int:
        return sum(self.sizes.values())


def parts(info: TensorInfo) -> tuple[TensorInfo, TensorInfo, TensorInfo]:
    """Codes, block scales and tensor scale of a weight [N, K], as ModelOpt names and shapes them; places to be filled in."""
    n, k = info.shape
    return (TensorInfo(info.name, "U8", (n, k // 2), n * k // 2, ""),
            TensorInfo(f"{info.name}_scale", "F8_E4M3", (n, k // BLOCK), n * k // BLOCK, ""),
            TensorInfo(f"{info.name}_scale_2", "F32", (), 4, ""))


def lay_out(source: Source, plan: Plan, shard: int = SHARD) -> Layout:
    """Where everything goes. Tensors are shared out over files in the order of the model's layers."""
    rows, quantized = [], frozenset(plan.quantized)
    for name in sorted((*plan.kept, *plan.quantized), key=_natural):
        info = source.tensors[name]
        if name in plan.cast:
            dtype = plan.cast[name]
            rows.append((TensorInfo(name, dtype, info.shape, elements(info.shape) * BITS[dtype] // 8, ""),))
        else:
            rows.append(parts(info) if name in quantized else (info,))
    files: list[list[TensorInfo]] = [[]]
    size = 0
    for unit in rows:
        more = sum(t.bytes for t in unit)
        if files[-1] and size + more > shard:
            files.append([])
            size = 0
        files[-1] += unit
        size += more
    headers, sizes, places = {}, {}, {}
    for i, tensors in enumerate(files, 1):
        file = "model.safetensors" if len(files) == 1 else f"model-{i:05d}-of-{len(files):05d}.safetensors"
        headers[file], sizes[file], placed = _file(file, tensors)
        places.update(placed)
    return Layout(headers, sizes, places)


def index(layout: Layout) -> dict | None:
    """The content of model.safetensors.index.json; None for a single file."""
    if len(layout.sizes) == 1:
        return None
    return {"metadata": {"total_size": sum(t.bytes for t in layout.places.values())},
            "weight_map": {t.name: t.file for t in sorted(layout.places.values(), key=lambda t: _natural(t.name))}}


def _file(file: str, tensors: list[TensorInfo]) -> tuple[bytes, int, dict[str, TensorInfo]]:
    tensors = sorted(tensors, key=lambda t: (_WIDEST_FIRST.index(t.dtype), t.name.encode()))
    entries, at = {"__metadata__": {"format": "pt"}}, 0
    for t in tensors:
        entries[t.name] = {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": [at, at + t.bytes]}
        at += t.bytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    places, position = {}, len(head)
    for t in tensors:
        places[t.name] = TensorInfo(t.name, t.dtype, t.shape, t.bytes, file, position)
        position += t.bytes
    return head, position, places


def _natural(name: str) -> list:
    """Layer 10 after layer 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
