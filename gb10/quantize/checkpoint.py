"""What is in a checkpoint: names, dtypes, shapes and bytes, read from the safetensors headers alone.

A safetensors file starts with an 8-byte little-endian length and a JSON header of that length
(https://github.com/huggingface/safetensors#format); nothing here reads a weight or unpickles anything.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from gb10.errors import UserError

HEADER_LIMIT = 100_000_000       # the format's own limit


@dataclass(frozen=True)
class TensorInfo:
    name: str
    dtype: str                   # as safetensors writes it: BF16, U8, F8_E4M3, F32 …
    shape: tuple[int, ...]
    bytes: int
    file: str                    # name of the safetensors file it lies in


def inspect_tensors(folder: str | Path) -> list[TensorInfo]:
    """Every tensor of a checkpoint folder, sorted by name. Raises UserError for what isn't one."""
    rows = [row for path in _files(folder) for row in _header(path)]
    return sorted(rows, key=lambda row: row.name)


def read_tensor(folder: str | Path, name: str):
    """One tensor of a checkpoint, as a torch tensor; the others stay on disk."""
    from safetensors import safe_open

    for path in _files(folder):
        if any(row.name == name for row in _header(path)):
            with safe_open(str(path), framework="pt") as file:
                return file.get_tensor(name)
    from difflib import get_close_matches

    names = [row.name for row in inspect_tensors(folder)]
    near = get_close_matches(name, names, n=1)
    raise UserError(f"{folder} has no tensor {name!r}" + (f": did you mean {near[0]!r}?" if near else "."))


def is_checkpoint(folder: str | Path) -> bool:
    """A folder with a config.json and at least one safetensors file."""
    folder = Path(folder)
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _files(folder: str | Path) -> list[Path]:
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder of a checkpoint.")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        raise UserError(f"{folder} holds no *.safetensors file" + (
            "; its weights are pickled, which can run code when read: convert it to safetensors where you trust it."
            if pickled else ": it isn't a checkpoint, or its download isn't finished."))
    return files


def _header(path: Path) -> list[TensorInfo]:
    broken = UserError(f"{path} is damaged or not a safetensors file: fetch or export it again.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else HEADER_LIMIT + 1
            if length > min(HEADER_LIMIT, size - 8):
                raise broken
            header = json.loads(file.read(length))
        rows = []
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            if not 0 <= begin <= end <= size - 8 - length:
                raise broken
            rows.append(TensorInfo(name, entry["dtype"], tuple(entry["shape"]), end - begin, path.name))
        return rows
    except (ValueError, KeyError, TypeError, AttributeError):
        raise broken from None
