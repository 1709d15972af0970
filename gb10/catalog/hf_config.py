"""A Hugging Face config.json -> Model: parameter counts by class, KV cache, windows, state. No weights are needed."""

from __future__ import annotations

from collections import Counter

from gb10.catalog import experts, quantization
from gb10.catalog import layers as L
from gb10.catalog.architecture import Cache, Model, Part

ATTENTION = {"full_attention", "sliding_attention", "chunked_attention", "attention", "compressed_attention"}
LINEAR = {"linear_attention", "mamba", "mamba2", "conv", "hybrid"}
PATTERN = {"M": "mamba", "E": "moe", "*": "attention", "-": "mlp"}   # hybrid_override_pattern of Nemotron-H


class NotAModel(ValueError):
    """The config describes no language model that this course can count."""


def text_config(config: dict) -> dict:
    """The language model's own fields: multimodal configs nest them; what is common may stand outside."""
    for key in ("text_config", "llm_config", "language_config", "thinker_config"):
        inner = config.get(key)
        if isinstance(inner, dict) and ("hidden_size" in inner or "text_config" in inner):
            inner = text_config(inner)
            shared = {k: config[k] for k in ("tie_word_embeddings", "vocab_size") if k in config and k not in inner}
            return {"model_type": config.get("model_type", "")} | shared | inner
    return dict(config)


def _renamed(c: dict) -> dict:
    """Old and foreign names for the same fields (GPT-2, ChatGLM, MPT, Falcon)."""
    for old, new in (("n_layer", "num_hidden_layers"), ("n_layers", "num_hidden_layers"), ("num_layers", "num_hidden_layers"),
                     ("n_embd", "hidden_size"), ("d_model", "hidden_size"), ("n_head", "num_attention_heads"),
                     ("n_heads", "num_attention_heads"), ("ffn_hidden_size", "intermediate_size"),
                     ("n_inner", "intermediate_size"), ("padded_vocab_size", "vocab_size"),
                     ("n_positions", "max_position_embeddings"), ("seq_length", "max_position_embeddings")):
        if c.get(new) is None and isinstance(c.get(old), int):
            c[new] = c[old]
    return c


def _positive(c: dict, field: str, name: str) -> int:
    value = c.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        said = "doesn't say" if value is None else f"says {value!r} for"
        raise NotAModel(f"the config of {name} {said} {field}: it describes no language model whose size can be counted; "
                        "give the config.json of a causal language model.")
    return value


def layer_types(c: dict) -> list[str]:
    """What mixes tokens in each layer, from whatever field the family uses; Nemotron-H also lists mlp and moe."""
    n = c.get("num_hidden_layers")
    if c.get("hybrid_override_pattern"):
        return [PATTERN.get(x, x) for x in c["hybrid_override_pattern"]]
    if c.get("layers_block_type"):
        return list(c["layers_block_type"])
    if c.get("layer_types"):
        return list(c["layer_types"])[:n]
    if c.get("full_attn_idxs") is not None:                         # LFM2
        return ["full_attention" if i in c["full_attn_idxs"] else "conv" for i in range(n)]
    if c.get("full_attention_interval") or c.get("linear_num_value_heads"):
        every = c.get("full_attention_interval") or 4
        return ["full_attention" if (i + 1) % every == 0 else "linear_attention" for i in range(n)]
    if c.get("no_rope_layers") or c.get("model_type") == "llama4_text":
        rope = c.get("no_rope_layers") or [(i + 1) % (c.get("no_rope_layer_interval") or 4) for i in range(n)]
        return ["chunked_attention" if r else "full_attention" for r in rope]
    if not c.get("sliding_window") or c.get("use_sliding_window") is False:
        return ["full_attention"] * n
    family = c.get("model_type", "")
    every = c.get("sliding_window_pattern") or c.get("_sliding_window_pattern")
    if not isinstance(every, int):
        every = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "gemma4": 6, "gemma4_text": 6, "gpt_oss": 2, "cohere2": 4,
                 "olmo3": 4, "exaone4": 4}.get(family)
    if every:
        return ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(n)]
    if family.startswith("qwen") and "max_window_layers" in c:      # the first max_window_layers see everything
        return ["full_attention" if i < c["max_window_layers"] else "sliding_attention" for i in range(n)]
    return ["sliding_attention"] * n                                # Mistral 7B v0.1, Phi-3


def _cache(c: dict, kind: str) -> Cache:
    window = None
    if kind == "sliding_attention":
        window = c.get("sliding_window") or c.get("attention_window_size")
    elif kind == "chunked_attention":
        window = c.get("attention_chunk_size") or c.get("sliding_window")
    if c.get("kv_lora_rank"):
        return Cache(1, c["kv_lora_rank"] + c["qk_rope_head_dim"], window)
    _, nkv, hd = L.heads(c)
    if c.get("model_type", "").startswith("gemma4") and kind == "full_attention":
        hd = c.get("global_head_dim") or hd
        nkv = (c.get("num_global_key_value_heads") or nkv) if c.get("attention_k_eq_v") else nkv
    return Cache(1, 2 * nkv * hd, window)


def _attention_flops(c: dict) -> int:
    """FLOP for one query token and one token that it attends to, in one layer: scores and weighted sum, all heads."""
    if "num_attention_heads" not in c:
        return 0
    if c.get("kv_lora_rank"):                                       # attention in the latent space
        return 2 * c["num_attention_heads"] * (2 * c["kv_lora_rank"] + c["qk_rope_head_dim"])
    nh, _, hd = L.heads(c)
    return 4 * nh * hd


def from_config(config: dict, name: str, **more) -> Model:
    """The model that a config.json describes. Raises NotAModel with one sentence if it describes none."""
    if not isinstance(config, dict):
        raise NotAModel(f"the config of {name} is not a JSON object.")
    c = _renamed(text_config(config))
    family = c.get("model_type") or config.get("model_type") or "unknown"
    c["model_type"] = family
    hidden, vocab = _positive(c, "hidden_size", name), _positive(c, "vocab_size", name)
    if not c.get("layers_block_type") and not c.get("hybrid_override_pattern"):
        _positive(c, "num_hidden_layers", name)
    if "mamba_num_heads" not in c:
        _positive(c, "num_attention_heads", name)
    types, notes, width = layer_types(c), [], 0
    total, caches, routed, state = Counter(), Counter(), Counter(), 0
    blocks = c.get("block_configs") or [None] * len(types)
    for i, kind in enumerate(types):
        if kind not in ATTENTION | LINEAR | {"moe", "mlp"}:
            raise NotAModel(f"the config of {name} has a layer of type '{kind}', which this course can't count yet.")
        if kind in ATTENTION:
            total.update(L.attention(c, kind))
            caches[_cache(c, "full_attention" if kind == "attention" else kind)] += 1
        if kind in LINEAR:
            state += _mixer(c, kind, total)
        if kind == "hybrid":                                        # Falcon-H1: attention beside Mamba in one layer
            total.update(L.attention(c))
            caches[_cache(c, "full_attention")] += 1
        alone = family.startswith("nemotron_h")                     # each block is one layer of one kind
        total["small"] += hidden if alone else L.norms(c)
        if kind == "moe" or (not alone and experts.is_moe_layer(c, i)):
            moe = experts.layer(c, blocks[i] if isinstance(blocks[i], dict) else None)
            if not moe.top_k:
                raise NotAModel(f"the config of {name} has {moe.experts} experts but doesn't say how many a token takes.")
            routed[("experts", moe.experts, moe.top_k)] += moe.experts * moe.each
            routed[("small", moe.experts, moe.top_k)] += moe.experts * moe.biases
            total.update(moe.rest)
            width = max(width, (moe.top_k * moe.each + moe.rest["shared"]) // hidden)
        elif kind == "mlp" or not alone:
            wide = c.get("intermediate_size_mlp") or c.get("intermediate_size") or 4 * hidden
            wide = wide[i] if isinstance(wide, list) else wide
            total.update(L.mlp(c, wide))
            width = max(width, 3 * wide)
    total["small"] += hidden * (2 if family in {"phi", "gpt_neox", "starcoder2"} else 1)
    tied = bool(c.get("tie_word_embeddings", family in {"gemma", "gemma2", "gemma3", "gemma3_text", "gemma4",
                                                        "gemma4_text", "gpt2", "cohere", "cohere2"}))
    total["embedding"] = vocab * hidden
    if not tied:
        total["head"] = vocab * hidden
    parts = [Part(kind, n) for kind, n in total.items() if n]
    parts += [Part(kind, n, e, k) for (kind, e, k), n in routed.items() if n]
    merged: Counter = Counter()
    for cache, n in caches.items():
        merged[(cache.elements, cache.window)] += n
    for key, what in (("vision_config", "vision tower"), ("audio_config", "audio tower")):
        if config.get(key):
            notes.append(f"{what} left out: it is in the file, but not read while text is generated")
    if c.get("num_nextn_predict_layers") or c.get("mtp_num_hidden_layers"):
        notes.append("multi-token prediction layers left out: they are read only when speculating")
    declared, keeps = quantization.declared(config, len(types))
    notes += list(more.pop("notes", ()))
    return Model(
        name=name, family=family, layers=len(types), hidden=hidden, vocab=vocab,
        max_context=int(c.get("max_position_embeddings") or c.get("max_seq_len") or 0), tied=tied, parts=tuple(parts),
        caches=tuple(Cache(n, e, w) for (e, w), n in merged.items()), state_elements=state, width=width,
        attention_flops=_attention_flops(c),
        declared=more.pop("declared", declared), keeps=more.pop("keeps", None) or keeps, notes=tuple(notes), **more)


def _mixer(c: dict, kind: str, total: Counter) -> int:
    """Add one state-space or linear-attention layer; returns the numbers that it carries per sequence."""
    if kind == "conv":
        total.update(L.short_conv(c))
        return c["hidden_size"] * c.get("conv_L_cache", 3)
    if c.get("linear_num_value_heads"):
        total.update(L.delta_net(c))
        return L.delta_state(c)
    if c.get("mamba_num_heads") or c.get("mamba_n_heads"):
        total.update(L.mamba(c))
        return L.mamba_state(c)
    raise NotAModel(f"layers of type '{kind}' of the family '{c['model_type']}' can't be counted yet.")
