"""Pictures as inline SVG: lines, distributions, a time line, intervals. Pure functions from data to text.

Each picture is an image with a title and a description in words, and needs `style.CSS` on its page: colours
are CSS variables, so that one picture serves a light and a dark page. Series differ in colour, marker and
dash. Values that are no finite numbers are left out. `key` begins the ids inside a picture: another one for
each picture of a page.
"""

from __future__ import annotations

from dataclasses import dataclass

from gb10.bench.report import shapes
from gb10.bench.report.axes import Axis, clock, label, ratio_ticks, time_ticks
from gb10.bench.report.shapes import LETTER, colour, dash, esc, image, level, mark, n, text, upright
from gb10.bench.report.words import finite

LEFT, RIGHT = 54, 18             # beside the plot
WIDE = 600                       # from this width on a picture has room for words beside its plot


@dataclass(frozen=True)
class Series:
    """Points (x, y) joined by a line.

    style: a number for colour, marker and dash; marks: the points that get a marker (None: all); tips and
    labels: a tooltip, and a word beside the marker, for each point.
    """

    name: str
    points: list
    style: int = 0
    marks: tuple | None = None
    tips: tuple = ()
    labels: tuple = ()


@dataclass(frozen=True)
class Track:
    """A line of a time line: (seconds, value), each holding for `step` seconds; None breaks the line."""

    name: str
    points: list
    style: int = 0
    step: float = 1.0
    filled: bool = False


@dataclass(frozen=True)
class Panel:
    """One strip of a time line. limit: (value, its name), drawn across."""

    title: str
    tracks: list
    limit: tuple | None = None


@dataclass(frozen=True)
class Band:
    """A stretch of a time line. names: from the longest to the shortest, the first that fits is shown."""

    start: float
    end: float
    names: tuple
    shade: int = 0               # 0 faint, 1 stronger


@dataclass(frozen=True)
class Interval:
    """A ratio with the interval it lies in."""

    name: str
    ratio: float
    low: float
    high: float
    said: str = ""


# ---------------------------------------------------------------- lines and distributions

def lines(series: list[Series], *, key: str, title: str, desc: str, x: str, y: str, width: int = 480,
          log_x: bool = False, x_range: tuple = (), y_range: tuple = (), percent: bool = False,
          named: bool | None = None) -> str:
    """A line chart.

    x and y: titles of the axes with their units; x_range and y_range: values that the axes hold in any case;
    percent: the y axis goes from 0 to 100; named: with a legend (None: where there are several series).
    """
    series = [s for s in map(_sound, series) if s.points]
    points = [p for s in series for p in s.points]
    xs, ys = [*(p[0] for p in points), *x_range], [*(p[1] for p in points), *y_range]
    if log_x:                    # a logarithm needs values above 0
        xs = [v for v in xs if v > 0] or [1.0]
    named = len(series) > 1 if named is None else named and bool(series)
    names, top = shapes.legend([(s.name, s.style) for s in series], width) if named else ("", 0)
    top += shapes.SIZE + 16
    bottom = top + (260 if width >= WIDE else 210)
    wanted = 8 if width >= WIDE else 5 if width > 400 else 4
    across = Axis(*_ends(xs), LEFT, width - RIGHT, log=log_x, wanted=wanted)
    up = Axis(*_ends(ys), bottom, top)
    if percent:
        up.ticks = [0, 25, 50, 75, 100]
    body = [names, text(0, top - 14, y), _grid(across, up), text(width - RIGHT, bottom + 42, x, anchor="end")]
    taken: list[tuple] = []      # by words beside markers
    body += [_line(s, across, up, taken) for s in series]
    return image(key, title, desc, width, bottom + 50, body)


def ecdf(curves: list[tuple[str, list, int]], *, key: str, title: str, desc: str, x: str, width: int = 480,
         log_x: bool = False, x_range: tuple = (), styles: list[int] | None = None) -> str:
    """Distributions: for each value the share at or below it.

    curves: (name, [(value, share from 0 to 1)], how many values are behind it). Markers stand at 50, 90 and,
    from 100 values on, 99 %.
    """
    series = []
    for i, (name, points, count) in enumerate(curves):
        shares = (0.5, 0.9, 0.99) if count >= 100 else (0.5, 0.9)
        marks = tuple(_nearest(points, share) for share in shares) if points else ()
        tips = tuple(f"{name}: {share:.0%} at or below {label(value)}" for value, share in points)
        in_percent = [(value, 100 * share) for value, share in points]
        series.append(Series(name, in_percent, styles[i] if styles else i, marks, tips))
    return lines(series, key=key, title=title, desc=desc, x=x, y="share at or below, %", width=width,
                 log_x=log_x, x_range=x_range, y_range=(0, 100), percent=True, named=True)


def _grid(across: Axis, up: Axis) -> str:
    out = []
    for v in up.ticks:
        out.append(level("axis" if v == up.low else "grid", LEFT, across.end, up.at(v)))
        out.append(text(LEFT - 8, up.at(v) + 4.5, label(v), anchor="end"))
    free = 0.0                   # where the last label ended
    for v in across.ticks:
        x, half = across.at(v), len(label(v)) * LETTER / 2
        out.append(upright("axis", x, up.start, up.start + 5))
        if x - half > free:
            out.append(text(x, up.start + 20, label(v), anchor="middle"))
            free = x + half + 4
    return "".join(out)


def _line(s: Series, across: Axis, up: Axis, taken: list[tuple]) -> str:
    """The line, its markers with tooltips, and those words that cover no earlier one."""
    places = [(across.at(x), up.at(y)) for x, y in s.points]
    out = [f'<g class="{colour(s.style)}">']
    if len(places) > 1:
        path = "L".join(f"{n(x)} {n(y)}" for x, y in places)
        out.append(f'<path class="line" d="M{path}"{dash(s.style)}/>')
    for i, (x, y) in enumerate(places):
        if s.marks is not None and i not in s.marks:
            continue
        tip = f"<title>{esc(s.tips[i])}</title>" if i < len(s.tips) and s.tips[i] else ""
        out.append(f'<g class="mark">{tip}<circle class="near" cx="{n(x)}" cy="{n(y)}" r="12"/>'
                   f"{mark(s.style, x, y)}</g>")
        if i < len(s.labels) and s.labels[i]:
            out.append(_beside(x, y, s.labels[i], across.end + RIGHT, taken))
    return "".join(out) + "</g>"


def _beside(x: float, y: float, words: str, right: float, taken: list[tuple]) -> str:
    """A word above and right of a point, or elsewhere beside it where that is taken; none where all is."""
    wide = len(words) * LETTER
    for left, base in ((x + 8, y - 5), (x + 10, y + 4.5), (x - 10 - wide, y + 4.5), (x - wide / 2, y - 11)):
        box = (left, base - shapes.SIZE, left + wide, base)
        free = not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken)
        if box[0] >= LEFT and box[2] <= right and free:
            taken.append(box)
            return text(left, base, words, strong=True)
    return ""


def _sound(s: Series) -> Series:
    """The series without points that can't be drawn; the others keep their markers, tips and labels."""
    keep = [i for i, (x, y) in enumerate(s.points) if finite(x) is not None and finite(y) is not None]
    if len(keep) == len(s.points):
        return s
    tips, labels = (tuple(given[i] for i in keep if i < len(given)) for given in (s.tips, s.labels))
    marks = None if s.marks is None else tuple(place for place, i in enumerate(keep) if i in s.marks)
    return Series(s.name, [s.points[i] for i in keep], s.style, marks, tips, labels)


def _ends(values: list) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)


def _nearest(points: list, share: float) -> int:
    return min(range(len(points)), key=lambda i: abs(points[i][1] - share))


# ---------------------------------------------------------------- a time line

def timeline(panels: list[Panel], bands: list[Band], length: float, *, key: str, title: str, desc: str,
             width: int = 1000, cuts: list[tuple] = (), tips: list[tuple] = ()) -> str:
    """Strips one above the other on one time axis; all times in seconds from the left edge.

    cuts: (time, what was left out there); tips: (from, to, tooltip).
    """
    height, gap, top = 104, 40, 48
    right = width - RIGHT
    scale = (right - LEFT) / (length or 1)
    bottom = top + max(len(panels), 1) * (height + gap) - gap
    body = [_bands(bands, scale, top, bottom)]
    body += [_panel(panel, scale, top + i * (height + gap), height, right) for i, panel in enumerate(panels)]
    body += [f"<g><title>{esc(what)}</title>{upright('cut', LEFT + at * scale, top - 8, bottom)}</g>"
             for at, what in cuts]
    body += [f'<rect class="tip" x="{n(LEFT + a * scale)}" y="{top}" width="{n((b - a) * scale)}" '
             f'height="{bottom - top}"><title>{esc(tip)}</title></rect>' for a, b, tip in tips]
    body += [text(LEFT + t * scale, bottom + 20, clock(t, length), anchor="middle")
             for t in time_ticks(length, 8 if width >= WIDE else 4)]
    body.append(text(right, bottom + 42, "time since the first request", anchor="end"))
    return image(key, title, desc, width, bottom + 50, body)


def _bands(bands: list[Band], scale: float, top: float, bottom: float) -> str:
    out, free = [], 0.0
    for band in bands:
        x, wide = LEFT + band.start * scale, max((band.end - band.start) * scale, 1)
        out.append(f'<g><title>{esc(band.names[0])}</title><rect class="band{band.shade % 2}" x="{n(x)}" '
                   f'y="{n(top - 22)}" width="{n(wide)}" height="{n(bottom - top + 22)}"/></g>')
        name = next((name for name in band.names if len(name) * LETTER + 8 < wide), "")
        if name and x > free:
            out.append(text(x + 5, top - 8, name, strong=True))
            free = x + len(name) * LETTER
    return "".join(out)


def _panel(panel: Panel, scale: float, top: float, height: float, right: float) -> str:
    values = [v for t in panel.tracks for _, v in t.points if finite(v) is not None]
    limit = panel.limit if panel.limit and finite(panel.limit[0]) else None
    named = sum(len(t.name) * LETTER + 46 for t in panel.tracks) if len(panel.tracks) > 1 else 0
    # the names of the tracks stand beside the title where there is room, else below it
    below = 17 if named and named + len(panel.title) * LETTER > right - LEFT else 0
    up = Axis(0, max([*values, limit[0] if limit else 0.0]), top + height, top + 20 + below, wanted=3)
    out = [text(LEFT + 5, top + 13, panel.title)]
    for v in up.ticks:
        out.append(level("axis" if v == 0 else "grid", LEFT, right, up.at(v)))
        out.append(text(LEFT - 8, up.at(v) + 4.5, label(v), anchor="end"))
    if limit:
        out.append(level("limit", LEFT, right, up.at(limit[0])))
        out.append(text(right, up.at(limit[0]) - 5, limit[1], anchor="end", rim=True))
    out += [_track(t, stretch, scale, up, right) for t in panel.tracks for stretch in _unbroken(t.points)]
    x, y = LEFT + 35 if below else right - named + 46, top + 13 + below
    for track in panel.tracks if named else ():
        out.append(f'<path class="line {colour(track.style)}" d="M{n(x - 30)} {n(y - 4.5)}h24"'
                   f"{dash(track.style)}/>")
        out.append(text(x, y, track.name))
        x += len(track.name) * LETTER + 46
    return "".join(out)


def _track(track: Track, stretch: list, scale: float, up: Axis, right: float) -> str:
    """A stretch of a track without a break, as steps."""
    path = ""
    for t, v in stretch:
        a, b = LEFT + t * scale, min(LEFT + (t + track.step) * scale, right)
        path += f"{'L' if path else 'M'}{n(a)} {n(up.at(v))}H{n(b)}"
    line = f'<path class="line thin {colour(track.style)}" d="{path}"{dash(track.style)}/>'
    if not track.filled:
        return line
    back = f"V{n(up.start)}H{n(LEFT + stretch[0][0] * scale)}Z"
    return f'<path class="area {colour(track.style)}" d="{path}{back}"/>{line}'


def _unbroken(points: list) -> list[list]:
    stretches: list[list] = [[]]
    for t, v in points:
        if finite(v) is None:
            stretches.append([])
        else:
            stretches[-1].append((t, v))
    return [s for s in stretches if s]


# ---------------------------------------------------------------- intervals

def intervals(rows: list[Interval], *, key: str, title: str, desc: str, better: tuple[str, str] = ("", ""),
              width: int = 480) -> str:
    """Ratios with their intervals on one logarithmic axis, against 1. better: what lies left and right."""
    rows = [r for r in rows if all((finite(v) or 0) > 0 for v in (r.ratio, r.low, r.high))]
    low, high = _ends([1.0, *(v for r in rows for v in (r.low, r.high))])
    margin = max(high / low, 1.02) ** 0.06
    beside = width >= WIDE       # the names stand left of the plot, else above their intervals
    start = 40 + max((len(r.name) for r in rows), default=0) * LETTER if beside else 14
    axis = Axis(low, high, start, width - 14, log=True)
    axis.low, axis.high = low / margin, high * margin
    each, top = 30 if beside else 46, 8
    bottom = top + each * len(rows) + 4
    body = []
    for v in ratio_ticks(axis):
        body.append(upright("one" if v == 1 else "grid", axis.at(v), top, bottom))
        body.append(text(axis.at(v), bottom + 18, f"{label(v)}×", anchor="middle", strong=v == 1))
    for i, r in enumerate(rows):
        y = top + each * i + (17 if beside else 32)
        body.append(text(0, y + 4.5, r.name, strong=True) if beside else
                    text(14, y - 15, r.name, strong=True, rim=True))
        body.append(_interval(r, axis, y))
    if any(better):
        body.append(text(start, bottom + 42, f"← {better[0]}"))
        body.append(text(width - 14, bottom + 42, f"{better[1]} →", anchor="end"))
    return image(key, title, desc, width, bottom + (50 if any(better) else 26), body)


def _interval(r: Interval, axis: Axis, y: float) -> str:
    a, middle, b = (n(axis.at(v)) for v in (r.low, r.ratio, r.high))
    kind = "shown" if r.low > 1 or r.high < 1 else "open"        # a difference, or none that is shown
    return (f'<g class="{kind}"><title>{esc(r.said or r.name)}</title>'
            f'<path class="whisker" d="M{a} {n(y - 5)}V{n(y + 5)}M{a} {n(y)}H{b}M{b} {n(y - 5)}V{n(y + 5)}"/>'
            f'<circle class="dot" cx="{middle}" cy="{n(y)}" r="5"/></g>')
