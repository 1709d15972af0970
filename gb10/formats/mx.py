"""The MX formats of the Open Compute Project: blocks of 32 that share one power of two (an E8M0 byte).

OCP Microscaling Formats (MX) v1.0, September 2023, section 5.2 for the formats, 6.3 for the conversion. A value is

    element * 2^(byte - 127)          no tensor scale: the exponent alone spans 2^-127 .. 2^127

Which power a block gets is where implementations differ. With amax the block's largest magnitude, and max = 6 (E2M1)
or 448 (E4M3) the largest element:

    floor   2^(floor(log2 amax) - emax): the specification's rule, torchao's default (FLOOR) and ggml's. The scaled
            maximum falls in [2^emax, 2^(emax+1)), so whatever is above max saturates: for E2M1 6 to 8 becomes 6.
    ceil    2^ceil(log2(amax / max)): the smallest power under which nothing saturates. ModelOpt, TensorRT-LLM,
            torchao RCEIL, cuBLAS.
    even    as floor, after rounding amax to the element's mantissa bits (half upwards): 3.5 counts as 4. Saturates
            for fewer blocks. torchao EVEN; compressed-tensors for E2M1 (for E4M3 it rounds to one bit, not to three).

The exponents are read off the bits of amax, never computed by a logarithm in floating point. ModelOpt and torchao's
RCEIL take log2 in FP32 instead; where amax is less than 3e-6 (relative) above max * 2^k that can round down to k, and
a block then saturates by a hair. Such an amax has no BF16 or FP16 value, so it takes FP32 input to see one.
"""

from __future__ import annotations

import torch

from gb10.formats.base import BlockFormat, blocks_of, magnitude_of
from gb10.formats.checks import check_finite, check_input, check_output
from gb10.formats.elements import (
    E2M1_EMAX,
    E2M1_MAX,
    E2M1_MBITS,
    E4M3_EMAX,
    E4M3_MAX,
    E4M3_MBITS,
    E8M0_BIAS,
    E8M0_LARGEST,
    F32_MANTISSA,
    F32_MBITS,
    decode_packed_e2m1,
    e8m0_values,
    encode_e2m1,
    pack_nibbles,
    power_of_two,
)

BLOCK = 32
RULES = ("floor", "ceil", "even")


def scale_bytes(amax: torch.Tensor, rule: str, emax: int, mbits: int, top: float) -> torch.Tensor:
    """E8M0 bytes (uint8) for block maxima amax >= 0 (FP32), by integer arithmetic on their bits.

    emax, mbits, top: exponent of the element format's largest value, its mantissa bits, that value (1.x * 2^emax).
    Clamped to 0..254. An amax of zero, or so small that its exponent is out of range, has byte 0, which is 2^-127.
    """
    bits = amax.contiguous().view(torch.int32)
    if rule == "even":
        bits = bits + (1 << F32_MBITS - mbits - 1)          # half a unit of the element's last mantissa bit
    exponent = (bits >> F32_MBITS) - E8M0_BIAS              # floor(log2 amax); FP32 and E8M0 have the same bias
    if rule == "ceil":
        fraction = int((top / 2 ** emax - 1) * 2 ** F32_MBITS)   # mantissa bits of `top`: 0.5 for 6, 0.75 for 448
        exponent = exponent + ((bits & F32_MANTISSA) > fraction)
    return (exponent - emax + E8M0_BIAS).clamp_(0, E8M0_LARGEST).to(torch.uint8)


class _MX(BlockFormat):
    block = BLOCK
    emax: int
    mbits: int
    top: float

    @classmethod
    def quantize(cls, x: torch.Tensor, *, rule: str = "floor"):
        """Quantize x [..., K], K % 32 == 0, float32, bfloat16 or float16. rule: floor, ceil or even (module docstring).

        Raises ValueError for a wrong shape, dtype or rule and for NaN or infinity.
        """
        check_input(x, cls.name, BLOCK)
        if rule not in RULES:
            raise ValueError(f"{cls.name}.quantize: rule is floor, ceil or even, not {rule!r}")
        blocks = blocks_of(x, BLOCK)
        amax = magnitude_of(blocks)
        check_finite(amax, cls.name, x.shape)
        byte = scale_bytes(amax, rule, cls.emax, cls.mbits, cls.top)
        # multiplying by a power of two is exact; 2^-(byte - 127) exists in FP32 for every byte
        y = blocks * power_of_two(E8M0_BIAS - byte.int())[..., None]
        return cls(cls._encode(y.flatten(-2)), byte.view(torch.float8_e8m0fnu))

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """[..., K] in `dtype`: element * 2^(byte - 127), exact in FP32, rounded once at the end.

        A value of 2^128 is infinite in FP32: under ceil and even the largest FP32 numbers (above 1.75 * 2^127)
        round to it, as they do in torchao and ModelOpt.
        """
        check_output(dtype, self.name)
        values = self._decode().unflatten(-1, (-1, BLOCK))
        return values.mul_(e8m0_values(self.scales)[..., None]).flatten(-2).to(dtype)


class MXFP4(_MX):
    """A tensor in MXFP4: E2M1 elements, blocks of 32, E8M0 scales; 4.25 bits a weight.

    packed  uint8 [..., K/2]; the even element of a pair is in the low nibble
    scales  float8_e8m0fnu [..., K/32]

    Elements are rounded to nearest, ties to the even code; the sign bit is kept, so -0.0 is code 8 and decodes to
    -0.0: as in torchao (its `to_mx`), bit for bit, but for blocks below about 2^-124, which torchao divides by
    2^-126 (and under RCEIL by 1) where the format says 2^-127. ModelOpt's `MXFP4QTensor` (rule ceil) differs: it
    sends ties towards zero and gives code 8 to every exact zero.
    """

    name = "MXFP4"
    bits_per_weight = 4 + 8 / BLOCK                # 4.25
    emax, mbits, top = E2M1_EMAX, E2M1_MBITS, E2M1_MAX

    @staticmethod
    def _encode(y: torch.Tensor) -> torch.Tensor:
        return pack_nibbles(encode_e2m1(y, minus_zero=True))

    def _decode(self) -> torch.Tensor:
        return decode_packed_e2m1(self.packed, minus_zero=True)


class MXFP8(_MX):
    """A tensor in MXFP8: E4M3 elements, blocks of 32, E8M0 scales; 8.25 bits a weight.

    packed  uint8 [..., K], the E4M3 bytes
    scales  float8_e8m0fnu [..., K/32]

    Elements are rounded to nearest, ties to even, and saturate at 448; subnormal elements are used. Equal to torchao's
    `to_mx` bit for bit, with the exception named under MXFP4.
    """

    name = "MXFP8"
    bits_per_weight = 8 + 8 / BLOCK                # 8.25
    element_bits = 8
    emax, mbits, top = E4M3_EMAX, E4M3_MBITS, E4M3_MAX

    @staticmethod
    def _encode(y: torch.Tensor) -> torch.Tensor:
        return y.clamp_(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).view(torch.uint8)

    def _decode(self) -> torch.Tensor:
        return self.packed.view(torch.float8_e4m3fn).float()
