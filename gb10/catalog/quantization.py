"""What a checkpoint's own quantization_config says: the format, and which tensors it leaves alone.

Understood are ModelOpt (in config.json or hf_quant_config.json), compressed-tensors (llm-compressor), FP8 of Hugging
Face and DeepSeek, MXFP4 of gpt-oss, GPTQ and AWQ.
"""

from __future__ import annotations

import re
from collections import defaultdict
from fnmatch import fnmatch

# Module names that stand for a kind of tensors in layer {i}; one of them is what the family calls it.
_MODULES = {
    "attention": ("model.layers.{i}.self_attn.q_proj", "model.layers.{i}.self_attn.o_proj"),
    "mixer": ("model.layers.{i}.linear_attn.in_proj_qkvz", "model.layers.{i}.mixer.in_proj"),
    "ffn": ("model.layers.{i}.mlp.gate_proj", "model.layers.{i}.mlp.down_proj"),
    "experts": ("model.layers.{i}.mlp.experts.0.down_proj", "model.layers.{i}.mixer.experts.0.down_proj"),
    "shared": ("model.layers.{i}.mlp.shared_expert.down_proj", "model.layers.{i}.mlp.shared_experts.down_proj"),
    "head": ("lm_head",),
}
_BITS = {"fp8": 8, "nvfp4": 4.5, "nvfp4-w4a16": 4.5, "int4": 4.15, "int8": 8}
_KIND = (("lm_head", "head"), ("shared_expert", "shared"), (".experts.", "experts"), ("self_attn", "attention"),
         ("linear_attn", "mixer"), (".mixer.in_proj", "mixer"), (".mixer.out_proj", "mixer"), (".mlp.", "ffn"),
         (".mixer.", "attention"))


def declared(config: dict, layers: int) -> tuple[str, dict]:
    """(format name of this course or "", {format: {kind: bits}} where it differs from the format's own rule)."""
    q = config.get("quantization_config") or config.get("quantization") or {}
    if not isinstance(q, dict) or not q:
        return "", {}
    q = {**q, **q["quantization"]} if isinstance(q.get("quantization"), dict) else q
    if q.get("quantized_layers"):
        return _mixed(q["quantized_layers"])
    name = _format(q)
    if not name or name == "mxfp4":                       # gpt-oss: the format's own rule says the same
        return name, {}
    ignored = q.get("ignore") or q.get("exclude_modules") or q.get("modules_to_not_convert") or []
    kept = {}
    for kind, modules in _MODULES.items():
        share = max(_share(m, ignored, layers) for m in modules)
        if share or (kind == "head" and ignored):         # a list that doesn't name the head: the head is quantised
            kept[kind] = 16 * share + _BITS[name] * (1 - share)
    return name, {name: kept}


def _mixed(layers: dict) -> tuple[str, dict]:
    """ModelOpt's MIXED_PRECISION names every quantised layer with its own algorithm; what it doesn't name is 16 bit."""
    bits = defaultdict(list)
    for module, how in layers.items():
        kind = next((k for text, k in _KIND if text in module), None)
        name = _format(how if isinstance(how, dict) else {"quant_algo": how})
        if kind and name:
            bits[kind].append(_BITS[name])
    if not bits:
        return "", {}
    most = "nvfp4" if any(min(b) < 5 for b in bits.values()) else "fp8"
    return most, {most: {kind: sum(bits[kind]) / len(bits[kind]) if kind in bits else 16 for kind in _MODULES}}


def _format(q: dict) -> str:
    method = str(q.get("quant_method") or "").lower()
    algo = str(q.get("quant_algo") or "").upper()
    if method == "mxfp4":
        return "mxfp4"
    if "NVFP4" in algo:
        return "nvfp4-w4a16" if "A16" in algo else "nvfp4"
    if algo.startswith("FP8") or method in ("fp8", "fbgemm_fp8"):
        return "fp8"
    if (method in ("gptq", "awq", "auto-round") and q.get("bits", 4) == 4) or algo.startswith("W4A16"):
        return "int4"
    for group in (q.get("config_groups") or {}).values():
        weights = group.get("weights") or {}
        kind, bits = weights.get("type"), weights.get("num_bits")
        if kind == "float" and bits == 4:
            return "nvfp4" if group.get("input_activations") else "nvfp4-w4a16"
        if kind == "float" and bits == 8:
            return "fp8"
        if kind == "int" and bits in (4, 8):
            return f"int{bits}"
    return ""


def _share(module: str, ignored: list[str], layers: int) -> float:
    """The part of the layers in which a module is left alone."""
    if "{i}" not in module:
        return float(any(_matches(module, p) for p in ignored))
    hits = sum(any(_matches(module.format(i=i), p) for p in ignored) for i in range(layers))
    return hits / layers if layers else 0.0


def _matches(module: str, pattern: str) -> bool:
    """Does a pattern of an ignore list (a name, a glob, or re:…) name this module or one that it lies in?"""
    if pattern.startswith("re:"):
        try:
            return re.match(pattern[3:], module) is not None
        except re.error:
            return False
    short, want = module.split("layers.", 1)[-1], pattern.split("layers.", 1)[-1]
    return fnmatch(module, pattern) or fnmatch(short, want) or short.startswith(want + ".")
