"""Layouts of other makers, recognised by the parts of a weight: gpt-oss, GPTQ, AWQ, bitsandbytes and MLX.

Each function takes the tensors of one weight by role and returns what layouts.weight_of asks for: (format, layout,
shape, parameters, block, activations, problem).
"""

from __future__ import annotations

from gb10.quantize.inside.header import TensorInfo, elements


def gpt_oss(p: dict):
    """blocks [..., K/32, 16] uint8 and scales [..., K/32] E8M0."""
    blocks, scales = p["blocks"], p.get("scales")
    said = list(scales.shape) if scales else "no shape"
    if scales is None or len(blocks.shape) < 3 or blocks.shape[-1] != 16 or scales.shape != blocks.shape[:-1]:
        return ("MXFP4", "gpt-oss", blocks.shape, 2 * elements(blocks.shape), "32", "",
                f"has blocks of shape {list(blocks.shape)} and scales of {said}")
    shape = (*blocks.shape[:-2], 32 * blocks.shape[-2])
    return "MXFP4", "gpt-oss", shape, elements(shape), "32", "", ""


def int_columns(p: dict):
    """GPTQ packs along K: qweight [K b/32, N]; AWQ along N: [K, N b/32]; scales [groups, N] in both."""
    q, scales = p["qweight"], p.get("scales")
    if scales is None or any(len(t.shape) != 2 or not elements(t.shape) for t in (q, scales)):
        return "unknown", "gptq", q.shape, elements(q.shape), "", "", "has no scales of two dimensions beside it"
    groups, n = scales.shape
    zeros = p.get("qzeros")
    if q.shape[1] == n:                      # the zero points say how many bits
        bits = 32 * zeros.shape[-1] // n if zeros and len(zeros.shape) == 2 else 4
        layout, k = "gptq", 32 * q.shape[0] // bits if bits else 0
    else:
        bits = 32 * q.shape[1] // n
        layout, k = "awq", q.shape[0]
    if bits not in (2, 3, 4, 8) or not k:
        return "unknown", layout, q.shape, elements(q.shape), "", "", "has words that fit no number of bits"
    block = "channel" if groups == 1 else str(k // groups)
    problem = "" if k % groups == 0 else f"has {groups} groups of scales for {k} inputs"
    return f"INT{bits}", layout, (n, k), n * k, block, "", problem


def bitsandbytes(p: dict, main: TensorInfo):
    state = next((r for r in p if r.startswith("quant_state.bitsandbytes__")), "")
    if "SCB" in p:
        return "INT8", "bitsandbytes", main.shape, elements(main.shape), "channel", "INT8", ""
    name = {"nf4": "NF4", "fp4": "FP4"}.get(state.rpartition("__")[2], "unknown")
    count = 2 * elements(main.shape)         # two codes a byte, in one long column
    absmax = p.get("absmax")
    block = str(count // elements(absmax.shape)) if absmax and elements(absmax.shape) else ""
    return name, "bitsandbytes", (count,), count, block, "", "" if state else "has no quant_state beside it"


def mlx(p: dict, group: int):
    """weight [N, K b/32] uint32 and scales [N, K/group]; biases too where the codes are integers."""
    main, scales = p["weight"], p["scales"]
    k = group * scales.shape[-1] if scales.shape else 0
    bits = 32 * main.shape[-1] // k if k and main.shape else 0
    if not 2 <= bits <= 8 or bits * k != 32 * main.shape[-1]:
        return "unknown", "mlx", main.shape, elements(main.shape), "", "", "has words that fit no number of bits"
    shape = (*main.shape[:-1], k)
    name = f"INT{bits}" if "biases" in p else {16: "NVFP4", 32: "MXFP4"}.get(group, "unknown")
    return name, "mlx", shape, elements(shape), str(group), "", ""
