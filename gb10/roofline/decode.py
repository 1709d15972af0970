"""How fast text is generated: bytes of a step over the bandwidth that is really reached, with a band."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gb10.catalog import Machine, Model, WeightFormat
from gb10.roofline import calibration
from gb10.roofline.prefill import step_compute_seconds
from gb10.roofline.traffic import kv_bytes, read_weights, state_bytes, step_bytes

SMALL = 2e9              # parameters; below, launches and the server cost more than the bytes
MOE_BATCH = 4            # beyond, no bound on the experts touched holds (llama.cpp b7941: up to 1.67 x independent draws)
ELSEWHERE = 0.35         # half width of the band, in logarithms, on machines that the constants weren't fitted to


@dataclass(frozen=True)
class Decode:
    step_bytes: float              # of one step with the whole batch
    bytes_per_token: float         # per generated token
    tps: float | None              # sum over the batch; None where no prediction can be defended
    low: float | None
    high: float | None
    limit: float                   # what the memory allows at its peak: no rate can be above
    efficiency: float | None       # share of the peak bandwidth that `tps` means
    notes: tuple[str, ...]


def _least_bytes(model: Model, fmt: WeightFormat, kv: str, context: int, batch: int) -> float:
    """What a step must read in any case: with experts, those of one token (all sequences might choose the same)."""
    return read_weights(model, fmt, 1) + kv_bytes(model, kv, context, batch) + batch * state_bytes(model)


def decode(model: Model, fmt: WeightFormat, kv: str, machine: Machine, context: int, batch: int, engine: str) -> Decode:
    c, peak, notes = calibration.load(), machine.bandwidth, []
    if machine.name == "this":                  # its figure was measured: that is the ceiling already, not the peak
        peak /= calibration.CEILING
    moved = step_bytes(model, fmt, kv, context, batch)
    certain = moved if not model.moe or batch == 1 else _least_bytes(model, fmt, kv, context, batch)
    limit = batch * machine.bandwidth / certain
    if model.moe and batch > MOE_BATCH:
        notes.append(f"no decode rate for a mixture of experts above {MOE_BATCH} sequences: which experts a batch touches "
                     "can't be bounded (measured up to 1.67 x the rate that independent draws allow)")
        return Decode(moved, moved / batch, None, None, None, limit, None, tuple(notes))
    seconds = c.seconds(moved, peak, calibration.packing(fmt.name), engine, model.moe, model.layers, model.hybrid)
    seconds /= c.batch_factor(batch, engine, model.moe)
    if batch > 1:
        compute = step_compute_seconds(model, fmt, machine, engine, batch)
        if compute and compute > seconds:
            seconds = compute
            notes.append("at this batch the arithmetic takes longer than the memory")
    ceiling = calibration.CEILING * batch * peak / moved
    tps = min(batch / seconds, ceiling)
    half = c.half_width(batch, engine, model.moe, model.hybrid)
    half = half if machine.calibrated else max(half, ELSEWHERE)
    low, high = tps * math.exp(-half), min(tps * math.exp(half), ceiling * calibration.REACH / calibration.CEILING, limit)
    if model.moe and engine == "trtllm":
        notes.append("no rate of a mixture of experts on one machine with TensorRT-LLM is in the catalogue: the band is wide, "
                     "and its middle is no more than that")
    if model.hybrid and engine in ("llama.cpp", "ollama"):
        notes.append("hybrids as GGUF were measured slower than their bytes say; one model's rows stand for all of them, so "
                     "the band is wider")
    if model.params < SMALL:
        low *= 0.6
        notes.append("under 2 billion parameters: the fixed cost of a step outweighs the bytes, expect less than this")
    if not machine.calibrated:
        notes.append(f"decode on {machine.title} is not calibrated: the constants are those of GB10, the band is wider")
    return Decode(moved, moved / batch, tps, low, high, limit, tps * moved / batch / machine.bandwidth, tuple(notes))
