"""Is one engine faster than another, or is no difference shown? Ratios with a bootstrap interval, and a verdict in words.

Interleaved blocks (A B B A …): the blocks of both are paired in the order in which they ran, so that a drift of the machine
falls on both alike. A block's figure is the median over its requests; the logarithms of the pairs' ratios are drawn
again 4000 times (percentile bootstrap of their mean). Few blocks make such intervals too narrow, so they are widened by
sqrt(n / (n - 1)) x t / 1.96, with Student's t for n - 1 degrees of freedom; tests hold the coverage to 95 %.

Two runs of their own have no pairs: requests are drawn again on both sides, and a drift between the runs can't be told from
a difference. The verdict then says so.
"""

from __future__ import annotations

import math
import random
from statistics import fmean, median

from gb10.bench.figures import Figures

DRAWS = 4000
REQUESTS = 400                   # of a side, where requests are drawn
# 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom; any table of them
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)

# name, unit, key of a request's figures, is more better (the figure is 1 / time)
METRICS = (("tokens per second of one user", "tok/s", "tpot", True),
           ("time to first token", "ms", "ttft", False),
           ("time of a whole answer", "ms", "e2e", False))


def compare(a: Figures, b: Figures, names: tuple[str, str], paired: bool, seed: int = 0) -> list[dict]:
    """Three ratios of two groups at one concurrency, each with interval and verdict; [] where a side has no figures.

    A ratio above 1 means that A is better: faster, or shorter. names: how to call A and B.
    """
    out = []
    for metric, unit, key, inverse in METRICS:
        blocks_a, blocks_b = (_blocks(g, key) for g in (a, b))
        if not any(blocks_a) or not any(blocks_b):
            continue
        values_a, values_b = (median(v for block in blocks for v in block) for blocks in (blocks_a, blocks_b))
        logs = [math.log(median(y) / median(x)) for x, y in zip(blocks_a, blocks_b, strict=False) if x and y]
        if paired and len(logs) > 1:
            low, middle, high = interval(logs, seed)
            basis = f"{len(logs)} pairs of blocks"
        else:
            low, middle, high = unpaired([v for block in blocks_a for v in block], [v for block in blocks_b for v in block], seed)
            basis = "requests of two runs; a drift between them would look the same" if not paired else "requests of one block each"
        shown = [1e6 / v if inverse else v / 1000 for v in (values_a, values_b)]
        row = {"metric": metric, "unit": unit, "concurrency": a.concurrency, "rate": a.rate, "a": names[0], "b": names[1],
               "a_value": round(shown[0], 3), "b_value": round(shown[1], 3), "ratio": round(math.exp(middle), 4),
               "low": round(math.exp(low), 4), "high": round(math.exp(high), 4), "basis": basis}
        out.append(row | {"verdict": verdict(row)})
    return out


def verdict(row: dict) -> str:
    """"vLLM 1.31× (95 %: 1.27–1.36)" for the better one, or "no difference shown (95 %: 0.97–1.02)"."""
    ratio, low, high = row["ratio"], row["low"], row["high"]
    if low <= 1 <= high:
        return f"no difference shown (95 %: {low:.2f}–{high:.2f})"
    name = row["a"]
    if ratio < 1:
        name, ratio, low, high = row["b"], 1 / ratio, 1 / high, 1 / low
    digits = 2 if low >= 1.005 else 4
    return f"{name} {ratio:.{digits}f}× (95 %: {low:.{digits}f}–{high:.{digits}f})"


def interval(logs: list[float], seed: int = 0) -> tuple[float, float, float]:
    """(low, mean, high) of paired values: percentile bootstrap of the mean at 95 %, widened for few pairs."""
    n, middle = len(logs), fmean(logs)
    rng = random.Random(seed)
    means = sorted(fmean(rng.choices(logs, k=n)) for _ in range(DRAWS))
    widen = math.sqrt(n / (n - 1)) * (T[n - 2] if n - 2 < len(T) else 1.96 + 2.4 / (n - 1)) / 1.96
    low, high = means[int(0.025 * DRAWS)], means[int(0.975 * DRAWS)]
    return middle - (middle - low) * widen, middle, middle + (high - middle) * widen


def unpaired(a: list[float], b: list[float], seed: int = 0) -> tuple[float, float, float]:
    """(low, middle, high) of log(median b / median a), requests drawn again on both sides."""
    rng = random.Random(seed)
    a, b = (rng.sample(v, REQUESTS) if len(v) > REQUESTS else v for v in (a, b))
    draws = sorted(math.log(median(rng.choices(b, k=len(b))) / median(rng.choices(a, k=len(a)))) for _ in range(DRAWS // 4))
    return draws[int(0.025 * len(draws))], math.log(median(b) / median(a)), draws[int(0.975 * len(draws))]


def _blocks(group: Figures, key: str) -> list[list[float]]:
    """The figure of every request, block by block in the order of the cells; none in a block where all failed."""
    return [[r[key] for r in group.blocks[cell] if r[key]] for cell in sorted(group.blocks)]
