"""Every preset of ModelOpt on a CPU: what the table doesn't name runs, what it names fails as it says."""

import copy

import pytest
import torch

from gb10 import quantize
from gb10.errors import UserError, WorkFailed
from gb10.formats import NVFP4
from gb10.formats.elements import E2M1_BOUNDS
from gb10.quantize import cookbook
from gb10.quantize.algorithms import Mixed, auto_quantize, refusals

FOLDERS = ("configs/ptq/presets/model", "configs/ptq/presets/kv", "general/ptq")
REFUSED = {(r.preset, r.model): r for r in refusals()}


def presets():
    from importlib.resources import files

    root = files("modelopt_recipes")
    return [f"{folder}/{f.name.removesuffix('.yaml')}" for folder in FOLDERS
            for f in sorted(root.joinpath(*folder.split("/")).iterdir(), key=lambda f: f.name)
            if f.name.endswith(".yaml")]


def config_of(preset):
    config = cookbook.load(preset)
    if "/kv/" in preset:                          # a KV preset goes on top of another
        config["quant_cfg"] = cookbook.load("configs/ptq/presets/model/nvfp4")["quant_cfg"] + config["quant_cfg"]
        config["algorithm"] = "max"
    if isinstance(config["algorithm"], dict) and isinstance(config["algorithm"].get("layerwise"), dict):
        config["algorithm"]["layerwise"].pop("checkpoint_dir", None)
    return config


def model(experts=False):
    from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3MoeConfig

    torch.manual_seed(0)
    shape = {"hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4,
             "head_dim": 32, "vocab_size": 256, "tie_word_embeddings": True}
    config = (Qwen3MoeConfig(**shape, moe_intermediate_size=64, num_experts=4, num_experts_per_tok=2) if experts else
              Qwen3Config(**shape, intermediate_size=128))
    return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


DENSE, EXPERTS = model(), model(experts=True)


@pytest.mark.parametrize("preset", presets())
def test_every_preset_runs_or_is_in_the_table(preset, batches, tmp_path):
    """On a dense model; presets for experts, and those that fail on experts only, on a mixture."""
    kinds = ["dense", "experts"] if {(preset, "dense"), (preset, "experts")} & REFUSED.keys() else ["dense"]
    for kind in kinds:
        m = copy.deepcopy(EXPERTS if kind == "experts" else DENSE)
        steps = {"quantize": lambda m=m: quantize.quantize(m, batches[:1], config=config_of(preset)),
                 "run": lambda m=m: m(input_ids=batches[0]).logits,
                 "export": lambda m=m, kind=kind: quantize.export(m, None, tmp_path / kind, keep=False)}
        refused = REFUSED.get((preset, kind)) or REFUSED.get((preset, "any"))
        for step, work in steps.items():
            if refused and refused.step == step:
                with pytest.raises(Exception, match=refused.says):
                    work()
                break
            result = work()
            assert step != "run" or torch.isfinite(result).all()


def test_the_table_names_presets_that_exist():
    known = {*presets(), "general/auto_quantize/w4a8_awq_beta_fp8_at_6p0bits"}
    for refusal in refusals():
        assert refusal.preset in known and refusal.model in ("any", "dense", "experts")
        assert refusal.step in ("quantize", "run", "export") and refusal.reason.endswith(".")


# ModelOpt's own recipes for its search: formats, bits, method
SEARCHES = {
    "nvfp4_fp8_at_5p4bits": (("nvfp4", "fp8"), 5.4, "gradient"),
    "nvfp4_fp8_kl_div_at_5p4bits": (("nvfp4", "fp8"), 5.4, "kl_div"),
    "nvfp4_mse_fp8_at_6p0bits": (("nvfp4-mse", "fp8"), 6.0, "gradient"),
    "w4a16_nvfp4_fp8_at_6p0bits-active_moe": (("fp8", "w4a16"), 6.0, "gradient"),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_modelopts_search_runs(name, batches, tmp_path):
    formats, bits, method = SEARCHES[name]
    m = copy.deepcopy(DENSE)
    found = auto_quantize(m, batches[:2], bits=bits, formats=formats, method=method)
    assert isinstance(found, Mixed) and set(found.layers.values()) <= {*formats, "bf16"}
    assert found.layers.pop("lm_head", "bf16") == "bf16" and len(found.layers) == 7
    assert min(cookbook.recipe(f).bits for f in formats) <= found.bits <= bits
    cost = sum(m.get_submodule(n).weight.numel() * (16 if f == "bf16" else cookbook.recipe(f).bits)
               for n, f in found.layers.items())
    assert found.bits == pytest.approx(cost / sum(m.get_submodule(n).weight.numel() for n in found.layers))
    assert torch.isfinite(m(input_ids=batches[0]).logits).all()
    q, k, v = (found.layers[f"model.layers.0.self_attn.{n}_proj"] for n in "qkv")
    assert q == k == v, "an engine fuses these"
    assert all(p.grad is None for p in m.parameters())
    quantize.export(m, None, tmp_path / "x")


def test_fewer_bits_mean_smaller_formats(batches):
    few = auto_quantize(copy.deepcopy(DENSE), [batches[0][:1]], bits=4.5)
    many = auto_quantize(copy.deepcopy(DENSE), [batches[0][:1]], bits=7.5)
    assert few.layers.pop("lm_head", "bf16") == "bf16"
    assert set(few.layers.values()) == {"nvfp4"} and few.bits == 4.5
    assert 4.5 < many.bits <= 7.5


def test_what_the_search_refuses(batches):
    with pytest.raises(UserError, match="between 4.5 and 16"):
        auto_quantize(copy.deepcopy(DENSE), batches, bits=4)
    with pytest.raises(UserError, match="gradient or kl_div"):
        auto_quantize(copy.deepcopy(DENSE), batches, bits=6, method="magic")
    with pytest.raises(UserError, match="no recipe of these algorithms: gptq"):
        auto_quantize(copy.deepcopy(DENSE), batches, bits=6, formats=("nvfp4-gptq",))
    with pytest.raises(WorkFailed, match="calibration"):
        auto_quantize(copy.deepcopy(DENSE), [], bits=6)
    with pytest.raises(UserError, match="can't take apart"):
        auto_quantize(copy.deepcopy(EXPERTS), batches, bits=6, formats=("nvfp4-awq-lite", "fp8"))


@pytest.mark.parametrize("name", ["nvfp4-mse", "nvfp4-four-over-six"])
def test_searched_scales_are_exported_as_they_were_simulated(name, batches, tmp_path):
    """Code by code, but for ties: ModelOpt multiplies the scale in another order when it writes."""
    m = quantize.quantize(copy.deepcopy(DENSE), batches[:1], recipe=name)
    folder = quantize.export(m, None, tmp_path / "x")
    bounds, differing, count = torch.tensor(E2M1_BOUNDS), 0, 0
    for layer in (n for n, module in DENSE.named_modules() if n.endswith("_proj")):
        stored = NVFP4(*(quantize.read_tensor(folder, f"{layer}.{part}")
                         for part in ("weight", "weight_scale", "weight_scale_2")))
        q, w = m.get_submodule(layer).weight_quantizer, DENSE.get_submodule(layer).weight.detach().float()
        scale = stored.scales.float() * stored.tensor_scale
        y, simulated, written = (t.float().unflatten(-1, (-1, 16)) / scale[..., None]
                                 for t in (w, q(w), stored.dequantize()))
        other = (simulated - written).abs() > 1e-3
        assert ((y[other].abs()[:, None] - bounds).abs().amin(-1) < 1e-5).all(), layer
        differing, count = differing + other.sum().item(), count + other.numel()
    assert differing < count / 1000


def test_better_scales_lose_less(batches):
    """What the searches are for: the weights' error falls from max to four-over-six to the sweep of all scales."""
    def error(name):
        m = quantize.quantize(copy.deepcopy(DENSE), batches[:1], recipe=name)
        total = 0.0
        for layer, module in DENSE.named_modules():
            if "_proj" in layer:
                w = module.weight.detach()
                total += (m.get_submodule(layer).weight_quantizer(w).float() - w.float()).square().sum().item()
        return total

    plain, four, sweep = error("nvfp4"), error("nvfp4-four-over-six"), error("nvfp4-mse")
    assert sweep < four < plain
