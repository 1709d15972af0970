"""A checkpoint from a checkpoint by any recipe: the model in memory, ModelOpt calibrates and exports it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gb10 import machine
from gb10.errors import UserError
from gb10.quantize.cookbook import Recipe
from gb10.quantize.streaming.journal import empty, hidden, locked, put_in_place
from gb10.quantize.streaming.planning import refuse_quantized
from gb10.quantize.streaming.run import refuse_out
from gb10.quantize.streaming.source import Source, read_source

LIBRARIES = 2.5e9                      # bytes that Python with torch, transformers and ModelOpt takes
SHARD = 10e9                           # bytes that safetensors copies while it writes one file
KEEP_FREE = 8e9                        # bytes to leave on a machine that wedges when memory runs out
BITS_LEFT = 16
RANGES = "ranges.safetensors"


@dataclass(frozen=True)
class Needs:
    """What a run takes, in bytes; an estimate that errs upwards."""

    model: float
    out: float
    memory: float
    available: float
    keep_free: float

    @property
    def fits(self) -> bool:
        return self.memory + self.keep_free <= self.available


@dataclass(frozen=True)
class Made:
    folder: Path
    read_bytes: int
    written_bytes: int
    seconds: float
    batches: int
    resumed_batches: int


def needs(source: Source, recipe: Recipe, here: machine.Machine | None = None) -> Needs:
    """Memory and disk that quantizing this model takes: its weights, what is written of them, and the libraries."""
    here = here or machine.detect()
    linear = sum(t.bytes for t in source.tensors.values() if len(t.shape) == 2 and not _is_end(t.name))
    out = source.nbytes - linear * (1 - recipe.bits / BITS_LEFT)
    keep = KEEP_FREE if here.unified_memory else 0.0
    return Needs(source.nbytes, out, source.nbytes + min(out, SHARD) + LIBRARIES, here.memory_available_bytes, keep)


def refuse(source: Source, recipe: Recipe, out: Path, here: machine.Machine | None = None) -> Needs:
    """UserError for what has no checkpoint or is quantized already, and, with the figures, for what wouldn't fit."""
    refuse_quantized(source)
    if recipe.quant_algo is None:
        raise UserError(f"recipe {recipe.name} can be measured in a notebook, but ModelOpt has no checkpoint format for it: "
                        f"choose one that './course quantize --list' marks as a checkpoint.")
    found = needs(source, recipe, here)
    if not found.fits:
        spare = f", and {found.keep_free / 1e9:.0f} GB are left alone, since this machine wedges when memory runs out" \
            if found.keep_free else ""
        raise UserError(f"quantizing {source.folder.name} with recipe {recipe.name} takes about {found.memory / 1e9:.1f} GB of "
                        f"memory ({found.model / 1e9:.1f} GB of weights, {(found.memory - found.model) / 1e9:.1f} GB to "
                        f"write them and for the libraries); {found.available / 1e9:.1f} GB are available{spare}: stop "
                        f"other programs, or use --recipe w4a16, which needs less than 1 GB.")
    there = out.parent
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if found.out * 1.05 > free:
        raise UserError(f"{out} would take about {found.out / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free there: make "
                        f"room, or name a folder on another disk.")
    return found


def quantize_whole(model: str | Path, out: str | Path, recipe: Recipe, *, kv: str | None = None, text: str = "",
                   count: int = 128, length: int = 512, batch: int = 4, force: bool = False,
                   progress: Callable[[str, float, float], None] = lambda what, done, total: None) -> Made:
    """Load, calibrate on `count` samples of `length` tokens, export. The same call goes on after an interruption: with
    the calibration for recipes that only note the largest magnitudes, anew for those that search.

    progress(what, done, total): "load", "calibrate" in batches, "write". Raises UserError for a wrong request.
    """
    from gb10.quantize.calibration import Ranges, samples
    from gb10.quantize.quantizing import quantize
    from gb10.quantize.write import export

    started = time.perf_counter()
    source, out = read_source(model), Path(os.path.abspath(out))
    refuse_out(source.folder, out, force)
    refuse(source, recipe, out)
    tokenizer = _tokenizer(source.folder, required=recipe.calibrates)
    batches = samples(tokenizer, text, count, length, batch) if recipe.calibrates else []
    folder = hidden(out)
    lock = locked(folder)
    if lock is None:
        raise UserError(f"another run is writing {out}: wait for it, or name another folder.")
    try:
        progress("load", 0, 1)
        loaded = _load(source.folder)
        progress("load", 1, 1)
        identity = {"source": source.fingerprint, "recipe": recipe.name, "kv": kv}
        ranges = None
        if batches and recipe.algorithm == "max":
            ranges = Ranges(loaded, folder / RANGES, identity, batches)

        def seen(i: int) -> None:
            if ranges:
                ranges.after_batch(i)
            progress("calibrate", min((ranges.before if ranges else 0) + i, len(batches)), len(batches))

        quantize(loaded, ranges.left if ranges else batches, recipe=recipe, kv=kv, progress=seen)
        progress("write", 0, 1)
        empty(folder, keep=(RANGES,))
        export(loaded, tokenizer, folder / "checkpoint", keep=False)
        put_in_place(folder / "checkpoint", out)
        (folder / RANGES).unlink(missing_ok=True)
        progress("write", 1, 1)
    finally:
        if not (folder / RANGES).exists():           # nothing in it that a later run could use
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
    written = sum(f.stat().st_size for f in out.glob("*.safetensors"))
    return Made(out, source.nbytes, written, time.perf_counter() - started, len(batches), ranges.before if ranges else 0)


def _load(folder: Path):
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging as hf

        hf.disable_progress_bar()
        hf.set_verbosity_error()
        where = {"device_map": {"": 0}} if torch.cuda.is_available() else {}
        try:
            model, seen = AutoModelForCausalLM.from_pretrained(
                folder, dtype="auto", local_files_only=True, trust_remote_code=False, use_safetensors=True,
                output_loading_info=True, **where)
        except Exception as e:  # noqa: BLE001 - transformers raises whatever it likes
            raise UserError(f"transformers can't load {folder} ({' '.join(str(e).split())[:160] or type(e).__name__}); code "
                            f"that comes with a checkpoint isn't run.") from None
        missing = sorted(seen.get("missing_keys") or ())
        if missing:                              # transformers fills them with random numbers
            raise UserError(f"{folder} lacks {len(missing)} of the model's tensors, {missing[0]} for one: its download isn't "
                            f"finished, or it belongs to another config.json.")
        return model.eval()
    finally:
        logging.disable(before)


def _tokenizer(folder: Path, required: bool = False):
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as e:  # noqa: BLE001 - whatever transformers makes of tokenizer files that aren't there or whole
        if required:
            raise UserError(f"{folder} has no tokenizer that can be read ({' '.join(str(e).split())[:120]}), and calibration "
                            f"needs one: fetch its tokenizer files, or use --recipe w4a16, which sees no text.") from None
        return None


def _is_end(name: str) -> bool:
    return any(part in name for part in ("embed", "lm_head", "wte", "wpe", "embed_out"))

