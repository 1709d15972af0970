"""What a checkpoint's own quantization_config says: the format, and which tensors it leaves alone."""

from __future__ import annotations

from fnmatch import fnmatch

# Module names that stand for a kind of tensors in layer {i}; the first is what most families call it.
_MODULES = {
    "attention": ("model.layers.{i}.self_attn.q_proj", "model.layers.{i}.self_attn.o_proj"),
    "mixer": ("model.layers.{i}.linear_attn.in_proj_qkvz", "model.layers.{i}.mixer.in_proj"),
    "ffn": ("model.layers.{i}.mlp.gate_proj", "model.layers.{i}.mlp.down_proj"),
    "experts": ("model.layers.{i}.mlp.experts.0.down_proj", "model.layers.{i}.mixer.experts.0.down_proj"),
    "shared": ("model.layers.{i}.mlp.shared_expert.down_proj", "model.layers.{i}.mlp.shared_experts.down_proj"),
    "head": ("lm_head",),
}


def declared(config: dict, layers: int) -> tuple[str, dict]:
    """(format name of this course or "", {format: {kind: bits}} for kinds the checkpoint leaves in 16 bit)."""
    q = config.get("quantization_config") or config.get("quantization") or {}
    if not isinstance(q, dict) or not q:
        return "", {}
    name = _format(q)
    if not name or name == "mxfp4":                       # gpt-oss: the format's own rule says the same
        return name, {}
    ignored = q.get("ignore") or q.get("exclude_modules") or q.get("modules_to_not_convert") or []
    kept = {}
    for kind, modules in _MODULES.items():
        share = max(_share(m, ignored, layers) for m in modules)
        if share:
            kept[kind] = share
    bits = {"fp8": 8, "nvfp4": 4.5, "nvfp4-w4a16": 4.5, "int4": 4.15, "int8": 8}[name]
    if "head" not in kept and ignored and name.startswith("nvfp4"):
        kept["head"] = 0.0                                # the list names others, not the head: so it is quantised
    return name, {name: {kind: 16 * share + bits * (1 - share) for kind, share in kept.items()}}


def _format(q: dict) -> str:
    method = str(q.get("quant_method") or q.get("quant_library") or q.get("producer", {}).get("name", "")).lower()
    algo = str(q.get("quant_algo") or q.get("quantization", {}).get("quant_algo", "")).upper()
    if method == "mxfp4":
        return "mxfp4"
    if "NVFP4" in algo:
        return "nvfp4-w4a16" if "A16" in algo else "nvfp4"
    if algo.startswith("FP8") or method in ("fp8", "fbgemm_fp8"):
        return "fp8"
    if method in ("gptq", "awq", "auto-round") and q.get("bits", 4) == 4 or algo.startswith("W4A16_AWQ"):
        return "int4"
    groups = q.get("config_groups") or {}
    for group in groups.values():
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
    if pattern.startswith("re:"):
        import re

        try:
            return re.match(pattern[3:], module) is not None
        except re.error:
            return False
    last = module.split("layers.", 1)[-1]
    return (fnmatch(module, pattern) or module.startswith(pattern + ".") or fnmatch(last, pattern.split("layers.", 1)[-1])
            if "layers." in pattern else fnmatch(module, pattern) or module.endswith("." + pattern.strip("*.")))
