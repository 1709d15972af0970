"""What is known about machines, models and measured speeds; every number carries its source.

    catalog.model("Qwen3-8B")         a Model: of the catalogue, a folder, a config.json, or a name on the hub
    catalog.machine("gb10")           a Machine; catalog.this_machine() is the one at hand, as measured
    catalog.measurements()            published measurements, .source and .doubtful on each
    catalog.weight_format("nvfp4")    what each class of tensors weighs in a checkpoint format

Data lie in data/: sources.json names every source once, the other files refer to it. Standard library only.
"""

from __future__ import annotations

from gb10.catalog.architecture import KINDS, Cache, Model, Part
from gb10.catalog.find import UnknownModel, model, models
from gb10.catalog.formats import (
    KvFormat,
    NotPublished,
    WeightFormat,
    formats_of,
    kv_format,
    kv_formats,
    weight_format,
    weight_formats,
)
from gb10.catalog.hardware import Figure, Machine, machines, this_machine
from gb10.catalog.hf_config import NotAModel, from_config
from gb10.catalog.measured import Measurement, measurements
from gb10.catalog.source import Source, Unsourced, sources

__all__ = ["KINDS", "Cache", "Figure", "KvFormat", "Machine", "Measurement", "Model", "NotAModel", "NotPublished", "Part",
           "Source", "UnknownModel", "Unsourced", "WeightFormat", "formats_of", "from_config", "kv_format", "kv_formats",
           "machine", "machines", "measurements", "model", "models", "sources", "this_machine", "weight_format",
           "weight_formats"]


def machine(name: str, bandwidth_gbs: float | None = None) -> Machine:
    """The machine with this name; "this" is the one at hand. Raises ValueError with one sentence."""
    wanted = str(name).strip().lower()
    if wanted in ("this", "here", "local"):
        return this_machine(bandwidth_gbs)
    for m in machines().values():
        if wanted in (m.name, m.title.lower(), *m.aliases):
            return m
    from difflib import get_close_matches

    near = get_close_matches(wanted, machines(), n=1, cutoff=0.5)
    ask = f"did you mean {near[0]}?" if near else f"take one of {', '.join(machines())}, or 'this' for the one at hand."
    raise ValueError(f"there is no machine '{name}' in the catalogue: {ask}")
