"""What the pictures are made of: text, markers, lines in a style of their own, a legend."""

from __future__ import annotations

from html import escape

from gb10.bench.report.words import plain

COLOURS = 8                      # --c0 … --c7 of the style sheet
DASHES = ("", "7 3", "2 3", "10 3 2 3", "14 4")
SIZE, LETTER = 13, 7.6           # of the type, and about how wide a letter is
SQUARE = ((-.9, -.9), (.9, -.9), (.9, .9), (-.9, .9))
PEAK = ((0, -1.2), (1.15, .9), (-1.15, .9))
DIAMOND = ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0))
DROP = ((0, 1.2), (1.15, -.9), (-1.15, -.9))
CROSS = ((-.45, -1.2), (.45, -1.2), (.45, -.45), (1.2, -.45), (1.2, .45), (.45, .45), (.45, 1.2), (-.45, 1.2),
         (-.45, .45), (-1.2, .45), (-1.2, -.45), (-.45, -.45))
MARKS = ((), SQUARE, PEAK, DIAMOND, DROP, CROSS)         # the first is a circle


def image(key: str, title: str, desc: str, width: float, height: float, body: list[str]) -> str:
    """The whole picture. It scales with its place; at `width` pixels its type has its own size."""
    key = esc(key)
    return (f'<svg class="chart" role="img" viewBox="0 0 {n(width)} {n(height)}" '
            f'aria-labelledby="{key}-t {key}-d"><title id="{key}-t">{esc(title)}</title>'
            f'<desc id="{key}-d">{esc(desc)}</desc>{"".join(body)}</svg>')


def text(x: float, y: float, words: str, anchor: str = "", strong: bool = False, rim: bool = False) -> str:
    """strong: in the colour of text rather than of remarks; rim: readable where lines cross it."""
    kind = " ".join(filter(None, ("strong" if strong else "", "rim" if rim else "")))
    return (f'<text x="{n(x)}" y="{n(y)}"' + (f' text-anchor="{anchor}"' if anchor else "") +
            (f' class="{kind}"' if kind else "") + f">{esc(words)}</text>")


def level(kind: str, x1: float, x2: float, y: float) -> str:
    """A horizontal line."""
    return f'<line class="{kind}" x1="{n(x1)}" x2="{n(x2)}" y1="{n(y)}" y2="{n(y)}"/>'


def upright(kind: str, x: float, y1: float, y2: float) -> str:
    """A vertical line."""
    return f'<line class="{kind}" x1="{n(x)}" x2="{n(x)}" y1="{n(y1)}" y2="{n(y2)}"/>'


def colour(style: int) -> str:
    """The class that gives a group or a path the colour of its style."""
    return f"s{style % COLOURS}"


def dash(style: int) -> str:
    pattern = DASHES[style % len(DASHES)]
    return f' stroke-dasharray="{pattern}"' if pattern else ""


def mark(style: int, x: float, y: float, r: float = 4.5) -> str:
    """One of six shapes around a point."""
    corners = MARKS[style % len(MARKS)]
    if not corners:
        return f'<circle class="dot" cx="{n(x)}" cy="{n(y)}" r="{n(r)}"/>'
    path = "L".join(f"{n(x + dx * r)} {n(y + dy * r)}" for dx, dy in corners)
    return f'<path class="dot" d="M{path}Z"/>'


def legend(entries: list[tuple[str, int]], width: float) -> tuple[str, float]:
    """(the legend of these (name, style) in as many rows as it takes, its height)."""
    each = 46 + max((len(name) for name, _ in entries), default=0) * LETTER
    columns = max(1, int((width + 14) // each))
    out = []
    for i, (name, style) in enumerate(entries):
        x, y = i % columns * each, 10 + i // columns * 21
        out.append(f'<g class="{colour(style)}"><path class="line" d="M{n(x)} {n(y)}h28"{dash(style)}/>'
                   f"{mark(style, x + 14, y)}{text(x + 34, y + 4.5, name, strong=True)}</g>")
    return "".join(out), 22 + (len(entries) - 1) // columns * 21


def n(value: float) -> str:
    """A coordinate: one decimal, none where it is 0."""
    return f"{value:.1f}".removesuffix(".0")


def esc(words) -> str:
    return escape(plain(words, 2000))
