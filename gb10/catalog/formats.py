"""What each class of tensors weighs in each checkpoint format, and what the KV cache can be kept in.

The formats differ in what they leave alone, which is why active parameters x nominal bits mispredicts: see `bits`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from gb10.catalog.architecture import KINDS, Model
from gb10.catalog.source import Source, Unsourced, read_json, source


class NotPublished(ValueError):
    """The model doesn't come in this format."""


@dataclass(frozen=True)
class WeightFormat:
    name: str
    title: str
    file: str                  # "safetensors" or "gguf"
    computes: str              # what the matrix multiplications run in
    bits: dict                 # part kind -> bits per parameter, scales included
    source: Source
    only: str = ""             # which models come in it, where not any can
    aliases: tuple[str, ...] = ()
    odd: dict = field(default_factory=dict)    # K-quants: (bits, bits where a row is no multiple of 256)

    @property
    def nominal_bits(self) -> float:
        """What the name promises: the bits of its most quantised tensors."""
        return min(self.bits.values())

    def bits_of(self, kind: str, model: Model) -> float:
        """Bits per parameter of this kind of tensors in this model's checkpoint."""
        if kind == "aside":
            return 16
        if kind == "embedding" and model.tied:
            kind = "head"                                    # one table serves both: it is kept as the head is
        kept = model.keeps.get(self.name, {}).get(kind)
        return kept if kept is not None else self.bits[kind] + self._fallback(kind, model)

    def _fallback(self, kind: str, model: Model) -> float:
        """What rows that are no multiple of 256 add: llama.cpp keeps them in a larger type."""
        shares = model.odd_rows.get(kind) if self.odd else None
        if not shares:
            return 0.0
        rest, back = (self.odd[kind],) * 2 if kind in self.odd else (self.odd["rest"], self.odd["down"])
        return shares[0] * (rest[1] - rest[0]) + shares[1] * (back[1] - back[0])


@dataclass(frozen=True)
class KvFormat:
    name: str
    bits: float
    source: Source
    aliases: tuple[str, ...] = ()


def build(name: str, row: dict) -> WeightFormat:
    missing = KINDS.keys() - {"aside"} - row["bits"].keys()
    if missing:
        raise Unsourced(f"format {name} doesn't say what it keeps {', '.join(sorted(missing))} in")
    return WeightFormat(name, row["title"], row["file"], row["computes"], row["bits"],
                        source(row.get("source"), f"format {name}"), row.get("only", ""), tuple(row.get("aliases", ())), _odd(name, row))


def _odd(name: str, row: dict) -> dict:
    if "odd" not in row:
        return {}
    source(row["odd"].get("source"), f"rows of {name} that are no multiple of 256")
    return {k: tuple(v) for k, v in row["odd"].items() if k != "source"}


@cache
def weight_formats() -> dict[str, WeightFormat]:
    return {name: build(name, row) for name, row in read_json("formats.json").items()}


@cache
def kv_formats() -> dict[str, KvFormat]:
    return {name: KvFormat(name, row["bits"], source(row.get("source"), f"KV format {name}"), tuple(row["aliases"]))
            for name, row in read_json("kv_formats.json").items()}


def _find(name: str, table: dict, what: str):
    wanted = str(name).strip().lower()
    for fmt in table.values():
        if wanted == fmt.name or wanted in fmt.aliases:
            return fmt
    raise ValueError(f"there is no {what} '{name}': take one of {', '.join(table)}.")


def weight_format(name: str) -> WeightFormat:
    return _find(name, weight_formats(), "weight format")


def kv_format(name: str) -> KvFormat:
    return _find(name, kv_formats(), "KV cache format")


def formats_of(model: Model) -> tuple[str, ...]:
    """The formats that a model comes in, or can be made in by anyone with the course's tools."""
    if model.formats:
        return model.formats
    if model.declared == "mxfp4":
        return ("mxfp4", "gguf-mxfp4")
    return tuple(f.name for f in weight_formats().values() if not f.only)


def check(model: Model, fmt: WeightFormat) -> WeightFormat:
    """The format, if the model comes in it; else NotPublished with what it does come in."""
    have = formats_of(model)
    if fmt.name not in have:
        if fmt.only and "mxfp4" not in have:
            raise NotPublished(f"{model.name} doesn't come in {fmt.name}, which only {fmt.only} have; it comes in "
                               f"{', '.join(have)}.")
        raise NotPublished(f"{model.name} doesn't come in {fmt.name}: it was published in MXFP4 (its experts; the rest "
                           f"is 16 bit) and comes in {', '.join(have)}.")
    return fmt
