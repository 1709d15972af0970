"""Which checkpoint an engine is given: from a name of the catalogue, a name on the hub, or a folder."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from gb10 import catalog
from gb10.catalog import checkpoints, formats
from gb10.engines.containers.spec import Spec
from gb10.errors import UserError
from gb10.paths import STATE
from gb10.roofline import engines as roofline_engines
from gb10.roofline.predict import default_weights

DEFAULT = "Qwen3-8B"
MOUNT = "/models"       # the course's own store, inside a container
_RECIPE = {"nvfp4-w4a16": "", "nvfp4": " --recipe nvfp4", "fp8": " --recipe fp8"}


@dataclass(frozen=True)
class Chosen:
    model: catalog.Model
    weights: str            # a format of the catalogue
    given: str              # what the engine is told: a hub name, /models/FOLDER, an Ollama tag, a NIM's image
    name: str               # what requests call it
    store: Path | None = None       # the folder on this machine that is mounted as /models, if that isn't the course's own
    folder: Path | None = None      # the checkpoint on this machine; None: fetched from the hub
    notes: tuple[str, ...] = ()
    asked: str = ""         # as the reader named it


def choose(spec: Spec, model: str | None, weights: str | None, name: str | None, local: bool) -> Chosen:
    """local: may look at what is on this machine's disk. Raises UserError."""
    text = str(model or (next(iter(checkpoints.nims())) if spec.name == "nim" else DEFAULT))
    try:
        found = catalog.model(text)
        fmt = _weights(spec, found, text, weights)
        formats.check(found, catalog.weight_format(fmt))
        checked = roofline_engines.settle(catalog.weight_format(fmt), spec.counts_as)[0]
        if checked.file == "gguf" and spec.name != "ollama":
            raise UserError(f"{spec.title} is not started with GGUF files here: take nvfp4, fp8 or bf16, or ./course up ollama.")
    except ValueError as e:
        raise UserError(str(e)) from None
    chosen = {"ollama": _ollama, "nim": _nim}.get(spec.name, _hub)(spec, found, text, fmt, local)
    return replace(chosen, name=_named(name) or chosen.name, asked=text)


def _weights(spec: Spec, model: catalog.Model, text: str, asked: str | None) -> str:
    """Asked for; said by the name or the folder; else the smallest that is listed for this engine."""
    if asked:
        return catalog.weight_format(asked).name
    if spec.name == "ollama":
        return "mxfp4" if "mxfp4" in model.formats else "q4_k_m"
    if spec.name == "nim":
        return next(iter(checkpoints.nims().values())).format
    if model.declared or "/" in text:
        return default_weights(model)
    return next(iter(checkpoints.formats(model.name, spec.name)), None) or default_weights(model)


def _hub(spec: Spec, model: catalog.Model, text: str, fmt: str, local: bool) -> Chosen:
    path = Path(text).expanduser()
    if path.is_dir() or text.endswith(".json"):
        folder = (path if path.is_dir() else path.parent).resolve()
        return Chosen(model, fmt, f"{MOUNT}/{folder.name}", folder.name, folder.parent, folder)
    notes: tuple[str, ...] = ()
    if "/" in text:
        repo = text
    elif not _is_itself(text, model):
        note = (f"{text} has the shape of {model.name} and is another model, whose place on the hub the course doesn't know: give it as "
                f"owner/name")
        return Chosen(model, fmt, f"{MOUNT}/{text}", text, None, STATE / "models" / text, (note,))
    else:
        known = checkpoints.checkpoint(model.name, fmt, spec.name)
        repo = known.repo if known else None
        if known and known.engines and spec.name not in known.engines:
            notes = (f"{repo} is on NVIDIA's list for {' and '.join(known.engines)}, not for {spec.name}",)
    if repo is None:
        return _of_ones_own(spec, model, fmt)
    short = repo.split("/")[-1]
    if local and (folder := _stored(repo)):
        return Chosen(model, fmt, f"{MOUNT}/{folder.name}", short, None, folder, notes)
    return Chosen(model, fmt, repo, short, notes=notes)


def _is_itself(text: str, model: catalog.Model) -> bool:
    """Does the name mean this very model (with a format behind it, perhaps), or another tuning of the same shape?"""
    rest = text.lower().removeprefix(model.name.lower())
    return rest != text.lower() and rest.strip("-") in ("", "nvfp4", "fp4", "fp8", "bf16", "w4a16", "mxfp4") or ":" in text


def _stored(repo: str) -> Path | None:
    from gb10 import hub

    return hub.local(repo)


def _of_ones_own(spec: Spec, model: catalog.Model, fmt: str) -> Chosen:
    """No list has it: then it is one that the reader has made."""
    folder = STATE / "models" / f"{model.name}-{fmt.upper()}"
    own = checkpoints.original(model.name)
    note = f"no list has {model.name} in {fmt} for {spec.title}, so it would be one of your own making, in .course/models/{folder.name}"
    if own and own.format == "bf16" and fmt in _RECIPE:
        note += (f": ./course models get {own.repo}, then ./course quantize .course/models/{own.repo.replace('/', '--')} "
                 f".course/models/{folder.name}{_RECIPE[fmt]}")
    return Chosen(model, fmt, f"{MOUNT}/{folder.name}", folder.name, None, folder, (note,))


def _ollama(spec: Spec, model: catalog.Model, text: str, fmt: str, local: bool) -> Chosen:
    """Ollama has names of its own: family:size, and a format behind a dash where it isn't Q4_K_M (or gpt-oss's own)."""
    tag = text if re.fullmatch(r"[\w./-]+:[\w.-]+", text) else None
    if tag is None and _is_itself(text, model):     # the shape's other tunings have tags, too
        tag = next((a for a in model.aliases if ":" in a and _letters(model.name).startswith(_letters(a.split(":")[0]))), None)
    if tag is None:
        raise UserError(f"no name of {text} in Ollama's library is known to the course: give it, --model NAME:TAG, with "
                        f"--weights for its format; or another engine.")
    if fmt not in ("q4_k_m", "mxfp4", "gguf-mxfp4") and tag != text:
        tag += f"-{fmt.replace('bf16', 'fp16')}"
    return Chosen(model, fmt, tag, tag)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _nim(spec: Spec, model: catalog.Model, text: str, fmt: str, local: bool) -> Chosen:
    nim = checkpoints.nims().get(model.name) if _is_itself(text, model) or "/" in text else None
    if nim is None:
        raise UserError(f"there is no NIM of {text} for the Spark that the course knows; it knows that of "
                        f"{', '.join(checkpoints.nims())}. Another engine serves it: ./course up vllm --model {text}")
    return Chosen(model, nim.format, nim.repo, nim.served,
                  notes=(f"what a NIM's weights are in is not published: reckoned as {nim.format}",))


def _named(name: str | None) -> str | None:
    if name is not None and (not name.strip() or any(c.isspace() for c in name) or name.startswith("-")):
        raise UserError(f"{name!r} can't be a model's name: no blanks, and no leading dash.")
    return name
