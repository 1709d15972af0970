"""Explorer: the answers of several runs, token by token, and where each lies between dull and unlikely."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from gb10 import sampling
from gb10.explore import figure
from gb10.explore.runs import Sample

UNSURE = 0.05                    # a token below this probability was a surprise


@dataclass(frozen=True)
class Point:
    """An answer: variety is the share of different word pairs in it, likelihood its mean logprob (None: not given)."""

    run: str
    number: int
    variety: float
    likelihood: float | None


@dataclass(frozen=True)
class State:
    run: str
    number: int
    sample: Sample
    points: tuple[Point, ...]

    @property
    def surprises(self) -> tuple[str, ...]:
        """The answer's tokens that had less than UNSURE."""
        return tuple(t for t, p in self.sample.tokens if math.exp(p) < UNSURE)

    @property
    def point(self) -> Point:
        return next(p for p in self.points if (p.run, p.number) == (self.run, self.number))


def compute(runs: Mapping[str, Sequence[Sample]], run: str, number: int) -> State:
    """The state for answer `number` (from 0) of a run. Raises ValueError if there is no such answer."""
    if run not in runs or not 0 <= number < len(runs[run]):
        raise ValueError(f"there is no answer {number} of {run!r}: runs are {', '.join(f'{k} ({len(v)} answers)' for k, v in runs.items())}")
    points = tuple(Point(name, i, sampling.distinct([s.text], 2), s.likelihood) for name, samples in runs.items() for i, s in enumerate(samples))
    return State(run, number, runs[run][number], points)


def describe(s: State) -> str:
    """The state in words."""
    likely = "no logprobs were given" if s.sample.likelihood is None else f"mean logprob {s.sample.likelihood:.2f}"
    first = f", the first of them {s.surprises[0]!r}" if s.surprises else ""
    return (f"{s.run}, answer {s.number + 1}: {s.sample.length} tokens, ended by {s.sample.finish or 'nothing that was said'}; {likely}; "
            f"{s.point.variety:.0%} of its word pairs are different; {len(s.surprises)} tokens had less than {UNSURE:.0%}{first}.")


def colored(sample: Sample) -> str:
    """HTML: the tokens, each the redder the less likely it was; its probability as a tooltip."""
    if not sample.tokens:
        return escape(sample.text)
    parts = []
    for token, p in sample.tokens:
        chance = math.exp(p)
        strength = min(1.0, -p / 8)
        parts.append(f'<span title="{chance:.2%}" style="background:rgba(217,130,43,{0.85 * strength:.2f})">{escape(token)}</span>')
    return "".join(parts)


def draw(s: State):
    """Figure: every answer as a dot; the chosen one has a ring."""
    fig, ax = figure.new(8, 3)
    names = list(dict.fromkeys(p.run for p in s.points))
    for i, name in enumerate(names):
        mine = [p for p in s.points if p.run == name and p.likelihood is not None]
        ax.scatter([p.variety for p in mine], [p.likelihood for p in mine], s=24, label=name, color=f"C{i}", alpha=0.6)
    if s.point.likelihood is not None:
        ax.scatter(s.point.variety, s.point.likelihood, s=140, facecolors="none", edgecolors=figure.RED, linewidths=2, zorder=4)
    ax.set(xlabel="share of different word pairs in the answer", ylabel="mean logprob", xlim=(-0.03, 1.03))
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return fig


def explore(runs: Mapping[str, Sequence[Sample]]):
    """Widget: choose a run and an answer. runs: name -> its answers; runs without any are left out."""
    import ipywidgets as w

    runs = {name: samples for name, samples in runs.items() if samples}
    if not runs:
        return w.HTML("no answers were gathered: nothing to look at")
    run = w.Dropdown(options=list(runs), description="run")
    number = w.IntSlider(1, 1, max(1, len(next(iter(runs.values())))), description="answer", layout=w.Layout(width="60%"))
    image, words, text = w.HTML(), w.HTML(), w.HTML()
    for part, name in ((run, "run"), (number, "number"), (image, "image"), (words, "words"), (text, "text")):
        part.add_class(f"gb10-variety-{name}")

    def update(_=None):
        number.max = len(runs[run.value])
        s = compute(runs, run.value, min(number.value, number.max) - 1)
        text.value = f'<div style="white-space:pre-wrap;line-height:1.7;color:var(--jp-ui-font-color1, inherit)">{colored(s.sample)}</div>'
        image.value = figure.show(draw(s), f"Answers by variety and mean logprob; the chosen one has a ring. {describe(s)}")._repr_html_()
        words.value = escape(describe(s))

    for control in (run, number):
        control.observe(update, "value")
    update()
    return w.VBox([run, number, text, words, image])
