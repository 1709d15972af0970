"""What a checkpoint's own quantization_config says: the format, and which tensors it leaves alone.

Understood are ModelOpt (in config.json or hf_quant_config.json), compressed-tensors (llm-compressor), FP8 of Hugging
Face and DeepSeek, MXFP4 of gpt-oss, GPTQ and AWQ.
"""

from __future__ import annotations

import re
from collections import defaultdict
from fnmatch import fnmatch

# Modules that hold a kind of tensors in layer {i}: one row for each way in which families name them. All modules of a
# row count alike; they are of similar size.
_MODULES = {
    "attention": (("self_attn.q_proj", "self_attn.o_proj"), ("self_attn.qkv_proj", "self_attn.o_proj"),
                  ("self_attn.q_b_proj", "self_attn.kv_b_proj", "self_attn.o_proj"), ("mixer.q_proj", "mixer.o_proj")),
    "mixer": (("linear_attn.in_proj_qkvz", "linear_attn.out_proj"), ("linear_attn.in_proj_qkv", "linear_attn.in_proj_z",
              "linear_attn.out_proj"), ("mixer.in_proj", "mixer.out_proj"), ("mamba.in_proj", "mamba.out_proj")),
    "ffn": (("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"), ("mlp.gate_up_proj", "mlp.down_proj"),
            ("mixer.up_proj", "mixer.down_proj")),
    "experts": (("mlp.experts.0.up_proj", "mlp.experts.0.down_proj"), ("mixer.experts.0.up_proj", "mixer.experts.0.down_proj"),
                ("block_sparse_moe.experts.0.w1", "block_sparse_moe.experts.0.w2")),
    "shared": (("mlp.shared_expert.up_proj", "mlp.shared_expert.down_proj"),
               ("mlp.shared_experts.up_proj", "mlp.shared_experts.down_proj"),
               ("mixer.shared_experts.up_proj", "mixer.shared_experts.down_proj")),
}
_BITS = {"fp8": 8, "nvfp4": 4.5, "nvfp4-w4a16": 4.5, "int4": 4.15, "int8": 8}
_KIND = (("lm_head", "head"), ("shared_expert", "shared"), (".experts.", "experts"), ("self_attn", "attention"),
         ("linear_attn", "mixer"), (".mixer.in_proj", "mixer"), (".mixer.out_proj", "mixer"), (".mlp.", "ffn"),
         (".mixer.", "attention"))


def declared(config: dict, layers_of: dict[str, list[int]]) -> tuple[str, dict]:
    """(format name of this course or "", {format: {kind: bits}} where it differs from the format's own rule).

    layers_of: the layers that hold each kind of tensors. In a hybrid model only every fourth may have attention, and
    what a list leaves alone is a share of those."""
    q = stated(config)
    if not q:
        return "", {}
    if q.get("quantized_layers"):
        return _mixed(q["quantized_layers"], layers_of)
    name = _format(q)
    if not name or name == "mxfp4":                       # gpt-oss: the format's own rule says the same
        return name, {}
    ignored = q.get("ignore") or q.get("exclude_modules") or q.get("modules_to_not_convert") or []
    if not isinstance(ignored, list) or not all(isinstance(p, str) for p in ignored):
        raise ValueError("the list of tensors that its quantization_config leaves alone is no list of names")
    kept = {}
    for kind, rows in _MODULES.items():
        share = max(_share(modules, ignored, layers_of.get(kind, [])) for modules in rows)
        if share:
            kept[kind] = 16 * share + _BITS[name] * (1 - share)
    if ignored:                                           # a list that doesn't name the head: the head is quantised
        kept["head"] = 16 if any(_matches("lm_head", p) for p in ignored) else _BITS[name]
    return name, {name: kept}


def stated(config: dict) -> dict:
    """The quantization_config as one flat dict; {} where there is none."""
    q = config.get("quantization_config") or config.get("quantization") or {}
    if not isinstance(q, dict):
        return {}
    return {**q, **q["quantization"]} if isinstance(q.get("quantization"), dict) else q


def named(config: dict) -> bool:
    """Does the config say at all that something is quantised, in whatever way?"""
    return bool(config.get("quantization_config") or config.get("quantization"))


def method(config: dict) -> str:
    """What a quantization_config calls itself, for a sentence."""
    q = stated(config)
    return str(q.get("quant_method") or q.get("quant_algo") or "of an unknown kind")[:40]


def _mixed(layers: dict, layers_of: dict[str, list[int]]) -> tuple[str, dict]:
    """ModelOpt's MIXED_PRECISION names every quantised layer with its own algorithm; what it doesn't name is 16 bit."""
    bits: dict = defaultdict(lambda: defaultdict(list))
    for module, how in layers.items():
        kind = next((k for text, k in _KIND if text in module), None)
        name = _format(how if isinstance(how, dict) else {"quant_algo": how})
        if kind and name:
            layer = re.search(r"layers\.(\d+)\.", module)
            bits[kind][layer.group(1) if layer else ""].append(_BITS[name])
    if not bits:
        return "", {}
    kept = {}
    for kind in (*_MODULES, "head"):
        found = [sum(b) / len(b) for b in bits[kind].values()]
        all_of = max(1 if kind == "head" else len(layers_of.get(kind, ())), len(found), 1)
        kept[kind] = (sum(found) + 16 * (all_of - len(found))) / all_of
    most = "nvfp4" if any(b < 5 for by in bits.values() for each in by.values() for b in each) else "fp8"
    return most, {most: kept}


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


def _share(modules: tuple[str, ...], ignored: list[str], layers: list[int]) -> float:
    """The part of these modules, in the layers that hold them, that is left alone."""
    hits = sum(any(_matches(f"model.layers.{i}.{m}", p) for p in ignored) for i in layers for m in modules)
    return hits / (len(layers) * len(modules)) if layers else 0.0


def _matches(module: str, pattern: str) -> bool:
    """Does a pattern of an ignore list (a name, a glob, or re:…) name this module or one that it lies in?"""
    if pattern.startswith("re:"):
        whole = (module, module.replace("model.", "backbone.", 1), module.replace("model.", "model.language_model.", 1))
        try:
            return any(re.match(pattern[3:], name) for name in whole)
        except re.error:
            return False
    short, want = module.split("layers.", 1)[-1], pattern.split("layers.", 1)[-1]
    return fnmatch(module, pattern) or fnmatch(short, want) or short.startswith(want + ".") or f".{pattern}." in f".{module}."
