"""Figure: draws of one token beside what was predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gb10.explore import figure

SHOWN = 12


@dataclass(frozen=True)
class Token:
    """expected, seen: draws. spread: two standard deviations of a binomial count."""

    text: str
    expected: float
    seen: int
    n: int

    @property
    def spread(self) -> float:
        share = self.expected / self.n
        return 2 * (self.n * share * (1 - share)) ** 0.5


def compute(counts: Mapping[str, int], probs: Mapping[str, float]) -> list[Token]:
    """The likeliest tokens, and any that came though they couldn't. counts: token -> draws; probs: token -> probability."""
    n = sum(counts.values())
    best = sorted(probs, key=probs.__getitem__, reverse=True)[:SHOWN]
    impossible = [t for t in counts if not probs.get(t)][:4]
    return [Token(t, n * probs.get(t, 0.0), counts.get(t, 0), n) for t in best + impossible]


def show(counts: Mapping[str, int], probs: Mapping[str, float]):
    rows = compute(counts, probs)
    fig, ax = figure.new(9, 3)
    places = range(len(rows))
    ax.bar(places, [r.expected for r in rows], color="#bcd2ea", label="expected")
    ax.errorbar(places, [r.expected for r in rows], [r.spread for r in rows], fmt="none", color=figure.GREY, label="two standard deviations")
    ax.scatter(places, [r.seen for r in rows], color=figure.RED, zorder=3, label="seen")
    ax.set_xticks(places, [repr(r.text).replace("$", r"\$") for r in rows], rotation=30, ha="right")
    ax.set(ylabel=f"draws of {rows[0].n}")
    ax.legend(frameon=False)
    outside = sum(abs(r.seen - r.expected) > r.spread for r in rows)
    return figure.show(fig, f"Expected and seen draws of {len(rows)} tokens: the likeliest, {rows[0].text!r}, was expected {rows[0].expected:.0f} times and "
                            f"seen {rows[0].seen} times; {outside} tokens lie more than two standard deviations off.")
