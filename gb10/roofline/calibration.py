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


@dataclass(frozen=True)
class Calibration:
    base: float                       # share of the peak bandwidth, before the effects below
    formats: dict[str, float]         # factor by how the weights are packed
    engines: dict[str, float]         # factor by engine
    moe: dict[str, float]             # factor for mixture-of-experts models, by engine
    fixed_ms: dict[str, float]        # per decode step, by engine: launches, sampling, the server's own work
    batch: dict[str, dict[str, float]]    # "dense" or "moe" -> {batch: factor}, llama.cpp
    band: float                       # half width in logarithms, of the stated band

    def efficiency(self, packing: str, engine: str, moe: bool) -> float:
        """Share of the peak bandwidth at which the bytes of a step are read, before the fixed time of a step."""
        e = self.base * self.formats[packing] * self.engines[engine] * (self.moe[engine] if moe else 1)
        return min(e, CEILING)

    def seconds(self, step_bytes: float, bandwidth: float, packing: str, engine: str, moe: bool) -> float:
        """Time of one decode step at batch 1."""
        return step_bytes / (self.efficiency(packing, engine, moe) * bandwidth) + self.fixed_ms[engine] / 1e3

    def half_width(self, batch: int) -> float:
        """Half the band, in logarithms: wider with more than one sequence, where fewer models were measured."""
        return self.band + (BATCH_DOUBT if batch > 1 else 0)

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
