"""Explorer: the same sixteen weights in NVFP4, MXFP4 and INT4."""

from __future__ import annotations

from dataclasses import dataclass

from gb10.explore import figure

SPAN = 128                       # the widest block compared; every sample has this many weights
SHOWN = 16                       # of which the picture shows these: one block of NVFP4
KINDS = ("Gaussian", "one outlier", "uniform", "pico")
OUTLIER_AT, OUTLIER = 20, 12.0   # a neighbour: outside the sixteen that are shown, inside the same block of 32


@dataclass(frozen=True)
class Row:
    """What one format makes of the sample."""

    name: str
    block: int                   # weights that share a scale
    bits: float                  # per weight, scales included
    after: tuple[float, ...]     # the sixteen weights shown
    grid: tuple[float, ...]      # the values that these sixteen can take
    levels: int                  # how many different ones they took
    error: float                 # relative RMS error of the sixteen
    error_all: float             # the same over all 128


@dataclass(frozen=True)
class Comparison:
    kind: str
    before: tuple[float, ...]    # the sixteen weights shown
    rows: tuple[Row, ...]


def sample(kind: str, number: int, weight=None):
    """128 weights, FP32. Gaussian and uniform ones are drawn with the seed `number`, both with a standard deviation of
    0.1; "one outlier" is the Gaussian sample with weight 20 made 12 standard deviations large; "pico" is the
    beginning of row `number` of `weight` [N, K]. Raises ValueError for another kind."""
    import torch

    if kind not in KINDS:
        raise ValueError(f"a sample is one of {', '.join(KINDS)}, not {kind!r}")
    if kind == "pico":
        if weight is None or not 0 <= number < weight.shape[0] or weight.shape[1] < SPAN:
            raise ValueError(f"the sample 'pico' needs a weight with a row {number} and at least {SPAN} columns")
        return weight[number, :SPAN].detach().float()
    generator = torch.Generator().manual_seed(number)
    if kind == "uniform":
        return (torch.rand(SPAN, generator=generator) * 2 - 1) * 0.1 * 3 ** 0.5
    x = torch.randn(SPAN, generator=generator) * 0.1
    if kind == "one outlier":
        x[OUTLIER_AT] = OUTLIER * 0.1
    return x


def compute(kind: str, number: int = 0, int4_block: int = 32, weight=None) -> Comparison:
    """The sample in NVFP4 (blocks of 16), MXFP4 (32, rule floor) and INT4 (32 or 128)."""
    from gb10.formats import INT4, MXFP4, NVFP4
    from gb10.formats.elements import E2M1
    from gb10.formats.error import relative_rmse

    x = sample(kind, number, weight)
    e2m1 = tuple(-v for v in reversed(E2M1[1:])) + E2M1
    amax = weight.detach().float().abs().amax() if kind == "pico" else None
    nv, mx, integer = NVFP4.quantize(x, amax=amax), MXFP4.quantize(x), INT4.quantize(x, block=int4_block)
    units = (nv.scales[0].float() * nv.tensor_scale, mx.scales[0].float(), integer.scales[0].float())
    rows = []
    for q, unit, grid in zip((nv, mx, integer), units, (e2m1, e2m1, range(-7, 8)), strict=True):
        y = q.dequantize()
        after = tuple(y[:SHOWN].tolist())
        rows.append(Row(type(q).__name__, q.block, q.bits_per_weight, after, tuple(v * unit.item() for v in grid), len(set(after)),
                        relative_rmse(x[:SHOWN], y[:SHOWN]), relative_rmse(x, y)))
    return Comparison(kind, tuple(x[:SHOWN].tolist()), tuple(rows))


def table(c: Comparison) -> str:
    """The comparison as text, one line per format."""
    head = f"{'format':<7}{'block':>6}{'bits/weight':>13}{'values used':>13}{'error of the 16':>17}{'error of 128':>14}"
    return "\n".join([head] + [
        f"{r.name:<7}{r.block:>6}{r.bits:>13.3f}{r.levels:>13}{r.error:>17.2%}{r.error_all:>14.2%}" for r in c.rows])


def describe(c: Comparison) -> str:
    return "; ".join(f"{r.name} in blocks of {r.block}: relative error {r.error:.1%} with {r.levels} values used" for r in c.rows)


def draw(c: Comparison):
    """Figure: one strip for each format, with the grid that the sixteen weights get there."""
    fig, axes = figure.new(10, 6.2, rows=len(c.rows))
    top = max(abs(v) for values in (c.before, *(r.after for r in c.rows)) for v in values) * 1.15 or 1.0
    for ax, r in zip(axes, c.rows, strict=True):
        for v in r.grid:
            if abs(v) <= top:
                ax.axhline(v, color="#c9c9c9", linewidth=1, zorder=0)
        for x, (before, after) in enumerate(zip(c.before, r.after, strict=True)):
            ax.plot([x, x], [before, after], color=figure.ORANGE, linewidth=1.5, zorder=1)
        ax.scatter(range(SHOWN), c.before, s=38, facecolors="white", edgecolors=figure.BLUE, zorder=2)
        ax.scatter(range(SHOWN), r.after, s=18, color=figure.ORANGE, zorder=3)
        ax.set(xticks=range(SHOWN), ylim=(-top, top), xlim=(-0.7, SHOWN - 0.3))
        ax.set_title(f"{r.name}, block of {r.block}, {r.bits:g} bits: relative error {r.error:.1%}", fontsize=10, loc="left")
        ax.tick_params(labelbottom=ax is axes[-1])
    if c.kind == "one outlier":
        fig.suptitle(f"weight {OUTLIER_AT}, not shown, is {OUTLIER:g} standard deviations large", fontsize=10)
    axes[-1].set_xlabel("element; ring: weight, dot: what the format makes of it, lines: the values that it can take")
    return fig


def explore(weight):
    """Widget: which weights, which sample of them, and INT4's block. weight: [N, K >= 128], shown as "pico"."""
    import ipywidgets as w

    style = {"description_width": "80px"}
    kind = w.Dropdown(options=KINDS, description="weights", style=style, layout=w.Layout(width="40%"))
    number = w.IntSlider(0, 0, 31, description="sample", style=style, layout=w.Layout(width="60%"), continuous_update=False)
    block = w.Dropdown(options=[("32", 32), ("128", 128)], description="INT4 block", style=style, layout=w.Layout(width="40%"))
    image, words = w.HTML(), w.HTML()
    for part, name in ((kind, "kind"), (number, "number"), (block, "block"), (image, "image"), (words, "words")):
        part.add_class(f"gb10-compare-{name}")

    def update(_=None):
        c = compute(kind.value, number.value, block.value, weight)
        image.value = figure.show(draw(c), f"Sixteen weights ({c.kind}) on the grids of three formats. "
                                           f"{describe(c)}.")._repr_html_()
        words.value = f'<pre style="white-space:pre;overflow-x:auto">{table(c)}</pre>'

    for control in (kind, number, block):
        control.observe(update, "value")
    update()
    return w.VBox([w.HBox([kind, block], layout=w.Layout(flex_flow="row wrap")), number, image, words])
