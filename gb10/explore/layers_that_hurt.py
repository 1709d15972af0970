"""Which groups of layers hurt when they are quantized, and what happens if some are kept: the layer picker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gb10.explore import figure
from gb10.quantize.mixing import FUSED, Group


@dataclass(frozen=True)
class Effect:
    """What quantizing one group alone does: KL against the original with its interval, in nats per token."""

    name: str                    # "5.qkv"
    weights: int
    bytes: dict[str, int]        # format -> bytes of the group in a checkpoint
    low: float
    harm: float
    high: float

    @property
    def per_byte(self) -> float:
        """KL for each byte that FP8 costs more than NVFP4."""
        return self.harm / (self.bytes["fp8"] - self.bytes["w4a16"])


def effects(groups: Mapping[str, Group], sensitivities: Sequence) -> list[Effect]:
    """From what quantize.sensitivity gave for groups of the same names."""
    return [Effect(s.group, groups[s.group].weights, groups[s.group].bytes, s.only.kl.low, s.only.kl.value, s.only.kl.high)
            for s in sensitivities]


def quantizers(groups: Mapping[str, Group], part: str = "weight_quantizer") -> dict[str, list[str]]:
    """The groups as quantize.sensitivity wants them: name -> names of quantizers."""
    return {name: [f"{layer}.{part}" for layer in g.layers] for name, g in groups.items()}


# ---------------------------------------------------------------- picture: layers by kinds

def draw(found: Sequence[Effect]):
    """Figure: left the harm of each group, layer by kind; right the harm for each byte."""
    fig, axes = figure.new(9, 3.4, columns=2)
    layers = sorted({int(e.name.partition(".")[0]) for e in found})
    by = {e.name: e for e in found}
    for ax, value, title in zip(axes, (lambda e: 1e3 * e.harm, lambda e: 1e9 * e.per_byte),
                                ("KL, thousandths of a nat", "KL per MB that FP8 would add, thousandths"), strict=True):
        cells = [[value(by[f"{layer}.{kind}"]) for kind in FUSED] for layer in layers]
        top = max(map(max, cells))
        ax.imshow(cells, cmap="Blues", vmin=0, vmax=top, aspect="auto")
        for y, row in enumerate(cells):
            for x, v in enumerate(row):
                ax.text(x, y, f"{v:.2f}" if top < 10 else f"{v:.0f}", ha="center", va="center", fontsize=9,
                        color="white" if v > 0.6 * top else "black")
        ax.set_xticks(range(len(FUSED)), FUSED)
        ax.set_yticks(range(len(layers)), [f"layer {n}" for n in layers])
        ax.set_title(title, fontsize=10)
    return fig


def describe(found: Sequence[Effect]) -> str:
    """The figure in words."""
    worst, best = max(found, key=lambda e: e.harm), min(found, key=lambda e: e.harm)
    dearest = max(found, key=lambda e: e.per_byte)
    return (f"{worst.name} hurts most ({worst.harm:.5f} nats), {best.name} least ({best.harm:.5f}); for each byte it is "
            f"{dearest.name}; all together {sum(e.harm for e in found):.4f}")


def show(found: Sequence[Effect]):
    return figure.show(draw(found), f"Two heat maps, layers by kinds of matrices: the KL that quantizing a group alone causes, and "
                                    f"the same for each byte. {describe(found)}.")


def draw_bars(found: Sequence[Effect], most: int = 12):
    """Figure: the groups that hurt most, with intervals."""
    top = sorted(found, key=lambda e: -e.harm)[:most]
    fig, ax = figure.new(8, 3.2)
    for x, e in enumerate(top):
        ax.bar(x, 1e3 * e.harm, color=figure.ORANGE if FUSED[e.name.partition(".")[2]][0].startswith("mlp") else figure.BLUE)
        ax.plot([x, x], [1e3 * e.low, 1e3 * e.high], color="black", linewidth=1)
    ax.set_xticks(range(len(top)), [e.name for e in top], rotation=45, ha="right", fontsize=8)
    ax.set(ylabel="KL, thousandths of a nat", title="attention blue, MLP orange; 95 % intervals")
    return fig


def draw_errors(errors: Sequence):
    """Figure: LayerErrors of quantize.layer_errors, accumulated and alone, in per cent."""
    fig, ax = figure.new(8, 3)
    x = range(len(errors))
    ax.bar([i - 0.2 for i in x], [100 * e.error for e in errors], 0.4, color=figure.BLUE, label="accumulated")
    ax.bar([i + 0.2 for i in x], [100 * e.alone for e in errors], 0.4, color=figure.ORANGE, label="alone")
    ax.set(xlabel="decoder layer", ylabel="error of the hidden state, %", xticks=list(x))
    ax.legend(frameon=False)
    return fig


# ---------------------------------------------------------------- the layer picker

@dataclass(frozen=True)
class Pick:
    """Some groups raised to a higher format, the others in W4A16."""

    raised: tuple[str, ...]
    bytes: int                   # of the linear layers
    budget: int
    predicted: float             # KL if single effects simply added up, nats per token

    @property
    def left(self) -> int:
        return self.budget - self.bytes


def compute(found: Sequence[Effect], raised: Sequence[str], budget: int, fmt: str = "fp8", residue: float = 0.0) -> Pick:
    """Size and predicted KL of W4A16 with these groups in `fmt` ("fp8" or "bf16").

    residue: the share of a group's harm that stays in FP8 (measured: all in FP8 over all in W4A16); 0 in BF16.
    Raises ValueError for a group that isn't there.
    """
    by = {e.name: e for e in found}
    if unknown := set(raised) - set(by):
        raise ValueError(f"no group {min(unknown)!r}")
    stays = residue if fmt == "fp8" else 0.0
    return Pick(tuple(n for n in by if n in set(raised)),
                sum(e.bytes[fmt if e.name in raised else "w4a16"] for e in found), budget,
                sum(e.harm * (stays if e.name in raised else 1.0) for e in found))


def words(pick: Pick, measured: float | None = None) -> str:
    """The state in words."""
    room = f"{pick.left:,} bytes left" if pick.left >= 0 else f"{-pick.left:,} bytes over the budget"
    beside = "" if measured is None else f"; measured {1e3 * measured:.2f}"
    return (f"{len(pick.raised)} groups raised, linear layers {pick.bytes:,} bytes, {room}; KL predicted "
            f"{1e3 * pick.predicted:.2f}{beside} thousandths of a nat")


def explore(found: Sequence[Effect], budget: int, measure: Callable[[dict[str, str]], float], residue: float = 0.0):
    """Widget: tick the groups to raise; size and predicted KL follow, a button measures.

    measure: choice -> KL in nats per token; some seconds. Results are kept.
    """
    import ipywidgets as w

    layers = sorted({int(e.name.partition(".")[0]) for e in found})
    fmt = w.ToggleButtons(options=["fp8", "bf16"], description="raise to", style={"button_width": "60px"})
    boxes = {e.name: w.Checkbox(False, description=e.name, indent=False, layout=w.Layout(width="110px")) for e in found}
    grid = w.VBox([w.HBox([boxes[f"{n}.{kind}"] for kind in FUSED]) for n in layers])
    button, text = w.Button(description="measure"), w.HTML()
    for part, hook in ((fmt, "format"), (button, "measure"), (text, "words")):
        part.add_class(f"gb10-layers-{hook}")
    known: dict[tuple, float] = {}

    def picked() -> Pick:
        return compute(found, [n for n, box in boxes.items() if box.value], budget, fmt.value, residue)

    def update(_=None):
        pick = picked()
        text.value = f'<div role="status">{words(pick, known.get((fmt.value, pick.raised)))}</div>'

    def measured(_):
        pick, key = picked(), (fmt.value, picked().raised)
        if key not in known:
            button.disabled, button.description = True, "measuring …"
            try:
                known[key] = measure({n: fmt.value for n in pick.raised})
            finally:
                button.disabled, button.description = False, "measure"
        update()

    for control in (fmt, *boxes.values()):
        control.observe(update, "value")
    button.on_click(measured)
    update()
    return w.VBox([fmt, grid, w.HBox([button]), text])
