"""How many bytes a quantized model takes as a checkpoint, from shapes and formats, without writing one."""

from __future__ import annotations

import math

from gb10.errors import UserError

KEPT_BITS = 16           # whatever isn't quantized
FP32 = 4                 # bytes of a scale of a whole tensor or channel


def stored_bytes(model) -> int:
    """Bytes of the tensors that `export` would write for `model`, quantized (simulated) or not.

    To the byte for recipes that keep their weights as they are (tests/quantize/test_stored.py compares with exports).
    The scales per input channel that AWQ and SmoothQuant leave behind are not counted: below half a per cent. Tied
    matrices count once. Raises UserError for experts that lie in one tensor.
    """
    total = sum(p.numel() * KEPT_BITS // 8 for p in model.parameters())
    for name, module in model.named_modules():
        if any(child.endswith("weight_quantizers") for child, _ in module.named_children()):
            raise UserError(f"{name} holds experts in one tensor: export the model, and ask ./course inspect for its size.")
        weight, quantizer = getattr(module, "weight", None), getattr(module, "weight_quantizer", None)
        if weight is None or quantizer is None or not quantizer.is_enabled:
            continue
        if weight.element_size() == 1 or not quantizer.fake_quant:
            raise UserError(f"the weight of {name} is stored in packed form already: ask for the size before the export.")
        total += _weight(weight.shape, quantizer) - weight.numel() * KEPT_BITS // 8
        inputs = getattr(module, "input_quantizer", None)
        if inputs is not None and inputs.is_enabled and not inputs.is_mx_format:
            total += FP32                                       # input_scale
    return total


def _weight(shape, quantizer) -> int:
    """Codes, block scales and scales of a weight [rows, columns]."""
    rows, columns = math.prod(shape[:-1]), shape[-1]
    bits = quantizer.num_bits if isinstance(quantizer.num_bits, int) else 1 + sum(quantizer.num_bits)
    out = rows * columns * bits // 8
    sizes = quantizer.block_sizes
    if sizes:
        blocks = rows * math.ceil(columns / sizes[-1])
        if sizes.get("scale_bits"):
            out += blocks + (0 if quantizer.is_mx_format else FP32)      # E4M3 or E8M0; NVFP4 has a tensor scale, too
        else:
            out += blocks * FP32                                         # integers in blocks
    else:
        out += FP32 * (rows if quantizer.axis is not None else 1)
    if (low := getattr(quantizer, "svdquant_lora_a", None)) is not None:
        out += (low.numel() + quantizer.svdquant_lora_b.numel()) * KEPT_BITS // 8
    return out
