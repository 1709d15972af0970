"""Explorer: how large a checkpoint really is, from what the catalogue knows of its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from gb10 import catalog
from gb10.catalog import Model
from gb10.explore import figure

MODELS = ("Llama-3.2-1B", "Llama-3.1-8B", "Qwen3-8B", "Qwen3-30B-A3B", "Llama-3.3-70B")      # names in the catalogue
FORMATS = ("BF16", "FP8", "NVFP4", "MXFP4")
LINEAR = ("attention", "mixer", "ffn", "experts", "shared")    # what gets the format; see gb10.catalog.KINDS


@dataclass(frozen=True)
class Published:
    """A published checkpoint: sizes in GB (1e9 bytes) on the hub, and what its recipe leaves unquantized."""

    name: str
    bf16_gb: float
    nvfp4_gb: float
    left: str


# configs/models.yaml of github.com/sch0tten/nvfp4-benchmark at commit 5425f08, which pins the hub's revisions
PUBLISHED = (
    Published("nvidia/Qwen3.6-35B-A3B-NVFP4", 71.9, 23.5, "linear attention (FP8)"),
    Published("nvidia/Gemma-4-26B-A4B-NVFP4", 51.6, 18.8, "attention, router and embeddings, largely BF16"),
    Published("nvidia/Gemma-4-31B-IT-NVFP4", 62.6, 32.7, "attention of many layers, head, vision part"),
)
PUBLISHED_SOURCE = "https://github.com/sch0tten/nvfp4-benchmark/blob/5425f08197812fa614fce318baa6e0f177e3c950/configs/models.yaml"


@dataclass(frozen=True)
class Size:
    """Bytes of a checkpoint by part; block scales are counted where they belong."""

    linear: int
    embedding: int
    head: int                    # 0 where it is tied to the embedding
    rest: int                    # norms and routers, always BF16
    parameters: int

    @property
    def total(self) -> int:
        return self.linear + self.embedding + self.head + self.rest

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.total / self.parameters


def bits_of(name: str) -> float:
    """Bits per weight in a format of FORMATS, block scales included. Raises ValueError for another."""
    if name not in FORMATS:
        raise ValueError(f"a format is one of {', '.join(FORMATS)}, not {name!r}")
    return catalog.weight_format(name.lower()).nominal_bits


def compute(model: Model | str, name: str, everything: bool = False) -> Size:
    """The checkpoint of a model (or of the catalogue's model of that name) with all its linear layers in a format of
    FORMATS; embedding and head stay BF16 unless `everything`.

    The scales of whole tensors, four bytes for each matrix, are left out. For BF16, FP8 and NVFP4 the total is that of
    roofline.weight_bytes; MXFP4 differs, since there it means the experts alone, as it is published.
    """
    model = catalog.model(model) if isinstance(model, str) else model
    bits, table = bits_of(name), bits_of(name if everything else "BF16")
    in_bytes = {"linear": bits * model.count(*LINEAR), "embedding": table * model.count("embedding"),
                "head": table * model.count("head"), "rest": 16 * model.count("router", "small")}
    return Size(*(int(b / 8) for b in in_bytes.values()), model.params)


def describe(model: str, name: str, size: Size, bf16: Size) -> str:
    head = "tied to the embedding" if not size.head else f"{size.head / 1e9:.2f} GB"
    return (f"{model} in {name}: {size.total / 1e9:.2f} GB, {size.total / bf16.total:.1%} of the {bf16.total / 1e9:.2f} GB in "
            f"BF16; linear layers {size.linear / 1e9:.2f} GB, embedding {size.embedding / 1e9:.2f} GB, head {head}; "
            f"{size.bits_per_weight:.2f} bits per weight over all")


def draw(model: str, everything: bool, chosen: str):
    """Figure: one stacked bar for each format, as a share of BF16."""
    a = catalog.model(model)
    whole = compute(a, "BF16").total
    fig, ax = figure.new(9, 2.6)
    parts = (("linear", figure.BLUE, "linear layers"), ("embedding", figure.ORANGE, "embedding"), ("head", "#e8b98a", "head"))
    parts = parts[:2] if a.tied else parts
    for row, name in enumerate(reversed(FORMATS)):
        size, left = compute(a, name, everything), 0.0
        for part, colour, label in parts:
            share = 100 * getattr(size, part) / whole
            ax.barh(row, share, left=left, color=colour, height=0.62, label=label if name == chosen else None,
                    alpha=1.0 if name == chosen else 0.45)
            left += share
        ax.text(left + 1, row, f"{size.total / 1e9:.2f} GB, {100 * size.total / whole:.1f} %", va="center", fontsize=9,
                fontweight="bold" if name == chosen else None)
    ax.axvline(25, color=figure.GREY, linewidth=1, linestyle="--")
    ax.set(yticks=range(len(FORMATS)), yticklabels=list(reversed(FORMATS)), xlim=(0, 125), xlabel="% of the BF16 checkpoint; dashed: 25 %",
           title=model)
    ax.set_xticks(range(0, 101, 25))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return fig


def explore():
    """Widget: model, format, and whether embedding and head are quantized as well."""
    import ipywidgets as w

    style = {"description_width": "70px"}
    model = w.Dropdown(options=MODELS, value="Llama-3.1-8B", description="model", style=style)
    name = w.Dropdown(options=FORMATS, value="NVFP4", description="format", style=style)
    everything = w.Checkbox(value=False, description="embedding and head, too", indent=False)
    image, words = w.HTML(), w.HTML()
    for part, hook in ((model, "model"), (name, "format"), (everything, "everything"), (image, "image"), (words, "words")):
        part.add_class(f"gb10-sizes-{hook}")

    def update(_=None):
        a = catalog.model(model.value)
        says = describe(model.value, name.value, compute(a, name.value, everything.value), compute(a, "BF16"))
        image.value = figure.show(draw(model.value, everything.value, name.value),
                                  f"Stacked bars: the checkpoint's size in four formats. {says}.")._repr_html_()
        words.value = f'{says}. Architecture: <a href="{a.source.url}" target="_blank">{escape(a.source.what)}</a>.'

    for control in (model, name, everything):
        control.observe(update, "value")
    update()
    controls = w.HBox([model, name, everything], layout=w.Layout(flex_flow="row wrap"))
    return w.VBox([controls, image, words])
