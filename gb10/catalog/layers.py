"""Parameter counts of one layer's pieces, from the fields of a Hugging Face config.json.

Each function takes the (text) config as a dict and returns {kind: parameters} for ONE layer. The shapes are those of
the transformers library (huggingface/transformers, src/transformers/models/<model_type>/modeling_<model_type>.py).
"""

from __future__ import annotations

from collections import Counter

# model types whose query, key and value projections have biases although the config doesn't say so
QKV_BIAS = {"qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_vl_text", "qwen2_5_vl_text", "dream"}
OUTPUT_BIAS = {"llama", "gpt_oss", "granite", "qwen3", "qwen3_moe", "phimoe"}   # where
# attention_bias reaches o_proj too
HEAD_NORM = {"qwen3", "qwen3_moe", "qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text",
             "qwen3_vl", "qwen3_vl_text", "qwen3_vl_moe", "qwen3_vl_moe_text", "gemma3", "gemma3_text", "gemma4",
             "gemma4_text", "exaone4", "lfm2", "lfm2_moe", "apertus", "hunyuan_v1_dense",
             "hunyuan_v1_moe", "dots1"}
WIDE_NORM = {"olmo2", "olmo3", "olmoe", "minimax_m2", "flex_olmo"}    # normed over all heads at once
GATED_QUERY = {"qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"}
FOUR_NORMS = {"gemma2", "gemma3", "gemma3_text", "gemma3n_text", "gemma4", "gemma4_text", "glm4"}
ONE_NORM = {"phi", "cohere", "cohere2"}
NORM_BIAS = {"phi", "gpt_neox", "gpt2", "starcoder2", "phimoe", "nemotron", "stablelm", "opt"}
PLAIN_MLP = {"nemotron_h", "nemotron", "starcoder2", "phi", "gpt_neox", "gpt2", "arcee", "apertus", "opt"}
OUTER_BIAS = {"phi", "gpt_neox", "gpt2", "opt", "starcoder2"}         # biases on every linear layer


def heads(c: dict) -> tuple[int, int, int]:
    """(query heads, key/value heads, head dimension)."""
    nh = c["num_attention_heads"]
    nkv = c.get("num_key_value_heads") or c.get("num_kv_heads") or c.get("multi_query_group_num") or nh
    return nh, nkv, c.get("head_dim") or c.get("kv_channels") or c["hidden_size"] // nh


def attention(c: dict, kind: str = "full_attention", reuses: bool = False) -> Counter:
    """Projections, their biases and norms of one attention layer; one that reuses another's cache has no K and V."""
    if c.get("kv_lora_rank"):
        return latent_attention(c)
    h, family, values = c["hidden_size"], c.get("model_type", ""), True
    nh, nkv, hd = heads(c)
    c = {"attention_bias": True, **c} if family == "gpt_oss" else c
    if family.startswith("gemma4") and kind == "full_attention":      # wider heads in the full layers, K used as V
        hd = c.get("global_head_dim") or hd
        if c.get("attention_k_eq_v"):
            nkv, values = c.get("num_global_key_value_heads") or nkv, False
    q, kv = nh * hd, nkv * hd
    own = 0 if reuses else h * kv * (2 if values else 1)
    out = Counter(attention=h * q * (2 if family in GATED_QUERY else 1) + own + q * h)
    if family in QKV_BIAS or c.get("attention_bias") or c.get("qkv_bias") or c.get("add_qkv_bias") \
            or family in OUTER_BIAS:
        out["small"] += q + 2 * kv
        if (c.get("attention_bias") and family in OUTPUT_BIAS) or family in OUTER_BIAS or c.get("attention_out_bias"):
            out["small"] += h
    if family in HEAD_NORM or (c.get("use_qk_norm") and family not in WIDE_NORM and family != "llama4_text"):
        out["small"] += hd if reuses else 2 * hd
    if family in WIDE_NORM:
        out["small"] += q + kv
    if family == "bitnet":
        out["small"] += h + c["intermediate_size"]
    if family == "gpt_oss":
        out["small"] += nh                      # one sink per head
    return out


def latent_attention(c: dict) -> Counter:
    """Multi-head latent attention (DeepSeek V2/V3, arXiv 2405.04434): keys and values pass through a small latent."""
    h, nh = c["hidden_size"], c["num_attention_heads"]
    rank, rope, nope, v = c["kv_lora_rank"], c["qk_rope_head_dim"], c["qk_nope_head_dim"], c["v_head_dim"]
    q_rank = c.get("q_lora_rank")
    q = h * q_rank + q_rank * nh * (nope + rope) if q_rank else h * nh * (nope + rope)
    out = Counter(attention=q + h * (rank + rope) + rank * nh * (nope + v) + nh * v * h, small=rank + (q_rank or 0))
    if c.get("index_n_heads"):                                       # DeepSeek V3.2: picks the tokens to attend to
        out["attention"] += (q_rank or h) * c["index_n_heads"] * c["index_head_dim"] + h * c["index_head_dim"]
        out["attention"] += h * c["index_n_heads"]
        out["small"] += 2 * c["index_head_dim"]
    return out


def mamba(c: dict) -> Counter:
    """A Mamba-2 layer (Nemotron-H, Granite 4, Falcon-H1 name the fields differently)."""
    h = c["hidden_size"]
    nh = c.get("mamba_num_heads") or c.get("mamba_n_heads")
    inner = nh * (c.get("mamba_head_dim") or c.get("mamba_d_head"))
    groups = c.get("n_groups") or c.get("mamba_n_groups") or 1
    state = c.get("ssm_state_size") or c.get("mamba_d_state")
    width = inner + 2 * groups * state
    kernel = c.get("conv_kernel") or c.get("mamba_d_conv") or 4
    return Counter(mixer=h * (inner + width + nh) + inner * h, small=width * (kernel + 1) + 3 * nh + inner)


def mamba_state(c: dict) -> int:
    """Numbers that one Mamba-2 layer carries per sequence."""
    nh = c.get("mamba_num_heads") or c.get("mamba_n_heads")
    state = c.get("ssm_state_size") or c.get("mamba_d_state")
    return nh * (c.get("mamba_head_dim") or c.get("mamba_d_head")) * state


def delta_net(c: dict) -> Counter:
    """A gated DeltaNet layer (Qwen3-Next, Qwen3.5 and 3.6)."""
    h, kernel = c["hidden_size"], c.get("linear_conv_kernel_dim", 4)
    nv, vd = c["linear_num_value_heads"], c["linear_value_head_dim"]
    k, v = c["linear_num_key_heads"] * c["linear_key_head_dim"], nv * vd
    return Counter(mixer=h * (2 * k + 2 * v) + h * 2 * nv + v * h, small=(2 * k + v) * kernel + 2 * nv + vd)


def delta_state(c: dict) -> int:
    return c["linear_num_value_heads"] * c["linear_value_head_dim"] * c["linear_key_head_dim"]


def short_conv(c: dict) -> Counter:
    """The gated short convolution of LFM2."""
    h = c["hidden_size"]
    return Counter(mixer=3 * h * h + h * h, small=h * c.get("conv_L_cache", 3))


def mlp(c: dict, width: int) -> Counter:
    """A dense feed-forward layer of this width: gate, up and down, or up and down only."""
    h, family = c["hidden_size"], c.get("model_type", "")
    matrices = 2 if family in PLAIN_MLP else 3
    out = Counter(ffn=matrices * h * width)
    if c.get("mlp_bias") or family in OUTER_BIAS or (c.get("use_bias") and family == "starcoder2"):
        out["small"] += (matrices - 1) * width + h
    return out


def layer_inputs(c: dict, layers: int) -> Counter:
    """Gemma 4 E: every layer gets a vector of its own for each token, looked up in a table of its own."""
    h, small = c["hidden_size"], c["hidden_size_per_layer_input"]
    vocab = c.get("vocab_size_per_layer_input") or c["vocab_size"]
    return Counter(aside=vocab * layers * small, ffn=h * layers * small + 2 * layers * h * small, small=small + layers * h)


def norms(c: dict) -> int:
    """Norm weights of one transformer layer outside its attention."""
    family = c.get("model_type")
    per = 0 if family == "olmo" else 4 if family in FOUR_NORMS else 1 if family in ONE_NORM else 2
    return per * c["hidden_size"] * (2 if family in NORM_BIAS else 1)


def last_norm(c: dict) -> int:
    """The norm before the head, and the biases of a head that has some."""
    family, h = c.get("model_type"), c["hidden_size"]
    head = c["vocab_size"] if c.get("lm_head_bias") or family == "phi" else 0
    return head + (0 if family == "olmo" else 2 * h if family in NORM_BIAS else h)
