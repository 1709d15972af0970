"""Mixed recipes: the size that was promised, each layer in its format, groups together, and an export that inspection accepts."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from gb10 import paths, quantize
from gb10.errors import UserError
from gb10.quantize import mixing
from gb10.quantize.stored import stored_bytes

BATCHES = [torch.randint(0, 4096, (2, 32), generator=torch.Generator().manual_seed(0))]
CHOICE = {"0.qkv": "fp8", "0.down": "bf16", "1.gate_up": "fp8", "1.o": "nvfp4", "2.qkv": "bf16"}


def load():
    return AutoModelForCausalLM.from_pretrained(paths.PICO, dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def pico():
    return load()


@pytest.fixture(scope="module")
def mixed(pico):
    return quantize.quantize(load(), BATCHES, config=mixing.config(mixing.groups(pico), CHOICE))


def test_the_groups_are_all_of_the_linear_layers(pico):
    groups = mixing.groups(pico)
    assert len(groups) == 24 and list(groups)[:4] == ["0.qkv", "0.o", "0.gate_up", "0.down"]
    assert sum(g.weights for g in groups.values()) == 6 * 786432
    assert groups["5.qkv"].layers == tuple(f"model.layers.5.self_attn.{p}_proj" for p in "qkv")
    assert groups["0.o"].bytes == {"bf16": 131072, "fp8": 65544, "w4a16": 36868, "nvfp4": 36872}


def test_the_size_is_that_of_the_model_and_of_its_export(pico, mixed, tmp_path):
    folder = quantize.export(mixed, None, tmp_path / "out")
    there = sum(t.bytes for t in quantize.inspect_tensors(folder))
    assert mixing.size(pico, CHOICE) == stored_bytes(mixed) == there
    report = quantize.inspect(folder)
    assert report.warnings == []                                 # formats agree with what the metadata says, fused ones too
    assert {"NVFP4", "FP8", "BF16"} <= set(report.formats)


def test_every_layer_is_in_its_format(pico, mixed):
    groups = mixing.groups(pico)
    for name, fmt in mixing.complete(groups, CHOICE).items():
        for layer in groups[name].layers:
            module = mixed.get_submodule(layer)
            weight, inputs = module.weight_quantizer, module.input_quantizer
            assert weight.is_enabled == (fmt != "bf16") and inputs.is_enabled == (fmt in ("fp8", "nvfp4")), layer
            if weight.is_enabled:
                assert tuple(weight.num_bits) == ((4, 3) if fmt == "fp8" else (2, 1)), layer


def test_all_in_one_format_is_the_recipe_of_that_name(pico):
    ids = BATCHES[0].flatten()
    for name in ("w4a16", "fp8"):
        one = quantize.quantize(load(), BATCHES, recipe=name)
        other = quantize.quantize(load(), BATCHES, config=mixing.config(mixing.groups(pico), dict.fromkeys(mixing.groups(pico), name)))
        assert (quantize.score(one, ids, window=32).nll == quantize.score(other, ids, window=32).nll).all()
        assert mixing.size(pico, dict.fromkeys(mixing.groups(pico), name)) == stored_bytes(one)


def test_layer_1_is_not_layer_11(pico):
    entries = mixing.config(mixing.groups(pico), {"1.o": "fp8"})["quant_cfg"]
    assert all(e["quantizer_name"] == "*" or e["quantizer_name"].startswith("model.layers.") for e in entries)


@pytest.mark.parametrize(("choice", "said"), [({"9.qkv": "fp8"}, "no group '9.qkv'"), ({"0.q": "fp8"}, "no group"),
                                              ({"0.o": "int3"}, "not 'int3'")])
def test_refusals(pico, choice, said):
    with pytest.raises(UserError, match=said):
        mixing.config(mixing.groups(pico), choice)


def test_a_model_with_other_layers_is_refused():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=64))
    with pytest.raises(UserError, match="dense models"):
        mixing.groups(model)
