"""What one user got, held against what the memory allows: the roofline line of a report.

One user reads all active weights and the KV cache for each token, so no rate can be above bandwidth / bytes
per token (`gb10.roofline`, which also predicts what engines reach of it and how sure that is). At higher
concurrency a step serves many users and other things may bind: the line is for concurrency 1 only.
"""

from __future__ import annotations

import math
import os
import re

# What the names of checkpoints say about their weights, in the order in which it is looked for; None: as it
# stands there, for formats that the catalogue doesn't have.
_SAID = (
    (r"nvfp4[-_]?w4a16|nvfp4a16", "nvfp4-w4a16"), (r"nvfp4|fp4", "nvfp4"), (r"mxfp4", "mxfp4"),
    (r"fp8", "fp8"), (r"q4[-_]?k[-_]?m", "q4_k_m"), (r"q4[-_]?0", "q4_0"), (r"q6[-_]?k", "q6_k"),
    (r"q8[-_]?0", "q8_0"), (r"awq|gptq|int4|w4a16", "int4"), (r"bf16|fp16|f16", "bf16"),
    (r"i?q\d(?:[-_](?:k|\d|[sml]|xx?s|xl|nl))*|int8|w8a8|bnb|[2-8]bit", None),
)
_WORD = r"(?<![a-z0-9])(?:{})(?![a-z0-9])"
# What file names add to a model's name.
_TAIL = re.compile(r"(-\d{5}-of-\d{5})?\.(gguf|safetensors)\Z|[-_.:](ud|gguf|latest)(?=[-_.:]|\Z)",
                   re.IGNORECASE)
CACHED = 64e6            # bytes: so little may stay in a CPU's caches from token to token


def line(model: str, user_tps: float, context: float | None = None, *, weights: str | None = None,
         kv: str | None = None, machine: str | None = None, engine: str | None = None,
         bandwidth: float | None = None, here=None) -> dict:
    """The decode rate of one user (tokens/s: 1 / TPOT at concurrency 1) beside its limit and its prediction.

    model: as the server calls it: a name on the hub, a folder, Ollama's qwen3:8b, a GGUF file. context:
    tokens in the cache, in the middle of the answer. weights, kv: formats of the catalogue, where the name
    doesn't say. machine: where the server runs; None: here. engine: as the probe calls it. bandwidth: GB/s of
    machine "this", instead of what lesson 1 measured. here: a gb10.machine.Machine, if it is known already
    (finding out costs up to 5 s with a sick driver).

    {"text", "share", "limit_tps", "bytes_per_token", "predicted_tps", "low", "high", "inside_band",
    "machine", "model", "weights", "assumed", "engine", "notes"}; assumed: the weights' format was nowhere
    said. Where there is no such line: {"text": why, "share": None}.
    """
    try:
        return _line(model, user_tps, context, weights, kv, machine, engine, bandwidth, here)
    except ValueError as e:                    # of the catalogue or the roofline: one sentence each
        return {"text": f"no roofline: {e}", "share": None}


def _line(model, user_tps, context, weights, kv, machine, engine, bandwidth, here) -> dict:
    from gb10 import catalog, roofline

    if not (isinstance(user_tps, (int, float)) and 0 < user_tps < math.inf):
        raise ValueError("no rate of one user was measured: it takes concurrency 1 and answers of "
                         "several tokens.")
    name = _engine(engine)
    shape, said = find_model(str(model))
    if said and not weights and said not in catalog.weight_formats():
        raise ValueError(f"the weights of '{model}' are in {said}, which the catalogue doesn't know: name "
                         "the nearest format with --weights.")
    fmt = weights or said or _usual(shape, str(model), name)
    hw = _machine(machine, bandwidth, here)
    held = None if context is None else max(0, round(context))
    fit = roofline.fit(shape, weights=fmt, kv=kv, machine=hw, context=held, batch=1, engine=name)
    local = shape.source and shape.source.key == "local"      # its config says so, even where it says nothing
    assumed = not (weights or said or shape.declared or shape.formats or local)
    share = user_tps / fit.decode_tps_limit
    out = {"text": "", "share": share, "limit_tps": fit.decode_tps_limit,
           "bytes_per_token": fit.bytes_per_token, "predicted_tps": fit.decode_tps,
           "low": fit.decode_tps_low, "high": fit.decode_tps_high,
           "inside_band": fit.decode_tps_low <= user_tps <= fit.decode_tps_high, "machine": hw.name,
           "model": fit.model, "weights": fit.weights, "assumed": assumed, "engine": fit.engine,
           "notes": list(fit.notes)}
    out["text"] = _text(out, user_tps, hw.bandwidth)
    return out


def _text(r: dict, tps: float, bandwidth: float) -> str:
    allow = (f"the {_rate(r['limit_tps'])} tok/s that {bandwidth / 1e9:.0f} GB/s and "
             f"{_size(r['bytes_per_token'])} per token allow")
    taken = f" (weights taken for {r['weights']}: nothing says what they are in)" if r["assumed"] else ""
    if r["share"] > 1:
        causes = [f"weights in another format than {r['weights']}", f"another model than {r['model']}",
                  "speculative decoding"]
        if r["machine"] == "this":
            causes.append("a bandwidth that was measured too low")
            if r["bytes_per_token"] < CACHED:
                causes.append("a model so small that the CPU's caches hold it")
        first = ", ".join(causes[:-1])
        return (f"{_rate(tps)} tok/s is more than {allow}: something is not as assumed ({first} or "
                f"{causes[-1]}), and the comparison means nothing until it is found{taken}")
    text = (f"{_rate(tps)} tok/s = {_percent(r['share'])} of {allow}; predicted {_rate(r['predicted_tps'])} "
            f"({_rate(r['low'])} to {_rate(r['high'])})")
    if not r["inside_band"]:
        text += f", measured {'below' if tps < r['low'] else 'above'} that"
    return text + taken


def _rate(tps: float) -> str:
    return f"{tps:.0f}" if tps >= 9.95 else f"{tps:.1f}" if tps >= 0.95 else f"{tps:.2g}"


def _size(count: float) -> str:
    if count >= 0.95e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 9.95e6 else f"{count / 1e6:.1f} MB"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.2g} %"


def _engine(name: str | None) -> str | None:
    """The roofline's name of an engine ("TensorRT-LLM" -> "trtllm", "vLLM on the CPU" -> "vllm"); None if it
    has none."""
    from gb10.roofline.engines import engine

    for text in (name, (name or "").partition(" ")[0]):
        try:
            return engine(text)
        except ValueError:
            continue
    return None


# ------------------------------------------------------------ which model, in which format

def find_model(name: str):
    """(the catalogue's Model, the format that its name tells or None). Raises ValueError with a sentence."""
    from dataclasses import replace

    from gb10 import catalog, paths

    text = name.strip()
    said, bare = told(text)
    if bare.lower() == "pico" and not os.path.isdir(text):   # the model that comes with the course
        return replace(catalog.model(str(paths.PICO), hub=False), name="pico"), said
    unknown = None
    for candidate in dict.fromkeys((text, bare)):
        try:
            found = catalog.model(candidate, hub=False)
        except catalog.UnknownModel as e:
            unknown = unknown or e
            continue
        # A folder's config says what it is in; the name of a folder may say anything.
        return found, None if found.declared else said
    raise ValueError(f"'{text}' is no model of the catalogue: name it with --roofline-model, by its name "
                     "there ('./course fit --list'), its folder or its config.json.") from unknown


def told(name: str) -> tuple[str | None, str]:
    """(the format that a checkpoint's name tells, the name without it); the catalogue may not have that
    format.

    >>> told("hf.co/unsloth/Qwen3-8B-GGUF:Q4_K_M")
    ('q4_k_m', 'Qwen3-8B')
    """
    bare = name.strip().rstrip("/").replace("\\", "/").split("/")[-1]
    for pattern, fmt in _SAID:
        hit = re.search(_WORD.format(pattern), bare.lower())
        if hit:
            return fmt or hit[0], _without(bare[:hit.start()] + bare[hit.end():])
    return None, _without(bare)


def _without(bare: str) -> str:
    while (shorter := _TAIL.sub("", bare)) != bare:
        bare = shorter
    return re.sub(r"([-_.:])[-_.:]+", r"\1", bare).strip("-_.:")


def _usual(shape, name: str, engine: str | None) -> str | None:
    """The format where nobody says one: what Ollama pulls under a plain tag is q4_k_m; other engines load
    what the model was published in (None: `gb10.roofline.fit` knows)."""
    from gb10.catalog import formats_of

    if engine in ("ollama", "llama.cpp") and not shape.declared and "q4_k_m" in formats_of(shape):
        if engine == "llama.cpp":
            raise ValueError(f"llama.cpp does not say what '{name}' is quantised to: name it with "
                             "--weights, q4_k_m for instance.")
        return "q4_0" if name.lower().endswith("-qat") else "q4_k_m"
    return None


# ------------------------------------------------------------ on which machine

def _machine(name: str | None, bandwidth: float | None, here):
    """The catalogue's machine. Raises ValueError that says how to get one."""
    from gb10 import catalog

    wanted = (name or "").strip().lower()
    if wanted not in ("", "this", "here", "local"):
        return catalog.machine(wanted)
    if wanted:
        return _measured(bandwidth)
    if here is None:
        from gb10.machine import detect

        here = detect()
    if here.unified_memory:
        return catalog.machine("gb10")
    if here.gpus:                              # lesson 1 measures the CPU's memory, not the GPU's
        known = ", ".join(list(catalog.machines())[:6])
        raise ValueError(f"which machine of the catalogue has this {here.gpus[0].name} is not known: name "
                         f"it with --machine ({known}, …).")
    return _measured(bandwidth)


def _measured(bandwidth: float | None):
    from gb10.catalog import this_machine

    try:
        return this_machine(bandwidth)
    except ValueError as e:
        raise ValueError(f"{str(e).split(':')[0]}: run lesson 1's second notebook, which measures it, or "
                         "say with --machine where the server runs.") from e
