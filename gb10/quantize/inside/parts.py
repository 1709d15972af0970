"""Which tensors of a file belong together: the codes of a weight, its scales, and what else a quantizer left there.

Three ways of naming: `module.weight_scale` beside `module.weight` (a linear layer), `experts.down_proj_weight_scale`
beside `experts.down_proj` (all experts in one tensor), `module.weight.absmax` beside `module.weight` (bitsandbytes).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gb10.quantize.inside.header import TensorInfo

# Roles that only a quantizer writes
QUANTIZER = (
    "weight_scale_2", "weight_scale_inv", "weight_scale", "weight_packed", "weight_global_scale", "weight_zero_point",
    "weight_shape", "weight_g_idx", "input_scale", "input_global_scale", "input_zero_point", "output_scale",
    "pre_quant_scale", "svdquant_lora_a", "svdquant_lora_b", "qweight", "qzeros", "qscale_weight", "qscale_act", "SCB",
    "weight_format",
)
# Roles only beside a weight: other modules use these words too
BESIDE = {"scale": "weight_scale", "scales": "scales", "biases": "biases", "g_idx": "g_idx"}
STACKED = (
    "weight_scale_2", "weight_scale_inv", "weight_scale", "scale_inv", "weight_packed", "weight_global_scale",
    "input_scale", "input_global_scale", "pre_quant_scale", "blocks", "scales",
)
KV = ("k_scale", "v_scale", "kv_scale", "k_bias", "v_bias")
MAIN = ("weight", "weight_packed", "qweight", "blocks")          # where the codes themselves can lie


@dataclass
class Group:
    """One weight and its companions, by role. `name` is the module, or the tensor where it isn't called .weight."""

    name: str
    parts: dict[str, TensorInfo] = field(default_factory=dict)

    @property
    def main(self) -> TensorInfo | None:
        return next((self.parts[r] for r in MAIN if r in self.parts), None)


def grouped(tensors: list[TensorInfo]) -> tuple[list[Group], list[TensorInfo]]:
    """(the weights in the order of the file, the scales of the KV cache)."""
    names = {t.name for t in tensors}
    groups: dict[str, Group] = {}
    kv = []
    for t in tensors:
        owner, role = _owner(t.name, names)
        if role == "kv":
            kv.append(t)
            continue
        group = groups.setdefault(owner, Group(owner))
        if role in group.parts:              # a name that fits twice: it stands for itself
            group = groups.setdefault(t.name + "\0", Group(t.name))
            role = "weight"
        group.parts[role] = t
    return list(groups.values()), kv


def _owner(name: str, names: set[str]) -> tuple[str, str]:
    module, _, last = name.rpartition(".")
    if last == "weight":
        return module, "weight"
    if last in QUANTIZER:
        return module, last
    if last in KV and module:
        return name, "kv"
    if last in BESIDE:
        if f"{module}.weight" in names or f"{module}.qweight" in names:
            return module, BESIDE[last]
        if module.endswith(".weight") and module in names:      # GGUF of some converters: ffn_up.weight.scale
            return module[: -len(".weight")], BESIDE[last]
    inside = name.find(".weight.")
    if inside > 0 and f"{name[:inside]}.weight" in names:       # bitsandbytes
        return name[:inside], name[inside + len(".weight."):]
    for suffix in STACKED:
        if last.endswith(f"_{suffix}"):
            owner = name[: -len(suffix) - 1]
            if suffix in ("blocks", "scales") and not {f"{owner}_blocks", f"{owner}_scales"} <= names:
                break
            return owner, "weight_scale_inv" if suffix == "scale_inv" else suffix
    return name, "weight"
