"""The head of GGUF files: types, sizes, splits, what the file calls itself, NVFP4's scales beside it."""

import struct

import pytest
from checkpoint_files import f32, gguf, safetensors

from gb10.errors import UserError
from gb10.quantize.inside import ggml
from gb10.quantize.inside.gguf import read_gguf
from gb10.quantize.inside.page import page
from gb10.quantize.inside.report import inspect

LLAMA = {"token_embd.weight": (14, (512, 256)), "blk.0.attn_q.weight": (12, (256, 256)), "blk.0.ffn_up.weight": (12, (512, 256)),
         "blk.0.attn_norm.weight": (0, (256,)), "output_norm.weight": (0, (256,))}
PAIRS = {"general.architecture": "llama", "general.name": "toy", "general.file_type": 15}


def write(path, *args, **kw):
    path.write_bytes(gguf(*args, **kw))
    return path


def test_a_mixture(tmp_path):
    r = inspect(write(tmp_path / "toy.gguf", LLAMA, PAIRS))
    assert (r.container, r.architecture, r.made_by, r.layouts) == ("gguf", "llama", "Q4_K_M", ["gguf"]) and r.warnings == []
    found = {w.name: w for w in r.weights}
    up = found["blk.0.ffn_up"]
    assert (up.format, up.shape, up.block, up.bits, up.bytes) == ("Q4_K", (512, 256), "256", 4.5, 512 * 144)
    assert found["token_embd"].format == "Q6_K" and found["token_embd"].bits == 6.5625
    assert r.total.parameters == 512 * 256 * 2 + 256 * 256 + 512 and r.formats.keys() == {"Q4_K", "Q6_K", "F32"}
    assert any("tied" in n for n in r.notes) and "Q4_K" in "\n".join(page(r)) and any("144 bytes hold 256" in t for t in r.explained)
    assert {k.kind for k in r.kept} == {"norm"} and r.kv_cache.format == "" and "-ctk" in r.kv_cache.explained


def test_the_reader_agrees_with_where_the_bytes_are(tmp_path):
    path = write(tmp_path / "a.gguf", {"one": (0, (3,), struct.pack("<3f", 1, 2, 3)), "two": (1, (2, 8), b"x" * 32)})
    head = read_gguf(path)
    raw = path.read_bytes()
    one, two = head.tensors
    assert struct.unpack("<3f", raw[one.offset:one.offset + one.bytes]) == (1, 2, 3)
    assert raw[two.offset:two.offset + two.bytes] == b"x" * 32 and two.shape == (2, 8) and two.offset % 32 == 0


def test_nvfp4_and_mxfp4(tmp_path):
    r = inspect(write(tmp_path / "n.gguf", {
        "blk.0.ffn_up.weight": (40, (64, 128)), "blk.0.ffn_up.scale": (0, (1,), f32(1 / 2688)[2]),
        "blk.0.ffn_up.input_scale": (0, (1,), f32(.01)[2]), "blk.0.ffn_down.weight": (39, (64, 64)),
        "blk.0.ffn_gate.weight": (40, (64, 128)), "blk.0.ffn_gate.weight.scale": (0, (1,), f32(1 / 2688)[2])}))
    found = {w.name: w for w in r.weights}
    up, down, gate = (found[f"blk.0.ffn_{x}"] for x in ("up", "down", "gate"))
    assert (up.format, up.block, up.activations, up.bytes) == ("NVFP4", "16", "FP4", 64 * 128 * 36 // 64 + 8)
    assert (gate.format, gate.bytes) == ("NVFP4", 64 * 128 * 36 // 64 + 4), "both names of the scale are known"
    assert (down.format, down.block, down.bits) == ("MXFP4", "32", 4.25)
    scale = next(s for s in r.scales if s.what == "weight")
    assert scale.rule == "multiply" and scale.count == 2 and scale.amax == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("version", [2, 3])
def test_pairs_of_every_type(tmp_path, version):
    kinds = [(0, "B", 200), (1, "b", -3), (2, "H", 6), (3, "h", -7), (4, "I", 8), (5, "i", -9), (6, "f", .5), (7, "?", True),
             (10, "Q", 2**60), (11, "q", -2**60), (12, "d", .25)]
    pairs = {f"k{kind}": (kind, struct.pack("<" + code, value)) for kind, code, value in kinds}
    pairs["text"] = "hé"
    pairs["texts"] = (9, struct.pack("<IQ", 8, 3) + b"".join(struct.pack("<Q", n) + b"a" * n for n in (0, 5, 3)))
    pairs["numbers"] = (9, struct.pack("<IQ", 4, 1000) + bytes(4000))
    pairs["lists"] = (9, struct.pack("<IQ", 9, 2) + 2 * (struct.pack("<IQ", 0, 4) + bytes(4)))
    pairs["long"] = "x" * 100_000
    head = read_gguf(write(tmp_path / "a.gguf", {"t": (0, (1,))}, pairs, version=version))
    assert {k: head.pairs[f"k{k}"] for k, _, _ in kinds} == {k: v for k, _, v in kinds}
    assert head.pairs["text"] == "hé" and head.pairs["texts"] is None and head.pairs["long"] is None
    assert head.tensors[0].bytes == 4 and head.version == version


def test_a_vocabulary_longer_than_the_buffer(tmp_path):
    """Texts are stepped over in chunks: none may be lost at a chunk's edge."""
    words = b"".join(struct.pack("<Q", n := i % 40) + b"w" * n for i in range(80_000))
    pairs = {"tokens": (9, struct.pack("<IQ", 8, 80_000) + words), "after": "here"}
    assert read_gguf(write(tmp_path / "v.gguf", {"t": (0, (1,))}, pairs)).pairs["after"] == "here"


def test_alignment(tmp_path):
    head = read_gguf(write(tmp_path / "a.gguf", {"a": (0, (1,)), "b": (0, (1,))}, {"general.alignment": 64}, align=64))
    assert [t.offset % 64 for t in head.tensors] == [0, 0]


def split(tmp_path, count=3, **more):
    for i in range(count):
        write(tmp_path / f"m-{i + 1:05d}-of-{count:05d}.gguf", {f"blk.{i}.ffn_up.weight": (8, (4, 32))},
              {"general.architecture": "llama", "split.no": (2, struct.pack("<H", i)), "split.count": (2, struct.pack("<H", count)),
               "split.tensors.count": (5, struct.pack("<i", more.get("total", count)))})


def test_a_split_model_is_one_model(tmp_path):
    split(tmp_path)
    for named in (tmp_path, tmp_path / "m-00001-of-00003.gguf", tmp_path / "m-00002-of-00003.gguf"):
        r = inspect(named)
        assert len(r.files) == 3 and len(r.weights) == 3 and r.warnings == []
    split(tmp_path, total=7)
    assert [c for c, _ in inspect(tmp_path).warnings] == ["split-count"]


def test_splits_that_are_not_whole(tmp_path):
    split(tmp_path)
    (tmp_path / "m-00002-of-00003.gguf").rename(tmp_path / "renamed.gguf")
    with pytest.raises(UserError, match="m-00002-of-00003.gguf is missing"):
        inspect(tmp_path / "m-00001-of-00003.gguf")
    with pytest.raises(UserError, match="one of 3 files of a split model"):
        inspect(tmp_path / "renamed.gguf")
    (tmp_path / "m-00002-of-00003.gguf").write_bytes((tmp_path / "m-00001-of-00003.gguf").read_bytes())
    with pytest.raises(UserError, match="hold the same tensor"):
        inspect(tmp_path / "m-00001-of-00003.gguf")


def test_a_folder_of_several_models(tmp_path):
    for name in ("a-Q4_K_M.gguf", "mmproj-a.gguf"):
        write(tmp_path / name, LLAMA, PAIRS)
    assert inspect(tmp_path).files.keys() == {"a-Q4_K_M.gguf"}
    write(tmp_path / "b-Q8_0.gguf", LLAMA, PAIRS)
    with pytest.raises(UserError, match="2 GGUF models: name one"):
        inspect(tmp_path)


def test_a_file_that_calls_itself_something_else(tmp_path):
    r = inspect(write(tmp_path / "t.gguf", {"blk.0.ffn_up.weight": (8, (64, 32))}, {**PAIRS}))
    assert any("calls itself Q4_K_M; most of its weights are Q8_0" in n for n in r.notes)


def test_a_name_that_hides_what_a_file_is(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(gguf(LLAMA))
    with pytest.raises(UserError, match=r"is a GGUF file in spite of its name"):
        inspect(tmp_path)
    assert inspect(tmp_path / "model.safetensors").container == "gguf", "named by itself, the bytes decide"
    (tmp_path / "model-00001-of-00001.gguf").write_bytes(safetensors({"a": ("F32", (1,))}))
    assert inspect(tmp_path / "model-00001-of-00001.gguf").container == "safetensors"


def test_bits_of_the_types_by_their_published_figures():
    """Figures of llama.cpp's documentation; the table itself was compared with the gguf package 0.19.0."""
    published = {"Q4_0": 4.5, "Q4_1": 5, "Q5_0": 5.5, "Q8_0": 8.5, "Q2_K": 2.625, "Q3_K": 3.4375, "Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625,
                 "IQ2_XXS": 2.0625, "IQ2_XS": 2.3125, "IQ3_XXS": 3.0625, "IQ1_S": 1.5625, "IQ4_NL": 4.5, "IQ4_XS": 4.25, "IQ3_S": 3.4375,
                 "IQ1_M": 1.75, "TQ1_0": 1.6875, "TQ2_0": 2.0625, "MXFP4": 4.25, "NVFP4": 4.5, "F16": 16, "BF16": 16, "F32": 32}
    assert {name: 8 * ggml.BYTES[name] / ggml.BLOCK[name] for name in published} == published
    assert len(ggml.BLOCK) == len(ggml.TYPES) and not set(ggml.TYPES) & set(ggml.REMOVED)
