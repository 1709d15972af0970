"""How fast is the NVFP4 codec, beside four other implementations and plain copying? Prints one table.

    python tests/benchmarks/codec.py [--size 4096] [--repeat 3] [--json]

MB/s of input for quantizing, of FP32 output for dequantizing; 1 MB = 10^6 bytes. memcpy: numpy's copyto of as many bytes
into memory that is there already, so that it reads and writes each byte once. Everything runs on one core unless its row
says otherwise, in turns, `--repeat` rounds of them; shown is the median of all turns with half the distance between the
quartiles. Figures of different runs or machines don't compare; the ratios within one do.

"memcpy, 2 cores" are two threads with half of it each. On a machine that is busy otherwise, or whose memory one core
keeps busy, they gain little, and so does anything else with a second core.

Results of ours lie in memory of the result before, where that has died meanwhile; the row "fresh memory" shows it without.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "formats")]

import nvfp4_neighbours as neighbours

from gb10.formats import NVFP4
from gb10.formats.kernels import load, memory

JOBS = ("quantize FP32", "quantize BF16", "dequantize")
COPY, COPY_TWO = "memcpy", "memcpy, 2 cores"
ONE, TWO, FRESH = "ours, 1 core", "ours, 2 cores", "ours, 1 core, fresh memory"
# (what, job, row, against, at least): from the course's own requirements
TARGETS = (("quantize BF16", ONE, "ModelOpt", 25), ("quantize BF16", ONE, COPY, .15), ("quantize FP32", ONE, COPY, .30),
           ("dequantize", ONE, "ModelOpt", 20), ("dequantize", ONE, COPY, .80),
           *((job, TWO, ONE, 1.7) for job in JOBS))
FIRST, LATER = 10.0, 0.5                         # seconds: the first call ever, the first call of a later process

START = """
import sys, time, torch
from pathlib import Path
from gb10.formats import NVFP4
from gb10.formats.kernels import load
load._folders = lambda: [Path(sys.argv[1])]      # nothing is kept there at first
x = torch.randn(64, 64)
start = time.perf_counter()
NVFP4.quantize(x)
print(time.perf_counter() - start)
"""


def work(size: int) -> dict[tuple[str, str], tuple[int, callable]]:
    """(row, job) -> (cores, what to time)."""
    x = {"quantize FP32": torch.randn(size, size, generator=torch.Generator().manual_seed(0)) * 0.02}
    x["quantize BF16"] = x["quantize FP32"].bfloat16()
    found = {}
    for job, tensor in [*x.items(), ("dequantize", x["quantize FP32"])]:
        source = tensor.view(torch.uint8).numpy()
        target = np.ones_like(source)
        found[COPY, job] = 1, lambda source=source, target=target: np.copyto(target, source)
        if (os.cpu_count() or 1) > 1:
            halves = list(zip(np.array_split(target, 2), np.array_split(source, 2), strict=True))
            found[COPY_TWO, job] = 1, lambda halves=halves: in_two(halves)
    for other in neighbours.ALL:
        for job, tensor in x.items():
            found[other.name, job] = 1, lambda other=other, tensor=tensor: other.quantize(tensor)
        parts = other.quantize(x["quantize FP32"])
        found[other.name, "dequantize"] = 1, lambda other=other, parts=parts: other.dequantize(parts)
    q = NVFP4.quantize(x["quantize FP32"])

    def fresh(function):
        memory._spare.clear()
        return function()

    for row, cores in ((ONE, 1), (FRESH, 1), (TWO, 2)):
        if cores > (os.cpu_count() or 1):
            continue
        for job, tensor in x.items():
            found[row, job] = cores, lambda tensor=tensor: NVFP4.quantize(tensor)
        found[row, "dequantize"] = cores, q.dequantize
    for job in JOBS:
        found[FRESH, job] = 1, lambda function=found[FRESH, job][1]: fresh(function)
    return found


def in_two(halves: list) -> None:
    threads = [threading.Thread(target=np.copyto, args=half) for half in halves]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def measure(size: int, repeat: int) -> dict[tuple[str, str], list[float]]:
    """(row, job) -> seconds of every turn."""
    tasks = work(size)
    seconds = {key: [] for key in tasks}
    for turn in range(repeat + 1):
        for (row, job), (cores, function) in tasks.items():
            torch.set_num_threads(cores)
            # what takes milliseconds goes more often
            for _ in range(1 if seconds[row, job] and seconds[row, job][0] > .1 else 5):
                gc.collect(0)
                start = time.perf_counter()
                result = function()
                seconds[row, job].append(time.perf_counter() - start)
                del result
        if turn == 0:                            # the first round warms up caches and imports
            seconds = {key: [] if turns[0] < .1 else turns[:0] for key, turns in seconds.items()}
    return seconds


def starts() -> tuple[float, float]:
    """Seconds of the first call ever on a machine, and of the first call of a later process."""
    with tempfile.TemporaryDirectory() as folder:
        both = [subprocess.run([sys.executable, "-c", START, folder], cwd=ROOT, capture_output=True, text=True, check=True)
                for _ in range(2)]
    return tuple(float(run.stdout.split()[-1]) for run in both)


def report(size: int, repeat: int) -> dict:
    if load.loops() is None:
        raise SystemExit("the compiled loops can't be had here: nothing to measure")
    before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    seconds, (first, later) = measure(size, repeat), starts()
    moved = {"quantize FP32": 4 * size ** 2, "quantize BF16": 2 * size ** 2, "dequantize": 4 * size ** 2}
    typical = {key: statistics.median(turns) for key, turns in seconds.items()}
    rows = {}
    for (row, job), turns in seconds.items():
        quartiles = statistics.quantiles(turns, n=4) if len(turns) > 1 else [turns[0]] * 3
        rows.setdefault(row, {})[job] = {
            "mb_s": moved[job] / typical[row, job] / 1e6, "spread": (quartiles[2] - quartiles[0]) / 2 / typical[row, job],
            "of_memcpy": typical[COPY, job] / typical[row, job], "times_modelopt": typical["ModelOpt", job] / typical[row, job]}
    targets = [{"what": f"{job}: {row}, against {against}", "at_least": least, "is": typical[against, job] / typical[row, job]}
               for job, row, against, least in TARGETS if (row, job) in typical]
    for target in targets:
        target["met"] = target["is"] >= target["at_least"]
    targets += [{"what": "first call ever, seconds", "at_most": FIRST, "is": first, "met": first <= FIRST},
                {"what": "first call of a later process, seconds", "at_most": LATER, "is": later, "met": later <= LATER}]
    return {"machine": machine(), "load_before": before, "size": size, "rounds": repeat, "rows": rows, "targets": targets}


def machine() -> str:
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"


def show(r: dict) -> None:
    load_ = "" if r["load_before"] is None else f"; load {r['load_before']:.1f} before the start"
    print(f"{r['machine']}{load_}\n{r['size']} x {r['size']}, {r['rounds']} rounds\n")
    wide = max(map(len, r["rows"]))
    print(" " * wide + "".join(f"  {job + ', MB/s':>21} {'of memcpy':>9} {'x ModelOpt':>10}" for job in JOBS))
    for row, jobs in r["rows"].items():
        cells = (f"  {j['mb_s']:>13,.0f} +-{j['spread']:>4.0%}  {j['of_memcpy']:>9.1%} {j['times_modelopt']:>10.1f}"
                 for j in (jobs[job] for job in JOBS))
        print(f"{row:<{wide}}" + "".join(cells))
    print()
    for t in r["targets"]:
        wanted = f"at least {t['at_least']:g}" if "at_least" in t else f"at most {t['at_most']:g}"
        print(f"{'met   ' if t['met'] else 'MISSED'}  {t['what']}: {t['is']:.2f} ({wanted})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the tensor, a multiple of 16")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of turns")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    args = parser.parse_args()
    if args.size < 16 or args.size % 16 or args.repeat < 1:
        parser.error("--size is a multiple of 16 and --repeat at least 1")
    warnings.filterwarnings("ignore")
    r = report(args.size, args.repeat)
    print(json.dumps(r, indent=1)) if args.json else show(r)


if __name__ == "__main__":
    main()
