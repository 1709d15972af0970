"""Pictures as inline SVG: lines, distributions, a time line, intervals. Pure functions from data to text.

Each picture is an image with a title and a description in words, and needs `style.CSS` on its page: colours are CSS
variables, so that one picture serves a light and a dark page. Series differ in colour, marker and dash. Values that are
no finite numbers are left out. `key` begins the ids inside a picture, and must be another for each one on a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from gb10.bench.report.axes import Axis, clock, label, time_ticks
from gb10.bench.report.words import finite, plain

COLOURS = 8                      # --c0 … --c7 of the style sheet
DASHES = ("", "7 3", "2 3", "10 3 2 3", "14 4")
MARKS = 6
SIZE, LETTER = 13, 7.6           # of the type, and about how wide a letter is
LEFT, RIGHT = 54, 18             # beside the plot
WIDE = 600                       # from this width on a picture has room for words beside its plot


@dataclass(frozen=True)
class Series:
    """Points (x, y) joined by a line. style: a number for colour, marker and dash; marks: the points that get a marker
    (None: all); tips and labels: a tooltip, and a word beside the marker, for each point."""

    name: str
    points: list
    style: int = 0
    marks: tuple | None = None
    tips: tuple = ()
    labels: tuple = ()


@dataclass(frozen=True)
class Track:
    """A line of a time line: (seconds, value), each value holding for `step` seconds; None breaks the line."""

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
class Interval:
    """A ratio with the interval it lies in."""

    name: str
    ratio: float
    low: float
    high: float
    said: str = ""


# ---------------------------------------------------------------- pictures

def lines(series: list[Series], *, key: str, title: str, desc: str, x: str, y: str, width: int = 480,
          log_x: bool = False, x_range: tuple | None = None, y_range: tuple | None = None, percent: bool = False,
          legend: bool | None = None) -> str:
    """A line chart. x and y: titles of the axes with their units; ranges hold at least these values; percent: the
    y axis goes from 0 to 100; legend: None means where there are several series."""
    series = [_sound(s, log_x) for s in series]
    points = [p for s in series for p in s.points]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    low, high = _range(xs, x_range)
    if log_x:                    # a logarithm needs a range above 0
        low = min((v for v in (*xs, low) if v > 0), default=1.0)
        high = max(high, low)
    named = [s for s in series if s.points]
    words, top = _legend(named, width) if legend or (legend is None and len(named) > 1) else ("", 0)
    top += SIZE + 16
    bottom = top + (260 if width >= WIDE else 210)
    across = Axis(low, high, LEFT, width - RIGHT, log=log_x, wanted=8 if width >= WIDE else 5 if width > 400 else 4)
    up = Axis(*_range(ys, y_range), bottom, top)
    if percent:
        up.ticks = [0, 25, 50, 75, 100]
    body = [words, _text(0, top - 14, y), _grid(across, up)]
    body.append(_text(width - RIGHT, bottom + 42, x, anchor="end"))
    boxes: list[tuple] = []
    for s in series:
        body.append(_line(s, across, up, boxes))
    return _image(key, title, desc, width, bottom + 50, body)


def ecdf(curves: list[tuple[str, list, int]], *, key: str, title: str, desc: str, x: str, width: int = 480,
         log_x: bool = False, x_range: tuple | None = None, styles: list[int] | None = None) -> str:
    """Distributions: for each value the share at or below it. curves: (name, [(value, share from 0 to 1)], how many
    values). Markers stand at 50, 90 and, from 100 values on, 99 %."""
    series = []
    for i, (name, points, n) in enumerate(curves):
        marks = tuple(_nearest(points, share) for share in (0.5, 0.9, 0.99)[:3 if n >= 100 else 2]) if points else ()
        tips = tuple(f"{name}: {share:.0%} at or below {label(value)}" for value, share in points)
        series.append(Series(name, [(v, 100 * share) for v, share in points], (styles or range(len(curves)))[i], marks,
                             tips))
    return lines(series, key=key, title=title, desc=desc, x=x, y="share at or below, %", log_x=log_x, x_range=x_range,
                 y_range=(0, 100), percent=True, width=width, legend=True)


def timeline(panels: list[Panel], bands: list[tuple], length: float, *, key: str, title: str, desc: str,
             width: int = 1000, cuts: list[tuple] = (), tips: list[tuple] = ()) -> str:
    """Strips one above the other on one time axis. bands: (from, to, names of a cell from the longest to the shortest,
    shade 0 or 1); cuts: (at, what was left out); tips: (from, to, tooltip); all in seconds from the left edge."""
    height, gap, top = 104, 40, 48
    right = width - RIGHT
    scale = (right - LEFT) / (length or 1)
    bottom = top + len(panels) * (height + gap) - gap
    body = [_bands(bands, scale, top, bottom)]
    for i, panel in enumerate(panels):
        body.append(_panel(panel, scale, top + i * (height + gap), height, right))
    for at, name in cuts:
        x = LEFT + at * scale
        body.append(f'<g><title>{_esc(name)}</title><line class="cut" x1="{_n(x)}" x2="{_n(x)}" y1="{top - 8}" '
                    f'y2="{bottom}"/></g>')
    for a, b, tip in tips:
        body.append(f'<rect class="tip" x="{_n(LEFT + a * scale)}" y="{top}" width="{_n((b - a) * scale)}" '
                    f'height="{bottom - top}"><title>{_esc(tip)}</title></rect>')
    body += [_text(LEFT + t * scale, bottom + 20, clock(t, length), anchor="middle")
             for t in time_ticks(length, 8 if width >= WIDE else 5)]
    body.append(_text(right, bottom + 42, "time since the first request", anchor="end"))
    return _image(key, title, desc, width, bottom + 50, body)


def intervals(rows: list[Interval], *, key: str, title: str, desc: str, better: tuple[str, str] = ("", ""),
              width: int = 480) -> str:
    """Ratios with their intervals on one logarithmic axis, against 1. better: what lies to the left and to the right."""
    rows = [r for r in rows if all((finite(v) or 0) > 0 for v in (r.ratio, r.low, r.high))]
    low, high = (f(v for r in rows for v in (r.low, r.high, 1.0)) if rows else 1.0 for f in (min, max))
    margin = max(high / low, 1.02) ** 0.06
    beside = width >= WIDE       # the names stand left of the plot, else above their intervals
    start = 40 + max((len(r.name) for r in rows), default=0) * LETTER if beside else 14
    axis = Axis(low, high, start, width - 14, log=True)
    axis.low, axis.high = low / margin, high * margin
    each, top = 30 if beside else 46, 8
    bottom = top + each * len(rows) + 4
    body = []
    for v in _ratio_ticks(axis):
        at = _n(axis.at(v))
        body.append(f'<line class="{"one" if v == 1 else "grid"}" x1="{at}" x2="{at}" y1="{top}" y2="{bottom}"/>')
        body.append(_text(axis.at(v), bottom + 18, f"{label(v)}×", anchor="middle", strong=v == 1))
    for i, r in enumerate(rows):
        y = top + each * i + (17 if beside else 32)
        a, m, b = (_n(axis.at(v)) for v in (r.low, r.ratio, r.high))
        # a rim in the colour of the ground keeps words readable where they cross the line at 1
        body.append(_text(0, y + 4.5, r.name, strong=True) if beside else _text(14, y - 15, r.name, strong=True, rim=True))
        body.append(f'<g class="{"shown" if r.low > 1 or r.high < 1 else "open"}"><title>{_esc(r.said or r.name)}</title>'
                    f'<path class="whisker" d="M{a} {y - 5}V{y + 5}M{a} {y}H{b}M{b} {y - 5}V{y + 5}"/>'
                    f'<circle class="dot" cx="{m}" cy="{y}" r="5"/></g>')
    if any(better):
        body.append(_text(start, bottom + 42, f"← {better[0]}"))
        body.append(_text(width - 14, bottom + 42, f"{better[1]} →", anchor="end"))
    return _image(key, title, desc, width, bottom + (50 if any(better) else 26), body)


# ---------------------------------------------------------------- parts

def _image(key: str, title: str, desc: str, width: float, height: float, body: list[str]) -> str:
    key = _esc(key)
    return (f'<svg class="chart" role="img" viewBox="0 0 {_n(width)} {_n(height)}" aria-labelledby="{key}-t {key}-d">'
            f'<title id="{key}-t">{_esc(title)}</title><desc id="{key}-d">{_esc(desc)}</desc>{"".join(body)}</svg>')


def _grid(across: Axis, up: Axis) -> str:
    out = []
    for v in up.ticks:
        y = _n(up.at(v))
        out.append(f'<line class="{"axis" if v == up.low else "grid"}" x1="{LEFT}" x2="{_n(across.end)}" y1="{y}" '
                   f'y2="{y}"/>')
        out.append(_text(LEFT - 8, up.at(v) + 4.5, label(v), anchor="end"))
    free = 0.0                   # where the last label ended
    for v in across.ticks:
        x, text = across.at(v), label(v)
        out.append(f'<line class="axis" x1="{_n(x)}" x2="{_n(x)}" y1="{_n(up.start)}" y2="{_n(up.start + 5)}"/>')
        if x - len(text) * LETTER / 2 > free:
            out.append(_text(x, up.start + 20, text, anchor="middle"))
            free = x + len(text) * LETTER / 2 + 4
    return "".join(out)


def _line(s: Series, across: Axis, up: Axis, boxes: list[tuple]) -> str:
    """The line, its markers with tooltips, and those labels that cover no earlier one."""
    places = [(across.at(x), up.at(y)) for x, y in s.points]
    out = [f'<g class="s{s.style % COLOURS}">']
    if len(places) > 1:
        path = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in places)
        out.append(f'<path class="line" d="{path}"{_dash(s.style)}/>')
    for i, (x, y) in enumerate(places):
        if s.marks is not None and i not in s.marks:
            continue
        tip = f"<title>{_esc(s.tips[i])}</title>" if i < len(s.tips) and s.tips[i] else ""
        out.append(f'<g class="mark">{tip}<circle class="near" cx="{_n(x)}" cy="{_n(y)}" r="12"/>'
                   f'{_mark(s.style, x, y)}</g>')
        if i < len(s.labels) and s.labels[i]:
            out.append(_beside(x, y, s.labels[i], across, boxes))
    return "".join(out) + "</g>"


def _beside(x: float, y: float, text: str, across: Axis, boxes: list[tuple]) -> str:
    """A word above and right of a point, or elsewhere beside it where that is taken; none where all is."""
    wide = len(text) * LETTER
    for left, base in ((x + 8, y - 5), (x + 10, y + 4.5), (x - 10 - wide, y + 4.5), (x - wide / 2, y - 11)):
        box = (left, base - SIZE, left + wide, base)
        if box[0] >= LEFT and box[2] <= across.end + RIGHT and not any(_meet(box, b) for b in boxes):
            boxes.append(box)
            return _text(left, base, text, strong=True)
    return ""


def _meet(a: tuple, b: tuple) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _mark(style: int, x: float, y: float, r: float = 4.5) -> str:
    """One of six shapes around a point."""
    shape = style % MARKS
    if shape == 0:
        return f'<circle class="dot" cx="{_n(x)}" cy="{_n(y)}" r="{r}"/>'
    corners = ([(-.9, -.9), (.9, -.9), (.9, .9), (-.9, .9)], [(0, -1.2), (1.15, .9), (-1.15, .9)],
               [(0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)], [(0, 1.2), (1.15, -.9), (-1.15, -.9)],
               [(-.45, -1.2), (.45, -1.2), (.45, -.45), (1.2, -.45), (1.2, .45), (.45, .45), (.45, 1.2), (-.45, 1.2),
                (-.45, .45), (-1.2, .45), (-1.2, -.45), (-.45, -.45)])[shape - 1]
    path = "L".join(f"{_n(x + dx * r)} {_n(y + dy * r)}" for dx, dy in corners)
    return f'<path class="dot" d="M{path}Z"/>'


def _legend(series: list[Series], width: float) -> tuple[str, float]:
    """(the legend in as many rows as it takes, its height)."""
    each = 52 + max((len(s.name) for s in series), default=0) * LETTER
    columns = max(1, int((width + 14) // each))
    out = []
    for i, s in enumerate(series):
        x, y = i % columns * each, 10 + i // columns * 21
        out.append(f'<g class="s{s.style % COLOURS}"><path class="line" d="M{_n(x)} {_n(y)}h28"{_dash(s.style)}/>'
                   f"{_mark(s.style, x + 14, y)}{_text(x + 34, y + 4.5, s.name, strong=True)}</g>")
    return "".join(out), 22 + (len(series) - 1) // columns * 21


def _bands(bands: list[tuple], scale: float, top: float, bottom: float) -> str:
    out, free = [], 0.0
    for a, b, names, shade in bands:
        x, wide = LEFT + a * scale, max((b - a) * scale, 1)
        out.append(f'<g><title>{_esc(names[0])}</title><rect class="band{shade % 2}" x="{_n(x)}" y="{top - 22}" '
                   f'width="{_n(wide)}" height="{bottom - top + 22}"/></g>')
        name = next((n for n in names if len(n) * LETTER + 8 < wide), "")
        if name and x > free:
            out.append(_text(x + 5, top - 8, name, strong=True))
            free = x + len(name) * LETTER
    return "".join(out)


def _panel(panel: Panel, scale: float, top: float, height: float, right: float) -> str:
    values = [v for t in panel.tracks for _, v in t.points if finite(v) is not None]
    limit = panel.limit if panel.limit and finite(panel.limit[0]) else None
    named = sum(len(t.name) * LETTER + 46 for t in panel.tracks) if len(panel.tracks) > 1 else 0
    below = 17 if named and named + len(panel.title) * LETTER > right - LEFT else 0      # no room beside the title
    up = Axis(0, max([*values, limit[0] if limit else 0.0]), top + height, top + 20 + below, wanted=3)
    out = [_text(LEFT + 5, top + 13, panel.title)]
    for v in up.ticks:
        y = _n(up.at(v))
        out.append(f'<line class="{"axis" if v == 0 else "grid"}" x1="{LEFT}" x2="{_n(right)}" y1="{y}" y2="{y}"/>')
        out.append(_text(LEFT - 8, up.at(v) + 4.5, label(v), anchor="end"))
    if limit:
        y = _n(up.at(limit[0]))
        out.append(f'<line class="limit" x1="{LEFT}" x2="{_n(right)}" y1="{y}" y2="{y}"/>')
        out.append(_text(right, up.at(limit[0]) - 5, limit[1], anchor="end", rim=True))
    for track in panel.tracks:
        for run in _unbroken(track.points):
            out.append(_track(track, run, scale, up, right))
    x, y = LEFT + 35 if below else right - named + 46, top + 13 + below
    for track in panel.tracks if named else ():
        out.append(f'<path class="line s{track.style % COLOURS}" d="M{_n(x - 30)} {_n(y - 4.5)}h24"{_dash(track.style)}/>')
        out.append(_text(x, y, track.name))
        x += len(track.name) * LETTER + 46
    return "".join(out)


def _track(track: Track, run: list, scale: float, up: Axis, right: float) -> str:
    """A stretch of a track without a break, as steps."""
    path = ""
    for t, v in run:
        a, b, y = (_n(p) for p in (LEFT + t * scale, min(LEFT + (t + track.step) * scale, right), up.at(v)))
        path += f"{'L' if path else 'M'}{a} {y}H{b}"
    colour = f"s{track.style % COLOURS}"
    out = f'<path class="line thin {colour}" d="{path}"{_dash(track.style)}/>'
    if track.filled:
        out = f'<path class="area {colour}" d="{path}V{_n(up.start)}H{_n(LEFT + run[0][0] * scale)}Z"/>' + out
    return out


def _unbroken(points: list) -> list[list]:
    runs, run = [], []
    for t, v in points:
        if finite(v) is None:
            runs, run = [*runs, run], []
        else:
            run.append((t, v))
    return [r for r in (*runs, run) if r]


def _ratio_ticks(axis: Axis) -> list[float]:
    """1 and a few round ratios beside it, with room between their labels."""
    wide = axis.high / axis.low
    every = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if wide > 8 else \
        (0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5) if wide > 1.5 else \
        (0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4) if wide > 1.15 else \
        (0.9, 0.95, 0.98, 1, 1.02, 1.05, 1.1) if wide > 1.04 else (0.98, 0.99, 1, 1.01, 1.02)
    chosen = [1.0]
    for v in sorted((v for v in every if axis.low <= v <= axis.high), key=lambda v: abs(v - 1)):
        if all(abs(axis.at(v) - axis.at(c)) > 44 for c in chosen):
            chosen.append(v)
    return sorted(chosen)


def _range(values: list, given: tuple | None) -> tuple[float, float]:
    values = [*values, *(given or ())]
    return (min(values), max(values)) if values else (0.0, 1.0)


def _sound(s: Series, log_x: bool) -> Series:
    """The series without points that can't be drawn; its markers, tips and labels keep theirs."""
    keep = [i for i, (x, y) in enumerate(s.points) if finite(x) is not None and finite(y) is not None]
    if len(keep) == len(s.points):
        return s
    pick = lambda given: tuple(given[i] for i in keep if i < len(given))
    marks = None if s.marks is None else tuple(j for j, i in enumerate(keep) if i in s.marks)
    return Series(s.name, [s.points[i] for i in keep], s.style, marks, pick(s.tips), pick(s.labels))


def _nearest(points: list, share: float) -> int:
    return min(range(len(points)), key=lambda i: abs(points[i][1] - share))


def _text(x: float, y: float, text: str, anchor: str = "", strong: bool = False, rim: bool = False) -> str:
    kind = " ".join(filter(None, ("strong" if strong else "", "rim" if rim else "")))
    return (f'<text x="{_n(x)}" y="{_n(y)}"' + (f' text-anchor="{anchor}"' if anchor else "") +
            (f' class="{kind}"' if kind else "") + f">{_esc(text)}</text>")


def _dash(style: int) -> str:
    dash = DASHES[style % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _n(value: float) -> str:
    """A coordinate: one decimal, none where it is 0."""
    return f"{value:.1f}".removesuffix(".0")


def _esc(text) -> str:
    return escape(plain(text, 2000))
