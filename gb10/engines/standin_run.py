"""How the stand-in is run: the same few names as vllm_cpu, so that starting and stopping need not know which it is."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from gb10.engines.model import Model
from gb10.errors import UserError
from gb10.paths import ROOT

NAME = "standin"
READY_IN = "5 to 10 s"
RUNTIME_BYTES = int(0.6e9)      # Python with torch and transformers
CONTEXT = 2048


def dtype(model: Model) -> str:
    if model.quantization not in (None, "nvfp4"):
        raise UserError(f"the stand-in loads BF16 and NVFP4 checkpoints, {model.path.name} is quantized as "
                        f"{model.quantization}.")
    return "float32"


def context(model: Model, wanted: int | None) -> int:
    return min(wanted or CONTEXT, model.max_length)


def needs(model: Model, length: int, kind: str) -> dict[str, int]:
    if kind != "float32":
        raise UserError("the stand-in computes in float32 only: leave --dtype out.")
    return {"weights": 4 * model.parameters, "KV cache": 2 * model.kv_bytes_per_token * length,
            "Python, torch, transformers": RUNTIME_BYTES}


def command(model: Model, name: str, port: int, length: int, kind: str) -> list[str]:
    return [sys.executable, "-m", "gb10.engines.standin", "--model", str(model.path), "--name", name, "--port", str(port),
            "--context", str(length)]


def environment(model: Model, length: int, kind: str) -> dict[str, str]:
    threads = 1 if model.parameters <= 50_000_000 else max(1, os.cpu_count() or 1)
    return {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}


PHASES = ((re.compile("gb10 stand-in"), "loading the weights"), (re.compile("model loaded"), "opening the port"))


def cause(log: Path) -> str | None:
    """The last exception's line in its log."""
    text = log.read_text(errors="replace") if log.exists() else ""
    if "address already in use" in text.lower():
        return "another program took the port meanwhile."
    errors = re.findall(r"^((?:[\w.]+\.)?\w*(?:Error|Exception)\b: .+)", text, re.MULTILINE)
    return errors[-1].strip()[:400] if errors else None
