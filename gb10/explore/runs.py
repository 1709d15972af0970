"""Several answers to one prompt under several settings: how different, how long, how likely. A table and a figure with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gb10 import sampling
from gb10.explore import figure


@dataclass(frozen=True)
class Sample:
    """One answer. tokens: (text, logprob) each; empty if the engine gave none. length: tokens that it took."""

    text: str
    tokens: tuple[tuple[str, float], ...]
    length: int
    finish: str

    @property
    def likelihood(self) -> float | None:
        """Mean log-probability of its tokens."""
        return sum(p for _, p in self.tokens) / len(self.tokens) if self.tokens else None


@dataclass(frozen=True)
class Row:
    """A run's figures, each (value, low, high) or None: distinct-1, distinct-2 and overlap over all its answers, tokens and mean logprob for each.
    cut: answers that max_tokens ended."""

    name: str
    n: int
    cut: int
    distinct1: tuple[float, float, float]
    distinct2: tuple[float, float, float]
    overlap: tuple[float, float, float]
    length: tuple[float, float, float]
    likelihood: tuple[float, float, float] | None


def sample(answer) -> Sample:
    """The Sample in an Answer of talk.chat()."""
    tokens = tuple((r["token"], float(r["logprob"])) for r in answer.logprobs or ())
    count = (answer.usage or {}).get("completion_tokens") or len(tokens) or len(sampling.words(answer.text))
    return Sample(answer.text, tokens, count, answer.finish_reason or "")


def compute(runs: Mapping[str, Sequence[Sample]]) -> list[Row]:
    """One Row for each run with at least three answers."""
    rows = []
    for name, samples in runs.items():
        if len(samples) < 3:
            continue
        texts = [s.text for s in samples]
        likely = [s.likelihood for s in samples if s.likelihood is not None]
        rows.append(Row(name, len(samples), sum(s.finish == "length" for s in samples),
                        sampling.jackknife(lambda t: sampling.distinct(t, 1), texts), sampling.jackknife(lambda t: sampling.distinct(t, 2), texts),
                        sampling.jackknife(lambda t: sampling.overlap(t, 2), texts), sampling.interval([s.length for s in samples]),
                        sampling.interval(likely) if likely else None))
    return rows


def table(rows: Sequence[Row]) -> str:
    """The values as text, without their intervals."""
    lines = [f"{'':<28}answers  cut off  distinct-1  distinct-2  overlap  tokens  mean logprob"]
    for r in rows:
        likely = f"{r.likelihood[0]:>14.2f}" if r.likelihood else f"{'not given':>14}"
        lines.append(f"{r.name:<28}{r.n:>7}{r.cut:>9}{r.distinct1[0]:>12.2f}{r.distinct2[0]:>12.2f}{r.overlap[0]:>9.2f}{r.length[0]:>8.0f}{likely}")
    return "\n".join(lines)


def show(rows: Sequence[Row]):
    """Figure: four small charts, a dot for each run with its 95 % interval."""
    fig, axes = figure.new(11, 0.6 + 0.38 * max(3, len(rows)), columns=4)
    for ax, (field, title) in zip(axes, (("distinct2", "distinct-2"), ("overlap", "overlap of two answers"), ("length", "tokens"),
                                         ("likelihood", "mean logprob")), strict=True):
        for y, row in enumerate(rows):
            if found := getattr(row, field):
                value, low, high = found
                ax.plot([low, high], [y, y], color=figure.GREY, linewidth=2)
                ax.scatter(value, y, color=figure.BLUE, zorder=3)
        ax.set(title=title, yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5))
        ax.set_yticklabels([r.name for r in rows] if ax is axes[0] else [""] * len(rows))
    said = "; ".join(f"{r.name}: distinct-2 {r.distinct2[0]:.2f}, overlap {r.overlap[0]:.2f}" for r in rows)
    return figure.show(fig, f"Diversity, length and log-likelihood of {len(rows)} runs with 95 % intervals. {said}.")
