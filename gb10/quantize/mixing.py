"""A format for each group of layers: mixed recipes, with their size known before anything is quantized.

    groups = mixing.groups(model)                      # "5.qkv", "5.o", "5.gate_up", "5.down", … of every decoder layer
    choice = {name: "w4a16" for name in groups} | {"5.qkv": "fp8"}
    mixing.size(model, choice)                         # bytes of the checkpoint
    quantize.quantize(model, batches, config=mixing.config(groups, choice))

A group is what an engine fuses into one matrix (q, k and v; gate and up): vLLM refuses two formats within one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from gb10.errors import UserError
from gb10.quantize import cookbook
from gb10.quantize.layers import decoder_layers

FUSED = {"qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "o": ("self_attn.o_proj",),
         "gate_up": ("mlp.gate_proj", "mlp.up_proj"), "down": ("mlp.down_proj",)}
BF16 = "bf16"
# recipe -> bits of a weight with its block scales, and bytes of the FP32 scales beside each weight
BITS = {BF16: (16.0, 0), "fp8": (8.0, 8), "w4a16": (4.5, 4), "nvfp4": (4.5, 8)}
FORMATS = tuple(BITS)


@dataclass(frozen=True)
class Group:
    """Linear layers that have to share a format."""

    name: str                    # "5.qkv"
    layers: tuple[str, ...]      # as in named_modules()
    weights: int                 # numbers in them
    bytes: dict[str, int]        # format -> bytes of these layers in a checkpoint


def groups(model) -> dict[str, Group]:
    """name -> Group, of every decoder layer of a dense model with q, k, v, o, gate, up and down projections.

    Raises UserError for a model with other linear layers in its decoder.
    """
    found: dict[str, Group] = {}
    for number, (prefix, layer) in enumerate(decoder_layers(model)):
        linear = {n: m.weight for n, m in layer.named_modules() if getattr(m, "weight", None) is not None and m.weight.ndim == 2}
        if set(linear) != {part for parts in FUSED.values() for part in parts}:
            raise UserError(f"{prefix} isn't made of q, k, v, o, gate, up and down projections: mixed recipes by group are for "
                            f"dense models that are.")
        for kind, parts in FUSED.items():
            sizes = [linear[part].numel() for part in parts]
            found[f"{number}.{kind}"] = Group(
                f"{number}.{kind}", tuple(f"{prefix}.{part}" for part in parts), sum(sizes),
                {name: round(sum(sizes) * bits / 8) + len(parts) * scales for name, (bits, scales) in BITS.items()})
    return found


def complete(groups: Mapping[str, Group], choice: Mapping[str, str]) -> dict[str, str]:
    """The choice with "w4a16" for whatever it doesn't name. Raises UserError for a name or format that doesn't exist."""
    for name, fmt in choice.items():
        if name not in groups:
            raise UserError(f"there is no group {name!r}: they are called {', '.join(list(groups)[:4])} and so on.")
        if fmt not in FORMATS:
            raise UserError(f"{name} can be {', '.join(FORMATS)}, not {fmt!r}.")
    return {name: choice.get(name, "w4a16") for name in groups}


def bytes_of(groups: Mapping[str, Group], choice: Mapping[str, str]) -> int:
    """Bytes of the linear layers in a checkpoint with this choice."""
    return sum(groups[name].bytes[fmt] for name, fmt in complete(groups, choice).items())


def size(model, choice: Mapping[str, str]) -> int:
    """Bytes of the whole checkpoint: the groups by their formats, everything else in BF16."""
    found = groups(model)
    rest = sum(p.numel() for p in model.parameters()) - sum(g.weights for g in found.values())
    return bytes_of(found, choice) + 2 * rest


def config(groups: Mapping[str, Group], choice: Mapping[str, str]) -> dict:
    """The ModelOpt config for `quantize(model, batches, config=…)`: each group's entries are those of the recipe that its
    format is named after. Ranges of activations are measured on batches ("max")."""
    entries = [{"quantizer_name": "*", "enable": False}]
    for name, fmt in complete(groups, choice).items():
        if fmt != BF16:
            for entry in _entries(fmt):
                entries += [copy.deepcopy(entry) | {"quantizer_name": f"{layer}.{entry['quantizer_name'].lstrip('*')}"}
                            for layer in groups[name].layers]
    return {"quant_cfg": entries, "algorithm": "max"}


def _entries(fmt: str) -> list[dict]:
    """What the recipe does to every weight and every input."""
    return [entry for entry in cookbook.recipe(fmt).config()["quant_cfg"]
            if entry["quantizer_name"] in ("*weight_quantizer", "*input_quantizer")]
