"""The plan for the commonest dense architectures, from the names alone: no model code is loaded, which saves seconds.

Each of them is one stack of `model.layers.N` with the same seven matrices. Whatever lacks a tensor, has another one, or
has one of another shape is left to `modelopt.py`; the tests hold both plans against each other and against ModelOpt's
export.
"""

from __future__ import annotations

from gb10.quantize.streaming.plan import Plan
from gb10.quantize.streaming.source import Source

KNOWN = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
         "qwen3": "Qwen3ForCausalLM"}                                     # model_type -> its architecture
FUSED = (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.o_proj",),
         ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",))
_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")


def plan(source: Source) -> Plan | None:
    """None where the source isn't exactly what these rules expect of its config."""
    config, kind, dtype = source.config, source.config.get("model_type"), source.config.get("dtype")
    dtype = source.config.get("torch_dtype") if dtype is None else dtype
    if not isinstance(kind, str) or kind not in KNOWN or config.get("architectures") != [KNOWN[kind]] \
            or not isinstance(dtype, str) or dtype not in _DTYPES or "auto_map" in config \
            or not all(type(config.get(name)) is int and config[name] > 0 for name in _SIZES) \
            or config["num_hidden_layers"] > len(source.tensors):
        return None
    tied = config.get("tie_word_embeddings", False)                       # transformers' default for all four
    if type(tied) is not bool:
        return None
    expected = _shapes(config, kind, tied)
    if expected is None or any(t.dtype != _DTYPES[dtype] for t in source.tensors.values()) \
            or {name: t.shape for name, t in source.tensors.items()} != expected:
        return None
    groups = tuple(tuple(f"model.layers.{i}.{part}.weight" for part in group)
                   for i in range(config["num_hidden_layers"]) for group in FUSED)
    quantized = {name for group in groups for name in group}
    return Plan(groups, tuple(n for n in source.tensors if n not in quantized), (), ("lm_head", "model.embed_tokens"))


def _shapes(config: dict, kind: str, tied: bool) -> dict[str, tuple[int, ...]] | None:
    """Every tensor of such a model, with its shape; None for a config that says something odd."""
    hidden, ffn, heads = (config[name] for name in _SIZES[1:4])
    kv, head = config.get("num_key_value_heads", heads), config.get("head_dim")
    head = hidden // heads if head is None else head
    attention = {"qwen2": True}.get(kind, config.get("attention_bias", False) and kind != "mistral")
    mlp = config.get("mlp_bias", False) and kind == "llama"
    if type(kv) is not int or type(head) is not int or kv < 1 or head < 1:
        return None
    rows = {"self_attn.q_proj": heads * head, "self_attn.k_proj": kv * head, "self_attn.v_proj": kv * head,
            "self_attn.o_proj": hidden, "mlp.gate_proj": ffn, "mlp.up_proj": ffn, "mlp.down_proj": hidden}
    columns = {"self_attn.o_proj": heads * head, "mlp.down_proj": ffn}
    layer = {f"{name}.weight": (n, columns.get(name, hidden)) for name, n in rows.items()}
    layer |= {"input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,)}
    if kind == "qwen3":
        layer |= {"self_attn.q_norm.weight": (head,), "self_attn.k_norm.weight": (head,)}
    biased = [n for n in rows if attention and n.startswith("self_attn") and not (kind == "qwen2" and n.endswith("o_proj"))]
    layer |= {f"{name}.bias": (rows[name],) for name in (*biased, *(n for n in rows if mlp and n.startswith("mlp")))}
    table = (config["vocab_size"], hidden)
    found = {"model.embed_tokens.weight": table, "model.norm.weight": (hidden,)} | ({} if tied else {"lm_head.weight": table})
    for i in range(config["num_hidden_layers"]):
        found |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
    return found
