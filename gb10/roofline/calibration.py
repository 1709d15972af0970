"""The constants that predictions are made with, as fitted by calibrate.py and kept in calibration.json."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

FILE = Path(__file__).with_name("calibration.json")
BATCH_DOUBT = 0.08
CEILING = 0.86           # of the peak bandwidth: what GPU read benchmarks reach on GB10 (antirez/ds4 #773)
REACH = 0.90             # of the peak: where the band ends; large 16-bit models in vLLM were seen at 0.84 to 0.87, and a
#                          byte that was counted too many looks like speed


@dataclass(frozen=True)
class Calibration:
    base: float                       # share of the peak bandwidth, before the effects below
    formats: dict[str, float]         # factor by how the weights are packed
    engines: dict[str, float]         # factor by engine
    pairs: dict[str, dict[str, float]]    # engine -> {packing: factor}: what one engine does with one format
    moe: dict[str, float]             # factor for mixture-of-experts models, by engine
    hybrid: dict[str, float]          # factor for models with state-space or linear-attention layers, by engine
    fixed_ms: dict[str, float]        # per decode step, by engine: sampling, the server's own work
    layer_us: dict[str, float]        # per layer and step, "dense" and "moe": launches, routing
    batch: dict[str, dict[str, float]]    # "dense" or "moe" -> {batch: factor}, llama.cpp
    band: float                       # half width in logarithms, of the stated band
    doubt: dict[str, dict[str, float]]    # "moe" or "hybrid" -> {engine: what it adds to the half width}

    def efficiency(self, packing: str, engine: str, moe: bool, hybrid: bool = False) -> float:
        """Share of the peak bandwidth at which the bytes of a step are read, before the fixed time of a step. The factor
        of 16-bit weights is known of dense models only, and is not applied to others."""
        form = 1.0 if packing == "bf16" and moe else self.formats[packing]
        e = self.base * form * self.engines[engine] * self.pairs[engine][packing]
        e *= (self.moe[engine] if moe else 1) * (self.hybrid[engine] if hybrid else 1)
        return min(e, CEILING)

    def seconds(self, step_bytes: float, bandwidth: float, packing: str, engine: str, moe: bool, layers: int = 0,
                hybrid: bool = False) -> float:
        """Time of one decode step at batch 1."""
        fixed = self.fixed_ms[engine] / 1e3 + layers * self.layer_us["moe" if moe else "dense"] / 1e6
        return step_bytes / (self.efficiency(packing, engine, moe, hybrid) * bandwidth) + fixed

    def half_width(self, batch: int, engine: str = "llama.cpp", moe: bool = False, hybrid: bool = False) -> float:
        """Half the band, in logarithms: wider where fewer models, or none, were measured."""
        return (self.band + (BATCH_DOUBT if batch > 1 else 0) + (self.doubt["moe"].get(engine, 0.0) if moe else 0)
                + (self.doubt["hybrid"].get(engine, 0.0) if hybrid else 0))

    def batch_factor(self, batch: int, engine: str, moe: bool) -> float:
        """What remains of the efficiency at this batch; llama.cpp's kernels lose some, the servers' were seen not to."""
        if batch == 1 or engine not in ("llama.cpp", "ollama"):
            return 1.0
        known = sorted((int(b), f) for b, f in self.batch["moe" if moe else "dense"].items())
        known.insert(0, (1, 1.0))
        for (b0, f0), (b1, f1) in pairwise(known):
            if batch <= b1:
                at = math.log(batch / b0) / math.log(b1 / b0)
                return f0 ** (1 - at) * f1 ** at
        return known[-1][1]


def packing(weights: str) -> str:
    """The group of formats that a weight format is calibrated with."""
    return {"gguf-mxfp4": "mxfp4", "q4_k_m": "q4", "q4_0": "q4", "q6_k": "q4", "nvfp4-w4a16": "nvfp4", "int4": "nvfp4"}.get(weights, weights)


@cache
def load() -> Calibration:
    data = json.loads(FILE.read_text(encoding="utf-8"))
    return Calibration(**{k: data[k] for k in Calibration.__dataclass_fields__})
