"""The interval: a ratio of sums, paired, and right about as often as it says."""

import math

import numpy as np
import pytest

from gb10.quantize import bootstrap
from gb10.quantize.bootstrap import Interval, ratio_interval


def coverage(draw, truth, n, repetitions=400, level=0.95):
    rng = np.random.default_rng(7)
    found = [ratio_interval(*draw(rng, n), seed=i, draws=300, level=level) for i in range(repetitions)]
    return sum(i.covers(truth) for i in found) / repetitions


def skewed(sigma):
    def draw(rng, n):
        return 256 * rng.lognormal(0, sigma, n), np.full(n, 256.0)
    return draw, math.exp(sigma ** 2 / 2)


def disagreements(rng, n):
    """Tokens out of 256 that disagree: 3 % on average, more in some windows than in others."""
    return rng.binomial(256, rng.beta(0.6, 19.4, n)).astype(float), np.full(n, 256.0)


def unequal(rng, n):
    w = rng.integers(20, 257, n).astype(float)
    return w * rng.lognormal(0, 0.5, n), w


@pytest.mark.parametrize("draw, truth, n, repetitions", [
    (*skewed(0.5), 16, 1000), (*skewed(0.5), 64, 400), (*skewed(0.8), 16, 1500), (*skewed(0.8), 32, 800),
    (disagreements, 0.03, 16, 800), (disagreements, 0.03, 64, 400), (unequal, math.exp(0.125), 16, 1000)],
    ids=["skewed-16", "skewed-64", "very-skewed-16", "very-skewed-32", "disagreements-16", "disagreements-64",
         "unequal-lengths-16"])
def test_95_per_cent_intervals_hold_the_truth_about_95_times_in_100(draw, truth, n, repetitions):
    assert 0.91 <= coverage(draw, truth, n, repetitions) <= 0.98


def test_the_level_is_obeyed():
    draw, truth = skewed(0.5)
    assert 0.76 <= coverage(draw, truth, 32, level=0.8) <= 0.84


def test_the_plain_percentile_interval_would_fail():
    """Why it is studentised: the same simulation refuses the simpler interval."""
    rng, hits = np.random.default_rng(7), 0
    for _ in range(400):
        x = rng.lognormal(0, 0.8, 16)
        means = x[rng.integers(0, 16, (500, 16))].mean(1)
        low, high = np.quantile(means, [0.025, 0.975])
        hits += low <= math.exp(0.32) <= high
    assert hits / 400 < 0.91


def test_value_is_a_ratio_of_sums():
    got = ratio_interval([10.0, 1.0], [100.0, 1.0])
    assert got.value == pytest.approx(11 / 101)          # a mean of means would be 0.55


def test_normal_windows_give_about_the_t_interval():
    x = np.random.default_rng(3).normal(0.5, 1, 40)
    got, half = ratio_interval(x, np.ones(40), draws=20_000), 2.0227 * x.std(ddof=1) / math.sqrt(40)
    assert got.low == pytest.approx(x.mean() - half, abs=0.1 * half)
    assert got.high == pytest.approx(x.mean() + half, abs=0.1 * half)


def test_a_long_tail_to_the_right_stretches_the_interval_to_the_right():
    x = np.random.default_rng(5).lognormal(0, 1, 24)
    got = ratio_interval(x, np.ones(24))
    assert got.high - got.value > 1.3 * (got.value - got.low)
    turned = ratio_interval(-x, np.ones(24))
    assert turned.value - turned.low > 1.3 * (turned.high - turned.value)


def test_pairing_removes_what_both_models_share():
    rng = np.random.default_rng(0)
    a = 256 * rng.lognormal(1, 0.3, 32)
    b = a + 256 * rng.normal(0.01, 0.005, 32)
    w = np.full(32, 256.0)
    assert ratio_interval(b - a, w).low > 0
    assert ratio_interval(a, w).half_width > 10 * ratio_interval(b - a, w).half_width


def test_block_size_and_seed(monkeypatch):
    x, w = np.random.default_rng(1).random(30), np.ones(30)
    whole = ratio_interval(x, w, seed=3)
    assert whole == ratio_interval(x, w, seed=3) != ratio_interval(x, w, seed=4)
    monkeypatch.setattr(bootstrap, "_BLOCK", 1000)
    assert ratio_interval(x, w, seed=3).half_width == pytest.approx(whole.half_width, rel=0.1)


def test_windows_without_spread_and_few_windows():
    same = ratio_interval([0.3] * 20, [3.0] * 20)
    assert (same.low, same.value, same.high) == pytest.approx((0.1, 0.1, 0.1))
    assert ratio_interval([0.0] * 20, [3.0] * 20) == Interval(0, 0, 0)
    one = ratio_interval([1.0], [2.0])
    assert (one.low, one.value, one.high) == (-math.inf, 0.5, math.inf)
    assert ratio_interval([1.0], [2.0], within=(0, 1)) == Interval(0, 0.5, 1)
    two = ratio_interval([1.0, 2.0], [1.0, 1.0])              # Student's t, one degree of freedom: 12.706
    assert two.half_width == pytest.approx(12.7062 * 0.5, rel=1e-4)


def test_one_window_that_differs_gives_a_finite_interval():
    got = ratio_interval([2.0] + [0.0] * 15, [256.0] * 16, within=(0, 1))
    assert got.low == 0 and got.value < got.high < 12 * got.value


def test_within_cuts_and_nonsense_is_refused():
    assert ratio_interval([0.0, 0.0, 3.0, 0.0, 0.0, 0.0], [3.0] * 6, within=(0, 1)).low == 0
    for bad in ([], []), ([1.0], [1.0, 2.0]), ([1.0, 1.0], [1.0, 0.0]):
        with pytest.raises(ValueError, match="weight"):
            ratio_interval(*bad)


def test_words():
    assert str(Interval(0.0101, 0.0123, 0.0146)) == "0.0123 (0.0101 to 0.0146)"
    assert str(Interval(1e-6, 2e-6, 3.5e-6)) == "0.0000020 (0.0000010 to 0.0000035)"
    assert str(Interval(0, 0, 0)) == "0.0000 (0.0000 to 0.0000)"
    assert Interval(0, 1, 2).map(math.exp).high == math.exp(2)
