"""What rotation, four-over-six and a scale search buy: on whole arrays, and watched on one block of 16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from gb10.explore import figure
from gb10.explore.snr import find
from gb10.formats import NVFP4
from gb10.formats.elements import E2M1
from gb10.formats.error import snr_db
from gb10.formats.variants import four_over_six, hadamard, inverse_hadamard, random_signs, scale_search

# format -> neighbours that are rotated together: those that share a scale
ROTATED = {"NVFP4": 16, "NVINT4": 16, "INT4, blocks of 32": 32, "MXFP4, floor": 32}


def through_rotation(x: torch.Tensor, decode, size: int, seed: int = 0) -> torch.Tensor:
    """Rotate each `size` neighbours (random signs, then Hadamard), quantize and decode, rotate back."""
    signs = random_signs(size, seed)
    return inverse_hadamard(decode(hadamard(x, size, signs)), size, signs)


@dataclass(frozen=True)
class Gain:
    """dB of one format on one kind of data, as it is and with a rotation around it."""

    label: str
    data: str
    plain: float
    rotated: float


def gains(data: Mapping[str, torch.Tensor], labels: Sequence[str] = tuple(ROTATED)) -> list[Gain]:
    """Every format of ROTATED on every array [N, K], K a multiple of 32."""
    return [Gain(label, name, snr_db(x, find(label).decode(x)),
                 snr_db(x, through_rotation(x, find(label).decode, ROTATED[label])))
            for name, x in data.items() for label in labels]


def draw_gains(rows: Sequence[Gain]):
    """Figure: a panel per kind of data; for each format a ring (as it is), a dot (rotated) and the way between."""
    names = list(dict.fromkeys(r.data for r in rows))
    fig, axes = figure.new(9, 2.9, columns=len(names))
    axes = axes if isinstance(axes, list) else [axes]
    for ax, name in zip(axes, names, strict=True):
        mine = [r for r in rows if r.data == name]
        for y, r in enumerate(reversed(mine)):
            gain = round(r.rotated - r.plain, 1)
            colour = figure.GREEN if gain > 0 else figure.ORANGE if gain < 0 else figure.GREY
            ax.plot([r.plain, r.rotated], [y, y], color=colour, linewidth=3, zorder=1)
            ax.scatter([r.plain], [y], s=60, facecolors="white", edgecolors=figure.GREY, zorder=2)
            ax.scatter([r.rotated], [y], s=36, color=colour, zorder=3)
            ax.text(max(r.plain, r.rotated) + 0.5, y, f"{gain:+.1f}" if gain else "0", va="center", fontsize=9)
        ax.set_yticks(range(len(mine)), [r.label for r in reversed(mine)] if ax is axes[0] else [])
        ax.set(title=name, xlim=(12, 27.5), ylim=(-0.5, len(mine) - 0.5))
        ax.grid(axis="x", color="#e4e4e4")
        ax.set_axisbelow(True)
    axes[len(axes) // 2].set_xlabel("SNR in dB: ring as it is, dot rotated")
    return fig


def describe_gains(rows: Sequence[Gain]) -> str:
    """The figure in words."""
    return "SNR without and with a Hadamard rotation. " + "; ".join(
        f"{r.label} on {r.data}: {r.plain:.1f} to {r.rotated:.1f} dB" for r in rows) + "."


# ---------------------------------------------------------------- one block, repaired in four ways

REPAIRS = ("as it is", "four-over-six", "scale search", "rotated")
NEIGHBOUR = 40.0                 # a second block's maximum: it sets the tensor scale, so that E4M3 has to round
OUTLIER_AT = 5


@dataclass(frozen=True)
class Repaired:
    """One block of 16 under one repair.

    block    the weights;  rounded  what was put on the grid (the block, or its rotation) and  landed  where it fell
    grid     the 15 values that the grid offers;  back  the weights that come back;  snr  of the block, in dB
    """

    repair: str
    block: tuple[float, ...]
    rounded: tuple[float, ...]
    landed: tuple[float, ...]
    grid: tuple[float, ...]
    back: tuple[float, ...]
    snr: float


def block(outlier: float, number: int = 0) -> torch.Tensor:
    """FP32 [16]: draws of N(0, 1), one of them replaced by `outlier`. number: which draws."""
    x = torch.randn(16, generator=torch.Generator().manual_seed(number))
    x[OUTLIER_AT] = outlier
    return x


@lru_cache(maxsize=512)
def compute(outlier: float, number: int = 0) -> tuple[Repaired, ...]:
    """The block under each of REPAIRS. ValueError for an outlier outside 0 .. NEIGHBOUR, which would set the tensor scale."""
    if not 0 < outlier <= NEIGHBOUR:
        raise ValueError(f"the outlier must lie above 0 and be at most {NEIGHBOUR:g}, not {outlier!r}")
    x = block(outlier, number)
    neighbour = torch.full((16,), NEIGHBOUR)
    quantize = {"as it is": NVFP4.quantize, "four-over-six": four_over_six, "scale search": scale_search,
                "rotated": NVFP4.quantize}
    signs = random_signs(16)
    out = []
    for name in REPAIRS:
        rounded = hadamard(x, 16, signs) if name == "rotated" else x
        q = quantize[name](torch.stack((rounded, neighbour)))
        landed, unit = q.dequantize()[0], (q.scales[0, 0].float() * q.tensor_scale).item()
        back = inverse_hadamard(landed, 16, signs) if name == "rotated" else landed
        grid = sorted({sign * v * unit for v in E2M1 for sign in (1, -1)})
        out.append(Repaired(name, *(tuple(t.tolist()) for t in (x, rounded, landed)), tuple(grid), tuple(back.tolist()),
                            snr_db(x, back)))
    return tuple(out)


def draw(repaired: Sequence[Repaired], chosen: str):
    """Figure: left, the chosen repair's numbers on their grid; right, the block's SNR under every repair."""
    fig, (left, right) = figure.new(9, 3.2, columns=2)
    r = next(r for r in repaired if r.repair == chosen)
    for v in r.grid:
        left.axhline(v, color="#dddddd", linewidth=1, zorder=0)
    xs = range(len(r.rounded))
    for x, before, after in zip(xs, r.rounded, r.landed, strict=True):
        left.plot([x, x], [before, after], color=figure.ORANGE, linewidth=1.5, zorder=1)
    left.scatter(xs, r.rounded, s=38, facecolors="white", edgecolors=figure.BLUE, zorder=2)
    left.scatter(xs, r.landed, s=16, color=figure.ORANGE, zorder=3)
    left.set(title=f"{chosen}: ring before, dot after rounding", xticks=[], xlabel="the 16 numbers that are rounded")
    ys = range(len(repaired))[::-1]
    right.barh(ys, [q.snr for q in repaired], color=[figure.BLUE if q.repair == chosen else "#c9d6e6" for q in repaired])
    for y, q in zip(ys, repaired, strict=True):
        right.text(q.snr + 0.3, y, f"{q.snr:.1f}", va="center", fontsize=9)
    right.set_yticks(ys, [q.repair for q in repaired])
    right.set(xlim=(0, 34), xlabel="SNR of this block in dB")
    return fig


def describe(repaired: Sequence[Repaired], chosen: str) -> str:
    """The figure in words."""
    r = next(r for r in repaired if r.repair == chosen)
    return (f"{chosen}: grid unit {r.grid[8] / E2M1[1] if r.grid[8] else 0:.3f}, largest number on it "
            f"{max(map(abs, r.rounded)):.2f}; SNR of the block "
            + ", ".join(f"{q.repair} {q.snr:.1f} dB" for q in repaired))


def explore():
    """Widget: how large the block's outlier is, which draws, which repair."""
    import ipywidgets as w

    style = {"description_width": "80px"}
    wide = w.Layout(width="460px")
    outlier = w.FloatSlider(value=3, min=0.5, max=20, step=0.5, description="outlier", style=style, layout=wide,
                            readout_format=".1f", continuous_update=False)
    number = w.IntSlider(value=0, min=0, max=19, description="block", style=style, layout=wide, continuous_update=False)
    repair = w.Dropdown(options=REPAIRS, description="repair", style=style, layout=w.Layout(width="300px"))
    image, words = w.HTML(), w.HTML()
    for child, hook in ((outlier, "outlier"), (number, "number"), (repair, "repair"), (image, "image"), (words, "words")):
        child.add_class(f"gb10-repairs-{hook}")

    def show(_=None):
        repaired = compute(outlier.value, number.value)
        text = describe(repaired, repair.value)
        where = f"Block {number.value} with an outlier of {outlier.value:g}"
        image.value = figure.show(draw(repaired, repair.value), f"{where}. {text}.")._repr_html_()
        words.value = f"<b>{where}</b>, {text}"

    for control in (outlier, number, repair):
        control.observe(show, "value")
    show()
    return w.VBox([outlier, number, repair, image, words])
