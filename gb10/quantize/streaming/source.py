"""The checkpoint that is read: its config, its headers, and where each tensor's bytes lie."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from gb10.errors import UserError
from gb10.quantize.inside import guard
from gb10.quantize.inside.header import TensorInfo, read_header

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Source:
    folder: Path
    config: dict                       # config.json
    tensors: dict[str, TensorInfo]     # by name; `offset` counts from the start of the file
    fingerprint: str                   # of config, headers, sizes and times of change: another one is another checkpoint

    @property
    def nbytes(self) -> int:
        return sum(t.bytes for t in self.tensors.values())


def read_source(folder: str | Path) -> Source:
    """Read config.json and the headers of a checkpoint folder. Raises UserError for what isn't a whole one."""
    folder = Path(os.path.abspath(folder))
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder of a checkpoint.")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json: give the folder of a checkpoint, as it is on the hub.")
    config = guard.read_json(folder / "config.json")
    tensors, made = {}, hashlib.sha256(repr(sorted(config.items(), key=str)).encode())
    for path in _files(folder):
        header = read_header(path)
        status = path.stat()
        made.update(f"{path.name} {status.st_size} {status.st_mtime_ns}".encode())
        for t in header.tensors:
            if t.name in tensors:
                raise UserError(f"{folder} holds {t.name} twice, in {tensors[t.name].file} and {t.file}: remove the file "
                                f"that doesn't belong to it.")
            tensors[t.name] = t
            made.update(f"{t.name} {t.dtype} {t.shape} {t.offset}".encode())
    return Source(folder, config, tensors, made.hexdigest())


def _files(folder: Path) -> list[Path]:
    """The weight files: those that the index names, where there is one, else all."""
    if (folder / INDEX).is_file():
        places = guard.read_json(folder / INDEX).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(p, str) for p in places.values()):
            raise UserError(f"{folder / INDEX} has no weight_map: fetch it again.")
        names = sorted(set(places.values()))
        odd = [n for n in names if Path(n).name != n or not n.endswith(".safetensors")]
        if odd:
            raise UserError(f"{folder / INDEX} names {odd[0][:80]!r}, which is no safetensors file in that folder: it isn't "
                            f"read.")
        missing = [n for n in names if not (folder / n).is_file()]
        if missing:
            raise UserError(f"{folder} lacks {len(missing)} of {len(names)} weight files, {missing[0]} for one: its "
                            f"download isn't finished; fetch it again, what is there is kept.")
        return [folder / n for n in names]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        raise UserError(f"{folder} holds no *.safetensors file" + (
            "; its weights are pickled, which can run code when read: convert it to safetensors where you trust it."
            if pickled else ": it isn't a checkpoint, or its download isn't finished."))
    return files
