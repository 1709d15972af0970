"""Who makes the plan, and what can't be planned."""

from __future__ import annotations

import json

from gb10.errors import UserError
from gb10.formats.kernels.plain import BLOCK, KINDS
from gb10.quantize.inside.sniff import show
from gb10.quantize.streaming import rules
from gb10.quantize.streaming.plan import Plan
from gb10.quantize.streaming.source import Source

_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "num_experts", "num_local_experts", "n_routed_experts")
_FLOATS = ("F64", "F32", "BF16", "F16")


def make_plan(source: Source) -> Plan:
    """The plan for a source: by rules where they know its architecture, else asked of ModelOpt (some seconds).

    Raises UserError for what can't be streamed: quantized already, an architecture that transformers doesn't know,
    weights that NVFP4 can't hold.
    """
    refuse_quantized(source)
    _refuse_absurd(source)
    plan = rules.plan(source)
    if plan is None:
        from gb10.quantize.streaming import modelopt

        plan = modelopt.plan(source)
    _check(source, plan)
    return plan


def refuse_quantized(source: Source) -> None:
    """UserError for a checkpoint that isn't in 16 or 32 bits."""
    stated = source.config.get("quantization_config") or source.config.get("compression_config")
    if stated:
        how = stated.get("quant_method") or stated.get("quant_algo") if isinstance(stated, dict) else None
        raise UserError(f"{source.folder} is quantized already ({show(how or 'its config.json says so', 40)}): start from the BF16 "
                        f"checkpoint of the same model; './course inspect' shows what is in this one.")
    for t in source.tensors.values():
        if t.dtype not in KINDS and t.dtype.startswith(("F4", "F6_", "F8")) or t.name.endswith((".weight_scale", ".qweight",
                                                                                          ".weight_packed", "_blocks")):
            raise UserError(f"{source.folder} is quantized already ({t.name} is {t.dtype}): start from the BF16 checkpoint "
                            f"of the same model; './course inspect' shows what is in this one.")


def _refuse_absurd(source: Source) -> None:
    """A config of a billion layers would keep ModelOpt busy for ever."""
    for key in _COUNTS:
        value = source.config.get(key)
        if type(value) is int and value > len(source.tensors):
            raise UserError(f"{source.folder} holds {len(source.tensors):,} tensors, and its config.json says {key} "
                            f"{value:,}: they don't belong together, or the download isn't finished.")


def _check(source: Source, plan: Plan) -> None:
    for name, dtype in plan.cast.items():
        if source.tensors[name].dtype not in _FLOATS or dtype not in _FLOATS:
            raise UserError(f"{name} is {source.tensors[name].dtype}, and the model takes it as {dtype}: that can't be "
                            f"converted.")
    for name in plan.quantized:
        t = source.tensors[name]
        if t.dtype not in KINDS or len(t.shape) != 2 or t.shape[1] % BLOCK or not t.bytes:
            raise UserError(f"{name} is {t.dtype} {list(t.shape)}: NVFP4 takes matrices of BF16, FP16 or FP32 whose rows are "
                            f"multiples of {BLOCK}; this model can't be quantized as a stream.")
    if not plan.groups:
        raise UserError(f"{source.folder}: no layer of this model would become NVFP4 "
                        f"(architecture {json.dumps(source.config.get('architectures'))}); nothing is written.")
