"""Looking into a checkpoint without loading it."""

import struct
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from gb10 import quantize
from gb10.errors import UserError


@pytest.fixture
def folder(tmp_path):
    save_file({"b": torch.zeros(2, 3, dtype=torch.bfloat16), "a": torch.tensor(1.0)}, tmp_path / "one.safetensors")
    save_file({"c": torch.zeros(4, dtype=torch.uint8)}, tmp_path / "two.safetensors")
    return tmp_path


def test_rows(folder):
    rows = quantize.inspect_tensors(folder)
    assert [(r.name, r.dtype, r.shape, r.bytes, r.file) for r in rows] == [
        ("a", "F32", (), 4, "one.safetensors"), ("b", "BF16", (2, 3), 12, "one.safetensors"),
        ("c", "U8", (4,), 4, "two.safetensors")]


def test_bytes_add_up(checkpoint):
    path = checkpoint / "model.safetensors"
    header = 8 + struct.unpack("<Q", path.read_bytes()[:8])[0]
    assert sum(r.bytes for r in quantize.inspect_tensors(checkpoint)) == path.stat().st_size - header


def test_offsets_lead_to_the_bytes(folder):
    row = next(r for r in quantize.inspect_tensors(folder) if r.name == "a")
    assert struct.unpack("<f", (folder / row.file).read_bytes()[row.offset:row.offset + row.bytes]) == (1.0,)


def test_the_index_says_which_files_count(folder):
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"c": "two.safetensors"}}')
    assert [r.name for r in quantize.inspect_tensors(folder)] == ["c"]


def test_read_tensor(folder):
    assert quantize.read_tensor(folder, "c").tolist() == [0, 0, 0, 0]
    with pytest.raises(UserError, match="no tensor"):
        quantize.read_tensor(folder, "d")


@pytest.mark.parametrize("content", [b"", b"abc", struct.pack("<Q", 10**12), struct.pack("<Q", 4) + b"nope",
                                     struct.pack("<Q", 2) + b"[]",
                                     struct.pack("<Q", 13) + b'{"a": {"b":1}'])
def test_damaged_files_are_refused(tmp_path, content):
    """Every way in which a file can be wrong: test_inspect_hostile.py."""
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="damaged|is empty|is a text"):
        quantize.inspect_tensors(tmp_path)


def test_a_cut_off_download_is_refused(folder):
    path = folder / "one.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match="damaged"):
        quantize.inspect_tensors(folder)


def test_what_is_not_a_checkpoint(tmp_path):
    with pytest.raises(UserError, match="no .*safetensors"):
        quantize.inspect_tensors(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(UserError, match="pickled"):
        quantize.inspect_tensors(tmp_path)
    with pytest.raises(UserError, match="not a folder"):
        quantize.inspect_tensors(tmp_path / "nowhere")


def test_import_is_light():
    code = ("import sys, gb10.quantize as q; assert 'torch' not in sys.modules; "
            "q.inspect_tensors; assert 'torch' not in sys.modules; dir(q)")
    subprocess.run([sys.executable, "-c", code], check=True)
