"""quantization_config in its public forms, and the bytes that follow from it."""

import json

import pytest

from gb10 import catalog, roofline
from gb10.catalog import from_config
from gb10.catalog.quantization import declared

QWEN = {"model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936,
        "max_position_embeddings": 40960, "tie_word_embeddings": False}
FLOAT4 = {"num_bits": 4, "type": "float", "group_size": 16}
FP4_GROUP = {"group_0": {"weights": FLOAT4, "input_activations": FLOAT4, "targets": ["Linear"]}}
MODELOPT = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"], "config_groups": FP4_GROUP}


@pytest.mark.parametrize(("q", "name"), [
    (MODELOPT, "nvfp4"),
    ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}, "nvfp4"),
    ({"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4", "ignore": ["lm_head"]}, "nvfp4-w4a16"),
    ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
    ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized", "config_groups": FP4_GROUP, "ignore": ["lm_head"]},
     "nvfp4"),
    ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": FLOAT4, "input_activations": None}}},
     "nvfp4-w4a16"),
    ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}}}, "fp8"),
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
    ({"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}, "mxfp4"),
    ({"quant_method": "awq", "bits": 4}, "int4"), ({"quant_method": "gptq", "bits": 4}, "int4"),
    ({"quant_method": "something-new"}, ""), ({}, ""), (None, ""), ("fp8", "")])
def test_declared_format(q, name):
    assert declared({"quantization_config": q}, {"ffn": [0, 1]})[0] == name


def test_a_modelopt_checkpoint_is_read_as_what_it_is():
    m = from_config(QWEN | {"quantization_config": MODELOPT}, "m")
    assert m.declared == "nvfp4" and m.keeps == {"nvfp4": {"head": 16}}
    assert roofline.weight_bytes(m, "nvfp4") == roofline.weight_bytes(catalog.model("Qwen3-8B"), "nvfp4")
    p = roofline.fit(m)
    assert p.weights == "nvfp4"


def test_what_the_list_leaves_alone_is_counted_in_16_bit():
    plain = roofline.weight_bytes(from_config(QWEN | {"quantization_config": MODELOPT}, "m"), "nvfp4")
    attention = 1509949440
    for ignore in (["lm_head", "model.layers.*.self_attn*"], ["lm_head", "re:.*self_attn.*"],
                   ["lm_head", *(f"model.layers.{i}.self_attn" for i in range(36))]):
        m = from_config(QWEN | {"quantization_config": MODELOPT | {"ignore": ignore}}, "m")
        assert roofline.weight_bytes(m, "nvfp4") - plain == pytest.approx(attention * (16 - 4.5) / 8)
    third = from_config(QWEN | {"quantization_config": MODELOPT | {
        "ignore": ["lm_head", *(f"model.layers.{i}.mlp*" for i in range(12))]}}, "m")
    assert roofline.weight_bytes(third, "nvfp4") - plain == pytest.approx(5435817984 / 3 * (16 - 4.5) / 8)


def test_a_quantised_head_is_noticed():
    m = from_config(QWEN | {"quantization_config": MODELOPT | {"ignore": ["model.layers.0.mlp.gate_proj"]}}, "m")
    assert m.keeps["nvfp4"]["head"] == 4.5


def test_mixed_precision_names_every_layer():
    layers = {f"model.layers.{i}.{m}": {"quant_algo": a} for i in range(36)
              for m, a in (("self_attn.q_proj", "FP8"), ("mlp.gate_proj", "NVFP4"))} | {"lm_head": {"quant_algo": "NVFP4"}}
    every = {k: list(range(36)) for k in ("attention", "ffn")}
    name, keeps = declared({"quantization_config": {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}}, every)
    assert name == "nvfp4"
    assert keeps["nvfp4"] == {"attention": 8, "mixer": 16, "ffn": 4.5, "experts": 16, "shared": 16, "head": 4.5}


def test_the_older_file_beside_the_config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    assert catalog.model(str(tmp_path)).declared == ""
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(
        {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}))
    assert catalog.model(str(tmp_path)).declared == "nvfp4"


def test_gpt_oss_by_its_own_config():
    m = from_config({"model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 24, "num_attention_heads": 64,
                     "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 2880, "num_local_experts": 32,
                     "num_experts_per_tok": 4, "vocab_size": 201088, "sliding_window": 128, "tie_word_embeddings": False,
                     "quantization_config": {"quant_method": "mxfp4"}}, "m")
    assert catalog.formats_of(m) == ("mxfp4", "gguf-mxfp4")
    assert roofline.weight_bytes(m, "mxfp4") == roofline.weight_bytes(catalog.model("gpt-oss-20b"), "mxfp4")
    with pytest.raises(catalog.NotPublished, match="mxfp4, gguf-mxfp4"):
        roofline.fit(m, weights="nvfp4")


NEXT = {"model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 16, "num_key_value_heads": 2,
        "head_dim": 256, "intermediate_size": 5120, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
        "num_experts": 64, "num_experts_per_tok": 4, "decoder_sparse_step": 1, "linear_key_head_dim": 128,
        "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32, "full_attention_interval": 4,
        "vocab_size": 1000, "tie_word_embeddings": False}


def test_a_share_is_of_the_layers_that_have_the_tensors():
    """Two of eight layers have attention: naming both leaves all of it alone."""
    def keeps(*names):
        return from_config(NEXT | {"quantization_config": MODELOPT | {"ignore": ["lm_head", *names]}}, "m").keeps["nvfp4"]

    both = [f"model.layers.{i}.self_attn.{p}_proj" for i in (3, 7) for p in "qkvo"]
    assert keeps(*both) == {"attention": 16, "head": 16} and keeps(*both[:4])["attention"] == 10.25
    linear = [f"model.layers.{i}.linear_attn.{p}" for i in (0, 1, 2, 4, 5, 6) for p in ("in_proj_qkvz", "in_proj_ba", "out_proj")]
    assert keeps(*linear) == keeps("re:.*linear_attn.*") == keeps("*linear_attn*") == {"mixer": 16, "head": 16}
    assert keeps(*(n for n in linear if "out_proj" not in n))["mixer"] == 10.25


def test_nemotron_names_its_modules_differently():
    nano = catalog.find._rows()["Nemotron-3-Nano-30B-A3B"]["config"]
    names = [f"backbone.layers.{i}.mixer.{p}_proj" for i in (5, 12, 19, 26, 33, 42) for p in "qkvo"]
    names += [f"backbone.layers.{i}.mixer.{p}_proj" for i in (4, 11, 18, 25, 32, 41) for p in ("in", "out")]
    q = {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head", *names]}
    m = from_config(nano | {"quantization_config": q}, "m")
    assert m.keeps["nvfp4"] == {"attention": 16, "mixer": 4.5 + 11.5 * 6 / 23, "head": 16}
    assert roofline.read_weights(m, "nvfp4") == roofline.read_weights(catalog.model("Nemotron-3-Nano"), "nvfp4")


def test_mixed_precision_that_names_half_of_the_layers():
    layers = {f"model.layers.{i}.mlp.up_proj": {"quant_algo": "FP8"} for i in range(2)}
    q = {"quantization_config": {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}}
    assert declared(q, {"ffn": [0, 1, 2, 3]})[1]["fp8"]["ffn"] == 12


# ---------------------------------------------------------------- rows that are no multiple of 256

@pytest.mark.parametrize(("name", "bits", "off"), [
    ("GLM-4.5-Air", 67.96 * 2**30 * 8 / 110.47e9, 0.06),       # the file of 67.96 GiB that llama.cpp makes of it, with its MTP layer
    ("Nemotron-3-Nano", 6.18, 0.10),                           # ggml-org/llama.cpp PR #28474
    ("Qwen3-30B-A3B", 4.85, 0.03), ("Qwen3-8B", 4.95, 0.1)])   # all rows fit
def test_k_quants_of_odd_rows(name, bits, off):
    m = catalog.model(name)
    assert roofline.weight_bytes(m, "q4_k_m") * 8 / m.params == pytest.approx(bits, abs=off)


def test_other_types_have_blocks_of_32_and_need_no_fallback():
    m = catalog.model("Nemotron-3-Nano")
    assert m.odd_rows["experts"] == (0.5, 0.5)
    for fmt, bits in (("q8_0", 8.5), ("q4_0", 4.5), ("nvfp4", 4.5)):
        assert catalog.weight_format(fmt).bits_of("experts", m) == bits
    assert catalog.weight_format("q6_k").bits_of("experts", m) == 8.5
    assert catalog.weight_format("q4_k_m").bits_of("experts", m) == pytest.approx(4.85 + 0.5 * 1.0 + 0.5 * (7 - 5.53125))
