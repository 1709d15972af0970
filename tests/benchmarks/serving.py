"""How fast does vLLM serve NVFP4 on a CPU, beside the BF16 model that it was made from? Prints one table.

    python tests/benchmarks/serving.py [--rounds 3] [--dtype bfloat16] [--without emulation] [--json]

The shipped model four times, each server started as the course starts it: as it is (BF16), as NVFP4 with 4-bit activations
(W4A4) on the course's kernel, the same on vLLM's emulation, and as NVFP4 with the weights alone (W4A16). All are up at
once, and one at a time is measured by the course's benchmark (gb10.bench): output tokens per second in the steady window,
with cold prompts of some 200 tokens and answers of 64. They take turns, and every round begins with another one.

Shown is the median of the rounds, and of each round's ratio to BF16 the median too. "CPU" is what the server's processes
used for each answered token, reading the prompts included: on a machine that is busy otherwise it wavers less than the
clock. Figures of different runs or machines don't compare; the ratios within one do.

--dtype: what both compute in; without it float32, as the course chooses for a model so small (gb10/engines/vllm_cpu.py).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("GB10_STATE", tempfile.mkdtemp(prefix="gb10-serving-"))     # not among the learner's own runs

import psutil
from codec import machine

from gb10 import bench, engines, quantize
from gb10.paths import PICO

BF16, OURS, EMULATION, W4A16 = "BF16", "W4A4", "W4A4, vLLM's emulation", "W4A16"
SHORT = {"bf16": BF16, "w4a4": OURS, "emulation": EMULATION, "w4a16": W4A16}
STREAMS = (1, 8)
AT_LEAST = 0.5                    # of BF16's tokens per second, from the course's own requirements
TOKENS = 64


def checkpoints(folder: Path) -> dict[str, Path]:
    """The shipped model in the formats that are served, made as the lessons make them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    net = AutoModelForCausalLM.from_pretrained(PICO, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(PICO)
    text = (PICO.parent / "calibration.txt").read_text(encoding="utf-8")[:60_000]
    quantize.quantize(net, quantize.calibration_batches(tokenizer, text, tokens=2048))
    quantize.export(net, tokenizer, folder / "w4a4")
    return {BF16: PICO, OURS: folder / "w4a4", EMULATION: folder / "w4a4",
            W4A16: quantize.stream(PICO, folder / "w4a16").folder}


def start(row: str, folder: Path, dtype: str | None) -> engines.Server:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    os.environ["GB10_NVFP4_KERNEL"] = "emulation" if row == EMULATION else ""
    try:
        server = engines.start(folder, engine="vllm", port=port, name=row.split(",")[0].lower(), dtype=dtype, quiet=True, timeout=600)
    finally:
        del os.environ["GB10_NVFP4_KERNEL"]
    kernel = "EmulationNvFp4LinearKernel" if row == EMULATION else "DecodedNvFp4LinearKernel"
    if row != BF16 and f"Using {kernel} " not in server.log.read_text():
        raise SystemExit(f"{row} is not served by {kernel}: see {server.log}")
    return server


def cpu_seconds(server: engines.Server) -> float:
    first = psutil.Process(server.pid)
    times = [p.cpu_times() for p in (first, *first.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def turn(server: engines.Server, streams: int) -> dict[str, float]:
    before = cpu_seconds(server)
    row = bench.measure(server.url, concurrency=streams, requests=max(3, 2 * streams), max_tokens=TOKENS, warmup=1).rows[0]
    if row["errors"]:
        raise SystemExit(f"{server.model} answered with errors: {row['error_examples']}")
    answered = row["output_tokens"] + TOKENS                       # the warm-up's too
    return {"tokens_s": row["system_tps"], "cpu_ms": 1000 * (cpu_seconds(server) - before) / answered,
            "ttft_ms": row["ttft_ms"]["p50"]}


def report(rounds: int, dtype: str | None, without: list[str]) -> dict:
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {row: stack.enter_context(start(row, path, dtype)) for row, path in checkpoints(Path(folder)).items()
                   if row not in without}
        turns = {(row, n): [] for row in servers for n in STREAMS}
        names = list(servers)
        for i in range(rounds):
            for n in STREAMS:
                for row in names[i % len(names):] + names[:i % len(names)]:
                    turns[row, n].append(turn(servers[row], n))
                    print(f"round {i + 1} of {rounds}, {n} at once, {row}: {turns[row, n][-1]['tokens_s']:.0f} tokens/s, "
                          f"{turns[row, n][-1]['cpu_ms']:.2f} ms of CPU per token", file=sys.stderr, flush=True)
    rows = {}
    for (row, n), found in turns.items():
        cell = {name: statistics.median(t[name] for t in found) for name in found[0]}
        cell["rounds"] = [round(t["tokens_s"], 1) for t in found]
        cell["of_bf16"] = statistics.median(t["tokens_s"] / b["tokens_s"] for t, b in zip(found, turns[BF16, n], strict=True))
        cell["cpu_of_bf16"] = statistics.median(t["cpu_ms"] / b["cpu_ms"] for t, b in zip(found, turns[BF16, n], strict=True))
        rows.setdefault(row, {})[n] = cell
    targets = [{"what": f"{OURS} against {BF16}, tokens/s at {n} at once", "at_least": AT_LEAST, "is": rows[OURS][n]["of_bf16"],
                "met": rows[OURS][n]["of_bf16"] >= AT_LEAST} for n in STREAMS]
    return {"machine": machine(), "load_before": load, "dtype": dtype or "as the course chooses", "rounds": rounds, "rows": rows,
            "targets": targets}


def show(r: dict) -> None:
    print(f"{r['machine']}; load {r['load_before']:.1f} before the start\npico, computed in: {r['dtype']}; {r['rounds']} rounds\n")
    print(" " * 24 + "".join(f"{f'{n} at once, tokens/s':>25} {'of BF16':>8} {'CPU, ms/token':>14} {'TTFT, ms':>9}" for n in STREAMS))
    for row, cells in r["rows"].items():
        print(f"{row:<24}" + "".join(
            f"{c['tokens_s']:>10.0f} ({min(c['rounds']):>4.0f} to {max(c['rounds']):>4.0f}) {c['of_bf16']:>8.0%} "
            f"{c['cpu_ms']:>7.2f} {c['cpu_of_bf16']:>5.2f}x {c['ttft_ms']:>9.0f}" for c in cells.values()))
    print()
    for t in r["targets"]:
        print(f"{'PASS  ' if t['met'] else 'MISSED'}  {t['what']}: {t['is']:.0%} (at least {t['at_least']:.0%})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="what all of them compute in")
    parser.add_argument("--without", action="append", default=[], choices=("emulation", "w4a16"), help="leave one out")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds is at least 1")
    r = report(args.rounds, args.dtype, [SHORT[name] for name in args.without])
    print(json.dumps(r, indent=1)) if args.json else show(r)
    return 0 if all(t["met"] for t in r["targets"]) else 1


if __name__ == "__main__":
    sys.exit(main())
