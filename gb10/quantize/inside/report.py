"""Look inside a checkpoint: what each tensor became, what stayed, what that costs, and what isn't as it says."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from gb10.quantize.inside import ggml
from gb10.quantize.inside.checks import agree
from gb10.quantize.inside.declared import Declared, Ignored, declared
from gb10.quantize.inside.files import Source, open_source
from gb10.quantize.inside.header import TensorInfo, read_small
from gb10.quantize.inside.kept import NVFP4_BITS, Kept, kept
from gb10.quantize.inside.kinds import LINEAR, TITLES, pattern_of
from gb10.quantize.inside.layouts import SIXTEEN, Weight, weight_of
from gb10.quantize.inside.page import page
from gb10.quantize.inside.parts import grouped
from gb10.quantize.inside.rows import Part, Row
from gb10.quantize.inside.scales import Scale, fused, inside, scales, small


@dataclass(frozen=True)
class KVCache:
    """How the checkpoint wants keys and values kept; format "" where it doesn't say."""

    format: str
    scales: int                      # tensors of scales for it
    explained: str


@dataclass(frozen=True)
class Report:
    path: str
    container: str                   # safetensors or gguf
    files: dict[str, int]            # name -> bytes
    architecture: str
    made_by: str                     # producer with version, or what the maker called the mixture; "" if not said
    declared: Declared               # what the metadata says
    weights: list[Weight]
    rows: list[Row]
    formats: dict[str, Part]
    kinds: dict[str, Part]
    total: Part
    kept: list[Kept]                 # in 16 bits beside quantized weights; empty where nothing is quantized
    nvfp4_bytes: int | None          # of a checkpoint in 16 bits: with the linear layers in NVFP4
    scales: list[Scale]
    explained: list[str]             # how the layout without tensor scales decodes
    kv_cache: KVCache
    warnings: list[tuple[str, str]]  # (code, sentence)
    notes: list[str]

    @property
    def layouts(self) -> list[str]:
        return sorted({w.layout for w in self.weights} - {"plain"}) or ["plain"]

    @property
    def quantized(self) -> bool:
        return any(w.format not in SIXTEEN and w.kind != "other" for w in self.weights)

    def to_dict(self, tensors: bool = False) -> dict:
        """As JSON; keys are stable. tensors: with a row for each weight."""
        from gb10.quantize.inside.as_json import as_dict

        return as_dict(self, tensors)

    def __str__(self) -> str:
        return "\n".join(page(self))


def inspect(path: str | Path) -> Report:
    """Look inside a checkpoint: a folder, a .safetensors file or a .gguf file.

    Reads headers and the scales of whole tensors, a few bytes each; never a weight, and never a pickle.
    Raises UserError, in one sentence, for what isn't a whole and sound checkpoint.
    """
    source = open_source(path)
    config, separate = declared(source.configs)
    said = replace(config or separate, kv_cache=config.kv_cache or separate.kv_cache,
                   layers={**config.layers, **separate.layers}, producer=config.producer or separate.producer)
    groups, kv = grouped(source.tensors)
    groups.sort(key=lambda g: [(len(part), part) if part.isdigit() else (0, part) for part in g.name[:400].split(".")])
    values = read_small(source.folder, [t for t in source.tensors if small(t)])
    weights = [_named(weight_of(g, values, said.block or 64), said) for g in groups]
    ignored = Ignored(said.ignored)
    found, warnings = scales(weights, values)
    warnings = source.warnings + agree(weights, config, separate, ignored) + warnings + fused(weights, values)
    quantized = any(w.format not in SIXTEEN and w.kind != "other" for w in weights)
    notes = source.notes + _notes(source, weights, ignored)
    total = _sum(weights)
    stayed = kept(weights, said, ignored, _tied(source, weights)) if quantized else []
    return Report(
        path=str(path), container=source.container, files=source.files, architecture=_architecture(source),
        made_by=_made_by(source, said), declared=said, weights=weights, rows=_rows(weights, total.bytes),
        formats=_by(weights, lambda w: w.format), kinds=_by(weights, lambda w: w.kind, TITLES), total=total,
        kept=stayed, scales=found,
        nvfp4_bytes=None if quantized else round(sum(
            w.parameters * NVFP4_BITS / 8 if w.kind in LINEAR and len(w.shape) > 1 else w.bytes for w in weights)),
        explained=list(dict.fromkeys(filter(None, map(inside, sorted(weights, key=lambda w: -w.bytes)))))[:4],
        kv_cache=_kv_cache(said, kv, values, source.container, warnings), warnings=warnings, notes=notes)


def _named(weight: Weight, said: Declared) -> Weight:
    """Names what tensors leave open: the layout of weight and weight_scale, and inputs quantized without a scale."""
    layout = weight.layout
    if layout == "scaled" and said.method:
        layout = "deepseek" if said.method == "fp8" and "x" in weight.block else said.method
    activations = weight.activations
    if not activations and layout not in ("plain", "gguf") and (said.method, weight.format) != ("modelopt", "NVFP4"):
        # quantized on the fly, so that no scale is stored; of ModelOpt's NVFP4 it always is
        activations = said.layers.get(weight.name, ("", said.formats.get(weight.format, "")))[1]
    if activations == "FP4" and layout == "modelopt" and "W4A8" in said.label:
        activations = "FP8"
    return weight if (layout, activations) == (weight.layout, weight.activations) else replace(
        weight, layout=layout, activations=activations)


def _sum(rows: Iterable[Weight], of: int = 0) -> Part:
    rows = list(rows)
    size = sum(w.bytes for w in rows)
    return Part(len(rows), sum(w.parameters for w in rows), size, size / of if of else 1.0)


def _by(weights: list[Weight], key, order: Iterable[str] = ()) -> dict[str, Part]:
    groups: dict[str, list[Weight]] = {k: [] for k in order}
    for w in weights:
        groups.setdefault(key(w), []).append(w)
    total = sum(w.bytes for w in weights)
    parts = {k: _sum(rows, total) for k, rows in groups.items() if rows}
    return parts if order else dict(sorted(parts.items(), key=lambda kv: -kv[1].bytes))


def _rows(weights: list[Weight], total: int) -> list[Row]:
    groups: dict[tuple, list[Weight]] = {}
    for w in weights:
        key = (pattern_of(w.name), w.kind, w.format, w.layout, w.shape, w.block, w.activations)
        groups.setdefault(key, []).append(w)
    order = {kind: i for i, kind in enumerate(TITLES)}
    rows = [Row(*key, _sum(rows, total)) for key, rows in groups.items()]
    return sorted(rows, key=lambda r: (order[r.kind], -r.sum.bytes, r.pattern))


def _architecture(source: Source) -> str:
    if source.container == "gguf":
        return str(source.metadata.get("general.architecture") or "")[:80]
    names = source.configs.get("config.json", {}).get("architectures")
    return names[0][:80] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def _made_by(source: Source, said: Declared) -> str:
    if source.container == "gguf":
        kind = source.metadata.get("general.file_type")
        return ggml.FILE_TYPES.get(kind, "") if type(kind) is int else ""
    return said.producer or said.method


def _kv_cache(said: Declared, kv: list[TensorInfo], values: dict, container: str, warnings: list) -> KVCache:
    seen = [v for t in kv for v in values.get(t.name, ())]
    bad = [v for v in seen if not math.isfinite(v) or v <= 0]
    if bad:
        warnings.append(("bad-kv-scale", f"{len(bad):,} scales of the KV cache are not numbers above zero."))
    if container == "gguf":
        return KVCache("", 0, "A GGUF file doesn't say: llama.cpp keeps F16 unless -ctk and -ctv ask for another.")
    if not said.kv_cache:
        if kv:
            return KVCache("", len(kv), f"Not named, and {len(kv):,} scales for it are there: most likely FP8 was meant.")
        return KVCache("", 0, "Not quantized by the checkpoint: BF16, unless the engine is told otherwise "
                              "(--kv-cache-dtype fp8).")
    if not kv:
        explained = f"{said.kv_cache}, without scales in the file: engines take 1.0, a plain cast."
        return KVCache(said.kv_cache, 0, explained)
    good = [v for v in seen if math.isfinite(v) and v > 0]
    span = f" ({min(good):.3g} to {max(good):.3g}: amax = 448 x scale)" if good and said.kv_cache == "FP8" else ""
    return KVCache(said.kv_cache, len(kv), f"{said.kv_cache}, with {len(kv):,} scales in the file{span}.")


def _tied(source: Source, weights: list[Weight]) -> bool:
    """Is the output head the table of embeddings?"""
    kinds = {w.kind for w in weights}
    tied = source.container == "gguf" or source.configs.get("config.json", {}).get("tie_word_embeddings") is True
    return tied and "embedding" in kinds and "head" not in kinds


def _notes(source: Source, weights: list[Weight], ignored: Ignored) -> list[str]:
    notes = []
    if _tied(source, weights):
        notes.append("The output head is the table of embeddings (tied): it is read whole for every token.")
    if any(w.kind == "embedding" and w.format not in SIXTEEN for w in weights) and source.container == "safetensors":
        notes.append("The table of embeddings is quantized: not every engine loads that.")
    if ignored.skipped:
        notes.append(f"{ignored.skipped:,} patterns of what is left alone are too intricate to be used here.")
    if source.container == "gguf":
        called = ggml.FILE_TYPES.get(source.metadata.get("general.file_type"), "") if type(
            source.metadata.get("general.file_type")) is int else ""
        most = max(_by(weights, lambda w: w.format).items(), key=lambda kv: kv[1].parameters)[0]
        if called and not called.startswith(most) and most not in called:
            notes.append(f"The file calls itself {called}; most of its weights are {most}.")
    return notes


