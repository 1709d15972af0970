"""The recipes by which a model can be quantized: data (recipes.toml), each built from one of ModelOpt's own presets."""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gb10.errors import UserError

DATA = Path(__file__).with_name("recipes.toml")
REPOSITORY = "https://github.com/NVIDIA/Model-Optimizer/blob/main/modelopt_recipes/"
# the presets with a fixed scale, which ModelOpt finds as accurate as a measured one (modelopt_recipes/ptq.md)
KV_PRESETS = {"fp8": "configs/ptq/presets/kv/fp8_cast", "nvfp4": "configs/ptq/presets/kv/nvfp4_cast"}
KV = ("none", *KV_PRESETS)
KV_OFF = {"quantizer_name": "*[kv]_bmm_quantizer", "enable": False}


@dataclass(frozen=True)
class Recipe:
    """One way to quantize a model."""

    name: str
    title: str
    does: str
    when: str                    # on a Spark
    weights: str                 # formats of what is quantized
    activations: str
    kv_cache: str                # what the recipe itself does: none, fp8 or nvfp4
    stays: str                   # what stays in BF16
    algorithm: str               # how scales are found, by ModelOpt's name; "none" where there is nothing to find
    calibrates: bool             # whether it must see batches
    bits: float                  # of a quantized weight, block scales included
    preset: str                  # ModelOpt's preset or recipe, within modelopt_recipes
    loads: bool                  # whether vLLM's ModelOpt loader takes its quant_algo
    quant_algo: str | None = None            # what the export writes; None where ModelOpt can't write a checkpoint
    add: list[dict] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)

    @property
    def exports(self) -> bool:
        """Whether the export is a checkpoint that vLLM loads."""
        return self.quant_algo is not None and self.loads

    @property
    def serves_on_cpu(self) -> bool:
        """Whether vLLM 0.32.0 on a CPU, with the course's plugin, has a kernel for it: for NVFP4 on both sides and for
        NVFP4 weights only (decoded when they are loaded).

        FP8 and MXFP8 checkpoints are read there, and then refused for want of a kernel.
        """
        return self.exports and self.quant_algo in ("NVFP4", "W4A16_NVFP4")

    @property
    def source(self) -> str:
        """Where NVIDIA publishes the preset."""
        return f"{REPOSITORY}{self.preset}.yaml"

    def config(self, kv: str | None = None) -> dict[str, Any]:
        """The ModelOpt config, ready for `mtq.quantize` on CPU or GPU.

        kv: format of the KV cache, "none", "fp8" or "nvfp4"; the recipe's own if left out. UserError for another.
        """
        from gb10.quantize.backend import on_cpu

        if kv not in (None, *KV):
            raise UserError(f"the KV cache can be {', '.join(KV)}, not {kv!r}.")
        config = load(self.preset)
        config["quant_cfg"] = [*config["quant_cfg"], *self.add]
        for key in self.remove:
            _remove(config, key)
        if kv is not None and kv != self.kv_cache:
            config["quant_cfg"].append(KV_OFF)
            if kv != "none":
                config["quant_cfg"] += load(KV_PRESETS[kv])["quant_cfg"]
                # without an algorithm ModelOpt calibrates nothing; "max" has nothing to measure for a fixed scale
                config["algorithm"] = config.get("algorithm") or "max"
        return on_cpu(config)


@functools.cache
def _all() -> dict[str, Recipe]:
    with DATA.open("rb") as file:
        return {name: Recipe(name, **row) for name, row in tomllib.load(file).items()}


def recipes() -> dict[str, Recipe]:
    """Every recipe by its name, in the order of recipes.toml."""
    return dict(_all())


def recipe(name: str | Recipe) -> Recipe:
    """The recipe of that name (a Recipe comes back as it is). Raises UserError, with the nearest name."""
    if isinstance(name, Recipe):
        return name
    if name in _all():
        return _all()[name]
    near = difflib.get_close_matches(str(name), _all(), n=1)
    raise UserError(f"there is no recipe {name!r}: " + (f"did you mean {near[0]!r}?" if near else
                                                         f"choose one of {', '.join(_all())}."))


def load(preset: str) -> dict[str, Any]:
    """ModelOpt's preset or recipe of that path within modelopt_recipes, by its own loader: a config as a dict."""
    from gb10.quantize.library import modelopt

    modelopt()
    from modelopt.torch.opt.config_loader import load_config
    from modelopt.torch.quantization.config import QuantizeConfig

    if preset.startswith("configs/"):
        return load_config(preset, schema_type=QuantizeConfig).model_dump(exclude_unset=True)
    from modelopt.recipe import load_recipe

    with contextlib.redirect_stdout(io.StringIO()):          # it says what it loads
        return load_recipe(preset).quantize.model_dump(exclude_unset=True)


def _remove(config: dict, key: str) -> None:
    *path, last = key.split(".")
    for part in path:
        config = config[part]
    del config[last]
