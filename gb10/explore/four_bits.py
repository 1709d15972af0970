"""Pico in NVFP4, weights and activations: the checkpoint that lesson 4 serves beside the BF16 one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from gb10 import paths
from gb10.errors import WorkFailed

FOLDER = paths.STATE / "lesson04" / "pico-nvfp4"
# Four short samples: enough for the one number per layer that calibration of activations looks for, and quick.
SETTINGS = ("--recipe", "nvfp4", "--calib", "4", "--calib-tokens", "128")


def command(folder: Path = FOLDER) -> list[str]:
    """The ./course quantize that makes it."""
    return [sys.executable, "-m", "gb10", "quantize", str(paths.PICO), str(folder), *SETTINGS, "--force"]


def whole(folder: Path) -> bool:
    """Is there a W4A4 checkpoint in the folder? (./course quantize makes it appear in one step, when it is complete.)"""
    try:
        algorithm = json.loads((folder / "hf_quant_config.json").read_text(encoding="utf-8"))["quantization"]["quant_algo"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return algorithm == "NVFP4" and any(folder.glob("*.safetensors"))


def checkpoint(folder: Path = FOLDER) -> Path:
    """The folder; makes the checkpoint first where there is none, in a process of its own, so that ModelOpt's memory is given
    back. Raises WorkFailed."""
    if whole(folder):
        print(f"{folder.name}: made before, {sum(f.stat().st_size for f in folder.glob('*.safetensors')) / 1e6:.2f} MB")
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"making {folder.name} with ./course quantize {' '.join(SETTINGS)} …", flush=True)
    done = subprocess.run(command(folder), stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=paths.ROOT, check=False)
    if done.returncode or not whole(folder):
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise WorkFailed(f"pico could not be quantized: {said[-1] if said else 'it does not say why'}. Try ./course check.")
    print(f"{folder.name}: {sum(f.stat().st_size for f in folder.glob('*.safetensors')) / 1e6:.2f} MB")
    return folder
