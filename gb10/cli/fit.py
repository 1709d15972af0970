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
per token / bandwidth is a limit that nothing can beat. Real engines reach 0.6 to 0.86 of it; the rate shown is the
middle of what was measured, the band says how far off it may be. A context of N means N tokens in the cache of each
sequence: the memory holds them, and decode is stated with that many.
Exit code 0 with the answer, also when it is no; 2 when the question makes no sense.
"""


def add_arguments(parser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a catalogue name, a folder, a config.json, or org/name on the hub")
    parser.add_argument("--weights", metavar="FORMAT", help="bf16 fp8 nvfp4 nvfp4-w4a16 mxfp4 q4_k_m q8_0 gguf-mxfp4 (default: what "
                        "the model's own checkpoint is in)")
    parser.add_argument("--kv", metavar="FORMAT", help="KV cache: bf16 (default) fp8 q8_0 q4_0 nvfp4")
    parser.add_argument("--machine", default="gb10", metavar="NAME", help="gb10 (default), rtx-5090, b200, … or this, as measured")
    parser.add_argument("--context", type=int, metavar="N", help="tokens of each sequence (default: 1024)")
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="sequences at once (default: 1)")
    parser.add_argument("--engine", metavar="E", help="vllm trtllm sglang llama.cpp ollama (default: llama.cpp for GGUF, else vllm)")
    parser.add_argument("--bandwidth", type=float, metavar="GB/S", help="with --machine this: its memory bandwidth")
    parser.add_argument("--list", action="store_true", help="models, machines and formats of the catalogue")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def run(args) -> int:
    from gb10 import catalog, roofline
    from gb10.errors import UserError

    try:
        if args.list:
            print(_json(catalog) if args.json else "\n".join(listing(catalog)))
            return 0
        if args.model is None:
            raise UserError("which model? './course fit Qwen3-8B --weights nvfp4' for instance; './course fit --list' shows them.")
        if args.bandwidth is not None and args.machine not in ("this", "here", "local"):
            raise UserError("--bandwidth goes with --machine this: the other machines' is in the catalogue.")
        machine = catalog.machine(args.machine, args.bandwidth)
        model = catalog.model(args.model)
        answer = roofline.fit(model, weights=args.weights, kv=args.kv, machine=machine, context=args.context,
                              batch=args.batch, engine=args.engine)
    except ValueError as e:          # each says in one sentence what was wrong and what to do
        raise UserError(str(e)) from e
    if args.json:
        import json

        print(json.dumps(answer.to_dict()))
    else:
        print("\n".join(page(answer, machine, model, sys.stdout.isatty())))
    return 0


# ---------------------------------------------------------------- for people

def page(p, machine, model, colour: bool = False) -> list[str]:
    """The answer as lines: what it is, where the memory goes, how fast, one verdict."""
    gb, gib = 1e9, 2**30
    rows = [("weights", f"{p.weight_bytes / gb:.2f} GB", f"{model.params / 1e9:.2f} billion parameters in {p.weights}"),
            ("KV cache", f"{p.kv_bytes / gb:.2f} GB", f"{p.batch} x {p.context} tokens in {p.kv}"),
            ("engine", f"{p.overhead_bytes / gb:.2f} GB", "runtime, graphs, activations (an assumption)"),
            ("left", f"{p.left_bytes / gb:.2f} GB", f"of {p.available_bytes / gb:.1f} GB that programs can see; "
             + (f"{p.keep_free_bytes / gib:.1f} GiB belong to the system and headroom" if machine.unified
                else f"{p.keep_free_bytes / gib:.1f} GiB stay free")),
            ("read per token", f"{p.bytes_per_token / gb:.2f} GB", "weights that a token is multiplied with, and its KV cache"),
            ("decode", *_speed(p)),
            ("prefill", f"{p.prefill_tps:.0f} tok/s" if p.prefill_tps else "not known",
             (f"{p.prefill_tps_low:.0f} to {p.prefill_tps_high:.0f}" + (f"; {p.context} tokens take {p.ttft_s:.2g} s" if p.ttft_s
              else "")) if p.prefill_tps else "no measurement on such a machine is in the catalogue")]
    out = [f"{p.model} in {p.weights} on {machine.title}, {roofline_engine(p.engine)}, {p.batch} x {p.context} tokens", ""]
    out += [f"  {name:<15}{value:>13}   {note}" for name, value, note in rows]
    out += ["", "  " + bar(p), "", _verdict(p, machine, colour)]
    out += [f"  - {note}" for note in p.notes]
    return out


def roofline_engine(name: str) -> str:
    from gb10.roofline import ENGINES

    return ENGINES[name]


def _speed(p) -> tuple[str, str]:
    limit = f"nothing can beat {p.decode_tps_limit:.4g}"
    if p.decode_tps is None:
        return "no figure", limit
    together = f" together, {p.decode_tps / p.batch:.3g} each" if p.batch > 1 else ""
    return f"{p.decode_tps:.3g} tok/s", f"{p.decode_tps_low:.3g} to {p.decode_tps_high:.3g}{together}; {limit}"


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
    gib = 2**30
    spare = (p.left_bytes - p.keep_free_bytes) / gib
    most = (f"at most {p.largest_context} tokens with {p.batch} at once, or {p.largest_batch} at once of {p.context} tokens")
    if p.fits == "fits":
        said, shade = f"Fits, with {spare:.1f} GiB to spare: {most}.", "32"
    elif p.fits == "tight":
        said, shade = f"Tight: {-spare:.1f} GiB too little is left to {'the system' if machine.unified else 'the card'}; {most}.", "33"
    else:
        wedge = "starting it would wedge the machine" if machine.unified and p.left_bytes < p.keep_free_bytes else "it would not start"
        said, shade = f"Does not fit: {-spare:.1f} GiB over; {wedge}.", "31"
        if p.largest_context or p.largest_batch:
            said += f" What fits: {most}."
    return f"\033[{shade}m{said}\033[0m" if colour else said


def listing(catalog) -> list[str]:
    out = ["Models (any other: its folder, its config.json, or its name on the hub):"]
    for m in catalog.models().values():
        size = f"{m.params / 1e9:.2f} B" + (f", {m.params_read / 1e9:.1f} B read per token" if m.moe else "")
        out.append(f"  {m.name:<32}{size:<32}{' '.join(catalog.formats_of(m)) if m.formats else ''}".rstrip())
    out += ["", "Machines:"]
    out += [f"  {m.name:<22}{m.memory / 2**30:7.1f} GiB {m.bandwidth / 1e9:7.0f} GB/s   {m.title}" for m in catalog.machines().values()]
    out += ["  this                  the one at hand, with --bandwidth or as lesson 1 measured it", "", "Weight formats:"]
    out += [f"  {f.name:<14}{f.title}" for f in catalog.weight_formats().values()]
    out += ["", "KV cache formats:", "  " + " ".join(catalog.kv_formats())]
    return out


def _json(catalog) -> str:
    import json

    return json.dumps({"models": list(catalog.models()), "machines": list(catalog.machines()),
                       "weights": list(catalog.weight_formats()), "kv": list(catalog.kv_formats())})
