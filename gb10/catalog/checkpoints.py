"""Which checkpoint on the Hugging Face hub is this model in this format, for this engine?

The originals are the publishers' own; a repository's name is its address (https://huggingface.co/NAME). The others are
those of NVIDIA's support matrices for the Spark; the suffixes -FP4 and -NVFP4 name the same kind of checkpoint, and each
engine is given the one that its own matrix lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from gb10.catalog.source import Unsourced, read_json, source


@dataclass(frozen=True)
class Checkpoint:
    model: str              # the catalogue's name
    format: str             # of catalog.weight_formats()
    repo: str               # owner/name on the hub; of a NIM: its image
    engines: tuple[str, ...] = ()       # that list it; () any
    served: str = ""        # of a NIM: what requests call the model


@cache
def _published() -> tuple[Checkpoint, ...]:
    data = read_json("checkpoints.json")
    return build(data["published"])


def build(rows: list[dict]) -> tuple[Checkpoint, ...]:
    """Rows of checkpoints.json; refuses one without a source."""
    for row in rows:
        source(row.get("source"), f"checkpoint {row.get('repo')}")
        if not row.get("engines"):
            raise Unsourced(f"checkpoint {row.get('repo')} names no engine that lists it")
    return tuple(Checkpoint(r["model"], r["format"], r["repo"], tuple(r["engines"])) for r in rows)


def original(model: str) -> Checkpoint | None:
    """The publisher's own checkpoint of a model of the catalogue."""
    row = read_json("checkpoints.json")["originals"].get(model)
    return Checkpoint(model, row["format"], row["repo"]) if row else None


def checkpoint(model: str, fmt: str, engine: str) -> Checkpoint | None:
    """The one to take: that which is listed for this engine, else for another; None if no list has it.

    W4A16 computes otherwise with the weights of an NVFP4 checkpoint and is another checkpoint: its configuration says so.
    """
    own = original(model)
    if own and own.format == fmt:
        return own
    listed = [c for c in _published() if (c.model, c.format) == (model, fmt)]
    return next((c for c in listed if engine in c.engines), listed[0] if listed else None)


def formats(model: str, engine: str) -> tuple[str, ...]:
    """Formats in which the model is listed for this engine, the smallest first as they are listed."""
    own = original(model)
    listed = [c.format for c in _published() if c.model == model and engine in c.engines]
    return tuple(dict.fromkeys([*listed, *([own.format] if own else [])]))


@cache
def nims() -> dict[str, Checkpoint]:
    """NVIDIA's NIM images for the Spark by the catalogue's name of their model."""
    rows = read_json("checkpoints.json")["nim"]
    for row in rows:
        source(row.get("source"), f"NIM {row.get('image')}")
    return {r["model"]: Checkpoint(r["model"], r["format"], r["image"], ("nim",), r["served"]) for r in rows}
