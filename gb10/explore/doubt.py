"""Published claims held against what physics allows: decode against the memory, prefill against the arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from gb10 import catalog, roofline
from gb10.catalog import Measurement

CEILING = roofline.CEILING       # share of the peak bandwidth that GPU read benchmarks reach on GB10
PREFILL = 0.5                    # share of the peak arithmetic; our choice: the undisputed rows end at 0.35 (b0202, b0205)
# what the multiplications of a format can run in at best: integer dot products of GGUF files at the rate of FP8
RUNS_IN = {"q4": "fp8", "q8": "fp8", "mxfp4": "nvfp4"}
IMPOSSIBLE, DOUBTFUL, POSSIBLE = "impossible", "doubtful", "possible"


@dataclass(frozen=True)
class Claim:
    """A published rate and the most that the machine could do under the usual reading of the row's format."""

    id: str
    what: str                    # "decode" or "prefill"
    text: str                    # machine, model, format, engine, batch
    tps: float
    limit: float                 # tokens/s, sum over the batch
    marked: str                  # why the catalogue marks the row, "" where it doesn't
    source: catalog.Source

    @property
    def share(self) -> float:
        return self.tps / self.limit

    @property
    def verdict(self) -> str:
        """Impossible above the limit; doubtful above the share of it that anything was seen to reach."""
        if self.share > 1:
            return IMPOSSIBLE
        return DOUBTFUL if self.share > (CEILING if self.what == "decode" else PREFILL) else POSSIBLE


def _format(m: Measurement) -> str | None:
    return m.weights or ("int4" if m.format.upper().startswith("INT4") else None)


def _model(m: Measurement) -> catalog.Model | None:
    try:
        return catalog.model(m.model, hub=False)
    except ValueError:
        return None


def step_bytes(m: Measurement) -> float | None:
    """Bytes that each step of this measurement must read at the least; None where model or format are not known. For a
    mixture of experts those of one token: the sequences of a batch might all have chosen the same experts."""
    model, fmt = _model(m), _format(m)
    if model is None or fmt is None or m.batch is None:
        return None
    context = (m.depth or 0) if m.depth is not None else (m.prompt or 0) // m.batch
    return roofline.read_weights(model, fmt, 1) + roofline.kv_bytes(model, "fp8", context, m.batch)


def _peak(m: Measurement, hw: catalog.Machine) -> float | None:
    """FLOP/s of the fastest multiplication that this row's format can run in; of any, where that isn't known."""
    computes = catalog.weight_format(_format(m)).computes if _format(m) else ""
    known = hw.flops(RUNS_IN.get(computes, computes))
    return known or max(filter(None, (hw.flops(f) for f in ("nvfp4", "fp8", "bf16"))), default=None)


def claims() -> list[Claim]:
    """Every published row of a single machine of the catalogue that can be judged, decode and prefill apart, the boldest first."""
    out = []
    for m in catalog.measurements():
        name = m.machine_name
        if name is None and m.machine == "2x DGX Spark":
            name, boxes = "gb10", 2
        else:
            boxes = 1
        if name is None:
            continue
        hw, moved = catalog.machine(name), step_bytes(m)
        text = f"{m.machine}, {m.model}, {m.format}, {m.engine.split(' (')[0]}" + (f", {m.batch} at once" if (m.batch or 1) > 1 else "")
        if m.decode_tps and moved:
            out.append(Claim(m.id, "decode", text, m.decode_tps, boxes * m.batch * hw.bandwidth / moved, _mark(m, "decode_tps"), m.source))
        best = _peak(m, hw)
        if m.prefill_tps and best and _model(m):
            out.append(Claim(m.id, "prefill", text, m.prefill_tps, boxes * best / (2 * _model(m).params_active), _mark(m, "prefill_tps"),
                             m.source))
    return sorted(out, key=lambda c: -c.share)


def _mark(m: Measurement, column: str) -> str:
    return m.reason if column in m.spoils else ""
