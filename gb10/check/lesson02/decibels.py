"""Checkers of lesson 02, notebook 3: errors as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

from gb10.check.verdict import Case, Mistake, Verdict, grade, one_number


def numbers(tensor) -> list[float]:
    """Any tensor, array or nested list as one flat list of Python floats."""
    plain = tensor.tolist() if hasattr(tensor, "tolist") else tensor
    return [n for v in plain for n in numbers(v)] if isinstance(plain, (list, tuple)) else [float(plain)]


def power(values) -> float:
    return sum(v * v for v in values)


def sum_abs(values) -> float:
    return sum(map(abs, values))


# ---------------------------------------------------------------- the signal-to-noise ratio

def _pairs(x, y):
    x, y = numbers(x), numbers(y)
    return x, y, [a - b for a, b in zip(x, y, strict=True)]


def _variance(values) -> float:
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values)


def _snr(x, y) -> float:
    x, y, error = _pairs(x, y)
    return 10 * math.log10(power(x) / power(error))


def _by_rows(x, y) -> list[float]:
    return [_snr(a, b) for a, b in zip(x, y, strict=True)] if x.dim() > 1 else [_snr(x, y)]


def _ratio_of(signal, noise, factor=10.0, log=math.log10):
    """A wrong SNR: signal and noise map (x, y, error) to a number each."""
    def wrong(x, y):
        parts = _pairs(x, y)
        return factor * log(signal(*parts) / noise(*parts))
    return wrong


_SNR_MISTAKES = (
    Mistake(_ratio_of(lambda x, y, e: power(x), lambda x, y, e: power(e), 20),
            "20 log10 is for a ratio of amplitudes. You have squared already, so yours is a ratio of powers, and that "
            "takes 10 log10."),
    Mistake(_ratio_of(lambda x, y, e: power(e), lambda x, y, e: power(x)),
            "signal and error are swapped: a good format has a large ratio, so the power of x goes on top."),
    Mistake(_ratio_of(lambda x, y, e: sum_abs(x), lambda x, y, e: sum_abs(e)),
            "the squares are missing: power is the sum (or mean) of the squares, not of the magnitudes."),
    Mistake(_ratio_of(lambda x, y, e: sum_abs(x), lambda x, y, e: sum_abs(e), 20),
            "that is a ratio of mean magnitudes. Power is the mean of the squares: a large error counts more than "
            "twice an error half as large."),
    Mistake(_ratio_of(lambda x, y, e: power(x), lambda x, y, e: power(e), 5),
            "half of what was asked: after the square root a ratio is one of amplitudes, and that takes 20 log10. "
            "Leave the root out and keep 10."),
    Mistake(_ratio_of(lambda x, y, e: power(x), lambda x, y, e: power(e), 10, math.log),
            "that is the natural logarithm; decibels use the one to base 10 (math.log10, torch.log10)."),
    Mistake(_ratio_of(lambda x, y, e: power(x), lambda x, y, e: power(e), 20, math.log),
            "that is the natural logarithm, and 20 is for amplitudes; a ratio of powers takes 10 log10."),
    Mistake(_ratio_of(lambda x, y, e: power(x), lambda x, y, e: power(e), 1),
            "that is in bel; a decibel is a tenth of it, so multiply by 10."),
    Mistake(_ratio_of(lambda x, y, e: power(x), lambda x, y, e: power(e), 1, lambda r: r),
            "that is the ratio itself; 10 log10 of it is in decibels."),
    Mistake(_ratio_of(lambda x, y, e: sum(a * a / (d * d) for a, d in zip(x, e, strict=True)) / len(x),
                      lambda x, y, e: 1.0),
            "that is the mean of the ratios. Asked is the ratio of the means: first add up all the signal power and all "
            "the error power, then divide once. (One element that happens to be nearly exact would rule the other.)"),
    Mistake(lambda x, y: sum(10 * math.log10(a * a / (d * d)) for a, d in zip(*_pairs(x, y)[::2], strict=True))
            / len(numbers(x)),
            "that is the mean of each element's decibels. First add up all the signal power and all the error power, "
            "then take one logarithm."),
    Mistake(_ratio_of(lambda x, y, e: power(x), lambda x, y, e: power(y)),
            "that holds x against y. The noise is their difference: (x - y) squared."),
    Mistake(_ratio_of(lambda x, y, e: power(y), lambda x, y, e: power(e)),
            "the signal is the original x; you took the power of what came back."),
    Mistake(_ratio_of(lambda x, y, e: power(x), lambda x, y, e: sum(e) ** 2),
            "square each error first, then add: otherwise errors of opposite sign cancel."),
    Mistake(_ratio_of(lambda x, y, e: _variance(x), lambda x, y, e: _variance(e)),
            "var and std take off the mean first, and with it an error that goes in one direction. Power is the mean of the "
            "squares as they are."),
    Mistake(lambda x, y: sum(_by_rows(x, y)) / len(_by_rows(x, y)),
            "that is the mean of the rows' decibels. First add up the power over all elements, then take one logarithm."),
    Mistake(lambda x, y: _by_rows(x, y) if x.dim() > 1 else _snr(x, y),
            "that is one ratio for each row; asked is one for all: add up over everything first (.sum())."),
    Mistake(lambda x, y: [10 * math.log10(a * a / (d * d)) for a, d in zip(*_pairs(x, y)[::2], strict=True)],
            "that is one ratio for each element; asked is one for all: add up over everything first (.sum())."),
    Mistake(_ratio_of(lambda x, y, e: power(x), lambda x, y, e: power(e), 10, math.log2),
            "that is the logarithm to base 2; decibels use the one to base 10 (math.log10, torch.log10)."),
    Mistake(lambda x, y: power(_pairs(x, y)[2]) / len(_pairs(x, y)[2]),
            "that is the error's mean power; hold the power of x against it, and take 10 log10 of the ratio."),
    Mistake(lambda x, y: round(_snr(x, y)), "right, but rounded: return the number with its decimals."),
    Mistake(_ratio_of(lambda x, y, e: max(map(abs, x)) ** 2, lambda x, y, e: power(e) / len(e)),
            "that is the peak signal-to-noise ratio, which takes the largest value as the signal; here it is the mean "
            "power of x."),
)


def _draws(seed: int, *shape: int, noise: float, scale: float = 1.0):
    """(x, x + noise), float64: no two elements alike, so that no wrong formula meets the right one by chance."""
    import torch

    make = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(*shape, generator=make, dtype=torch.float64)
    return x, x + noise * scale * (torch.rand(*shape, generator=make, dtype=torch.float64) - 0.45)


def snr_db(function: Callable) -> Verdict:
    """snr_db(x, y) -> 10 log10(power of x / power of x - y), for two tensors of the same shape, in decibels."""
    arguments = (
        (_draws(1, 8, noise=0.4), "eight numbers and what came back"),
        (_draws(2, 4, 16, noise=0.1), "a matrix: one ratio for all of it"),
        (_draws(3, 32, noise=0.02, scale=0.02), "small numbers, small errors"),
        (_draws(4, 16, noise=8.0), "an error larger than the signal: below 0 dB"),
    )
    return grade(
        "snr_db", one_number(function), [Case(a, _snr(*a), name) for a, name in arguments], mistakes=_SNR_MISTAKES, rel=1e-4,
        absolute=1e-5,
        hint="three steps: add up x squared over all elements, add up (x - y) squared, and return 10 log10 of the first "
             "over the second, as one number.",
        done="this one number is what the rest of the notebook compares.")


# ---------------------------------------------------------------- decibels into a relative error

_ERROR_MISTAKES = (
    Mistake(lambda db: 10 ** (-db / 10), "10 to the minus dB/10 is the ratio of the powers. The error of a weight is an "
                                         "amplitude, the root of it: divide by 20."),
    Mistake(lambda db: 10 ** (db / 20), "the sign: more decibels mean a smaller error."),
    Mistake(lambda db: 10 ** (db / 10), "the sign: more decibels mean a smaller error; and an amplitude takes 20, not 10."),
    Mistake(lambda db: 100 * 10 ** (-db / 20), "that is in per cent; asked is the fraction, 0.1 for 20 dB."),
    Mistake(lambda db: math.exp(-db / 20), "decibels are powers of ten, not of e."),
    Mistake(lambda db: math.exp(-db / 10), "decibels are powers of ten, not of e, and an amplitude takes 20, not 10."),
    Mistake(lambda db: 2 ** (-db / 6.02), "close: 6.02 dB per factor of two is a rounded figure. Use 10 ** (-db / 20), "
                                          "which is exact."),
    Mistake(lambda db: 2 ** (-db / 6), "close: a factor of two is 6.02 dB, not 6. Use 10 ** (-db / 20), which is exact."),
    Mistake(lambda db: 1 / db, "a decibel is a logarithm: undo it with a power of ten."),
)


def relative_error(function: Callable) -> Verdict:
    """relative_error(db) -> root mean square of the error, divided by that of the signal: 10 ** (-db / 20)."""
    cases = [Case((db,), 10 ** (-db / 20), name) for db, name in (
        (40.0, "40 dB: the error is a hundredth"), (20.44, ""), (31.53, ""), (6.0206, "one bit: about a half"),
        (0.0, "0 dB: the error is as large as the signal"))]
    return grade(
        "relative_error", one_number(function), cases, mistakes=_ERROR_MISTAKES, rel=1e-5,
        hint="solve dB = 20 log10(signal / error) for error / signal.",
        done="20 dB is a tenth, 40 dB a hundredth; each 6.02 dB halve the error.")


# ---------------------------------------------------------------- two sources of error

def _combined(a, b):
    return -10 * math.log10(10 ** (-a / 10) + 10 ** (-b / 10))


_COMBINE_MISTAKES = (
    Mistake(lambda a, b: (a + b) / 2, "that is the mean of the two. The product carries both errors, so it can't be "
                                      "better than the worse of them."),
    Mistake(min, "the worse of the two alone; but the other error is still there and adds its power."),
    Mistake(max, "that is the better of the two; the product carries both errors."),
    Mistake(lambda a, b: a + b, "decibels are logarithms: adding them multiplies the ratios. Turn both into noise powers "
                                "first."),
    Mistake(lambda a, b: -20 * math.log10(10 ** (-a / 20) + 10 ** (-b / 20)),
            "you added amplitudes, as if both errors always pushed the same way. Independent errors add in power: use "
            "10 throughout."),
    Mistake(lambda a, b: 10 * math.log10(10 ** (a / 10) + 10 ** (b / 10)),
            "you added the two ratios; what adds up is noise per signal, 10 ** (-dB / 10). The result must be worse "
            "than either."),
    Mistake(lambda a, b: -20 * math.log10(10 ** (-a / 10) + 10 ** (-b / 10)),
            "the sum is right, but it is one of powers, and that takes 10 log10, not 20."),
    Mistake(lambda a, b: 10 * math.log10(10 ** (-a / 10) + 10 ** (-b / 10)),
            "the sign: that is noise over signal, in decibels."),
    Mistake(lambda a, b: min(a, b) - 3, "right only where both are equal (and then 3.01): compute it from the powers."),
    Mistake(lambda a, b: a * b / (a + b), "that formula is for the ratios themselves, not for their decibels: go from "
                                          "dB to ratios first, and back at the end."),
    Mistake(lambda a, b: 10 ** (-a / 10) + 10 ** (-b / 10), "that is the noise per signal, the right sum; turn it back "
                                                            "into decibels."),
)


def combined_db(function: Callable) -> Verdict:
    """combined_db(a, b) -> SNR in dB of a product whose factors have a and b dB, their errors being independent."""
    cases = [Case(p, _combined(*p), name) for p, name in (
        ((20.0, 30.0), ""), ((20.44, 20.44), "both as good as NVFP4"), ((20.0, 60.0), "the second nearly exact"),
        ((12.5, 17.0), ""))]
    return grade(
        "combined_db", one_number(function), cases, mistakes=_COMBINE_MISTAKES, rel=1e-5,
        hint="noise per signal is 10 ** (-dB / 10); add the two, and turn the sum back: -10 log10.",
        done="two errors of the same size cost 3.01 dB, half a bit.")
