"""What stayed in 16 bits, for what reason, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass

from gb10.quantize.inside.declared import Declared, Ignored
from gb10.quantize.inside.kinds import pattern_of
from gb10.quantize.inside.layouts import SIXTEEN, Weight

NVFP4_BITS = 4.5                     # 4 for the code, 8 / 16 for the block scale

_WHY = {
    "embedding": "a table: each token looks up one row, nothing is multiplied",
    "head": "its errors go straight into the next token's scores, so most recipes leave it",
    "norm": "a few numbers a layer: nothing to save",
    "bias": "a few numbers a layer: nothing to save",
    "router": "small, and it chooses the experts: an error sends tokens astray",
    "mixer": "its state carries errors on from token to token, so recipes often leave it",
    "mtp": "draft layers: recipes leave them",
    "vision": "recipes for text leave it",
    "lora": "what an adapter adds to the layer, kept exact",
    "other": "no recipe's rule covers it",
}
_IN_PART = ("embedding", "experts", "vision", "mtp")           # read in part, or not at all, for a token of text
_TIED = ("a table of which each token looks up one row, and, tied, the output head too, whose errors go straight into "
         "the scores")


@dataclass(frozen=True)
class Kept:
    """Tensors of one kind, and of one reason, that were not quantized."""

    pattern: str                     # of the largest: model.layers.*.self_attn.o_proj
    kind: str
    format: str
    tensors: int
    parameters: int
    bytes: int
    share: float                     # of all bytes of the checkpoint
    nvfp4_bytes: int                 # what they would take in NVFP4, their scales included
    read_each_token: bool            # of a table of embeddings one row is read
    why: str


def kept(weights: list[Weight], said: Declared, ignored: Ignored, tied: bool = False) -> list[Kept]:
    """The largest first. tied: the table of embeddings is the output head too."""
    total = sum(w.bytes for w in weights) or 1
    groups: dict[tuple, list[Weight]] = {}
    for w in weights:
        if w.format in SIXTEEN:
            why = _TIED if tied and w.kind == "embedding" else _why(w, said, ignored)
            groups.setdefault((w.kind, w.format, why), []).append(w)
    out = []
    for (kind, name, why), rows in groups.items():
        largest = max(rows, key=lambda w: w.bytes)
        size, count = sum(w.bytes for w in rows), sum(w.parameters for w in rows)
        out.append(Kept(pattern_of(largest.name), kind, name, len(rows), count, size, size / total,
                        round(count * NVFP4_BITS / 8), why == _TIED or kind not in _IN_PART, why))
    return sorted(out, key=lambda k: -k.bytes)


def _why(weight: Weight, said: Declared, ignored: Ignored) -> str:
    if weight.layout == "gguf":
        return _WHY.get(weight.kind, "kept by the recipe of whoever made the file")
    if weight.kind in _WHY and weight.kind != "other":
        return _WHY[weight.kind]
    if len(weight.shape) < 2:
        return "a few numbers a layer: nothing to save"
    if said.layers:
        listed = weight.name in said.layers
        return "not known: the metadata lists it as quantized" if listed else "a mixed recipe that doesn't list it"
    answer = ignored(weight.name)
    if answer is True:
        return "listed by the recipe among what it leaves alone"
    return "not known: the metadata doesn't list it" if answer is False and said else _WHY["other"]
