"""Families of config.json, counted by the course and, independently, by building the model in transformers.

The configs are small but of the public shape of each family. Models are built on torch's meta device: no memory, no
weights. Counted is the language model; a vision tower, where there is one, is left out on both sides.
"""

import contextlib
import json
import logging

import family_defaults
import pytest

from gb10.catalog import NotAModel, from_config

BASE = {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 2,
        "intermediate_size": 1408, "vocab_size": 3200, "max_position_embeddings": 4096, "tie_word_embeddings": False}
MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256}
ROUTED = {"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 256, "n_group": 1,
          "topk_group": 1}
LATENT = {"num_key_value_heads": 8, "kv_lora_rank": 64, "q_lora_rank": 96, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32,
          "v_head_dim": 32}
DELTA = {"head_dim": 64, "linear_num_key_heads": 4, "linear_num_value_heads": 8, "linear_key_head_dim": 32,
         "linear_value_head_dim": 32}
MAMBA = {"mamba_n_heads": 16, "mamba_d_head": 64, "mamba_d_state": 64, "mamba_n_groups": 1}
HD = {"head_dim": 64}
TIED = HD | {"tie_word_embeddings": True}
WINDOW = {"sliding_window": 512}
PAD = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}

# family (and variant): what it adds to BASE, and the caches: (layers, elements per token, window)
ALL = [(6, 256, None)]
FAMILIES = {
    "llama": ({}, ALL), "llama biased": ({"attention_bias": True, "mlp_bias": True}, ALL), "qwen2": ({}, ALL),
    "qwen3": ({"head_dim": 128}, [(6, 512, None)]), "qwen3 biased": (HD | {"attention_bias": True}, ALL),
    "mistral": ({"sliding_window": 1024}, [(6, 256, 1024)]), "mistral full": ({"sliding_window": None}, ALL),
    "ministral": (HD, [(6, 256, 4096)]), "gemma": (TIED, ALL), "gemma2": (TIED | WINDOW, [(3, 256, 512), (3, 256, None)]),
    "gemma3_text": (TIED | WINDOW, [(5, 256, 512), (1, 256, None)]),
    "gemma4_text": (TIED | WINDOW | {"global_head_dim": 128, "hidden_size_per_layer_input": 0, "attention_k_eq_v": True,
                                     "num_global_key_value_heads": 1}, [(5, 256, 512), (1, 256, None)]),
    "gemma4_text moe": (TIED | WINDOW | {"global_head_dim": 128, "hidden_size_per_layer_input": 0, "enable_moe_block": True,
                                         "num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 128},
                        [(5, 256, 512), (1, 512, None)]),
    "phi": ({}, ALL), "phi3": (WINDOW | PAD, [(6, 256, 512)]), "glm": (HD | PAD | {"attention_bias": True}, ALL),
    "glm4": (HD | PAD | {"attention_bias": True}, ALL), "olmo": ({}, ALL), "olmo2": ({}, ALL),
    "olmo3": (WINDOW, [(5, 256, 512), (1, 256, None)]), "olmoe": ({"num_experts": 8, "num_experts_per_tok": 2}, ALL),
    "mixtral": ({"num_local_experts": 8, "num_experts_per_tok": 2}, ALL),
    "phimoe": ({"num_local_experts": 8, "num_experts_per_tok": 2, "attention_bias": True, "lm_head_bias": True}, ALL),
    "qwen2_moe": (MOE | {"shared_expert_intermediate_size": 512, "decoder_sparse_step": 2}, ALL),
    "qwen3_moe": (MOE | HD | {"decoder_sparse_step": 1, "mlp_only_layers": [0, 3]}, ALL),
    "deepseek_v2": (LATENT | ROUTED | {"q_lora_rank": None, "first_k_dense_replace": 1}, [(6, 80, None)]),
    "deepseek_v3": (LATENT | ROUTED | {"first_k_dense_replace": 2}, [(6, 80, None)]),
    "glm4_moe_lite": (LATENT | ROUTED, [(6, 80, None)]),
    "glm4_moe": (HD | ROUTED | {"first_k_dense_replace": 1, "use_qk_norm": True, "attention_bias": True}, ALL),
    "gpt_oss": (HD | {"num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": 128, "intermediate_size": 512},
                [(3, 256, 128), (3, 256, None)]),
    "minimax_m2": (HD | {"num_local_experts": 8, "num_experts_per_tok": 2}, ALL),
    "llama4_text": (HD | {"num_local_experts": 8, "num_experts_per_tok": 1, "intermediate_size_mlp": 2048,
                          "interleave_moe_layer_step": 2, "intermediate_size": 512}, [(5, 256, 8192), (1, 256, None)]),
    "nemotron_h": (HD | ROUTED | {"hybrid_override_pattern": "MEM*-E", "mamba_num_heads": 16, "mamba_head_dim": 32,
                                  "ssm_state_size": 64, "n_groups": 2, "conv_kernel": 4, "moe_latent_size": 128,
                                  "moe_shared_expert_intermediate_size": 512}, [(1, 256, None)]),
    "qwen3_next": (DELTA | MOE | {"shared_expert_intermediate_size": 256}, [(1, 256, None)]),
    "qwen3_5_text": (DELTA, [(1, 256, None)]),
    "qwen3_5_moe_text": (DELTA | MOE | {"shared_expert_intermediate_size": 256}, [(1, 256, None)]),
    "granitemoehybrid": (MAMBA | {"layer_types": ["mamba", "mamba", "attention"] * 2, "num_local_experts": 8,
                                  "num_experts_per_tok": 2, "shared_intermediate_size": 256, "mamba_expand": 2},
                         [(2, 256, None)]),
    "lfm2": ({"block_auto_adjust_ff_dim": False, "full_attn_idxs": [2, 5]}, [(2, 256, None)]),
    "granite": ({}, ALL), "granitemoe": ({"num_local_experts": 8, "num_experts_per_tok": 2}, ALL),
    "cohere": ({"tie_word_embeddings": True}, ALL), "cohere2": ({"tie_word_embeddings": True, "head_dim": 64} | WINDOW, None),
    "smollm3": (PAD, ALL), "seed_oss": (HD | {"attention_bias": True, "attention_out_bias": False}, ALL),
    "ernie4_5": (HD, ALL), "exaone4": (WINDOW, [(5, 256, 512), (1, 256, None)]), "starcoder2": ({"use_bias": True}, ALL),
    "stablelm": ({}, ALL), "nemotron": (HD, ALL), "hunyuan_v1_dense": (HD, ALL), "arcee": (HD, ALL),
    "dots1": (HD | ROUTED | {"first_k_dense_replace": 1}, ALL),
    "gpt_neox": ({"num_key_value_heads": 8}, [(6, 1024, None)]),
}
NESTED = {
    "gemma3": {"model_type": "gemma3_text", "hidden_size": 512, "num_hidden_layers": 6, "intermediate_size": 1024,
               "sliding_window": 1024},                          # heads and vocabulary left out, as google/gemma-3-4b-it does
    "qwen2_5_vl": BASE | {"model_type": "qwen2_5_vl_text"}, "qwen3_vl": BASE | HD | {"model_type": "qwen3_vl_text"},
    "llama4": BASE | HD | {"model_type": "llama4_text", "intermediate_size_mlp": 1024, "intermediate_size": 512},
    "qwen3_5": BASE | HD | {"model_type": "qwen3_5_text", "num_hidden_layers": 8},
    "qwen3_5_moe": BASE | HD | MOE | {"model_type": "qwen3_5_moe_text", "num_hidden_layers": 8},
}


def in_transformers(config):
    """(parameters of the language model, the configuration as transformers would save it)."""
    import torch
    import transformers
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText

    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    built = CONFIG_MAPPING[config["model_type"]](**{k: v for k, v in config.items() if k != "model_type"})
    maker = AutoModelForImageTextToText if "text_config" in config else AutoModelForCausalLM
    with torch.device("meta"), contextlib.suppress(FutureWarning):
        model = maker.from_config(built)
    logging.disable(logging.NOTSET)
    language = {n: t.numel() for n, t in model.named_parameters() if "visual" not in n and "vision" not in n
                and "multi_modal_projector" not in n}
    router = sum(t.numel() for n, t in model.named_buffers() if "correction_bias" in n)      # a buffer there, stored all the same
    return sum(language.values()) + router, built.to_dict()


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name):
    more, caches = FAMILIES[name]
    config = BASE | more | {"model_type": name.split()[0]}
    true, saved = in_transformers(config)
    ours = from_config(config, name)
    assert ours.params == true
    assert from_config(saved, name).params == true                     # with every field written out
    if caches:
        assert [(c.layers, c.elements, c.window) for c in ours.caches] == caches
    assert 0 < ours.params_read <= ours.params and not ours.notes
    if name.split()[0] in ("nemotron_h", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "granitemoehybrid", "lfm2"):
        assert ours.hybrid


@pytest.mark.parametrize("name", NESTED)
def test_family_with_a_vision_tower(name):
    config = {"model_type": name, "text_config": NESTED[name]}
    true, _ = in_transformers(config)
    ours = from_config(config | {"vision_config": {"hidden_size": 1}}, name)
    assert ours.params == true
    assert any("vision tower" in note for note in ours.notes)


def test_the_defaults_are_those_of_transformers():
    assert family_defaults.FILE.read_text() == family_defaults.text()


def test_an_unknown_family_is_refused():
    with pytest.raises(NotAModel, match="brand_new"):
        from_config(BASE | {"model_type": "brand_new"}, "x")


@pytest.mark.parametrize("family", ["jamba", "gemma3n", "mamba", "dbrx", "falcon", "opt", "nemotron-nas"])
def test_a_family_that_can_not_be_counted_is_refused(family):
    with pytest.raises(NotAModel, match=family):
        from_config(BASE | {"model_type": family}, "x")


def test_layers_of_different_experts():
    """Nemotron Puzzle: block_configs override the size of single MoE layers."""
    config = BASE | HD | ROUTED | {"model_type": "nemotron_h_puzzle", "layers_block_type": ["moe", "attention", "moe"],
                                   "moe_intermediate_size": 100}
    same = from_config(config, "x")
    other = from_config(config | {"block_configs": [{"moe_intermediate_size": 50}, {}, {}]}, "x")
    each = 2 * 512                                                     # up and down, no gate
    assert same.count("experts") == 2 * 8 * 100 * each
    assert other.count("experts") == 8 * (100 + 50) * each


@pytest.mark.parametrize("name", ["llama", "gpt_oss", "deepseek_v3", "nemotron_h", "qwen3_next", "gemma3_text", "llama4_text"])
@pytest.mark.parametrize("value", [None, -3, 0, 1.5, "many", [], {}, True, 10**9])
def test_a_damaged_config_is_a_model_or_one_sentence(tmp_path, name, value):
    from gb10 import catalog, roofline

    whole = BASE | FAMILIES[name][0] | {"model_type": name, "quantization_config": {"quant_method": "fp8"}}
    for field in [*whole, "layer_types", "text_config", "sliding_window", "architectures", "block_configs"]:
        (tmp_path / "config.json").write_text(json.dumps(whole | {field: value}))
        try:
            m = catalog.model(str(tmp_path))
        except ValueError as e:
            assert "\n" not in str(e) and len(str(e)) > 30, (field, value)
        else:
            assert m.params > 0 and all(p.params >= 0 for p in m.parts), (field, value)
            assert roofline.fit(m, weights="bf16" if m.unread else None).weight_bytes > 0
