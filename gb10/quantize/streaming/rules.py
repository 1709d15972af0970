"""The plan for the commonest dense architectures, from the names alone: no model code is loaded, which saves seconds.

Each of them is one stack of `model.layers.N` with the same seven matrices. Whatever has any other tensor is left to
`modelopt.py`; the tests hold both plans against each other and against ModelOpt's export.
"""

from __future__ import annotations

import re

from gb10.quantize.streaming.plan import Plan
from gb10.quantize.streaming.source import Source

KNOWN = frozenset({"llama", "mistral", "qwen2", "qwen3"})       # model_type in config.json
FUSED = (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.o_proj",),
         ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",))
_STAYS = re.compile(r"model\.layers\.\d+\.(input_layernorm\.weight|post_attention_layernorm\.weight|"
                    r"self_attn\.[qk]_norm\.weight|self_attn\.[qkvo]_proj\.bias|mlp\.(gate|up|down)_proj\.bias)")
_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


def plan(source: Source) -> Plan | None:
    """None where these rules don't know every tensor of the source."""
    config = source.config
    dtype = _DTYPES.get(config.get("dtype") or config.get("torch_dtype"))
    n_layers = config.get("num_hidden_layers")
    if config.get("model_type") not in KNOWN or "auto_map" in config or dtype is None or type(n_layers) is not int \
            or not 0 < n_layers <= 100_000 or len(config.get("architectures") or ()) != 1 \
            or not config["architectures"][0].endswith("ForCausalLM"):
        return None
    rest = dict.fromkeys(source.tensors)
    if any(t.dtype != dtype for t in source.tensors.values()):
        return None
    groups = []
    for i in range(n_layers):
        for group in FUSED:
            names = tuple(f"model.layers.{i}.{part}.weight" for part in group)
            if any(n not in rest for n in names):
                return None
            for n in names:
                del rest[n]
            groups.append(names)
    tied = bool(config.get("tie_word_embeddings", False))       # transformers' default for all four
    left = ("lm_head.weight",) if tied and "lm_head.weight" in rest else ()
    ends = {"model.embed_tokens.weight", "model.norm.weight"} | (set() if tied else {"lm_head.weight"})
    kept = [n for n in rest if n not in left]
    if not ends <= set(kept) or any(n not in ends and not _STAYS.fullmatch(n) for n in kept):
        return None
    return Plan(tuple(groups), tuple(kept), left, ("lm_head", "model.embed_tokens"))
