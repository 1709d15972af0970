"""One question, one answer: does this model in this format fit on this machine, and how fast would it be?"""

from __future__ import annotations

from dataclasses import dataclass

from gb10.catalog import Machine, Model, kv_format, weight_format
from gb10.catalog import formats as catalog_formats
from gb10.catalog import machine as find_machine
from gb10.catalog import model as find_model
from gb10.roofline import engines, memory
from gb10.roofline.decode import decode
from gb10.roofline.prefill import prefill

BOOT_FREE = 102 * 2**30  # bytes; MiaAI-Lab/GLM-5.3-Flash-EXL3-2x-DGX-Sparks issue #47
CONTEXT = 1024           # tokens, where none is said: a short prompt and its answer


@dataclass(frozen=True)
class Fit:
    """The answer. Bytes, tokens per second (sum over the batch), and what to know about them."""

    model: str
    machine: str
    weights: str
    kv: str
    engine: str
    context: int
    batch: int
    weight_bytes: float
    kv_bytes: float
    overhead_bytes: float            # the engine itself: runtime, graphs, activations
    available_bytes: float           # what programs can see
    keep_free_bytes: float           # of which the system and some headroom want this
    left_bytes: float                # what remains; negative: over by that much
    fits: str                        # "fits", "tight" or "no"
    largest_context: int             # that fits at this batch
    largest_batch: int               # that fits at this context
    bytes_per_token: float           # read per generated token
    decode_tps: float | None         # None where no prediction can be defended: the notes say why
    decode_tps_low: float | None
    decode_tps_high: float | None
    decode_tps_limit: float          # at the peak bandwidth; nothing can be faster
    efficiency: float | None
    prefill_tps: float | None
    prefill_tps_low: float | None
    prefill_tps_high: float | None
    ttft_s: float | None             # prompt of the whole context, nothing cached, nobody else
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Can it be started without wedging the machine?"""
        return self.fits != "no"

    def to_dict(self) -> dict:
        """As ./course fit --json prints it: `fits` is a boolean there, `verdict` the word."""
        d = {k: getattr(self, k) for k in self.__dataclass_fields__}
        whole = ("weight_bytes", "kv_bytes", "overhead_bytes", "available_bytes", "keep_free_bytes", "left_bytes",
                 "bytes_per_token")
        return d | {k: round(d[k]) for k in whole} | {"fits": self.ok, "verdict": self.fits, "notes": list(self.notes)}


def _natural(value, what: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{what} {value!r} makes no sense: give a whole number, {least} or more.")
    if value > 10**9:
        raise ValueError(f"{what} {value} is beyond anything that exists: give a smaller number.")
    return value


def default_weights(model: Model) -> str:
    """What the model's own checkpoint is in; else the first format that it comes in."""
    if model.declared in catalog_formats.weight_formats():
        return model.declared
    if model.unread:
        raise ValueError(f"{model.name} is quantised as '{model.unread}', which this course can't read: name the format that "
                         "comes nearest with --weights (bf16 counts it as if it were not quantised).")
    return catalog_formats.formats_of(model)[0]


def fit(model: str | Model, weights: str | None = None, kv: str | None = None, machine: str | Machine = "gb10",
        context: int | None = None, batch: int = 1, engine: str | None = None) -> Fit:
    """Fit and speed of a model. Raises ValueError with one sentence for whatever can't be answered.

    weights: a format of catalog.weight_formats(), by default what the model comes in first. kv: bf16, fp8, q8_0, …
    context: tokens of each sequence. The memory holds them all; decode is stated with that many in the cache, and
    prefill for a prompt of that length. batch: sequences at once. engine: vllm, trtllm, llama.cpp, ollama or sglang.
    """
    m = find_model(model) if not isinstance(model, Model) else model
    hw = find_machine(machine) if not isinstance(machine, Machine) else machine
    asked = weight_format(weights if weights is not None else default_weights(m))
    catalog_formats.check(m, asked)
    name = engines.engine(engine) if engine is not None else engines.default_engine(asked, hw)
    fmt, notes = engines.settle(asked, name)
    cache = kv_format(kv if kv is not None else "bf16").name
    notes = [*engines.check(fmt, name, cache, hw), *notes]
    context = CONTEXT if context is None else _natural(context, "a context of", 0)
    batch = _natural(batch, "a batch of", 1)
    mem = memory.memory(m, fmt.name, cache, hw, context, batch, name)
    dec = decode(m, fmt, cache, hw, context, batch, name)
    pre = prefill(m, fmt, hw, context, name)
    return Fit(
        model=m.name, machine=hw.name, weights=asked.name, kv=cache, engine=name, context=context, batch=batch,
        weight_bytes=mem.weights, kv_bytes=mem.kv, overhead_bytes=mem.overhead, available_bytes=mem.available,
        keep_free_bytes=mem.keep_free, left_bytes=mem.left, fits=mem.verdict,
        largest_context=memory.largest_context(m, fmt.name, cache, hw, batch, name),
        largest_batch=memory.largest_batch(m, fmt.name, cache, hw, context, name),
        bytes_per_token=dec.bytes_per_token, decode_tps=dec.tps, decode_tps_low=dec.low, decode_tps_high=dec.high,
        decode_tps_limit=dec.limit, efficiency=dec.efficiency, prefill_tps=pre and pre.tps,
        prefill_tps_low=pre and pre.low, prefill_tps_high=pre and pre.high,
        ttft_s=context / pre.tps if pre and context else None,
        notes=(*notes, *_about(m, fmt, hw, context, mem, name), *dec.notes, *(pre.notes if pre else ())))


def _about(m: Model, fmt, hw: Machine, context: int, mem: memory.Memory, engine: str) -> list[str]:
    """What to know about this model, format and machine."""
    notes = list(m.notes)
    if m.doubtful:
        notes.append(f"shape of {m.name}: {m.doubtful}")
    if m.max_context and context > m.max_context:
        notes.append(f"{m.name} was made for {m.max_context} tokens at most")
    if m.hybrid:
        notes.append("hybrid: only its attention layers have a KV cache; the others carry a state of fixed size")
    if m.declared and fmt.name != m.declared and m.source and m.source.key in ("local", "hub"):
        notes.append(f"the config declares {m.declared}; counted as {fmt.name}")
    if hw.name == "gb10" and mem.verdict == "fits" and mem.needed > BOOT_FREE:
        notes.append("it fits only if the system holds no more than usual: one report finds 102 of 121.69 GiB free right "
                     "after boot")
    if hw.name == "gb10" and mem.verdict == "no" and mem.needed < 2 * (mem.available - mem.keep_free):
        notes.append("two linked Sparks could hold it; no constant is known for their speed (NVIDIA's 11.73 tok/s of "
                     "Qwen3-235B-A22B in NVFP4 is 0.28 of the limit of two)")
    if fmt.name == "mxfp4" and engine != "ollama":
        notes.append("what this engine reads per token of an MXFP4 checkpoint is not documented: published rates of SGLang lie "
                     "above what 16-bit attention and head would allow")
    if fmt.name.startswith("nvfp4") and hw.compute_capability in ("9.0", "8.9", "8.0"):
        notes.append(f"{hw.title} has no FP4 tensor cores: NVFP4 saves memory there, not arithmetic")
    return notes


def ridge(machine: str | Machine, fmt: str = "bf16") -> float:
    """FLOP per byte at which a machine's peak arithmetic and its memory take equally long. Raises ValueError where no
    source has the peak rate."""
    hw = find_machine(machine) if not isinstance(machine, Machine) else machine
    computes = fmt if hw.flops(fmt) else weight_format(fmt).computes
    flops = hw.flops(computes)
    if not flops:
        raise ValueError(f"no source has the dense {computes} rate of {hw.title}: its ridge is not known.")
    return flops / hw.bandwidth
