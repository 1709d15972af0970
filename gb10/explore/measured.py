"""Pictures of what the benchmark measured: how an engine scales with its users, and how its times are spread."""

from __future__ import annotations

from dataclasses import dataclass

from gb10.explore import figure

KINDS = {"ttft": "time to first token (ms)", "tpot": "time per output token (ms)", "gap": "gap between arrivals (ms)", "e2e": "whole answer (ms)"}
SCALES = {"tpot": 1e6}           # ns; the others µs
COLOURS = (figure.BLUE, figure.ORANGE, figure.GREEN, figure.RED, figure.GREY)
MARKERS = "os^Dv"


@dataclass(frozen=True)
class Point:
    """One level of a sweep."""

    engine: str
    concurrency: int
    user_tps: float
    system_tps: float
    ttft_ms: float               # median


@dataclass(frozen=True)
class Curve:
    """The distribution of one figure at one level: `share` of the values are at or below `value` (ms)."""

    engine: str
    concurrency: int
    n: int
    points: tuple[tuple[float, float], ...]


def scaling(result) -> tuple[Point, ...]:
    """The closed-loop levels of a bench.Result that have figures, smallest first for each engine."""
    rows = [r for r in result.rows if r["user_tps"] and r["system_tps"] and r["rate"] is None]
    return tuple(Point(r["engine"], r["concurrency"], r["user_tps"], r["system_tps"], r["ttft_ms"]["p50"])
                 for r in sorted(rows, key=lambda r: (r["endpoint"], r["concurrency"])))


def spreads(result, kind: str = "ttft") -> tuple[Curve, ...]:
    """The distributions of a figure, one for each level. Raises ValueError for a kind that isn't in KINDS."""
    if kind not in KINDS:
        raise ValueError(f"a distribution is one of {', '.join(KINDS)}, not {kind!r}")
    scale, out = SCALES.get(kind, 1e3), []
    for g in result.groups:
        spread = getattr(g, kind)
        if spread.n:
            engine = result.run.meta["endpoints"][g.endpoint]["engine"]
            out.append(Curve(engine, g.concurrency, spread.n, tuple((v / scale, share) for v, share in spread.curve())))
    return tuple(out)


def draw_scaling(points: tuple[Point, ...]):
    """Figure: tokens per second of all users and of one, over the number of users."""
    fig, (left, right) = figure.new(9, 3.4, columns=2)
    for i, engine in enumerate(dict.fromkeys(p.engine for p in points)):
        mine = [p for p in points if p.engine == engine]
        look = {"color": COLOURS[i % 5], "marker": MARKERS[i % 5], "label": engine}
        left.plot([p.concurrency for p in mine], [p.system_tps for p in mine], **look)
        right.plot([p.concurrency for p in mine], [p.user_tps for p in mine], **look)
    for ax, what in ((left, "all users together"), (right, "one user")):
        ax.set_xscale("log", base=2)
        ax.set_xticks(sorted({p.concurrency for p in points}), [str(c) for c in sorted({p.concurrency for p in points})])
        ax.minorticks_off()
        ax.set_xlabel("requests in flight")
        ax.set_ylabel("tokens per second")
        ax.set_ylim(0, 1.1 * ax.dataLim.y1)
        ax.set_title(what)
    if len({p.engine for p in points}) > 1:
        left.legend()
    return fig


def draw_spreads(curves: tuple[Curve, ...], kind: str = "ttft"):
    """Figure: for each level the share of the values at or below a time."""
    fig, ax = figure.new(7, 3.4)
    several = len({c.engine for c in curves}) > 1
    for i, c in enumerate(curves):
        name = f"{c.concurrency} in flight" + (f", {c.engine}" if several else "")
        ax.step([v for v, _ in c.points], [s for _, s in c.points], where="post", color=COLOURS[i % 5], label=name,
                linestyle=("-", "--", ":", "-.")[i % 4])
    ax.set_xlabel(KINDS[kind])
    ax.set_ylabel("share at or below")
    ax.set_ylim(0, 1.02)
    ax.legend()
    return fig


def show_scaling(result):
    """The picture of a sweep. Raises ValueError when nothing was measured."""
    points = scaling(result)
    if not points:
        raise ValueError("this run has no level with figures: look at its errors with print(result).")
    said = "; ".join(f"{p.engine} at {p.concurrency}: {p.user_tps:.0f} tokens per second for one user, {p.system_tps:.0f} for all" for p in points)
    return figure.show(draw_scaling(points), f"Throughput over the number of requests in flight. {said}.")


def show_spreads(result, kind: str = "ttft"):
    """The picture of a distribution. Raises ValueError when nothing was measured."""
    curves = spreads(result, kind)
    if not curves:
        raise ValueError("this run has no level with figures: look at its errors with print(result).")
    said = "; ".join(f"{c.concurrency} in flight: median {c.points[50][0]:.4g} ms, longest {c.points[-1][0]:.4g} ms of {c.n}" for c in curves)
    return figure.show(draw_spreads(curves, kind), f"Distribution of the {KINDS[kind]}. {said}.")
