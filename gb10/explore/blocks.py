"""Explorer: one block of 16 weights, before and after NVFP4, on the grid it is rounded to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gb10.explore import figure


@dataclass(frozen=True)
class Block:
    """One block. `grid` holds the 15 values that this block can take, `before` and `after` its 16 weights."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    codes: tuple[int, ...]
    scale: float                 # the block's E4M3 scale
    tensor_scale: float
    grid: tuple[float, ...]

    @property
    def largest_error(self) -> float:
        return max(abs(b - a) for b, a in zip(self.before, self.after, strict=True))


def compute(weight, row: int, block: int) -> Block:
    """Block number `block` of a row of a weight [N, K]; the tensor scale is that of the whole weight."""
    import torch

    from gb10.formats.elements import E2M1
    from gb10.formats.nvfp4 import BLOCK, NVFP4

    weight = torch.as_tensor(weight).detach()
    if not 0 <= row < weight.shape[0] or not 0 <= block < weight.shape[1] // BLOCK:
        raise IndexError(f"a weight of shape {tuple(weight.shape)} has no block ({row}, {block})")
    part = weight[row, block * BLOCK:(block + 1) * BLOCK]
    q = NVFP4.quantize(part, amax=weight.abs().amax())
    scale, g = q.scales.float().item(), q.tensor_scale.item()
    grid = sorted({sign * v * scale * g for v in E2M1 for sign in (1, -1)})
    return Block(tuple(part.float().tolist()), tuple(q.dequantize().tolist()), tuple(q.codes().tolist()), scale, g,
                 tuple(grid))


def describe(b: Block) -> str:
    """The block in words: what a picture can't tell a screen reader."""
    return (f"block scale {b.scale:g} (E4M3), tensor scale {b.tensor_scale:.4g}, one grid unit {b.scale * b.tensor_scale:.4g}; "
            f"largest weight {max(map(abs, b.before)):.4g}, largest rounding error {b.largest_error:.4g}")


def draw(b: Block):
    """Figure: the block's grid as lines, its weights as rings (before) and dots (after)."""
    fig, ax = figure.new(8, 3.0)
    for v in b.grid:
        ax.axhline(v, color="#dddddd", linewidth=1, zorder=0)
    xs = range(len(b.before))
    for x, before, after in zip(xs, b.before, b.after, strict=True):
        ax.plot([x, x], [before, after], color=figure.ORANGE, linewidth=1.5, zorder=1)
    ax.scatter(xs, b.before, s=42, facecolors="white", edgecolors=figure.BLUE, label="BF16 weight", zorder=2)
    ax.scatter(xs, b.after, s=20, color=figure.ORANGE, label="NVFP4", zorder=3)
    ax.set(xticks=list(xs), xlabel="element of the block", ylabel="value")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return fig


def explore(weights: Mapping[str, object]):
    """Widget: choose a tensor, a row and a block. weights: name -> tensor [N, K]."""
    import ipywidgets as w

    names = list(weights)
    style = {"description_width": "60px"}
    tensor = w.Dropdown(options=names, description="tensor", style=style, layout=w.Layout(width="60%"))
    row = w.IntSlider(0, 0, 0, description="row", style=style, continuous_update=False)
    block = w.IntSlider(0, 0, 0, description="block", style=style, continuous_update=False)
    image, words = w.HTML(), w.HTML()
    image.add_class("gb10-block-image")
    words.add_class("gb10-block-words")

    def limits(_=None):
        rows, columns = weights[tensor.value].shape
        row.max, block.max = rows - 1, columns // 16 - 1

    def update(_=None):
        # The rendered figure goes in whole, as PNG bytes in an <img> with alt text: no plotting state is shared.
        # When the tensor changes, the sliders follow one after the other: in between, one may lie outside.
        rows, columns = weights[tensor.value].shape
        r, n = min(row.value, rows - 1), min(block.value, columns // 16 - 1)
        b = compute(weights[tensor.value], r, n)
        image.value = figure.show(draw(b), f"The 16 weights of block {n} in row {r} of {tensor.value}, before and after "
                                           f"rounding to their grid. {describe(b)}")._repr_html_()
        words.value = f"<code>{describe(b)}</code><br>codes: <code>{' '.join(f'{c:x}' for c in b.codes)}</code>"

    limits()
    tensor.observe(limits, "value")
    for control in (tensor, row, block):
        control.observe(update, "value")
    update()
    return w.VBox([tensor, row, block, image, words])
