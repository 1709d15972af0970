"""A model's real tensors: how heavy their tails are, and the SNR of each format on them, beside one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from gb10 import paths
from gb10.explore import figure
from gb10.explore.snr import find
from gb10.formats.error import snr_db

WEIGHT, ACTIVATION = "weight", "activation"
COMPARED = {"NVFP4": figure.BLUE, "MXFP4, floor": figure.GREEN, "INT4, blocks of 128": figure.ORANGE}


def linear_tensors(tokens: int = 1024) -> dict[tuple[str, str], torch.Tensor]:
    """(layer, WEIGHT or ACTIVATION) -> FP32 tensor [rows, K], for every linear layer of pico.

    The activations are the layer's input while pico reads the first `tokens` tokens of heldout.txt, computed in FP32 from
    the BF16 weights: [tokens, K], K being the axis along which both are multiplied and quantized.
    """
    from gb10.engines import pico

    model, tokenizer = pico.load()
    text = (paths.PICO.parent / "heldout.txt").read_text(encoding="utf-8").replace("<|endoftext|>", "")
    ids = tokenizer(text[:8 * tokens])["input_ids"][:tokens]
    found, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and ".layers." in f".{name}":
            short = name.removeprefix("model.layers.").replace("self_attn.", "").replace("mlp.", "")
            found[short, WEIGHT] = module.weight.detach()

            def note(_, args, short=short):
                found[short, ACTIVATION] = args[0].detach().flatten(0, -2)

            hooks.append(module.register_forward_pre_hook(note))
    with torch.inference_mode():
        model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return found


def kurtosis(x: torch.Tensor) -> float:
    """Excess kurtosis, mean(z^4) / mean(z^2)^2 - 3 with z the deviation from the mean: 0 for Gauss, 3 for Laplace, 6
    for Student's t with 5 degrees of freedom, -1.2 for uniform. Large means heavy tails."""
    z = x.double() - x.double().mean()
    power = z.square().mean()
    return (z.pow(4).mean() / power.square() - 3).item() if power > 0 else 0.0


@dataclass(frozen=True)
class Row:
    """One tensor: its layer, its kind, its excess kurtosis, and label -> dB of each format."""

    layer: str
    kind: str
    kurtosis: float
    snr: dict[str, float]


def compute(tensors: Mapping[tuple[str, str], torch.Tensor], labels: Sequence[str] = tuple(COMPARED)) -> list[Row]:
    """Every tensor through every format. Layers that read the same activation (q, k, v; gate, up) keep one row of it."""
    rows, seen = [], {}
    for (layer, kind), x in tensors.items():
        key = (kind, x.data_ptr(), tuple(x.shape))
        if key in seen:
            continue
        seen[key] = layer
        rows.append(Row(layer, kind, kurtosis(x), {label: snr_db(x, find(label).decode(x)) for label in labels}))
    return rows


def span(rows: Sequence[Row], label: str, kind: str) -> tuple[float, float]:
    """Lowest and highest dB of one format over all tensors of one kind."""
    values = [r.snr[label] for r in rows if r.kind == kind]
    return min(values), max(values)


def draw(rows: Sequence[Row]):
    """Figure: a mark per tensor and format; excess kurtosis to the right, SNR upwards."""
    fig, ax = figure.new(9, 4)
    for label, colour in COMPARED.items():
        for kind, marker in ((WEIGHT, "o"), (ACTIVATION, "^")):
            mine = [r for r in rows if r.kind == kind]
            ax.scatter([r.kurtosis for r in mine], [r.snr[label] for r in mine], s=30, marker=marker,
                       facecolors=colour if kind == ACTIVATION else "none", edgecolors=colour, label=f"{label}, {kind}s")
    ax.set_xscale("symlog", linthresh=1, linscale=1.2)
    ax.set_xticks([-1, 0, 1, 10, 100, 1000], ["-1", "0\nGauss", "1", "10", "100", "1000"])
    ax.set(xlabel="excess kurtosis of the tensor: heavier tails to the right", ylabel="SNR in dB", xlim=(-1, 2000))
    ax.grid(axis="y", color="#e4e4e4")
    ax.set_axisbelow(True)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    return fig


def describe(rows: Sequence[Row]) -> str:
    """The scatter plot in words."""
    said = []
    for kind in (WEIGHT, ACTIVATION):
        mine = [r for r in rows if r.kind == kind]
        spans = ", ".join("{} {:.1f} to {:.1f} dB".format(label, *span(rows, label, kind)) for label in COMPARED)
        tails = min(r.kurtosis for r in mine), max(r.kurtosis for r in mine)
        said.append(f"{len(mine)} {kind}s with excess kurtosis {tails[0]:.2f} to {tails[1]:.3g}: {spans}")
    return f"Scatter plot of SNR against excess kurtosis, one mark per tensor of pico and format. {'; '.join(said)}."
