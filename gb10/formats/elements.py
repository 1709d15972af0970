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
E4M3_MAX = 448.0                                    # 1.75 * 2^8; 1.875 * 2^8 would be the pattern of NaN
E4M3_MIN = 2.0 ** -9                                # its smallest subnormal
E4M3_EMAX = 8
E8M0_BIAS = 127                                     # byte = exponent + 127


def round_to_grid(y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest E2M1 magnitude of y >= 0 (FP32), ties to the even code, above 6 -> 6. Returns (value, step).

    Between 0 and 2 the grid's step is 0.5, up to 4 it is 1, above it is 2: rounding y / step to an integer, half to
    even, is then exactly E2M1's rule, since division and multiplication by a power of two are exact.
    """
    power = (y.view(torch.int32) & 0x7F800000).view(torch.float32)   # the exponent alone: 2^floor(log2 y)
    step = power.clamp_(1.0, 4.0).mul_(0.5)
    return torch.div(y, step).round_().mul_(step).clamp_(max=E2M1_MAX), step


def encode_e2m1(y: torch.Tensor) -> torch.Tensor:
    """E2M1 codes (uint8, 0..15) of an FP32 tensor: nearest, ties to the even code, saturating at 6.

    The sign bit is set for y < 0 only: -0.0 has code 0, a tiny negative number code 8 (as in ModelOpt).
    """
    value, step = round_to_grid(y.abs())
    # value / step counts steps within its stretch; the stretches start at code 0, 2 (+2 * 1.0), 4 (+2 * 2.0)
    code = (value / step + 2 * (step == 1) + 4 * (step == 2)).to(torch.uint8)
    return code | (y < 0).to(torch.uint8) << 3


def decode_e2m1(codes: torch.Tensor, minus_zero: bool = False) -> torch.Tensor:
    """FP32 values of E2M1 codes 0..15. Code 8 is +0.0, as ModelOpt decodes it, or -0.0 with minus_zero."""
    zero = -0.0 if minus_zero else 0.0
    table = torch.tensor(E2M1 + (zero,) + tuple(-v for v in E2M1[1:]), device=codes.device)
    return table[codes.long()]


def pack_nibbles(codes: torch.Tensor) -> torch.Tensor:
    """Codes 0..15, uint8 [..., K], two to a byte, [..., K/2]: the even element in the low nibble."""
    return (codes[..., 1::2] << 4) | codes[..., 0::2]


def unpack_nibbles(packed: torch.Tensor) -> torch.Tensor:
    """The inverse of pack_nibbles: uint8 [..., K/2] -> [..., K]."""
    return torch.stack((packed & 0x0F, packed >> 4), dim=-1).flatten(-2)
