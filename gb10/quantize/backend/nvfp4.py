"""NVFP4 with block scales taken from the tensor itself, as ModelOpt simulates it (dynamic blocks).

A weight and an activation are not simulated alike:

weight      what `NVFP4QTensor` stores (modelopt/torch/quantization/qtensor/nvfp4_tensor.py, 0.47.0): a block scale is
            never below 2^-9, and minus zero is read as zero. ModelOpt's CUDA run simulates weights by the kernel below
            instead, and so differs from its own checkpoint in blocks of magnitude below 2^-9 of the largest (and, for
            the formats with blocks of 32, altogether: the kernel always takes 16).
activation  `fp4_fake_quant_kernel` (modelopt/torch/kernels/quantization/gemm/fp4_kernel_hopper.py): no lower clamp;
            a block whose scale comes out below 1e-5 is divided by 1 instead; what is negative keeps its sign as -0.0.
"""

from __future__ import annotations

import torch

from gb10.formats.elements import E2M1_MAX, E4M3_MAX, E4M3_MIN, round_to_grid
from gb10.formats.kernels import nvfp4 as fast
from gb10.formats.nvfp4 import BLOCK, round_trip, tensor_scale_of

SMALLEST_SCALE = 1e-5                            # the kernel divides by 1 below it
SMALLEST_TENSOR_SCALE = 1e-12                    # and takes this one for an amax of zero
FEW = 1 << 14                                    # elements below which the loops aren't worth their overhead


def fake_quantize_weight(w: torch.Tensor, amax: torch.Tensor | None = None, block: int = BLOCK) -> torch.Tensor:
    """w [..., K], K % block == 0, through NVFP4 and back, in w's dtype. amax: the calibrated one, else that of w.

    Blocks of 16 take the compiled loops of the codec. Raises ValueError where the last axis has a partial block.
    """
    amax = None if amax is None else amax.detach().float().amax().to(w.device)
    if block == BLOCK or w.numel() == 0:
        return round_trip(w, amax)
    if w.shape[-1] % block:
        raise ValueError(f"NVFP4 in blocks of {block} along the last axis; {tuple(w.shape)} does not divide into them")
    blocks = w.detach().float().unflatten(-1, (-1, block))
    magnitude = blocks.abs().amax(-1, keepdim=True)
    g = tensor_scale_of(magnitude if amax is None else amax)
    r = magnitude / (E2M1_MAX * g)
    s = torch.where(r == 0, torch.ones_like(r), r).clamp(E4M3_MIN, E4M3_MAX).to(torch.float8_e4m3fn).float() * g
    value = round_to_grid((blocks / s).abs())[0]
    return torch.where(blocks < 0, -value, value).add_(0.0).mul_(s).reshape(w.shape).to(w.dtype)


def fake_quantize_activation(x: torch.Tensor, amax: torch.Tensor | None = None, block: int = BLOCK) -> torch.Tensor:
    """x [..., K] through NVFP4 and back, in x's dtype, block scales from x itself.

    amax: the calibrated amax of the tensor, which fixes the tensor scale; else that of x. A last block that is not
    whole is filled up with zeros, as in the kernel.
    """
    if x.numel() == 0:
        return x                                 # an expert that no token was sent to
    x = x.detach()
    amax = (x.abs().amax() if amax is None else amax.detach().to(x.device)).float().amax()
    g = amax / amax.new_tensor(E2M1_MAX * E4M3_MAX)
    g = torch.where(g > 0, g, torch.full_like(g, SMALLEST_TENSOR_SCALE))
    k, missing = x.shape[-1], -x.shape[-1] % block
    if missing:
        return fake_quantize_activation(torch.nn.functional.pad(x, (0, missing)), amax, block)[..., :k].contiguous()
    quick = _by_the_codec(x, g) if block == BLOCK and x.numel() >= FEW else None
    return _kernel(x.float().unflatten(-1, (-1, block)), g).reshape(x.shape).to(x.dtype) if quick is None else quick


def _kernel(blocks: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """The kernel's arithmetic on FP32 blocks [..., block], g the tensor scale: FP32 of the same shape."""
    magnitude = blocks.abs()
    r = magnitude.amax(-1, keepdim=True) / (E2M1_MAX * g)
    s = r.clamp(max=E4M3_MAX).to(torch.float8_e4m3fn).float() * g
    s = torch.where(s >= SMALLEST_SCALE, s, torch.ones_like(s))
    value = round_to_grid(magnitude / s)[0] * s
    return torch.where(blocks >= 0, value, -value)


def _by_the_codec(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor | None:
    """The same by the compiled loops: the codec's arithmetic is the kernel's but for tiny blocks and the sign of zero.

    Blocks in which the codec clamps the scale from below, or the kernel replaces it, are done again. None where the
    loops don't serve: another device, NaN or infinity in x.
    """
    loops = fast.loops_for(x.dtype, x, g)
    if loops is None or not torch.isfinite(g):
        return None
    with fast.subnormals(loops):
        blocks = fast.Blocks(loops, x)
        if not blocks.finite:
            return None
        packed, scales = blocks.quantize(g)
        out = fast.dequantize(loops, packed, scales, g, x.dtype)
    torch.copysign(out, x + 0, out=out)          # the sum turns a -0.0 of x into 0.0: the kernel tests x >= 0
    s = scales.float()
    again = ((s <= E4M3_MIN) | (s * g < SMALLEST_SCALE)).flatten()
    if again.any():
        flat = out.view(-1, BLOCK)
        flat[again] = _kernel(x.reshape(-1, BLOCK)[again].float(), g).to(x.dtype)
    return out
