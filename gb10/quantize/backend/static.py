"""NVFP4 with given block scales (static blocks), which ModelOpt computes by triton kernels only.

The searches for better block scales (MSE sweep, local Hessian, four-over-six, GPTQ) keep one amax per block and try
candidates. This is `static_blockwise_fp4_fake_quant` and `static_blockwise_fp4_cast` of
modelopt/torch/kernels/quantization/gemm/fp4_kernel.py (0.47.0), with `compute_fp4_scales` beside them there and
`nvfp4_scalar_quant` of common/nvfp4_quant.py, operation by operation in FP32.

ModelOpt's export computes the same scales in another order (`NVFP4QTensor`, as in gb10.formats.nvfp4): they may differ
in the last bit, and an element halfway between two codes then falls the other way in the checkpoint. That is so on
CUDA, too. A tie is all that can differ, besides a block scale halfway between two E4M3 numbers.
"""

from __future__ import annotations

import torch

from gb10.formats.elements import E2M1_MAX, E4M3_MAX, round_to_grid


def block_scales(amax: torch.Tensor, global_amax: torch.Tensor | None = None, quantize: bool = True,
                 e4m3_max: float = E4M3_MAX) -> torch.Tensor:
    """FP32 scales amax / 6 of amax's shape, rounded to E4M3 relative to global_amax (else the largest of amax).

    e4m3_max: what the largest block scale becomes; four-over-six leaves room by taking 256 for 448.
    """
    from modelopt.torch.quantization.tensor_quant import scaled_e4m3_impl

    amax = amax.float()
    scale = amax / E2M1_MAX
    if not quantize:
        return scale
    largest = (amax.amax() if global_amax is None else global_amax).float()
    return scaled_e4m3_impl(scale, largest * (E4M3_MAX / e4m3_max) / E2M1_MAX)


def fake_quantize_static(x: torch.Tensor, amax: torch.Tensor, global_amax: torch.Tensor | None = None,
                         quantize: bool = True, e4m3_max: float = E4M3_MAX,
                         dtype: torch.dtype | None = None) -> torch.Tensor:
    """x through NVFP4 and back with one amax per block: x.numel() / amax.numel() elements in a row share one.

    A scale of zero gives a block of zeros, an infinite or NaN one counts as 1. Any shape of x; result in `dtype`, else
    x's. Raises ValueError where x does not divide into that many blocks.
    """
    if x.numel() == 0:
        return x.to(dtype or x.dtype)
    if amax.numel() == 0 or x.numel() % amax.numel():
        raise ValueError(f"x.numel() ({x.numel()}) is not divisible by amax.numel() ({amax.numel()})")
    scale = block_scales(amax, global_amax, quantize, e4m3_max).reshape(-1, 1)
    zero = scale == 0
    safe = torch.where(zero | ~torch.isfinite(scale), torch.ones_like(scale), scale)
    value = _signed(x.detach().float().reshape(amax.numel(), -1) / safe).mul_(safe)
    if zero.any():
        value.masked_fill_(zero, 0.0)
    return value.reshape(x.shape).to(dtype or x.dtype)


def cast(x: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """x, scaled already, to the nearest E2M1 number (ties to even), in `dtype`, else x's."""
    return _signed(x.detach().float() + 0.0).to(dtype or x.dtype)


def _signed(y: torch.Tensor) -> torch.Tensor:
    """The nearest E2M1 number of y (FP32, used up): negative, if only -0.0, where y < 0, and 0.0 where y is -0.0."""
    y.add_(0.0)                                  # -0.0 + 0.0 is 0.0
    return round_to_grid(y.abs())[0].copysign_(y)
