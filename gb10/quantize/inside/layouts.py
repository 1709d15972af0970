"""What each weight became: the format and the layout, told from the names, dtypes and shapes of its tensors alone.

Bits per weight are always bytes x 8 / parameters, with every scale that lies beside the codes counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from gb10.quantize.inside import foreign, ggml
from gb10.quantize.inside.header import BITS, TensorInfo, elements
from gb10.quantize.inside.kinds import kind_of
from gb10.quantize.inside.parts import Group

PLAIN = {"BF16", "F16", "F32", "F64", "C64", "BOOL", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64"}
SIXTEEN = {"BF16", "F16", "F32", "F64"}                          # "stayed": not quantized
FP8 = {"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"}


@dataclass(frozen=True, slots=True)
class Weight:
    name: str                        # module, or tensor: model.layers.0.mlp.up_proj
    kind: str                        # a key of kinds.TITLES
    format: str                      # NVFP4, MXFP4, FP8, MXFP8, INT4, INT8, NF4, BF16, Q4_K …; unknown
    layout: str                      # plain, modelopt, compressed-tensors, scaled (weight and weight_scale), gpt-oss …
    shape: tuple[int, ...]           # of the weight that the codes stand for
    parameters: int
    bytes: int                       # codes and all scales
    block: str                       # what shares one scale: "16", "128x128", "tensor", "channel"; "" for none
    activations: str                 # what its scales say of the input: FP4, FP8, INT8; "" where they say nothing
    tensors: tuple[TensorInfo, ...]
    problem: str = ""                # what doesn't fit together; ends up as a warning

    @property
    def bits(self) -> float:
        return 8 * self.bytes / self.parameters if self.parameters else 0.0


def weight_of(group: Group, values: dict[str, tuple], mlx_group: int = 64) -> Weight:
    """The weight that a group of tensors stands for. values: those of its small tensors, by name.

    mlx_group: the group size of an MLX checkpoint, which its shapes alone don't tell."""
    main = group.main
    if main is None:
        what = "unknown", "plain", (), 0, "", "", "is a scale without a weight beside it"
    elif main.dtype in ggml.BLOCK and main.dtype not in BITS:
        what = _ggml(group, main)
    elif group.parts.keys() == {"weight"}:
        what = _alone(main)
    else:
        what = _safetensors(group, main, values, mlx_group)
    layout, name, shape, parameters, block, activations, problem = (what[1], what[0], *what[2:])
    total = sum(t.bytes for t in group.parts.values())
    kind = kind_of(group.name if main is None else main.name)
    return Weight(group.name, kind, name, layout, shape, parameters, total, block, activations,
                  tuple(group.parts.values()), problem)


# Each of these, and those of foreign, returns (format, layout, shape, parameters, block, activations, problem).

def _unknown(layout: str, main: TensorInfo, problem: str):
    return "unknown", layout, main.shape, elements(main.shape), "", "", problem


def _alone(t: TensorInfo):
    if t.dtype in FP8:
        return "FP8", "plain", t.shape, elements(t.shape), "", "", ""
    packed = t.dtype in ("U8", "U32", "I32", "F4") and len(t.shape) > 1 and t.bytes > 65536
    problem = f"is {t.dtype} with no scales beside it: what its bits mean is not in the file" if packed else ""
    return "unknown" if packed else t.dtype, "plain", t.shape, elements(t.shape), "", "", problem


def _ggml(group: Group, main: TensorInfo):
    block = ggml.BLOCK[main.dtype]
    if main.dtype == "NVFP4":
        block = 16                           # a block of 64 carries four scales
    activations = "FP4" if main.dtype == "NVFP4" and "input_scale" in group.parts else ""
    return main.dtype, "gguf", main.shape, elements(main.shape), str(block) if block > 1 else "", activations, ""


def _safetensors(group: Group, main: TensorInfo, values: dict, mlx_group: int):
    p = group.parts
    if any(r.startswith("quant_state.bitsandbytes") or r in ("absmax", "quant_map", "SCB") for r in p):
        return foreign.bitsandbytes(p, main)
    if "blocks" in p:
        return foreign.gpt_oss(p)
    if "qweight" in p:
        return foreign.int_columns(p)
    if "weight_packed" in p:
        return _compressed(p, values)
    if main.dtype == "U32" and "scales" in p:
        return foreign.mlx(p, mlx_group)
    if main.dtype in FP8:
        return _fp8(p)
    if main.dtype == "I8" and "weight_scale" in p:
        block = _granularity(main.shape, p["weight_scale"].shape)
        return "INT8", "scaled", main.shape, elements(main.shape), block, "INT8" if "input_scale" in p else "", ""
    if main.dtype in ("U8", "F4", "I8") and "weight_scale" in p:
        return _modelopt_4bit(p, main)
    extra = sorted(set(p) - {"weight"})
    if main.dtype in SIXTEEN:
        # AWQ's pre_quant_scale or an unused input_scale beside a weight that stayed
        return main.dtype, "plain", main.shape, elements(main.shape), "", "", ""
    return _unknown("plain", main, f"is {main.dtype} beside {', '.join(extra)[:60]}")


def _modelopt_4bit(p: dict, main: TensorInfo):
    scale = p["weight_scale"]
    doubled = 1 if main.dtype == "F4" else 2
    shape = (*main.shape[:-1], doubled * main.shape[-1]) if main.shape else ()
    if scale.dtype == "F8_E4M3":
        block, problem = _along_k(shape, scale, 16)
        if block == "32":                            # ModelOpt's W4A8_NVFP4_FP8, the only one with such blocks
            problem = ""
        if "weight_scale_2" not in p:
            problem = problem or "has block scales and no weight_scale_2"
        activations = "" if "input_scale" not in p else "FP8" if block == "32" else "FP4"
        return "NVFP4", "modelopt", shape, elements(shape), block, activations, problem
    if scale.dtype in ("U8", "F8_E8M0"):
        block, problem = _along_k(shape, scale, 32)
        return "MXFP4", "modelopt", shape, elements(shape), block, "FP8" if "input_scale" in p else "", problem
    # INT4-AWQ packs two rows into one byte: [N/2, K] with scales [N, K/group]
    if len(main.shape) >= 2 and len(scale.shape) == len(main.shape) and scale.shape[-2] == 2 * main.shape[-2]:
        shape = (*main.shape[:-2], 2 * main.shape[-2], main.shape[-1])
        block, problem = _along_k(shape, scale, None)
        return "INT4", "modelopt", shape, elements(shape), block, "FP8" if "weight_scale_2" in p else "", problem
    return _unknown("modelopt", main, f"has scales of dtype {scale.dtype} that fit no layout")


def _fp8(p: dict):
    main = p["weight"]
    inverse = p.get("weight_scale_inv")
    scale = inverse or p.get("weight_scale") or p.get("qscale_weight") or p.get("scales")
    activations = "FP8" if "input_scale" in p or "qscale_act" in p else ""
    if scale is None:
        return "FP8", "plain", main.shape, elements(main.shape), "", activations, "has no weight_scale beside it"
    block = _granularity(main.shape, scale.shape)
    mx = scale.dtype in ("U8", "F8_E8M0") and block == "32"
    layout = "deepseek" if inverse else "scaled"
    problem = "" if block else f"has scales of shape {list(scale.shape)} beside a weight of {list(main.shape)}"
    return "MXFP8" if mx else "FP8", layout, main.shape, elements(main.shape), block, activations, problem


def _compressed(p: dict, values: dict):
    main, scale = p["weight_packed"], p.get("weight_scale")
    if scale is None:
        return _unknown("compressed-tensors", main, "has no weight_scale beside it")
    activations = "FP4" if "input_global_scale" in p else ""
    if main.dtype == "I32":
        return _pack_quantized(p, values)
    shape = (*main.shape[:-1], 2 * main.shape[-1]) if main.shape else ()
    if scale.dtype == "F8_E4M3":
        block, problem = _along_k(shape, scale, 16)
        if "weight_global_scale" not in p:
            problem = problem or "has block scales and no weight_global_scale"
        return "NVFP4", "compressed-tensors", shape, elements(shape), block, activations, problem
    if scale.dtype in ("U8", "F8_E8M0"):
        if scale.shape and main.shape and 3 * 32 * scale.shape[-1] == 4 * main.shape[-1]:    # 4 codes in 3 bytes
            shape = (*main.shape[:-1], 32 * scale.shape[-1])
            return "MXFP6", "compressed-tensors", shape, elements(shape), "32", "", ""
        block, problem = _along_k(shape, scale, 32)
        return "MXFP4", "compressed-tensors", shape, elements(shape), block, "", problem
    return _unknown("compressed-tensors", main, f"has scales of dtype {scale.dtype}")


def _pack_quantized(p: dict, values: dict):
    """Integers of b bits packed along K into int32: ceil(K x b / 32) words a row; weight_shape says [N, K]."""
    main, scale = p["weight_packed"], p["weight_scale"]
    said = values.get(p["weight_shape"].name, ()) if "weight_shape" in p else ()
    if len(said) != len(main.shape) or not main.shape or any(type(n) is not int or n <= 0 for n in said):
        return _unknown("compressed-tensors", main, "has no usable weight_shape")
    bits = 32 * main.shape[-1] // said[-1]
    if tuple(said[:-1]) != main.shape[:-1] or not 1 <= bits <= 8 or main.shape[-1] != -(-said[-1] * bits // 32):
        return _unknown("compressed-tensors", main,
                        f"has a weight_shape of {list(said)} that its {list(main.shape)} words can't hold")
    block = _granularity(tuple(said), scale.shape)
    problem = "" if block else f"has scales of shape {list(scale.shape)} beside a weight of {list(said)}"
    return f"INT{bits}", "compressed-tensors", tuple(said), elements(said), block, "", problem


def _along_k(shape: tuple, scale: TensorInfo, usual: int | None) -> tuple[str, str]:
    """(elements of K that share one scale, what doesn't fit)."""
    k, per_row = (shape[-1] if shape else 0), (scale.shape[-1] if scale.shape else 0)
    if scale.shape[:-1] != shape[:-1] or not per_row or k % per_row:
        return "", f"has scales of shape {list(scale.shape)} beside a weight of {list(shape)}"
    block = k // per_row
    odd = usual and block != usual
    return str(block), f"has one scale for {block} weights instead of {usual}" if odd else ""


def _granularity(weight: tuple, scale: tuple) -> str:
    """What shares one scale, from the shapes of a weight [..., N, K] and its scales; "" where they don't fit."""
    count = elements(scale)
    if count == 1:
        return "tensor"
    if not weight or not count:
        return ""
    if len(weight) == 3 and count == weight[0]:
        return "expert"
    if len(scale) == 4 == 2 * len(weight) and scale[1] == scale[3] == 1:     # ModelOpt's FP8 in blocks
        scale = scale[::2]
    flat = tuple(n for n in scale if n != 1)
    if flat and flat == tuple(n for n in weight[:-1] if n != 1):
        return "channel"
    if len(scale) != len(weight) or scale[:-2] != weight[:-2]:
        return ""
    if scale[:-1] == weight[:-1] and weight[-1] % scale[-1] == 0:
        return str(weight[-1] // scale[-1])
    if len(weight) < 2:
        return ""
    # a square block, the last one of a row or column cut short
    for side in (128, 64, 32, 256):
        if scale[-2:] == (-(-weight[-2] // side), -(-weight[-1] // side)):
            return f"{side}x{side}"
    return ""
