"""Size against loss: which recipes are beaten by another that is no larger, as far as the intervals show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gb10.explore import figure

SAME = 1.001                     # sizes within a thousandth are the same size: the rest is scales of whole tensors

@dataclass(frozen=True)
class Point:
    """A recipe: bytes of its checkpoint, and the interval of what it loses (in any unit; lower is better)."""

    name: str
    bytes: int
    low: float
    value: float
    high: float


def apart(a: Point, b: Point) -> bool:
    """Whether a's whole interval lies below b's. Careful: paired measurements tell more than two intervals do."""
    return a.high < b.low


def beaten(points: Sequence[Point], better: Callable[[Point, Point], bool] = apart) -> dict[str, str]:
    """Beaten point -> one that beats it: no larger (but for SAME), and shown to lose less. Of several the best."""
    out = {}
    for p in points:
        if by := [r for r in points if r is not p and r.bytes <= SAME * p.bytes and better(r, p)]:
            out[p.name] = min(by, key=lambda r: (r.value, r.bytes)).name
    return out


def frontier(points: Sequence[Point], better: Callable[[Point, Point], bool] = apart) -> list[Point]:
    """The points that nobody beats, by size."""
    lost = beaten(points, better)
    return sorted((p for p in points if p.name not in lost), key=lambda p: (p.bytes, p.value))


def steps(points: Sequence[Point], better: Callable[[Point, Point], bool] = apart) -> list[tuple[Point, Point]]:
    """Pairs along the frontier that a line may join: the larger one is shown to lose less than the smaller one.

    From every point on the frontier to the next larger one that is shown to be better; where more bytes buy nothing that
    can be shown, there is no line.
    """
    there = frontier(points, better)
    out = []
    for i, p in enumerate(there):
        nexts = [r for r in there[i + 1:] if r.bytes > SAME * p.bytes and better(r, p)]
        if nexts and not any(p.bytes / SAME <= a.bytes <= SAME * p.bytes and a.value < p.value for a in there):
            out.append((p, nexts[0]))
    return out


def draw(points: Sequence[Point], better: Callable[[Point, Point], bool] = apart, what: str = "loss above BF16, nats per token"):
    """Figure: bytes to the right, loss upwards with intervals, a number for each; the frontier blue, beaten ones grey."""
    fig, (ax, names) = figure.new(9.5, 4.4, columns=2)
    ax.get_gridspec().set_width_ratios([3.4, 1])
    lost = beaten(points, better)
    for a, b in steps(points, better):
        ax.plot([a.bytes / 1e6, b.bytes / 1e6], [a.value, b.value], color=figure.BLUE, linewidth=0.8, alpha=0.5, zorder=1)
    span = (max(p.bytes for p in points) - min(p.bytes for p in points)) / 1e6 or 1.0
    order = sorted(points, key=lambda p: (round(p.bytes / 1e6, 2), p.value))
    for n, p in enumerate(order):
        # recipes of one size stand side by side, or their intervals would hide each other
        beside = sum(abs(r.bytes - p.bytes) < 5e3 for r in order[:n])
        x, colour = p.bytes / 1e6 + 0.016 * span * beside, figure.GREY if p.name in lost else figure.BLUE
        ax.plot([x, x], [p.low, p.high], color=colour, linewidth=1.5, alpha=0.7, zorder=2)
        ax.plot([x], [p.value], "o", color=colour, markersize=5, zorder=3)
        ax.annotate(str(n + 1), (x, p.high), xytext=(0, 2), textcoords="offset points", fontsize=8, color=colour, ha="center")
        names.text(0, 1 - n / max(18, len(order)), f"{n + 1}  {p.name}", fontsize=8.5, color=colour, va="top")
    names.axis("off")
    ax.axhline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    ax.set(xlabel="checkpoint, MB", ylabel=what)
    return fig


def describe(points: Sequence[Point], better: Callable[[Point, Point], bool] = apart) -> str:
    """The figure in words."""
    there, lost = frontier(points, better), beaten(points, better)
    said = ", ".join(f"{p.name} ({p.bytes / 1e6:.2f} MB, {p.value:+.4f})" for p in there)
    return f"Not beaten: {said}. Beaten by one that is no larger: {', '.join(f'{k} by {v}' for k, v in lost.items()) or 'none'}"


def show(points: Sequence[Point], better: Callable[[Point, Point], bool] = apart, what: str = "loss above BF16, nats per token"):
    return figure.show(draw(points, better, what), f"Size of each recipe's checkpoint against {what}, with 95 % intervals. "
                                                   f"{describe(points, better)}.")
