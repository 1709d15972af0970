"""The checkpoint that is read: its config, its headers, and where each tensor's bytes lie."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from gb10.errors import UserError
from gb10.quantize.checkpoint import weight_files
from gb10.quantize.inside import guard
from gb10.quantize.inside.header import TensorInfo, read_header


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
    for path in weight_files(folder):
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
