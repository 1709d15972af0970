"""From values to places on a picture: linear, logarithmic and time axes, with ticks at round values."""

from __future__ import annotations

import math

TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)


class Axis:
    """Values from `low` to `high`, widened to the ticks, lie from `start` to `end`."""

    def __init__(self, low: float, high: float, start: float, end: float, *, log: bool = False,
                 wanted: int = 5):
        self.log, self.start, self.end = log, start, end
        self.ticks = log_ticks(low, high) if log else ticks(low, high, wanted)
        self.low, self.high = self.ticks[0], self.ticks[-1]

    def at(self, value: float) -> float:
        """The place of a value; what lies outside is put at the edge."""
        a, b, v = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            a, b, v = math.log(a), math.log(b), math.log(v)
        return self.start + (self.end - self.start) * (v - a) / (b - a)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About `wanted` round values, the first at or below `low`, the last at or above `high`; two at least."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = min(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, 1 - math.floor(math.log10(step)))        # 3 x 0.1 is not quite 0.3
    return [round(i * step, digits) for i in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, … around the range; powers of ten alone where that would be many."""
    low = max(low, 1e-9)
    high = max(high, low)
    for steps in ((1, 2, 5), (1,)):
        first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
        every = [float(f"{m}e{k}") for k in range(first, last + 1) for m in steps]
        below, above = [v for v in every if v <= low * 1.000001], [v for v in every if v >= high * 0.999999]
        chosen = [v for v in every if below[-1] <= v <= above[0]]
        if len(chosen) == 1:
            chosen = [v for v in every if v <= above[0]][-2:]
        if len(chosen) <= 8:
            break
    return chosen


def ratio_ticks(axis: Axis) -> list[float]:
    """1 and a few round ratios beside it, with room between their labels."""
    wide = axis.high / axis.low
    if wide > 8:
        every = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
    elif wide > 1.5:
        every = (0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5)
    elif wide > 1.15:
        every = (0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4)
    else:
        every = (0.9, 0.95, 0.98, 0.99, 1, 1.01, 1.02, 1.05, 1.1)
    chosen = [1.0]
    for v in sorted((v for v in every if axis.low <= v <= axis.high), key=lambda v: abs(v - 1)):
        if all(abs(axis.at(v) - axis.at(c)) > 44 for c in chosen):
            chosen.append(v)
    return sorted(chosen)


def time_ticks(length: float, wanted: int = 6) -> list[float]:
    """Seconds from 0 to at most `length`, at steps that clocks have."""
    step = next((s for s in TIME_STEPS if length / s <= wanted), None)
    if step is None:
        step = 86_400 * max(1, math.ceil(length / 86_400 / wanted))
    return [float(i * step) for i in range(int(length / step + 1e-9) + 1)]


def label(value: float) -> str:
    """"1,500" or "0.25"."""
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def clock(seconds: float, length: float) -> str:
    """A time of day of its own: "45 s" in short pictures, "12:30" in longer ones, "1:05 h" in long ones."""
    if length < 150:
        return f"{seconds:g} s"
    if length < 2 * 3600:
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"
