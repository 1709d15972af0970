"""A language model as its bytes see it: classes of tensors, and what it keeps of the context.

A `Part` is one class of tensors with its parameter count. Nothing here knows about number formats: how many bits a
part gets is said in checkpoints.py, how fast the bytes can be read in gb10.roofline.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gb10.catalog.source import Source

# The classes of tensors that checkpoints treat differently.
KINDS = {
    "embedding": "input table: one row is read per token, unless it is also the head",
    "head": "output head: read whole for each step",
    "attention": "projections of attention",
    "mixer": "projections of state-space and linear-attention layers",
    "ffn": "dense feed-forward layers",
    "experts": "routed experts: a token reads its top k of them",
    "shared": "experts that every token passes through",
    "router": "chooses the experts; kept in 16 bit (32 in GGUF)",
    "small": "norms, biases, convolutions and the like; never quantised",
    "aside": "in the file, but not read while text is generated: vision tower, multi-token prediction",
}


@dataclass(frozen=True)
class Part:
    """One class of tensors. `params` counts all of it; where there are `experts`, a token reads top_k of them (routed
    experts, and the biases inside them, which are `small`)."""

    kind: str
    params: int
    experts: int = 0
    top_k: int = 0

    @property
    def active(self) -> float:
        """Parameters that one token's step reads."""
        if self.kind in ("embedding", "aside"):
            return 0
        return self.params * self.top_k / self.experts if self.experts else self.params

    def touched(self, batch: int) -> float:
        """Parameters that a step with `batch` sequences reads: for experts the expected number of distinct ones if
        each token drew its k of E independently, E (1 - (1 - k/E)^B). Real routing is correlated and touches fewer."""
        if not self.experts:
            return self.active
        return self.params * (1 - (1 - self.top_k / self.experts) ** batch)


@dataclass(frozen=True)
class Cache:
    """What `layers` layers keep of every token: `elements` numbers each, of the last `window` tokens (None: all)."""

    layers: int
    elements: int
    window: int | None = None

    def tokens(self, context: int) -> int:
        return min(context, self.window) if self.window else context


@dataclass(frozen=True)
class Model:
    name: str
    family: str                          # model_type of its config.json
    layers: int
    hidden: int
    vocab: int
    max_context: int
    tied: bool                           # the input table is the head too
    parts: tuple[Part, ...]
    caches: tuple[Cache, ...]
    width: int = 0                       # widest activation of a feed-forward layer, numbers per token
    attention_flops: int = 0             # FLOP per token, full-attention layer and attended token
    state_elements: int = 0              # numbers per sequence that state-space layers carry, whatever the context
    source: Source | None = None
    reported_params: int | None = None   # as published, where it is
    formats: tuple[str, ...] = ()        # what it comes in, where only some make sense; () = not restricted
    declared: str = ""                   # the format that its own config.json declares
    keeps: dict = field(default_factory=dict)    # format -> {part kind: bits} where a checkpoint differs from the rule
    odd_rows: dict = field(default_factory=dict)  # part kind -> shares that GGUF's K-quants can't hold: see rows.py
    unread: str = ""                     # what its config declares, where that is no format of this course
    file_bytes: int | None = None        # size of the checkpoint on disk, where it is known, in the declared format
    doubtful: str = ""
    notes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    def count(self, *kinds: str) -> int:
        """Parameters in parts of these kinds, all of them."""
        return sum(p.params for p in self.parts if p.kind in kinds)

    @property
    def params(self) -> int:
        """All parameters of the language model (what lies aside is not counted, as is the custom)."""
        return sum(p.params for p in self.parts if p.kind != "aside")

    @property
    def params_read(self) -> float:
        """Parameters that one token's step reads; a tied table is read once, as the head."""
        return sum(p.active for p in self.parts) + (self.count("embedding") if self.tied else 0)

    @property
    def params_active(self) -> float:
        """Parameters that a token is multiplied with, without table and head: what prefill computes with."""
        return sum(p.active for p in self.parts if p.kind not in ("embedding", "head"))

    @property
    def params_quoted(self) -> float:
        """Active parameters as authors commonly quote them: with table and head."""
        return sum(p.active for p in self.parts) + self.count("embedding")

    @property
    def moe(self) -> bool:
        return any(p.kind == "experts" for p in self.parts)

    @property
    def hybrid(self) -> bool:
        return self.state_elements > 0
