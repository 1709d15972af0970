"""What is here: the course's own store and the Hugging Face cache."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gb10.errors import CourseError
from gb10.hub import cache, store


@dataclass(frozen=True)
class Stored:
    """One model on this machine."""

    repo: str
    where: str                  # "course" or "cache"
    path: Path
    bytes: int                  # on disk
    format: str                 # nvfp4, nvfp4-w4a16, fp8, mxfp4, int4, bf16, …; "" where nothing says it
    revision: str               # commit; "" for what was made here
    whole: bool


def stored() -> list[Stored]:
    """Every model of the course's store, then every one of the cache. Asks no network, reads headers only."""
    return own() + [Stored(s.repo, "cache", s.path, s.bytes, format_of(s.path), s.revision, s.whole) for s in cache.snapshots()]


def own() -> list[Stored]:
    """Every model of the course's store, whole or not. What has no note was made here (quantized, say) or put there by hand."""
    found = []
    for where in sorted(store.FOLDER.iterdir()) if store.FOLDER.is_dir() else ():
        if where.name.startswith(".") or not where.is_dir():
            continue
        note = store.read(where)
        found.append(Stored(note.repo if note else where.name.replace("--", "/", 1), "course", where, _size(where),
                            format_of(where), note.revision if note else "",
                            store.whole(where, note) if note else cache.is_whole(where)))
    return found


def format_of(folder: Path) -> str:
    """The weights' format: as the quantization config says, else the type of most bytes in the first safetensors file."""
    from gb10.catalog.quantization import declared, method, named

    config = _json(folder / "config.json")
    if not named(config):
        config |= {"quantization_config": q} if (q := _json(folder / "hf_quant_config.json")) else {}
    try:
        if named(config):
            return declared(config, {})[0] or method(config)
    except (ValueError, TypeError, AttributeError, LookupError):
        return method(config)
    return _dtype(folder) or ("gguf" if any(folder.glob("*.gguf")) else "")


def _dtype(folder: Path) -> str:
    from gb10.quantize.inside.header import read_header

    first = min(folder.glob("*.safetensors"), default=None)
    try:
        tensors = read_header(first).tensors if first else []
    except (CourseError, OSError):
        return ""
    by: Counter = Counter()
    for t in tensors:
        by[t.dtype] += t.bytes
    return by.most_common(1)[0][0].lower() if by else ""


def _json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.iterdir() if f.is_file())
