"""Which part of a model a tensor belongs to, by its name as Hugging Face and as GGUF write it."""

from __future__ import annotations

import re
from functools import lru_cache

# kind -> what it is called on the page
TITLES = {
    "embedding": "embeddings", "attention": "attention", "mlp": "MLP", "experts": "experts", "shared": "shared experts",
    "router": "router", "mixer": "linear attention, state space", "head": "output head", "norm": "norms",
    "bias": "biases", "mtp": "draft layers (MTP)", "vision": "vision, audio", "lora": "adapters", "other": "other",
}
LINEAR = {"attention", "mlp", "experts", "shared", "mixer"}      # what a default recipe quantizes

_NORM = r"(?:^|[._])(?:layer|rms|batch|group)?norm\d*(?:[._]|$)|layernorm|(?:^|\.)ln_"
_RULES = tuple((kind, re.compile(pattern)) for kind, pattern in (
    ("vision", r"vision|visual|audio|image|mm_projector|multi_modal|speech|^v\.|^a\.|^mm\."),
    ("mtp", r"(?:^|\.)mtp(?:\.|$)|nextn|eagle|medusa"),
    ("lora", r"lora_[ab]|svdquant_lora"),
    ("head", r"(?:^|\.)(?:lm_head|output|embed_out)(?:\.weight|\.bias)?$"),
    ("norm", _NORM),
    ("embedding", r"embed_tokens|token_embd|wte|wpe|tok_embeddings|position_embd|embeddings?(?:\.|$)|per_layer_tok"),
    ("shared", r"shared_expert(?!_gate)|shared_mlp|_shexp"),
    ("router", (r"router|(?:mlp|block_sparse_moe|feed_forward|mixer)\.gate(?:\.|$)|shared_expert_gate|ffn_gate_inp"
                r"|exp_probs|e_score_correction")),
    ("experts", r"experts|_exps(?:\.|$)"),
    ("mixer", r"linear_attn|\.mixer\.|mamba|\.ssm|ssm_|conv1d|short_?conv|recurrent|attn_qkv_?gate"),
    ("attention", r"attn|attention|[._][qkv]_proj|qkv_proj|o_proj|attn_[qkvo]|sinks|c_attn"),
    ("mlp", r"mlp|ffn|feed_forward|gate_proj|up_proj|down_proj|gate_up|fc[12]|\.w[123](?:\.|$)"),
))


def kind_of(name: str) -> str:
    """A key of TITLES for a tensor's or a module's name."""
    return _kind(pattern_of(name[:512]))


@lru_cache(maxsize=10_000)
def _kind(name: str) -> str:
    if re.search(r"(?:\.|_)bias(?:es)?$", name) and not re.search(_NORM, name):
        return "bias"
    return next((kind for kind, rule in _RULES if rule.search(name)), "other")


def pattern_of(name: str) -> str:
    """The name with the numbers of layers and experts as *: model.layers.*.mlp.up_proj."""
    first, *rest = name.split(".")
    return ".".join([first, *("*" if part.isdigit() else part for part in rest)])
