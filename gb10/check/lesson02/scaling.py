"""Checkers of lesson 02, notebook 2: a block's scale, and its codes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from gb10.check.verdict import Case, Mistake, Verdict, grade, one_number
from gb10.formats.elements import E2M1, E2M1_BOUNDS, E4M3_MAX, E4M3_MIN


def _e4m3(r: float) -> float:
    """Nearest E4M3 number; torch saturates at 448."""
    return torch.tensor(r).to(torch.float8_e4m3fn).item()


# ---------------------------------------------------------------- the block scale

def _scale(block, g, *, amax=None, divide_by=6.0, round_to=_e4m3, low=E4M3_MIN, high=E4M3_MAX, zero=1.0, use_g=None):
    values = [float(v) for v in block]
    top = max(map(abs, values)) if amax is None else amax(values)
    if top == 0:
        return zero
    r = top / (divide_by * g) if use_g is None else use_g(top / divide_by, g)
    return round_to(min(max(r, low), high))


_BLOCK = [0.085, -0.031, 0.012, -0.214, 0.007, 0.113, -0.098, 0.044, -0.002, 0.119, 0.076, -0.15, 0.021, -0.06, 0.104, 0.091]
_SCALES = (
    Case((torch.tensor(_BLOCK), 0.0003), None, "an ordinary block: its largest magnitude belongs to a negative weight"),
    Case((torch.tensor(_BLOCK) * 0.7, 0.0005), None, "another"),
    Case((torch.tensor(_BLOCK) * 1e-6, 0.0003), None, "a tiny block: the scale may not fall below 2^-9, or it would be 0"),
    Case((torch.tensor(_BLOCK) * 20, 0.0003), None, "more than the tensor scale provided for: at most 448"),
    Case((torch.zeros(16), 0.0003), None, "nothing but zeros: 1, so that nobody divides by zero"),
)


def _divisor(n: float, why: str) -> Mistake:
    return Mistake(lambda b, g: _scale(b, g, divide_by=n), f"you divided by {n:g}. {why}")


_SCALE_MISTAKES = (
    Mistake(lambda b, g: _scale(b, g, round_to=float),
            "your scale isn't rounded. It is stored in eight bits: r.to(torch.float8_e4m3fn).float() gives the number that "
            "a reader of the file will see."),
    Mistake(lambda b, g: _scale(b, g, amax=max),
            "you took the largest value; what has to fit is the largest magnitude, and here a negative weight has it."),
    Mistake(lambda b, g: _scale(b, g, use_g=lambda r, g: r),
            "the tensor scale is missing: the block scale says how large the block is in units of tensor_scale."),
    Mistake(lambda b, g: _scale(b, g, use_g=lambda r, g: r * g),
            "you multiplied by tensor_scale. That is right for compressed-tensors, which stores its inverse; here it is a "
            "multiplier when decoding, so encoding divides by it."),
    _divisor(8.0, "A block's largest weight should land on the largest code, and that is 6."),
    _divisor(7.0, "7 is the largest INT4 code; the largest E2M1 value is 6."),
    _divisor(4.0, "4 is the last but one value of the grid; a block's largest weight should land on the last, 6."),
    _divisor(1.0, "A block's largest weight should land on 6, the largest E2M1 value: divide by 6 as well."),
    _divisor(448.0, "448 is the largest scale; it is in the tensor scale already. Here the grid counts, and its end is 6."),
    _divisor(2688.0, "2688 = 6 × 448 belongs to the tensor scale; the block scale needs the 6 alone."),
    Mistake(lambda b, g: _scale(b, g, round_to=lambda r: 2.0 ** math.floor(math.log2(r))),
            "you rounded to a power of two: that is MXFP4's E8M0 scale. NVFP4's E4M3 scale has three mantissa bits."),
    Mistake(lambda b, g: _scale(b, g, round_to=lambda r: 2.0 ** math.ceil(math.log2(r))),
            "you rounded to a power of two: that is MXFP4's E8M0 scale. NVFP4's E4M3 scale has three mantissa bits."),
    Mistake(lambda b, g: _scale(b, g, round_to=lambda r: torch.tensor(r).bfloat16().item()),
            "you rounded to BF16, sixteen bits. The scale is stored in eight: E4M3, torch.float8_e4m3fn."),
    Mistake(lambda b, g: _scale(b, g, round_to=lambda r: torch.tensor(r).half().item()),
            "you rounded to FP16, sixteen bits. The scale is stored in eight: E4M3, torch.float8_e4m3fn."),
    Mistake(lambda b, g: _scale(b, g, round_to=lambda r: torch.tensor(r).to(torch.float8_e5m2).item()),
            "you rounded to E5M2, the other eight-bit float; NVFP4's scale is E4M3, torch.float8_e4m3fn."),
    Mistake(lambda b, g: _scale(b, g, round_to=lambda r: float(round(r))),
            "you rounded to a whole number; E4M3's steps grow with the number: 1/512 at the bottom, 32 at the top."),
    Mistake(lambda b, g: _scale(b, g, round_to=lambda r: round(r * 8) / 8),
            "a fixed step of 1/8 is not E4M3: its steps grow with the number, from 1/512 at the bottom to 32 at the top."),
    Mistake(lambda b, g: _scale(b, g) * g,
            "you returned block scale times tensor scale. The file holds the two apart: return the first."),
    Mistake(lambda b, g: float(torch.tensor(_scale(b, g)).to(torch.float8_e4m3fn).view(torch.uint8)),
            "that is the byte with the bits of the scale; return the number that it stands for (.float(), not .view)."),
    Mistake(lambda b, g: _scale(b, g, amax=lambda v: sum(map(abs, v)) / len(v)),
            "you took the mean magnitude; the largest one must not fall off the grid."),
    Mistake(lambda b, g: _scale(b, g, low=0.0),
            "a tiny block rounds to the scale 0, and then everything in it is divided by 0. Clamp to 2^-9, E4M3's smallest "
            "number, before you round."),
    Mistake(lambda b, g: _scale(b, g, low=2.0 ** -6),
            "you stopped at 2^-6, E4M3's smallest normal number (torchao does so). Its subnormals go down to 2^-9."),
    Mistake(lambda b, g: _scale(b, g, high=math.inf, round_to=lambda r: _e4m3(r) if r <= E4M3_MAX else r),
            "E4M3 ends at 448: clamp before you round."),
    Mistake(lambda b, g: _scale(b, g, zero=0.0),
            "a block of zeros got the scale 0, and 0 / 0 is NaN. Any other scale would do; ModelOpt takes 1."),
    Mistake(lambda b, g: _scale(b, g, zero=E4M3_MIN),
            "a block of zeros decodes to zeros with any scale, but ModelOpt writes 1 there, and so should you: test for zero "
            "before you clamp."),
)


def block_scale(function: Callable) -> Verdict:
    """block_scale(block, tensor_scale) -> the E4M3 scale of a block of 16, as a number; block: float32 tensor [16]."""
    cases = [Case(c.args, _scale(*c.args), c.name) for c in _SCALES]
    return grade(
        "block_scale", one_number(function), cases, mistakes=_SCALE_MISTAKES, rel=1e-6,
        hint="largest magnitude of the block, divided by 6 * tensor_scale; 1 if that is 0; clamped to 2^-9 … 448; then "
             "rounded to E4M3 with .to(torch.float8_e4m3fn).float().",
        done="these are the bytes that ModelOpt writes into weight_scale.")


# ---------------------------------------------------------------- the codes

def _code(y: float) -> int:
    """Nearest magnitude, ties to the even code: the odd boundaries are passed by equality, too."""
    return sum(y >= b if n % 2 else y > b for n, b in enumerate(E2M1_BOUNDS))


def _codes(block, s, g, *, code=_code, unit=None, sign=lambda c, x: c | 8 * (x < 0)):
    unit = s * g if unit is None else unit(s, g)
    values = [float(v) for v in block]
    return [sign(code(abs(v) / unit), v) for v in values]


# A power of two for s * g: the ties below are then exact in FP32 and in FP64.
_TIES = [0.0, 0.1, -0.1, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -0.25, -0.75, -1.25, -5.0, 6.0, -6.0]
_CODES = (
    Case((torch.tensor(_BLOCK) * 2500, 40.0, 2.3), None, "a block of large numbers"),
    Case((torch.tensor(_BLOCK), 120.0, 0.0003), None, "a block of small ones"),
    Case((torch.tensor(_TIES) / 64, 4.0, 2.0 ** -8), None, "every halfway point, once"),
    Case((torch.tensor(_BLOCK), 104.0, 0.0003), None, "the scale was rounded down: the largest weight lies above 6"),
)

_CODE_MISTAKES = (
    Mistake(lambda *a: _codes(*a, code=lambda y: sum(y >= b for b in E2M1_BOUNDS)),
            "you round a weight that is exactly halfway away from zero. The rule is: to the even code, so 0.25 becomes 0 and "
            "1.25 becomes 1."),
    Mistake(lambda *a: _codes(*a, code=lambda y: sum(y > b for b in E2M1_BOUNDS)),
            "you round a weight that is exactly halfway to the lower value, as ggml does. The rule is: to the even code, so "
            "0.75 becomes 1 and 3.5 becomes 4."),
    Mistake(lambda *a: _codes(*a, code=lambda y: sum(y >= v for v in E2M1) - 1),
            "you cut off instead of rounding: take the nearest value of the grid, not the next lower one."),
    Mistake(lambda *a: _codes(*a, sign=lambda c, x: c),
            "the signs are gone: bit 3 (add 8) marks a negative weight."),
    Mistake(lambda *a: _codes(*a, sign=lambda c, x: c | 8 if x < 0 and c else c),
            "a negative weight that rounds to zero keeps its sign: code 8, minus zero. It is the same value, but another byte "
            "than ModelOpt's."),
    Mistake(lambda *a: _codes(*a, sign=lambda c, x: -c & 15 if x < 0 else c),
            "the codes are not two's complement: a negative weight has the code of its magnitude plus 8."),
    Mistake(lambda *a: _codes(*a, sign=lambda c, x: -c if x < 0 else c),
            "a code is a number from 0 to 15: bit 3 is the sign, so add 8 for a negative weight."),
    Mistake(lambda *a: _codes(*a, sign=lambda c, x: math.copysign(E2M1[c], x)),
            "those are values; asked are their codes, the positions in E2M1 (code 7 means 6.0)."),
    Mistake(lambda *a: _codes(*a, code=lambda y: min(7, round(y))),
            "you rounded to a whole number, as INT4 does. E2M1's values are 0, 0.5, 1, 1.5, 2, 3, 4, 6."),
    Mistake(lambda *a: _codes(*a, code=lambda y: min(7, round(y)), sign=lambda c, x: -c if x < 0 else c),
            "you rounded to a whole number, as INT4 does. E2M1's values are 0, 0.5, 1, 1.5, 2, 3, 4, 6."),
    Mistake(lambda b, s, g: [math.copysign(E2M1[c & 7], 7.5 - c) * s * g for c in _codes(b, s, g)],
            "those are weights again, decoded; asked are the codes, 0 to 15."),
    Mistake(lambda *a: [low | high << 4 for low, high in zip(_codes(*a)[0::2], _codes(*a)[1::2], strict=True)],
            "those are bytes, two codes in each: that is exercise 3. Here each code stands alone."),
    Mistake(lambda *a: _codes(*a, unit=lambda s, g: s),
            "the tensor scale is missing: divide by scale * tensor_scale."),
    Mistake(lambda *a: _codes(*a, unit=lambda s, g: g),
            "the block scale is missing: divide by scale * tensor_scale."),
    Mistake(lambda *a: _codes(*a, unit=lambda s, g: s / g),
            "you divided by scale / tensor_scale: that is compressed-tensors' convention, whose global scale is the inverse. "
            "Here both scales are multipliers, so divide by their product."),
    Mistake(lambda *a: _codes(*a, unit=lambda s, g: 1 / (s * g)),
            "you multiplied by the scales: that is decoding. Encoding divides by them."),
    Mistake(lambda *a: _codes(*a, unit=lambda s, g: 1.0),
            "both scales are missing: divide by scale * tensor_scale, then round to the grid."),
    Mistake(lambda b, s, g: _codes(b, max(abs(float(v)) for v in b) / 6, 1.0),
            "you divided by amax / 6. The scale that the reader of the file will use is the rounded one: divide by "
            "scale * tensor_scale, or the two don't fit together."),
)


def quantize_block(function: Callable) -> Verdict:
    """quantize_block(block, scale, tensor_scale) -> 16 E2M1 codes, each 0 to 15; block: float32 tensor [16]."""
    cases = [Case(c.args, _codes(*c.args), c.name) for c in _CODES]
    return grade(
        "quantize_block", function, cases, mistakes=_CODE_MISTAKES,
        hint="y = |x| / (scale * tensor_scale); code = position of the nearest value in E2M1, a tie to the even code, above 6 "
             "still 7; add 8 where x is negative. encode_e2m1 does the last two steps.",
        done="with the scale from before, this is the whole of NVFP4.quantize for one block.")
