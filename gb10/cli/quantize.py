"""./course quantize: a BF16 checkpoint in, a quantized one out."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

HELP = ("Quantize a checkpoint folder by a recipe. w4a16, the default, streams: no calibration, no model in memory, any "
        "size. The others load the model, look at some text, and export with ModelOpt.")
EXAMPLES = """\
  ./course quantize appendix/pico/model /tmp/pico-w4a16                     weights in NVFP4, as a stream
  ./course quantize ~/models/Qwen3-8B ~/models/Qwen3-8B-W4A16               16 GB in, 6 GB out, in seconds to minutes
  ./course quantize Qwen/Qwen3-8B ~/models/Qwen3-8B-NVFP4 --recipe nvfp4    from the Hugging Face cache; calibrated
  ./course quantize ~/models/Qwen3-14B out --recipe nvfp4 --calib 256 --calib-data chats.jsonl --kv fp8
  ./course quantize ~/models/Qwen3-14B out --recipe nvfp4 --dry-run         what it would take; nothing is written
  ./course quantize --list                                                  the recipes, and when to use which

Stopped by Ctrl-C, a kill or an empty battery? The same command goes on, or begins anew where it can't. OUT appears when
it is whole, never before; beside it lies .OUT.partial meanwhile. Then: ./course inspect OUT

Calibration text: --calib-data FILE, a text file or .jsonl with a "text" in each line; without it the course's own
(Python's documentation), which fits pico. For your model take text like that which it will see.
"""


def add_arguments(parser) -> None:
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help="folder of a checkpoint in safetensors, or org/name in the Hugging Face "
        "cache")
    add("out", nargs="?", metavar="OUT", help="folder to make")
    add("--recipe", default="w4a16", metavar="R", help="see --list (default: w4a16)")
    add("--kv", metavar="FORMAT", help="KV cache: none, fp8 or nvfp4 (default: the recipe's own)")
    add("--calib", type=int, default=64, metavar="N", help="samples to calibrate on (default: 64)")
    add("--calib-data", type=Path, metavar="FILE", help="text to take them from (default: the course's)")
    add("--calib-tokens", type=int, default=512, metavar="T", help="tokens in a sample (default: 512)")
    add("--batch", type=int, default=4, metavar="B", help="samples at a time (default: 4; less memory: 1)")
    add("--force", action="store_true", help="replace the checkpoint that OUT holds")
    add("--whole", action="store_true", help="w4a16 with the model in memory, by ModelOpt's own export")
    add("--threads", type=int, metavar="N", help="of the stream (default: one for each core)")
    add("--ray", nargs="?", const="auto", metavar="ADDRESS", help="spread the stream over the machines of a Ray cluster")
    add("--durable", action="store_true", help="stream: end only when the disk has everything")
    add("--dry-run", action="store_true", help="say what it would take, and write nothing")
    add("--list", action="store_true", help="the recipes")
    add("--json", action="store_true", help="print one line of JSON")


def run(args) -> int:
    from gb10.errors import UserError
    from gb10.quantize import cookbook

    if args.list:
        found = cookbook.recipes()
        print(json.dumps({name: _plain(r) for name, r in found.items()}) if args.json else listing(found))
        return 0
    if args.model is None or args.out is None:
        raise UserError("which model, and where to? './course quantize MODEL OUT' for instance; './course quantize --list' "
                        "shows the recipes.")
    recipe = cookbook.recipe(args.recipe)
    _refuse_numbers(args, recipe)
    model, out = find_model(args.model), Path(os.path.abspath(_expanded(args.out)))
    if _streams(args, recipe):
        from gb10.quantize.streaming.modelopt import NotStreamable

        try:
            return _stream(args, recipe, model, out)
        except NotStreamable as e:
            if args.ray:
                raise UserError(f"{e.message} Without --ray it is quantized in this machine's memory.") from None
            print(f"./course: not as a stream: {e.message} It is loaded instead.", file=sys.stderr)
    return _whole(args, recipe, model, out)


def _streams(args, recipe) -> bool:
    return recipe.name == "w4a16" and args.kv in (None, "none") and not args.whole


def _refuse_numbers(args, recipe) -> None:
    from gb10.errors import UserError
    from gb10.quantize.cookbook import KV

    for name, least in (("calib", 1), ("calib_tokens", 16), ("batch", 1), ("threads", 1)):
        value = getattr(args, name)
        if value is not None and not least <= value <= 1_000_000:
            raise UserError(f"--{name.replace('_', '-')} is a number from {least} up, not {value}.")
    if args.kv not in (None, *KV):
        raise UserError(f"--kv is one of {', '.join(KV)}, not {args.kv!r}.")
    for flag in ("ray", "threads", "durable"):
        if getattr(args, flag) and not _streams(args, recipe):
            raise UserError(f"--{flag} belongs to the stream, which is --recipe w4a16 without --kv or --whole.")


def _expanded(name: str) -> Path:
    from gb10.errors import UserError

    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise UserError(f"{name}: there is no such user on this machine.") from None


def find_model(name: str) -> Path:
    """A folder, or the snapshot of org/name in the Hugging Face cache."""
    from gb10.errors import UserError

    folder = _expanded(name)
    if folder.is_dir() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        return folder
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, local_files_only=True))
    except Exception:  # noqa: BLE001 - not there, or not whole, or no name of the hub at all
        raise UserError(f"{name} is neither a folder nor whole in the Hugging Face cache: fetch it with 'hf download {name}', "
                        f"or give the folder it lies in.") from None


def _stream(args, recipe, model: Path, out: Path) -> int:
    from gb10.quantize.progress import Line, memory
    from gb10.quantize.streaming.run import prepare, refuse_out, stream

    job = prepare(model)
    if args.dry_run:
        refuse_out(job.source.folder, out, args.force)
        return _say_plan(args, job)
    line = Line("quantizing", quiet=args.json)
    try:
        if args.ray:
            from gb10.quantize.streaming.cluster import stream_on_ray

            made = stream_on_ray(job, out, address=args.ray, force=args.force, progress=line.update, durable=args.durable)
        else:
            made = stream(job, out, force=args.force, threads=args.threads, progress=line.update, durable=args.durable)
    except KeyboardInterrupt:
        line.end()
        print("./course: stopped. What is done is kept: the same command goes on.", file=sys.stderr)
        return 130
    finally:
        line.end()
    found = {"out": str(made.folder), "recipe": recipe.name, "read_bytes": made.read_bytes,
             "written_bytes": made.written_bytes, "took_s": made.seconds, "bytes_per_s": made.rate,
             "resumed_bytes": made.resumed_bytes, "quantized": made.quantized, "kept": made.kept, "left": list(made.left),
             "zero": list(made.zero), "planned_by": job.plan.by, "peak_rss_bytes": memory()[1]}
    if args.json:
        print(json.dumps(found))
        return 0
    print(f"{made.folder}: {made.quantized} weights in NVFP4, {made.kept} tensors as they were; "
          f"{_size(made.read_bytes)} became {_size(made.written_bytes)} ({made.written_bytes / made.read_bytes:.0%})")
    gone_on = f", {_size(made.resumed_bytes)} of it by an earlier run" if made.resumed_bytes else ""
    print(f"in {made.seconds:.1f} s, {made.rate / 1e9:.2f} GB/s{gone_on}; memory at most {memory()[1] / 1e6:.0f} MB")
    if made.left:
        print(f"left out, as in ModelOpt's export: {', '.join(made.left[:3])}{' …' if len(made.left) > 3 else ''}")
    if made.zero:
        print(f"all zero, and stored as zeros: {', '.join(made.zero[:3])}{' …' if len(made.zero) > 3 else ''}")
    return 0


def _say_plan(args, job) -> int:
    found = {"recipe": "w4a16", "read_bytes": job.read_bytes, "written_bytes": job.layout.nbytes,
             "quantized": len(job.plan.quantized), "kept": len(job.plan.kept), "left": list(job.plan.left),
             "files": list(job.layout.sizes), "planned_by": job.plan.by}
    if args.json:
        print(json.dumps(found))
        return 0
    print(f"would read {_size(job.read_bytes)} and write {_size(job.layout.nbytes)} in {len(job.layout.sizes)} "
          f"file{'s' if len(job.layout.sizes) > 1 else ''}: {len(job.plan.quantized)} weights in NVFP4, "
          f"{len(job.plan.kept)} tensors as they are. Memory: below 1 GB.")
    return 0


def _whole(args, recipe, model: Path, out: Path) -> int:
    from gb10 import paths
    from gb10.quantize import whole
    from gb10.quantize.calibration import read_text
    from gb10.quantize.progress import Line, memory
    from gb10.quantize.streaming.run import refuse_out
    from gb10.quantize.streaming.source import read_source

    text = read_text(args.calib_data or paths.PICO.parent / "calibration.txt") if recipe.calibrates else ""
    if args.dry_run:
        source = read_source(model)
        refuse_out(source.folder, out, args.force)
        needs = whole.refuse(source, recipe, out)
        found = {"recipe": recipe.name, "read_bytes": needs.model, "written_bytes": needs.out,
                 "memory_bytes": needs.memory, "available_bytes": needs.available}
        print(json.dumps(found) if args.json else
              f"would load {_size(needs.model)} and write about {_size(needs.out)}; takes about "
              f"{needs.memory / 1e9:.1f} GB of memory of the {needs.available / 1e9:.1f} GB available.")
        return 0
    line = Line("calibrating", unit="batches", per_unit=1, quiet=args.json)
    says = {("load", 0): f"loading {model.name} …", ("write", 0): "writing …"}

    def progress(what: str, done: float, total: float) -> None:
        if (what, done) in says:
            line.say(says[what, done])
        if what == "calibrate":
            line.update(done, total)

    try:
        made = whole.quantize_whole(model, out, recipe, kv=args.kv, text=text, count=args.calib, length=args.calib_tokens,
                                    batch=args.batch, force=args.force, progress=progress)
    finally:
        line.end()
    found = {"out": str(made.folder), "recipe": recipe.name, "read_bytes": made.read_bytes,
             "written_bytes": made.written_bytes, "took_s": made.seconds, "batches": made.batches,
             "resumed_batches": made.resumed_batches, "quant_algo": recipe.quant_algo, "peak_rss_bytes": memory()[1]}
    if args.json:
        print(json.dumps(found))
        return 0
    seen = f", calibrated on {args.calib} samples of {args.calib_tokens} tokens" if made.batches else ""
    gone_on = f" ({made.resumed_batches} of {made.batches} batches by an earlier run)" if made.resumed_batches else ""
    print(f"{made.folder}: {recipe.title}{seen}{gone_on}; {_size(made.read_bytes)} became {_size(made.written_bytes)}")
    print(f"in {made.seconds:.1f} s; memory at most {memory()[1] / 1e9:.2f} GB")
    if not recipe.exports:
        print(f"vLLM's ModelOpt loader doesn't take {recipe.quant_algo}: other engines may.")
    return 0


def listing(recipes: dict) -> str:
    """The table of --list."""
    import shutil
    import textwrap

    width = max(40, min(shutil.get_terminal_size((100, 20)).columns, 100))
    lines = []
    for name, r in recipes.items():
        what = "streams, no data" if name == "w4a16" else "calibrates" if r.calibrates else "no data"
        loads = f"checkpoint {r.quant_algo}" if r.exports else "to measure only: no checkpoint that vLLM loads"
        lines.append(f"{name:<20}{r.title}; {r.bits:g} bits; {what}; {loads}")
        lines += textwrap.wrap(r.when, width - 4, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _plain(r) -> dict:
    from dataclasses import asdict

    return {k: v for k, v in asdict(r).items() if k not in ("add", "remove")} | {"exports": r.exports, "source": r.source}


def _size(n: float) -> str:
    return f"{n / 1e9:.2f} GB" if n >= 5e7 else f"{n / 1e6:.2f} MB"
