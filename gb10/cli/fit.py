"""./course fit: does a model fit on a machine, how fast would it be, and how sure is that?"""

from __future__ import annotations

import sys

HELP = ("Does a model fit, and how fast would it be? Weights by what each tensor really is, KV cache, the engine's own "
        "memory; decode from the bytes read per token, prefill from measured rates; every speed with a band.")
EXAMPLES = """\
  ./course fit Qwen3-8B                                          in 16 bit, on a Spark
  ./course fit Qwen3-8B --weights nvfp4                          the same in NVFP4: a third of the bytes
  ./course fit Llama-3.3-70B --weights nvfp4 --context 32768 --kv fp8
  ./course fit gpt-oss-120b --weights gguf-mxfp4 --engine llama.cpp --batch 4
  ./course fit Qwen3-32B --machine rtx-5090 --weights nvfp4      does a card of 32 GB hold it?
  ./course fit path/to/model                                     a folder with a config.json, or the file itself
  ./course fit mistralai/Mistral-Small-24B-Instruct-2501         from the hub: only its config.json is fetched
  ./course fit Qwen3-8B --weights nvfp4 --json                   for a script
  ./course fit --list                                            models, machines, formats

How to read it. One generated token reads all weights that it is multiplied with, and its own KV cache: bytes read
per token / bandwidth is a limit that nothing can beat with these bytes (some builds quantise attention and head too,
and read less). Real engines reach 0.6 to 0.86 of it; the rate shown is the
middle of what was measured, the band says how far off it may be. A context of N means N tokens in the cache of each
sequence: the memory holds them, and decode is stated with that many.
Exit code 0 with the answer, also when it is no; 2 when the question makes no sense.
"""


def add_arguments(parser) -> None:
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help="a catalogue name, a folder, a config.json, or org/name on the hub")
    add("--weights", metavar="FORMAT", help="bf16 fp8 nvfp4 nvfp4-w4a16 mxfp4 q4_k_m q8_0 gguf-mxfp4 (default: what the "
        "model's own checkpoint is in)")
    add("--kv", metavar="FORMAT", help="KV cache: bf16 (default) fp8 q8_0 q4_0 nvfp4")
    add("--machine", default="gb10", metavar="NAME", help="gb10 (default), rtx-5090, b200, … or this, as measured")
    add("--context", type=int, metavar="N", help="tokens of each sequence (default: 1024)")
    add("--batch", type=int, default=1, metavar="B", help="sequences at once (default: 1)")
    add("--engine", metavar="E", help="vllm trtllm sglang llama.cpp ollama (default: llama.cpp for GGUF, else vllm)")
    add("--bandwidth", type=float, metavar="GB/S", help="with --machine this: its memory bandwidth")
    add("--list", action="store_true", help="models, machines and formats of the catalogue")
    add("--json", action="store_true", help="print one line of JSON")


def run(args) -> int:
    from gb10 import catalog, roofline
    from gb10.errors import UserError

    try:
        if args.list:
            print(_json(catalog) if args.json else "\n".join(listing(catalog)))
            return 0
        if args.model is None:
            raise UserError("which model? './course fit Qwen3-8B --weights nvfp4' for instance; './course fit --list' "
                            "shows them.")
        if args.bandwidth is not None and args.machine not in ("this", "here", "local"):
            raise UserError("--bandwidth goes with --machine this: that of the others is in the catalogue.")
        machine = catalog.machine(args.machine, args.bandwidth)
        model = catalog.model(args.model)
        answer = roofline.fit(model, weights=args.weights, kv=args.kv, machine=machine, context=args.context,
                              batch=args.batch, engine=args.engine)
    except ValueError as e:          # each says in one sentence what was wrong and what to do
        raise UserError(" ".join(str(e).split())) from e
    if args.json:
        import json

        print(json.dumps(answer.to_dict()))
    else:
        print("\n".join(page(answer, machine, model, sys.stdout.isatty())))
    return 0


# ---------------------------------------------------------------- for people

GB, GIB = 1e9, 2**30


def _size(n: float) -> str:
    return f"{n / GB:.2f} GB" if abs(n) >= 0.05 * GB else f"{n / 1e6:.1f} MB"


def _count(n: int) -> str:
    return f"{n / 1e9:.2f} billion" if n >= 1e8 else f"{n / 1e6:.2f} million"


def _n(x: float) -> str:
    """Three figures, never as a power of ten."""
    return f"{x:.0f}" if x >= 100 else f"{x:.3g}"


def page(p, machine, model, colour: bool = False) -> list[str]:
    """The answer as lines: what it is, where the memory goes, how fast, one verdict, what to know."""
    from gb10.roofline import ENGINES

    keeps = f"{p.keep_free_bytes / GIB:.1f} GiB "
    keeps += "belong to the system and headroom" if machine.unified else "stay free"
    rows = [
        ("weights", _size(p.weight_bytes), f"{_count(model.params)} parameters in {p.weights}"),
        ("KV cache", _size(p.kv_bytes), f"{p.batch} x {p.context} tokens in {p.kv}"),
        ("engine", _size(p.overhead_bytes), "runtime, graphs, activations (an assumption)"),
        ("left", _size(p.left_bytes), f"of {p.available_bytes / GB:.1f} GB that programs can see; {keeps}"),
        ("read per token", _size(p.bytes_per_token), "weights that a token is multiplied with, and its KV cache"),
        ("decode", *_decode(p)),
        ("prefill", *_prefill(p)),
    ]
    out = [f"{p.model} in {p.weights} on {machine.title}, {ENGINES[p.engine]}, {p.batch} x {p.context} tokens", ""]
    out += [f"  {name:<15}{value:>13}   {note}" for name, value, note in rows]
    out += ["", "  " + bar(p), "", _verdict(p, machine, colour)]
    for note in p.notes:
        out += _wrapped(note)
    return out


def _wrapped(note: str, width: int = 110) -> list[str]:
    from textwrap import wrap

    return wrap(note, width, initial_indent="  - ", subsequent_indent="    ")


def _decode(p) -> tuple[str, str]:
    limit = f"with these bytes nothing can beat {_n(p.decode_tps_limit)}"
    if p.decode_tps is None:
        return "no figure", limit
    each = f" together, {_n(p.decode_tps / p.batch)} each" if p.batch > 1 else ""
    return f"{_n(p.decode_tps)} tok/s", f"{_n(p.decode_tps_low)} to {_n(p.decode_tps_high)}{each}; {limit}"


def _prefill(p) -> tuple[str, str]:
    if p.prefill_tps is None:
        return "not known", "no measurement on such a machine is in the catalogue"
    whole = f"; {p.context} tokens take {_n(p.ttft_s)} s" if p.ttft_s else ""
    return f"{_n(p.prefill_tps)} tok/s", f"{_n(p.prefill_tps_low)} to {_n(p.prefill_tps_high)}{whole}"


def bar(p, width: int = 60) -> str:
    """Where the memory goes, as text: W weights, K KV cache, E engine, s system and headroom, . free, ! over."""
    parts = (("W", p.weight_bytes), ("K", p.kv_bytes), ("E", p.overhead_bytes))
    scale = width / max(p.available_bytes, p.available_bytes - p.left_bytes)
    total, text = 0.0, ""
    for letter, size in parts:
        total += size
        text += letter * (round(total * scale) - len(text))
    edge = round(p.available_bytes * scale)
    if len(text) > edge:
        return f"[{text[:edge]}|{'!' * (len(text) - edge)}  W weights, K KV cache, E engine, ! over"
    keep = min(round(p.keep_free_bytes * scale), edge - len(text))
    text += "." * (edge - len(text) - keep) + "s" * keep
    return f"[{text}]  W weights, K KV cache, E engine, . free, s system and headroom"


def _verdict(p, machine, colour: bool) -> str:
    spare = (p.left_bytes - p.keep_free_bytes) / GIB
    most = f"at most {p.largest_context} tokens with {p.batch} at once, or {p.largest_batch} at once of {p.context} tokens"
    if p.fits == "fits":
        said, shade = f"Fits, with {spare:.1f} GiB to spare: {most}.", "32"
    elif p.fits == "tight":
        whom = "the system" if machine.unified else "the card"
        said, shade = f"Tight: {-spare:.1f} GiB too little is left to {whom}. What fits: {most}.", "33"
    else:
        end = "starting it would wedge the machine" if machine.unified else "it would not start"
        said, shade = f"Does not fit: {-spare:.1f} GiB over; {end}.", "31"
        if p.largest_context or p.largest_batch:
            said += f" What fits: {most}."
    return f"\033[{shade}m{said}\033[0m" if colour else said


def listing(catalog) -> list[str]:
    out = ["Models (any other: its folder, its config.json, or its name on the hub):"]
    for m in catalog.models().values():
        size = f"{m.params / 1e9:.2f} B" + (f", {m.params_read / 1e9:.1f} B read per token" if m.moe else "")
        out.append(f"  {m.name:<32}{size:<32}{' '.join(catalog.formats_of(m)) if m.formats else ''}".rstrip())
    out += ["", "Machines:"]
    out += [f"  {m.name:<22}{m.memory / GIB:7.1f} GiB {m.bandwidth / GB:7.0f} GB/s   {m.title}"
            for m in catalog.machines().values()]
    out += ["  this                  the one at hand, with --bandwidth or as lesson 1 measured it", "", "Weight formats:"]
    out += [f"  {f.name:<14}{f.title}" for f in catalog.weight_formats().values()]
    out += ["", "KV cache formats:", "  " + " ".join(catalog.kv_formats())]
    return out


def _json(catalog) -> str:
    import json

    return json.dumps({"models": list(catalog.models()), "machines": list(catalog.machines()),
                       "weights": list(catalog.weight_formats()), "kv": list(catalog.kv_formats())})
