"""Percentiles of many whole numbers in flat memory: exact up to a limit, in narrow buckets beyond."""

from __future__ import annotations

from array import array

from gb10.bench.buckets import bucket, middle

EXACT = 100_000                  # values kept as they are
BITS = 11                        # beyond: buckets at most 1/2048 (0.05 %) of the value wide


class Spread:
    """Whole numbers >= 0, such as microseconds. Percentiles interpolate linearly, as numpy's default does."""

    def __init__(self, exact: int = EXACT, bits: int = BITS):
        self._exact, self._bits = exact, bits
        self._values: array | None = array("q")
        self._sorted = True
        self._buckets: dict[int, int] = {}
        self._order: list[int] | None = None     # the buckets' numbers, sorted; None when one has been added
        self.n, self.total = 0, 0
        self.low: int | None = None
        self.high: int | None = None

    def __len__(self) -> int:
        return self.n

    def add(self, value: int) -> None:
        self.extend((value,))

    def extend(self, values) -> None:
        values = [max(0, v) for v in values]
        if not values:
            return
        self.n += len(values)
        self.total += sum(values)
        low, high = min(values), max(values)
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
        if self._values is not None:
            self._values.extend(values)
            self._sorted = False
            if len(self._values) > self._exact:
                values, self._values = self._values, None
            else:
                return
        buckets, bits = self._buckets, self._bits
        self._order = None
        for v in values:
            b = bucket(v, bits)
            buckets[b] = buckets.get(b, 0) + 1

    def add_buckets(self, counts: dict, bits: int) -> None:
        """Take in counts by bucket number (as JSON keeps them: numbers as text), made with another width."""
        for number, times in counts.items():
            self.extend([int(middle(int(number), bits))] * times)

    def percentile(self, p: float) -> float | None:
        """p from 0 to 100; None without values."""
        if not self.n:
            return None
        if self._values is not None:
            if not self._sorted:
                self._values = array("q", sorted(self._values))
                self._sorted = True
            place = (self.n - 1) * p / 100
            i = int(place)
            a, b = self._values[i], self._values[min(i + 1, self.n - 1)]
            return a + (b - a) * (place - i)
        wanted, seen = (self.n - 1) * p / 100, 0
        if self._order is None:
            self._order = sorted(self._buckets)
        for number in self._order:
            seen += self._buckets[number]
            if seen > wanted:
                return min(max(middle(number, self._bits), self.low), self.high)
        return float(self.high)

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None

    def above(self, limit: float) -> int:
        """How many values are larger."""
        if self._values is not None:
            return sum(v > limit for v in self._values)
        return sum(times for number, times in self._buckets.items() if middle(number, self._bits) > limit)

    def curve(self, points: int = 100) -> list[tuple[float, float]]:
        """(value, share at or below) for a picture of the distribution."""
        if not self.n:
            return []
        return [(self.percentile(100 * i / points), i / points) for i in range(points + 1)]

    def summary(self, scale: float = 1000.0, digits: int = 3) -> dict | None:
        """{"n", "mean", "min", "p50", "p90", "p99", "max"} divided by `scale` (µs to ms); None without values."""
        if not self.n:
            return None
        each = {"mean": self.mean, "min": self.low, "p50": self.percentile(50), "p90": self.percentile(90),
                "p99": self.percentile(99), "max": self.high}
        return {"n": self.n} | {k: round(v / scale, digits) for k, v in each.items()}
