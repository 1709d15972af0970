"""Mixture-of-experts layers, as the different config.json families describe them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gb10.catalog import layers as L

SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")


@dataclass(frozen=True)
class Moe:
    """One MoE layer: `experts` experts of `each` parameters, of which a token takes top_k; and the rest of it."""

    experts: int
    top_k: int
    each: int
    rest: Counter                     # shared experts, router, biases outside the experts
    biases: int = 0                   # biases of one expert; they are never quantised


NUMBER = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def number(c: dict) -> int:
    return next((c[k] for k in NUMBER if isinstance(c.get(k), int) and c[k]), 0)


TOP_K = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k")


def top_k(c: dict) -> int:
    return next((c[k] for k in TOP_K if c.get(k)), 0)


def is_moe_layer(c: dict, i: int) -> bool:
    """Does layer i (from 0) have routed experts?"""
    if not number(c) or (c.get("model_type", "").startswith("gemma4") and not c.get("enable_moe_block", True)):
        return False
    types = c.get("mlp_layer_types")
    if types:
        return types[i] == "sparse"
    if c.get("moe_layers"):
        return i in c["moe_layers"]
    if c.get("interleave_moe_layer_step"):                       # Llama 4
        step = c["interleave_moe_layer_step"]
        return i >= step - 1 and (i - step + 1) % step == 0
    if i in (c.get("mlp_only_layers") or ()):                    # Qwen
        return False
    first = c.get("first_k_dense_replace", c.get("num_dense_layers", c.get("moe_layer_start_index")))
    first = 1 if first is None and c.get("model_type") == "glm4_moe_lite" else first
    if i < (first or 0):                                         # DeepSeek, GLM, LFM2, Ernie
        return False
    if "moe_layer_freq" in c and isinstance(c["moe_layer_freq"], list):
        return bool(c["moe_layer_freq"][i])
    step = c.get("decoder_sparse_step") or c.get("moe_layer_freq") or 1
    return (i + 1) % step == 0 if c.get("decoder_sparse_step") else i % step == 0


def layer(c: dict, block: dict | None = None) -> Moe:
    """The MoE layer of this config; `block` overrides fields where layers differ (Nemotron Puzzle)."""
    c = {**c, **(block or {})}
    h, family, n = c["hidden_size"], c.get("model_type", ""), number(c)
    width = c.get("moe_intermediate_size") or c.get("expert_ffn_hidden_size") or c.get("intermediate_size")
    width = width[0] if isinstance(width, list) else width
    inside = c.get("moe_latent_size") or h                       # Nemotron-3-Super: experts work in a smaller space
    matrices = 2 if family in L.PLAIN_MLP else 3
    each = matrices * inside * width
    rest, biases = Counter(router=h * n), 0
    if inside != h:
        rest["shared"] += 2 * h * inside
    if family == "gpt_oss":
        biases = 2 * width + h
        rest["small"] += n
    if c.get("use_expert_bias") or c.get("scoring_func") == "sigmoid" or family in {"deepseek_v3", "glm4_moe", "glm4_moe_lite", "nemotron_h",
                                                        "minimax_m2", "kimi_k2", "dots1", "ernie4_5_moe"}:
        rest["small"] += n                                       # the correction bias of the router
    if family == "llama4_text":
        rest["shared"] += 3 * h * c["intermediate_size"]
    elif c.get("shared_expert_intermediate_size"):               # Qwen: one shared expert, behind a gate
        rest["shared"] += 3 * h * c["shared_expert_intermediate_size"]
        rest["router"] += h
    elif c.get("moe_shared_expert_intermediate_size"):           # Nemotron
        rest["shared"] += matrices * h * c["moe_shared_expert_intermediate_size"] * (c.get("n_shared_experts") or 1)
    elif c.get("shared_intermediate_size"):                      # Granite
        rest["shared"] += 3 * h * c["shared_intermediate_size"]
    elif shared := next((c[k] for k in SHARED if isinstance(c.get(k), int) and c[k]), 0):
        rest["shared"] += 3 * h * width * shared
    if family.startswith("gemma4"):                              # a dense MLP beside the experts, with norms and scales
        rest.update(L.mlp(c, c["intermediate_size"]))
        rest["small"] += 3 * h + h + n
    return Moe(n, top_k(c), each, rest, biases)
