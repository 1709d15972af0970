"""The small floating-point numbers that block formats are made of: E2M1 codes, E4M3 and E8M0 scales.

E2M1, four bits: one sign, two exponent, one mantissa bit. Codes 0 to 7 are the magnitudes below, bit 3 is the sign, so
code 8 is minus zero: sixteen codes, fifteen values.
E4M3, eight bits (the `fn` variant): up to 448 = 1.75 * 2^8, no infinities, NaN at 0x7f and 0xff.
E8M0, eight bits: the powers of two 2^(byte - 127), nothing else; 0xff is NaN.
"""

from __future__ import annotations

import torch

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)    # code 0..7
E2M1_BOUNDS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)   # halfway between neighbours; a tie goes to the even code
E2M1_MAX = 6.0                                      # 1.5 * 2^2
E2M1_EMAX = 2                                       # exponent of the largest value
E2M1_MBITS = 1                                      # mantissa bits that are stored
E4M3_MAX = 448.0                                    # 1.75 * 2^8; 1.875 * 2^8 would be the pattern of NaN
E4M3_MIN = 2.0 ** -9                                # its smallest subnormal
E4M3_EMAX = 8
E4M3_MBITS = 3
E8M0_BIAS = 127                                     # byte = exponent + 127
E8M0_LARGEST = 254                                  # 2^127; the byte 255 is NaN

F32_MBITS = 23                                      # FP32: 1 sign, 8 exponent, 23 mantissa bits
F32_EXPONENT = 0x7F800000                           # the bits of its exponent
F32_MANTISSA = 0x007FFFFF


def round_to_grid(y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest E2M1 magnitude of y >= 0 (FP32), ties to the even code, above 6 -> 6. Returns (value, step).

    Between 0 and 2 the grid's step is 0.5, up to 4 it is 1, above it is 2: rounding y / step to an integer, half to
    even, is then exactly E2M1's rule, since division and multiplication by a power of two are exact.
    Raises ValueError for another dtype: the bits are read as those of FP32.
    """
    if y.dtype != torch.float32:
        raise ValueError(f"E2M1 rounds float32 numbers, and this tensor of shape {tuple(y.shape)} is "
                         f"{str(y.dtype).removeprefix('torch.')}: convert it with .float()")
    power = (y.view(torch.int32) & F32_EXPONENT).view(torch.float32)   # the exponent alone: 2^floor(log2 y)
    step = power.clamp_(1.0, 4.0).mul_(0.5)
    return torch.div(y, step).round_().mul_(step).clamp_(max=E2M1_MAX), step


def encode_e2m1(y: torch.Tensor, minus_zero: bool = False) -> torch.Tensor:
    """E2M1 codes (uint8, 0..15) of an FP32 tensor: nearest, ties to the even code, saturating at 6.

    The sign bit is set for y < 0 only: -0.0 has code 0, a tiny negative number code 8 (as in ModelOpt's NVFP4).
    With minus_zero the sign bit is that of y, so that -0.0 has code 8 too (as in torchao).
    Raises ValueError for another dtype.
    """
    value, step = round_to_grid(y.abs())
    # value / step counts steps: 0..4 where the step is 0.5, 2..4 where it is 1 (codes 4..6), 2..3 where it is 2
    # (codes 6, 7); so the code is that count plus 0, 2 or 4, which is twice the exponent of 2 * step
    offset = (step.view(torch.int32) >> (F32_MBITS - 1)).sub_(2 * (E8M0_BIAS - 1))
    code = value.div_(step).add_(offset).to(torch.uint8)
    sign = torch.signbit(y) if minus_zero else y < 0
    return code.bitwise_or_(sign.to(torch.uint8).bitwise_left_shift_(3))


def decode_e2m1(codes: torch.Tensor, minus_zero: bool = False) -> torch.Tensor:
    """FP32 values of E2M1 codes 0..15. Code 8 is +0.0, as ModelOpt decodes NVFP4, or -0.0 with minus_zero."""
    zero = -0.0 if minus_zero else 0.0
    table = torch.tensor(E2M1 + (zero,) + tuple(-v for v in E2M1[1:]), dtype=torch.float32,
                         device=codes.device)
    return table[codes.int()]


def pack_nibbles(codes: torch.Tensor) -> torch.Tensor:
    """Codes 0..15, uint8 [..., K], two to a byte, [..., K/2]: the even element in the low nibble."""
    return (codes[..., 1::2] << 4) | codes[..., 0::2]


def unpack_nibbles(packed: torch.Tensor) -> torch.Tensor:
    """The inverse of pack_nibbles: uint8 [..., K/2] -> [..., K]."""
    return torch.stack((packed & 0x0F, packed >> 4), dim=-1).flatten(-2)


def decode_packed_e2m1(packed: torch.Tensor, minus_zero: bool = False) -> torch.Tensor:
    """decode_e2m1(unpack_nibbles(packed)), a byte at a time: FP32 [..., K] of uint8 [..., K/2].

    A table has the two values of each of the 256 bytes; picked as one 64-bit word, they come 20 times sooner than
    one by one.
    """
    every_byte = torch.arange(256, dtype=torch.uint8, device=packed.device)
    pairs = decode_e2m1(unpack_nibbles(every_byte), minus_zero).view(torch.int64)
    words = pairs.index_select(0, packed.reshape(-1).int())
    return words.view(torch.float32).view(*packed.shape[:-1], -1)


def power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    """2^exponent as FP32, exactly, for integer exponents -149..127: the bits are put together, nothing is computed."""
    exponent = exponent.to(torch.int32)
    normal = (exponent + E8M0_BIAS) << F32_MBITS
    subnormal = 1 << (exponent + E8M0_BIAS + F32_MBITS - 1).clamp(min=0)     # 2^-127 and below: no exponent bits
    return torch.where(exponent > -E8M0_BIAS, normal, subnormal).to(torch.int32).view(torch.float32)


def e8m0_values(scales: torch.Tensor) -> torch.Tensor:
    """FP32 values of a float8_e8m0fnu tensor: 2^(byte - 127), down to the subnormal 2^-127."""
    return power_of_two(scales.view(torch.uint8).int() - E8M0_BIAS)
