"""The exported checkpoint: byte-identical to ModelOpt's NVFP4QTensor, whole or absent."""

import copy
import json

import pytest
import torch

from gb10 import quantize
from gb10.errors import UserError, WorkFailed
from gb10.formats import NVFP4
from gb10.quantize.checkpoint import is_checkpoint

FUSED = (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.o_proj",),
         ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",))


def raw(t):
    return t.contiguous().view(torch.uint8)


def test_every_layer_is_byte_identical_to_nvfp4qtensor(tiny, checkpoint):
    """Weights straight from the BF16 model; layers that an engine fuses share the largest amax among them."""
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    compared = 0
    for i in range(2):
        for group in FUSED:
            weights = {n: tiny.get_submodule(f"model.layers.{i}.{n}").weight.detach() for n in group}
            amax = max(w.abs().amax().float() for w in weights.values())
            for name, w in weights.items():
                packed, scales, g = NVFP4QTensor.quantize(w.clone(), 16, weights_scaling_factor_2=amax / 2688)
                key = f"model.layers.{i}.{name}"
                assert torch.equal(quantize.read_tensor(checkpoint, f"{key}.weight"), packed._quantized_data), key
                assert torch.equal(raw(quantize.read_tensor(checkpoint, f"{key}.weight_scale")), raw(scales)), key
                stored = quantize.read_tensor(checkpoint, f"{key}.weight_scale_2")
                assert stored.dtype == torch.float32 and stored.item() == g.item(), key
                compared += 1
    in_file = [t.name for t in quantize.inspect_tensors(checkpoint) if t.name.endswith("weight_scale_2")]
    assert compared == len(in_file) == 14


def test_what_was_evaluated_is_what_was_exported(quantized, checkpoint):
    """The simulated weight of every layer equals the decoded one, bit for bit."""
    for name, module in quantized.named_modules():
        if getattr(module, "weight_quantizer", None) is not None and module.weight_quantizer.is_enabled:
            stored = NVFP4(*(quantize.read_tensor(checkpoint, f"{name}.{part}")
                             for part in ("weight", "weight_scale", "weight_scale_2")))
            simulated = module.weight_quantizer(module.weight.detach())
            assert torch.equal(stored.dequantize(torch.bfloat16).view(torch.int16), simulated.view(torch.int16)), name


def test_embeddings_norms_and_input_scales(tiny, quantized, checkpoint):
    infos = {t.name: t for t in quantize.inspect_tensors(checkpoint)}
    assert "lm_head.weight" not in infos, "the tied head must not be stored twice"
    assert infos["model.embed_tokens.weight"].dtype == "BF16"
    assert torch.equal(quantize.read_tensor(checkpoint, "model.embed_tokens.weight"), tiny.model.embed_tokens.weight)
    assert torch.equal(quantize.read_tensor(checkpoint, "model.norm.weight"), tiny.model.norm.weight)
    for name, module in quantized.named_modules():
        if f"{name}.input_scale" in infos:
            amax = module.input_quantizer.amax.float()
            assert quantize.read_tensor(checkpoint, f"{name}.input_scale").item() == (amax / 2688).item()
    assert sum(n.endswith(".input_scale") for n in infos) == 14


def test_an_untied_head_stays_bf16(tiny, batches, tmp_path):
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(tiny.config)
    config.tie_word_embeddings = False
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(tiny.state_dict())
    model.lm_head.weight.data.mul_(2)
    folder = quantize.export(quantize.quantize(model, batches), None, tmp_path / "untied", keep=False)
    head = quantize.read_tensor(folder, "lm_head.weight")
    assert head.dtype == torch.bfloat16 and torch.equal(head, tiny.lm_head.weight * 2)


def test_what_travels_along(checkpoint):
    assert {"config.json", "generation_config.json", "hf_quant_config.json", "tokenizer.json",
            "chat_template.jinja"} <= {p.name for p in checkpoint.iterdir()}
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert config["quantization_config"]["quant_algo"] == "NVFP4"
    assert config["dtype"] == "bfloat16"
    assert json.loads((checkpoint / "generation_config.json").read_text())["temperature"] == 0.7
    leftovers = [p.name for p in checkpoint.parent.iterdir() if p != checkpoint]
    assert not leftovers


def test_the_model_survives_and_an_earlier_checkpoint_is_replaced(quantized, tmp_path):
    folder = tmp_path / "twice"
    quantize.export(quantized, None, folder)
    first = (folder / "model.safetensors").read_bytes()
    (folder / "mark").write_text("of the first export")
    quantize.export(quantized, None, folder)
    assert (folder / "model.safetensors").read_bytes() == first
    assert not (folder / "mark").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["twice"]


class Interrupted:
    """A tokenizer in whose save the user presses Ctrl-C, after the weights were written."""

    def save_pretrained(self, folder):
        assert is_checkpoint(folder)
        raise KeyboardInterrupt


def test_an_interruption_leaves_nothing(quantized, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        quantize.export(quantized, Interrupted(), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_the_earlier_checkpoint(quantized, tmp_path):
    folder = quantize.export(quantized, None, tmp_path / "kept")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        quantize.export(quantized, Interrupted(), folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_a_folder_that_is_something_else_is_refused(quantized, tmp_path):
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").write_text("rain")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "diary")
    for name in ("diary", "file", "link"):
        with pytest.raises(UserError):
            quantize.export(quantized, None, tmp_path / name)
    assert (tmp_path / "diary" / "monday.txt").read_text() == "rain"


def test_an_unquantized_model_is_refused(tiny, tmp_path):
    with pytest.raises(UserError, match="not quantized"):
        quantize.export(tiny, None, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_an_unusable_weight_is_named(tiny, batches, value):
    model = copy.deepcopy(tiny)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.fill_(value)
    with pytest.raises(WorkFailed, match=r"layers\.1\.mlp\.up_proj"):
        quantize.quantize(model, batches)


def test_calibration_that_saw_nothing_is_named(tiny):
    with pytest.raises(WorkFailed, match="calibration"):
        quantize.quantize(copy.deepcopy(tiny), [])


def test_quantizing_twice_is_refused(quantized, batches):
    with pytest.raises(UserError, match="already quantized"):
        quantize.quantize(quantized, batches)
