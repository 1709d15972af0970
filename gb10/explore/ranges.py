"""A model's activation ranges: what max calibration notes, how it grows with samples, and what other ranges cost.

A *range* here is the largest magnitude (amax) at the input of one linear layer, the one number that max calibration
keeps. `maxima` notes it sample by sample, so that any choice of samples can be tried without running the model again;
`put` gives a quantized model other ranges than its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from gb10.explore import figure
from gb10.explore.calibration import lose

DISTINCT = ("q_proj", "o_proj", "gate_proj", "down_proj")     # k and v read what q reads, up reads what gate reads


def maxima(model, rows: torch.Tensor, *, batch: int = 32,
           progress: Callable[[int, int], None] | None = None) -> dict[str, torch.Tensor]:
    """Layer name -> FP32 [samples]: the largest magnitude at its input in each sample (row) of token ids [samples, T].

    Every linear layer but the head. progress: called with (samples done, of). Raises ValueError for no tokens.
    """
    if rows.ndim != 2 or not rows.numel():
        raise ValueError(f"rows are token ids [samples, tokens], at least one of each; got {tuple(rows.shape)}")
    found: dict[str, list] = {}

    def note(name):
        return lambda _, args: found.setdefault(name, []).append(args[0].detach().abs().amax((1, 2)).float().cpu())

    hooks = [module.register_forward_pre_hook(note(name)) for name, module in model.named_modules()
             if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()]
    try:
        with torch.inference_mode():
            for i, ids in enumerate(rows.split(batch)):
                model.base_model(input_ids=ids.to(model.device), use_cache=False)
                if progress:
                    progress(min((i + 1) * batch, len(rows)), len(rows))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


def inputs(model, rows: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Layer name -> FP32 [samples x T, K]: the whole input of these layers while the model reads token ids [samples, T]."""
    found, hooks = {}, []
    for name in names:
        def keep(_, args, name=name):
            found[name] = args[0].detach().float().flatten(0, -2)

        hooks.append(model.get_submodule(name).register_forward_pre_hook(keep))
    try:
        with torch.inference_mode():
            model.base_model(input_ids=rows.to(model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: x.clone() for name, x in found.items()}       # out of inference mode: ordinary tensors


def put(model, ranges: Mapping[str, float], factor: float = 1.0):
    """Give the input quantizers of a quantized model these ranges, each times factor; returns the model.

    Layers that aren't named keep theirs. Raises KeyError for a layer without an input quantizer.
    """
    modules = dict(model.named_modules())
    for name, amax in ranges.items():
        quantizer = getattr(modules.get(name), "input_quantizer", None)
        if quantizer is None:
            raise KeyError(f"{name} has no input quantizer in this model")
        quantizer.amax = torch.tensor(float(amax) * factor, device=model.device)
    return model


def as_an_engine(model):
    """Have a model that ModelOpt quantized to NVFP4 lose the blocks whose scale rounds to zero, as engines do; returns it.

    ModelOpt's simulation saves such blocks (see gb10.explore.calibration). They occur only under ranges that are
    thousands of times too large. For modules with an input quantizer that is switched on now; layers of 16 n channels.
    """
    for module in model.modules():
        quantizer = getattr(module, "input_quantizer", None)
        if quantizer is not None and quantizer.is_enabled:
            quantizer.register_forward_pre_hook(lambda q, args: (lose(args[0], q.amax), *args[1:]) if q.is_enabled else None)
    return model


def distinct(names) -> list[str]:
    """One layer of each group that reads the same input."""
    return [name for name in names if name.endswith(DISTINCT)]


def rows_of(tokenizer, text: str, samples: int = 64, length: int = 64) -> torch.Tensor:
    """Token ids [samples, length] from a text, which is repeated where it is too short."""
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])
    return ids.repeat(-(-samples * length // len(ids)))[:samples * length].reshape(samples, length)


# ---------------------------------------------------------------- how many samples

@dataclass(frozen=True)
class Spread:
    """Range from `count` samples over the range from all: (5 %, 50 %, 95 %) over the draws."""

    count: int
    worst: tuple[float, float, float]        # of the layer that fares worst in a draw
    middle: tuple[float, float, float]       # of the median layer


def spread(found: Mapping[str, torch.Tensor], counts: Sequence[int], *, draws: int = 200, seed: int = 0) -> list[Spread]:
    """How much of the whole range `count` samples find, for samples drawn (without putting back) again and again."""
    table = torch.stack([found[name] for name in distinct(found)])
    if not all(1 <= k <= table.shape[1] for k in counts):
        raise ValueError(f"counts from 1 to {table.shape[1]}, the samples there are; got {list(counts)}")
    generator = torch.Generator().manual_seed(seed)
    columns = torch.tensor(counts) - 1
    ratios = torch.stack([table[:, torch.randperm(table.shape[1], generator=generator)].cummax(1).values[:, columns]
                          for _ in range(draws)]) / table.amax(1)[:, None]
    at = torch.tensor((0.05, 0.5, 0.95))
    worst, middle = ratios.amin(1).quantile(at, dim=0), ratios.median(1).values.quantile(at, dim=0)
    return [Spread(k, tuple(worst[:, i].tolist()), tuple(middle[:, i].tolist())) for i, k in enumerate(counts)]


def draw_spread(spreads: Sequence[Spread]) -> figure.Picture:
    """Picture: the share of the range found over the number of samples."""
    fig, ax = figure.new(8, 3.2)
    counts = [s.count for s in spreads]
    for part, colour, label in (("middle", figure.BLUE, "the median layer"), ("worst", figure.ORANGE, "the worst layer")):
        low, mid, high = zip(*(getattr(s, part) for s in spreads), strict=True)
        ax.fill_between(counts, low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(counts, mid, "o-", color=colour, label=label)
    ax.axhline(0.5, color=figure.GREY, linestyle="--", linewidth=1)
    ax.set(xscale="log", ylim=(0, 1.05), xlabel="samples", ylabel="range found / range of all")
    ax.set_xticks(counts, counts, minor=False)
    ax.set_xticks([], minor=True)
    ax.legend(frameon=False, loc="lower right")
    first, last = spreads[0], spreads[-1]
    return figure.show(fig, f"Share of the whole range that some samples find, with the middle 90 % of draws shaded. Worst "
                            f"layer: {first.worst[1]:.2f} with {first.count}, {last.worst[1]:.2f} with {last.count}; "
                            f"median layer: {first.middle[1]:.2f} and {last.middle[1]:.2f}. A dashed line marks one half.")


# ---------------------------------------------------------------- what came out

def table(found: Mapping[str, object], base=None) -> str:
    """Comparisons (of `quantize.compare_many`) as lines: loss above the reference, KL, and KL against `base`'s."""
    width = max(map(len, found)) + 2
    lines = [f"{'':<{width}}{'loss above the original':<29}{'KL':>8}" + (f"   KL beside {base.name}" if base else "")]
    for name, c in found.items():
        lines.append(f"{name:<{width}}{_interval(c.loss_difference):<29}{c.kl.value:>8.4f}" + (_beside(c, base) if base else ""))
    return "\n".join(lines)


def _beside(c, base) -> str:
    change = c.against(base).kl
    return "   no difference shown" if change.covers(0) else f"   {change.value:+.4f} ({change.low:+.4f} to {change.high:+.4f})"


def _interval(i) -> str:
    return f"{i.value:+.4f} ({i.low:+.4f} to {i.high:+.4f})"
