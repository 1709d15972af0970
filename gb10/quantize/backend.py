"""The quant backend that lets ModelOpt's NVFP4 run without a GPU.

ModelOpt simulates NVFP4 by a CUDA kernel; on a CPU a quantized model can be calibrated but not run. Its extension
point is `register_quant_backend(name, entrypoint)`: a quantizer whose config names a backend calls the entrypoint
instead of the kernel. With the two backends below in the config, calibration, evaluation and export work on CPU.

WEIGHT     bit for bit what ModelOpt's own NVFP4QTensor gives (quantize, then dequantize) for the quantizer's amax:
           a simulated weight is the weight that the exported checkpoint holds.
ACTIVATION the arithmetic of ModelOpt's CUDA kernel for dynamic blocks (`fp4_fake_quant_kernel` in
           modelopt/torch/kernels/quantization/gemm/fp4_kernel_hopper.py, 0.47.0). It has no lower clamp on the block
           scale: a block whose scale comes out below 1e-5 is divided by 1 instead.
"""

from __future__ import annotations

import torch

from gb10.formats.elements import E2M1_MAX, E4M3_MAX, round_to_grid
from gb10.formats.nvfp4 import BLOCK, round_trip

WEIGHT = "gb10_nvfp4_weight"
ACTIVATION = "gb10_nvfp4_activation"


def fake_quantize_weight(w: torch.Tensor, amax: torch.Tensor | None = None) -> torch.Tensor:
    """w [..., K] through NVFP4 and back, in w's dtype. amax: the calibrated one, else that of w."""
    return round_trip(w, amax)


def fake_quantize_activation(x: torch.Tensor, amax: torch.Tensor | None = None) -> torch.Tensor:
    """x [..., K] through NVFP4 and back, in x's dtype, block scales from x itself (dynamic).

    amax: the calibrated amax of the tensor, which fixes the tensor scale; else that of x.
    """
    if x.shape[-1] % BLOCK:
        raise ValueError(f"NVFP4 works on blocks of {BLOCK}; this activation has {x.shape[-1]} features")
    if x.numel() == 0:
        return x                                 # an expert that no token was sent to
    blocks = x.float().unflatten(-1, (-1, BLOCK))
    magnitude = blocks.abs()
    amax = (magnitude if amax is None else amax.to(x.device)).float().amax()
    g = amax / (E2M1_MAX * E4M3_MAX)
    g = torch.where(g > 0, g, torch.full_like(g, 1e-12))
    r = magnitude.amax(-1, keepdim=True) / (E2M1_MAX * g)
    s = r.clamp(max=E4M3_MAX).to(torch.float8_e4m3fn).float() * g
    s = torch.where(s >= 1e-5, s, torch.ones_like(s))
    value = round_to_grid(magnitude / s)[0] * s
    return torch.where(blocks >= 0, value, -value).reshape(x.shape).to(x.dtype)


def _entry(fake_quantize):
    def entrypoint(inputs: torch.Tensor, quantizer) -> torch.Tensor:
        sizes = quantizer.block_sizes or {}
        if quantizer.num_bits != (2, 1) or sizes.get(-1) != BLOCK or sizes.get("scale_bits") != (4, 3):
            raise NotImplementedError(
                f"the course's CPU backend knows NVFP4 (E2M1, blocks of 16, E4M3 scales); this quantizer asks for "
                f"num_bits={quantizer.num_bits}, block_sizes={sizes}")
        # AWQ's search calls before there is a calibrated amax: the input's own serves then.
        amax = getattr(quantizer, "_amax", None)
        return fake_quantize(inputs, amax)

    return entrypoint


def register() -> None:
    """Make both backends known to ModelOpt; doing it again is harmless."""
    from modelopt.torch.quantization.nn.modules import tensor_quantizer as tq

    for name, function in ((WEIGHT, fake_quantize_weight), (ACTIVATION, fake_quantize_activation)):
        if not tq.is_registered_quant_backend(name):
            tq.register_quant_backend(name, _entry(function))
