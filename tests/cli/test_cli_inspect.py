"""./course inspect as a user or a script calls it."""

import json
import os
import struct
import subprocess
import sys

import pytest

from gb10.paths import PICO, ROOT


@pytest.fixture
def model(tmp_path):
    """One NVFP4 layer in ModelOpt's layout, with a name that would write on the terminal beside it."""
    shapes = {"model.layers.0.mlp.up_proj.weight": ("U8", [32, 32], 1024), "model.layers.0.mlp.up_proj.weight_scale": ("F8_E4M3", [32, 4], 128),
              "model.layers.0.mlp.up_proj.weight_scale_2": ("F32", [], 4), "model.\x1b[31mred.weight": ("BF16", [4], 8)}
    header, at = {}, 0
    for name, (dtype, shape, size) in shapes.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    folder = tmp_path / "toy-nvfp4"
    folder.mkdir()
    body = bytearray(at)
    body[1152:1156] = struct.pack("<f", 1 / 2688)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(body))
    (folder / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4"}}))
    return folder


def test_the_page(course, model):
    p = course("inspect", str(model))
    assert p.returncode == 0 and p.stderr == "" and "\033" not in p.stdout
    for words in ("toy-nvfp4", "bits per weight", "model.layers.*.mlp.up_proj", "NVFP4 W4A16", "amax / 2688", "KV cache", r"\x1b[31mred"):
        assert words in p.stdout
    assert max(map(len, p.stdout.splitlines())) <= 100
    assert "model.layers.0.mlp.up_proj " in course("inspect", str(model), "--tensors").stdout


def test_json(course, model):
    p = course("inspect", str(model), "--json")
    d = json.loads(p.stdout)
    assert p.returncode == 0 and p.stderr == "" and p.stdout.count("\n") == 1
    assert d["quantized"] is True and d["layouts"] == ["modelopt"] and d["warnings"] == [] and "weights" not in d
    assert d["scales"][0]["example"]["amax"] == pytest.approx(1, rel=1e-6)
    every = json.loads(course("inspect", str(model), "--json", "--tensors").stdout)["weights"]
    assert {t["dtype"] for w in every for t in w["tensors"]} == {"U8", "F8_E4M3", "F32", "BF16"}


def test_the_shipped_model(course):
    d = json.loads(course("inspect", str(PICO), "--json").stdout)
    assert d["quantized"] is False and d["bits_per_weight"] == 16 and d["nvfp4_bytes"] < d["tensor_bytes"]


@pytest.mark.parametrize(("content", "says"), [
    (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os.", "is a pickle"), (b"version https://git-lfs.github.com/spec/v1\nsize 5\n", "git-lfs"),
    (b"", "is empty"), (struct.pack("<Q", 500) + b"{" + bytes(20), "cut off"), (b"<html>", "web page")])
def test_what_is_no_checkpoint_costs_one_sentence(course, tmp_path, content, says):
    (tmp_path / "model.safetensors").write_bytes(content)
    for asked in (tmp_path, tmp_path / "model.safetensors"):
        p = course("inspect", str(asked))
        assert p.returncode == 2 and p.stdout == "" and says in p.stderr and p.stderr.count("\n") == 1 and "Traceback" not in p.stderr


@pytest.mark.parametrize(("argv", "says"), [([], "which checkpoint"), (["/nowhere"], "is not there"), (["x\x1b[31m"], r"x\x1b[31m is not there")])
def test_wrong_requests(course, argv, says):
    p = course("inspect", *argv)
    assert p.returncode == 2 and says in p.stderr and p.stderr.count("\n") == 1 and "\033" not in p.stderr


def test_a_reader_that_goes_away(course, model, env):
    p = subprocess.run(f"{sys.executable} -m gb10 inspect {model} --tensors | head -1", shell=True, cwd=ROOT, env=env, capture_output=True,
                       text=True, timeout=60, check=False)
    assert p.stderr == "" and p.stdout.startswith("toy-nvfp4")


def test_a_terminal_of_ascii_gets_its_page(course, model):
    model = model.rename(model.with_name("m\u00f6del"))
    p = course("inspect", str(model), PYTHONIOENCODING="ascii")
    assert p.returncode == 0 and p.stdout.startswith(r"m\xf6del")


def test_nothing_is_written_and_nothing_slow_is_imported(model):
    before = {f: os.stat(model / f).st_mtime_ns for f in os.listdir(model)}
    code = (f"import sys; sys.argv[1:] = ['inspect', {str(model)!r}]; from gb10.cli import main; main(); "
            "slow = {'torch', 'numpy', 'transformers', 'safetensors', 'pickle', 'modelopt'} & sys.modules.keys(); assert not slow, slow")
    p = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert p.returncode == 0, p.stderr
    assert before == {f: os.stat(model / f).st_mtime_ns for f in os.listdir(model)}


def test_help_teaches(course):
    p = course("inspect", "--help")
    assert p.returncode == 0
    for words in ("./course inspect path/to/checkpoint", "--json", "each other's inverse", "4.5 together", "Exit code"):
        assert words in p.stdout
