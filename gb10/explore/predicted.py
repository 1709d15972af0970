"""The predictor held against every published decode rate of a Spark that the course ships; the naive rule beside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gb10 import catalog, roofline
from gb10.explore import figure
from gb10.roofline import calibrate, validate

PEAK = calibrate.BANDWIDTH
MARKS = {"llama.cpp": ("o", figure.BLUE), "ollama": ("s", figure.ORANGE), "trtllm": ("^", figure.GREEN), "sglang": ("D", "#9a6fb0"),
         "vllm": ("v", "#b5322d")}


@dataclass(frozen=True)
class Row:
    """One measurement (tokens/s, sum over the batch) and what is predicted for it."""

    id: str
    model: str
    weights: str
    engine: str
    batch: int
    context: int
    measured: float
    predicted: float
    low: float
    high: float
    limit: float
    naive: float             # active parameters x nominal bits, at the constant that suits the rule best
    doubt: str = ""          # why the measurement is not to be trusted

    @property
    def config(self) -> tuple[str, str, str]:
        return self.model, self.weights, self.engine

    @property
    def inside(self) -> bool:
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class Comparison:
    rows: tuple[Row, ...]            # predicted ones, doubtful ones among them
    left_out: dict[str, int]         # reason -> measurements

    @property
    def sound(self) -> list[Row]:
        return [r for r in self.rows if not r.doubt]

    @property
    def numbers(self) -> dict[tuple[str, str, str], int]:
        """Configuration -> its number in the figure, fastest first."""
        top: dict[tuple[str, str, str], float] = {}
        for r in self.rows:
            top[r.config] = max(top.get(r.config, 0), r.measured if r.batch == 1 else 0)
        return {c: i + 1 for i, c in enumerate(sorted(top, key=lambda c: -top[c]))}


def compute() -> Comparison:
    """Every decode measurement on one GB10, with its prediction, or with the reason why it has none."""
    published = {m.id: m for m in catalog.measurements()}
    sound = {r.id: r for r in calibrate.rows()}
    constant = _constant([r for r in sound.values() if r.batch == 1])
    rows, left = [], Counter()
    for m in published.values():
        reason = calibrate.left_out(m)
        doubt = reason if m.doubtful and "decode_tps" in m.spoils else ""
        if m.decode_tps is None or m.machine_name != "gb10":
            left["another machine, or prefill only"] += 1
        elif reason and not (doubt and m.weights and m.engine_name in calibrate.ENGINES and m.batch):
            left[reason] += 1
        else:
            p = roofline.fit(catalog.model(m.model, hub=False), m.weights, "bf16", "gb10", calibrate.context_of(m), m.batch,
                             m.engine_name)
            if p.decode_tps is None:
                left["mixture of experts, more than 4 at once: no prediction is given"] += 1
                continue
            naive = constant * PEAK / calibrate.row(m).naive * m.batch
            rows.append(Row(m.id, p.model, m.weights, m.engine_name, m.batch, p.context, m.decode_tps, p.decode_tps, p.decode_tps_low,
                            p.decode_tps_high, p.decode_tps_limit, naive, doubt))
    return Comparison(tuple(rows), dict(left))


def _constant(rows: Sequence[calibrate.Row]) -> float:
    """The factor with which the naive rule does best: the median of measured over PEAK / naive bytes."""
    ratios = sorted(r.tps * r.naive / PEAK for r in rows)
    return ratios[len(ratios) // 2]


def errors(rows: Sequence[Row], predicted: Callable[[Row], float] = lambda r: r.predicted) -> dict[str, float]:
    """{"n", "median", "p90"}: relative errors |predicted - measured| / measured."""
    off = [abs(predicted(r) / r.measured - 1) for r in rows]
    return {"n": len(off), "median": validate.quantile(off, 0.5), "p90": validate.quantile(off, 0.9)}


def at_its_best(rows: Sequence[Row]) -> Callable[[Row], float]:
    """The naive rule with the constant that suits it best on just these rows: the median, as in validate.naive."""
    ratios = sorted(r.measured / r.naive for r in rows)
    factor = ratios[len(ratios) // 2]
    return lambda r: r.naive * factor


def shortest(rows: Sequence[Row]) -> list[Row]:
    """One row per configuration, that with the shortest context: so that thirty depths of one model don't count thirty times."""
    best: dict[tuple[str, str, str], Row] = {}
    for r in rows:
        if r.config not in best or r.context < best[r.config].context:
            best[r.config] = r
    return list(best.values())


def summary(c: Comparison) -> str:
    """Errors of the predictor and of the naive rule, as a table in text."""
    alone, several = [r for r in c.sound if r.batch == 1], [r for r in c.sound if r.batch > 1]
    lines = [_line("predictor, one user", alone), _line("  one row for each number", shortest(alone)),
             _line("naive rule, one user", alone, at_its_best(alone)),
             _line("  one row for each number", shortest(alone), at_its_best(shortest(alone))), _line("predictor, 2 to 32 users", several)]
    inside = sum(r.inside for r in c.sound)
    over = sum(r.predicted > r.limit for r in c.rows)
    return "\n".join([*lines, f"inside the stated band: {inside} of {len(c.sound)}; above the limit of the memory: {over}"])


def _line(name: str, rows: Sequence[Row], value: Callable[[Row], float] = lambda r: r.predicted) -> str:
    e = errors(rows, value)
    return f"{name:<28}{e['n']:>4} rows   median error {e['median']:6.1%}   p90 {e['p90']:6.1%}"


def unseen_summary() -> str:
    """The same for constants that were fitted without the model in question, then without the engine."""
    single, lines = calibrate.single(calibrate.rows()), []
    for name, group in (("model left out of the fit", lambda r: r.model), ("engine left out of the fit", lambda r: r.engine)):
        s = validate.summary(validate.left_out(single, group))
        lines.append(f"{name:<28}{s['n']:>4} rows   median error {s['median']:6.1%}   p90 {s['p90']:6.1%}   in band {s['inside']:.0%}")
    return "\n".join(lines)


def table(c: Comparison) -> str:
    """The numbers of the figure as an HTML table: one line per configuration, at its shortest context and batch 1."""
    heads = ("no.", "model", "format", "engine", "rows", "measured", "predicted", "band", "naive", "first row, source")
    out = ["<table class='gb10-predicted-table' style='white-space:nowrap'><tr>", *(f"<th>{h}</th>" for h in heads), "</tr>"]
    published = {m.id: m for m in catalog.measurements()}
    for config, number in c.numbers.items():
        mine = [r for r in c.rows if r.config == config]
        r = min(mine, key=lambda r: (bool(r.doubt), r.batch, r.context))
        source = published[r.id].source
        users = f" ({r.batch} users)" if r.batch > 1 else ""
        out.append(f"<tr><td>{number}{'*' if r.doubt else ''}</td><td>{r.model}</td><td>{r.weights}</td><td>{roofline.ENGINES[r.engine]}"
                   f"</td><td>{len(mine)}</td><td>{r.measured:.3g}{users}</td><td>{r.predicted:.3g}</td>"
                   f"<td>{r.low:.3g}–{r.high:.3g}</td><td>{r.naive:.3g}</td><td>{r.id}, <a href='{source.url}' target='_blank'>{source.key}</a></td></tr>")
    return "".join([*out, "</table>"])


def draw(c: Comparison):
    """Figure, one user: measured to the right, predicted upwards, a number per configuration; the naive rule beside it."""
    fig, panels = figure.new(10.5, 5.4, columns=2)
    alone = [r for r in c.rows if r.batch == 1]
    for ax, value, title in zip(panels, (lambda r: r.predicted, lambda r: r.naive), ("predictor", "naive rule"), strict=True):
        _panel(ax, c, alone, value, (2, 130))
        ax.set_title(f"{title}, one user")
    panels[0].legend(loc="upper left", frameon=False, fontsize=9)
    return fig


def draw_batched(c: Comparison):
    """Figure, 2 to 32 users: measured to the right, predicted upwards, tokens/s of all together."""
    fig, ax = figure.new(6.4, 5)
    _panel(ax, c, [r for r in c.rows if r.batch > 1], lambda r: r.predicted, (25, 950))
    ax.set_title("predictor, 2 to 32 users")
    ax.legend(loc="upper left", frameon=False, fontsize=9)
    return fig


def _panel(ax, c: Comparison, rows: Sequence[Row], value: Callable[[Row], float], ends: tuple[float, float]) -> None:
    ax.plot(ends, ends, color="#555555", linewidth=1)
    ax.fill_between(ends, [x * 0.84 for x in ends], [x * 1.16 for x in ends], color="#e9eef5", zorder=0)
    for engine, (mark, colour) in MARKS.items():
        for doubtful in (False, True):
            mine = [r for r in rows if r.engine == engine and bool(r.doubt) == doubtful]
            ax.scatter([r.measured for r in mine], [value(r) for r in mine], marker=mark, s=26, linewidths=1.1,
                       facecolors="none" if doubtful else colour, edgecolors=colour, alpha=1 if doubtful else 0.6,
                       label=roofline.ENGINES[engine] if mine and not doubtful else None)
    _numbers(ax, c, rows, value)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured, tokens/s", ylabel="predicted, tokens/s")
    ticks = [t for t in (2, 5, 10, 20, 50, 100, 200, 500) if ends[0] <= t <= ends[1]]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(ticks, [str(t) for t in ticks])
        axis.set_ticks([], minor=True)


def _numbers(ax, c: Comparison, rows: Sequence[Row], value) -> None:
    """The number of each configuration beside its points: one at each end of its row of points, pushed off its neighbours."""
    placed: list[tuple[float, float]] = []
    for config, number in c.numbers.items():
        mine = sorted((r for r in rows if r.config == config), key=lambda r: r.measured)
        for r in {id(mine[0]): mine[0], id(mine[-1]): mine[-1]}.values() if mine else ():
            x, y = math.log(r.measured), math.log(value(r))
            options = [(dx, dy) for d in (0.05, 0.1, 0.16, 0.23, 0.3) for dx, dy in ((d, -d), (-d, d), (1.4 * d, 0), (0, 1.4 * d), (-1.4 * d, 0),
                                                                             (0, -1.4 * d))]
            dx, dy = max(options, key=lambda o: min([0.085, *(math.dist((x + o[0], y + o[1]), p) for p in placed)])
                         - 0.02 * math.hypot(*o))
            placed.append((x + dx, y + dy))
            ax.annotate(str(number), (r.measured, value(r)), xytext=(math.exp(x + dx), math.exp(y + dy)), fontsize=7.5, ha="center",
                        va="center", arrowprops={"arrowstyle": "-", "color": "#aaaaaa", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0})


def show(c: Comparison) -> figure.Picture:
    return figure.show(draw(c), "Two panels, predicted over measured decode rates of one user on GB10, each with a diagonal and a band of "
                       f"16 % around it. Left the predictor, right the naive rule. {summary(c)}. Hollow: doubtful measurements.")


def show_batched(c: Comparison) -> figure.Picture:
    e = errors([r for r in c.sound if r.batch > 1])
    return figure.show(draw_batched(c), "Predicted over measured decode rates of 2 to 32 users at once on GB10; median error "
                                        f"{e['median']:.1%} over {e['n']} rows.")
