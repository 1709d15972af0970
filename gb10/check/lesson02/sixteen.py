"""Checkers of lesson 02, notebook 1 (Sixteen values): decode, magnitudes, encode."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from gb10.check.verdict import Case, Mistake, Verdict, grade, one_number

# ---------------------------------------------------------------- exercise 1: decode a code

def _decode(code: int, *, exponent_bits=2, bias=1, subnormal=None, leading=1.0, part=0.5) -> float:
    """The value of a code with 3 - exponent_bits mantissa bits; the keywords spoil one thing each."""
    mantissa_bits = 3 - exponent_bits
    e, m = (code & 7) >> mantissa_bits, (code & 7) & (2 ** mantissa_bits - 1)
    if e == 0 and subnormal is None:
        magnitude = 2.0 ** (1 - bias) * m / 2 ** mantissa_bits
    elif e == 0 and subnormal is not False:
        magnitude = subnormal * m
    else:
        magnitude = 2.0 ** (e - bias) * (leading + m * (part if mantissa_bits == 1 else 0.25))
    return -magnitude if code & 8 else magnitude


def _swapped_fields(code: int) -> float:
    return _decode((code & 8) | (code & 3) << 1 | (code >> 2 & 1))


_CODES = tuple(Case((c,), _decode(c), f"bits {c:04b}") for c in (5, 2, *range(16)))

_ONE_EXPONENT_BIT = ("that is a format with one exponent bit and two mantissa bits. E2M1 has two exponent bits (bits 2 and 1) "
                     "and one mantissa bit (bit 0).")
_BIAS = "the bias is 1: the exponent bits 01 mean 2^0, 10 mean 2^1, 11 mean 2^2. The largest value is 1.5 · 2^2 = 6."
_SUBNORMAL = ("exponent bits 00 are the special case (subnormal): no leading one, and the exponent stays at 0, so that the "
              "value is m/2: 0 or 0.5.")

_DECODE_MISTAKES = (
    Mistake(lambda c: _decode(c & 7), "the sign is missing: bit 3 makes the codes 8 to 15 the negatives of 0 to 7."),
    Mistake(lambda c: _decode(c) if c < 8 else -_decode(16 - c) if c > 8 else -6.0,
            "the sign is a bit of its own and not two's complement: clear it, decode the other three, put a minus in front."),
    Mistake(lambda c: c - 16 if c > 7 else c, "that is the code read as a two's-complement integer. It has to be taken apart "
                                              "into sign, exponent and mantissa."),
    Mistake(lambda c: -(c & 7) if c & 8 else c, "that is the code read as an integer; it has to be taken apart into exponent "
                                                "and mantissa: code 7 is 6."),
    Mistake(lambda c: c, "that is the code itself; it has to be taken apart into sign, exponent and mantissa."),
    Mistake(lambda c: _decode(c, exponent_bits=1, bias=0), _ONE_EXPONENT_BIT),
    Mistake(lambda c: _decode(c, exponent_bits=1, bias=1), _ONE_EXPONENT_BIT),
    Mistake(lambda c: _decode(c, exponent_bits=1, bias=0, subnormal=False), _ONE_EXPONENT_BIT),
    Mistake(lambda c: _decode(c, exponent_bits=1, bias=1, subnormal=False), _ONE_EXPONENT_BIT),
    Mistake(lambda c: _decode(c, subnormal=False), _SUBNORMAL),
    Mistake(lambda c: _decode(c, subnormal=0.25), "exponent bits 00 mean the exponent 0, the same as 01, and not −1: code 1 is "
                                                  "2^0 · 1/2 = 0.5."),
    Mistake(lambda c: _decode(c, subnormal=0), "code 1 is not zero: with exponent bits 00 the mantissa bit still counts, m/2."),
    Mistake(lambda c: _decode(c, subnormal=1.0), "code 1 is 0.5: with exponent bits 00 the value is m/2, not m."),
    *(Mistake(lambda c, b=b, s=s: _decode(c, bias=b, subnormal=s), _BIAS)
      for b in (0, 2, 3) for s in (None, 0.5, False)),
    Mistake(lambda c: _decode(c, part=1.0), "the mantissa bit stands behind the point: it is worth 1/2, the factor is 1 + m/2."),
    Mistake(lambda c: _decode(c, part=0.25), "there is one mantissa bit and it is worth 1/2, not 1/4: the factor is 1 + m/2."),
    Mistake(lambda c: _decode(c, leading=0.0), "the leading one is missing: with exponent bits other than 00 the factor is "
                                               "1 + m/2."),
    Mistake(_swapped_fields, "exponent and mantissa are swapped: the order is sign, exponent, exponent, mantissa."),
    Mistake(lambda c: _decode(c >> 1 | (c & 1) << 3), "the sign is the highest bit (code >> 3), not the lowest."),
)


def decode(function: Callable) -> Verdict:
    """decode(code) -> value of an E2M1 code 0 to 15. Code 8 may come out as 0.0 or -0.0."""
    return grade(
        "decode", one_number(function), _CODES, mistakes=_DECODE_MISTAKES,
        hint="sign = code >> 3, exponent bits e = code >> 1 & 3, mantissa bit m = code & 1; the magnitude is "
             "2^(e − 1) · (1 + m/2), or m/2 where e is 0. Return one number.",
        done="all sixteen codes.")


# ---------------------------------------------------------------- exercise 2: the magnitudes of any small format

def _magnitudes(exponent_bits, mantissa_bits, *, bias=None, subnormals=True, low=None, leading=1.0):
    bias = 2 ** (exponent_bits - 1) - 1 if bias is None else bias
    out = []
    for e in range(2 ** exponent_bits):
        for m in range(2 ** mantissa_bits):
            part = m / 2 ** mantissa_bits
            if e or not subnormals:
                out.append(2.0 ** (e - bias) * (leading + part))
            else:
                out.append(2.0 ** ((1 if low is None else low) - bias) * part)
    return out


_FORMATS = tuple(Case((e, m), _magnitudes(e, m), name) for e, m, name in (
    (2, 1, "E2M1"), (3, 0, "E3M0: powers of two, and zero"), (1, 2, "E1M2"), (2, 3, "E2M3"), (3, 2, "E3M2"), (4, 3, "E4M3")))

_NO_RESERVED = "no code is reserved here for infinity or NaN: the highest exponent holds values, too."

_MAGNITUDE_MISTAKES = (
    Mistake(lambda e, m: _magnitudes(m, e), "exponent bits come first, mantissa bits second: yours are swapped."),
    Mistake(lambda e, m: _magnitudes(e, m, bias=1), "a bias of 1 fits E2M1 alone; in general it is 2^(exponent_bits − 1) − 1."),
    Mistake(lambda e, m: _magnitudes(e, m, bias=2 ** (e - 1)), "the bias is 2^(exponent_bits − 1) − 1: one less than yours."),
    Mistake(lambda e, m: _magnitudes(e, m, bias=0), "the bias is missing: 2^(exponent_bits − 1) − 1 is taken off the exponent."),
    Mistake(lambda e, m: _magnitudes(e, m, bias=2 ** e - 1), "the bias is 2^(exponent_bits − 1) − 1: half the range of exponents, "
                                                            "not all of it."),
    Mistake(lambda e, m: _magnitudes(e, m, subnormals=False), "exponent 0 is the special case (subnormal): no leading one, "
                                                              "otherwise there is no zero."),
    Mistake(lambda e, m: _magnitudes(e, m, low=0), "the subnormals use the exponent of e = 1, so that they go on where the normal "
                                                   "numbers end: 2^(1 − bias) · m / 2^mantissa_bits."),
    Mistake(lambda e, m: _magnitudes(e, m, leading=0.0), "the leading one is missing where the exponent is not 0."),
    Mistake(lambda e, m: _magnitudes(e, m)[: -2 ** m], _NO_RESERVED),
    Mistake(lambda e, m: _magnitudes(e, m)[:-1], _NO_RESERVED),
    Mistake(lambda e, m: _magnitudes(e, m)[1:], "zero is a value, too: exponent 0 and mantissa 0."),
    Mistake(lambda e, m: _magnitudes(e, m)[2 ** m:], "the subnormals are missing: exponent 0 holds zero and the smallest values."),
    Mistake(lambda e, m: _magnitudes(e, m) + [-v for v in _magnitudes(e, m)],
            "only the codes without the sign bit are asked for: leave the negative values out."),
    Mistake(lambda e, m: sorted({s * v for v in _magnitudes(e, m) for s in (1, -1)}),
            "only the codes without the sign bit are asked for: leave the negative values out."),
    Mistake(lambda e, m: _magnitudes(e, m)[::-1], "the order is that of the codes, from 0 upwards: yours is reversed."),
    Mistake(lambda e, m: [v for i in range(2 ** m) for v in _magnitudes(e, m)[i:: 2 ** m]],
            "the order is that of the codes: the mantissa bits are the low ones, so they count first."),
)


def magnitudes(function: Callable) -> Verdict:
    """magnitudes(exponent_bits, mantissa_bits) -> the values of the codes 0, 1, 2, … without the sign bit, in that order."""
    def ordered(*args):
        got = function(*args)
        return sorted(got) if isinstance(got, (set, frozenset)) else got

    return grade(
        "magnitudes", functools.wraps(function)(ordered) if callable(function) else function, _FORMATS,
        mistakes=_MAGNITUDE_MISTAKES,
        hint="loop over all exponent codes e, and inside over all mantissa codes m; bias b = 2^(exponent_bits − 1) − 1; "
             "2^(e − b) · (1 + m / 2^mantissa_bits), or 2^(1 − b) · m / 2^mantissa_bits where e is 0.",
        done="six formats by one rule.")


# ---------------------------------------------------------------- exercise 3: encode a number

_GRID = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_BOUNDS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)


def _encode(x: float, *, tie="even", signed=lambda x, k: x < 0, bounds=_BOUNDS) -> int:
    """tie: where a number halfway between two codes goes: even, odd, away (from zero), toward, up, down."""
    a = abs(x)
    k = 0
    for lower, bound in enumerate(bounds):
        goes_up = {"even": lower % 2 == 1, "odd": lower % 2 == 0, "away": True, "toward": False,
                   "up": x > 0, "down": x < 0}[tie]
        k += a > bound or (a == bound and goes_up)
    return k + 8 * bool(signed(x, k))


def _nearest_of_sixteen(x: float) -> int:
    return min(range(16), key=lambda c: abs(x - (-_GRID[c & 7] if c & 8 else _GRID[c])))


def _python_round(x: float) -> int:
    return _encode(float(round(x)))


def _step(x: float) -> float:
    return 0.5 if abs(x) < 2 else 1.0 if abs(x) < 4 else 2.0


def _unlimited(x: float) -> int:
    """Steps counted within the stretch, without a stop at 6."""
    step = _step(x)
    return int(round(abs(x) / step) + 2 * (step == 1) + 4 * (step == 2)) + 8 * (x < 0)


_HAIR = 2.0 ** -40              # less than any test case is away from a tie
_NEAR = 2.0 ** -20               # FP32 still tells it from the tie: whoever computes in FP32 is right, too
_NUMBERS = tuple(Case((x,), _encode(x), name) for x, name in (
    (1.0, "a value of the grid"), (6.0, "the largest"), (0.3, ""), (2.9, ""), (1.6, ""), (4.4, ""), (-1.5, "negative"),
    (-2.2, ""), (0.0, "zero"), (7.0, "above the largest"), (100.0, "far above"), (-30.0, "far below"),
    *((b, "a tie") for b in _BOUNDS), *((-b, "a tie, negative") for b in _BOUNDS[1:]),
    *((b + _NEAR, "just above a tie") for b in _BOUNDS), *((b - _NEAR, "just below a tie") for b in _BOUNDS),
    (-0.25, "a tie, negative: the sign bit stays"), (-0.1, "rounds to zero, but is below it"), (-1e-30, ""), (-0.0, "minus zero"),
    (3.3, ""), (-5.5, ""), (0.6, ""), (-0.9, "")))

_TIES = "a tie goes to the even code, the one whose last bit is 0: "
_ENCODE_MISTAKES = (
    Mistake(lambda x: _encode(x, tie="away"), _TIES + "you always take the larger magnitude. Boundaries 0.25, 1.25, 2.5 and 5 "
                                                      "are passed only by what lies above them (>), the others by >=."),
    Mistake(lambda x: _encode(x, tie="toward"), _TIES + "you always take the smaller magnitude. 0.75, 1.75 and 3.5 go up (>=), "
                                                        "the others stay down (>)."),
    Mistake(lambda x: _encode(x, tie="odd"), _TIES + "yours go to the odd one: swap > and >=."),
    Mistake(lambda x: _encode(x, tie="up"), _TIES + "you send them to the larger number, which is away from zero for positive "
                                                    "and toward zero for negative ones. Round the magnitude, then set the sign."),
    Mistake(lambda x: _encode(x, bounds=(0.25, 0.75 + _HAIR, 1.25, 1.75, 2.5, 3.5, 5.0)), _TIES + "even is said of the code "
            "and not of the value. 0.75 lies between the codes 1 and 2 (0.5 and 1.0), so it goes to code 2."),
    Mistake(lambda x: _encode(x, tie="down"), _TIES + "you send them to the smaller number. Round the magnitude, then set the "
                                                      "sign."),
    Mistake(lambda x: _encode(x, bounds=_GRID[1:], tie="away"), "that is truncation: you take the next value toward zero. Asked "
                                                                "is the nearest."),
    Mistake(lambda x: _encode(x, bounds=_GRID[:7], tie="toward"), "that takes the next value away from zero. Asked is the "
                                                                  "nearest."),
    Mistake(lambda x: _encode(x, bounds=_GRID[:7] if x < 0 else _GRID[1:], tie="toward" if x < 0 else "away"),
            "you go to the next smaller number (floor): for negative ones that is away from zero. Round the magnitude to the "
            "nearest, then set the sign."),
    Mistake(_python_round, "round(x) makes an integer of the number first; the grid has halves below 2, and no 5. Compare with "
                           "the halfway marks."),
    Mistake(_nearest_of_sixteen, "the nearest of all sixteen values is nearly it: a tie then goes to whichever comes first (it "
                                 "belongs to the even code), and a tiny negative number loses its sign bit."),
    Mistake(lambda x: _encode(x, signed=lambda x, k: False), "the sign is missing: add 8 where x < 0."),
    Mistake(lambda x: _encode(x, signed=lambda x, k: math.copysign(1, x) < 0),
            "−0.0 has code 0: the sign bit is set for x < 0 only, as ModelOpt does it (torchao keeps the sign of −0.0)."),
    Mistake(lambda x: _encode(x, signed=lambda x, k: x < 0 and k > 0),
            "a negative number that rounds to zero keeps its sign bit: code 8, minus zero."),
    Mistake(lambda x: -_encode(abs(x)) if x < 0 else _encode(x), "a code is 0 to 15: the sign is bit 3, so add 8 and no minus."),
    Mistake(lambda x: (16 - _encode(abs(x))) & 15 if x < 0 else _encode(x),
            "the sign is a bit of its own and not two's complement: add 8 to the code of the magnitude."),
    Mistake(_unlimited, "above 6 there is nothing: everything beyond 5 has code 7 (saturation)."),
    Mistake(lambda x: (_unlimited(abs(x)) & 7) + 8 * (x < 0), "above 6 there is nothing, and a code must not wrap around: "
                                                              "everything beyond 5 has code 7 (saturation)."),
    Mistake(lambda x: _encode(x, bounds=(*_BOUNDS, 7.0)), "above 6 there is nothing: code 7 is the last magnitude, there is no "
                                                          "boundary beyond 5."),
    Mistake(lambda x: math.copysign(_GRID[_encode(x) & 7], x), "that is the value; asked is its code, 0 to 15."),
    Mistake(lambda x: format(_encode(x), "04b"), "those are the bits as text; return the code as a number, 0 to 15."),
    Mistake(lambda x: min(7, round(abs(x) * 2)) + 8 * (x < 0),
            "that is an evenly spaced grid, as with one exponent and two mantissa bits. E2M1's values are 0, 0.5, 1, 1.5, 2, 3, "
            "4, 6."),
    Mistake(lambda x: min(7, round(abs(x))) + 8 * (x < 0), "that rounds to integers (INT4). E2M1's values are 0, 0.5, 1, 1.5, 2, "
                                                           "3, 4, 6."),
)


def encode(function: Callable) -> Verdict:
    """encode(x) -> code 0 to 15 of the nearest E2M1 value: ties to the even code, saturating at 6, sign bit for x < 0."""
    return grade(
        "encode", one_number(function), _NUMBERS, mistakes=_ENCODE_MISTAKES,
        hint="take abs(x), count how many of the halfway marks 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5 it passes (> and >= in turn), "
             "and add 8 if x < 0. Return one number from 0 to 15.",
        done="the same code as ModelOpt's, ties and saturation included.")
