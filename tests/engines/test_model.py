"""What is a model folder? One that isn't costs one sentence."""

import json
import shutil
import struct

import pytest

from gb10.engines import launch, model
from gb10.errors import UserError


@pytest.fixture
def folder(pico, tmp_path):
    target = tmp_path / "model"
    shutil.copytree(pico, target)
    return target


def test_pico_is_described(pico):
    m = model.look(pico)
    config = json.loads((pico / "config.json").read_text())
    assert m.architecture == "Qwen3ForCausalLM"
    assert m.quantization is None
    assert m.weight_bytes == 2 * m.parameters
    assert m.kv_bytes_per_token == 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"] * 2
    assert m.weight_bytes <= (pico / "model.safetensors").stat().st_size


def test_an_nvfp4_checkpoint_is_recognised(nvfp4, pico):
    q, m = model.look(nvfp4), model.look(pico)
    assert q.is_nvfp4
    assert q.weight_bytes < 0.8 * m.weight_bytes
    assert abs(q.parameters - m.parameters) < 0.01 * m.parameters + 64


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda f: shutil.rmtree(f), "there is no model folder"),
    (lambda f: (f / "config.json").unlink(), "no config.json"),
    (lambda f: (f / "config.json").write_text("{"), "can't be read as JSON"),
    (lambda f: (f / "config.json").write_text("{}"), "does not describe a model"),
    (lambda f: (f / "model.safetensors").unlink(), r"weights \(\*.safetensors\) are not"),
    (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pickled"),
    (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]), "truncated"),
    (lambda f: (f / "model.safetensors").write_bytes(b"junk"), "not a whole safetensors file"),
    (lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}"), "hold no tensor"),
    (lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
     "git lfs pull"),
    (lambda f: [(f / n).unlink(missing_ok=True) for n in ("tokenizer.json", "vocab.json")], "no tokenizer"),
    (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone-00001.safetensors"}}'),
     "gone-00001.safetensors is missing"),
    (lambda f: (f / "hf_quant_config.json").write_text("{"), "can't be read"),
])
def test_what_is_no_model_is_refused(folder, spoil, says):
    spoil(folder)
    with pytest.raises(UserError, match=says):
        model.look(folder)


def test_a_folder_one_level_too_high_is_hinted_at(folder):
    with pytest.raises(UserError, match="Did you mean .*/model"):
        model.look(folder.parent)


def test_a_file_is_no_folder(folder):
    with pytest.raises(UserError, match="is a file: give the folder"):
        model.look(folder / "config.json")


def test_names():
    assert launch.served_name("pico", None) == "pico"
    assert launch.served_name("Qwen/Qwen3-0.6B", None) == "Qwen/Qwen3-0.6B"
    assert launch.served_name("x", "mine") == "mine"
    for bad in ("", "a b", "-x"):
        with pytest.raises(UserError, match="name"):
            launch.served_name("x", bad)
    with pytest.raises(UserError, match="there is no model 'nonsense'"):
        launch.resolve("nonsense")


def test_more_than_the_memory_holds_is_refused_with_the_figures(pico):
    found = model.look(pico)
    with pytest.raises(UserError, match=r"would need 9\d+\.\d GB .*weights 9\d+\.00 \+ KV cache 1\.00.* are available"):
        launch.guard({"weights": 900 * 10**9 * 11 // 10, "KV cache": 10**9}, found)
    launch.guard({"weights": 1000}, found)
