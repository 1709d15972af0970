"""Run notebooks under nbval in a process of its own, and hold what ran against what is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent


def run(notebooks: Iterable[Path], folder: Path, cell_timeout: int = 900) -> tuple[list[dict], str]:
    """(one record per cell that ran, the text of the run). folder: where the run's own files go."""
    notebooks = [p.resolve() for p in notebooks]
    record = folder / "cells.jsonl"
    record.write_text("")
    common = os.path.commonpath([p.parent for p in notebooks])
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", common, "-p", "no:cacheprovider",
               "-p", "nbval_record", "-q", "--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={cell_timeout}",
               "--nbval-kernel-startup-timeout=120", *map(str, notebooks)]
    env = {**os.environ, "NBVAL_RECORD": str(record), "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "MPLBACKEND": "agg",
           "IPYTHONDIR": str(folder / "ipython"), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    done = subprocess.run(command, cwd=common, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    return [json.loads(line) for line in record.read_text().splitlines()], done.stdout + done.stderr


def faults(records: list[dict], there: Iterable[Path]) -> list[str]:
    """What is wrong: cells that failed, and notebooks of which not every code cell ran."""
    out = [f"{Path(r['notebook']).name}, {r['cell']}: {r['outcome']}\n{r['why']}" for r in records
           if r["outcome"] != "passed"]
    ran: dict[str, int] = {}
    for r in records:
        ran[r["notebook"]] = ran.get(r["notebook"], 0) + 1
    for path in there:
        try:
            cells = nbformat.read(path, as_version=4).cells
            expected = sum(c.cell_type == "code" for c in cells)
        except Exception as e:  # noqa: BLE001 - unreadable is a fault, whatever the reason
            out.append(f"{path} can't be read: {type(e).__name__}")
            continue
        got = ran.get(str(path.resolve()), 0)
        if got != expected or not expected:
            out.append(f"{path}: {got} of its {expected} code cells ran")
    return out
