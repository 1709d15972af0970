"""What becomes of each tensor of a checkpoint under weight-only NVFP4 (W4A16)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from gb10.formats.kernels.plain import BLOCK

ALGORITHM = "W4A16_NVFP4"              # as ModelOpt names it in hf_quant_config.json


@dataclass(frozen=True)
class Plan:
    """groups   weights to quantize; those of one group are fused by the engine, and share a tensor scale
    kept     tensors to copy
    left     tensors of the source that the export has not: what the model doesn't load, the copy of a tied matrix
    excluded names of modules that stay as they are, in the order in which ModelOpt writes them
    cast     kept tensors whose dtype changes -> the new one, in safetensors' names
    by       "rules" or "modelopt"
    """

    groups: tuple[tuple[str, ...], ...]
    kept: tuple[str, ...]
    left: tuple[str, ...]
    excluded: tuple[str, ...]
    cast: dict[str, str] = field(default_factory=dict)
    by: str = "rules"

    @property
    def quantized(self) -> tuple[str, ...]:
        return tuple(name for group in self.groups for name in group)

    def digest(self) -> str:
        what = (self.groups, self.kept, self.left, self.excluded, sorted(self.cast.items()))
        return hashlib.sha256(repr(what).encode()).hexdigest()


def quantization(plan: Plan) -> dict:
    """The content of hf_quant_config.json."""
    return {"producer": producer(),
            "quantization": {"quant_algo": ALGORITHM, "kv_cache_quant_algo": None, "group_size": BLOCK,
                             "exclude_modules": list(plan.excluded)}}


def quantization_config(plan: Plan) -> dict:
    """What config.json says of it, under "quantization_config"."""
    weights = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": BLOCK}
    return {"config_groups": {"group_0": {"weights": weights, "targets": ["Linear"]}}, "ignore": list(plan.excluded),
            "quant_algo": ALGORITHM, "producer": producer(), "quant_method": "modelopt"}


def producer() -> dict:
    """As ModelOpt signs: engines look for its name to know the layout. The version is that of the layout kept to."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {"name": "modelopt", "version": version("nvidia-modelopt")}
    except PackageNotFoundError:
        return {"name": "modelopt", "version": "0.47.0"}
