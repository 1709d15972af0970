"""Explorer: what becomes of a real activation's blocks when its calibrated range (amax) is wrong.

NVFP4 takes the block scales of activations from the values themselves; calibration only fixes the tensor scale
g = amax / 2688. A block then wants the scale r = amax(block) / (6 g) = 448 amax(block) / amax, which E4M3 has to hold:

r > 448             CLIPPED  the scale saturates, and values beyond amax come back as amax
2^-6 <= r <= 448    FULL     E4M3's normal numbers, three mantissa bits
2^-10 < r < 2^-6    COARSE   its subnormals, in steps of 2^-9: the scale is up to twice what was wanted, or a third less
r <= 2^-10          LOST     the scale rounds to zero, and the block with it

ModelOpt's simulation divides a block whose scale rounded to zero by 1 instead, so it comes out better than it can be: in
a file or an engine a scale of zero gives a block of zeros. `lose` makes up for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from gb10.explore import figure
from gb10.formats.elements import E4M3_MAX, E4M3_MIN
from gb10.formats.error import snr_db
from gb10.formats.nvfp4 import BLOCK
from gb10.quantize.backend.nvfp4 import fake_quantize_activation

CLIPPED, FULL, COARSE, LOST = "clipped", "full", "coarse", "lost"
FATES = (CLIPPED, FULL, COARSE, LOST)
NORMAL, VANISHES = 2.0 ** -6, E4M3_MIN / 2      # a tie at half of the smallest number goes to the even one: zero
LOW, HIGH = -12, 20                             # the explorer's range: factors 2^-12 to 2^20
SWEPT = 1 << 17                                 # values of a tensor that a sweep looks at


def wanted(block_amax: torch.Tensor, amax: float | torch.Tensor) -> torch.Tensor:
    """r, the scales that blocks of these largest magnitudes want: block_amax / (6 g) with g = amax / 2688."""
    return block_amax * (E4M3_MAX / amax)


def fate(r: float) -> str:
    """One of FATES for a wanted block scale r >= 0."""
    return CLIPPED if r > E4M3_MAX else FULL if r >= NORMAL else COARSE if r > VANISHES else LOST


def lose(x: torch.Tensor, amax: float | torch.Tensor) -> torch.Tensor:
    """x [..., K], K % 16 == 0, with zeros in the blocks that are LOST under this amax; other values as they are."""
    blocks = x.unflatten(-1, (-1, BLOCK))
    r = wanted(blocks.detach().abs().amax(-1, keepdim=True).float(), amax)
    return torch.where(r > VANISHES, blocks, torch.zeros_like(blocks)).flatten(-2)


@dataclass(frozen=True)
class Reading:
    """A tensor quantized with an assumed amax of 2^log2_factor times its own."""

    log2_factor: float
    amax: float                      # the assumed one
    shares: dict[str, float]         # of the blocks that aren't all zero, by fate
    snr: float                       # dB
    zeroed: float                    # share of the values other than 0 that came back as 0
    wanted: tuple[float, ...]        # r of each block that isn't all zero


def compute(x: torch.Tensor, log2_factor: float = 0.0) -> Reading:
    """x: FP32 [N, K], not all zero, K % 16 == 0. Raises ValueError otherwise."""
    largest = _largest(x)
    amax = largest * 2.0 ** log2_factor
    r = wanted(x.unflatten(-1, (-1, BLOCK)).abs().amax(-1).flatten(), amax)
    r = r[r > 0]
    shares = {CLIPPED: r > E4M3_MAX, FULL: (r >= NORMAL) & (r <= E4M3_MAX), COARSE: (r > VANISHES) & (r < NORMAL),
              LOST: r <= VANISHES}
    back = through(x, amax)
    return Reading(log2_factor, amax, {k: v.double().mean().item() for k, v in shares.items()}, snr_db(x, back),
                   ((back == 0) & (x != 0)).sum().item() / (x != 0).sum().item(), tuple(r.tolist()))


def through(x: torch.Tensor, amax: float, name: str = "NVFP4") -> torch.Tensor:
    """x through a format with a calibrated amax and back: "NVFP4" (dynamic block scales), or one static scale for the
    whole tensor in "FP8" (E4M3) or "INT8" (-127 to 127). KeyError for another name."""
    if name == "NVFP4":
        return fake_quantize_activation(lose(x, amax), torch.tensor(amax))
    limit = {"FP8": E4M3_MAX, "INT8": 127.0}[name]
    scale = amax / limit
    y = (x / scale).clamp(-limit, limit)
    return (y.to(torch.float8_e4m3fn).float() if name == "FP8" else y.round()) * scale


def sweep(x: torch.Tensor, exponents: Sequence[float] = range(LOW, HIGH + 1)) -> dict[str, list[float]]:
    """Format -> SNR in dB for each factor 2^exponent on the tensor's own amax."""
    largest = _largest(x)
    return {name: [snr_db(x, through(x, largest * 2.0 ** e, name)) for e in exponents] for name in ("NVFP4", "FP8", "INT8")}


def _largest(x: torch.Tensor) -> float:
    if x.ndim != 2 or not x.numel() or x.shape[-1] % BLOCK or not torch.isfinite(x).all() or not x.any():
        raise ValueError(f"an activation is a finite tensor [N, K], K a multiple of {BLOCK}, not all zero; got "
                         f"{tuple(x.shape)}")
    return x.abs().max().item()


# ---------------------------------------------------------------- the view

def describe(r: Reading) -> str:
    return (f"assumed amax {r.amax:.4g}, {2 ** r.log2_factor:.4g} times the true one: {r.shares[CLIPPED]:.1%} of the blocks "
            f"clipped, {r.shares[FULL]:.1%} full, {r.shares[COARSE]:.1%} coarse, {r.shares[LOST]:.1%} lost; SNR {r.snr:.1f} dB, "
            f"{r.zeroed:.1%} of the values became 0")


def draw(r: Reading, swept: Mapping[str, Sequence[float]]):
    """Figure: the wanted block scales beside E4M3's range, and the SNR over the factor with this one marked."""
    import numpy as np

    fig, (left, right) = figure.new(10, 3.2, columns=2)
    edges = np.log2([VANISHES, NORMAL, E4M3_MAX])
    lowest, highest = -26.0, 22.0
    for start, end, colour in ((lowest, edges[0], "#f2d6d3"), (edges[0], edges[1], "#f3e6c8"), (edges[1], edges[2], "#dcecdf"),
                               (edges[2], highest, "#f2d6d3")):
        left.axvspan(start, end, color=colour, zorder=0, linewidth=0)
    left.hist(np.clip(np.log2(r.wanted), lowest, highest), bins=np.arange(lowest, highest + 0.1, 0.5), color=figure.BLUE)
    top = left.get_ylim()[1] * 1.15
    for x, word in ((-18, LOST), (-8, COARSE), (1.4, FULL), (15.4, CLIPPED)):
        left.text(x, top * 0.93, word, ha="center", fontsize=9)
    left.set(xlim=(lowest, highest), ylim=(0, top), xlabel="block scale wanted, as a power of two", ylabel="blocks")
    for (name, values), colour in zip(swept.items(), (figure.BLUE, figure.GREEN, figure.ORANGE), strict=True):
        right.plot(range(LOW, HIGH + 1), values, color=colour, label=name)
    right.plot([r.log2_factor], [r.snr], "o", color=figure.BLUE, markersize=8)
    right.axvline(0, color=figure.GREY, linewidth=1, linestyle="--")
    right.set(xlim=(LOW, HIGH), ylim=(0, None), xlabel="assumed amax / true amax, as a power of two", ylabel="SNR in dB")
    right.legend(frameon=False, fontsize=9, loc="upper left")
    return fig


def explore(tensors: Mapping[str, torch.Tensor]):
    """Widget: the tensor, and the binary logarithm of assumed over true amax."""
    import ipywidgets as w

    style = {"description_width": "130px"}
    name = w.Dropdown(options=list(tensors), description="input of", style=style, layout=w.Layout(width="420px"))
    factor = w.FloatSlider(0, min=LOW, max=HIGH, step=0.5, description="log2(factor)", style=style, continuous_update=False,
                           layout=w.Layout(width="620px"))
    image, words = w.HTML(), w.HTML()
    for part, hook in ((name, "name"), (factor, "factor"), (image, "image"), (words, "words")):
        part.add_class(f"gb10-calibration-{hook}")
    swept = {}

    def show(_=None):
        x = tensors[name.value]
        x = x[:max(1, SWEPT // x.shape[-1])]
        if name.value not in swept:
            swept[name.value] = sweep(x)
        r = compute(x, factor.value)
        image.value = figure.show(draw(r, swept[name.value]), f"Input of {name.value}. Left, a histogram of the scales that its "
                                  f"blocks want, beside E4M3's range; right, SNR over the assumed amax for NVFP4, FP8 and "
                                  f"INT8. {describe(r)}.")._repr_html_()
        words.value = describe(r)

    for control in (name, factor):
        control.observe(show, "value")
    show()
    return w.VBox([name, factor, image, words])
