"""What one user got, held against what the memory allows and what was predicted: the benchmark's roofline lines as a picture."""

from __future__ import annotations

from dataclasses import dataclass

from gb10.explore import figure


@dataclass(frozen=True)
class Held:
    """One engine with one user; tokens per second."""

    engine: str
    measured: float
    limit: float          # bandwidth / bytes per token
    predicted: float
    low: float            # the band of the prediction
    high: float

    @property
    def share(self) -> float:
        return self.measured / self.limit

    @property
    def where(self) -> str:
        if self.share > 1:
            return "above the limit"
        return "below the band" if self.measured < self.low else "above the band" if self.measured > self.high else "inside the band"


def held(*results) -> tuple[Held, ...]:
    """One for each engine of each bench.Result that was measured with one user and whose model and machine are known."""
    out = []
    for result in results:
        alone = {r["endpoint"]: r for r in result.rows if r["concurrency"] == 1 and r["rate"] is None and r["user_tps"]}
        for line in result.run.meta.get("roofline") or ():
            row = alone.get(line.get("endpoint", 0))
            if row and line.get("share") is not None:
                name = f"{row['engine']}, {str(row['model']).rpartition('/')[2]}"
                out.append(Held(name, row["user_tps"], line["limit_tps"], line["predicted_tps"], line["low"], line["high"]))
    return tuple(out)


def why_not(*results) -> list[str]:
    """The reasons that the benchmark gives for engines without such a line."""
    return [line["text"] for result in results for line in result.run.meta.get("roofline") or () if line.get("share") is None]


def describe(h: Held) -> str:
    return (f"{h.engine}: {h.measured:.4g} tok/s measured, {h.share:.0%} of the {h.limit:.4g} that the memory allows; predicted {h.predicted:.4g} "
            f"({h.low:.4g} to {h.high:.4g}): {h.where}")


def draw(rows: tuple[Held, ...]):
    """Figure: for each engine the limit as a bar, the band on it, and the measured rate as a dot."""
    fig, ax = figure.new(8.5, 1.2 + 0.8 * len(rows))
    for y, h in enumerate(reversed(rows)):
        ax.barh(y, h.limit, height=0.6, color="#e9eef5", edgecolor=figure.GREY, label="what the memory allows" if y == 0 else None)
        ax.barh(y, h.high - h.low, left=h.low, height=0.24, color=figure.GREEN, alpha=0.6, label="predicted" if y == 0 else None)
        ax.plot([h.measured], [y], "o", color=figure.RED, markersize=9, label="measured" if y == 0 else None)
        ax.text(h.limit, y + 0.34, f"{h.share:.0%} of the limit", ha="right", va="bottom", fontsize=9)
    ax.set_yticks(range(len(rows)), [h.engine for h in reversed(rows)])
    ax.set(xlabel="tokens per second, one user", xlim=(0, 1.08 * max(max(h.limit, h.measured) for h in rows)), ylim=(-0.6, len(rows) - 0.1))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28 / (0.4 * len(rows) + 0.5)), ncols=3, frameon=False, fontsize=9)
    return fig


def show(*results):
    """The picture; or, where no engine has such a line, the reason as a sentence."""
    rows = held(*results)
    if not rows:
        return " ".join(why_not(*results)) or "no engine was measured with one user alone."
    return figure.show(draw(rows), "Rates of one user beside the limit of the memory and the prediction. " + "; ".join(map(describe, rows)) + ".")
