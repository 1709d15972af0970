"""Write the quantized model as a Hugging Face checkpoint: all of it or nothing."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import shutil
import warnings
from pathlib import Path

from gb10.errors import UserError, WorkFailed
from gb10.quantize.checkpoint import is_checkpoint
from gb10.quantize.quantizing import is_quantized


def export(model, tokenizer, folder: str | Path, *, keep: bool = True) -> Path:
    """Export a model that `quantize` has quantized, with tokenizer, chat template and generation_config.

    Written beside `folder` first and renamed when complete: an interruption leaves what was there before. An earlier
    checkpoint at `folder` is replaced; a folder that is something else is refused (UserError).
    keep: ModelOpt's export packs the model's weights and so uses the model up; with keep it works on a copy, which
    costs the model's size in memory once more. Returns the folder.
    """
    folder = Path(os.path.abspath(folder))
    _refuse(folder)
    if not is_quantized(model):
        raise UserError("this model is not quantized: call gb10.quantize.quantize(model, batches) first "
                        "(a model can be exported once if keep=False).")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    try:
        _write(copy.deepcopy(model) if keep else model, tokenizer, partial)
        if folder.exists():
            folder.rename(old)
        try:
            partial.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _refuse(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is not a folder: name a new one, or that of an earlier export.")
    if folder.is_dir() and any(folder.iterdir()) and not is_checkpoint(folder):
        raise UserError(f"{folder} is not empty and holds no checkpoint; it is left as it is: name another folder.")


def _write(model, tokenizer, folder: Path) -> None:
    from modelopt.torch.export import export_hf_checkpoint

    quiet = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        export_hf_checkpoint(model, export_dir=folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    _name_rope_theta(folder / "config.json")
    if not is_checkpoint(folder):
        raise WorkFailed(f"ModelOpt's export left no checkpoint in {folder}.")


def _name_rope_theta(path: Path) -> None:
    """Repeat rope_theta at the top level, where loaders older than transformers 5 look for it."""
    config = json.loads(path.read_text())
    theta = (config.get("rope_parameters") or {}).get("rope_theta")
    if theta is not None and "rope_theta" not in config:
        config["rope_theta"] = theta
        path.write_text(json.dumps(config, indent=2) + "\n")
