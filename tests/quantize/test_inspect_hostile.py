"""Nothing that a file holds may crash, hang, fill the memory, run, or pass for a checkpoint: one sentence each."""

import json
import os
import pickle
import random
import re
import resource
import struct
import subprocess
import sys
import time
import zipfile

import pytest
from checkpoint_files import folder, framed, gguf, modelopt, pair, safetensors, text, under

from gb10.errors import UserError
from gb10.quantize.checkpoint import inspect_tensors, read_tensor
from gb10.quantize.inside.page import page
from gb10.quantize.inside.report import inspect

GOOD = safetensors(under("model.layers.0.mlp.up_proj", modelopt(input_scale=.01)) | {
    "model.embed_tokens.weight": ("BF16", (8, 16)), "model.norm.weight": ("F32", (16,))}, {"format": "pt"})
GOOD_GGUF = gguf({"token_embd.weight": (12, (2, 256)), "blk.0.ffn_up.weight": (40, (2, 64)), "blk.0.ffn_up.scale": (0, (1,))},
                 {"general.architecture": "llama", "tokens": (9, struct.pack("<IQ", 8, 2) + text("a") + text("bc")), "n": 3})
QUICK = 1.0


def refused(path, match=""):
    """One sentence, within a second of work."""
    start = time.process_time()
    with pytest.raises(UserError) as e:
        inspect(path)
    assert time.process_time() - start < QUICK
    said = e.value.message
    assert re.search(match, re.sub(r"\S*/pytest-[^/]*/(popen-[^/]*/)?[^/\s]*", "", said)), said   # the folder is named as the test
    assert "\n" not in said and all(c.isprintable() for c in said) and len(said) < 700, said
    return said


def file(tmp_path, content, name="model.safetensors"):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def header(entries, data=b"", raw=False) -> bytes:
    return framed(entries if raw else json.dumps(entries).encode()) + data


def entry(dtype="F32", shape=(1,), place=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(place)}


def test_the_good_ones_are_good(tmp_path):
    assert inspect(file(tmp_path, GOOD)).warnings == [
        ("undeclared", inspect(tmp_path / "model.safetensors").warnings[0][1])]
    assert inspect(file(tmp_path, GOOD_GGUF, "m.gguf")).total.parameters == 2 * 256 + 2 * 64 + 0
    assert len(inspect_tensors(tmp_path)) == 6


def test_cut_off_at_every_byte(tmp_path):
    for good, name, padding in ((GOOD, "m.safetensors", 0), (GOOD_GGUF, "m.gguf", 28)):      # the end of a GGUF may lack padding
        path = file(tmp_path, good, name)
        assert inspect(path).total.parameters
        for n in reversed(range(len(good) - padding)):
            os.truncate(path, n)
            refused(path)


DAMAGED = {
    "a header of 2^63 bytes": (struct.pack("<Q", 2**63) + b"{}      ", "header would be|damaged"),
    "a header longer than the file": (struct.pack("<Q", 10_000) + b"{" + bytes(100), "cut off inside its header"),
    "not JSON": (framed(b"{nope}  "), "not valid JSON"),
    "not UTF-8": (framed(b'{"\xff\xfe": 1}'), "not valid JSON"),
    "a number of 10,000 digits": (framed(b'{"a": ' + b"9" * 10_000 + b"}"), "not valid JSON"),
    "nested deep": (framed(b'{"a":' + b"[" * 100_000), "nested too deep|not valid JSON"),
    "nested deep and closed": (framed(b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), "nested too deep"),
    "objects nested deep": (framed(b'{"a":' * 30_000 + b"1" + b"}" * 30_000), "nested too deep"),
    "a key twice": (framed(b'{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}')
                    + b"x", "twice"),
    "a field twice": (framed(b'{"a":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}') + b"x", "dtype, shape"),
    "an entry that is no object": (header({"a": 7}), "dtype, shape and data_offsets"),
    "an entry that is a list": (header({"a": ["U8", [1], [0, 1]]}), "dtype, shape and data_offsets"),
    "an entry too little": (header({"a": {"dtype": "U8", "shape": [1]}}), "dtype, shape and data_offsets"),
    "metadata that is a number": (header({"__metadata__": 3}), "metadata"),
    "metadata of numbers": (header({"__metadata__": {"a": 3}}), "metadata"),
    "an unknown dtype": (header({"a": entry("F5")}, bytes(4)), "unknown dtype"),
    "a dtype that is a list": (header({"a": entry(["F32"])}, bytes(4)), "unknown dtype"),
    "bytes that don't fit the shape": (header({"a": entry(shape=(2,))}, bytes(4)), "isn't what its shape"),
    "half a byte": (header({"a": entry("F4", (3,), (0, 1))}, bytes(1)), "isn't what its shape"),
    "a negative size": (header({"a": entry(shape=(-1, -1))}, bytes(4)), "impossible shape"),
    "sizes that overflow": (header({"a": entry(shape=(2**40, 2**40), place=(0, 4))}, bytes(4)), "isn't what its shape"),
    "a size of 2^64 + 1": (header({"a": entry(shape=(2**64 + 1,))}, bytes(4)), "impossible shape"),
    "sizes that are truths": (header({"a": entry(shape=(True,))}, bytes(4)), "impossible shape"),
    "sizes that are texts": (header({"a": entry(shape=("1",))}, bytes(4)), "impossible shape"),
    "sizes that are fractions": (header({"a": entry(shape=(1.0,))}, bytes(4)), "impossible shape"),
    "a shape that is an object": (header({"a": {**entry(), "shape": {"0": 1}}}, bytes(4)), "impossible shape"),
    "100,000 dimensions": (header({"a": entry(shape=(1,) * 100_000)}, bytes(4)), "impossible shape"),
    "a negative place": (header({"a": entry(place=(-4, 0))}, bytes(4)), "impossible place"),
    "a place backwards": (header({"a": entry(place=(4, 0))}, bytes(4)), "isn't what its shape"),
    "a place of three": (header({"a": entry(place=(0, 4, 8))}, bytes(8)), "impossible place"),
    "a place beyond the file": (header({"a": entry(shape=(1000,), place=(0, 4000))}, bytes(4)), "3,996 bytes are missing"),
    "overlapping": (header({"a": entry(place=(0, 4)), "b": entry(place=(2, 6))}, bytes(6)), "overlap"),
    "the same place": (header({"a": entry(), "b": entry()}, bytes(4)), "overlap"),
    "a gap": (header({"a": entry(), "b": entry(place=(8, 12))}, bytes(12)), "gap"),
    "a gap at the start": (header({"a": entry(place=(4, 8))}, bytes(8)), "gap"),
    "bytes left over": (header({"a": entry()}, bytes(9)), "5 bytes at its end belong to no tensor"),
    "a name that is no text": (framed(b'{"\\ud800":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}') + b"x", "no text"),
    "no tensors": (header({}), "holds no tensors"),
    "empty": (b"", "empty"), "a few bytes": (b"abc", ""), "zeros": (bytes(4096), "zeros"), "noise": (os.urandom(500), ""),
    "a list": (framed(b"[]        "), "damaged"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_safetensors(tmp_path, case):
    content, match = DAMAGED[case]
    refused(file(tmp_path, content), match)
    with pytest.raises(UserError):
        if not inspect_tensors(tmp_path):
            raise UserError("an empty list, as ever")
    with pytest.raises(UserError):
        read_tensor(tmp_path, "b")


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/gb10-a-pickle-ran",)


OTHERS = {
    "a pickle": (pickle.dumps(Evil()), "is a pickle"),
    "a pickle of protocol 0": (pickle.dumps(Evil(), protocol=0), "is a pickle"),
    "a pickle of protocol 2": (pickle.dumps({"w": [1.0]}, protocol=2), "is a pickle"),
    "a dict of protocol 0": (pickle.dumps({"w": [1.0]}, protocol=0), "is a pickle"),
    "a tar": (b"ustar" * 200, ""),
    "a git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 4976698672\n",
                          "git-lfs pointer.*4,976,698,672 bytes"),
    "a web page": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
    "a web page with blanks": (b"\n\n  <HTML>\n", "web page"),
    "an error of the hub": (b"Invalid username or password.", "text that begins 'Invalid username"),
    "an error as JSON": (b'{"error":"Repository not found"}', "text that begins"),
    "an error that writes on the terminal": (b"\x1b[2Jboo", "damaged"),
    "gzip": (b"\x1f\x8b\x08" + bytes(40), "gzip"), "numpy": (b"\x93NUMPY\x01\x00", "NumPy"), "old ggml": (b"tjgg" + bytes(40), "before GGUF"),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.gguf", "model.pth"])
def test_other_files_are_named_and_not_read(tmp_path, case, name):
    content, match = OTHERS[case]
    refused(file(tmp_path, content, name), match)
    assert not os.path.exists("/tmp/gb10-a-pickle-ran")


def test_pickles_of_pytorch(tmp_path):
    import torch

    torch.save({"w": torch.zeros(3)}, tmp_path / "model.safetensors")
    refused(tmp_path / "model.safetensors", "PyTorch pickle.*isn't read")
    torch.save({"w": torch.zeros(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    refused(tmp_path / "old.pt", "is a pickle")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        z.writestr("readme.txt", "hello")
    refused(tmp_path / "a.zip", "zip archive")


def test_a_header_that_begins_as_a_pickle_does(tmp_path):
    """640 is 0x80 0x02: the length of a sound header, and the first bytes of a pickle."""
    body = json.dumps({"a": entry()}).encode()
    path = file(tmp_path, framed(body + b" " * (640 - len(body))) + bytes(4))
    assert path.read_bytes()[:2] == b"\x80\x02" and inspect(path).total.parameters == 1


def test_a_folder_of_pickles_only(tmp_path):
    file(tmp_path, b"\x80\x04", "pytorch_model.bin")
    refused(tmp_path, "pickled")


def test_downloads_that_are_not_finished(tmp_path):
    refused(file(tmp_path, GOOD, "model.safetensors.incomplete"), "unfinished download")
    refused(tmp_path, "only an unfinished download")
    file(tmp_path, GOOD)
    assert "unfinished-download" in {c for c, _ in inspect(tmp_path).warnings}


# ---------------------------------------------------------------- what isn't a file

def test_pipes_folders_devices_and_loops(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    refused(tmp_path / "pipe.safetensors", "pipe or device")
    refused(tmp_path, "pipe or device")
    os.remove(tmp_path / "pipe.safetensors")
    (tmp_path / "model.safetensors").mkdir()
    refused(tmp_path, "is a folder and not a file")
    os.rmdir(tmp_path / "model.safetensors")
    os.symlink("b.safetensors", tmp_path / "a.safetensors")
    os.symlink("a.safetensors", tmp_path / "b.safetensors")
    for path in (tmp_path, tmp_path / "a.safetensors"):
        refused(path, "can't be read")
    for name in "ab":
        os.remove(tmp_path / f"{name}.safetensors")
    os.symlink("/dev/zero", tmp_path / "model.safetensors")
    refused(tmp_path, "pipe or device")
    os.remove(tmp_path / "model.safetensors")
    os.symlink("/proc/self/mem", tmp_path / "model.safetensors")
    refused(tmp_path)
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    refused(tmp_path / "loop")


@pytest.mark.parametrize("path", ["nowhere", "nowhere/model.gguf", "a\0b", "x" * 5000, ""])
def test_paths_that_lead_nowhere(tmp_path, path):
    refused(str(tmp_path / "no" / path) if path else tmp_path)


def test_hidden_files_are_no_part_of_a_model(tmp_path):
    file(tmp_path, GOOD)
    file(tmp_path, b"\0\5\x16\7 notes of a Mac", "._model.safetensors")
    assert inspect(tmp_path).files.keys() == {"model.safetensors"} and inspect_tensors(tmp_path)


def test_a_link_to_the_blob_of_the_hub_cache_is_fine(tmp_path):
    file(tmp_path, GOOD, "blob")
    (tmp_path / "snapshots" / "abc").mkdir(parents=True)
    os.symlink("../../blob", tmp_path / "snapshots" / "abc" / "model.safetensors")
    assert inspect(tmp_path / "snapshots" / "abc").total.parameters
    refused(tmp_path, "hub's cache: give the folder .*snapshots/abc")


# ---------------------------------------------------------------- several files

def sharded(tmp_path, weight_map, names=("m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors")):
    for i, name in enumerate(names):
        file(tmp_path, safetensors({f"t{i}.weight": ("F32", (2,))}), name)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return tmp_path


A, B = "m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"


def test_shards(tmp_path):
    r = inspect(sharded(tmp_path, {"t0.weight": A, "t1.weight": B}))
    assert r.warnings == [] and len(r.files) == 2 and r.total.parameters == 4
    assert "one shard" in inspect(tmp_path / A).notes[0]
    os.remove(tmp_path / B)
    refused(tmp_path, f"lacks {B}, which model.safetensors.index.json lists")


@pytest.mark.parametrize(("weight_map", "code"), [
    ({"t0.weight": A, "t1.weight": B, "t2.weight": B}, "index-names-missing-tensor"),
    ({"t0.weight": B, "t1.weight": A}, "index-names-wrong-file"), ({"t0.weight": A, "x": B}, "tensor-not-in-index")])
def test_an_index_that_does_not_fit(tmp_path, weight_map, code):
    assert code in {c for c, _ in inspect(sharded(tmp_path, weight_map)).warnings}


def test_a_tensor_in_two_files(tmp_path):
    for name in "ab":
        file(tmp_path, safetensors({"t.weight": ("F32", (2,))}), f"{name}.safetensors")
    r = inspect(tmp_path)
    assert [c for c, _ in r.warnings] == ["duplicate-tensor"] and r.total.parameters == 2


@pytest.mark.parametrize("shard", ["../../etc/passwd", "/etc/passwd", "../x.safetensors", "..", "", "a/b.safetensors", "..\\x.safetensors",
                                   "a\0.safetensors", "/x.safetensors", "model.bin", "\x1b[31m.bin"])
def test_an_index_that_points_out_of_its_folder(tmp_path, shard):
    refused(sharded(tmp_path, {"t0.weight": shard}), "model.safetensors.index.json names")
    with pytest.raises(UserError):
        inspect_tensors(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}', '{"weight_map": {}}', "[" * 100_000,
                                     '{"weight_map": {"a": "a.safetensors", "a": "b.safetensors"}}'])
def test_an_index_that_is_none(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    file(tmp_path, GOOD)
    refused(tmp_path, "index.json is damaged")


# ---------------------------------------------------------------- GGUF

def table_row(name=b"t", dims=(32,), kind=8, offset=0, n_dims=None):
    return text(name) + struct.pack("<I", len(dims) if n_dims is None else n_dims) + b"".join(
        struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", kind, offset)


def raw_gguf(table=b"", n=1, pairs=b"", n_pairs=0, version=3, data=bytes(64)) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, n, n_pairs) + pairs + table
    return head + bytes(-len(head) % 32) + data


def nested(depth):
    return text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * depth + struct.pack("<IQ", 0, 0)


BAD_GGUF = {
    "version 1": (gguf({}, version=1), "version 1"), "version 4": (gguf({}, version=4), "version 4"),
    "version 0": (gguf({}, version=0), "version 0"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 1, 0) + bytes(64), "big-endian"),
    "2^64 tensors": (gguf({}, n_tensors=2**64 - 1), "claims"), "2^63 pairs": (gguf({}, n_pairs=2**63), "claims"),
    "a million tensors in a small file": (gguf({}, n_tensors=900_000), "claims"),
    "one tensor too many": (gguf({"a": (0, (1,))}, n_tensors=2), ""),
    "a key longer than the file": (gguf({}, n_pairs=1, raw_pairs=struct.pack("<Q", 2**62) + bytes(64)), "bytes long"),
    "a text longer than the file": (gguf({}, n_pairs=1, raw_pairs=text("k") + struct.pack("<IQ", 8, 2**63) + bytes(64)), "cut off"),
    "a list longer than the file": (gguf({}, n_pairs=1, raw_pairs=text("k") + struct.pack("<IIQ", 9, 4, 2**61) + bytes(64)), "cut off"),
    "a list of 2^64 texts": (gguf({}, n_pairs=1, raw_pairs=text("k") + struct.pack("<IIQ", 9, 8, 2**64 - 1) + bytes(64)), "claims"),
    "a text in a list longer than the file": (gguf({}, n_pairs=1, raw_pairs=text("k") + struct.pack("<IIQQ", 9, 8, 1, 2**50) + bytes(64)),
                                              "longer than the file"),
    "lists in lists": (raw_gguf(pairs=nested(4), n_pairs=1, n=0), "arrays in arrays"),
    "lists in lists without end": (raw_gguf(pairs=nested(100_000), n_pairs=1, n=0), "arrays in arrays"),
    "an unknown kind of value": (gguf({}, n_pairs=1, raw_pairs=text("k") + struct.pack("<I", 99) + bytes(64)), "unknown type 99"),
    "an unknown kind in a list": (gguf({}, n_pairs=1, raw_pairs=text("k") + struct.pack("<IIQ", 9, 77, 2) + bytes(64)), "unknown type 77"),
    "a key twice": (gguf({}, n_pairs=2, raw_pairs=2 * pair("k", 1)), "twice"),
    "an empty key": (gguf({}, n_pairs=1, raw_pairs=pair("", 1)), "empty"),
    "a key that is no text": (gguf({}, n_pairs=1, raw_pairs=text(b"\xff\xfe") + struct.pack("<II", 4, 1)), "no text"),
    "an alignment of 0": (gguf({"a": (0, (1,))}, {"general.alignment": 0}), "power of two"),
    "an alignment of 48": (gguf({"a": (0, (1,))}, {"general.alignment": 48}), "power of two"),
    "an alignment of 2^31": (gguf({"a": (0, (1,))}, {"general.alignment": 2**31}), "power of two"),
    "an alignment that is a text": (gguf({"a": (0, (1,))}, {"general.alignment": "32"}), "power of two"),
    "5 dimensions": (raw_gguf(table_row(dims=(32, 1, 1, 1, 1))), "5 dimensions"),
    "2^32 dimensions": (raw_gguf(table_row(n_dims=2**32 - 1)), "dimensions"),
    "a size of 2^63": (raw_gguf(table_row(dims=(2**63,))), "impossible shape"),
    "sizes that overflow": (raw_gguf(table_row(dims=(2**32, 2**32))), "impossible shape"),
    "half a block": (raw_gguf(table_row(dims=(33,))), "multiple of the 32"),
    "an unknown type": (raw_gguf(table_row(kind=999)), "unknown ggml type 999"),
    "a type that was dropped": (raw_gguf(table_row(kind=31)), "Q4_0_4_4, which llama.cpp dropped"),
    "a place that is no place": (raw_gguf(table_row(offset=32)), "instead of 0"),
    "a place beyond the file": (raw_gguf(table_row(dims=(3200,))), "bytes are missing"),
    "the same place": (raw_gguf(table_row() + table_row(b"u"), n=2, data=bytes(128)), "instead of 64"),
    "a name twice": (raw_gguf(table_row() + table_row(offset=64), n=2, data=bytes(128)), "twice"),
    "a long name": (raw_gguf(table_row(b"n" * 5000)), "5,000 bytes long"),
    "a name that is no text": (raw_gguf(table_row(b"\xff")), "no text"),
    "bytes left over": (raw_gguf(table_row(), data=bytes(4096)), "belong to no tensor"),
    "no tensors": (gguf({}), "holds no tensors"),
}


@pytest.mark.parametrize("case", BAD_GGUF)
def test_damaged_gguf(tmp_path, case):
    content, match = BAD_GGUF[case]
    refused(file(tmp_path, content, "m.gguf"), match)


# ---------------------------------------------------------------- large lies cost little

LIMITED = """
import resource, sys, time
sys.path.insert(0, sys.argv[2])
from gb10.quantize.inside.report import inspect
from gb10.errors import UserError
start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    inspect(sys.argv[1])
except UserError as e:
    print(e.message)
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, file=sys.stderr)
"""


def cost(path):
    """(what was said, seconds, MB) of one look, in a process of its own."""
    from gb10.paths import ROOT

    p = subprocess.run([sys.executable, "-c", LIMITED, str(path), str(ROOT)], capture_output=True, text=True, check=True, timeout=60)
    seconds, kib = map(float, p.stderr.split())
    return p.stdout, seconds, kib / 1024


@pytest.mark.parametrize(("header", "says"), [
    (b"{" + b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(1_100_000)) + b"}", "1,000,000 tensors"),
    (b'{"a":[' + b"[]," * 20_000_000 + b"[]]}", "more entries"), (b'{"a":[' + b"1," * 30_000_000 + b"1]}", "more entries")])
def test_headers_of_many_millions_are_not_built(tmp_path, header, says):
    said, seconds, mb = cost(file(tmp_path, framed(header)))
    assert says in said and seconds < 5 and mb < 3 * len(header) / 1e6, (seconds, mb)


def test_a_header_said_to_be_huge_is_not_allocated(tmp_path):
    """Sparse: the file really is that long."""
    for length in (99_999_999, 2**40):
        path = file(tmp_path, struct.pack("<Q", length) + b"{")
        os.truncate(path, 2**40 + 100)
        said, seconds, mb = cost(path)
        assert said and seconds < 5 and mb < 300


def test_a_gguf_of_a_terabyte_of_empty_texts(tmp_path):
    path = file(tmp_path, gguf({}, n_pairs=1, raw_pairs=text("k") + struct.pack("<IIQ", 9, 8, 2**36)), "m.gguf")
    os.truncate(path, 2**40)
    said, seconds, mb = cost(path)
    assert "4,000,000 metadata values" in said and seconds < 2 and mb < 50


def test_reading_costs_the_header_and_not_the_weights(tmp_path):
    """A (sparse) checkpoint of 100 GB: what is read is its header."""
    n = 10**11 // 2
    path = file(tmp_path, framed(json.dumps({"model.layers.0.mlp.up_proj.weight": entry("BF16", (n,), (0, 2 * n))}).encode()))
    os.truncate(path, path.stat().st_size + 2 * n)
    assert resource.getpagesize() and inspect(path).total.bytes == 10**11
    said, seconds, mb = cost(path)
    assert said == "" and seconds < 1 and mb < 50


def test_many_warnings_are_one_line_each(tmp_path):
    tensors = {}
    for i in range(300):
        tensors |= under(f"model.layers.{i}.mlp.up_proj", modelopt(16, 32, scale=float("nan")))
    r = inspect(folder(tmp_path / "c", tensors))
    assert len(r.warnings) == 2 and "299 more" in dict(r.warnings)["bad-weight-scale"]


# ---------------------------------------------------------------- anything at all

def mutated(good: bytes, rng: random.Random) -> bytes:
    """One to four changes: bytes flipped, cut, doubled, swapped for edge values, or pieces of the other format."""
    data = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        at = rng.randrange(len(data)) if rng.random() < .3 else rng.randrange(min(len(data), 900))
        how = rng.randrange(7)
        if how == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del data[at:at + rng.choice((1, 2, 8, 100))]
        elif how == 2:
            data[at:at] = data[at:at + rng.choice((1, 4, 8, 60))]
        elif how == 3:
            data[at:at + 8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**32, 2**63, 2**64 - 1, rng.getrandbits(64))))
        elif how == 4:
            data[at:at + 4] = struct.pack("<I", rng.choice((0, 8, 9, 2**31, 2**32 - 1, rng.getrandbits(8))))
        elif how == 5:
            data[at:at + 1] = rng.choice((b"[", b"{", b'"', b"-", b"9", b",", b"]", b"}", b"\\", b"\0", b"\xff", b"1e9"))
        else:
            del data[at:]
    if good is GOOD and rng.random() < .7 and len(data) > 8:      # let the length agree again, so that the JSON is reached
        end = data.rfind(b"}}")
        if end > 0:
            data[:8] = struct.pack("<Q", end + 2 - 8)
    return bytes(data)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("good", "name"), [(GOOD, "m.safetensors"), (GOOD_GGUF, "m.gguf")], ids=["safetensors", "gguf"])
def test_random_changes_give_a_report_or_a_sentence(tmp_path, good, name, seed):
    rng = random.Random(seed)
    path, seen = tmp_path / name, set()
    for _ in range(150):
        content = mutated(good, rng)
        path.write_bytes(content)
        start = time.process_time()
        try:
            r = inspect(path)
            json.dumps(r.to_dict(tensors=True), allow_nan=False)
            assert all(c.isprintable() or c == "\n" for c in "\n".join(page(r) + page(r, tensors=True)))
            seen.add("report")
        except UserError as e:
            assert all(c.isprintable() for c in e.message)
            seen.add("sentence")
        assert time.process_time() - start < QUICK, content
    assert seen == {"report", "sentence"}


@pytest.mark.parametrize("seed", range(3))
def test_random_metadata_gives_a_report(tmp_path, seed):
    """Values of a real config replaced by anything."""
    rng = random.Random(seed)
    odd = [None, True, -1, 0, 10**30, 1.5, "", "x", "re:(a+)+$", "*", [], [[]], {}, {"a": 1}, ["lm_head", 3], {"quant_algo": "NVFP4"}, float("inf")]
    keys = ["quant_method", "quant_algo", "ignore", "config_groups", "kv_cache_scheme", "producer", "group_size", "quantized_layers", "format",
            "bits", "mode", "exclude_modules", "quantization", "kv_cache_quant_algo", "bnb_4bit_quant_type", "load_in_4bit"]
    tensors = under("model.layers.0.mlp.up_proj", modelopt())
    for _ in range(60):
        q = {k: rng.choice(odd) for k in rng.sample(keys, 6)}
        c = {"architectures": rng.choice(odd), "quantization_config": rng.choice([q, *odd]), "tie_word_embeddings": rng.choice(odd)}
        r = inspect(folder(tmp_path / "c", tensors, c, {"quantization": rng.choice([q, *odd]), "producer": rng.choice(odd)}))
        assert page(r) and json.dumps(r.to_dict(True), allow_nan=False)
