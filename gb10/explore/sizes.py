"""Explorer: how large a checkpoint really is, from the shapes of its matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gb10.explore import figure

HUB = "https://huggingface.co/{}/blob/main/config.json"


@dataclass(frozen=True)
class Architecture:
    """The numbers of a config.json that decide its size. `source` is the hub's name of the model."""

    source: str
    hidden: int
    intermediate: int            # of one expert, where there are experts
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool = False           # the embedding table serves as output matrix, and is stored once
    experts: int = 0
    qk_norm: bool = False        # Qwen3: a norm for the heads of queries and keys

    @property
    def url(self) -> str:
        return HUB.format(self.source)


MODELS: Mapping[str, Architecture] = {
    "Llama-3.2-1B": Architecture("meta-llama/Llama-3.2-1B", 2048, 8192, 16, 32, 8, 64, 128256, tied=True),
    "Llama-3.1-8B": Architecture("meta-llama/Llama-3.1-8B", 4096, 14336, 32, 32, 8, 128, 128256),
    "Qwen3-8B": Architecture("Qwen/Qwen3-8B", 4096, 12288, 36, 32, 8, 128, 151936, qk_norm=True),
    "Qwen3-30B-A3B": Architecture("Qwen/Qwen3-30B-A3B", 2048, 768, 48, 32, 4, 128, 151936, experts=128, qk_norm=True),
    "Llama-3.3-70B": Architecture("meta-llama/Llama-3.3-70B-Instruct", 8192, 28672, 80, 64, 8, 128, 128256),
}


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


def from_config(config: Mapping, source: str = "") -> Architecture:
    """The Architecture of a Llama or Qwen3 config.json; raises KeyError for one that lacks a number."""
    heads = config["num_attention_heads"]
    return Architecture(source, config["hidden_size"], config.get("moe_intermediate_size") or config["intermediate_size"],
                        config["num_hidden_layers"], heads, config["num_key_value_heads"],
                        config.get("head_dim") or config["hidden_size"] // heads, config["vocab_size"],
                        bool(config.get("tie_word_embeddings")), config.get("num_experts") or 0,
                        config.get("model_type", "").startswith("qwen3"))


def linear_shapes(a: Architecture) -> list[tuple[int, int]]:
    """(rows, columns) of every matrix that NVFP4 touches: attention and feed-forward of all layers."""
    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    attention = [(q, a.hidden), (kv, a.hidden), (kv, a.hidden), (a.hidden, q)]
    feed_forward = [(a.intermediate, a.hidden), (a.intermediate, a.hidden), (a.hidden, a.intermediate)]
    return a.layers * (attention + max(1, a.experts) * feed_forward)


@dataclass(frozen=True)
class Size:
    """Bytes of a checkpoint by part; scales are counted where they belong."""

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


BITS = ("BF16", "FP8", "NVFP4", "MXFP4")


def bytes_of(rows: int, columns: int, name: str) -> int:
    """Bytes of one matrix in a format of BITS, its scales included."""
    n = rows * columns
    if name == "BF16":
        return 2 * n
    if name == "FP8":
        return n + 4                                    # and one FP32 scale
    if name == "NVFP4":
        return n // 2 + n // 16 + 4                     # codes, a byte per block of 16, one FP32 scale
    if name == "MXFP4":
        return n // 2 + n // 32                         # codes, a byte per block of 32
    raise ValueError(f"a format is one of {', '.join(BITS)}, not {name!r}")


def compute(a: Architecture, name: str, everything: bool = False) -> Size:
    """The checkpoint with its linear layers in a format of BITS; embedding and head stay BF16 unless `everything`."""
    shapes = linear_shapes(a)
    table = bytes_of(a.vocabulary, a.hidden, name if everything else "BF16")
    norms = a.layers * (2 * a.hidden + (2 * a.head_dim if a.qk_norm else 0)) + a.hidden
    rest = norms + a.layers * a.experts * a.hidden
    parameters = sum(n * k for n, k in shapes) + a.vocabulary * a.hidden * (1 if a.tied else 2) + rest
    return Size(sum(bytes_of(n, k, name) for n, k in shapes), table, 0 if a.tied else table, 2 * rest, parameters)


def describe(model: str, name: str, size: Size, bf16: Size) -> str:
    head = "tied to the embedding" if not size.head else f"{size.head / 1e9:.2f} GB"
    return (f"{model} in {name}: {size.total / 1e9:.2f} GB, {size.total / bf16.total:.1%} of the {bf16.total / 1e9:.2f} GB in "
            f"BF16; linear layers {size.linear / 1e9:.2f} GB, embedding {size.embedding / 1e9:.2f} GB, head {head}; "
            f"{size.bits_per_weight:.2f} bits per weight over all")


def draw(model: str, everything: bool, chosen: str):
    """Figure: one stacked bar for each format, as a share of BF16."""
    a = MODELS[model]
    whole = compute(a, "BF16").total
    fig, ax = figure.new(9, 2.6)
    parts = (("linear", figure.BLUE, "linear layers"), ("embedding", figure.ORANGE, "embedding"), ("head", "#e8b98a", "head"))
    parts = parts[:2] if a.tied else parts
    for row, name in enumerate(reversed(BITS)):
        size, left = compute(a, name, everything), 0.0
        for part, colour, label in parts:
            share = 100 * getattr(size, part) / whole
            ax.barh(row, share, left=left, color=colour, height=0.62, label=label if name == chosen else None,
                    alpha=1.0 if name == chosen else 0.45)
            left += share
        ax.text(left + 1, row, f"{size.total / 1e9:.2f} GB, {100 * size.total / whole:.1f} %", va="center", fontsize=9,
                fontweight="bold" if name == chosen else None)
    ax.axvline(25, color=figure.GREY, linewidth=1, linestyle="--")
    ax.set(yticks=range(len(BITS)), yticklabels=list(reversed(BITS)), xlim=(0, 125), xlabel="% of the BF16 checkpoint; dashed: 25 %",
           title=model)
    ax.set_xticks(range(0, 101, 25))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return fig


def explore():
    """Widget: model, format, and whether embedding and head are quantized as well."""
    import ipywidgets as w

    style = {"description_width": "70px"}
    model = w.Dropdown(options=list(MODELS), value="Llama-3.1-8B", description="model", style=style)
    name = w.Dropdown(options=BITS, value="NVFP4", description="format", style=style)
    everything = w.Checkbox(value=False, description="embedding and head, too", indent=False)
    image, words = w.HTML(), w.HTML()
    for part, hook in ((model, "model"), (name, "format"), (everything, "everything"), (image, "image"), (words, "words")):
        part.add_class(f"gb10-sizes-{hook}")

    def update(_=None):
        a = MODELS[model.value]
        says = describe(model.value, name.value, compute(a, name.value, everything.value), compute(a, "BF16"))
        image.value = figure.show(draw(model.value, everything.value, name.value),
                                  f"Stacked bars: the checkpoint's size in four formats. {says}.")._repr_html_()
        words.value = f'{says}. Numbers from <a href="{a.url}" target="_blank">its config.json</a>.'

    for control in (model, name, everything):
        control.observe(update, "value")
    update()
    return w.VBox([w.HBox([model, name, everything]), image, words])
