"""The pictures of a report: which figures go into which, and what they say in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gb10.bench.figures import Figures
from gb10.bench.journal import Run
from gb10.bench.report import svg, timeline
from gb10.bench.report.verdicts import level
from gb10.bench.report.words import counted, engines, finite, load, name_of, number, plain, tail

LOG_FROM = 12                    # a range wider than this needs a logarithm
CROWD = 5                        # more loads than this need wider pictures


@dataclass(frozen=True)
class Picture:
    """title and text stand above the picture; draw: from a width in pixels to SVG."""

    title: str
    text: str
    draw: Callable[[int], str]


def rows(run: Run, groups: list[Figures]) -> list[list[Picture]]:
    """Rows of pictures in reading order, without those for which there is nothing to draw.

    Of one engine all three stand side by side, as long as they aren't crowded. Of several each kind has a row
    of its own, so that engine stands beside engine.
    """
    throughput = _throughput(run.meta, groups)
    ttft, gap = (_distributions(run.meta, groups, kind) for kind in ("ttft", "gap"))
    if len({g.endpoint for g in groups}) > 1:
        kinds = [throughput, ttft, gap]
    elif len(groups) > CROWD:
        kinds = [throughput, ttft + gap]
    else:
        kinds = [throughput + ttft + gap]
    return [row for row in (*kinds, _timeline(run, groups)) if row]


def _drawing(function: Callable[..., str], *data, key: str, **options) -> Callable[[int], str]:
    """`function` for any width. The ids of two drawings of one picture must differ."""
    return lambda width: function(*data, key=f"{key}-{width}", width=width, **options)


# ---------------------------------------------------------------- system against user

def _throughput(meta: dict, groups: list[Figures]) -> list[Picture]:
    names, series, told = engines(meta), [], []
    drawn = [g for g in groups if g.user_tps and g.system_tps]
    if len(drawn) < 2:
        return []                # one point is no picture
    for endpoint in sorted({g.endpoint for g in drawn}):
        mine = [g for g in drawn if g.endpoint == endpoint]
        mine.sort(key=lambda g: (g.rate or 0, g.concurrency))
        tips = tuple(f"{names[endpoint]}, {load(g)}: {number(g.system_tps)} tok/s together, "
                     f"{number(g.user_tps)} for each user" for g in mine)
        labels = tuple(f"{g.rate:g}/s" if g.rate else str(g.concurrency) for g in mine)
        points = [(g.user_tps, g.system_tps) for g in mine]
        series.append(svg.Series(names[endpoint], points, endpoint, tips=tips, labels=labels))
        told += tips
    numbers = "requests at once or per second" if any(g.rate for g in drawn) else "requests at once"
    text = f"Up: the server does more. To the right: each user reads faster. The numbers are {numbers}."
    draw = _drawing(svg.lines, series, key="throughput", x="one user, tok/s", y="system, tok/s", x_range=(0,),
                    y_range=(0,), title="Tokens per second of the system against those of one user",
                    desc=f"{'; '.join(told)}.")
    return [Picture("System against user", text, draw)]


# ---------------------------------------------------------------- distributions

_TTFT = ("How long requests waited: steep means evenly, a long way to the right at the top means that a few "
         "waited long. Marks at 50, 90 and 99 %.")
_GAPS = "The time between two arrivals of text. What lies far to the right are stalls."


def _distributions(meta: dict, groups: list[Figures], kind: str) -> list[Picture]:
    """One picture for each endpoint, all on the same axis and with the same style for the same load."""
    drawn = [(g, _curve(getattr(g, kind))) for g in groups if getattr(g, kind).n]
    if not drawn:
        return []
    heading, unit, text, what = ("Time to first token", "time to first token, ms", _TTFT, "requests")
    if kind == "gap":
        single = all(g.one_by_one for g, _ in drawn)
        heading, unit = ("Inter-token latency", "inter-token latency, ms") if single else ("Gaps", "gap, ms")
        text, what = _GAPS, "gaps"
    loads = list(dict.fromkeys((g.concurrency, g.rate) for g in groups))
    low, high = (f(v for _, curve in drawn for v, _ in curve) for f in (min, max))
    log = high > (3 if kind == "gap" else LOG_FROM) * low
    names, several = engines(meta), len({g.endpoint for g, _ in drawn}) > 1
    out = []
    for endpoint in sorted({g.endpoint for g, _ in drawn}):
        mine = [(g, curve) for g, curve in drawn if g.endpoint == endpoint]
        title = f"{heading}, {names[endpoint]}" if several else heading
        told = "; ".join(_told(g, kind) for g, _ in mine)
        curves = [(load(g), curve, getattr(g, kind).n) for g, curve in mine]
        draw = _drawing(svg.ecdf, curves, key=f"{kind}{endpoint}", x=unit, log_x=log,
                        title=f"{title}: cumulative distribution", x_range=(low if log else 0, high),
                        desc=f"Share of {what} at or below a time. {told}.",
                        styles=[loads.index((g.concurrency, g.rate)) for g, _ in mine])
        out.append(Picture(title, text, draw))
    return out


def _curve(spread) -> list[tuple[float, float]]:
    """In ms. A lowest value far below the first percent would take half of a logarithmic axis for itself."""
    points = [(max(v, 1) / 1e3, share) for v, share in spread.curve()]
    return points[1:] if points[0][0] < points[1][0] / 3 else points


def _told(g: Figures, kind: str) -> str:
    spread = getattr(g, kind)
    end, value = tail(spread)
    return (f"{load(g)}: half at or below {number(spread.percentile(50) / 1e3)} ms, {end} "
            f"{number(value / 1e3)} ms, of {spread.n:,}")


# ---------------------------------------------------------------- time

def _timeline(run: Run, groups: list[Figures]) -> list[Picture]:
    line = timeline.build(run, groups)
    if line is None:
        return []
    names = engines(run.meta)
    reached = "; ".join(f"{name_of(groups, names, g)}: {number(g.system_tps)} tok/s" for g in groups
                        if g.system_tps)
    what, cells = ", ".join(p.title for p in line.panels), counted(len(line.bands), "cell")
    desc = (f"{what} over {counted(round(line.length), 'second')}, with a band for each of {cells}. "
            f"{reached or 'No token came'}. {' '.join(line.said)}")
    said = [*line.said]
    if len({g.endpoint for g in groups}) == 2:
        said.append(f"Faint bands: {names[0]}; stronger bands: {names[1]}.")
    if line.cuts:
        said.append("A dashed upright line is a pause that was left out.")
    draw = _drawing(_time, line, key="time", title="The run over time", desc=desc)
    return [Picture("Over time", " ".join(said), draw)]


def _time(line: timeline.Timeline, *, width: int, **options) -> str:
    tips = line.tips if width >= svg.WIDE else ()        # too narrow to be hit with a finger
    return svg.timeline(line.panels, line.bands, line.length, cuts=line.cuts, tips=tips, width=width,
                        **options)


# ---------------------------------------------------------------- comparison

def intervals(comparison) -> Picture | None:
    """Ratios of two engines with their intervals; None without any."""
    needed = ("ratio", "low", "high")
    drawn = [r for r in comparison or () if all((finite(r.get(k)) or 0) > 0 for k in needed)]
    if not drawn:
        return None
    sides = {(plain(r.get("a"), 40), plain(r.get("b"), 40)) for r in drawn}
    a, b = sides.pop() if len(sides) == 1 else ("the first", "the second")
    made = []
    for r in drawn:
        name = ", ".join(filter(None, (plain(r.get("metric"), 50), level(r))))
        made.append(svg.Interval(name, r["ratio"], r["low"], r["high"], plain(r.get("verdict"), 120)))
    draw = _drawing(svg.intervals, made, key="intervals", title=f"Ratio of {a} to {b}, with 95 % intervals",
                    desc="; ".join(f"{i.name}: {i.said}" for i in made) + ".",
                    better=(f"{b} better", f"{a} better"))
    text = "A point is the ratio, its line the 95 % interval. A line that crosses 1× shows no difference."
    return Picture(f"{a} against {b}", text, draw)
