"""Weight-only NVFP4 as a stream: the bytes of ModelOpt's export, whatever the architecture, dtype or file."""

import json
import shutil
import struct

import architectures
import pytest
import torch
from safetensors.torch import load_file, save_file

from gb10.errors import UserError, WorkFailed
from gb10.formats import NVFP4
from gb10.formats.kernels import plain
from gb10.quantize.inside.header import read_header
from gb10.quantize.streaming import layout, modelopt, rules
from gb10.quantize.streaming.planning import make_plan
from gb10.quantize.streaming.run import prepare, stream
from gb10.quantize.streaming.source import read_source

FILE = "model.safetensors"


def raw(t):
    return t.contiguous().reshape(-1).view(torch.uint8)


def same_tensors(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(raw(ours[name]), raw(tensor)), name


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return architectures.save("llama", tmp_path_factory.mktemp("llama") / "model")


@pytest.fixture(scope="module")
def llama_streamed(llama, tmp_path_factory):
    return stream(llama, tmp_path_factory.mktemp("streamed") / "out").folder


@pytest.mark.parametrize("kind", architectures.KINDS)
def test_the_file_is_modelopts_to_the_byte(kind, tmp_path):
    source = architectures.save(kind, tmp_path / "model")
    theirs = architectures.by_modelopt(source, tmp_path / "theirs")
    job = prepare(source)
    assert job.plan.by == ("rules" if kind in architectures.BY_RULES else "modelopt")
    made = stream(job, tmp_path / "ours")
    assert (made.folder / FILE).read_bytes() == (theirs / FILE).read_bytes()
    for name in ("hf_quant_config.json",):
        assert (made.folder / name).read_text() == (theirs / name).read_text()
    ours, modelopts = (json.loads((f / "config.json").read_text()) for f in (made.folder, theirs))
    assert ours["quantization_config"] == modelopts["quantization_config"]
    assert made.quantized == sum(name.endswith(".weight_scale_2") for name in load_file(theirs / FILE)) > 0


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_other_dtypes(dtype, tmp_path):
    source = architectures.save("qwen3", tmp_path / "model", dtype)
    theirs = architectures.by_modelopt(source, tmp_path / "theirs")
    assert (stream(source, tmp_path / "ours").folder / FILE).read_bytes() == (theirs / FILE).read_bytes()


@pytest.mark.parametrize("kind", architectures.BY_RULES)
def test_the_rules_say_what_modelopt_says(kind, tmp_path):
    source = read_source(architectures.save(kind, tmp_path / "model"))
    ours, theirs = rules.plan(source), modelopt.plan(source)
    assert set(map(frozenset, ours.groups)) == set(map(frozenset, theirs.groups))
    assert sorted(ours.kept) == sorted(theirs.kept) and ours.left == theirs.left and ours.excluded == theirs.excluded


def test_the_rules_leave_what_they_do_not_know(tmp_path):
    source = read_source(architectures.save("qwen3", tmp_path / "model"))
    assert rules.plan(source) is not None
    for change in ({"model_type": "qwen9"}, {"auto_map": {"AutoModel": "x.Y"}}, {"num_hidden_layers": 3},
                   {"architectures": ["Qwen3ForSequenceClassification"]}, {"dtype": "float16"}, {"dtype": ["x"]},
                   {"model_type": ["qwen3"]}, {"architectures": 5}, {"architectures": [5]}, {"hidden_size": 32},
                   {"hidden_size": "64"}, {"vocab_size": 10**13}, {"head_dim": 8}, {"attention_bias": True},
                   {"tie_word_embeddings": True}, {"tie_word_embeddings": 1}, {"num_hidden_layers": 10**9}):
        assert rules.plan(type(source)(source.folder, {**source.config, **change}, source.tensors, "")) is None, change
    more = {**source.tensors, "model.layers.0.extra.weight": source.tensors["model.norm.weight"]}
    assert rules.plan(type(source)(source.folder, source.config, more, "")) is None


@pytest.mark.parametrize("kind", architectures.NOT_STREAMED)
def test_what_modelopt_treats_in_its_own_way_is_left_to_it(kind, tmp_path):
    source = architectures.save(kind, tmp_path / "model")
    with pytest.raises(modelopt.NotStreamable):
        stream(source, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_many_files_in_and_out(llama, llama_streamed, tmp_path, monkeypatch):
    many = architectures.save("llama", tmp_path / "model", max_shard_size="50KB")
    assert len(list(many.glob("*.safetensors"))) > 3
    assert (stream(many, tmp_path / "one").folder / FILE).read_bytes() == (llama_streamed / FILE).read_bytes()
    job = prepare(many)
    job = type(job)(job.source, job.plan, layout.lay_out(job.source, job.plan, shard=40_000), job.groups)
    out = stream(job, tmp_path / "many").folder
    index = json.loads((out / "model.safetensors.index.json").read_text())
    tensors = {}
    for file in sorted(out.glob("*.safetensors")):
        found = load_file(file)
        assert all(index["weight_map"][name] == file.name for name in found)
        tensors |= found
    same_tensors(tensors, load_file(llama_streamed / FILE))
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
    assert len(set(index["weight_map"].values())) == len(list(out.glob("*.safetensors"))) > 2
    assert not list(out.glob("*.partial"))


def test_a_matrix_that_is_longer_than_what_is_kept_between_passes(llama, llama_streamed, tmp_path, monkeypatch):
    from gb10.quantize.streaming import encode

    monkeypatch.setattr(encode, "STRETCH", 48)
    monkeypatch.setattr(encode, "WINDOW", 4096)
    monkeypatch.setattr(encode, "GATHERED", 100)
    monkeypatch.setattr(encode, "REMEMBERED", 0)
    monkeypatch.setattr(encode, "COPY", 1000)
    assert (stream(llama, tmp_path / "out").folder / FILE).read_bytes() == (llama_streamed / FILE).read_bytes()


def test_without_the_compiled_loops(llama, llama_streamed, tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "available", lambda: False)
    assert (stream(llama, tmp_path / "out").folder / FILE).read_bytes() == (llama_streamed / FILE).read_bytes()


def rewrite(folder, change, header_pad=0):
    """Write the weights of a checkpoint anew, after change(tensors)."""
    tensors = load_file(folder / FILE)
    change(tensors)
    save_file(tensors, folder / FILE, metadata={"format": "pt"})
    if header_pad:
        data = (folder / FILE).read_bytes()
        n = struct.unpack("<Q", data[:8])[0]
        (folder / FILE).write_bytes(struct.pack("<Q", n + header_pad) + data[8:8 + n] + b" " * header_pad + data[8 + n:])


def test_tensors_that_lie_at_odd_places(llama, llama_streamed, tmp_path):
    odd = shutil.copytree(llama, tmp_path / "model")
    rewrite(odd, lambda tensors: None, header_pad=3)
    assert read_header(odd / FILE).tensors[0].offset % 2
    assert (stream(odd, tmp_path / "out").folder / FILE).read_bytes() == (llama_streamed / FILE).read_bytes()


@pytest.mark.parametrize("kind", ["qwen3, tied", "gemma3"])
def test_a_head_of_its_own_is_not_taken_for_a_tied_one(kind, tmp_path):
    """transformers unties them then, and ModelOpt keeps both: that is left to it."""
    source = architectures.save(kind, tmp_path / "model")
    rewrite(source, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] * 2}))
    with pytest.raises(modelopt.NotStreamable, match="another matrix"):
        stream(source, tmp_path / "out")


@pytest.mark.parametrize("change", [
    lambda t: t.pop("model.layers.0.input_layernorm.weight"), lambda t: t.pop("model.layers.1.self_attn.q_norm.weight"),
    lambda t: t.update({"model.layers.0.mlp.up_proj.weight": t["model.layers.0.mlp.up_proj.weight"][:80].clone()}),
    lambda t: t.update({"model.norm.weight": t["model.norm.weight"][:32].clone()})])
def test_what_the_config_does_not_say_is_not_streamed(change, tmp_path):
    source = architectures.save("qwen3", tmp_path / "model")
    rewrite(source, change)
    with pytest.raises(modelopt.NotStreamable):
        stream(source, tmp_path / "out")


def test_a_bias_that_the_model_does_not_load_is_left_out(tmp_path):
    source = architectures.save("llama", tmp_path / "model")
    rewrite(source, lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(64, dtype=torch.bfloat16)}))
    made = stream(source, tmp_path / "out")
    assert made.left == ("model.layers.0.self_attn.q_proj.bias",)
    assert (made.folder / FILE).read_bytes() == (architectures.by_modelopt(source, tmp_path / "theirs") / FILE).read_bytes()


@pytest.mark.parametrize("change", [
    lambda t: t.pop("model.layers.0.mlp.experts.3.up_proj.weight"),
    lambda t: [t.pop(n) for n in list(t) if ".experts.1." in n],
    lambda t: t.update({n.replace(".3.", ".4."): t[n].clone() for n in list(t) if ".0.mlp.experts.3." in n})])
def test_experts_are_counted(change, tmp_path):
    source = architectures.save("qwen3-moe", tmp_path / "model")
    rewrite(source, change)
    with pytest.raises(modelopt.NotStreamable, match="experts"):
        stream(source, tmp_path / "out")


def test_a_config_of_a_billion_layers(copied, tmp_path):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**9}))
    refused(copied, tmp_path / "out", "don't belong together")


def test_the_copy_of_a_tied_head_is_left_out(tmp_path):
    source = architectures.save("llama, tied", tmp_path / "model")
    rewrite(source, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    made = stream(source, tmp_path / "out")
    assert made.left == ("lm_head.weight",)
    assert (made.folder / FILE).read_bytes() == (architectures.by_modelopt(source, tmp_path / "theirs") / FILE).read_bytes()


def test_a_norm_in_fp32_becomes_what_the_model_computes_in(tmp_path):
    source = architectures.save("llama", tmp_path / "model")
    rewrite(source, lambda t: t.update({"model.norm.weight": torch.linspace(0.5, 1.5, 64)}))
    made = stream(source, tmp_path / "out")
    assert (made.folder / FILE).read_bytes() == (architectures.by_modelopt(source, tmp_path / "theirs") / FILE).read_bytes()


def test_tensors_that_the_model_does_not_load_are_left_out(tmp_path):
    source = architectures.save("qwen3", tmp_path / "model")
    rewrite(source, lambda t: t.update({"model.layers.9.mlp.up_proj.weight": torch.zeros(16, 16, dtype=torch.bfloat16)}))
    made = stream(source, tmp_path / "out")
    assert made.left == ("model.layers.9.mlp.up_proj.weight",)
    assert (made.folder / FILE).read_bytes() == (architectures.by_modelopt(source, tmp_path / "theirs") / FILE).read_bytes()


def test_all_zero_weights_decode_to_zeros(tmp_path):
    """ModelOpt's export has NaN for a scale there."""
    source = architectures.save("llama", tmp_path / "model")
    zero = "model.layers.1.mlp.down_proj.weight"
    rewrite(source, lambda t: t[zero].zero_())
    made = stream(source, tmp_path / "out")
    assert made.zero == (zero,)
    tensors = load_file(made.folder / FILE)
    assert tensors[zero + "_scale_2"] == 1
    assert not NVFP4(tensors[zero], tensors[zero + "_scale"], tensors[zero + "_scale_2"]).dequantize().any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_weight_that_is_not_finite_is_named(value, dtype, tmp_path):
    source = architectures.save("llama", tmp_path / "model", dtype)
    rewrite(source, lambda t: t["model.layers.1.mlp.up_proj.weight"].view(-1)[-1:].fill_(value))
    with pytest.raises(WorkFailed, match=r"layers\.1\.mlp\.up_proj\.weight"):
        stream(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_travels_along(llama, tmp_path):
    source = shutil.copytree(llama, tmp_path / "model")
    for name in ("tokenizer.json", "chat_template.jinja", "LICENSE", "modeling_x.py", "pytorch_model.bin", ".secret",
                 "README.md", "model.safetensors.partial", "journal.jsonl", "x.pkl"):
        (source / name).write_text("{}")
    out = stream(source, tmp_path / "out").folder
    assert {p.name for p in out.iterdir()} == {"config.json", "generation_config.json", "hf_quant_config.json", FILE,
                                               "tokenizer.json", "chat_template.jinja", "LICENSE"}
    config = json.loads((out / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert {k: v for k, v in config.items() if k not in ("quantization_config", "rope_theta")} == \
        json.loads((source / "config.json").read_text())


def test_progress_adds_up(llama, tmp_path):
    seen = []
    made = stream(llama, tmp_path / "out", progress=lambda done, total: seen.append((done, total)), threads=1)
    assert seen[0] == (0, made.read_bytes) and seen[-1] == (made.read_bytes, made.read_bytes)
    assert seen == sorted(seen) and made.read_bytes == sum(t.bytes for t in read_source(llama).tensors.values())
    assert made.written_bytes == sum(f.stat().st_size for f in made.folder.glob("*.safetensors"))


# ---------------------------------------------------------------- what is refused

def refused(source, out, match, **how):
    before = sorted(p.name for p in out.parent.iterdir())
    with pytest.raises(UserError, match=match):
        stream(source, out, **how)
    assert sorted(p.name for p in out.parent.iterdir()) == before


@pytest.fixture
def copied(llama, tmp_path):
    return shutil.copytree(llama, tmp_path / "model")


def test_what_is_quantized_already(llama_streamed, copied, tmp_path):
    refused(llama_streamed, tmp_path / "out", "quantized already")
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "fp8"}}))
    refused(copied, tmp_path / "out", "quantized already.*fp8")
    (copied / "config.json").write_text(json.dumps(config))
    rewrite(copied, lambda t: t.update({"model.layers.0.mlp.up_proj.weight": t["model.layers.0.mlp.up_proj.weight"].to(
        torch.float8_e4m3fn)}))
    refused(copied, tmp_path / "out", "quantized already")


def test_what_is_not_whole(copied, tmp_path):
    rewrite(copied, lambda t: t.pop("model.layers.1.self_attn.k_proj.weight"))
    refused(copied, tmp_path / "out", "k_proj")
    (copied / FILE).write_bytes((copied / FILE).read_bytes()[:-5])
    refused(copied, tmp_path / "out", "cut off")
    (copied / FILE).unlink()
    refused(copied, tmp_path / "out", r"no \*\.safetensors")
    (copied / "pytorch_model.bin").write_bytes(b"\x80\x04")
    refused(copied, tmp_path / "out", "pickled")
    (copied / "config.json").unlink()
    refused(copied, tmp_path / "out", "no config.json")
    refused(tmp_path / "nowhere", tmp_path / "out", "not a folder")


@pytest.mark.parametrize(("places", "match"), [
    ({"a": "../../etc/passwd.safetensors"}, "isn't read"), ({"a": "/etc/passwd"}, "isn't read"),
    ({"a": "model-00002.safetensors"}, "lacks model-00002"), ({"a": 3}, "no weight_map")])
def test_a_hostile_index(places, match, copied, tmp_path):
    (copied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    refused(copied, tmp_path / "out", match)


def test_code_that_comes_with_a_checkpoint_is_not_run(copied, tmp_path):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "model_type": "mine", "auto_map": {
        "AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}))
    (copied / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    refused(copied, tmp_path / "out", "isn't run")
    assert not (tmp_path / "ran").exists()


def test_rows_that_nvfp4_cannot_hold(tmp_path, monkeypatch):
    monkeypatch.setitem(architectures.KINDS, "narrow", ("llama", {**architectures._DENSE, "intermediate_size": 40}))
    refused(architectures.save("narrow", tmp_path / "model"), tmp_path / "out", "multiples of 16")


def test_a_full_disk_is_seen_before(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    refused(llama, tmp_path / "out", "MB are free there")


def test_where_it_may_go(llama, copied, tmp_path):
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").write_text("rain")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "diary")
    refused(llama, tmp_path / "diary", "holds no checkpoint")
    refused(llama, tmp_path / "file", "not a folder")
    refused(llama, tmp_path / "link", "not a folder")
    refused(copied, copied, "the model itself", force=True)
    refused(copied, copied / "inside", "lies in it")
    refused(copied, tmp_path, "holds it", force=True)
    assert (tmp_path / "diary" / "monday.txt").read_text() == "rain"


def test_an_earlier_checkpoint_is_replaced_only_by_force(llama, tmp_path):
    out = stream(llama, tmp_path / "out").folder
    (out / "mark").write_text("of the first")
    refused(llama, out, "--force")
    assert (out / "mark").exists()
    stream(llama, out, force=True)
    assert not (out / "mark").exists() and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_nothing_to_quantize_is_no_checkpoint(llama, monkeypatch, tmp_path):
    from gb10.quantize.streaming import plan as plans

    found = make_plan(read_source(llama))
    monkeypatch.setattr(rules, "plan", lambda source: plans.Plan((), found.kept, (), found.excluded))
    refused(llama, tmp_path / "out", "no layer")
