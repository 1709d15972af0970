"""ModelOpt's search for a format per layer, and the table of what of ModelOpt's own presets can't run on a CPU."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from gb10.errors import UserError, WorkFailed
from gb10.quantize import checks, cookbook
from gb10.quantize.library import modelopt, quiet
from gb10.quantize.quantizing import is_quantized, share_scales

DATA = Path(__file__).with_name("algorithms.toml")
METHODS = ("gradient", "kl_div")
NONE = "bf16"
HEAD = "*lm_head*"


@dataclass(frozen=True)
class Refusal:
    """A preset of ModelOpt 0.47.0 that doesn't go all the way on a CPU."""

    preset: str                  # path within modelopt_recipes
    model: str                   # on which models: "any", "dense", or "experts" (of a mixture, all in one tensor)
    step: str                    # where it ends: "quantize", "run" (the quantized model can't compute) or "export"
    says: str                    # a pattern found in the message
    reason: str
    cuda: bool                   # whether a GPU would help


@functools.cache
def refusals() -> tuple[Refusal, ...]:
    """Every preset under configs/ptq/presets/model and kv, general/ptq and general/auto_quantize that fails, and why.

    What isn't named here quantizes, runs forward and exports (tests/quantize/test_algorithms.py tries them all).
    """
    with DATA.open("rb") as file:
        return tuple(Refusal(preset=preset, **{k: v for k, v in group.items() if k != "presets"})
                     for group in tomllib.load(file)["refusal"] for preset in group["presets"])


@dataclass(frozen=True)
class Mixed:
    """What auto_quantize chose."""

    layers: dict[str, str]       # linear layer -> recipe's name, or "bf16"
    bits: float                  # mean bits of the weights it could choose for
    asked: float


def auto_quantize(model, batches: Iterable[torch.Tensor], *, bits: float, formats=("nvfp4", "fp8"),
                  method: str = "gradient", progress: Callable[[int], None] | None = None) -> Mixed:
    """Quantize `model` in place, each layer in the format that ModelOpt's search gives it; returns what it chose.

    bits: mean bits a weight may cost, over the linear layers but the head. formats: names of recipes, or Recipes;
    leaving a layer in BF16 is always a choice. Layers that an engine fuses get one format. method: how a layer's
    sensitivity is estimated, "gradient" (of the loss on the batches, which must come with enough memory for a
    backward pass) or "kl_div" (the change of the model's answer; forward passes only). batches: int64 token ids
    [B, T]. progress: called with 1, 2, … after each forward pass.
    Raises UserError for formats that ModelOpt's search doesn't take, and where no choice is small enough.
    """
    if is_quantized(model):
        raise UserError("this model is already quantized: load it anew to quantize it again.")
    if method not in METHODS:
        raise UserError(f"method is {' or '.join(METHODS)}, not {method!r}.")
    chosen = [cookbook.recipe(one) for one in formats]
    batches = list(batches)
    if not batches:
        raise WorkFailed("the search needs calibration batches: give it some.")
    # ModelOpt counts 4 bits for some NVFP4 presets and 4.5 for others: the recipe says what a checkpoint spends
    mtq, configs = modelopt(), [one.config() | {"effective_bits": one.bits} for one in chosen]
    for config in configs:
        checks.refuse_before(model, config)
    _refuse_bits(bits, chosen)
    if not model.config.architectures:
        model.config.architectures = [type(model).__name__]
    model.eval()
    with quiet():
        try:
            _, state = mtq.auto_quantize(
                model, constraints={"effective_bits": bits, "cost": {"excluded_module_name_patterns": [HEAD]}},
                quantization_formats=configs, data_loader=batches, forward_step=_forward(method, progress),
                loss_func=_loss if method == "gradient" else None, num_calib_steps=len(batches),
                num_score_steps=len(batches), disabled_layers=_left_alone(), method=method)
        except ValueError as error:
            if "not supported by auto_quantize" not in str(error):
                raise
            raise UserError(f"ModelOpt's search takes no recipe of these algorithms: "
                            f"{', '.join(one.algorithm for one in chosen)}.") from None
    model.zero_grad(set_to_none=True)
    share_scales(model)
    return _mixed(state, chosen, configs, bits)


def _refuse_bits(bits: float, chosen: list[cookbook.Recipe]) -> None:
    least = min(one.bits for one in chosen)
    if not least <= bits <= 16:
        raise UserError(f"bits={bits:g}: with {', '.join(one.name for one in chosen)} a weight costs between "
                        f"{least:g} and 16 bits.")


def _forward(method: str, progress) -> Callable:
    count = 0

    def forward_step(model, ids):
        nonlocal count
        out = model(input_ids=ids.to(next(model.parameters()).device), use_cache=False)
        count += 1
        if progress:
            progress(count)
        return out if method == "gradient" else out.logits

    return forward_step


def _loss(out, ids) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1).float(),
                                             ids[:, 1:].flatten().to(out.logits.device))


def _left_alone() -> list[str]:
    """The head, and ModelOpt's own patterns of layers that a search leaves in BF16: routers, vision towers and such."""
    from modelopt.torch.opt.config_loader import load_config

    return [HEAD, *load_config("configs/auto_quantize/units/base_disabled_layers")]


def _mixed(state: dict, chosen: list[cookbook.Recipe], configs: list[dict], asked: float) -> Mixed:
    from modelopt.torch.quantization.algorithms import QuantRecipe

    names = {QuantRecipe.get_auto_name_for_config(config) or f"CUSTOM_{i}": one.name
             for i, (config, one) in enumerate(zip(configs, chosen, strict=True))}
    layers, cost, whole = {}, 0.0, 0.0
    for group, picked in state["best"]["recipe"].items():
        stats = state["candidate_stats"][group]
        name = names.get(str(picked).split("(")[0], NONE)
        at = [str(one) for one in stats["formats"]].index(str(picked))
        cost, whole = cost + stats["costs"][at], whole + max(stats["costs"])
        layers |= dict.fromkeys(stats["module_names"], name)
    if not state["best"]["is_satisfied"]:
        raise UserError(f"no choice of formats comes down to {asked:g} bits: ask for more, or add a smaller format.")
    return Mixed(layers, 16 * cost / whole if whole else 16.0, asked)
