"""The models of the catalogue, and how a name, a folder or a config.json becomes a Model."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from gb10.catalog.architecture import Model
from gb10.catalog.hf_config import NotAModel, from_config
from gb10.catalog.source import Source, read_json, source


class UnknownModel(ValueError):
    """No model of this name, in the catalogue or elsewhere."""


def build(name: str, row: dict) -> Model:
    """One row of models.json: the fields of a config.json, and where they come from."""
    src = source(row.get("source"), f"model {name}")
    reported = row.get("reported_params_b")
    if reported:
        source(row.get("reported_source", row["source"]), f"reported size of {name}")
    for fmt, keeps in row.get("keeps", {}).items():
        source(keeps.get("source"), f"{fmt} checkpoint of {name}")
    return from_config(row["config"], name, source=src, reported_params=round(reported * 1e9) if reported else None,
                       formats=tuple(row.get("formats", ())), doubtful=row.get("doubtful", ""),
                       notes=tuple(row.get("notes", ())), aliases=tuple(row.get("aliases", ())),
                       keeps={f: {k: v for k, v in keeps.items() if k != "source"}
                              for f, keeps in row.get("keeps", {}).items()})


@cache
def _rows() -> dict[str, dict]:
    return read_json("models.json")


@cache
def _built(name: str) -> Model:
    return build(name, _rows()[name])


def models() -> dict[str, Model]:
    """All models of the catalogue by name."""
    return {name: _built(name) for name in _rows()}


# what checkpoints append to a model's name without changing its shape
_SUFFIX = re.compile(r"-(instruct|it|chat|base|hf|qat|bf16|fp16|fp8|fp4|nvfp4|mxfp4|nvfp4a16|w4a16|gguf|awq|gptq|int4|int8"
                     r"|q4km|q80|dynamic|fp8dynamic|quantized|2507|bnb|unsloth)\Z")


def canonical(name: str) -> str:
    """The name without its organisation, its format and its tuning: what two names of one shape share."""
    short = name.strip().lower().rstrip("/").split("/")[-1].removeprefix("nvidia-").removeprefix("meta-")
    short = re.sub(r"[\s_:]+", "-", short).replace("llama3", "llama-3").replace("gemma3", "gemma-3")
    short = short.replace("llama-3-1", "llama-3.1").replace("llama-3-3", "llama-3.3")
    while (shorter := _SUFFIX.sub("", short)) != short:
        short = shorter
    return short


def _format_in(name: str) -> str:
    """The format that a checkpoint's name ends in: nvidia/Qwen3-8B-NVFP4. What it really keeps is not in a name."""
    ends = {"-nvfp4": "nvfp4", "-fp4": "nvfp4", "-nvfp4a16": "nvfp4-w4a16", "-fp8": "fp8", "-bf16": "bf16", "-awq": "int4",
            "-fp8-dynamic": "fp8"}
    return next((fmt for end, fmt in ends.items() if name.lower().endswith(end)), "")


@cache
def _by_name() -> dict[str, str]:
    names: dict[str, str] = {}
    for name, row in _rows().items():                       # a model's own name goes before another's alias
        names.setdefault(canonical(name), name)
    for name, row in _rows().items():
        for alias in row.get("aliases", ()):
            names.setdefault(canonical(alias), name)
    return names


def from_folder(path: Path) -> Model:
    """A folder with a config.json, or a config.json itself. Raises NotAModel or UnknownModel with one sentence."""
    file = path / "config.json" if path.is_dir() else path
    name = file.parent.name if file.name == "config.json" else file.stem
    config = _read(file, path)
    beside = file.with_name("hf_quant_config.json")          # older ModelOpt checkpoints say it there
    if isinstance(config, dict) and "quantization_config" not in config and beside.is_file():
        config["quantization_config"] = _read(beside, path)
    here = Source("local", str(file), "config.json on this machine", "")
    built = _from(config, " ".join((name or file.resolve().parent.name).split()), here)
    size = sum(f.stat().st_size for f in file.parent.glob("*.safetensors") if f.is_file())
    return replace(built, file_bytes=size or None)


def _read(file: Path, asked: Path):
    """A JSON file; whatever is wrong with it is one sentence that names it."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise UnknownModel(f"{_line(asked)} has no config.json: give a model's folder, its config.json, or a name.") from e
    except OSError as e:
        raise UnknownModel(f"{_line(file)} can't be read ({e.strerror or type(e).__name__}): give a model's folder or its "
                           "config.json.") from e
    except (ValueError, RecursionError) as e:                # not JSON, not UTF-8, numbers or nesting without end
        why = "nested too deeply" if isinstance(e, RecursionError) else _line(str(e).split(";")[0])
        raise NotAModel(f"{_line(file)} is not valid JSON ({why}): give a Hugging Face config.json.") from e


def _line(text) -> str:
    """On one line, and no longer than a line."""
    flat = " ".join(str(text).split())
    return flat if len(flat) <= 200 else flat[:197] + "..."


def _from(config: dict, name: str, src: Source) -> Model:
    try:
        return from_config(config, name, source=src)
    except NotAModel:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RecursionError) as e:
        what = f"no {e}" if isinstance(e, KeyError) else str(e)
        raise NotAModel(f"the config of {name} can't be read as a language model ({what}): it may be of a family that "
                        "this course doesn't know yet.") from e


def model(name: str, hub: bool = True) -> Model:
    """The model with this name: of the catalogue, a folder, a config.json, or a name on the hub.

    Raises UnknownModel (with the nearest names) or NotAModel, each with one sentence.
    """
    text = str(name).strip()
    if not text or len(text) > 1000:
        raise UnknownModel("a model's name is missing: './course fit --list' shows those of the catalogue." if not text else
                           f"there is no model of a name with {len(text)} characters: './course fit --list' shows the names.")
    if text in _rows():
        return _built(text)
    path = Path(text).expanduser()
    try:
        local = text.endswith(".json") or (path.exists() and ("/" in text or path.is_dir()))
    except (OSError, ValueError) as e:                       # a name that no file system takes, links in a circle
        raise UnknownModel(f"'{_line(text)}' names no file that can be read, and no model of the catalogue.") from e
    if local:
        return from_folder(path)
    found = _by_name().get(canonical(text)) if text else None
    if found:
        return replace(_built(found), declared=_format_in(text) or _built(found).declared)
    if hub and re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        from gb10.catalog.hub import fetch

        config, size = fetch(text)
        here = Source("hub", f"https://huggingface.co/{text}/blob/main/config.json", "config.json on the hub", "")
        return replace(_from(config, text.split("/")[-1], here), file_bytes=size)
    raise UnknownModel(f"there is no model '{_line(text)}' in the catalogue{nearest(text)}")


def nearest(name: str) -> str:
    from difflib import get_close_matches

    by = {canonical(n): n for n in _rows()} | _by_name()
    near = list(dict.fromkeys(by[n] for n in get_close_matches(canonical(name), by, n=3, cutoff=0.45)))
    if near:
        return f": did you mean {' or '.join(near)}? A model's folder, its config.json or its name on the hub will do too."
    return ": './course fit --list' shows them; a model's folder, its config.json or its name on the hub will do too."
