"""Checkers of lesson 02, notebook 3: the better of two scales, and a rotation around the rounding."""

from __future__ import annotations

import math
from collections.abc import Callable

from gb10.check.lesson02.decibels import numbers, power
from gb10.check.verdict import Case, Mistake, Verdict, grade, one_number

GRID = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


# ---------------------------------------------------------------- the better of two scales

def _e2m1(y: float) -> float:
    """Nearest value of the grid, ties to the even code; above 6 -> 6."""
    y, sign = abs(y), -1 if y < 0 else 1
    best = min(range(8), key=lambda code: (abs(GRID[code] - y), code & 1))
    return sign * GRID[best]


def _e4m3(value: float) -> float:
    """Nearest E4M3 value of a positive number, ties to even; 2^-9 to 448."""
    exponent = max(math.frexp(value)[1] - 1, -6)          # below 2^-6 the numbers are subnormal: same step
    step = 2.0 ** (exponent - 3)                          # three mantissa bits
    return min(max(round(value / step) * step, 2.0 ** -9), 448.0)


def _loss(block, scale) -> list[float]:
    return [abs(v - scale * _e2m1(v / scale)) for v in block]


def _better(block, *, tops=(6.0, 4.0), measure=power, compare_rounded=True, return_rounded=True, peak=None):
    block = numbers(block)
    top = peak(block) if peak else max(map(abs, block))
    exact = [top / t for t in tops]
    tried = [_e4m3(s) if compare_rounded else s for s in exact]
    errors = [measure(_loss(block, s)) for s in tried]
    best = errors.index(min(errors))
    return _e4m3(exact[best]) if return_rounded else exact[best]


def _target(block) -> float:
    block = numbers(block)
    return 6.0 if _better(block) == _e4m3(max(map(abs, block)) / 6) else 4.0


_SCALE_MISTAKES = (
    Mistake(_target, "that is the value to which the largest weight is mapped, 6 or 4; asked is the scale: the largest "
                     "magnitude divided by it, rounded to E4M3."),
    Mistake(lambda b: _better(b, return_rounded=False),
            "the scale is stored in eight bits: round it to E4M3 before you try it, and return the rounded one."),
    Mistake(lambda b: _better(b, compare_rounded=False, return_rounded=False),
            "the scale is stored in eight bits: round it to E4M3 before you try it, and return the rounded one."),
    Mistake(lambda b: _better(b, compare_rounded=False),
            "you compared with the exact scales and rounded the winner afterwards. What counts is the error with the "
            "scale that is stored: round to E4M3 first, then compare."),
    Mistake(lambda b: _better(b, measure=max),
            "you compared the largest error of the block. Asked is the sum of the squared errors: one large error may "
            "be worth it if fifteen others shrink."),
    Mistake(lambda b: _better(b, measure=sum),
            "you compared the sum of the magnitudes; square the errors first. (Without squares a large error is too "
            "cheap.)"),
    Mistake(lambda b: _better(b, peak=max), "the largest magnitude may belong to a negative weight: take abs() first."),
    Mistake(lambda b: _e4m3(6 / max(map(abs, numbers(b)))), "upside down: the scale multiplies grid values to give "
                                                            "weights, so it is the largest magnitude over 6."),
    Mistake(lambda b: min(power(_loss(numbers(b), _e4m3(max(map(abs, numbers(b))) / t))) for t in (6, 4)),
            "that is the error; asked is the scale that gives it."),
    Mistake(lambda b: _e4m3(max(map(abs, numbers(b))) / 6),
            "on this block the other candidate has the smaller error: try the largest magnitude over 6 and over 4, and "
            "keep the better one."),
    Mistake(lambda b: _e4m3(max(map(abs, numbers(b))) / 4),
            "on this block dividing by 6 has the smaller error: try both, and keep the better one."),
)

# Each of these blocks tells one wrong rule from the right one: the first two need 4 and 6 by every rule, the third is
# decided otherwise by the largest error, the fourth by the sum of magnitudes, the fifth by scales compared unrounded.
_SCALE_BLOCKS = (
    ([1.56, -0.06, -0.59, 0.24, 0.71, 1.65, 0.63, 0.28, -1.38, -0.5, -0.02, -0.81, -0.45, -0.22, -1.12, 0.83],
     "sixteen draws of N(0, 1)"),
    ([-1.46, -0.37, 0.67, 2.28, -0.95, -2.43, 0.66, -0.52, -0.39, 0.46, 0.22, 0.29, -0.43, 1.29, 1.5, 0.03],
     "sixteen more, the largest is negative"),
    ([5.74, -2.67, -1.56, 3.04, 1.98, -1.91, -0.37, -1.17, 0.23, 0.31, 1.52, -2.63, 3.14, 1.08, -4.97, 1.96],
     "largest error against squared error"),
    ([-0.0, 28.1, -20.2, -18.9, 1.2, 29.9, -24.4, 13.3, 1.2, -17.2, 7.1, -11.1, 46.8, 5.8, -8.0, 18.6],
     "magnitudes against squares"),
    ([-0.36, 0.59, 0.89, -2.09, 0.05, 0.53, 0.65, 0.07, -0.98, 0.53, 0.59, 1.2, 0.85, 1.12, 0.08, -0.05],
     "a block on which the rounding of the scale decides"),
)


def better_scale(function: Callable) -> Verdict:
    """better_scale(block) -> the E4M3 scale, largest magnitude / 6 or / 4, whose squared error is smaller.

    block: 16 weights, float32 tensor, taken to be divided by the tensor scale already.
    """
    import torch

    cases = [Case((torch.tensor(b),), _better(b), name) for b, name in _SCALE_BLOCKS]
    return grade(
        "better_scale", one_number(function), cases, mistakes=_SCALE_MISTAKES, rel=1e-6,
        hint="for each of 6 and 4: scale = round_e4m3(largest magnitude / it); the block comes back as scale * "
             "round_e2m1(block / scale); add up the squared errors. Return the scale with the smaller sum, as a number.",
        done="that is four-over-six (arXiv 2512.02010) for one block.")


# ---------------------------------------------------------------- rotate, round, rotate back

class _Steps:
    """Rounds to multiples of a step, half to even: a quantizer that is easy to follow by hand."""

    def __init__(self, step: float):
        self.step = step

    def __call__(self, values):
        return (values / self.step).round() * self.step

    def __repr__(self) -> str:
        return f"<rounds to multiples of {self.step:g}>"


def _hadamard(values: list[float]) -> list[float]:
    """The Walsh-Hadamard transform with entries +1 and -1, in Sylvester's order."""
    if len(values) == 1:
        return values
    half = len(values) // 2
    a, b = _hadamard(values[:half]), _hadamard(values[half:])
    return [x + y for x, y in zip(a, b, strict=True)] + [x - y for x, y in zip(a, b, strict=True)]


def _through(block, quantize, *, into=0.5, back=0.5):
    """Rotate, quantize, rotate back; the sums are divided by n^into and n^back (one half: orthonormal).

    back None: not rotated back.
    """
    import torch

    x = numbers(block)
    n = len(x)
    rotated = torch.tensor([v / n ** into for v in _hadamard(x)], dtype=block.dtype)
    rounded = numbers(quantize(rotated))
    return rounded if back is None else [v / n ** back for v in _hadamard(rounded)]


_ROTATION_MISTAKES = (
    Mistake(lambda b, q: _through(b, q, back=None),
            "you quantized the rotated numbers and stopped there: rotate back, or nobody can use the weights. (H is "
            "symmetric and orthonormal, so it is its own inverse.)"),
    Mistake(lambda b, q: _through(b, q, into=0, back=0),
            "without the division by sqrt(n) each H makes everything sqrt(n) times longer, and two of them n times: 4 or "
            "16 times too large. Orthonormal means rows of length 1."),
    Mistake(lambda b, q: _through(b, q, into=0, back=1),
            "the way back undoes the way in, but the numbers that you quantized were sqrt(n) times too large: divide by "
            "sqrt(n) both times, so that a rotation keeps lengths."),
    Mistake(lambda b, q: _through(b, q, into=1, back=0),
            "you divided by n on the way in: the numbers that you quantized were sqrt(n) times too small. Divide by "
            "sqrt(n) both times, so that a rotation keeps lengths."),
    Mistake(lambda b, q: _through(b, q, into=1, back=1),
            "you divided by n; the rows of H have length sqrt(n), so that is what to divide by."),
    Mistake(lambda b, q: _through(b, q, into=0, back=0.5),
            "the first H isn't divided by sqrt(n): the rotation must keep lengths on both ways."),
    Mistake(lambda b, q: _through(b, q, into=0.5, back=0),
            "the second H isn't divided by sqrt(n): the rotation must keep lengths on both ways."),
    Mistake(lambda b, q: q(b), "that is the block quantized as it is: rotate first, quantize in between, then rotate back."),
    Mistake(lambda b, q: numbers(b), "nothing was rounded: H applied twice is the identity. Call quantize in between."),
    Mistake(lambda b, q: _through(q(b), lambda v: v, back=None), "you quantized before the rotation: rotate first, then "
                                                                "quantize, then rotate back."),
    Mistake(lambda b, q: _through(b, lambda v: v, back=None), "you rotated and neither quantized nor rotated back."),
)

_ROTATION_BLOCKS = (
    ([8.0, 1.3, -0.6, 0.4], 1.0, "four numbers, one outlier"),
    ([0.9, -1.2, 0.35, 2.3, -0.15, 0.6, -0.75, 1.05, 20.0, -0.45, 0.2, -1.9, 1.4, 0.05, -0.55, 0.8], 0.5,
     "sixteen numbers, one outlier"),
    ([1.7, -0.6, 2.9, 0.2], 0.25, "four ordinary ones"),
)


def through_rotation(function: Callable) -> Verdict:
    """through_rotation(block, quantize) -> the block rotated by the orthonormal Hadamard matrix, quantized, rotated back.

    block: 4 or 16 numbers, float64 tensor; quantize: function from a tensor to a tensor.
    """
    import torch

    arguments = [((torch.tensor(b, dtype=torch.float64), _Steps(step)), name) for b, step, name in _ROTATION_BLOCKS]
    return grade(
        "through_rotation", function, [Case(a, _through(*a), name) for a, name in arguments],
        mistakes=_ROTATION_MISTAKES, rel=1e-5, absolute=1e-5,
        hint="H = signs(len(block)) / sqrt(len(block)); quantize H @ block; multiply by H once more and return all the "
             "numbers.",
        done="the outlier was shared out among all, rounded there, and put together again.")
