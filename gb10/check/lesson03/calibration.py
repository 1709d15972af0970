"""Checkers of lesson 03, notebook 2, calibration."""

from __future__ import annotations

from collections.abc import Callable

from gb10.check.verdict import Case, Mistake, Verdict, grade, one_number

# ---------------------------------------------------------------- exercise 3: what a calibrator keeps


def _running(batches, largest=lambda b: max(map(abs, b)), combine=max):
    kept = []
    for batch in batches:
        now = largest(batch)
        kept.append(combine(kept[-1], now) if kept else now)
    return kept


def _mean_so_far(batches):
    each = [max(map(abs, b)) for b in batches]
    return [sum(each[:i + 1]) / (i + 1) for i in range(len(each))]


_BATCHES = (
    ([[0.5, -2.0, 1.0], [1.5, 0.25], [-3.5, 3.0], [0.0, 1.0]], "four batches"),
    ([[1.0, 2.0, 7.5], [7.0, -7.25], [-7.5, 0.5], [8.0]], "rising slowly"),
    ([[-4.0]], "one batch, one value, below zero"),
    ([[-9.0, 1.0], [2.0, 3.0], [4.0, -5.0]], "the first batch holds the largest"),
    ([[0.0, 0.0], [-0.125, 0.0]], "a batch of zeros"),
)

_RUNNING_MISTAKES = (
    Mistake(lambda b: _running(b, max), "a large negative value needs just as much room: take the magnitude, abs(value)."),
    Mistake(lambda b: [abs(v) for v in _running(b, max)],
            "the magnitude has to be taken of every value before the maximum, not of the maximum: of -9 and 1 that would be 1."),
    Mistake(lambda b: _running(b, combine=lambda old, new: new),
            "those are the maxima of the single batches. A calibrator remembers: what it keeps never falls."),
    Mistake(lambda b: _running(b)[-1], "that is what is left at the end. Asked is what was kept after each batch: a list as long as "
                                       "batches."),
    Mistake(_mean_so_far, "that averages the batches' maxima; a max calibrator keeps the largest."),
    Mistake(lambda b: [max(_running(b))] * len(b), "after the first batch nobody has seen the later ones: keep what was seen so far."),
    Mistake(lambda b: _running(b, combine=lambda old, new: old + new), "the maxima aren't added up: keep the larger of old and new."),
    Mistake(lambda b: _running(b, lambda v: sum(map(abs, v)) / len(v)), "that is built on the batches' means; a max calibrator takes "
                                                                        "their largest magnitude."),
)


def running_max(function: Callable) -> Verdict:
    """running_max(batches) -> after each batch (a list of numbers of either sign), the largest magnitude seen so far."""
    return grade(
        "running_max", function, [Case((b,), _running(b), name) for b, name in _BATCHES], mistakes=_RUNNING_MISTAKES,
        hint="go through the batches; take the largest abs(value) of each, keep the larger of it and what you kept before, and append "
             "that to a list.",
        done="this is all of max calibration: ModelOpt's MaxCalibrator does the same with tensors.")


# ---------------------------------------------------------------- exercise 4: what becomes of a block

_LARGEST, _NORMAL, _VANISHES = 448.0, 2.0 ** -6, 2.0 ** -10


def _fate(block_amax, amax, *, r=lambda b, a: b / (6 * (a / 2688)), largest=_LARGEST, normal=_NORMAL, vanishes=_VANISHES):
    wanted = r(block_amax, amax)
    return "clipped" if wanted > largest else "full" if wanted >= normal else "coarse" if wanted > vanishes else "lost"


_BLOCKS = (
    ((9.99, 10.0), "nearly the largest value of the tensor"),
    ((10.1, 10.0), "a little more than calibration saw"),
    ((1.5, 1.0), "more than calibration saw, though below 448"),
    ((1.0, 1000.0), "a thousandth"),
    ((1.0, 25_000.0), "just above 448 to 2^-6"),
    ((1.0, 32_000.0), "just below"),
    ((1.0, 200_000.0), "between 2^-10 and 2^-9"),
    ((1.0, 400_000.0), "just above 2^-10"),
    ((1.0, 500_000.0), "just below it"),
    ((0.001, 0.5), "a small tensor"),
    ((3e-7, 0.5), "tiny beside a small one"),
    ((2000.0, 1000.0), "twice the range"),
)

_FATE_MISTAKES = (
    Mistake(lambda b, a: _fate(b, a, r=lambda b, a: b / (a / 2688)),
            "the block's largest value lands on 6, the end of E2M1's grid, not on 1: r = block_amax / (6 g)."),
    Mistake(lambda b, a: _fate(b, a, r=lambda b, a: b / 6), "r is measured in units of the tensor scale: divide by g = amax / 2688, too."),
    Mistake(lambda b, a: _fate(b, a, r=lambda b, a: b / (6 * a)), "the tensor scale is amax / 2688, not amax itself."),
    Mistake(lambda b, a: _fate(b, a, r=lambda b, a: b / a), "that is a ratio of magnitudes. The scale that the block wants is 448 times "
                                                            "it: r = block_amax / (6 g), g = amax / 2688."),
    Mistake(lambda b, a: _fate(b, a, r=lambda b, a: b / (6 * a / 448)), "the tensor scale is amax / 2688, that is 6 x 448, and not "
                                                                        "amax / 448."),
    Mistake(lambda b, a: _fate(b, a, r=lambda b, a: a / (6 * (b / 2688))), "block and tensor are exchanged: g comes from amax."),
    Mistake(lambda b, a: _fate(b, a, vanishes=2.0 ** -9), "E4M3's smallest number is 2^-9, but rounding is to the nearest: only what "
                                                          "lies at 2^-10 or below becomes 0."),
    Mistake(lambda b, a: _fate(b, a, normal=2.0 ** -9), "E4M3's full precision ends at 2^-6; below lie its subnormals, which are "
                                                        "coarse."),
    Mistake(lambda b, a: _fate(b, a, vanishes=_NORMAL), "below 2^-6 a scale is coarse, and not lost yet: that begins at 2^-10."),
    Mistake(lambda b, a: _fate(b, a, largest=6), "6 is the end of the elements' grid; the block scale's is 448."),
    Mistake(lambda b, a: _fate(b, a, largest=float("inf")), "nothing is ever clipped in your version: E4M3 ends at 448."),
    Mistake(lambda b, a: _fate(b, a, vanishes=0), "nothing is ever lost in your version: r at 2^-10 or below rounds to 0."),
)


def block_fate(function: Callable) -> Verdict:
    """block_fate(block_amax, amax) -> "clipped", "full", "coarse" or "lost"."""
    def words(*args):
        got = function(*args)
        return got.strip().lower() if isinstance(got, str) else got

    words.__name__ = getattr(function, "__name__", "your function")
    words.__wrapped__ = function
    return grade(
        "block_fate", words if callable(function) else function, [Case(args, _fate(*args), name) for args, name in _BLOCKS],
        mistakes=_FATE_MISTAKES,
        hint="g = amax / 2688 and r = block_amax / (6 * g). Above 448: \"clipped\"; from 2**-6 up: \"full\"; above 2**-10: \"coarse\"; "
             "else \"lost\".",
        done="a block has full precision while it is between 1 and 1/28,672 of the calibrated amax: the room that calibration may miss.")


# ---------------------------------------------------------------- exercise 5: how many samples

def _choose(intervals, tolerance, fits=lambda low, high, t: high <= t, pick=min):
    return pick([n for n, (low, high) in intervals.items() if fits(low, high, tolerance)] or [max(intervals)])


def _first(intervals, tolerance):
    return next(n for n, (_, high) in intervals.items() if high <= tolerance)


_COUNTS = (
    (({1: (0.003, 0.010), 8: (-0.002, 0.006), 64: (-0.001, 0.003), 512: (0.0, 0.0)}, 0.005), "the usual case"),
    (({512: (0.0, 0.0), 64: (-0.001, 0.001), 8: (0.001, 0.004), 1: (0.02, 0.03)}, 0.005), "largest count first; 8 is worse, but by little"),
    (({1: (-0.04, 0.06), 8: (-0.04, 0.05), 64: (-0.03, 0.04), 512: (0.0, 0.0)}, 0.005), "too few tokens: every interval is wide"),
    (({1: (-0.02, -0.01), 8: (-0.002, 0.002), 512: (0.0, 0.0)}, 0.005), "one sample came out better"),
    (({1: (0.003, 0.007), 8: (0.0, 0.005), 512: (0.0, 0.0)}, 0.005), "exactly the tolerance is still tolerated"),
    (({1: (0.003, 0.02), 16: (0.001, 0.018), 256: (-0.001, 0.011), 1024: (0.0, 0.0)}, 0.02), "another tolerance"),
    (({128: (0.0, 0.0)}, 0.001), "one count"),
)

_CHOICE_MISTAKES = (
    Mistake(lambda i, t: _choose(i, t, lambda low, high, t: low <= 0),
            "\"not shown to be worse\" is cheap: a measurement on ten tokens shows nothing. Ask that the high end is at most the "
            "tolerance: shown to be no worse than that."),
    Mistake(lambda i, t: _choose(i, t, lambda low, high, t: low <= 0 <= high),
            "an interval that covers 0 shows nothing, either way; ask that its high end is at most the tolerance."),
    Mistake(lambda i, t: _choose(i, t, lambda low, high, t: low <= t), "that is the low end, the best that it could be. The high end, the "
                                                                       "worst that it could be, has to be within the tolerance."),
    Mistake(lambda i, t: _choose(i, t, lambda low, high, t: (low + high) / 2 <= t),
            "that is the middle of the interval; its high end has to be within the tolerance."),
    Mistake(lambda i, t: _choose(i, t, lambda low, high, t: abs(low) <= t and abs(high) <= t),
            "a count that came out better than the largest one is welcome: only the high end matters."),
    Mistake(lambda i, t: _choose(i, t, lambda low, high, t: high - low <= t), "the width says how sure you are, not how good it is: compare "
                                                                              "the high end with the tolerance."),
    Mistake(lambda i, t: _choose(i, t, lambda low, high, t: high < t), "at most the tolerance: exactly the tolerance is allowed."),
    Mistake(lambda i, t: _choose(i, t, lambda low, high, t: high <= 0), "the tolerance isn't used: the high end may be as large as that."),
    Mistake(_first, "that is the first one of the dictionary, whose order says nothing: take the smallest count."),
    Mistake(lambda i, t: _choose(i, t, pick=max), "that is the largest count that will do; samples cost time, so take the smallest."),
    Mistake(lambda i, t: min(i), "that is always the smallest count, whatever was measured."),
)


def choose_samples(function: Callable) -> Verdict:
    """choose_samples(intervals, tolerance) -> the smallest sample count whose interval's high end is within the tolerance.

    intervals: count -> (low, high) of how much worse it is than the largest count.
    """
    return grade(
        "choose_samples", one_number(function), [Case(args, _choose(*args), name) for args, name in _COUNTS], mistakes=_CHOICE_MISTAKES,
        hint="collect the counts whose high end is at most the tolerance, and return the smallest of them. The largest count is compared "
             "with itself, (0, 0), so there is always one.",
        done="a choice that a wide interval cannot talk you into. Statisticians call it a test of non-inferiority.")
