"""Checkpoints with the model in memory: calibrated, refused before anything is loaded, gone on with after a stop."""

import copy
import json
from dataclasses import replace

import pytest

from gb10 import machine
from gb10.errors import UserError
from gb10.quantize import whole
from gb10.quantize.calibration import Ranges, read_text, samples
from gb10.quantize.cookbook import recipe
from gb10.quantize.streaming.source import read_source

FILE = "model.safetensors"
TEXT = "".join(chr(32 + i * i % 90) for i in range(4000))


@pytest.fixture(scope="module")
def model(tiny, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "tiny"
    copy.deepcopy(tiny).save_pretrained(folder)      # it writes the dtype into the config as a text
    tokenizer.save_pretrained(folder)
    return folder


def made(model, out, name="nvfp4", **how):
    return whole.quantize_whole(model, out, recipe(name), text=TEXT, count=8, length=64, batch=2, **how)


@pytest.fixture(scope="module")
def want(model, tmp_path_factory):
    return (made(model, tmp_path_factory.mktemp("want") / "out").folder / FILE).read_bytes()


def test_a_calibrated_checkpoint(model, want, tmp_path):
    seen = []
    done = made(model, tmp_path / "out", progress=lambda *step: seen.append(step))
    assert (done.folder / FILE).read_bytes() == want, "the same call, the same bytes"
    assert done.batches == 4 and done.resumed_batches == 0 and done.written_bytes < done.read_bytes
    assert [s for s in seen if s[0] == "calibrate"] == [("calibrate", i, 4) for i in range(1, 5)]
    assert json.loads((done.folder / "hf_quant_config.json").read_text())["quantization"]["quant_algo"] == "NVFP4"
    assert (done.folder / "tokenizer.json").exists() and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_recipe_that_needs_no_data(model, tmp_path):
    from gb10.quantize.streaming.run import stream

    ours = stream(model, tmp_path / "stream").folder
    theirs = whole.quantize_whole(model, tmp_path / "whole", recipe("w4a16")).folder
    assert (ours / FILE).read_bytes() == (theirs / FILE).read_bytes()


class Stopped(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3, 4])
def test_it_goes_on_with_the_calibration(after, model, want, tmp_path, monkeypatch):
    monkeypatch.setattr("gb10.quantize.calibration.EVERY", 0)

    def stop(what, done, total):
        if what == "calibrate" and done == after or what == "write" and after == 4:
            raise Stopped

    with pytest.raises(Stopped):
        made(model, tmp_path / "out", progress=stop)
    assert not (tmp_path / "out").exists() and (tmp_path / ".out.partial" / whole.RANGES).exists()
    done = made(model, tmp_path / "out")
    assert done.resumed_batches == after and (done.folder / FILE).read_bytes() == want
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_was_seen_before_counts(model, tmp_path, monkeypatch):
    """The largest of what an interrupted run saw survives, also where the rest sees nothing of that size."""
    import torch

    class Calibrator:
        _calib_amax = None

    class Quantizer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self._calibrator = Calibrator()

    net = torch.nn.ModuleDict({"seen": Quantizer(), "expert": Quantizer()})
    batches = [torch.zeros(1, 4, dtype=torch.long) + i for i in range(4)]
    first = Ranges(net, tmp_path / "r.safetensors", {"a": 1}, batches)
    net["seen"]._calibrator._calib_amax = torch.tensor(5.0)
    net["expert"]._calibrator._calib_amax = torch.tensor(7.0)
    first._save(2)
    net = torch.nn.ModuleDict({"seen": Quantizer(), "expert": Quantizer()})
    again = Ranges(net, tmp_path / "r.safetensors", {"a": 1}, batches)
    assert again.before == 2 and len(again.left) == 2
    net["seen"]._calibrator._calib_amax = torch.tensor(3.0)
    again.after_batch(1)
    assert net["seen"]._calibrator._calib_amax == 5 and net["expert"]._calibrator._calib_amax == 7
    for other in ({"a": 2}, {"a": 1}):
        changed = batches if other == {"a": 2} else batches[:3]
        assert Ranges(net, tmp_path / "r.safetensors", other, changed).before == 0


# ---------------------------------------------------------------- what is refused, before anything is loaded

@pytest.fixture
def unloaded(monkeypatch):
    monkeypatch.setattr(whole, "_load", lambda folder: pytest.fail("the model was loaded"))


def here(available, gb10=False):
    gpus = (machine.Gpu("NVIDIA GB10", (12, 1), None),) if gb10 else ()
    return replace(machine.detect(), memory_available_bytes=int(available), gpus=gpus)


def test_what_does_not_fit_is_refused_with_the_figures(model, tmp_path):
    source, w4a4 = read_source(model), recipe("nvfp4")
    assert whole.refuse(source, w4a4, tmp_path / "out", here(4e9)).fits
    with pytest.raises(UserError, match=r"2\.5 GB of memory.*2\.0 GB are available.*w4a16"):
        whole.refuse(source, w4a4, tmp_path / "out", here(2e9))
    with pytest.raises(UserError, match="wedges"):
        whole.refuse(source, w4a4, tmp_path / "out", here(9e9, gb10=True))
    assert whole.refuse(source, w4a4, tmp_path / "out", here(11e9, gb10=True)).keep_free == 8e9


def test_the_size_that_is_expected_is_the_size_that_comes(model, want):
    assert whole.needs(read_source(model), recipe("nvfp4")).out == pytest.approx(len(want), rel=0.1)


def test_other_refusals(model, unloaded, tmp_path):
    with pytest.raises(UserError, match="no checkpoint format"):
        made(model, tmp_path / "out", "mxfp6")
    with pytest.raises(UserError, match="gives 62 samples.*--calib 62"):
        whole.quantize_whole(model, tmp_path / "out", recipe("nvfp4"), text=TEXT, count=500, length=64)
    (model / "tokenizer.json").rename(tmp_path / "kept")
    try:
        with pytest.raises(UserError, match="no tokenizer"):
            made(model, tmp_path / "out")
    finally:
        (tmp_path / "kept").rename(model / "tokenizer.json")
    assert list(tmp_path.iterdir()) == []


def test_a_quantized_model_is_refused(checkpoint, unloaded, tmp_path):
    with pytest.raises(UserError, match="quantized already"):
        made(checkpoint, tmp_path / "out")


def test_a_model_that_is_not_whole_is_refused(model, tmp_path):
    """transformers would fill in random numbers."""
    import shutil

    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(model, tmp_path / "model")
    tensors = load_file(broken / FILE)
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    save_file(tensors, broken / FILE, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 .*k_proj"):
        made(broken, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_samples_come_from_all_over_the_text(tokenizer):
    batches = samples(tokenizer, TEXT, 5, 100, 2)
    assert [tuple(b.shape) for b in batches] == [(2, 100), (2, 100), (1, 100)]
    ids = tokenizer(TEXT)["input_ids"]
    assert [b.tolist() for row in batches for b in row] == [ids[i * 800:i * 800 + 100] for i in range(5)]


def test_calibration_text(tmp_path):
    (tmp_path / "a.txt").write_text("one<|endoftext|>two")
    (tmp_path / "b.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}\n')
    assert read_text(tmp_path / "a.txt") == "onetwo" and read_text(tmp_path / "b.jsonl") == "one\n\ntwo"
    for name, content in (("c.jsonl", '{"prompt": "x"}'), ("d.jsonl", "{"), ("e.txt", " "), ("f.txt", b"\xff\xfe\x00")):
        path = tmp_path / name
        path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
        with pytest.raises(UserError):
            read_text(path)
    for path in (tmp_path, tmp_path / "nowhere.txt"):
        with pytest.raises(UserError):
            read_text(path)
