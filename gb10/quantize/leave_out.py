"""Which layers hurt: quantizers switched off and on again, group by group.

Two questions about each group of quantizers (a layer, a kind of layer, all activations). *Off*: everything is
quantized but this group; how much better does that make the model? *Only*: nothing is quantized but this group; how
much does it do by itself? Where damages simply add up, both give the same answer.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

from gb10.errors import UserError
from gb10.quantize.bootstrap import Interval
from gb10.quantize.comparing import compare_many
from gb10.quantize.comparison import Comparison
from gb10.quantize.layers import decoder_layers
from gb10.quantize.logits import Source


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """One group of quantizers; every comparison is against the same reference, paired on the same windows."""

    group: str
    quantizers: int         # switched
    weights: int            # numbers in the weights that they quantize
    all: Comparison         # everything quantized
    off: Comparison         # everything but this group
    only: Comparison        # nothing but this group

    @property
    def kl_saved(self) -> Interval:
        """Nats of KL per token that keeping this group in the original precision saves."""
        return self.all.against(self.off).kl

    @property
    def loss_saved(self) -> Interval:
        """Nats of loss per token that keeping this group in the original precision saves."""
        return self.all.against(self.off).loss

    def __str__(self) -> str:
        return f"{self.group}: KL {self.only.kl} by itself, {self.kl_saved} less without it"


def sensitivity(model, ids, groups: Mapping[str, str | Iterable[str]] | Iterable[str] | None = None, *, reference=None,
                window: int = 256, batch: int = 8, seed: int = 0, draws: int = 2000, level: float = 0.95,
                progress: Callable[[int, int], None] | None = None) -> list[Sensitivity]:
    """One Sensitivity for each group of quantizers of `model`, over token ids [N], in the order of the groups.

    model: quantized (simulated) by ModelOpt. groups: {name: pattern or patterns}, or patterns that are names too;
    every decoder layer if left out. A pattern (fnmatch, whole name) fits the name of a quantizer
    ("*input_quantizer") or of the layer that it belongs to ("*.mlp.*", "model.layers.3.*"; without the last dot layer
    30 fits as well). Only quantizers that are on when this is called are ever switched.
    reference: the original model; if left out, `model` with all of its quantizers off, which is the original up to
    rounding for recipes that rescale weights (AWQ, SmoothQuant, SVDQuant).

    Costs 2 x groups + 2 readings of the text. All switches are as before afterwards, also after an exception.
    Raises UserError where a pattern fits nothing, or where nothing can be switched off (no quantizer is on, weights
    are stored in packed form).
    """
    on = _switches(model)
    members = {name: _members(on, name, patterns) for name, patterns in _named(groups, model).items()}
    everything = set(on)
    sources = {("all", ""): Source(model)}
    for name, group in members.items():
        sources["off", name] = Source(model, partial(_only, on, everything - group))
        sources["only", name] = Source(model, partial(_only, on, group))
    found = compare_many(reference or Source(model, partial(_only, on, set())), sources, ids, window=window,
                         batch=batch, seed=seed, draws=draws, level=level, progress=progress)
    return [Sensitivity(name, len(group), _weights(model, group), found["all", ""], found["off", name],
                        found["only", name]) for name, group in members.items()]


def _switches(model) -> dict[str, object]:
    """Name -> quantizer, of all that are on."""
    from gb10.quantize.library import modelopt

    kind = modelopt().nn.TensorQuantizer
    on = {name: m for name, m in model.named_modules() if isinstance(m, kind) and m.is_enabled}
    if not on:
        raise UserError("no quantizer is switched on in this model: quantize it first, and switch it on.")
    packed = next((name for name, q in on.items() if not q.fake_quant), None)
    if packed:
        raise UserError(f"the weight of {packed.rpartition('.')[0]} is stored in packed form, so its quantizer can't be "
                        f"switched off: use a model whose quantization is simulated, as quantize() returns it.")
    return on


def _named(groups, model) -> dict[str, list[str]]:
    if groups is None:
        return {name: [f"{name}.*"] for name, _ in decoder_layers(model)}
    if not isinstance(groups, Mapping):
        groups = {groups: groups} if isinstance(groups, str) else {pattern: pattern for pattern in groups}
    return {name: [p] if isinstance(p, str) else list(p) for name, p in groups.items()}


def _members(on, group: str, patterns: list[str]) -> set[str]:
    """Names of the quantizers that fit any of the patterns, by their own name or by that of their layer."""
    found = set()
    for pattern in patterns:
        fits = {q for q in on if fnmatchcase(q, pattern) or fnmatchcase(q.rpartition(".")[0], pattern)}
        if not fits:
            raise UserError(f"the pattern {pattern!r} of group {group!r} fits no quantizer that is on; one is called "
                            f"{next(iter(on))}.")
        found |= fits
    return found


@contextlib.contextmanager
def _only(on, wanted: set[str]):
    """Of the quantizers in `on`, only those in `wanted` stay on."""
    off = [q for name, q in on.items() if name not in wanted]
    try:
        for quantizer in off:
            quantizer.disable()
        yield
    finally:
        for quantizer in off:
            quantizer.enable()


def _weights(model, group: set[str]) -> int:
    """How many weights the group's weight quantizers quantize; experts in one tensor have a list of quantizers."""
    total = 0
    for name in group:
        if found := re.fullmatch(r"(.+)\.(?:(\w+)_)?weight_quantizer(s\.\d+)?(?:\.0)?", name):
            owner = model.get_submodule(found[1])
            prefix = found[2] + "_" if found[2] else ""
            each = len(getattr(owner, f"{prefix}weight_quantizers")) if found[3] else 1
            total += getattr(owner, found[2] or "weight").numel() // each
    return total
