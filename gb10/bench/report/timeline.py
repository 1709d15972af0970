"""Tokens per second, memory in use and GPU power on one time axis, from journal and telemetry.

Long pauses (a run that was taken up again the next day) are cut out, and a run of any length becomes at most
BINS steps.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from gb10.bench.figures import Figures
from gb10.bench.journal import Run
from gb10.bench.report.axes import clock
from gb10.bench.report.svg import Band, Panel, Track
from gb10.bench.report.words import GIB, counted, engines, finite, load, number, plain, size

BINS = 240
PAUSE_S = 60                     # between two cells; what is longer is cut out
HOLD_S = 10                      # a sample of the telemetry holds so long where the next is missing


@dataclass
class Timeline:
    length: float                    # seconds, without the pauses
    bands: list = field(default_factory=list)
    cuts: list = field(default_factory=list)
    panels: list = field(default_factory=list)
    tips: list = field(default_factory=list)
    said: list = field(default_factory=list)     # sentences about memory, power, heat


class Stretches:
    """The times in which requests were on their way, one behind the other on an axis that begins at 0."""

    def __init__(self, spans: list[tuple[float, float]]):
        self.parts: list[tuple[int, int, int]] = []      # from and to in unix seconds, place of `from`
        self.cuts: list[tuple[int, int]] = []            # place, seconds left out
        for a, b in sorted((math.floor(a), math.ceil(b)) for a, b in spans):
            if self.parts and a - self.parts[-1][1] <= PAUSE_S:
                first, last, at = self.parts[-1]
                self.parts[-1] = (first, max(last, b), at)
            else:
                if self.parts:
                    self.cuts.append((self.length, a - self.parts[-1][1]))
                self.parts.append((a, max(b, a + 1), self.length))

    @property
    def length(self) -> int:
        return self.parts[-1][2] + self.parts[-1][1] - self.parts[-1][0] if self.parts else 0

    def at(self, unix: float) -> float | None:
        """The place of a time; None in a pause."""
        return next((at + unix - a for a, b, at in self.parts if a <= unix <= b), None)


def build(run: Run, groups: list[Figures]) -> Timeline | None:
    """None where no request was sent."""
    spans = [(s.unix + s.window.first / 1e6, s.unix + s.window.last / 1e6, g)
             for g in groups for s in g.segments if s.window.last is not None]
    if not spans:
        return None
    axis = Stretches([(a, b) for a, b, _ in spans])
    step = math.ceil(axis.length / BINS)
    out = Timeline(axis.length)
    out.cuts = [(at, f"a pause of {_span(left_out)} is left out") for at, left_out in axis.cuts]
    several = len({g.endpoint for g in groups}) > 1
    out.bands = [Band(axis.at(a), axis.at(b), _names(run.meta, groups, g), g.endpoint if several else n)
                 for n, (a, b, g) in enumerate(sorted(spans, key=lambda s: s[:2]))]
    bins = math.ceil(axis.length / step)
    tokens = _tokens(groups, axis, step, bins)
    memory, held, power, seen = _telemetry(run, axis, step, bins)
    together = Track("together", _points(tokens, step), 0, step, filled=True)
    out.panels.append(Panel("tokens per second", [together]))
    if any(v is not None for v in memory):
        tracks = [Track("in use", _points(memory, step), 5, step)]
        if any(v is not None for v in held):
            tracks.append(Track("by GPU processes", _points(held, step), 6, step))
        total = seen["total"] / GIB if seen["total"] else None
        out.panels.append(Panel("memory, GiB", tracks, (total, f"total {total:.1f}") if total else None))
    if any(v is not None for v in power):
        out.panels.append(Panel("GPU power, W", [Track("GPU power", _points(power, step), 10, step)]))
    for i in range(bins):
        parts = [f"{number(tokens[i], 1)} tok/s"]
        parts += [f"{memory[i]:.1f} GiB in use"] if memory[i] is not None else []
        parts += [f"{power[i]:.0f} W"] if power[i] is not None else []
        out.tips.append((i * step, min((i + 1) * step, axis.length),
                         f"{clock(i * step, axis.length)}: {', '.join(parts)}"))
    out.said = _said(seen)
    return out


def _names(meta: dict, groups: list[Figures], g: Figures) -> tuple[str, ...]:
    """Names of a cell, from the longest to the shortest."""
    little = f"{g.rate:g}/s" if g.rate else str(g.concurrency)
    if len({x.endpoint for x in groups}) == 1:
        return load(g), little
    name = engines(meta)[g.endpoint]
    return f"{name}, {load(g)}", f"{name} {little}", little


def _span(seconds: float) -> str:
    return counted(round(seconds), "second") if seconds < 120 else counted(round(seconds / 60), "minute") \
        if seconds < 7200 else counted(round(seconds / 3600), "hour")


def _points(values: list, step: int) -> list[tuple[int, float | None]]:
    return [(i * step, v) for i, v in enumerate(values)]


def _tokens(groups: list[Figures], axis: Stretches, step: int, bins: int) -> list[float]:
    """Tokens per second in each step."""
    out = [0.0] * bins
    for g in groups:
        for second, n in g.timeline.items():
            at = axis.at(second)
            if at is not None:
                out[min(int(at // step), bins - 1)] += n
    return [v / min(step, axis.length - i * step) for i, v in enumerate(out)]


def _telemetry(run: Run, axis: Stretches, step: int, bins: int) -> tuple[list, list, list, dict]:
    """(memory in use, GPU processes' part of it in GiB, power in W) in each step, and what was seen."""
    sums: list[dict[int, list[float]]] = [{}, {}, {}]
    seen = {"total": 0.0, "used": (), "held": (), "swap": (), "watts": (), "heat": (), "n": 0, "throttled": 0,
            "why": Counter()}
    for row in run.samples():
        unix = finite(row.get("unix"))
        at = axis.at(unix) if unix is not None else None
        if at is None:
            continue
        place = min(int(at // step), bins - 1)
        for sum_, value in zip(sums, _sample(row, seen), strict=True):
            if value is not None:
                pair = sum_.setdefault(place, [0.0, 0])
                pair[0] += value
                pair[1] += 1
    return *(_held(s, bins, max(1, HOLD_S // step)) for s in sums), seen


def _sample(row: dict, seen: dict) -> tuple:
    """(GiB in use, GiB of GPU processes, W) of one line; `seen` doesn't grow with the run."""
    total, free = finite(row.get("mem_total")), finite(row.get("mem_available"))
    gpus = [g for g in row["gpus"] if isinstance(g, dict)] if isinstance(row.get("gpus"), list) else []
    used = total - free if total is not None and free is not None else None
    held, watts, heat = ([v for v in (finite(g.get(k)) for g in gpus) if v is not None]
                         for k in ("mem_procs", "w", "temp_c"))
    seen["total"] = max(seen["total"], total or 0)
    seen["n"] += 1
    why = {str(word) for g in gpus for word in g.get("throttle") or () if word}
    seen["throttled"] += bool(why)
    if len(seen["why"]) < 20:
        seen["why"].update(why)
    both = sum(held) if held else None
    power = sum(watts) if watts else None
    now = {"used": used, "held": both, "swap": finite(row.get("swap_used")), "watts": power,
           "heat": max(heat) if heat else None}
    for name, value in now.items():
        if value is not None:
            least, most, total, n = seen[name] or (value, value, 0.0, 0)
            seen[name] = (min(least, value), max(most, value), total + value, n + 1)
    return (None if used is None else used / GIB, None if both is None else both / GIB, power)


def _held(sums: dict[int, list[float]], bins: int, hold: int) -> list[float | None]:
    out: list[float | None] = []
    last, age = None, 0
    for i in range(bins):
        if i in sums:
            last, age = sums[i][0] / sums[i][1], 0
        else:
            age += 1
        out.append(last if age <= hold else None)
    return out


def _said(seen: dict) -> list[str]:
    out = []
    if seen["used"]:
        held = f"; GPU processes held {size(seen['held'][1])} of it at most" if seen["held"] else ""
        most, total = size(seen["used"][1]), size(seen["total"])
        out.append(f"Memory in use (MemTotal − MemAvailable): {most} of {total} at most{held}.")
    if seen["swap"] and seen["swap"][1] - seen["swap"][0] > 64 * 2**20:
        out.append(f"Swap in use: between {size(seen['swap'][0])} and {size(seen['swap'][1])}.")
    if seen["watts"]:
        heat = f", {seen['heat'][1]:.0f} °C at most" if seen["heat"] else ""
        _, most, total, n = seen["watts"]
        out.append(f"GPU: {total / n:.0f} W on average, {most:.0f} W at most{heat}. This is the GPU's "
                   "rail, not the wall socket.")
    elif seen["n"]:
        out.append("GPU power was not recorded: no NVIDIA GPU reported any.")
    if seen["throttled"]:
        words = ", ".join(plain(w, 40).replace("_", " ") for w, _ in seen["why"].most_common(5))
        share = 100 * seen["throttled"] / seen["n"]
        out.append(f"The GPU was throttled in {share:.0f} % of the samples ({words}).")
    if not seen["n"]:
        out.append("No telemetry: memory and power were not recorded while requests ran.")
    return out
