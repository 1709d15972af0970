"""FP8: eight-bit floats (E4M3) with one FP32 scale for the whole tensor.

    scale = amax(tensor) / 448;   element = e4m3(x / scale);   value = element * scale

as ModelOpt's `FP8QTensor` (0.47.0) does it on FP32 input. Given BF16, ModelOpt computes the scale in BF16; here it is
FP32 always, as it is stored in checkpoints (`weight_scale`).
"""

from __future__ import annotations

import torch

from gb10.formats.base import BlockFormat, magnitude_of
from gb10.formats.checks import check_finite, check_input, check_output
from gb10.formats.elements import E4M3_MAX


class FP8(BlockFormat):
    """A tensor in FP8 E4M3, one scale per tensor.

    packed  uint8 [..., K], the E4M3 bytes
    scales  float32, shape (): the multiplier; 1 where amax is zero (or so small that amax / 448 is)

    Elements are rounded to nearest, ties to even, and saturate at 448; the sign of zero is kept.
    """

    name = "FP8"
    block = None
    bits_per_weight = 8.0                          # the 32 bits per tensor are left out
    element_bits = 8

    @classmethod
    def quantize(cls, x: torch.Tensor) -> FP8:
        """Quantize x [..., K], any K; float32, bfloat16 or float16.

        Raises ValueError for a wrong dtype, a tensor without values or axes, and for NaN or infinity.
        """
        check_input(x, cls.name)
        x = x.detach().float()
        amax = magnitude_of(x.reshape(-1))
        check_finite(amax, cls.name, x.shape)
        scale = amax / amax.new_tensor(E4M3_MAX)
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        y = torch.div(x, scale).clamp_(-E4M3_MAX, E4M3_MAX)      # a cast of its own saturates on some versions only
        return cls(y.to(torch.float8_e4m3fn).view(torch.uint8), scale)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """[..., K] in `dtype`: element * scale, multiplied in FP32, rounded once at the end."""
        check_output(dtype, self.name)
        return self.packed.view(torch.float8_e4m3fn).float().mul_(self.scales).to(dtype)
