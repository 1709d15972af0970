"""What is in a checkpoint: names, dtypes, shapes and bytes, read from the safetensors headers alone.

Nothing here reads a weight that wasn't asked for, or unpickles. `quantize.inspect` tells what the tensors mean.
"""

from __future__ import annotations

from pathlib import Path

from gb10.errors import UserError
from gb10.quantize.inside.files import safetensors_files
from gb10.quantize.inside.header import TensorInfo, read_header
from gb10.quantize.inside.sniff import show

__all__ = ["TensorInfo", "inspect_tensors", "is_checkpoint", "read_tensor"]


def inspect_tensors(folder: str | Path) -> list[TensorInfo]:
    """Every tensor of a checkpoint folder, sorted by name. Raises UserError for what isn't one."""
    rows = [row for path in weight_files(folder) for row in read_header(path).tensors]
    return sorted(rows, key=lambda row: row.name)


def read_tensor(folder: str | Path, name: str):
    """One tensor of a checkpoint, as a torch tensor; the others stay on disk."""
    from safetensors import safe_open

    names = []
    for path in weight_files(folder):
        there = [row.name for row in read_header(path).tensors]
        if name in there:
            with safe_open(str(path), framework="pt") as file:
                return file.get_tensor(name)
        names += there
    from difflib import get_close_matches

    near = get_close_matches(name, names, n=1)
    raise UserError(f"{folder} has no tensor {name!r}" + (f": did you mean {show(near[0])!r}?" if near else "."))


def is_checkpoint(folder: str | Path) -> bool:
    """A folder with a config.json and at least one safetensors file."""
    folder = Path(folder)
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def weight_files(folder: str | Path) -> list[Path]:
    """The safetensors files of a checkpoint folder: those that its index names, where there is one."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder of a checkpoint.")
    files, _ = safetensors_files(folder)
    if not files:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        raise UserError(f"{folder} holds no *.safetensors file" + (
            "; its weights are pickled, which can run code when read: convert it to safetensors where you trust it."
            if pickled else ": it isn't a checkpoint, or its download isn't finished."))
    return files
