"""Percentiles of many whole numbers in flat memory: exact while few different values occur, in narrow buckets beyond."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from functools import cache
from itertools import accumulate

from gb10.bench.buckets import bucket, middle

EXACT = 20_000                   # different values that are told apart
BITS = 11                        # beyond: buckets at most 1/2048 (0.05 %) of the value wide


@cache
def _value(number: str, bits: int) -> int:
    return int(middle(int(number), bits))


class Spread:
    """Whole numbers, such as microseconds. Percentiles interpolate linearly, as numpy's default does."""

    def __init__(self, exact: int = EXACT, bits: int = BITS):
        self._limit, self._step, self._bits = exact, exact, bits
        self._counts: Counter[int] = Counter()
        self._ranks: tuple[list[int], list[int]] | None = None      # values in order, how many are at or below each
        self.low: int | None = None
        self.high: int | None = None

    def __len__(self) -> int:
        return self.n

    @property
    def n(self) -> int:
        return self._counts.total()

    @property
    def total(self) -> float:
        return sum(value * times for value, times in self._counts.items())

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self._counts else None

    def add(self, value: int, times: int = 1) -> None:
        self._counts[value] += times
        self._note(value, value)

    def extend(self, values: list[int]) -> None:
        if values:
            self._counts.update(values)
            self._note(min(values), max(values))

    def add_buckets(self, counts: dict, bits: int) -> None:
        """Take in counts by bucket number (as JSON keeps them: numbers as text), made with another width."""
        if counts:
            values = {_value(number, bits): times for number, times in counts.items()}
            self._counts.update(values)
            self._note(min(values), max(values))

    def _note(self, low: int, high: int) -> None:
        self._ranks = None
        self.low = low if self.low is None or low < self.low else self.low
        self.high = high if self.high is None or high > self.high else self.high
        if len(self._counts) > self._limit:
            self._fold()

    def _fold(self) -> None:
        """Give values that lie close together one place. What comes later is told apart again until the next time."""
        folded: Counter[int] = Counter()
        for value, times in self._counts.items():
            folded[value if value < 1 << self._bits else int(middle(bucket(value, self._bits), self._bits))] += times
        self._counts = folded
        self._limit = len(folded) + self._step

    def _at(self, rank: int) -> int:
        """The value at a place in the order, from 0."""
        if self._ranks is None:
            values = sorted(self._counts)
            self._ranks = values, list(accumulate(self._counts[v] for v in values))
        values, below = self._ranks
        return min(max(values[bisect_right(below, rank)], self.low), self.high)

    def percentile(self, p: float) -> float | None:
        """p from 0 to 100; None without values."""
        last = self.n - 1
        if last < 0:
            return None
        place = last * p / 100
        i = int(place)
        a, b = self._at(i), self._at(min(i + 1, last))
        return a + (b - a) * (place - i)

    def above(self, limit: float) -> int:
        """How many values are larger."""
        return sum(times for value, times in self._counts.items() if value > limit)

    def curve(self, points: int = 100) -> list[tuple[float, float]]:
        """(value, share at or below) for a picture of the distribution."""
        return [(self.percentile(100 * i / points), i / points) for i in range(points + 1)] if self._counts else []

    def summary(self, scale: float = 1000.0, digits: int = 3) -> dict | None:
        """{"n", "mean", "min", "p50", "p90", "p99", "max"} divided by `scale` (µs to ms); None without values."""
        if not self._counts:
            return None
        each = {"mean": self.mean, "min": self.low, "p50": self.percentile(50), "p90": self.percentile(90),
                "p99": self.percentile(99), "max": self.high}
        return {"n": self.n} | {k: round(v / scale, digits) for k, v in each.items()}
