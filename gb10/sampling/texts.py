"""How different are several answers? Shares of n-grams, and means with an interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations


def words(text: str) -> list[str]:
    """Lower case, split at blanks."""
    return text.lower().split()


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    if n < 1:
        raise ValueError(f"an n-gram has at least one word; got n = {n}")
    w = words(text)
    return [tuple(w[i:i + n]) for i in range(len(w) - n + 1)]


def distinct(texts: Sequence[str], n: int) -> float:
    """distinct-n: the share of different n-grams among all n-grams of all texts; 0 if there is none.

    https://arxiv.org/abs/1510.03055, section 5.2: the number of distinct n-grams over the number of n-grams.
    """
    grams = [g for t in texts for g in _grams(t, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def overlap(texts: Sequence[str], n: int) -> float:
    """Mean over all pairs of texts of the share of n-grams that they have in common: 1 for equal texts, 0 for nothing in common.

    For a pair: twice the common n-grams (each as often as both have it) over those of both (Dice). A cousin of self-BLEU
    (https://arxiv.org/abs/1802.01886) without its brevity penalty. A pair without n-grams counts 1 if the texts are equal, else 0.
    """
    counts = [Counter(_grams(t, n)) for t in texts]
    shares = []
    for (a, ta), (b, tb) in combinations(list(zip(counts, texts, strict=True)), 2):
        both = a.total() + b.total()
        shares.append(2 * (a & b).total() / both if both else float(words(ta) == words(tb)))
    if not shares:
        raise ValueError("an overlap needs at least two texts")
    return sum(shares) / len(shares)


def interval(values: Sequence[float], level: float = 0.95, seed: int = 0, times: int = 2000) -> tuple[float, float, float]:
    """(mean, low, high): the mean and its percentile-bootstrap interval. Under about ten values it is too narrow: say how many there were."""
    import numpy as np

    v = np.asarray(list(values), dtype=np.float64)
    if not v.size:
        raise ValueError("an interval needs at least one value")
    means = v[np.random.default_rng(seed).integers(0, v.size, (times, v.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(v.mean()), float(low), float(high)


def jackknife(statistic, texts: Sequence[str], z: float = 1.96) -> tuple[float, float, float]:
    """(statistic(texts), low, high): its interval from leaving out one text at a time, for what is computed from all of them together.

    Standard error sqrt((n - 1) / n * sum((s_i - mean)^2)) (https://en.wikipedia.org/wiki/Jackknife_resampling). Needs three texts.
    """
    texts = list(texts)
    n = len(texts)
    if n < 3:
        raise ValueError(f"leaving one out needs at least three texts; got {n}")
    left = [statistic(texts[:i] + texts[i + 1:]) for i in range(n)]
    mean = sum(left) / n
    error = ((n - 1) / n * sum((s - mean) ** 2 for s in left)) ** 0.5
    value = statistic(texts)
    return value, value - z * error, value + z * error
