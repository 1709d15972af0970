"""The chi-square test finds what it should and no more; n-grams and intervals."""

import numpy as np
import pytest

from gb10 import sampling

PROBS = {f"t{i}": p for i, p in enumerate([0.4, 0.25, 0.15, 0.1, 0.05, 0.02, 0.01, 0.01, 0.005, 0.005])}


def draw(rng, probs, n):
    keys = list(probs)
    return dict(zip(keys, rng.multinomial(n, [probs[k] for k in keys]), strict=True))


def test_true_draws_fail_as_often_as_alpha_says():
    rng = np.random.default_rng(0)
    p = np.array([sampling.chi_square(draw(rng, PROBS, 500), PROBS).p for _ in range(2000)])
    assert 0.03 < (p < 0.05).mean() < 0.07
    assert (p < 0.001).mean() < 0.004


def test_a_wrong_temperature_is_found():
    rng = np.random.default_rng(1)
    warm = np.array(list(PROBS.values())) ** 0.7
    warm = dict(zip(PROBS, warm / warm.sum(), strict=True))
    missed = sum(sampling.chi_square(draw(rng, warm, 500), PROBS).agrees() for _ in range(100))
    assert missed <= 5


def test_scipy_says_the_same():
    from scipy.stats import chisquare

    counts = {"a": 30, "b": 45, "c": 25}
    probs = {"a": 0.3, "b": 0.4, "c": 0.3}
    ours = sampling.chi_square(counts, probs)
    theirs = chisquare([30, 45, 25], [30, 40, 30])
    assert ours.statistic == pytest.approx(theirs.statistic)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.freedom == 2


def test_a_token_that_could_not_come():
    found = sampling.chi_square({"a": 499, "z": 1}, {"a": 0.999, "b": 0.001, "z": 0.0})
    assert not found.agrees()
    assert found.impossible == (("z", 1),)
    assert "'z' 1 times" in str(found)
    assert "wrong" in str(found)


def test_rare_tokens_share_a_bin():
    assert sampling.chi_square({"a": 100}, PROBS | {"a": 0}).impossible == (("a", 100),)
    found = sampling.chi_square(draw(np.random.default_rng(2), PROBS, 500), PROBS)
    assert found.freedom == 8        # seven with 5 or more and more, two of exactly 5 left apart, two of 2.5 together


def test_one_bin_is_nothing_to_compare():
    found = sampling.chi_square({"a": 500}, {"a": 1.0})
    assert (found.freedom, found.p) == (0, 1.0)
    assert "nothing to compare" in str(found)


@pytest.mark.parametrize(("counts", "probs"), [({}, PROBS), ({"t0": 0}, PROBS), ({"t0": 1}, {"t0": 0.5}), ({"t0": 1}, {"t0": 1.5, "t1": -0.5}),
                                               ({"t0": 1}, {"t0": float("nan")})])
def test_what_is_no_distribution_is_refused(counts, probs):
    with pytest.raises(ValueError):
        sampling.chi_square(counts, probs)


def test_distinct():
    assert sampling.distinct(["a b a b"], 1) == 0.5
    assert sampling.distinct(["a b", "A  b"], 2) == 0.5
    assert sampling.distinct(["a"], 2) == sampling.distinct([], 1) == 0.0


def test_overlap():
    assert sampling.overlap(["a b c", "a b c"], 2) == 1.0
    assert sampling.overlap(["a b c", "d e f"], 1) == 0.0
    assert sampling.overlap(["a b", "b c"], 1) == 0.5
    assert sampling.overlap(["a", "a"], 2) == 1.0
    with pytest.raises(ValueError, match="two texts"):
        sampling.overlap(["a"], 1)


def test_intervals_cover():
    rng = np.random.default_rng(3)
    hits = 0
    for i in range(300):
        _, low, high = sampling.interval(rng.normal(5, 2, 30), seed=i, times=500)
        hits += low <= 5 <= high
    assert 0.88 < hits / 300 < 0.98
    assert sampling.interval([3.0]) == (3.0, 3.0, 3.0)
    assert sampling.interval([1, 2, 3], seed=4) == sampling.interval([1, 2, 3], seed=4)


def test_leaving_one_out():
    texts = ["a b", "a b", "c d", "e f"]
    value, low, high = sampling.jackknife(lambda t: sampling.distinct(t, 1), texts)
    assert value == 6 / 8
    assert low < value < high
    # for a mean, the jackknife's error is the usual one
    lengths = ["a", "a b", "a b c", "a b c d e"]
    mean, low, high = sampling.jackknife(lambda t: sum(len(x.split()) for x in t) / len(t), lengths)
    expected = np.std([1, 2, 3, 5], ddof=1) / 2
    assert (mean, high - low) == (2.75, pytest.approx(2 * 1.96 * expected))
    with pytest.raises(ValueError, match="three texts"):
        sampling.jackknife(len, ["a", "b"])
