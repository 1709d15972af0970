"""Explorer: the roofline of several machines, and where a model's step lands on one of them.

FLOP per byte to the right, FLOP/s upwards. The slope is the memory (bytes/s x FLOP per byte), the flat part the peak of
the arithmetic; they meet at the ridge. A step that works on n tokens at once computes 2 n FLOP per weight and reads each
weight once: n is what moves it to the right, whether the tokens are n users' next ones or one prompt's n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gb10 import catalog, roofline
from gb10.explore import figure

MACHINES = ("gb10", "rtx-5090", "h200", "b200", "b300")
SHADES = {"gb10": figure.BLUE, "rtx-5090": figure.GREEN, "h200": "#9a6fb0", "b200": figure.ORANGE, "b300": "#b5322d",
          "this": "#5a5a5a"}
COMPUTES = ("bf16", "fp8", "nvfp4")
MEASURED = "GEMM measured"


@dataclass(frozen=True)
class Roof:
    """Bytes/s and FLOP/s (dense) of a machine with one kind of operands."""

    machine: str
    title: str
    bandwidth: float
    flops: float

    @property
    def ridge(self) -> float:
        """FLOP per byte."""
        return self.flops / self.bandwidth

    def at(self, intensity: float) -> float:
        """FLOP/s that can be reached at this many FLOP per byte."""
        return min(self.flops, self.bandwidth * intensity)


def roofs(computes: str, names: Sequence[str] = MACHINES) -> list[Roof]:
    """The machines whose dense peak with these operands has a source; the others are left out."""
    machines = [catalog.machine(n) for n in names]
    return [Roof(m.name, m.title, m.bandwidth, m.flops(computes)) for m in machines if m.flops(computes)]


@dataclass(frozen=True)
class Step:
    """One pass over the model with `tokens` tokens: what it computes and reads, and what a roof makes of it."""

    tokens: int
    flop: float
    bytes: float
    roof: Roof

    @property
    def intensity(self) -> float:
        return self.flop / self.bytes

    @property
    def rate(self) -> float:
        """FLOP/s at most."""
        return self.roof.at(self.intensity)

    @property
    def bound(self) -> str:
        return "memory" if self.intensity < self.roof.ridge else "arithmetic"

    @property
    def tokens_per_second(self) -> float:
        """At most, at the roof."""
        return self.tokens * self.rate / self.flop


def compute(model: str, weights: str, tokens: int, roof: Roof) -> Step:
    """`tokens` tokens through the model at once, an empty KV cache. For mixtures of experts the expected number of
    experts that independent draws touch. Raises ValueError for less than one token."""
    if tokens < 1:
        raise ValueError(f"a step works on at least one token, not {tokens}")
    m = catalog.model(model, hub=False)
    return Step(tokens, 2 * m.params_read * tokens, roofline.step_bytes(m, weights, "bf16", 0, tokens), roof)


def ridge_tokens(roof: Roof, bits: float) -> float:
    """Tokens per step from which the arithmetic is the limit, if all weights have this many bits: 2 n FLOP for bits/8 bytes."""
    return roof.ridge * bits / 8 / 2


def describe(step: Step, model: str, weights: str) -> str:
    return (f"{model} in {weights} on {step.roof.title}, {step.tokens} token{'s' if step.tokens > 1 else ''} at once: "
            f"{_plain(step.intensity)} FLOP per byte, ridge at {_plain(step.roof.ridge)}: bound by {step.bound}; at most "
            f"{_plain(step.rate / 1e12)} TFLOPS, {_plain(step.tokens_per_second)} tokens/s")


def _plain(x: float) -> str:
    """Three significant digits, never with an exponent."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def draw(all_roofs: Sequence[Roof], step: Step | None = None):
    """Figure: log-log, a roof per machine with a dot at its ridge; the step's place as a star."""
    fig, ax = figure.new(9.5, 4.6)
    left, right = 0.5, 10000.0
    for roof in all_roofs:
        mine = step is not None and roof.machine == step.roof.machine
        xs = [left, roof.ridge, right]
        colour = SHADES.get(roof.machine, figure.GREY)
        ax.plot(xs, [roof.at(x) / 1e12 for x in xs], color=colour, linewidth=2.6 if mine else 1.3,
                label=f"{roof.title}: ridge {roof.ridge:.0f}", alpha=1 if mine or step is None else 0.7)
        ax.scatter([roof.ridge], [roof.flops / 1e12], color=colour, s=28, zorder=3)
    if step is not None:
        x, y = step.intensity, step.rate / 1e12
        ax.plot([x, x], [1e-3, y], color="black", linewidth=1, linestyle=":")
        ax.scatter([x], [y], marker="*", s=220, color="black", zorder=4)
        side = ("right", -10) if x > 300 else ("left", 10)
        ax.annotate(f"{step.tokens} token{'s' if step.tokens > 1 else ''}: {_plain(step.tokens_per_second)} tok/s at most", (x, y),
                    xytext=(side[1], -18), textcoords="offset points", ha=side[0], fontsize=9)
        if step.roof.machine == "gb10":
            _measured(ax)
    lowest = min(r.bandwidth for r in all_roofs) * left / 1e12
    ax.set(xscale="log", yscale="log", xlim=(left, right), ylim=(lowest * 0.8, max(r.flops for r in all_roofs) / 1e12 * 2),
           xlabel="FLOP per byte read", ylabel="TFLOPS at most")
    ax.grid(color="#ececec")
    ax.set_axisbelow(True)
    ax.legend(loc="upper left", frameon=False, fontsize=9)
    return fig


def _measured(ax) -> None:
    """What matrix products were measured to reach on GB10: below the derived peaks."""
    for f in catalog.machine("gb10").figures:
        if f.name == "other" and not f.doubtful and f.what.startswith(("BF16 GEMM", "FP4 GEMM")):
            ax.plot([60, 10000], [f.value] * 2, color=SHADES["gb10"], linestyle="--", linewidth=1)
            ax.text(10000, f.value * (1.06 if f.value > 90 else 0.94), f"{f.what.split(' measured')[0]} measured on GB10: {f.value:g}",
                    ha="right", va="bottom" if f.value > 90 else "top", fontsize=8, color=SHADES["gb10"])


def explore():
    """Widget: model, format, machine, operands, tokens per step."""
    import ipywidgets as w

    style = {"description_width": "70px"}
    model = w.Dropdown(options=[n for n, m in catalog.models().items() if not m.formats], value="Qwen3-8B", description="model",
                       style=style)
    weights = w.Dropdown(options=("bf16", "fp8", "nvfp4"), value="nvfp4", description="weights", style=style)
    machine = w.Dropdown(options=[(r.title, r.machine) for r in roofs("nvfp4")], value="gb10", description="machine", style=style)
    tokens = w.SelectionSlider(options=[2**i for i in range(14)], value=1, description="tokens", style=style, continuous_update=False)
    image, words = w.HTML(), w.HTML()
    for part, hook in ((model, "model"), (weights, "weights"), (machine, "machine"), (tokens, "tokens"), (image, "image"),
                       (words, "words")):
        part.add_class(f"gb10-roofline-{hook}")

    def update(_=None):
        all_roofs = roofs(weights.value)
        roof = next((r for r in all_roofs if r.machine == machine.value), None)
        if roof is None:
            image.value, words.value = "", f"No source has the dense {weights.value} peak of {catalog.machine(machine.value).title}."
            return
        step = compute(model.value, weights.value, tokens.value, roof)
        says = describe(step, model.value, weights.value)
        image.value = figure.show(draw(all_roofs, step), f"Rooflines with {weights.value} operands, a star where the step is. "
                                                         f"{says}.")._repr_html_()
        words.value = f"{says}."

    def other_weights(_):
        """Only machines with a sourced peak in this format are on offer."""
        offered, keep = [(r.title, r.machine) for r in roofs(weights.value)], machine.value
        machine.unobserve(update, "value")
        machine.options = offered
        machine.value = keep if keep in [name for _, name in offered] else "gb10"
        machine.observe(update, "value")
        update()

    weights.observe(other_weights, "value")
    for control in (model, machine, tokens):
        control.observe(update, "value")
    update()
    return w.VBox([w.HBox([model, weights]), w.HBox([machine, tokens]), image, words])
