"""The size of a checkpoint, computed and exported: the same to the byte."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from gb10 import paths, quantize
from gb10.errors import UserError
from gb10.quantize.stored import stored_bytes

BATCHES = [torch.randint(0, 4096, (1, 32), generator=torch.Generator().manual_seed(0))]


def load(layers=6):
    model = AutoModelForCausalLM.from_pretrained(paths.PICO, dtype=torch.bfloat16)
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers, model.config.layer_types = layers, model.config.layer_types[:layers]
    return model


def exported(model, folder):
    return sum(t.bytes for t in quantize.inspect_tensors(quantize.export(model, None, folder, keep=False)))


@pytest.mark.parametrize("name", ["w4a16", "w4a16-mlp", "spark", "nvfp4", "nvfp4-omlp", "nvfp4-four-over-six", "fp8", "mxfp8",
                                  "mxfp4", "int8", "w4a8-nvfp4-fp8"])
def test_to_the_byte(name, tmp_path):
    model = quantize.quantize(load(1), BATCHES, recipe=name)
    said = stored_bytes(model)
    assert said == exported(model, tmp_path / "out")


@pytest.mark.parametrize("name", ["int4-awq", "nvfp4-svdquant", "int8-smoothquant"])
def test_nearly_where_channels_are_rescaled(name, tmp_path):
    model = quantize.quantize(load(1), BATCHES, recipe=name)
    said, there = stored_bytes(model), exported(model, tmp_path / "out")
    assert there * 0.995 < said <= there


def test_a_model_in_bf16_is_its_file():
    assert stored_bytes(load()) == sum(t.bytes for t in quantize.inspect_tensors(paths.PICO))


def test_a_quantizer_that_is_off_counts_for_nothing():
    model = quantize.quantize(load(1), recipe="w4a16")
    whole = stored_bytes(model)
    model.model.layers[0].mlp.up_proj.weight_quantizer.disable()
    assert stored_bytes(model) - whole == 768 * 256 * (16 - 4.5) / 8 - 4


def test_packed_weights_are_refused(tmp_path):
    model = quantize.quantize(load(1), recipe="w4a16")
    quantize.export(model, None, tmp_path / "out", keep=False)
    with pytest.raises(UserError, match="packed"):
        stored_bytes(model)
