"""Checkpoints written byte by byte: sound ones of every layout, and the raw pieces that a hostile one is made of."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

BITS = {"BF16": 16, "F16": 16, "F32": 32, "F64": 64, "I64": 64, "I32": 32, "U32": 32, "I8": 8, "U8": 8, "F8_E4M3": 8, "F8_E8M0": 8}


def safetensors(tensors: dict, metadata: dict | None = None) -> bytes:
    """tensors: name -> (dtype, shape), or (dtype, shape, bytes); zeros where no bytes are given."""
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, (dtype, shape, *raw) in tensors.items():
        body = raw[0] if raw else bytes(math.prod(shape) * BITS[dtype] // 8)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(body)]}
        data += body
    return framed(json.dumps(header).encode()) + data


def framed(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def f32(*values: float) -> tuple:
    return "F32", (len(values),) if len(values) > 1 else (), struct.pack(f"<{len(values)}f", *values)


def folder(path: Path, tensors: dict, config: dict | None = None, hf_quant: dict | None = None) -> Path:
    path.mkdir(exist_ok=True)
    (path / "model.safetensors").write_bytes(safetensors(tensors))
    for name, text in (("config.json", config), ("hf_quant_config.json", hf_quant)):
        if text is not None:
            (path / name).write_text(json.dumps(text))
    return path


def modelopt(n: int = 32, k: int = 64, scale: float = 1e-4, input_scale: float | None = None, name: str = "weight") -> dict:
    """The parts of one NVFP4 layer as ModelOpt names them, without the module's name."""
    parts = {"weight": ("U8", (n, k // 2)), "weight_scale": ("F8_E4M3", (n, k // 16)), "weight_scale_2": f32(scale)}
    return parts | ({"input_scale": f32(input_scale)} if input_scale is not None else {})


def compressed(n: int = 32, k: int = 64, scale: float = 1e4) -> dict:
    """The same layer as compressed-tensors names it."""
    return {"weight_packed": ("U8", (n, k // 2)), "weight_scale": ("F8_E4M3", (n, k // 16)), "weight_global_scale": f32(scale)}


def under(module: str, parts: dict) -> dict:
    return {f"{module}.{role}": tensor for role, tensor in parts.items()}


# ---------------------------------------------------------------- GGUF

TYPE_SIZES = {0: (1, 4), 1: (1, 2), 8: (32, 34), 12: (256, 144), 14: (256, 210), 30: (1, 2), 39: (32, 17), 40: (64, 36)}


def text(s: str | bytes) -> bytes:
    s = s.encode() if isinstance(s, str) else s
    return struct.pack("<Q", len(s)) + s


def pair(key: str, value) -> bytes:
    """A key with a text, an int (as uint32), or raw (type, bytes)."""
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    return text(key) + struct.pack("<I", value[0]) + value[1]


def gguf(tensors: dict, pairs: dict | None = None, *, version: int = 3, align: int = 32, raw_pairs: bytes = b"",
         n_tensors: int | None = None, n_pairs: int | None = None, magic: bytes = b"GGUF") -> bytes:
    """tensors: name -> (ggml type, shape with the fastest dimension last), or with the bytes as a third."""
    pairs = pairs or {}
    table, data = b"", b""
    for name, (kind, shape, *raw) in tensors.items():
        block, size = TYPE_SIZES[kind]
        body = raw[0] if raw else bytes(math.prod(shape) // block * size)
        table += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, len(data))
        data += body + bytes(-len(body) % align)
    head = magic + struct.pack("<IQQ", version, len(tensors) if n_tensors is None else n_tensors,
                               len(pairs) if n_pairs is None else n_pairs)
    head += b"".join(pair(k, v) for k, v in pairs.items()) + raw_pairs + table
    return head + bytes(-len(head) % align) + data
