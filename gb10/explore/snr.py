"""Signal-to-noise ratio of every format on every kind of data: one table, and an explorer with a slider for the tails.

The data are those of a usual weight matrix in size, drawn by numpy's legacy generator, whose stream is fixed for good:
`RandomState(0)`, in the order of DATA. 1024 x 4096 is the size at which the course's reference values were taken; the
notebooks use fewer rows, which changes the ratios by a few hundredths of a dB (FP8 per tensor and INT4 under heavy tails by
more: they depend on the largest value drawn).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from gb10.explore import figure
from gb10.formats import FP8, INT4, INT8, MXFP4, MXFP8, NVFP4
from gb10.formats.error import relative_rmse, snr_db
from gb10.formats.integer import NVINT4
from gb10.formats.variants import exact_scales, four_over_six, scale_search, single_level, tiles

SIGMA = 0.02                     # of the size of a transformer's weights
EVERY = 128                      # every 128th column is an outlier column


@dataclass(frozen=True)
class Format:
    """label; bits per weight; decode: float tensor [N, K] -> what comes back, FP32. real: not a thought experiment."""

    label: str
    bits: float
    decode: Callable
    real: bool = True


def _codec(cls, **options) -> Callable:
    return lambda x: cls.quantize(x, **options).dequantize()


FORMATS = (
    Format("FP8, one scale per tensor", FP8.bits_per_weight, _codec(FP8)),
    Format("MXFP8", MXFP8.bits_per_weight, _codec(MXFP8)),
    Format("INT8, one scale per row", INT8.bits_per_weight, _codec(INT8)),
    Format("NVFP4", NVFP4.bits_per_weight, _codec(NVFP4)),
    Format("NVFP4, four-over-six", NVFP4.bits_per_weight, lambda x: four_over_six(x).dequantize()),
    Format("NVFP4, scale search", NVFP4.bits_per_weight, lambda x: scale_search(x).dequantize()),
    Format("NVFP4, 16 x 16 tiles", NVFP4.bits_per_weight, lambda x: tiles(x).dequantize()),
    Format("NVFP4 without tensor scale", NVFP4.bits_per_weight, lambda x: single_level(x).dequantize(), False),
    Format("NVFP4 with FP32 block scales", 4 + 32 / 16, exact_scales, False),
    Format("NVINT4", NVINT4.bits_per_weight, _codec(NVINT4), False),
    Format("INT4, blocks of 32", 4.5, _codec(INT4, block=32)),
    Format("INT4, blocks of 128", INT4.bits_per_weight, _codec(INT4)),
    Format("MXFP4, floor", MXFP4.bits_per_weight, _codec(MXFP4, rule="floor")),
    Format("MXFP4, ceil", MXFP4.bits_per_weight, _codec(MXFP4, rule="ceil")),
    Format("MXFP4, even", MXFP4.bits_per_weight, _codec(MXFP4, rule="even")),
)
DATA = ("Gauss", "Laplace", "Student t, 5", "Student t, 3", "outlier columns", "uniform")


def find(label: str) -> Format:
    """The format of that label; KeyError with the labels there are."""
    for f in FORMATS:
        if f.label == label:
            return f
    raise KeyError(f"no format is called {label!r}; there are: {', '.join(f.label for f in FORMATS)}")


def powers_added(*db: float) -> float:
    """SNR in dB of a product whose factors have these SNRs, their errors being independent: noise powers add."""
    return -10 * math.log10(sum(10 ** (-v / 10) for v in db))


# ---------------------------------------------------------------- data

def data(rows: int = 256, columns: int = 4096, seed: int = 0) -> dict[str, torch.Tensor]:
    """name -> FP32 [rows, columns]; every kind of DATA, drawn in one go from one seed."""
    draw = np.random.RandomState(seed)
    size = (rows, columns)
    outliers = draw.normal(0, SIGMA, size)
    outliers[:, ::EVERY] *= 20
    drawn = {
        "outlier columns": outliers,
        "Gauss": draw.normal(0, SIGMA, size),
        "Laplace": draw.laplace(0, SIGMA, size),
        "Student t, 5": draw.standard_t(5, size) * SIGMA,
        "Student t, 3": draw.standard_t(3, size) * SIGMA,
        "uniform": draw.uniform(-0.05, 0.05, size),
    }
    return {name: torch.from_numpy(drawn[name].astype(np.float32)) for name in DATA}


# ---------------------------------------------------------------- the table

@dataclass(frozen=True)
class Table:
    """snr[i][j]: dB of formats[i] on data[j], measured on arrays of shape `size`."""

    formats: tuple[Format, ...]
    data: tuple[str, ...]
    snr: tuple[tuple[float, ...], ...]
    size: tuple[int, int]

    def at(self, label: str, name: str) -> float:
        """dB of one format on one kind of data, both by name."""
        return self.snr[self.formats.index(find(label))][self.data.index(name)]

    def row(self, label: str) -> tuple[float, ...]:
        return self.snr[self.formats.index(find(label))]


def table(rows: int = 256, columns: int = 4096, seed: int = 0, formats: Sequence[Format] = FORMATS) -> Table:
    """Every format on every kind of data, each quantized and decoded for real."""
    drawn = data(rows, columns, seed)
    snr = tuple(tuple(snr_db(x, f.decode(x)) for x in drawn.values()) for f in formats)
    return Table(tuple(formats), tuple(drawn), snr, (rows, columns))


def draw_table(t: Table):
    """Figure: the table as a heat map with the numbers in it, formats downwards, data to the right."""
    fig, ax = figure.new(9, 0.36 * len(t.formats) + 1)
    shown = ax.imshow(t.snr, aspect="auto", cmap="YlGnBu", vmin=10, vmax=28)
    for i, row in enumerate(t.snr):
        for j, v in enumerate(row):
            dark = sum(shown.cmap(shown.norm(v))[:3]) < 1.5
            ax.text(j, i, f"{v:.1f}", ha="center", va="center", color="white" if dark else "black", fontsize=9.5)
    ax.set_xticks(range(len(t.data)), [name.replace(" ", "\n", 1) for name in t.data])
    ax.set_yticks(range(len(t.formats)), [f"{f.label}{'' if f.real else ' *'}   {f.bits:g} bits" for f in t.formats])
    ax.xaxis.tick_top()
    ax.set_xticks([j - 0.5 for j in range(1, len(t.data))], minor=True)
    ax.set_yticks([i - 0.5 for i in range(1, len(t.formats))], minor=True)
    ax.grid(which="minor", color="white", linewidth=2)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    fig.colorbar(shown, ax=ax, label="SNR in dB, more is better", extend="both", aspect=30)
    return fig


def describe_table(t: Table) -> str:
    """The heat map in words, one sentence per format."""
    spans = "; ".join(f"{f.label} ({f.bits:g} bits) {min(r):.1f} to {max(r):.1f}" for f, r in zip(t.formats, t.snr, strict=True))
    return (f"Heat map of signal-to-noise ratios in dB on arrays of {t.size[0]} by {t.size[1]}: {len(t.formats)} formats by "
            f"{len(t.data)} kinds of data ({', '.join(t.data)}). Lowest to highest of each row: {spans}.")


# ---------------------------------------------------------------- the explorer

NOTHING = "nothing to set"
FAMILIES = {                     # family -> (what its slider sets, its stops)
    "Gauss": (NOTHING, (0,)),
    "Student t": ("degrees of freedom", (30, 15, 10, 7, 5, 4, 3, 2.5)),
    "outlier columns": ("times larger", (1, 2, 5, 10, 20, 50, 100)),
    "Laplace": (NOTHING, (0,)),
    "uniform": (NOTHING, (0,)),
}
SHOWN = ("FP8, one scale per tensor", "MXFP8", "NVFP4", "NVFP4, four-over-six", "INT4, blocks of 32", "INT4, blocks of 128",
         "MXFP4, floor")
SIZE = (64, 4096)                # a quarter of a million values: an answer within a moment


def sample(family: str, strength: float = 0, size: tuple[int, int] = SIZE, seed: int = 0) -> torch.Tensor:
    """FP32 [size] of one family. strength: degrees of freedom of Student's t, or how many times larger every 128th
    column is; ignored for the others. ValueError for an unknown family or a strength that makes no sense."""
    if family not in FAMILIES:
        raise ValueError(f"no family is called {family!r}; there are: {', '.join(FAMILIES)}")
    if FAMILIES[family][0] != NOTHING and not strength > 0:
        raise ValueError(f"{family}: {FAMILIES[family][0]} must be above 0, not {strength!r}")
    draw = np.random.RandomState(seed)
    if family == "uniform":
        x = draw.uniform(-0.05, 0.05, size)
    elif family == "Laplace":
        x = draw.laplace(0, SIGMA, size)
    elif family == "Student t":
        x = draw.standard_t(strength, size) * SIGMA
    else:
        x = draw.normal(0, SIGMA, size)
        if family == "outlier columns":
            x[:, ::EVERY] *= strength
    return torch.from_numpy(x.astype(np.float32))


@dataclass(frozen=True)
class Reading:
    """One format on one sample: its SNR, its RMS error over the RMS of the data, and the share of values (0 to 1) that
    came back as zero: what SNR doesn't see, once a few large values hold all the power."""

    label: str
    bits: float
    snr: float
    error: float
    zeroed: float


@lru_cache(maxsize=64)
def compute(family: str, strength: float = 0) -> tuple[Reading, ...]:
    """Every format of SHOWN on one sample."""
    x = sample(family, strength)
    out = []
    for label in SHOWN:
        f = find(label)
        y = f.decode(x)
        out.append(Reading(label, f.bits, snr_db(x, y), relative_rmse(x, y), ((y == 0) & (x != 0)).double().mean().item()))
    return tuple(out)


def describe(family: str, strength: float = 0) -> str:
    """The explorer's setting in words."""
    what = FAMILIES[family][0]
    return family if what == NOTHING else f"{family}, {strength:g} {what}"


def draw(readings: Sequence[Reading], gauss: Sequence[Reading]):
    """Figure: a dot per format at its SNR, a ring where it is on Gaussian data."""
    fig, ax = figure.new(8.5, 3.4)
    ys = range(len(readings))[::-1]
    for y, now, then in zip(ys, readings, gauss, strict=True):
        ax.plot([then.snr, now.snr], [y, y], color=figure.ORANGE, linewidth=2, zorder=1)
        ax.text(now.snr, y + 0.28, f"{now.snr:.1f}", ha="center", fontsize=8.5)
    ax.scatter([r.snr for r in gauss], ys, s=60, facecolors="white", edgecolors=figure.GREY, label="on Gaussian data", zorder=2)
    ax.scatter([r.snr for r in readings], ys, s=34, color=figure.BLUE, label="on these data", zorder=3)
    ax.set_yticks(ys, [f"{r.label}   {r.bits:g} bits" for r in readings])
    ax.set(xlim=(4, 34), ylim=(-0.6, len(readings) - 0.2), xlabel="SNR in dB, more is better")
    ax.grid(axis="x", color="#e4e4e4")
    ax.set_axisbelow(True)
    ax.legend(loc="upper left", frameon=False, fontsize=9)
    return fig


def _as_table(setting: str, readings: Sequence[Reading]) -> str:
    """The readings as an HTML table: what the picture shows, and the zeros, which it doesn't."""
    cell = '<td style="text-align:right;padding:0 14px">'
    head = "".join(f'<th scope="col" style="padding:0 14px;text-align:right">{h}</th>'
                   for h in ("SNR", "error", "values that become 0"))
    rows = "".join(f'<tr><th scope="row" style="text-align:left;font-weight:normal">{r.label}</th>{cell}{r.snr:.1f} dB</td>'
                   f"{cell}{100 * r.error:.1f} %</td>{cell}{100 * r.zeroed:.0f} %</td></tr>" for r in readings)
    return (f'<table style="line-height:1.5"><caption style="text-align:left;font-weight:bold">{setting}</caption>'
            f'<tr><th></th>{head}</tr>{rows}</table>')


def explore():
    """Widget: choose a family of data and how heavy its tails are; see every format's SNR move, or not."""
    import ipywidgets as w

    style = {"description_width": "130px"}
    family = w.Dropdown(options=list(FAMILIES), description="data", style=style, layout=w.Layout(width="420px"))
    strength = w.SelectionSlider(options=[("–", 0)], description=NOTHING, style=style, continuous_update=False, disabled=True,
                                 layout=w.Layout(width="520px"))
    image, words = w.HTML(), w.HTML()
    for child, hook in ((family, "family"), (strength, "strength"), (image, "image"), (words, "words")):
        child.add_class(f"gb10-snr-{hook}")

    busy = []                    # not empty while the slider gets new stops, whose moves are not to be drawn

    def show(_=None):
        if busy:
            return
        readings, gauss = compute(family.value, strength.value), compute("Gauss")
        setting = describe(family.value, strength.value)
        listed = ", ".join(f"{r.label} {r.snr:.1f} dB" for r in readings)
        image.value = figure.show(draw(readings, gauss), f"SNR of {len(readings)} formats on {setting}: {listed}.")._repr_html_()
        words.value = _as_table(setting, readings)

    def choose(_=None):
        what, stops = FAMILIES[family.value]
        busy.append(True)
        strength.options = [("–" if what == NOTHING else f"{s:g}", s) for s in stops]
        strength.value = stops[len(stops) // 2]
        strength.description, strength.disabled = what, len(stops) == 1
        busy.clear()
        show()

    family.observe(choose, "value")
    strength.observe(show, "value")
    choose()
    return w.VBox([family, strength, image, words])
