"""A Hugging Face config.json -> Model: parameter counts by class, KV cache, windows, state. No weights are needed."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cache

from gb10.catalog import experts, quantization, rows, sound
from gb10.catalog import layers as L
from gb10.catalog.architecture import Cache, Model, Part
from gb10.catalog.source import read_json

ATTENTION = {"full_attention", "sliding_attention", "chunked_attention", "attention", "deepseek_sparse_attention"}
LINEAR = {"linear_attention", "mamba", "mamba2", "conv", "hybrid"}
MOST_LAYERS = 2000
NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
GENERATES = ("CausalLM", "ConditionalGeneration", "LMHeadModel", "ImageTextToText", "ForConditionalGeneration")
UNCOUNTABLE = {"jamba", "bamba", "zamba", "zamba2", "mamba", "mamba2", "falcon_mamba", "recurrent_gemma", "rwkv", "minimax",
               "gemma3n", "gemma3n_text", "deepseek_v4", "kimi_linear", "plamo2", "xlstm", "dbrx", "falcon", "opt", "bloom",
               "mpt", "nemotron-nas", "gptj", "codegen", "gpt_bigcode", "gpt_neo"}
# counted here, though transformers has no class of them (or keeps its fields under another name)
COUNTED = {"kimi_k2", "minicpm", "bitnet", "dream", "flex_olmo", "gemma3", "gemma4", "qwen2_vl", "qwen2_5_vl", "qwen3_5",
           "qwen3_5_moe", "qwen3_vl", "qwen3_vl_moe"}
FOUR_TIMES = {"gpt2"}         # families whose feed-forward layers are four times as wide as the rest where nothing is said
PATTERN = {"M": "mamba", "E": "moe", "*": "attention", "-": "mlp"}   # hybrid_override_pattern of Nemotron-H


class NotAModel(ValueError):
    """The config describes no language model that this course can count."""


def text_config(config: dict) -> dict:
    """The language model's own fields: multimodal configs nest them; what is common may stand outside."""
    for key in NESTED:
        inner = config.get(key)
        if isinstance(inner, dict) and ("hidden_size" in inner or "text_config" in inner):
            inner = text_config(inner)
            outer = {"model_type": config.get("model_type", "")}
            outer |= {"vocab_size": config["vocab_size"]} if "vocab_size" in config else {}
            tied = {"tie_word_embeddings": config["tie_word_embeddings"]} if "tie_word_embeddings" in config else {}
            return outer | inner | tied              # whether the head is the table is decided outside
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


# Sizes that a config must state itself, so that half a config is not taken for a model; nested ones do leave some out.
_STATED = {"vocab_size", "num_attention_heads", "num_key_value_heads", "intermediate_size", "intermediate_size_mlp", "num_experts",
           "num_local_experts", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "kv_lora_rank"}


def _defaults(c: dict, family: str, nested: bool) -> dict:
    """What a config.json of this family may leave out, because its class in transformers has it as default."""
    said = experts.number(c) > 0                                    # under whatever name: then it needs no default
    return {k: v for k, v in _family_defaults().get(family, {}).items()
            if (nested or k not in _STATED) and not (said and k in experts.NUMBER)
            and not (nested and k == "tie_word_embeddings" and not family.startswith("gemma"))}


@cache
def _family_defaults() -> dict[str, dict]:
    return read_json("family_defaults.json")


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
    if c.get("model_type") == "falcon_h1":
        return ["hybrid"] * n
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
    if c.get("max_window_layers") is not None:                      # Qwen, dots: the first so many see everything
        return ["full_attention" if i < c["max_window_layers"] else "sliding_attention" for i in range(n)]
    return ["sliding_attention"] * n                                # Mistral 7B v0.1, Phi-3


def _cache(c: dict, kind: str) -> Cache:
    window = None
    if kind == "sliding_attention":
        window = c.get("sliding_window") or c.get("attention_window_size")
    elif kind == "chunked_attention":
        window = c.get("attention_chunk_size") or c.get("sliding_window")
    if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
        raise ValueError(f"a window of {window!r} tokens")
    if c.get("kv_lora_rank"):
        return Cache(1, c["kv_lora_rank"] + c["qk_rope_head_dim"] + (c.get("index_head_dim") or 0), window)
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
    family = "nemotron_h" if family.startswith("nemotron_h") else family        # Puzzle: the same layers
    if family in UNCOUNTABLE:
        raise NotAModel(f"{name} is of the family '{family}', whose layers this course can't count yet.")
    if not any(str(a).endswith(GENERATES) for a in config.get("architectures") or ["CausalLM"]):
        raise NotAModel(f"{name} is a {config['architectures'][0]}, not a model that generates text.")
    c = _defaults(c, family, nested=any(isinstance(config.get(k), dict) for k in NESTED)) | c | {"model_type": family}
    hidden, vocab = _positive(c, "hidden_size", name), _positive(c, "vocab_size", name)
    try:
        c = sound.settle(c)
    except ValueError as e:
        raise NotAModel(f"the config of {name} can't be read as a language model: {e}.") from e
    listed = c.get("layers_block_type") or c.get("hybrid_override_pattern")
    if not listed and _positive(c, "num_hidden_layers", name) > MOST_LAYERS:
        raise NotAModel(f"the config of {name} says {c['num_hidden_layers']} layers: more than any model has.")
    if "mamba_num_heads" not in c:
        _positive(c, "num_attention_heads", name)
    if family not in _family_defaults().keys() | COUNTED:
        raise NotAModel(f"{name} is of the family '{str(family)[:60]}', which this course doesn't know: its layers can't be counted.")
    types, notes, width = layer_types(c), [], 0
    total, caches, routed, state = Counter(), Counter(), Counter(), 0
    layers_of: dict[str, list[int]] = defaultdict(list)             # which layers hold each kind of tensors
    blocks = c.get("block_configs") or [None] * len(types)
    for i, kind in enumerate(types):
        before = Counter(total)
        if kind not in ATTENTION | LINEAR | {"moe", "mlp"}:
            raise NotAModel(f"the config of {name} has a layer of type '{kind}', which this course can't count yet.")
        reuses = i >= len(types) - (c.get("num_kv_shared_layers") or 0)         # Gemma 4: an earlier layer's cache
        if kind in ATTENTION:
            total.update(L.attention(c, kind, reuses))
            caches[_cache(c, "full_attention" if kind == "attention" else kind)] += not reuses
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
            wide = c.get("intermediate_size_mlp") or c.get("intermediate_size") or (4 * hidden if family in FOUR_TIMES else 0)
            if not wide:
                raise NotAModel(f"the config of {name} doesn't say intermediate_size, how wide its feed-forward layers are.")
            wide = wide[i] if isinstance(wide, list) else wide * (2 if reuses and c.get("use_double_wide_mlp") else 1)
            total.update(L.mlp(c, wide))
            width = max(width, 3 * wide)
        for part in total.keys() | {"experts"}:
            if total[part] > before[part] or (part == "experts" and total["router"] > before["router"]):
                layers_of[part].append(i)
    total["small"] += L.last_norm(c)
    if family == "gpt2":
        total["small"] += hidden * c.get("max_position_embeddings", 1024)        # learned positions
    if c.get("hidden_size_per_layer_input"):                        # Gemma 4 E: a small input table for each layer
        total.update(L.layer_inputs(c, len(types)))
        notes.append("per-layer input tables are in the file, but only one row of each is read per token")
    tied = bool(c.get("tie_word_embeddings", family in {"gemma", "gemma2", "gemma3", "gemma3_text", "gemma4",
                                                        "gemma4_text", "gpt2", "cohere", "cohere2", "minicpm"}))
    total["embedding"] = vocab * hidden
    if not tied:
        total["head"] = vocab * hidden
    parts = [Part(kind, n) for kind, n in total.items() if n]
    parts += [Part(kind, n, e, k) for (kind, e, k), n in routed.items() if n]
    merged: Counter = Counter()
    for kept, n in caches.items():
        merged[(kept.elements, kept.window)] += n
    for key, what in (("vision_config", "vision tower"), ("audio_config", "audio tower")):
        if config.get(key):
            notes.append(f"{what} left out: it is in the file, but not read while text is generated")
    if c.get("num_nextn_predict_layers") or c.get("mtp_num_hidden_layers"):
        notes.append("multi-token prediction layers left out: they are read only when speculating")
    if min(p.params for p in parts) < 0 or min((c.elements for c in caches), default=0) < 0 or state < 0:
        raise NotAModel(f"the config of {name} has a negative size somewhere: it describes no model.")
    declared, keeps = quantization.declared(config, layers_of)
    notes += list(more.pop("notes", ()))
    return Model(
        name=name, family=family, layers=len(types), hidden=hidden, vocab=vocab,
        max_context=int(c.get("max_position_embeddings") or c.get("max_seq_len") or 0), tied=tied, parts=tuple(parts),
        caches=tuple(Cache(n, e, w) for (e, w), n in merged.items() if n), state_elements=state, width=width,
        attention_flops=_attention_flops(c), odd_rows=rows.odd_rows(c),
        unread="" if declared or not quantization.named(config) else quantization.method(config),
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
