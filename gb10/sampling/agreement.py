"""Do draws come from the distribution that was predicted? Pearson's chi-square test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SMALLEST = 5.0                   # expected draws that a bin needs; rarer tokens share one (Cochran's rule)


@dataclass(frozen=True)
class Agreement:
    """statistic: sum of (seen - expected)^2 / expected over the bins; freedom: bins - 1; p: how often draws from the predicted distribution
    lie at least as far from it; n: draws; impossible: draws of tokens that were predicted never to come."""

    statistic: float
    freedom: int
    p: float
    n: int
    impossible: tuple[tuple[object, int], ...] = ()

    def agrees(self, alpha: float = 0.001) -> bool:
        """False: such draws come from this distribution less often than alpha, or never."""
        return not self.impossible and self.p >= alpha

    def __str__(self) -> str:
        if self.impossible:
            token, times = self.impossible[0]
            more = f" and {len(self.impossible) - 1} more" if len(self.impossible) > 1 else ""
            return f"{self.n} draws, among them {token!r} {times} times{more}, to which the prediction gives probability 0: it is wrong"
        if not self.freedom:
            return f"{self.n} draws, all in the one bin that the prediction has: nothing to compare"
        return f"{self.n} draws in {self.freedom + 1} bins: chi-square {self.statistic:.1f}, p = {self.p:.2g}"


def chi_square(counts: Mapping, probs: Mapping, smallest: float = SMALLEST) -> Agreement:
    """Hold counts (key -> draws) against probabilities (key -> p, summing to 1 within 1e-3).

    Keys with fewer than `smallest` expected draws are put into one bin; if that stays below, it joins the smallest of the others.
    Raises ValueError without draws, or for probabilities that are none.
    """
    n = sum(counts.values())
    total = sum(probs.values())
    if n < 1:
        raise ValueError("no draws to hold against the prediction")
    if not all(p >= 0 for p in probs.values()) or not abs(total - 1) <= 1e-3:
        raise ValueError(f"the predicted probabilities must be at least 0 and sum to 1; they sum to {total:.6g}")
    impossible = tuple(sorted(((k, c) for k, c in counts.items() if c and not probs.get(k)), key=lambda kc: -kc[1]))
    bins, rare = [], [0, 0.0]
    for key, p in probs.items():
        expected, seen = n * p / total, counts.get(key, 0)
        if expected >= smallest:
            bins.append([seen, expected])
        else:
            rare = [rare[0] + seen, rare[1] + expected]
    if rare[1] >= smallest or not bins:
        bins.append(rare)
    elif rare[1] > 0:
        last = min(bins, key=lambda b: b[1])
        last[:] = last[0] + rare[0], last[1] + rare[1]
    statistic = sum((seen - expected) ** 2 / expected for seen, expected in bins if expected > 0)
    freedom = len(bins) - 1
    if impossible:
        return Agreement(statistic, freedom, 0.0, n, impossible)
    if not freedom:
        return Agreement(0.0, 0, 1.0, n)
    from scipy.stats import chi2

    return Agreement(float(statistic), freedom, float(chi2.sf(statistic, freedom)), n)
