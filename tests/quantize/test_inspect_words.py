"""What the report says of scales, of the metadata, of what stayed, of the KV cache, and the warnings it gives."""

import json
import math
import struct

import pytest
from checkpoint_files import compressed, f32, folder, modelopt, safetensors, under

from gb10.quantize.inside.as_json import as_dict
from gb10.quantize.inside.declared import Ignored, _harmless
from gb10.quantize.inside.page import page
from gb10.quantize.inside.report import inspect

L = "model.layers.0."
MODELOPT = {"quantization_config": {"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4", "ignore": ["lm_head"]}}


def look(tmp_path, tensors, config=None, hf_quant=None):
    return inspect(folder(tmp_path / "c", tensors, config, hf_quant))


def codes(report) -> set:
    return {code for code, _ in report.warnings}


# ---------------------------------------------------------------- scales

def test_both_conventions_say_the_amax_they_imply(tmp_path):
    r = look(tmp_path, under(L + "mlp.up_proj", modelopt(scale=1 / 2688, input_scale=10 / 2688))
             | under(L + "mlp.down_proj", compressed(scale=2688 / 4)))
    found = {s.tensor: s for s in r.scales}
    assert found["weight_scale_2"].rule == "multiply" and found["weight_scale_2"].amax == pytest.approx(1, rel=1e-6)
    assert found["weight_global_scale"].rule == "divide" and found["weight_global_scale"].amax == pytest.approx(4, rel=1e-6)
    assert found["input_scale"].amax == pytest.approx(10, rel=1e-6) and found["input_scale"].what == "input"
    text = " ".join(" ".join(page(r)).split())
    assert "amax / 2688" in text and "2688 / amax" in text and "stands for amax 4" in text


@pytest.mark.parametrize("parts", [modelopt(scale=28000.0), compressed(scale=1e-4)])
def test_a_scale_of_the_other_convention_is_noticed(tmp_path, parts):
    r = look(tmp_path, under(L + "mlp.up_proj", parts))
    assert "scale-convention" in codes(r) and "the inverse" in dict(r.warnings)["scale-convention"]
    assert "scale-convention" not in codes(inspect(folder(tmp_path / "d", under(L + "mlp.up_proj", modelopt()))))
    assert "scale-convention" not in codes(inspect(folder(tmp_path / "e", under(L + "mlp.up_proj", compressed()))))


@pytest.mark.parametrize(("value", "word"), [(math.nan, "not a number"), (0.0, "zero"), (-1e-4, "negative"), (math.inf, "infinite")])
@pytest.mark.parametrize(("role", "code"), [("weight_scale_2", "bad-weight-scale"), ("input_scale", "bad-input-scale")])
def test_scales_that_cannot_be(tmp_path, value, word, role, code):
    r = look(tmp_path, under(L + "mlp.up_proj", modelopt(input_scale=.01) | {role: f32(value)}))
    assert word in dict(r.warnings)[code]
    json.loads(json.dumps(r.to_dict(tensors=True), allow_nan=False))     # no NaN reaches a script
    assert "\n".join(page(r))


def test_a_bf16_scale_is_read(tmp_path):
    """compressed-tensors stores it so where the weights are BF16: 28032 = 0x46db."""
    r = look(tmp_path, under(L + "mlp.up_proj", compressed() | {"weight_global_scale": ("BF16", (1,), struct.pack("<H", 0x46DB))}))
    assert r.scales[0].value == 28032


@pytest.mark.parametrize(("names", "what"), [(("self_attn.q_proj", "self_attn.k_proj"), "q, k and v"), (("mlp.gate_proj", "mlp.up_proj"), "gate"),
                                             (("mlp.experts.3.gate_proj", "mlp.experts.3.up_proj"), "gate"),
                                             (("block_sparse_moe.experts.1.w1", "block_sparse_moe.experts.1.w3"), "w1 and w3")])
@pytest.mark.parametrize("make", [modelopt, compressed])
def test_fused_layers_must_share_a_scale(tmp_path, names, what, make):
    value = 1e-4 if make is modelopt else 1e4
    same = [under(L + n, make(scale=value)) for n in names]
    assert "fused-scales" not in codes(look(tmp_path, same[0] | same[1]))
    other = under(L + names[1], make(scale=2 * value))
    warned = dict(inspect(folder(tmp_path / "d", same[0] | other)).warnings)["fused-scales"]
    assert what in warned and "2 times" in warned and "vLLM" in warned


def test_layers_that_are_not_fused_need_not_share(tmp_path):
    r = look(tmp_path, under(L + "mlp.down_proj", modelopt(scale=1e-4)) | under(L + "mlp.up_proj", modelopt(scale=3e-4))
             | under("model.layers.1.mlp.gate_proj", modelopt(scale=9e-4)))
    assert "fused-scales" not in codes(r)


# ---------------------------------------------------------------- metadata against tensors

def quantized(**more):
    return under(L + "mlp.up_proj", modelopt(**more))


@pytest.mark.parametrize(("tensors", "config", "hf_quant", "code"), [
    (quantized(), None, None, "undeclared"),
    (quantized(), {}, None, "undeclared"),
    ({L + "mlp.up_proj.weight": ("BF16", (32, 64))}, MODELOPT, None, "not-quantized"),
    (quantized(), {"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}, None, "metadata-format"),
    (quantized(), {"quantization_config": {"quant_method": "fp8"}}, None, "metadata-format"),
    (quantized(), {"quantization_config": {"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4", "ignore": ["*.mlp.*"]}}, None,
     "metadata-ignored-but-quantized"),
    (quantized() | {L + "self_attn.q_proj.weight": ("BF16", (32, 64))}, MODELOPT, None, "metadata-listed-but-kept"),
    (quantized(), {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, None, "metadata-activations"),
    (quantized(input_scale=.1), MODELOPT, None, "metadata-activations"),
    (quantized(), {"quantization_config": {**MODELOPT["quantization_config"], "group_size": 32}}, None, "metadata-group-size"),
    (quantized(), MODELOPT, {"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}, "metadata-two-files"),
    (quantized(), MODELOPT, {"quantization": {"quant_algo": "W4A16_NVFP4", "exclude_modules": []}}, "metadata-two-files"),
    (quantized(), MODELOPT, {"quantization": {"quant_algo": "W4A16_NVFP4", "exclude_modules": ["lm_head"], "kv_cache_quant_algo": "FP8"}},
     "metadata-two-files"),
    (quantized(), {"quantization_config": {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {
        L + "mlp.down_proj": {"quant_algo": "FP8"}}}}, None, "metadata-not-listed"),
    (quantized(), {"quantization_config": {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {
        L + "mlp.up_proj": {"quant_algo": "FP8"}}}}, None, "metadata-format"),
])
def test_a_contradiction_is_a_warning(tmp_path, tensors, config, hf_quant, code):
    r = look(tmp_path, tensors, config, hf_quant)
    assert codes(r) == {code}, r.warnings
    assert f"Warning ({code}): " in "\n".join(page(r))


@pytest.mark.parametrize(("tensors", "config", "hf_quant"), [
    (quantized(), MODELOPT, {"quantization": {"quant_algo": "W4A16_NVFP4", "exclude_modules": ["lm_head"]}}),
    (quantized(input_scale=.1), None, {"quantization": {"quant_algo": "NVFP4"}}),
    (quantized() | {L + "self_attn.q_proj.weight": ("BF16", (32, 64))},
     {"quantization_config": {**MODELOPT["quantization_config"], "ignore": ["model.layers.0.self_attn*"]}}, None),
    (quantized() | {L + "self_attn.q_proj.weight": ("BF16", (32, 64)), L + "input_layernorm.weight": ("BF16", (32,)),
                    "model.embed_tokens.weight": ("BF16", (64, 64)), L + "mlp.gate.weight": ("BF16", (8, 64))},
     {"quantization_config": {**MODELOPT["quantization_config"], "ignore": ["re:.*self_attn.*", "lm_head"]}}, None),
    (quantized() | under(L + "self_attn.q_proj", {"weight": ("F8_E4M3", (32, 64)), "weight_scale": f32(.01), "input_scale": f32(.01)}),
     {"quantization_config": {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {
         L + "mlp.up_proj": {"quant_algo": "W4A16_NVFP4", "group_size": 16}, L + "self_attn.q_proj": {"quant_algo": "FP8"}}}}, None),
    (under("model.language_model.layers.0.mlp.up_proj", modelopt()) | {
        "model.language_model.layers.0.self_attn.q_proj.weight": ("BF16", (32, 64))},
     {"quantization_config": {**MODELOPT["quantization_config"], "ignore": ["language_model.model.layers.0.self_attn.q_proj"]}}, None),
    (under(L + "mlp.experts.0.up_proj", compressed()) | {L + "self_attn.q_proj.weight": ("BF16", (32, 64))},
     {"quantization_config": {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized", "config_groups": {"group_0": {
         "targets": ["re:.*experts.*"], "weights": {"num_bits": 4, "type": "float", "group_size": 16}}}}}, None),
])
def test_what_agrees_is_not_warned_of(tmp_path, tensors, config, hf_quant):
    assert look(tmp_path, tensors, config, hf_quant).warnings == []


def test_a_config_that_cannot_be_read_is_a_warning(tmp_path):
    folder(tmp_path / "c", {L + "mlp.up_proj.weight": ("BF16", (4, 4))})
    (tmp_path / "c" / "config.json").write_text("{oops")
    r = inspect(tmp_path / "c")
    assert codes(r) == {"config-unreadable"} and r.total.parameters == 16


@pytest.mark.parametrize("config", [
    {"quantization_config": 3}, {"quantization_config": [1]}, {"quantization_config": {"ignore": 7, "config_groups": [1]}},
    {"quantization_config": {"quant_method": 5, "quant_algo": {"a": 1}, "group_size": "x", "ignore": [None, 3], "producer": []}},
    {"quantization_config": {"quantized_layers": {"a": None, "b": 3, "c": {"quant_algo": []}}, "quant_method": "modelopt"}},
    {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {
        "num_bits": {"a": 1}, "type": "float"}, "input_activations": 3}, "h": 5}}}, {"architectures": [[]]},
    {"architectures": 3, "tie_word_embeddings": "yes"}, {"text_config": 3}, {"quantization_config": {"kv_cache_scheme": [1]}},
    {"quantization_config": {"quant_method": "gptq", "bits": "four"}}])
def test_odd_configs_do_no_harm(tmp_path, config):
    r = look(tmp_path, quantized(), config, {"quantization": config.get("quantization_config"), "producer": 3})
    assert page(r) and json.dumps(as_dict(r, True), allow_nan=False)


def test_patterns_of_what_is_left_alone():
    asks = Ignored(["lm_head", "model.layers.0*", "*.gate", "vision_tower.*", r"re:.*\.5\.mlp\.down.*", "model.layers.7.mlp"])
    yes = ("lm_head", "model.lm_head", "model.layers.0.mlp.up_proj", "model.layers.3.mlp.gate", "vision_tower", "vision_tower.blocks.1",
           "model.layers.5.mlp.down_proj", "model.layers.7.mlp.up_proj")
    no = ("model.layers.1.mlp.up_proj", "model.layers.3.mlp.gate_proj", "lm_header", "model.layers.5.mlp.up_proj", "model.layers.77.mlp")
    assert [asks(n) for n in yes] == [True] * len(yes)
    assert [asks(n) for n in no] == [False] * len(no)


@pytest.mark.parametrize("evil", ["(a+)+$", "(a|a)*$", "(.*)*x", "a*a*a*a*a*a*b", "(?=a)b", r"(a)\1", "x{1000000}{1000}", "(" * 500, "["])
def test_patterns_that_could_run_for_ever_are_not_run(evil):
    import time

    start = time.perf_counter()
    asks = Ignored([f"re:{evil}"])
    assert not _harmless(evil) and asks.skipped == 1 and asks("a" * 150) is None
    assert time.perf_counter() - start < 0.5


def test_patience_ends(monkeypatch):
    """Out of time, the answer is not known, and then no warning is made of it."""
    from gb10.quantize.inside import declared

    asks = Ignored(["*.gate", "lm_head"])
    monkeypatch.setattr(declared, "PATIENCE", -1)
    assert asks("model.layers.0.mlp.gate") is None and asks("lm_head") is True


# ---------------------------------------------------------------- what stayed, and the KV cache

def test_what_stayed_and_what_it_costs(tmp_path):
    tensors = quantized() | {"model.embed_tokens.weight": ("BF16", (256, 64)), "lm_head.weight": ("BF16", (256, 64)),
                             L + "self_attn.o_proj.weight": ("BF16", (64, 64)), L + "input_layernorm.weight": ("BF16", (64,))}
    config = {"quantization_config": {**MODELOPT["quantization_config"], "ignore": ["lm_head", "*self_attn*"]}}
    r = look(tmp_path, tensors, config)
    found = {k.kind: k for k in r.kept}
    assert found.keys() == {"embedding", "head", "attention", "norm"}
    assert found["head"].bytes == 32768 and found["head"].nvfp4_bytes == 9216 and found["head"].read_each_token
    assert not found["embedding"].read_each_token and found["head"].share == pytest.approx(32768 / r.total.bytes)
    assert "listed by the recipe" in found["attention"].why and r.kept[0].bytes >= r.kept[-1].bytes
    tied = inspect(folder(tmp_path / "t", {k: v for k, v in tensors.items() if "lm_head" not in k},
                          {**config, "tie_word_embeddings": True}))
    assert next(k for k in tied.kept if k.kind == "embedding").read_each_token and any("tied" in n for n in tied.notes)


@pytest.mark.parametrize(("kv", "scales", "format_", "says"), [
    ({}, 0, "", "Not quantized"), ({"kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False}}, 2, "FP8", "with 2 scales"),
    ({"kv_cache_scheme": "NVFP4"}, 0, "NVFP4", "engines take 1.0"), ({}, 2, "", "FP8 was meant"),
    ({"kv_cache_scheme": {"num_bits": 8, "type": "float"}}, 0, "FP8", "engines take 1.0")])
def test_the_kv_cache(tmp_path, kv, scales, format_, says):
    extra = {f"{L}self_attn.{x}_proj.{x}_scale": f32(0.01) for x in "kv"[:scales]}
    r = look(tmp_path, quantized() | extra, {"quantization_config": {**MODELOPT["quantization_config"], **kv}})
    assert r.kv_cache.format == format_ and r.kv_cache.scales == scales and says in r.kv_cache.explained
    assert r.total.parameters == 32 * 64, "scales of the KV cache are no parameters"


# ---------------------------------------------------------------- the page and the JSON

KEYS = {"path", "container", "layouts", "quantized", "architecture", "made_by", "files", "file_bytes", "tensor_bytes", "parameters",
        "bits_per_weight", "formats", "kinds", "groups", "kept", "nvfp4_bytes", "scales", "explained", "kv_cache", "declared",
        "warnings", "notes"}


def test_the_keys_of_the_json(checkpoint):
    d = inspect(checkpoint).to_dict()
    assert d.keys() == KEYS
    assert inspect(checkpoint).to_dict(tensors=True).keys() == KEYS | {"weights"}
    part = {"weights", "parameters", "bytes", "bits_per_weight", "share"}
    assert d["formats"][0].keys() == {"format"} | part and d["kinds"][0].keys() == {"kind"} | part
    assert d["groups"][0].keys() == {"pattern", "kind", "format", "layout", "shape", "block", "activations"} | part
    assert d["scales"][0].keys() == {"layout", "tensor", "of", "rule", "count", "low", "high", "example", "explained"}
    assert d["kept"][0].keys() == {"pattern", "kind", "format", "weights", "parameters", "bytes", "share", "nvfp4_bytes", "read_each_token",
                                   "why"}
    assert d["kv_cache"].keys() == {"format", "scales", "explained"}
    for key in ("formats", "kinds", "groups"):
        assert sum(x["bytes"] for x in d[key]) == d["tensor_bytes"]
        assert sum(x["parameters"] for x in d[key]) == d["parameters"]
        assert sum(x["share"] for x in d[key]) == pytest.approx(1)


def test_the_page(checkpoint):
    r = inspect(checkpoint)
    text = "\n".join(page(r))
    for words in ("bits per weight", "model.layers.*.mlp.up_proj", "NVFP4 W4A4", "2 x [96, 64]", "Stayed in 16", "KV cache: ", "weight_scale_2"):
        assert words in text
    every = page(r, tensors=True)
    assert max(map(len, text.splitlines() + every)) <= 100 and "\033" not in text
    assert sum("model.layers.1.mlp.up_proj " in line for line in every) == 1 and str(r) == text


def test_warnings_are_coloured_only_when_asked(tmp_path):
    r = look(tmp_path, quantized())
    assert "\033[33m" in "\n".join(page(r, colour=True)) and "\033" not in "\n".join(page(r))


def test_a_large_model_keeps_to_a_page(tmp_path):
    """Two layers of 400 kinds: the smaller ones are summed up."""
    (tmp_path / "m.safetensors").write_bytes(safetensors({f"model.kind{i}.weight": ("BF16", (i + 1,)) for i in range(400)}))
    text = "\n".join(page(inspect(tmp_path / "m.safetensors")))
    assert "smaller kinds" in text and len(text.splitlines()) < 70


def test_names_that_would_write_on_the_terminal(tmp_path):
    evil = "model.\x1b[31mred\x07\u202e\n.weight"
    r = inspect(folder(tmp_path / "c", {evil: ("BF16", (4, 4)), "model." + "x" * 5000 + ".weight": ("BF16", (4, 4))},
                       {"architectures": ["\x1b]0;title\x07"], "quantization_config": {"quant_method": "\x1b[2J", "quant_algo": "NVFP4"}}))
    for lines in (page(r), page(r, tensors=True)):
        text = "\n".join(lines)
        assert all(c.isprintable() or c == "\n" for c in text) and r"\x1b[31mred" in text
        assert max(map(len, lines)) <= 100
