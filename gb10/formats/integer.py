"""Integer formats: INT4 and INT8, symmetric, and NVINT4, which has NVFP4's scales around INT4 elements.

    scale = amax(block) / largest code;   element = round(x / scale), half to even;   value = element * scale

The largest code is 7 for INT4, 127 for INT8. The code -8 exists (two's complement), yet with this rule nothing in the
block reaches it: it is kept as the clamp's lower end because readers of the format must know it. Dividing amax by 7 is
the rule of ModelOpt's `INT4QTensor` and of AWQ's symmetric branch (`pseudo_quantize_tensor`; AWQ's own models have
zero points). GPTQ's symmetric grid and compressed-tensors divide by 7.5, using half a step more at the negative end:
0.2 to 0.5 dB better on Gaussian weights. ggml's Q4_0 divides by -8 with the sign of the largest value. So too INT8:
amax / 127 in ModelOpt, TensorRT-LLM and ggml's Q8_0, amax / 127.5 in compressed-tensors.

A block of zeros has scale 1.
"""

from __future__ import annotations

import torch

from gb10.formats.base import BlockFormat, blocks_of, magnitude_of
from gb10.formats.checks import check_finite, check_input, check_output
from gb10.formats.elements import E4M3_MAX, E4M3_MIN, pack_nibbles, unpack_nibbles

INT4_MAX, INT4_MIN = 7, -8
INT8_MAX = 127                                     # -128 is left unused, so that the grid is symmetric
F16_MAX, F16_MIN = 65504.0, 2.0 ** -24             # FP16's largest value and smallest subnormal
INT8_SCALE_MAX = 2.0 ** 128 / INT8_MAX * (1 - 2.0 ** -23)      # 127 times this is still an FP32 number
GROUP = 128                                        # INT4's usual group: AWQ, GPTQ, ModelOpt


def _f16_scale(amax: torch.Tensor, top: int) -> torch.Tensor:
    """FP16 scales amax / top, kept within FP16's range; 1 for a block of zeros."""
    scale = (amax / amax.new_tensor(float(top))).clamp(F16_MIN, F16_MAX)
    return torch.where(amax == 0, torch.ones_like(scale), scale).to(torch.float16)


def _signed(codes: torch.Tensor) -> torch.Tensor:
    """Nibbles 0..15 as FP32 integers -8..7 (two's complement)."""
    return (codes ^ 8).float().sub_(8)


class INT4(BlockFormat):
    """A tensor in symmetric INT4 with one FP16 scale per block of 128 (or 32), for weights alone: compute is in 16 bits.

    packed  uint8 [..., K/2]; two's complement nibbles, the even element in the low one
    scales  float16 [..., K/block]
    Rounded to nearest, half to even, of x / scale with the scale as stored.
    """

    name = "INT4"
    block = GROUP
    bits_per_weight = 4 + 16 / GROUP               # 4.125; an instance with another block has its own

    def __init__(self, packed: torch.Tensor, scales: torch.Tensor, block: int = GROUP):
        super().__init__(packed, scales)
        self.block, self.bits_per_weight = block, 4 + 16 / block

    @classmethod
    def quantize(cls, x: torch.Tensor, *, block: int = GROUP) -> INT4:
        """Quantize x [..., K], K % block == 0. block: any even number; 128 and 32 are usual, K is one scale per row.

        Raises ValueError for a wrong shape, dtype or block and for NaN or infinity.
        """
        _check_block(cls.name, block)
        check_input(x, cls.name, block)
        blocks = blocks_of(x, block)
        amax = magnitude_of(blocks)
        check_finite(amax, cls.name, x.shape)
        scales = _f16_scale(amax, INT4_MAX)
        y = (blocks / scales.float()[..., None]).round_().clamp_(INT4_MIN, INT4_MAX)
        return cls(pack_nibbles(y.to(torch.int8).view(torch.uint8).bitwise_and_(0x0F).flatten(-2)), scales, block)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """[..., K] in `dtype`: element * scale, multiplied in FP32, rounded once at the end."""
        check_output(dtype, self.name)
        values = _signed(self.codes()).unflatten(-1, (-1, self.block))
        return values.mul_(self.scales.float()[..., None]).flatten(-2).to(dtype)


class INT8(BlockFormat):
    """A tensor in symmetric INT8 with one FP32 scale per row (output channel): the usual W8A8 weight.

    packed  uint8 [..., K]; the bytes of two's complement integers -127..127
    scales  float32 [..., 1]; with a block, float16 [..., K/block] (block 32: the layout of ggml's Q8_0, 8.5 bits)
    """

    name = "INT8"
    block = None
    bits_per_weight = 8.0                          # the 32 bits per row are left out
    element_bits = 8

    def __init__(self, packed: torch.Tensor, scales: torch.Tensor, block: int | None = None):
        super().__init__(packed, scales)
        self.block, self.bits_per_weight = block, 8 + (16 / block if block else 0)

    @classmethod
    def quantize(cls, x: torch.Tensor, *, block: int | None = None) -> INT8:
        """Quantize x [..., K], any K without a block, K % block == 0 with one.

        Raises ValueError for a wrong shape, dtype or block and for NaN or infinity.
        """
        if block is not None:
            _check_block(cls.name, block)
        check_input(x, cls.name, block)
        blocks = blocks_of(x, block or x.shape[-1])
        amax = magnitude_of(blocks)
        check_finite(amax, cls.name, x.shape)
        if block:
            scales = _f16_scale(amax, INT8_MAX)
        else:
            scales = (amax / amax.new_tensor(float(INT8_MAX))).clamp_(max=INT8_SCALE_MAX)
            scales = torch.where(scales == 0, torch.ones_like(scales), scales)
        y = (blocks / scales.float()[..., None]).round_().clamp_(-INT8_MAX, INT8_MAX)
        return cls(y.to(torch.int8).view(torch.uint8).flatten(-2), scales, block)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """[..., K] in `dtype`: element * scale, multiplied in FP32, rounded once at the end."""
        check_output(dtype, self.name)
        values = self.packed.view(torch.int8).float().unflatten(-1, (-1, self.block or self.shape[-1]))
        return values.mul_(self.scales.float()[..., None]).flatten(-2).to(dtype)


class NVINT4(BlockFormat):
    """A tensor in NVINT4: NVFP4's two levels of scale (block 16, E4M3, one FP32 per tensor) around INT4 elements.

    No GPU multiplies it; papers compare NVFP4 with it (arXiv 2510.25602) because only the sixteen values differ.
    g = amax / (7 * 448) and so on, as in NVFP4 with 7 for 6; the elements are rounded integers.

    packed        uint8 [..., K/2]; two's complement nibbles, the even element in the low one
    scales        float8_e4m3fn [..., K/16]
    tensor_scale  float32, shape ()
    """

    name = "NVINT4"
    block = 16
    bits_per_weight = 4 + 8 / 16                   # 4.5; the 32 bits per tensor are left out

    def __init__(self, packed: torch.Tensor, scales: torch.Tensor, tensor_scale: torch.Tensor):
        super().__init__(packed, scales)
        self.tensor_scale = tensor_scale

    @classmethod
    def quantize(cls, x: torch.Tensor) -> NVINT4:
        """Quantize x [..., K], K % 16 == 0. Raises ValueError as NVFP4.quantize does."""
        check_input(x, cls.name, cls.block)
        blocks = blocks_of(x, cls.block)
        amax = magnitude_of(blocks)
        check_finite(amax, cls.name, x.shape)
        g = amax.amax() / amax.new_tensor(INT4_MAX * E4M3_MAX)
        g = torch.where(g == 0, torch.ones_like(g), g)
        r = amax / (INT4_MAX * g)
        r = torch.where(r == 0, torch.ones_like(r), r)
        s = r.clamp(E4M3_MIN, E4M3_MAX).to(torch.float8_e4m3fn)
        y = (blocks / (s.float() * g)[..., None]).round_().clamp_(INT4_MIN, INT4_MAX)
        return cls(pack_nibbles(y.to(torch.int8).view(torch.uint8).bitwise_and_(0x0F).flatten(-2)), s, g)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """[..., K] in `dtype`: element * (block scale * tensor scale), in FP32, rounded once at the end."""
        check_output(dtype, self.name)
        values = _signed(unpack_nibbles(self.packed)).unflatten(-1, (-1, self.block))
        return values.mul_((self.scales.float() * self.tensor_scale)[..., None]).flatten(-2).to(dtype)

    @property
    def nbytes(self) -> int:
        """Bytes in a checkpoint: elements, block scales and the tensor scale."""
        return super().nbytes + 4


def _check_block(name: str, block: int) -> None:
    if not isinstance(block, int) or block < 2 or block % 2:
        raise ValueError(f"{name}.quantize: block is an even number of elements, such as 32 or 128, not {block!r}")
