"""What becomes of each tensor of a checkpoint under weight-only NVFP4 (W4A16)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from gb10.errors import UserError
from gb10.formats.kernels.plain import BLOCK, KINDS
from gb10.quantize.streaming.source import Source

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


def make_plan(source: Source, *, ask: bool = True) -> Plan:
    """The plan for a source: by rules where they know its architecture, else asked of ModelOpt (some seconds).

    Raises UserError for what can't be streamed: quantized already, an architecture that transformers doesn't know,
    weights that NVFP4 can't hold. ask=False: by rules or not at all (tests).
    """
    from gb10.quantize.streaming import rules

    refuse_quantized(source)
    plan = rules.plan(source)
    if plan is None:
        if not ask:
            raise UserError(f"the rules don't know {source.config.get('model_type')!r}.")
        from gb10.quantize.streaming import modelopt

        plan = modelopt.plan(source)
    _check(source, plan)
    return plan


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


def refuse_quantized(source: Source) -> None:
    """UserError for a checkpoint that isn't in 16 or 32 bits."""
    stated = source.config.get("quantization_config") or source.config.get("compression_config")
    if stated:
        how = stated.get("quant_method") or stated.get("quant_algo") if isinstance(stated, dict) else None
        raise UserError(f"{source.folder} is quantized already ({how or 'its config.json says so'}): start from the BF16 "
                        f"checkpoint of the same model; './course inspect' shows what is in this one.")
    for t in source.tensors.values():
        if t.dtype not in KINDS and t.dtype.startswith(("F4", "F6", "F8")) or t.name.endswith((".weight_scale", ".qweight",
                                                                                          ".weight_packed", "_blocks")):
            raise UserError(f"{source.folder} is quantized already ({t.name} is {t.dtype}): start from the BF16 checkpoint "
                            f"of the same model; './course inspect' shows what is in this one.")


def _check(source: Source, plan: Plan) -> None:
    for name in plan.quantized:
        t = source.tensors[name]
        if t.dtype not in KINDS or len(t.shape) != 2 or t.shape[1] % BLOCK or not t.bytes:
            raise UserError(f"{name} is {t.dtype} {list(t.shape)}: NVFP4 takes matrices of BF16, FP16 or FP32 whose rows are "
                            f"multiples of {BLOCK}; this model can't be quantized as a stream.")
    if not plan.groups:
        raise UserError(f"{source.folder}: no layer of this model would become NVFP4 "
                        f"(architecture {json.dumps(source.config.get('architectures'))}); nothing is written.")
