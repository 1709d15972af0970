"""Explorer: where the block scales of a tensor fall on E4M3's range, with and without a tensor scale."""

from __future__ import annotations

from dataclasses import dataclass

from gb10.explore import figure

SHAPE = (256, 256)               # of the Gaussian tensor that is scaled: 4,096 blocks
LOW, HIGH = -4, 4                # the explorer's range: sigma from 1e-4 to 1e4
WINDOW = (2.0 ** -9, 2.0 ** -6, 448.0)   # E4M3: smallest number, smallest with its full three mantissa bits, largest


@dataclass(frozen=True)
class TwoScales:
    """A Gaussian tensor of standard deviation sigma, with real E4M3 block scales."""

    sigma: float
    wanted: tuple[float, ...]    # the block scales that it needs without a tensor scale: amax / 6
    wanted_with: tuple[float, ...]   # and with one: amax / 6 / g
    tensor_scale: float
    error: float                 # relative RMS error without a tensor scale
    error_with: float            # and with it

    @property
    def outside(self) -> float:
        """Share of the blocks whose scale, without a tensor scale, lies below or above all E4M3 numbers."""
        return sum(not WINDOW[0] <= r <= WINDOW[2] for r in self.wanted) / len(self.wanted)

    @property
    def coarse(self) -> float:
        """Share of the blocks whose scale falls among E4M3's subnormals, where its steps are wide."""
        return sum(WINDOW[0] <= r < WINDOW[1] for r in self.wanted) / len(self.wanted)


def gaussian(sigma: float, seed: int = 0):
    """The tensor: FP32, SHAPE, always the same numbers but for the factor sigma."""
    import torch

    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * sigma


def compute(sigma: float) -> TwoScales:
    """Raises ValueError for a sigma that isn't positive and finite."""
    import math

    from gb10.formats import NVFP4
    from gb10.formats.error import relative_rmse
    from gb10.formats.variants import single_level

    if not (sigma > 0 and math.isfinite(sigma)):
        raise ValueError(f"sigma is a positive number, not {sigma!r}")
    x = gaussian(sigma)
    q = NVFP4.quantize(x)
    wanted = x.unflatten(-1, (-1, NVFP4.block)).abs().amax(-1).flatten() / 6
    g = q.tensor_scale.item()
    return TwoScales(sigma, tuple(wanted.tolist()), tuple((wanted / g).tolist()), g,
                     relative_rmse(x, single_level(x).dequantize()), relative_rmse(x, q.dequantize()))


def describe(t: TwoScales) -> str:
    return (f"sigma {t.sigma:.3g}: relative error {t.error:.4f} without a tensor scale, {t.error_with:.4f} with it "
            f"(tensor scale {t.tensor_scale:.3g}); without it {t.outside:.0%} of the blocks need a scale that E4M3 doesn't "
            f"have, {t.coarse:.0%} one among its coarse subnormals")


def draw(t: TwoScales):
    """Figure: histogram of the wanted block scales over powers of two, E4M3's range shaded."""
    import numpy as np

    fig, ax = figure.new(9, 2.9)
    ax.axvspan(np.log2(WINDOW[1]), np.log2(WINDOW[2]), color="#dcecdf", zorder=0)
    ax.axvspan(np.log2(WINDOW[0]), np.log2(WINDOW[1]), color="#f3e6c8", zorder=0)
    bins = np.arange(-17, 16.01, 0.25)
    for values, colour, label in ((t.wanted, figure.ORANGE, "without a tensor scale"),
                                  (t.wanted_with, figure.BLUE, "with it")):
        ax.hist(np.clip(np.log2(values), bins[0], bins[-1]), bins=bins, color=colour, alpha=0.8, label=label,
                histtype="stepfilled")
    ax.set(xlabel="block scale that is needed, as a power of two", ylabel="blocks", xlim=(bins[0], bins[-1]),
           title=f"standard deviation {t.sigma:.3g}")
    ax.set_xticks(range(-16, 16, 2), [f"$2^{{{e}}}$" for e in range(-16, 16, 2)])
    height = ax.get_ylim()[1]
    ax.set_ylim(0, height * 1.18)
    ax.text(1.5, height * 1.08, "E4M3, full precision", ha="center", fontsize=9)
    ax.text(-7.5, height * 1.08, "coarse", ha="center", fontsize=9)
    ax.text(-13.2, height * 1.08, "too small", ha="center", fontsize=9)
    ax.text(12.4, height * 1.08, "too large", ha="center", fontsize=9)
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return fig


def explore():
    """Widget: the standard deviation of the tensor."""
    import ipywidgets as w

    sigma = w.FloatLogSlider(0.02, base=10, min=LOW, max=HIGH, step=0.05, description="sigma", readout_format=".2g",
                             style={"description_width": "60px"}, layout=w.Layout(width="70%"), continuous_update=False)
    image, words = w.HTML(), w.HTML()
    for part, name in ((sigma, "sigma"), (image, "image"), (words, "words")):
        part.add_class(f"gb10-two-scales-{name}")

    def update(_=None):
        t = compute(sigma.value)
        image.value = figure.show(draw(t), f"Histogram of the block scales that a Gaussian tensor needs. "
                                           f"{describe(t)}.")._repr_html_()
        words.value = (f"relative error <b>{t.error:.4f}</b> without a tensor scale, <b>{t.error_with:.4f}</b> with it"
                       f"<br>without it, {t.outside:.0%} of the blocks need a scale that E4M3 doesn't have, "
                       f"{t.coarse:.0%} one among its coarse subnormals")

    sigma.observe(update, "value")
    update()
    return w.VBox([sigma, image, words])
