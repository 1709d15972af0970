"""Small floating-point numbers, taken apart in plain Python: what the bits of a code mean, what a number is rounded to.

A format with E exponent and M mantissa bits and no reserved codes (such as E2M1, E2M3 and E3M2 of the OCP Microscaling
Formats Specification v1.0) has the bias b = 2^(E-1) - 1 and the magnitudes

    e > 0:  2^(e - b) * (1 + m / 2^M)       normal
    e = 0:  2^(1 - b) * (m / 2^M)           subnormal: no leading one, and the exponent of e = 1
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def magnitudes(exponent_bits: int, mantissa_bits: int) -> tuple[float, ...]:
    """The values of all codes without the sign bit, in the order of the codes, which is ascending order."""
    bias, steps = 2 ** (exponent_bits - 1) - 1, 2 ** mantissa_bits
    return tuple(2.0 ** (max(e, 1) - bias) * ((e > 0) + m / steps)
                 for e in range(2 ** exponent_bits) for m in range(steps))


E2M1 = magnitudes(2, 1)                                  # 0 0.5 1 1.5 2 3 4 6
INTEGERS = tuple(float(i) for i in range(8))             # INT4 as it is used for weights: -7 to 7
POWERS = magnitudes(3, 0)                                # E3M0: 0 and the powers of two from 0.25 to 16


@dataclass(frozen=True)
class Bin:
    """What is rounded to one code: the numbers from low to high, an end belonging to it or not."""

    low: float
    high: float
    low_in: bool
    high_in: bool

    def __contains__(self, x: float) -> bool:
        return self.low < x < self.high or (self.low_in and x == self.low) or (self.high_in and x == self.high)

    def __str__(self) -> str:
        low, high = ("−∞" if math.isinf(self.low) else f"{self.low:g}", "∞" if math.isinf(self.high) else f"{self.high:g}")
        return f"{'[' if self.low_in else '('}{low}, {high}{']' if self.high_in else ')'}".replace("-", "−")


def bin_of(code: int, grid: Sequence[float] = E2M1) -> Bin:
    """The numbers that are rounded to `code` (0 to 15, bit 3 the sign): nearest, a tie to the even code.

    The sign bit goes with x < 0, so that zero itself belongs to code 0 and not to code 8, minus zero.
    """
    k = code & 7
    even = k % 2 == 0
    low = (grid[k - 1] + grid[k]) / 2 if k else 0.0
    high = (grid[k] + grid[k + 1]) / 2 if k < 7 else math.inf
    if code < 8:
        return Bin(low, high, k == 0 or even, even and k < 7)
    return Bin(-high, 0.0 - low, even and k < 7, k != 0 and even)    # 0 - 0 is 0, where -0.0 would print as −0


@dataclass(frozen=True)
class Landing:
    """Where a number lands: error is value - x. `tie`: it lay halfway between two values of the grid."""

    x: float
    code: int
    value: float
    bin: Bin
    tie: bool
    saturated: bool

    @property
    def error(self) -> float:
        return self.value - self.x


def land(x: float, grid: Sequence[float] = E2M1) -> Landing:
    """Round x to a grid of eight magnitudes and a sign: nearest, ties to the even code, saturating at the largest."""
    if not math.isfinite(x):
        raise ValueError(f"{x} has no place on the grid: give a finite number")
    code = next(c for c in range(16) if x in bin_of(c, grid))
    b = bin_of(code, grid)
    value = grid[code & 7] * (-1 if x < 0 else 1)
    return Landing(x, code, value, b, x in (b.low, b.high) and x != 0, abs(x) > grid[7])


@dataclass(frozen=True)
class Anatomy:
    """An E2M1 code taken apart. below and above: the neighbouring values on the number line, None at the ends."""

    code: int
    sign: int
    exponent: int                # the two bits as they stand, 0 to 3
    mantissa: int
    value: float                 # -0.0 for code 8
    below: float | None
    above: float | None
    bin: Bin

    @property
    def bits(self) -> str:
        return f"{self.code:04b}"

    @property
    def subnormal(self) -> bool:
        return self.exponent == 0


def anatomy(code: int) -> Anatomy:
    if not 0 <= code <= 15:
        raise ValueError(f"an E2M1 code has four bits, 0 to 15; not {code}")
    value = math.copysign(E2M1[code & 7], -1 if code & 8 else 1)
    line = sorted({*E2M1, *(-v for v in E2M1)})
    at = line.index(value)
    return Anatomy(code, code >> 3, code >> 1 & 3, code & 1, value,
                   line[at - 1] if at else None, line[at + 1] if at + 1 < len(line) else None, bin_of(code))
