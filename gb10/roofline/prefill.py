"""How fast a prompt is read: effective FLOPS by engine and format, and the attention's own work on top.

    seconds per prompt token = 2 x active parameters / rate  +  attention FLOP to what went before / ATTENTION

`rate` is what published measurements on GB10 come to (prefill.json, with sources). One ATTENTION rate explains how
prefill slows down with depth in llama.cpp b7941 for eight models, latent attention and sliding windows included, to
3 % (43 to 64 TFLOPS, one by one).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gb10.catalog import Machine, Model, Source, WeightFormat
from gb10.catalog.source import source
from gb10.roofline import calibration
from gb10.roofline.memory import CHUNK

ATTENTION = 50e12        # FLOP/s of attention over the cache
PROMPT = 2048            # tokens; shorter prompts are not what the rates were measured with


@dataclass(frozen=True)
class Rate:
    """Effective rate of an engine with a format on GB10."""

    engine: str
    computes: str            # "any": whatever the format
    moe: bool
    tflops: float
    low: float
    high: float
    counts: str              # parameters counted: "active" without table and head, "all" with them
    source: Source
    what: str

    def flop_per_token(self, model: Model) -> float:
        return 2 * (model.params_active if self.counts == "active" else model.params_quoted)


@cache
def rates() -> tuple[Rate, ...]:
    rows = json.loads(Path(__file__).with_name("prefill.json").read_text(encoding="utf-8"))
    return tuple(Rate(**{**r, "source": source(r.get("source"), f"prefill rate of {r['engine']} {r['computes']}")})
                 for r in rows)


def _computes(fmt: WeightFormat) -> str:
    return {"gguf-mxfp4": "mxfp4", "nvfp4-w4a16": "nvfp4", "int4": "nvfp4"}.get(fmt.name, fmt.computes)


def rate(model: Model, fmt: WeightFormat, engine: str) -> tuple[Rate, bool]:
    """(the rate to use, was it measured with this engine and format?)."""
    kind, moe = _computes(fmt), model.moe
    if engine == "trtllm" and fmt.name == "nvfp4-w4a16":
        kind = "bf16"                                        # 16-bit arithmetic: the FP4 rate doesn't apply

    def pick(name: str) -> Rate | None:
        mine = [r for r in rates() if r.engine == name and r.moe == moe]
        return next((r for r in mine if r.computes == kind), next((r for r in mine if r.computes == "any"), None))

    found = pick(engine)
    if found:
        return found, True
    other = "llama.cpp" if engine == "ollama" else "vllm"
    found = pick(other) if other != engine else None
    if found:
        return found, False
    return next(r for r in rates() if r.engine == other and r.moe == moe), False


def seconds(model: Model, per_token: float, flops: float, prompt: int, depth: int = 0) -> float:
    """Time to read `prompt` tokens after `depth` that are in the cache already."""
    attended = 0.0                                           # tokens looked back at, summed over layers, at the middle
    middle = depth + prompt / 2
    for kept in model.caches:
        attended += kept.layers * (min(middle, kept.window) if kept.window else middle)
    return prompt * (per_token / flops + model.attention_flops * attended / ATTENTION)


@dataclass(frozen=True)
class Prefill:
    tps: float
    low: float
    high: float
    notes: tuple[str, ...]


def prefill(model: Model, fmt: WeightFormat, machine: Machine, prompt: int, engine: str, depth: int = 0) -> Prefill | None:
    """Prompt tokens per second for one prompt of this length, but at least of PROMPT; None on machines without such
    measurements."""
    if not machine.calibrated:
        return None
    r, measured = rate(model, fmt, engine)
    asked, prompt = prompt, max(prompt, PROMPT)              # as they were measured
    chunks = -(-prompt // CHUNK[engine])                     # each is a step with its fixed time, as in decode
    fixed = chunks * calibration.load().fixed_ms[engine] / 1e3
    tps = [prompt / (fixed + seconds(model, r.flop_per_token(model), x * 1e12, prompt, depth))
           for x in (r.tflops, r.low, r.high)]
    notes = []
    if not measured:
        notes.append(f"no prefill of {engine} with {fmt.name} was published: the rate of {r.engine} stands in")
    if asked < PROMPT / 2:
        notes.append(f"prefill rates were measured with prompts of {PROMPT} tokens or more: short ones are slower")
    return Prefill(*tps, tuple(notes))


def step_compute_seconds(model: Model, fmt: WeightFormat, machine: Machine, engine: str, batch: int) -> float | None:
    """Arithmetic of one decode step with this batch at the prefill rate; None on machines without such measurements."""
    if not machine.calibrated or engine in ("llama.cpp", "ollama"):      # theirs is in the measured batch factors
        return None
    r, _ = rate(model, fmt, engine)
    return batch * r.flop_per_token(model) / (r.high * 1e12)
