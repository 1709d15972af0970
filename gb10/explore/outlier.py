"""Explorer: one weight of a block grows, and the other fifteen lose the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gb10.explore import figure

LARGEST = 100.0                  # how far the explorer lets the outlier grow


@dataclass(frozen=True)
class Outlier:
    """A block of 16 in which the weight at `position` is `times` as large as the largest of the others."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    position: int
    times: float
    scale: float                 # the block's E4M3 scale
    tensor_scale: float
    grid: tuple[float, ...]      # the 15 values that this block can take

    @property
    def unit(self) -> float:
        """What 1.0 on the E2M1 grid is worth in this block."""
        return self.scale * self.tensor_scale

    @property
    def others(self) -> tuple[tuple[float, float], ...]:
        """(before, after) of the other fifteen."""
        pairs = enumerate(zip(self.before, self.after, strict=True))
        return tuple(pair for i, pair in pairs if i != self.position)

    @property
    def reach(self) -> int:
        """How many values of the grid lie within reach of the other fifteen: up to the largest that one of them took."""
        top = max(abs(after) for _, after in self.others)
        return sum(abs(v) <= top for v in self.grid)

    @property
    def effective_bits(self) -> float:
        """log2(reach): what the four bits of a code are still worth to the other fifteen. 3.9 at best, 0 at worst."""
        return math.log2(self.reach)

    @property
    def zeros(self) -> int:
        """How many of the other fifteen became zero, without being zero before."""
        return sum(after == 0 and before != 0 for before, after in self.others)

    @property
    def error(self) -> float:
        """Relative root-mean-square error of the other fifteen: |x - x'| / |x|."""
        norm = math.sqrt(sum(b * b for b, _ in self.others))
        return math.sqrt(sum((b - a) ** 2 for b, a in self.others)) / norm if norm else 0.0


def compute(values: Sequence[float], position: int, times: float, amax: float = 0.0) -> Outlier:
    """The block with the outlier in it, through NVFP4.

    values: 16 weights. The one at `position` (0 to 15) keeps its sign and becomes `times` (at least 1) the largest
    magnitude of the others. amax: largest magnitude elsewhere in the tensor; the tensor scale follows the larger of it
    and the outlier. Raises ValueError for a setting out of range.
    """
    import torch

    from gb10.formats import NVFP4
    from gb10.formats.elements import E2M1

    values = [float(v) for v in values]
    if len(values) != NVFP4.block or not 0 <= position < NVFP4.block or not times >= 1:
        raise ValueError(f"an outlier needs a block of {NVFP4.block}, a position in it and a size of at least 1 times the "
                         f"largest other weight; got {len(values)} values, position {position}, {times} times")
    largest = max(abs(v) for i, v in enumerate(values) if i != position)
    values[position] = math.copysign(times * largest, values[position])
    block = torch.tensor(values)
    q = NVFP4.quantize(block, amax=torch.maximum(block.abs().amax(), torch.tensor(float(amax))))
    scale, g = q.scales.float().item(), q.tensor_scale.item()
    unit = q.scales.float() * q.tensor_scale       # FP32, as in the codec: the grid then holds what it decodes to
    grid = sorted({(sign * v * unit).item() for v in E2M1 for sign in (1, -1)})
    return Outlier(tuple(block.tolist()), tuple(q.dequantize().tolist()), position, float(times), scale, g, tuple(grid))


def sweep(values: Sequence[float], position: int, amax: float = 0.0, points: int = 41) -> list[Outlier]:
    """The same block with outliers from 1 to LARGEST times, evenly spaced on a logarithmic scale."""
    return [compute(values, position, LARGEST ** (i / (points - 1)), amax) for i in range(points)]


def describe(o: Outlier) -> str:
    """The state in words."""
    return (f"outlier at {o.position}, {o.times:.3g} times the largest other weight: one grid unit is {o.unit:.4g} "
            f"(block scale {o.scale:g}); the other fifteen reach {o.reach} of the grid's {len(o.grid)} values, "
            f"{o.effective_bits:.2f} bits; {o.zeros} of them became zero; their relative error is {o.error:.1%}")


def draw(o: Outlier, curve: Sequence[Outlier]):
    """Figure: left the block, with the view held on the other fifteen; right their error over the outlier's size."""
    fig, (ax, right) = figure.new(10, 3.4, columns=2)
    ax.get_gridspec().set_width_ratios([2.2, 1])
    top = max(abs(b) for b, _ in o.others) * 1.35 or 1.0
    for v in o.grid:
        if abs(v) <= top:
            ax.axhline(v, color="#c9c9c9", linewidth=1, zorder=0)
    for x, (before, after) in enumerate(zip(o.before, o.after, strict=True)):
        if x == o.position and abs(before) > top:
            edge = math.copysign(top, before)
            ax.annotate("", (x, edge), (x, 0.55 * edge), arrowprops={"arrowstyle": "->", "color": figure.RED, "lw": 2})
            ax.text(x + (0.35 if x < 12 else -0.35), 0.86 * edge, f"{o.times:.3g} ×", color=figure.RED, va="center",
                    ha="left" if x < 12 else "right")
            continue
        ax.plot([x, x], [before, after], color=figure.ORANGE, linewidth=1.5, zorder=1)
        ax.scatter(x, before, s=42, facecolors="white", zorder=2,
                   edgecolors=figure.RED if x == o.position else figure.BLUE)
        ax.scatter(x, after, s=20, color=figure.ORANGE, zorder=3)
    ax.set(xticks=range(16), xlabel="element of the block", ylim=(-top, top), xlim=(-0.7, 15.7),
           title="ring: weight, dot: what NVFP4 makes of it, line: the grid")
    right.plot([c.times for c in curve], [100 * c.error for c in curve], color=figure.BLUE)
    right.scatter(o.times, 100 * o.error, s=60, color=figure.RED, zorder=3)
    right.set(xscale="log", xlabel="size of the outlier, times", ylim=(0, 112), title="error of the other fifteen, %")
    right.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    right.set_xticks([], minor=True)
    return fig


def explore(values: Sequence[float], amax: float = 0.0):
    """Widget: where the outlier sits and how large it is. values, amax: as in compute."""
    import ipywidgets as w

    style = {"description_width": "80px"}
    layout = w.Layout(width="70%")
    position = w.IntSlider(5, 0, 15, description="position", style=style, layout=layout)
    times = w.FloatLogSlider(1, base=10, min=0, max=math.log10(LARGEST), step=0.02, description="times", readout_format=".3g",
                             style=style, layout=layout)
    image, words = w.HTML(), w.HTML()
    for part, name in ((position, "position"), (times, "times"), (image, "image"), (words, "words")):
        part.add_class(f"gb10-outlier-{name}")
    curves: dict[int, list[Outlier]] = {}

    def update(_=None):
        p = position.value
        if p not in curves:
            curves[p] = sweep(values, p, amax)
        o = compute(values, p, min(max(times.value, 1.0), LARGEST), amax)
        image.value = figure.show(draw(o, curves[p]), f"A block of 16 weights with an outlier; grid lines thin out as it "
                                                      f"grows. {describe(o)}.")._repr_html_()
        words.value = (f"The other fifteen reach <b>{o.reach} of {len(o.grid)}</b> grid values = "
                       f"<b>{o.effective_bits:.2f} bits</b>; <b>{o.zeros}</b> of them became zero; relative error "
                       f"<b>{o.error:.1%}</b>.<br><code>block scale {o.scale:g}, one grid unit {o.unit:.4g}</code>")

    for control in (position, times):
        control.observe(update, "value")
    update()
    return w.VBox([position, times, image, words])
