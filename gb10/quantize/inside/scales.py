"""Scales of whole tensors: what their numbers mean in each layout, and which of them can't be right.

NVFP4 has two levels: weight = code x block scale x tensor scale. The tensor scale brings the largest block scale to
448, E4M3's maximum, with 6, E2M1's maximum, as the largest code: amax / (6 x 448) = amax / 2688. ModelOpt stores that
number and multiplies by it; compressed-tensors stores its inverse and divides. Mixed up, every weight is wrong by a
factor of millions and no shape tells.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

from gb10.quantize.inside import ggml
from gb10.quantize.inside.header import TensorInfo
from gb10.quantize.inside.layouts import Weight
from gb10.quantize.inside.sniff import show

FULL = 6 * 448                   # code and block scale at their largest
SMALL = 65_536                   # bytes of a tensor of scales that is still read
MULTIPLY, DIVIDE = "multiply", "divide"
_READ = {"weight_scale_2", "weight_global_scale", "input_scale", "input_global_scale", "k_scale", "v_scale", "kv_scale"}


@dataclass(frozen=True)
class Convention:
    role: str                    # which tensor
    layout: str
    rule: str                    # multiply or divide
    amax: float                  # the largest magnitude is this times (multiply) or over (divide) the scale
    what: str                    # weight or input
    text: str                    # with {value}, {amax} and {tensor}


_NVFP4 = "weight = code x block scale x {role}, and {role} = amax / 2688. {{value}} stands for amax {{amax}}{more}."
_INPUT = "of what calibration saw at the layer's input. {value} stands for amax {amax}."
CONVENTIONS = (
    Convention("weight_scale_2", "modelopt", MULTIPLY, FULL, "weight",
               _NVFP4.format(role="weight_scale_2", more=" (a four-over-six recipe divides by 1536 instead)")),
    Convention("weight_global_scale", "compressed-tensors", DIVIDE, FULL, "weight",
               "weight = code x block scale / weight_global_scale, and weight_global_scale = 2688 / amax, the inverse of "
               "ModelOpt's number. {value} stands for amax {amax}."),
    Convention("weight_scale", "gguf", MULTIPLY, FULL, "weight", _NVFP4.format(role=".scale", more="")),
    Convention("weight_scale", "scaled", MULTIPLY, 448, "weight",
               "weight = code x weight_scale, and weight_scale = amax / 448. {value} stands for amax {amax}."),
    Convention("input_scale", "modelopt", MULTIPLY, FULL, "input", "It multiplies too: amax / 2688 " + _INPUT),
    Convention("input_global_scale", "compressed-tensors", DIVIDE, FULL, "input", "It divides too: 2688 / amax " + _INPUT),
    Convention("input_scale", "gguf", MULTIPLY, FULL, "input", "It multiplies too: amax / 2688 " + _INPUT),
    Convention("input_scale", "scaled", MULTIPLY, 448, "input", "It multiplies too: amax / 448 " + _INPUT),
)
_GROUPS = {
    "gptq": "weight = (code - zero point) x scale, for each group along the inputs.",
    "awq": "weight = (code - zero point) x scale, for each group along the inputs.",
    "bitsandbytes": "weight = table[code] x absmax, one absmax for each block; often quantized once more (nested).",
    "mlx": "weight = code x scale + bias, for each group along the inputs.",
}


def inside(weight: Weight) -> str | None:
    """How a weight without a scale of its own for the whole tensor is decoded; None for the others."""
    if weight.layout == "gguf":
        if not weight.block or weight.format == "NVFP4":
            return None
        size, block = ggml.BYTES[weight.format], ggml.BLOCK[weight.format]
        return f"{weight.format}: {size} bytes hold {block} weights and their scales, {8 * size / block:.4g} bits each."
    if _for_fp8(weight):
        return ("NVFP4 in blocks of 32, for FP8 activations (W4A8): weight = code x block scale x weight_scale_2, and "
                "weight_scale_2 = amax / 448, so that code x block scale is an FP8 number.")
    if weight.format in ("MXFP4", "MXFP6", "MXFP8"):
        return (f"{weight.format}: weight = code x 2^(scale - 127), one E8M0 byte for 32 weights and no scale of the whole "
                f"tensor.")
    if "x" in weight.block:
        odd = "_inv, which in spite of its name is multiplied with" if weight.layout == "deepseek" else ""
        return f"{weight.format}: weight = code x weight_scale{odd}: one F32 for {weight.block} weights."
    if weight.layout in _GROUPS:
        return f"{weight.format}: {_GROUPS[weight.layout]}"
    if weight.block == "channel":
        return f"{weight.format}: weight = code x weight_scale, one for each row (output channel)."
    if weight.format.startswith("INT") and weight.block.isdigit():
        return f"{weight.format}: weight = code x weight_scale, one for {weight.block} weights of a row."
    return None


def _for_fp8(weight: Weight) -> bool:
    """ModelOpt's W4A8_NVFP4_FP8 (modelopt.torch.export.quant_utils, get_weight_scaling_factor_2, 0.47.0)."""
    return (weight.format, weight.layout, weight.block) == ("NVFP4", "modelopt", "32")


def convention(weight: Weight, role: str) -> Convention | None:
    layout = "scaled" if weight.format == "FP8" else weight.layout
    if weight.format not in ("NVFP4", "FP8") or _for_fp8(weight):
        return None
    if (role, layout) == ("weight_scale", "scaled") and weight.block not in ("tensor", "expert"):
        return None
    return next((c for c in CONVENTIONS if (c.role, c.layout) == (role, layout)), None)


def role_of(tensor: TensorInfo) -> str:
    """The part of a name that says which scale it is."""
    return _role(tensor.name.rpartition(".")[2][-64:])


@lru_cache(maxsize=1000)
def _role(last: str) -> str:
    found = re.search(r"(weight_scale_2|weight_global_scale|input_global_scale|input_scale|weight_scale)\Z", last)
    return found[1] if found else ("weight_scale" if last == "scale" else last)


def small(tensor: TensorInfo) -> bool:
    """Is this a scale of a whole tensor (or of each expert), or the shape of one, that is read and shown?"""
    last = role_of(tensor)
    if last in _READ:
        return 0 < tensor.bytes <= SMALL
    if last in ("weight_scale", "weight_shape"):
        return 0 < tensor.bytes <= 64
    return False


@dataclass(frozen=True)
class Scale:
    """One convention as this checkpoint uses it, with an example and the range of all its numbers."""

    layout: str
    tensor: str                  # the role
    rule: str
    what: str
    count: int                   # numbers seen
    low: float
    high: float
    name: str                    # the example's tensor
    value: float
    amax: float                  # that the example implies
    explained: str


def scales(weights: list[Weight], values: dict[str, tuple]) -> tuple[list[Scale], list[tuple[str, str]]]:
    """What the scales of whole tensors say, and warnings (code, sentence) about numbers that can't be right."""
    found: dict[Convention, list[tuple[float, str]]] = {}
    warnings = _Collected()
    for weight in weights:
        for tensor in weight.tensors:
            if tensor.name not in values:
                continue
            how = convention(weight, role_of(tensor))
            if how is None:
                continue
            for value in values[tensor.name]:
                found.setdefault(how, []).append((float(value), tensor.name))
                _judge(how, float(value), tensor, warnings)
        _problem(weight, warnings)
    return [_summed(how, seen) for how, seen in found.items()], warnings.sentences()


def _summed(how: Convention, seen: list[tuple[float, str]]) -> Scale:
    usable = [pair for pair in seen if math.isfinite(pair[0]) and pair[0] > 0] or [(math.nan, seen[0][1])]
    value, name = usable[0]
    amax = how.amax * value if how.rule == MULTIPLY else how.amax / value
    layout = how.layout if how.layout != "scaled" else "fp8"
    return Scale(layout, how.role, how.rule, how.what, len(seen), min(usable)[0], max(usable)[0], name, value, amax,
                 how.text.format(value=plain(value), amax=plain(amax)))


def plain(x: float) -> str:
    """Four figures, never as a power of ten for large numbers."""
    return f"{x:,.0f}" if 1000 <= abs(x) < 1e15 else f"{x:.4g}"


def _judge(how: Convention, value: float, tensor: TensorInfo, warnings: _Collected) -> None:
    name = tensor.name
    if not math.isfinite(value) or value <= 0:
        word = "not a number" if math.isnan(value) else "infinite" if math.isinf(value) else "zero" if not value else "negative"
        code = "bad-weight-scale" if how.what == "weight" else "bad-input-scale"
        warnings.add(code, name, f"is {word}: the layer computes nonsense with it")
    elif how.what == "weight" and how.amax == FULL and (value > 1) == (how.rule == MULTIPLY) and value != 1:
        # amax of a weight is seldom above 10 and was never seen near 2688
        other = "2688 / amax, the inverse" if how.rule == MULTIPLY else "amax / 2688, the inverse"
        amax = how.amax * value if how.rule == MULTIPLY else how.amax / value
        warnings.add("scale-convention", name, f"is {value:.4g}, which would be a largest weight of {amax:.3g}: it looks "
                     f"like {other} of what its name stands for")


def _problem(weight: Weight, warnings: _Collected) -> None:
    if weight.problem:
        code = "unknown-layout" if weight.format == "unknown" else "shapes"
        warnings.add(code, weight.name, weight.problem)


class _Collected:
    """Warnings of one kind become one sentence: the first, and how many more there are."""

    def __init__(self):
        self.seen: dict[str, list] = {}

    def add(self, code: str, name: str, text: str) -> None:
        entry = self.seen.setdefault(code, [name, text, 0])
        entry[2] += 1

    def sentences(self) -> list[tuple[str, str]]:
        out = []
        for code, (name, text, count) in self.seen.items():
            more = f" (and {count - 1:,} more like it)" if count > 1 else ""
            out.append((code, f"{show(name)} {text}{more}."))
        return out


# Layers that an engine computes in one multiplication: they must share one tensor scale
_FUSED = (
    (re.compile(r"(.*self_attn|.*attention|.*attn)\.(?:q|k|v)_proj\Z", re.DOTALL), "q, k and v"),
    (re.compile(r"(.*)\.(?:gate|up)_proj\Z", re.DOTALL), "gate and up"),
    (re.compile(r"(.*)\.(?:w1|w3)\Z", re.DOTALL), "w1 and w3"),
    (re.compile(r"(blk\.\d+)\.attn_[qkv]\Z", re.DOTALL), "q, k and v"),
)


def fused(weights: list[Weight], values: dict[str, tuple]) -> list[tuple[str, str]]:
    """A warning where fused NVFP4 layers have different tensor scales."""
    groups: dict[tuple[str, str], set] = {}
    for w in weights:
        if w.format != "NVFP4" or w.layout == "gguf":        # llama.cpp multiplies each by itself
            continue
        role = next((t.name for t in w.tensors if role_of(t) in ("weight_scale_2", "weight_global_scale")), None)
        hit = next(((m[1], what) for rule, what in _FUSED if (m := rule.match(w.name))), None)
        if hit and role in values and len(values[role]) == 1:
            groups.setdefault(hit, set()).add(values[role][0])
    odd = [(where, what, seen) for (where, what), seen in groups.items() if len(seen) > 1]
    if not odd:
        return []
    where, what, seen = odd[0]
    ratio = max(seen) / min(seen) if min(seen) > 0 else math.inf
    more = f" (and {len(odd) - 1:,} more groups)" if len(odd) > 1 else ""
    return [("fused-scales", (
        f"{what} of {show(where)} have different tensor scales (up to {ratio:.3g} times){more}: vLLM runs them as one, "
        f"takes one of the numbers for all, and decodes the others wrongly."))]
