"""Every other block format that ModelOpt simulates: MXFP4, MXFP6 (E2M3, E3M2), MXFP8 (E4M3, E5M2), MXINT8 and kin.

activation  the CUDA kernel `amax_and_convert_kernel` of modelopt/torch/kernels/quantization/gemm/tensor_quant_mx.cu
            (0.47.0) with its tables in tensor_quant_mx.h: with an E8M0 scale, the smallest power of two under which
            the block's largest magnitude doesn't saturate ("NV algorithm"); with another scale format, two levels as
            in NVFP4. Elements to nearest, ties to even. The extension is compiled with --use_fast_math, which leaves
            a GPU free to flush subnormals and to divide less exactly; here subnormals count and division is exact.
            A NaN stays NaN (the kernel turns it into the largest element, of either sign); zeros come out as +0.0.
weight      what the checkpoint holds, where ModelOpt can write one: `MXFP4QTensor` (ties go towards zero, and an exact
            zero is stored as minus zero) and `MXFP8QTensor` (both take the exponent by log2 in FP32, rounded up).
            The other formats have no checkpoint; their weights are simulated as activations are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from gb10.formats.elements import (
    E2M1,
    E2M1_BOUNDS,
    E2M1_MAX,
    E4M3_MAX,
    E8M0_BIAS,
    F32_EXPONENT,
    F32_MANTISSA,
    F32_MBITS,
    power_of_two,
)

E8M0 = (8, 0)
LARGEST_F32 = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Element:
    """A small number format: its largest value, stored mantissa bits, exponent of the smallest normal number."""

    top: float
    mbits: int = 0
    emin: int | None = None      # None: integers

    def round(self, y: torch.Tensor) -> torch.Tensor:
        """FP32 y >= 0 to the nearest element, ties to even, what is above the largest becomes the largest."""
        if self.emin is None:
            return y.round().clamp_(max=self.top)
        power = (y.view(torch.int32) & F32_EXPONENT).view(torch.float32)     # the exponent alone: 2^floor(log2 y)
        largest = 2.0 ** math.floor(math.log2(self.top))
        step = power.clamp_(2.0 ** self.emin, largest).mul_(2.0 ** -self.mbits)
        return torch.div(y, step).round_().mul_(step).clamp_(max=self.top)


# ModelOpt's num_bits -> the format; (exponent bits, mantissa bits) or a number of bits for integers
ELEMENTS = {(4, 3): Element(448.0, 3, -6), (5, 2): Element(57344.0, 2, -14), (3, 2): Element(28.0, 2, -2),
            (2, 3): Element(7.5, 3, 0), (2, 1): Element(6.0, 1, 0), (1, 2): Element(3.5, 2, 1), 8: Element(127.0)}


def fake_quantize_block(x: torch.Tensor, element, scale, block: int, amax: torch.Tensor | None = None) -> torch.Tensor:
    """x [..., K] through blocks of `block` along the last axis and back, in x's dtype, as the CUDA kernel does it.

    element, scale: ModelOpt's num_bits and scale_bits, such as (2, 1) and (8, 0). amax: the tensor's largest magnitude,
    for scales other than E8M0. A last block that is not whole is filled up with zeros.
    """
    if x.numel() == 0:
        return x
    kind = ELEMENTS[element]
    blocks, k = _blocks(x, block)
    magnitude = blocks.abs()
    top = magnitude.nan_to_num(nan=0.0, posinf=LARGEST_F32).amax(-1, keepdim=True)
    if scale == E8M0:
        exponent = torch.where(top == 0, torch.zeros_like(top, dtype=torch.int32), ceil_exponent(top, kind.top))
        up, down = power_of_two(-exponent), power_of_two(exponent)
    else:
        up, down = _two_level(top, kind, ELEMENTS[scale], amax)
    value = kind.round(magnitude * up).mul_(down)
    value = torch.where(blocks < 0, -value, value)
    return value.flatten(-2)[..., :k].to(x.dtype)


def fake_quantize_block_weight(w: torch.Tensor, element, scale, block: int,
                               amax: torch.Tensor | None = None) -> torch.Tensor:
    """As fake_quantize_block, but where ModelOpt writes checkpoints of the format: what they hold."""
    if w.numel() and scale == E8M0 and block == 32 and element in ((2, 1), (4, 3)):
        return _stored(w, element, block)
    return fake_quantize_block(w, element, scale, block, amax)


def ceil_exponent(top: torch.Tensor, largest: float) -> torch.Tensor:
    """int32 ceil(log2(top / largest)) within -127..127, read off the bits of the FP32 quotient."""
    bits = (top / top.new_tensor(largest)).view(torch.int32)
    exponent, significand = bits >> F32_MBITS & 0xFF, bits & F32_MANTISSA
    above = (significand > 0) & (exponent != 0xFE) & ~((exponent == 0) & (significand <= 0x400000))
    return exponent + above.int() - E8M0_BIAS


def _two_level(top, element: Element, scale: Element, amax) -> tuple[torch.Tensor, torch.Tensor]:
    """(multiplier, its inverse) for blocks whose scales are rounded to `scale` relative to the tensor's amax; in FP64."""
    whole = (top if amax is None else amax.to(top.device)).detach().float().amax()
    ratio = (whole.new_tensor(element.top) / whole).double() * scale.top
    wanted = (top / element.top).double() * ratio
    down = scale.round(wanted.float()).double() / ratio
    usable = (top > 0) & torch.isfinite(whole) & (whole > 0)
    down = torch.where(usable, down, torch.ones_like(down))
    up = torch.where(down > 0, 1 / down, torch.zeros_like(down))     # a scale that vanished: the block becomes zeros
    return up.float(), down.float()


def _stored(w: torch.Tensor, element, block: int) -> torch.Tensor:
    """MXFP4QTensor or MXFP8QTensor: quantize, then dequantize."""
    blocks, k = _blocks(w, block)
    top = blocks.abs().amax(-1, keepdim=True)
    lowest = top.new_tensor(-float(E8M0_BIAS))
    if element == (2, 1):
        exponent = torch.ceil(torch.maximum(torch.log2(top / E2M1_MAX), lowest))
        y = blocks / torch.exp2(exponent)
        bounds = torch.tensor(E2M1_BOUNDS, device=w.device)
        value = torch.tensor(E2M1, device=w.device)[torch.bucketize(y.abs(), bounds)]
        value = torch.where(y > 0, value, -value)
    else:
        descale = top / E4M3_MAX
        exponent = torch.ceil(torch.where(descale > 0, torch.log2(descale), lowest)).clamp(-E8M0_BIAS, E8M0_BIAS)
        value = (blocks * torch.exp2(-exponent)).clamp_(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).float()
    return value.mul_(torch.exp2(exponent)).flatten(-2)[..., :k].to(w.dtype)


def _blocks(x: torch.Tensor, block: int) -> tuple[torch.Tensor, int]:
    """(x as FP32 blocks [..., ceil(K / block), block], K); what is missing in the last one is zero."""
    k = x.shape[-1]
    x = torch.nn.functional.pad(x.detach().float(), (0, -k % block))
    return x.unflatten(-1, (-1, block)), k
