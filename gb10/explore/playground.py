"""Explorer: one token's distribution, the filters an engine puts on it, and what each of them cuts off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gb10 import sampling
from gb10.explore import figure

SHOWN = 16                       # bars
COLOURS = {"penalties": "#7b5ea7", "temperature": figure.BLUE, "top_k": figure.ORANGE, "top_p": figure.RED, "min_p": figure.GREEN,
           "greedy": figure.GREY}


@dataclass(frozen=True)
class Bar:
    """A token: its probability before and after, and the step that removed it ("" if it survived)."""

    token: str
    before: float
    after: float
    cut_by: str


@dataclass(frozen=True)
class State:
    """What an order of filters makes of a distribution. steps: the first is the model's own; survivors: tokens that can still come."""

    order: str
    settings: sampling.Settings
    bars: tuple[Bar, ...]
    steps: tuple[sampling.Step, ...]
    survivors: int

    @property
    def entropy(self) -> tuple[float, float]:
        """Bits before and after."""
        return self.steps[0].entropy, self.steps[-1].entropy


def compute(logits, tokens: Sequence[str], settings: sampling.Settings, order: str = "vllm", said: int = 0) -> State:
    """The state of the playground.

    logits, tokens: V of each, as next_token.whole() or look() gives them. said: how often the likeliest token has come in the answer so far, for
    the penalties. Raises ValueError for an unknown order or settings out of range.
    """
    logits = np.asarray(logits, dtype=np.float64)
    output = [int(logits.argmax())] * said
    steps = sampling.steps(logits, settings, order, (), output)
    first, last = steps[0], steps[-1]
    gone = {}
    for step in steps[1:]:
        for i in np.flatnonzero(~step.kept):
            gone.setdefault(int(i), step.name)
    best = np.argsort(-first.probs, kind="stable")[:SHOWN]
    bars = tuple(Bar(tokens[i], float(first.probs[i]), float(last.probs[i]), gone.get(int(i), "")) for i in best)
    return State(order, settings, bars, tuple(steps), int(last.kept.sum()))


def describe(s: State) -> str:
    """The state in words."""
    cut = [f"{step.name} cuts off {step.cut:.1%}" for step in s.steps[1:] if step.cut > 0]
    before, after = s.entropy
    tokens = "1 token can come" if s.survivors == 1 else f"{s.survivors} tokens can come"
    return (f"{sampling.ORDERS[s.order].title} applies {' → '.join(step.name for step in s.steps[1:])}. "
            f"{', then '.join(cut).capitalize() if cut else 'No step cuts anything off'}. {tokens}; entropy {before:.2f} bits before, {after:.2f} after."
            + (" Each share is of what the steps before it left." if len(cut) > 1 else ""))


def _label(token: str) -> str:
    """A token as a label: blanks and line ends visible, nothing that a figure would read as a formula."""
    shown = token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣").replace("$", r"\$")
    return shown[:12] or "(none)"


def draw(s: State):
    """Figure: for each of the likeliest tokens a ring where the model had it, a bar where the draw has it; a cut one names its step."""
    fig, ax = figure.new(10, 3.6)
    top = max([b.before for b in s.bars] + [b.after for b in s.bars])
    for x, bar in enumerate(s.bars):
        ax.bar(x, bar.after, width=0.7, color=figure.BLUE)
        ax.scatter(x, bar.before, s=30, facecolors="white", edgecolors="black", zorder=3)
        if bar.cut_by:
            ax.text(x, max(bar.before, 0) + 0.04 * top, bar.cut_by, rotation=90, ha="center", va="bottom", fontsize=8, color=COLOURS[bar.cut_by])
    ax.set_xticks(range(len(s.bars)), [_label(b.token) for b in s.bars], rotation=45, ha="right")
    ax.set(ylabel="probability", ylim=(0, 1.3 * top), title="ring: the model; bar: what is drawn from; a word: the step that removed the token")
    return fig


def explore(logits, tokens: Sequence[str]):
    """Widget: the sampling fields as sliders, the engine whose order applies. logits, tokens: as in compute."""
    import ipywidgets as w

    style, layout = {"description_width": "130px"}, w.Layout(width="70%")
    sliders = {
        "temperature": w.FloatSlider(1.0, min=0, max=3, step=0.1),
        "top_k": w.IntSlider(0, min=0, max=40),
        "top_p": w.FloatSlider(1.0, min=0.05, max=1, step=0.05),
        "min_p": w.FloatSlider(0.0, min=0, max=0.5, step=0.01),
        "repetition_penalty": w.FloatSlider(1.0, min=0.5, max=2, step=0.1),
        "presence_penalty": w.FloatSlider(0.0, min=-2, max=2, step=0.1),
        "frequency_penalty": w.FloatSlider(0.0, min=-2, max=2, step=0.1),
    }
    said = w.IntSlider(0, min=0, max=5, description="said already", style=style, layout=layout)
    order = w.Dropdown(options=[(o.title, key) for key, o in sampling.ORDERS.items()], value="vllm", description="order of", style=style)
    image, words = w.HTML(), w.HTML()
    for name, slider in sliders.items():
        slider.description, slider.style, slider.layout = name, style, layout
    for part, name in ((said, "said"), (order, "order"), (image, "image"), (words, "words"), *((s, n) for n, s in sliders.items())):
        part.add_class(f"gb10-playground-{name}")

    def update(_=None):
        s = compute(logits, tokens, sampling.Settings(**{n: slider.value for n, slider in sliders.items()}), order.value, said.value)
        image.value = figure.show(draw(s), f"Bars of the likeliest tokens before and after the filters. {describe(s)}")._repr_html_()
        words.value = describe(s)

    for control in (*sliders.values(), said, order):
        control.observe(update, "value")
    update()
    return w.VBox([order, *sliders.values(), said, image, words])
