"""Models: shapes give the published sizes; names, folders and config files are found or refused with one sentence."""

import json
import math

import pytest

from gb10 import catalog
from gb10.catalog.source import read_json

# openai, Qwen, … as published, to the digits that were published
REPORTED = {n: r["reported_params_b"] for n, r in read_json("models.json").items() if "reported_params_b" in r}


@pytest.mark.parametrize("name", REPORTED)
def test_parameters_come_out_as_published(name):
    digits = str(REPORTED[name])
    rounding = 0.5 * 10 ** -(len(digits.split(".")[1]) if "." in digits else 0)
    assert abs(catalog.model(name).params / 1e9 - REPORTED[name]) <= max(rounding * 1.001, 0.001 * REPORTED[name])


def test_qwen3_8b_by_hand():
    m = catalog.model("Qwen3-8B")
    layer = 4096 * (32 + 8 + 8) * 128 + 32 * 128 * 4096
    assert m.count("attention") == 36 * layer == 1509949440
    assert m.count("ffn") == 36 * 3 * 4096 * 12288 == 5435817984
    assert m.count("embedding") == m.count("head") == 151936 * 4096
    assert m.count("small") == 36 * (2 * 4096 + 2 * 128) + 4096
    assert not m.moe and not m.hybrid and m.layers == 36


def test_gpt_oss_120b_by_hand():
    m = catalog.model("gpt-oss-120b")
    assert m.count("experts") == 36 * 128 * 3 * 2880 * 2880
    assert m.count("router") == 36 * 128 * 2880
    biases = 36 * 128 * (2 * 2880 + 2880)
    assert m.count("small") == biases + 36 * (128 + 64 + 64 * 64 + 2 * 8 * 64 + 2880 + 2 * 2880) + 2880
    read = sum(p.active for p in m.parts if p.kind == "experts")
    assert read == m.count("experts") * 4 / 128


@pytest.mark.parametrize(("name", "per_token"), [         # BF16, layers that see everything
    ("Qwen3-0.6B", 114688), ("Qwen3-1.7B", 114688), ("Qwen3-4B", 147456), ("Qwen3-8B", 147456), ("Qwen3-14B", 163840),
    ("Qwen3-32B", 262144), ("Qwen3-30B-A3B", 98304), ("Llama-3.1-8B", 131072), ("Llama-3.3-70B", 327680),
    ("gpt-oss-20b", 24576), ("gpt-oss-120b", 36864), ("gemma-3-4b", 20480), ("gemma-3-12b", 65536), ("gemma-3-27b", 81920),
    ("Qwen2.5-7B", 57344), ("Qwen2.5-14B", 196608), ("Qwen3-235B-A22B", 192512), ("GLM-4.7-Flash", 47 * 576 * 2),
    ("Nemotron-3-Super", 8 * 2 * 2 * 128 * 2)])
def test_kv_cache_per_token(name, per_token):
    m = catalog.model(name)
    assert sum(c.layers * c.elements for c in m.caches if c.window is None) * 2 == per_token


@pytest.mark.parametrize(("name", "sliding", "window"), [
    ("gpt-oss-120b", 18, 128), ("gpt-oss-20b", 12, 128), ("gemma-3-4b", 29, 1024), ("gemma-3-12b", 40, 1024),
    ("gemma-3-27b", 52, 1024), ("gemma-2-9b", 21, 4096), ("Gemma-4-31B-it", 50, 1024), ("Qwen3-8B", 0, None),
    ("Mistral-7B-v0.3", 0, None)])
def test_sliding_windows(name, sliding, window):
    caches = [c for c in catalog.model(name).caches if c.window]
    assert sum(c.layers for c in caches) == sliding and {c.window for c in caches} <= {window}
    for c in caches:
        assert c.tokens(window // 2) == window // 2 and c.tokens(10 * window) == window


@pytest.mark.parametrize(("asked", "found"), [
    ("Qwen3-8B", "Qwen3-8B"), ("qwen3-8b", "Qwen3-8B"), ("Qwen/Qwen3-8B", "Qwen3-8B"), ("nvidia/Qwen3-8B-NVFP4", "Qwen3-8B"),
    ("nvidia/Qwen3-8B-FP4", "Qwen3-8B"), ("qwen3:8b", "Qwen3-8B"), ("Llama-3.1-8B", "Llama-3.1-8B-Instruct"),
    ("meta-llama/Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"), ("llama3.1:70b", "Llama-3.1-70B-Instruct"),
    ("Llama-3.3-70B-Instruct-FP4", "Llama-3.3-70B-Instruct"), ("gemma-3-12b", "Gemma-3-12b-it"), ("gemma3:27b", "Gemma-3-27b-it"),
    ("openai/gpt-oss-120b", "gpt-oss-120b"), ("gpt-oss:20b", "gpt-oss-20b"), ("Qwen3-Coder-30B-A3B", "Qwen3-30B-A3B"),
    ("DeepSeek-R1-Distill-Llama-8B", "Llama-3.1-8B-Instruct"), ("Qwen3-4B-Instruct-2507", "Qwen3-4B"),
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4", "Nemotron-3-Super-120B-A12B"),
    ("nvidia/Qwen3.8-27B-NVFP4", "Qwen3.6-27B"), ("Devstral-Small-2507", "Mistral-Small-24B-Instruct-2501"),
    ("nvidia/Qwen3.6-35B-A3B-NVFP4", "Qwen3.6-35B-A3B"), ("Qwen2.5-Coder-7B-Instruct", "Qwen2.5-Coder-7B")])
def test_names(asked, found):
    assert catalog.model(asked, hub=False).name == found


def test_every_measured_gb10_model_is_known():
    for m in catalog.measurements():
        if m.machine_name == "gb10":
            assert catalog.model(m.model, hub=False).params > 1e8


@pytest.mark.parametrize(("asked", "near"), [("Qwen3-9B", "Qwen3-8B"), ("lama-3.1-8b", "Llama-3.1-8B-Instruct"),
                                            ("gpt-oss-130b", "gpt-oss-120b"), ("gema-3-27b", "Gemma-3-27b-it")])
def test_an_unknown_name_gets_the_nearest(asked, near):
    with pytest.raises(catalog.UnknownModel, match="did you mean") as e:
        catalog.model(asked, hub=False)
    assert near in str(e.value)


@pytest.mark.parametrize("asked", ["", "   ", "zzzz", "no/such/folder/at/all", "nothing.json"])
def test_nonsense_is_refused_in_one_sentence(asked):
    with pytest.raises(ValueError) as e:
        catalog.model(asked, hub=False)
    assert "\n" not in str(e.value) and len(str(e.value)) > 30


# ---------------------------------------------------------------- folders and files

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100}


def write(folder, config, name="config.json"):
    (folder / name).write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def test_a_folder_and_its_config(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    write(folder, LLAMA)
    for asked in (folder, f"{folder}/", folder / "config.json"):
        m = catalog.model(str(asked))
        assert m.name == "my-model" and m.params == 2 * (64 * 16 * (4 + 2 * 2 + 4) + 3 * 64 * 128 + 2 * 64) + 64 + 2 * 6400
    (folder / "model.safetensors").write_bytes(bytes(1000))
    assert catalog.model(str(folder)).file_bytes == 1000


@pytest.mark.parametrize(("config", "says"), [
    ({k: v for k, v in LLAMA.items() if k != "num_hidden_layers"}, "num_hidden_layers"),
    (LLAMA | {"num_hidden_layers": 0}, "num_hidden_layers"), (LLAMA | {"num_hidden_layers": "two"}, "num_hidden_layers"),
    (LLAMA | {"hidden_size": None}, "hidden_size"), (LLAMA | {"vocab_size": -5}, "vocab_size"),
    (LLAMA | {"num_attention_heads": True}, "num_attention_heads"), ({}, "hidden_size"), ([], "not a JSON object"),
    ("{nonsense", "not valid JSON"), (LLAMA | {"layer_types": ["warp_drive"] * 2}, "warp_drive"),
    (LLAMA | {"model_type": "jamba"}, "jamba"), (LLAMA | {"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"),
    (LLAMA | {"num_local_experts": 4}, "experts"), (LLAMA | {"intermediate_size": "wide"}, "can't be read"),
    (LLAMA | {"head_dim": float("nan")}, "head_dim"), (LLAMA | {"head_dim": 128.5}, "head_dim"),
    (LLAMA | {"max_position_embeddings": float("inf")}, "max_position_embeddings"),
    (LLAMA | {"max_position_embeddings": -1}, "max_position_embeddings"), (LLAMA | {"hidden_size": 10**30}, "hidden_size"),
    ({k: v for k, v in LLAMA.items() if k != "intermediate_size"}, "intermediate_size"),
    (LLAMA | {"layer_types": ["full_attention"]}, "types of 1 layers"), (LLAMA | {"num_local_experts": "8"}, "num_local_experts"),
    (LLAMA | {"num_local_experts": 8, "num_experts_per_tok": 9}, "9 of 8"), (LLAMA | {"num_key_value_heads": 0}, "num_key_value"),
    (LLAMA | {"num_local_experts": 8, "num_experts_per_tok": 2.5}, "num_experts_per_tok"),
    (LLAMA | {"num_key_value_heads": 8}, "8 heads"), (LLAMA | {"tie_word_embeddings": "no"}, "tie_word"),
    ("[" * 100000, "nested too deeply"), ('{"hidden_size": ' + "9" * 5000 + "}", "config.json is not valid JSON"),
    (LLAMA | {"model_type": "deepseek_v3", "kv_lora_rank": 16}, "")])
def test_a_config_that_is_none_is_refused(tmp_path, config, says):
    write(tmp_path, config)
    if says:
        with pytest.raises(ValueError, match=says) as e:
            catalog.model(str(tmp_path))
        assert "\n" not in str(e.value)
    else:                                  # the family's own defaults fill what a published config leaves out
        assert catalog.model(str(tmp_path)).caches[0].elements == 16 + 64


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(catalog.UnknownModel, match=r"config\.json"):
        catalog.model(str(tmp_path))


def test_the_shipped_model_is_counted_to_the_byte():
    from gb10.paths import PICO

    m = catalog.model(str(PICO))
    header = (PICO / "model.safetensors").open("rb")
    with header as f:
        size = int.from_bytes(f.read(8), "little")
        tensors = json.loads(f.read(size))
    stored = sum(math.prod(t["shape"]) for k, t in tensors.items() if k != "__metadata__")
    assert m.params == stored


def test_offline_the_hub_is_one_sentence(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="switched off") as e:
        catalog.model("somebody/some-model-that-is-nowhere")
    assert "\n" not in str(e.value)


def test_what_can_not_be_read_is_named(tmp_path):
    (tmp_path / "dir" / "config.json").mkdir(parents=True)
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "config.json").symlink_to(tmp_path / "loop" / "config.json")
    (tmp_path / "hf").mkdir()
    write(tmp_path / "hf", LLAMA)
    (tmp_path / "hf" / "hf_quant_config.json").write_bytes(b"\xff{")
    for folder, names in (("dir", "config.json"), ("loop", "loop"), ("hf", "hf_quant_config.json")):
        with pytest.raises(ValueError, match=names) as e:
            catalog.model(str(tmp_path / folder))
        assert "\n" not in str(e.value)
    for name in ("x" * 5000, "x/" + "y" * 5000, "Qwen3\n-9B"):
        with pytest.raises(catalog.UnknownModel) as e:
            catalog.model(name, hub=False)
        assert "\n" not in str(e.value) and len(str(e.value)) < 600
    write(tmp_path / "dir", LLAMA, "m.json")
    (tmp_path / "dir" / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    assert catalog.model(str(tmp_path / "dir" / "m.json")).file_bytes is None


def test_an_unknown_quantisation_is_not_taken_for_none(tmp_path):
    from gb10 import roofline

    write(tmp_path, LLAMA | {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}})
    with pytest.raises(ValueError, match="bitsandbytes.*--weights"):
        roofline.fit(str(tmp_path))
    assert roofline.fit(str(tmp_path), weights="bf16").weights == "bf16"
