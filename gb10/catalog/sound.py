"""Are the numbers of a config.json sizes at all? What isn't is refused with its field's name: a size is never guessed."""

from __future__ import annotations

from gb10.catalog import experts

# field -> most that any model could have; all are whole numbers, and none is below the least
_WIDE, _MANY = 10**6, 10**5
MOST = {
    "hidden_size": _WIDE, "intermediate_size": _WIDE, "intermediate_size_mlp": _WIDE, "moe_intermediate_size": _WIDE,
    "expert_ffn_hidden_size": _WIDE, "moe_shared_expert_intermediate_size": _WIDE, "shared_expert_intermediate_size": _WIDE,
    "shared_intermediate_size": _WIDE, "moe_latent_size": _WIDE, "vocab_size": 10**8, "max_position_embeddings": 10**9,
    "num_attention_heads": _MANY, "num_key_value_heads": _MANY, "num_kv_heads": _MANY, "head_dim": _MANY, "global_head_dim": _MANY,
    "num_global_key_value_heads": _MANY, "kv_lora_rank": _WIDE, "q_lora_rank": _WIDE, "qk_rope_head_dim": _MANY,
    "qk_nope_head_dim": _MANY, "v_head_dim": _MANY, "mamba_num_heads": _MANY, "mamba_n_heads": _MANY, "mamba_head_dim": _MANY,
    "mamba_d_head": _MANY, "ssm_state_size": _MANY, "mamba_d_state": _MANY, "n_groups": _MANY, "mamba_n_groups": _MANY,
    "conv_kernel": _MANY, "mamba_d_conv": _MANY, "linear_num_key_heads": _MANY, "linear_num_value_heads": _MANY,
    "linear_key_head_dim": _MANY, "linear_value_head_dim": _MANY, "linear_conv_kernel_dim": _MANY, "first_k_dense_replace": _MANY,
    "num_nextn_predict_layers": _MANY, "full_attention_interval": _MANY, "decoder_sparse_step": _MANY,
    **dict.fromkeys((*experts.NUMBER, *experts.TOP_K, *experts.SHARED), _MANY)}
POSITIVE = {"num_key_value_heads", "head_dim", "max_position_embeddings", "full_attention_interval", "decoder_sparse_step"}


def settle(c: dict) -> dict:
    """The config with lists of one value for all layers (Hunyuan) made that value. Raises ValueError with what is odd."""
    for field, most in MOST.items():
        value = c.get(field)
        if isinstance(value, list) and value and all(v == value[0] for v in value):
            value = c[field] = value[0]
        if value is None:
            continue
        for v in value if isinstance(value, list) and field == "intermediate_size" else [value]:
            if isinstance(v, bool) or not isinstance(v, int) or not (field in POSITIVE) <= v <= most:
                raise ValueError(f"it says {str(value)[:60]!r} for {field}")
    nh, nkv = c.get("num_attention_heads"), c.get("num_key_value_heads")
    if isinstance(nh, int) and nkv and nkv > nh:
        raise ValueError(f"it says {nkv} heads for keys and values beside {nh} for queries")
    if experts.top_k(c) > experts.number(c) > 0:
        raise ValueError(f"it says that a token takes {experts.top_k(c)} of {experts.number(c)} experts")
    if c.get("tie_word_embeddings") not in (None, True, False):
        raise ValueError(f"it says {c['tie_word_embeddings']!r} for tie_word_embeddings")
    listed, n = c.get("layer_types"), c.get("num_hidden_layers")
    if isinstance(listed, list) and isinstance(n, int) and len(listed) < n:
        raise ValueError(f"it lists the types of {len(listed)} layers and says that it has {n}")
    return c
