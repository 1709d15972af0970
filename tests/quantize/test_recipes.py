"""Recipes: that the data is what ModelOpt does, by trying every one of them."""

import copy
import dataclasses
import json
import re

import pytest
import torch

from gb10.errors import UserError, WorkFailed
from gb10.quantize import cookbook
from gb10.quantize.checkpoint import inspect_tensors
from gb10.quantize.quantizing import is_quantized, quantize
from gb10.quantize.write import export

# LINEAR_ALGOS of vllm/model_executor/layers/quantization/modelopt.py, vLLM 0.32.0, and MIXED_PRECISION
VLLM = {"FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO", "NVFP4", "W4A16_NVFP4", "MXFP8", "MIXED_PRECISION"}
ALL = cookbook.recipes()
# bits of an element, and of a block's scale divided by its size
BITS = {"NVFP4": 4 + 8 / 16, "NVFP4 (blocks of 32)": 4 + 8 / 32, "FP8": 8, "MXFP8": 8 + 8 / 32, "MXFP6": 6 + 8 / 32,
        "MXFP4": 4 + 8 / 32, "INT8": 8, "INT4": 4 + 32 / 128}     # ModelOpt stores FP32 scales


@pytest.fixture(scope="module")
def wide():
    """As `tiny`, with 128 features, which INT4's blocks need, and a head of its own."""
    from transformers import AutoModelForCausalLM, Qwen3Config

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(Qwen3Config(
        hidden_size=128, num_hidden_layers=1, intermediate_size=128, num_attention_heads=4, num_key_value_heads=4,
        head_dim=32, vocab_size=256, tie_word_embeddings=False), dtype=torch.bfloat16).eval()


@pytest.fixture(scope="module")
def experts():
    """A mixture of four experts, in one tensor as transformers 5 keeps them."""
    from transformers import AutoModelForCausalLM, Qwen3MoeConfig

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(Qwen3MoeConfig(
        hidden_size=64, num_hidden_layers=1, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=1,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=256), dtype=torch.bfloat16).eval()


@pytest.mark.parametrize("name", ALL)
def test_every_recipe_does_what_it_says(name, wide, experts, batches, tmp_path):
    """Quantize, run and export: whether it needs batches, what it exports, what it leaves alone."""
    recipe = ALL[name]
    model = copy.deepcopy(experts if name == "nvfp4-experts" else wide)
    before = model(input_ids=batches[0]).logits
    model = quantize(model, batches if recipe.calibrates else (), recipe=name)
    after = model(input_ids=batches[0]).logits
    assert torch.isfinite(after).all() and not torch.equal(before, after)
    if recipe.quant_algo is None:
        with pytest.raises((NotImplementedError, UserError)):
            export(model, None, tmp_path / "x")
        return
    folder = export(model, None, tmp_path / "x")
    written = json.loads((folder / "hf_quant_config.json").read_text())["quantization"]
    assert written["quant_algo"] == recipe.quant_algo
    assert written["kv_cache_quant_algo"] == (None if recipe.kv_cache == "none" else recipe.kv_cache.upper())
    assert recipe.loads == (recipe.quant_algo.upper() in VLLM)
    tensors = {t.name: t.dtype for t in inspect_tensors(folder)}
    assert tensors["model.embed_tokens.weight"] == tensors["model.norm.weight"] == "BF16"
    for part, word in (("self_attn.q_proj", "attention"), ("self_attn.q_proj", "q, k and v"), ("lm_head", "lm_head")):
        if re.search(rf"\b{word}\b", recipe.stays):
            assert all(dtype == "BF16" for t, dtype in tensors.items() if f"{part}.weight" in t)
    stored = {"NVFP4": "U8", "MXFP4": "U8", "INT4": "U8", "FP8": "F8_E4M3", "MXFP8": "F8_E4M3", "INT8": "I8"}
    assert stored[recipe.weights.split()[0]] in tensors.values()


def test_bits_follow_from_the_format():
    for recipe in ALL.values():
        kind = next(k for k in sorted(BITS, key=len, reverse=True) if recipe.weights.startswith(k))
        assert recipe.bits == BITS[kind], recipe.name


@pytest.mark.parametrize("name", ALL)
def test_the_config_is_modelopts_preset_and_no_copy_of_it(name):
    recipe = ALL[name]
    preset, config = cookbook.load(recipe.preset), recipe.config()
    entries = config["quant_cfg"][:len(preset["quant_cfg"])]

    def bare(cfg):
        if isinstance(cfg, list):
            return [bare(one) for one in cfg]
        return cfg if not isinstance(cfg, dict) else {k: v for k, v in cfg.items() if k != "backend"}

    mine, theirs = ([e | {"cfg": bare(e.get("cfg"))} for e in cfg] for cfg in (entries, preset["quant_cfg"]))
    assert mine == theirs
    assert config["quant_cfg"][len(entries):] == recipe.add
    algorithm = config["algorithm"]
    assert (algorithm["method"] if isinstance(algorithm, dict) else algorithm or "none") == recipe.algorithm
    assert "gb10_" not in str(cookbook.load(recipe.preset)), "the preset itself was changed"


def test_a_recipe_that_does_not_calibrate_looks_at_no_batch(wide, batches):
    def trap():
        raise AssertionError("a batch was asked for")
        yield

    for name in (n for n, r in ALL.items() if not r.calibrates):
        with_none = quantize(copy.deepcopy(wide), trap() if name == "w4a16" else (), recipe=name)
        assert is_quantized(with_none)


def test_a_recipe_that_calibrates_asks_for_batches(wide):
    for name in ("nvfp4", "fp8", "spark"):
        model = copy.deepcopy(wide)
        with pytest.raises(WorkFailed, match="calibration"):
            quantize(model, (), recipe=name)
        assert not is_quantized(model) and model(torch.tensor([[1, 2]])).logits.isfinite().all()


@pytest.mark.parametrize("name, kv, written", [
    ("w4a16", "fp8", "FP8"), ("nvfp4", "nvfp4", "NVFP4"), ("mxfp8", "fp8", "FP8"), ("spark", "none", None),
    ("spark", None, "FP8")])
def test_the_kv_cache_is_an_option(name, kv, written, wide, batches, tmp_path):
    recipe = ALL[name]
    model = quantize(copy.deepcopy(wide), batches if recipe.calibrates else (), recipe=recipe, kv=kv)
    folder = export(model, None, tmp_path / "x")
    assert json.loads((folder / "hf_quant_config.json").read_text())["quantization"]["kv_cache_quant_algo"] == written
    quantizers = [m for n, m in model.named_modules() if n.endswith(("k_bmm_quantizer", "v_bmm_quantizer"))]
    assert quantizers and all(q.is_enabled == (written is not None) for q in quantizers)


def test_a_kv_cache_that_does_not_exist():
    with pytest.raises(UserError, match="none, fp8, nvfp4"):
        ALL["nvfp4"].config("int4")


def test_a_wrong_name_gets_the_nearest():
    with pytest.raises(UserError, match="did you mean 'w4a16'"):
        cookbook.recipe("w4a61")
    with pytest.raises(UserError, match="choose one of w4a16, "):
        cookbook.recipe("zzzzzzzz")
    assert cookbook.recipe(ALL["fp8"]) is ALL["fp8"]


def test_a_recipe_of_ones_own(wide, batches):
    """A Recipe is data: the same preset, with a layer left out."""
    mine = dataclasses.replace(ALL["nvfp4"], name="mine", add=[{"quantizer_name": "*o_proj*", "enable": False}])
    model = quantize(copy.deepcopy(wide), batches, recipe=mine)
    enabled = {n.split(".")[-2] for n, m in model.named_modules() if n.endswith("weight_quantizer") and m.is_enabled}
    assert enabled == {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"}


def test_a_tied_head_is_left_alone(tiny, batches, tmp_path):
    """The recipe for a Spark quantizes the head; a tied one is the embedding matrix, which an engine reads in BF16."""
    model = quantize(copy.deepcopy(tiny), batches, recipe="spark")
    assert not model.lm_head.weight_quantizer.is_enabled
    assert "lm_head.weight" not in {t.name for t in inspect_tensors(export(model, None, tmp_path / "x"))}


def test_a_recipe_without_a_layer_to_quantize(wide, batches):
    model = copy.deepcopy(wide)
    with pytest.raises(UserError, match="found no layer"):
        quantize(model, batches, recipe="nvfp4-experts")
    assert is_quantized(quantize(model, batches, recipe="nvfp4")), "another recipe works afterwards"


def test_an_expert_that_no_token_reaches(experts, batches):
    """Each batch of one token reaches one of four experts."""
    model = quantize(copy.deepcopy(experts), [batches[0][:1, :1]], recipe="nvfp4-experts")
    assert torch.isfinite(model(input_ids=batches[0]).logits).all()


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_only_a_weight_that_would_be_quantized_is_refused(wide, batches, value):
    model = copy.deepcopy(wide)
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.fill_(value)
    with pytest.raises(WorkFailed, match=r"self_attn\.o_proj\.weight is"):
        quantize(model, batches, recipe="nvfp4-omlp")
    assert is_quantized(quantize(model, [], recipe="w4a16-mlp"))


def test_an_unusable_expert_is_named(experts, batches):
    model = copy.deepcopy(experts)
    with torch.no_grad():
        model.model.layers[0].mlp.experts.down_proj.fill_(0)
    with pytest.raises(WorkFailed, match=r"experts\.down_proj is all zero"):
        quantize(model, batches, recipe="nvfp4-experts")


def test_a_layer_that_blocks_do_not_divide_is_named(batches):
    from transformers import AutoModelForCausalLM, Qwen3Config

    model = AutoModelForCausalLM.from_config(Qwen3Config(
        hidden_size=64, num_hidden_layers=1, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, vocab_size=256), dtype=torch.bfloat16)
    with pytest.raises(UserError, match=r"mlp\.down_proj\.weight has 72 input features, which blocks of 16"):
        quantize(model, batches)
    assert is_quantized(quantize(model, batches, recipe="fp8"))


def test_progress_counts_batches(wide, batches, capsys):
    seen = []
    quantize(copy.deepcopy(wide), iter(batches), progress=lambda i: (seen.append(i), print("step", i)))
    assert seen == [1, 2, 3]
    assert capsys.readouterr().out == "step 1\nstep 2\nstep 3\n", "ModelOpt's own prints are kept away, mine are not"


def test_an_own_config_needs_no_backend_named(wide, batches):
    import modelopt.torch.quantization as mtq

    a = quantize(copy.deepcopy(wide), batches, config=mtq.NVFP4_DEFAULT_CFG)
    b = quantize(copy.deepcopy(wide), batches)
    assert torch.equal(a(input_ids=batches[0]).logits, b(input_ids=batches[0]).logits)
    assert is_quantized(quantize(copy.deepcopy(wide), config=mtq.W4A16_NVFP4_CFG))


def test_texts_are_there():
    for recipe in ALL.values():
        assert recipe.does.endswith(".") and recipe.when.endswith(".") and recipe.title and recipe.stays
        assert recipe.source.startswith("https://github.com/NVIDIA/Model-Optimizer/") and recipe.kv_cache in cookbook.KV
        assert not recipe.exports or recipe.quant_algo.upper() in VLLM
