"""A model folder as a GGUF file, and a GGUF file's weights as numbers again; both by llama.cpp's own Python, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from gb10.engines import model as models
from gb10.engines.launch import last_lines
from gb10.engines.llama_cpp import builder, source
from gb10.errors import UserError, WorkFailed
from gb10.progress import Progress

ROW = {"Q4_K_M": 256, "Q4_K_S": 256, "Q5_K_M": 256, "Q6_K": 256, "Q8_0": 32, "Q4_0": 32, "BF16": 1}     # weights in one block
DRIVER = Path(__file__).with_name("driver.py")


def convert(model_dir: str | Path, out: str | Path, kind: str = "Q4_K_M", *, home: Path | None = None, quiet: bool = False) -> Path:
    """Write the model as GGUF file `out` in format `kind`, whole or not at all, and return its path.

    Raises UserError for what can't be converted: no such kind, rows that its blocks don't divide, a checkpoint that is quantized
    already, a model that brings code of its own (which is never run); WorkFailed when the work failed.
    """
    home, out = home or builder.HOME, Path(out).expanduser()
    if kind not in ROW:
        raise UserError(f"there is no GGUF format {kind!r} here; take one of {', '.join(ROW)}.")
    if not builder.built(home):
        raise UserError("llama.cpp is not built yet: call llama_cpp.build() first, it takes some minutes.")
    found = models.look(model_dir)
    if found.quantization:
        raise UserError(f"{found.path.name} is quantized already ({found.quantization}): convert the original, or the two roundings add up.")
    own_code(found.path)
    if odd := indivisible(found.path, ROW[kind]):
        raise UserError(f"{kind} works on blocks of {ROW[kind]} weights, and the rows of {odd[0]} have {odd[1]}: take Q8_0.")
    out.parent.mkdir(parents=True, exist_ok=True)
    log = home / "convert.log"
    progress = Progress("llama.cpp", quiet=quiet)
    with tempfile.TemporaryDirectory(prefix=".gguf-", dir=out.parent) as scratch, open(log, "w", encoding="utf-8") as told:
        plain, packed = Path(scratch) / "plain.gguf", Path(scratch) / "packed.gguf"
        progress.update("writing the model as GGUF")
        _python(home, ["convert", str(found.path), "--outtype", "bf16", "--outfile", str(plain)], told, log)
        if kind == "BF16":
            packed = plain
        else:
            progress.update(f"quantizing to {kind}")
            _run([str(home / "bin" / "llama-quantize"), str(plain), str(packed), kind], told, log, None)
        os.replace(packed, out)
    progress.clear()
    return out


def dequantize(gguf: str | Path, out: str | Path, *, home: Path | None = None) -> Path:
    """Write a GGUF file's weights as float32 into safetensors file `out`, under the names that transformers gives them.

    For Qwen3 and its kind: where llama.cpp stores rows in another order (Llama), the file is refused.
    """
    home, gguf, out = home or builder.HOME, Path(gguf).expanduser(), Path(out).expanduser()
    if not gguf.is_file():
        raise UserError(f"there is no file {gguf}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    log = home / "dequantize.log"
    with tempfile.TemporaryDirectory(prefix=".gguf-", dir=out.parent) as scratch, open(log, "w", encoding="utf-8") as told:
        partial = Path(scratch) / "weights.safetensors"
        _python(home, ["dequantize", str(gguf.resolve()), str(partial)], told, log)
        os.replace(partial, out)
    return out


def indivisible(folder: Path, block: int) -> tuple[str, int] | None:
    """(name, row length) of the first matrix whose rows are no whole number of blocks; None if there is none."""
    for file in sorted(folder.glob("*.safetensors")):
        for name, (_, shape) in sorted(models.header(file).items()):
            if len(shape) == 2 and shape[-1] % block:
                return name, shape[-1]
    return None


def own_code(folder: Path) -> None:
    """Raises UserError for a model that wants code of its own to be run."""
    for name in ("config.json", "tokenizer_config.json"):
        try:
            settings = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(settings, dict) and "auto_map" in settings:
            raise UserError(f"{folder.name} brings Python code of its own ({name}, auto_map), which the course doesn't run.")


def _python(home: Path, arguments: list[str], told, log: Path) -> None:
    tree = home / f"source-{source.VERSION}"
    if not tree.is_dir():
        raise UserError("llama.cpp's source is not here: call llama_cpp.build() first.")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tree), str(tree / "gguf-py"))), "HF_HUB_OFFLINE": "1",
                                "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("HF_TOKEN", None)
    _run([sys.executable, "-P", str(DRIVER), *arguments], told, log, environment)


def _run(command: list[str], told, log: Path, environment: dict | None) -> None:
    done = subprocess.run(command, stdout=told, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment, check=False)
    if done.returncode:
        raise WorkFailed(f"{Path(command[0]).name} ended with code {done.returncode}. Its last lines:\n{last_lines(log)}\nThe whole log: {log}")
