"""Fit the decode constants to the published measurements that the course ships:  python -m gb10.roofline.calibrate

One decode step takes  t = bytes / (e x 273 GB/s) + t0 + layers x t1,  with  log e = base + effect of the format + effect
of the engine + what this engine does with this format, t0 a fixed time per step of each engine, and t1 one per layer
(kernel launches; more where experts are routed). Two dozen configurations can't carry a constant for every engine
and format, so all effects are pulled towards what is known beforehand (partial pooling): least squares with a normal
prior on each. Where this catalogue has no rows at all (vLLM, 16-bit weights) the prior is the answer, and the band has
to carry the doubt.

The priors say what was published about a wider set of GB10 measurements, most of which are deliberately not in this
repository (they are kept apart to check the predictor): median share of 273 GB/s by format Q4_K_M 0.70, Q8_0 0.74,
NVFP4 0.74, FP8 0.71, MXFP4 0.77, 16 bit 0.80 (large dense models in vLLM 0.84 and more); by engine llama.cpp 0.72, Ollama 0.71, vLLM 0.68, TensorRT-LLM 0.76;
all 0.72 (n = 42); mixture-of-experts in the lower half of it outside llama.cpp. Medians mix engines with formats, so
about half of each difference is taken as prior. 16-bit weights: the evidence is large dense models, so the factor is
used for dense models only.

Two factors can't be fitted well. TensorRT-LLM has no single-box row of a mixture of experts; NVIDIA's two-box row
(b0207) reaches 0.28 of its limit where dense models reach 0.76. The factor lies somewhere between that and 1; the
geometric middle is taken, and the band covers the whole way. Hybrids (state-space, linear attention) have one
configuration in GGUF, Nemotron-3-Super b0056 to b0060, whose bytes are known from the file's size only; it is fitted with
a prior of no effect and twice the residual.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass

from gb10 import catalog
from gb10.roofline.calibration import CEILING, FILE, Calibration, packing
from gb10.roofline.traffic import read_weights, step_bytes, weight_bytes

BANDWIDTH = 273e9
SHORT_PROMPT = 1024          # tokens assumed in the KV cache where the source doesn't say
# effect: (prior mean, prior standard deviation), of the logarithm; t0 in ms
BASE = (math.log(0.75), 0.10)
FORMATS = {"bf16": (0.12, 0.04), "fp8": (-0.01, 0.04), "nvfp4": (0.01, 0.04), "mxfp4": (0.03, 0.04),
           "q4": (-0.02, 0.04), "q8_0": (0.01, 0.04)}
ENGINES = {"llama.cpp": (0.0, 0.05), "ollama": (0.0, 0.05), "vllm": (-0.03, 0.03), "trtllm": (0.01, 0.03),
           "sglang": (0.0, 0.05)}
PAIR = 0.04                  # standard deviation of an engine's own way with one format
FIXED_MS = {"llama.cpp": (0.25, 0.4), "ollama": (0.35, 0.4), "vllm": (0.5, 0.4), "trtllm": (0.4, 0.4),
            "sglang": (0.5, 0.4)}
LAYER_US = (10.0, 10.0)      # about three kernels that can't overlap with their neighbours, 3 to 4 us each
MOE_US = (15.0, 15.0)        # on top: router, top k, gathering
TWO_BOXES = 0.28 / 0.76      # see above: the least that TensorRT-LLM's factor for experts can be
MOE = {"vllm": 0.94, "sglang": 1.0, "trtllm": round(math.sqrt(TWO_BOXES), 3), "llama.cpp": 1.0, "ollama": 1.0}   # not fitted
HYBRID = (0.0, 0.15)         # of the logarithm, GGUF engines; none for the others
DOUBT = {"moe": {"trtllm": round(-math.log(TWO_BOXES) / 2, 3), "vllm": 0.06, "sglang": 0.06},
         "hybrid": {"llama.cpp": 0.08, "ollama": 0.08, "vllm": 0.04, "sglang": 0.04, "trtllm": 0.08}}
RESIDUAL = 0.06              # what is left of one configuration's logarithm when all effects are known
BAND = 0.18                  # see validate.py: what leaving models and engines out leaves over, and the p90 of 16 %
#                              that one constant had on configurations it wasn't fitted to


@dataclass(frozen=True)
class Row:
    """One usable decode measurement with the bytes that its step reads."""

    id: str
    model: str
    engine: str
    weights: str
    moe: bool
    batch: int
    context: int
    bytes: float
    tps: float               # measured, sum over the batch
    naive: float             # bytes by the naive rule: quoted active parameters x nominal bits
    layers: int = 0
    hybrid: bool = False

    @property
    def config(self) -> tuple[str, str, str]:
        return self.model, self.weights, self.engine

    @property
    def seconds(self) -> float:
        """Measured time of one step."""
        return self.batch / self.tps


def left_out(m: catalog.Measurement) -> str:
    """Why a measurement is not used; "" if it is."""
    if m.machine_name != "gb10":
        return "another machine, or two of them"
    if not m.usable("decode_tps"):
        return m.reason or "no decode rate"
    if m.weights is None or m.engine_name not in ENGINES:
        return "what its file keeps in how many bits is not documented"
    if m.batch is None:
        return "at saturation"
    return ""


def context_of(m: catalog.Measurement) -> int:
    """Tokens in the cache, on average over the generated ones."""
    if m.depth is not None:
        return m.depth + (m.prompt or 0 if "batched" in m.engine else 0)
    return m.prompt + (m.output or 0) // 2 if m.prompt else SHORT_PROMPT


def rows() -> list[Row]:
    """All usable measurements."""
    return [row(m) for m in catalog.measurements() if not left_out(m)]


def row(m: catalog.Measurement) -> Row:
    """One measurement with the bytes that belong to it."""
    model, fmt = catalog.model(m.model, hub=False), catalog.weight_format(m.weights)
    return Row(m.id, model.name, m.engine_name, fmt.name, model.moe, m.batch, context_of(m),
               step_bytes(model, fmt, "bf16", context_of(m), m.batch), m.decode_tps,
               (m.params_active or model.params_quoted) * fmt.nominal_bits / 8, model.layers, model.hybrid)


def hybrid_rows() -> list[Row]:
    """Nemotron-3-Super as GGUF Q4_K, batch 1: the format's bytes scaled to the size of the file that was measured."""
    found = []
    for m in catalog.measurements():
        if m.model.startswith("Nemotron-3-Super") and m.machine_name == "gb10" and m.batch == 1 and m.usable("decode_tps") \
                and "llama-bench" in m.engine and m.weights_bytes:
            model, fmt = catalog.model(m.model, hub=False), catalog.weight_format("q4_k_m")
            scaled = read_weights(model, fmt) * m.weights_bytes / weight_bytes(model, fmt)
            moved = scaled + step_bytes(model, fmt, "bf16", context_of(m)) - read_weights(model, fmt)
            found.append(Row(m.id, model.name, m.engine_name, fmt.name, model.moe, 1, context_of(m), moved, m.decode_tps,
                             m.weights_bytes, model.layers, True))
    return found


def single(all_rows: list[Row]) -> list[Row]:
    """Batch 1, without the batched benchmark's own first rows."""
    return [r for r in all_rows if r.batch == 1]


def fit(train: list[Row]) -> Calibration:
    """Least squares with priors; every configuration (model, format, engine) counts once, however many its depths."""
    import numpy as np

    kinds = [(e, f) for e in ENGINES for f in FORMATS]
    names = ["base", *(f"f {f}" for f in FORMATS), *(f"e {e}" for e in ENGINES), *(f"t {e}" for e in ENGINES), "layer", "routed",
             "hybrid", *(f"p {e} {f}" for e, f in kinds)]
    at = {n: i for i, n in enumerate(names)}
    prior = np.array([BASE, *FORMATS.values(), *ENGINES.values(), *FIXED_MS.values(), LAYER_US, MOE_US, HYBRID,
                      *[(0.0, PAIR)] * len(kinds)])
    train = [*train, *hybrid_rows()] if not any(r.hybrid for r in train) else train
    count = Counter(r.config for r in train)

    def seconds(x, r):
        f = packing(r.weights)
        e = math.exp(x[0] + x[at[f"f {f}"]] + x[at[f"e {r.engine}"]] + x[at[f"p {r.engine} {f}"]] + (x[at["hybrid"]] if r.hybrid else 0))
        per_layer = max(x[at["layer"]], 0.0) + (max(x[at["routed"]], 0.0) if r.moe else 0.0)
        fixed = max(x[at[f"t {r.engine}"]], 0.0) / 1e3 + r.layers * per_layer / 1e6
        return r.bytes / (min(e * (MOE[r.engine] if r.moe else 1), CEILING) * BANDWIDTH) + fixed

    def residuals(x):
        out = [(x[i] - m) / sd for i, (m, sd) in enumerate(prior)]
        for r in train:
            doubt = RESIDUAL * (2 if r.hybrid else 1) * math.sqrt(count[r.config])
            out.append(math.log(seconds(x, r) / r.seconds) / doubt)
        return np.array(out)

    x = prior[:, 0].copy()
    for _ in range(12):                                      # Gauss-Newton; the problem is nearly linear
        r0 = residuals(x)
        jacobian = np.stack([(residuals(x + 1e-4 * step) - r0) / 1e-4 for step in np.eye(len(x))], axis=1)
        x = x - np.linalg.lstsq(jacobian, r0, rcond=None)[0]
    value = {n: float(x[i]) for n, i in at.items()}
    hybrid = round(math.exp(value["hybrid"]), 4)
    layer = max(value["layer"], 0.0)
    return Calibration(
        base=round(math.exp(value["base"]), 4), formats={f: round(math.exp(value[f"f {f}"]), 4) for f in FORMATS},
        engines={e: round(math.exp(value[f"e {e}"]), 4) for e in ENGINES},
        pairs={e: {f: round(math.exp(value[f"p {e} {f}"]), 4) for f in FORMATS} for e in ENGINES}, moe=dict(MOE),
        hybrid={e: hybrid if e in ("llama.cpp", "ollama") else 1.0 for e in ENGINES},
        fixed_ms={e: round(max(value[f"t {e}"], 0.0), 3) for e in ENGINES},
        layer_us={"dense": round(layer, 2), "moe": round(layer + max(value["routed"], 0.0), 2)},
        batch={"dense": {}, "moe": {}}, band=BAND, doubt=DOUBT)


def batch_factors(all_rows: list[Row], c: Calibration) -> dict[str, dict[str, float]]:
    """llama.cpp: measured over predicted at batch B relative to the same model at batch 1; geometric mean over models.
    Mixture of experts up to 4: beyond, correlated routing reads fewer experts than independent draws would."""
    def ratio(r):
        return c.seconds(r.bytes, BANDWIDTH, packing(r.weights), r.engine, r.moe, r.layers, r.hybrid) / r.seconds

    alone = defaultdict(list)
    for r in all_rows:
        if r.batch == 1 and r.engine == "llama.cpp":
            alone[r.model].append(math.log(ratio(r)))
    found = defaultdict(lambda: defaultdict(list))
    for r in all_rows:
        if r.batch > 1 and r.engine == "llama.cpp" and not (r.moe and r.batch > 4):
            own = sum(alone[r.model]) / len(alone[r.model])
            found["moe" if r.moe else "dense"][r.batch].append(math.log(ratio(r)) - own)
    return {kind: {str(b): round(math.exp(sum(v) / len(v)), 3) for b, v in sorted(by.items())}
            for kind, by in found.items()}


def calibrate() -> dict:
    """All constants as plain data: what calibration.json holds."""
    everything = rows()
    c = fit(single(everything))
    data = {k: getattr(c, k) for k in Calibration.__dataclass_fields__}
    data["batch"] = batch_factors(everything, c)
    used = single(everything)
    data["fitted_to"] = {"rows": len(used), "configurations": len({r.config for r in used})}
    return data


def main() -> int:
    text = json.dumps(calibrate(), indent=1) + "\n"
    FILE.write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
