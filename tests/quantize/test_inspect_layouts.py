"""Every layout is told from its tensors: format, true shape, bits with scales. Real exports first, then each by hand."""

import struct

import pytest
import torch
from checkpoint_files import compressed, f32, folder, modelopt, safetensors, under
from safetensors.torch import save_file

from gb10 import paths
from gb10.quantize.inside.report import inspect


def only(tmp_path, tensors, **configs):
    report = inspect(folder(tmp_path / "c", tensors, **configs))
    assert len(report.weights) == 1, [w.name for w in report.weights]
    return report, report.weights[0]


def test_a_real_export_of_modelopt(checkpoint, tiny):
    r = inspect(checkpoint)
    assert r.warnings == [] and r.layouts == ["modelopt"] and r.made_by.startswith("modelopt 0.")
    linear = {n: m for n, m in tiny.named_modules() if isinstance(m, torch.nn.Linear) and m is not tiny.lm_head}
    found = {w.name: w for w in r.weights if w.format == "NVFP4"}
    assert found.keys() == linear.keys()
    for name, w in found.items():
        n, k = linear[name].weight.shape
        assert w.shape == (n, k) and w.activations == "FP4" and w.block == "16"
        assert w.bytes == n * k // 2 + n * k // 16 + 8
    assert r.total.parameters == sum(p.numel() for p in tiny.parameters())
    assert r.total.bits == 8 * r.total.bytes / r.total.parameters
    assert {k.kind for k in r.kept} == {"embedding", "norm"}
    amax = {s.tensor: s for s in r.scales}["weight_scale_2"]
    module = amax.name.removesuffix(".weight_scale_2")
    parent = module.rpartition(".")[0]                        # its scale is shared with what it is fused with
    assert amax.amax == pytest.approx(max(m.weight.abs().max().item() for n, m in linear.items()
                                          if n == module or (n.startswith(parent) and "down" not in module)), rel=0.01)


def test_a_real_compressed_tensors_checkpoint(tmp_path):
    """Compressed by the library itself, NVFP4, FP8 and INT4 packed, with its config."""
    from compressed_tensors.compressors.nvfp4 import NVFP4PackedCompressor
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    torch.manual_seed(0)
    w = torch.randn(32, 128, dtype=torch.bfloat16).float()
    args = QuantizationArgs(num_bits=4, type="float", strategy="tensor_group", group_size=16, scale_dtype=torch.float8_e4m3fn)
    scale = generate_gparam(*w.aminmax())
    blocks = w.unflatten(-1, (-1, 16))
    scales, _ = calculate_qparams(blocks.amin(-1), blocks.amax(-1), args, global_scale=scale)
    state = NVFP4PackedCompressor.compress({"weight": w, "weight_scale": scales, "weight_global_scale": scale},
                                           QuantizationScheme(targets=["Linear"], weights=args))
    ints = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=32)
    blocks = w.unflatten(-1, (-1, 32))
    scales, zeros = calculate_qparams(blocks.amin(-1), blocks.amax(-1), ints)
    packed = PackedQuantizationCompressor.compress({"weight": w, "weight_scale": scales, "weight_zero_point": zeros},
                                                   QuantizationScheme(targets=["Linear"], weights=ints))
    tensors = under("model.layers.0.mlp.up_proj", state) | under("model.layers.0.mlp.down_proj", packed)
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "model.safetensors")
    r = inspect(tmp_path)
    a = {x.name.rpartition(".")[2]: x for x in r.weights}
    assert (a["up_proj"].format, a["up_proj"].layout, a["up_proj"].shape) == ("NVFP4", "compressed-tensors", (32, 128))
    assert (a["down_proj"].format, a["down_proj"].layout, a["down_proj"].shape) == ("INT4", "compressed-tensors", (32, 128))
    assert a["down_proj"].block == "32"
    (only,) = r.scales
    assert only.rule == "divide" and only.amax == pytest.approx(w.abs().max().item(), rel=1e-3)
    assert "2688 / amax" in only.explained


M = "model.layers.0.mlp.up_proj"
SHAPE = (32, 64)
# name: tensors, format, layout, shape, block, bits (with scales), config
LAYOUTS = {
    "nvfp4 w4a16": (modelopt(), "NVFP4", "modelopt", SHAPE, "16", (32 * 64 / 2 + 32 * 4 + 4) * 8 / 2048),
    "nvfp4 w4a4": (modelopt(input_scale=.01), "NVFP4", "modelopt", SHAPE, "16", (1024 + 128 + 8) * 8 / 2048),
    "nvfp4 w4a8": (modelopt(input_scale=.01) | {"weight_scale": ("F8_E4M3", (32, 2))}, "NVFP4", "modelopt", SHAPE, "32",
                   (1024 + 64 + 8) * 8 / 2048),
    "nvfp4 ct": (compressed(), "NVFP4", "compressed-tensors", SHAPE, "16", (1024 + 128 + 4) * 8 / 2048),
    "mxfp4 modelopt": ({"weight": ("U8", (32, 32)), "weight_scale": ("U8", (32, 2))}, "MXFP4", "modelopt", SHAPE, "32", 4.25),
    "mxfp4 ct": ({"weight_packed": ("U8", (32, 32)), "weight_scale": ("U8", (32, 2))}, "MXFP4", "compressed-tensors", SHAPE, "32", 4.25),
    "mxfp6 ct": ({"weight_packed": ("U8", (32, 48)), "weight_scale": ("U8", (32, 2))}, "MXFP6", "compressed-tensors", SHAPE, "32", 6.25),
    "mxfp8": ({"weight": ("F8_E4M3", SHAPE), "weight_scale": ("U8", (32, 2))}, "MXFP8", "scaled", SHAPE, "32", 8.25),
    "fp8": ({"weight": ("F8_E4M3", SHAPE), "weight_scale": f32(.01)}, "FP8", "scaled", SHAPE, "tensor", (2048 + 4) * 8 / 2048),
    "fp8 channel": ({"weight": ("F8_E4M3", SHAPE), "weight_scale": ("F32", (32, 1))}, "FP8", "scaled", SHAPE, "channel", 8.5),
    "fp8 deepseek": ({"weight": ("F8_E4M3", (200, 256)), "weight_scale_inv": ("F32", (2, 2))}, "FP8", "deepseek", (200, 256),
                     "128x128", (51200 + 16) * 8 / 51200),
    "fp8 blocks of modelopt": ({"weight": ("F8_E4M3", (256, 384)), "weight_scale": ("F32", (2, 1, 3, 1))}, "FP8", "scaled",
                               (256, 384), "128x128", (98304 + 24) * 8 / 98304),
    "fp8 without scale": ({"weight": ("F8_E4M3", SHAPE)}, "FP8", "plain", SHAPE, "", 8),
    "int8": ({"weight": ("I8", SHAPE), "weight_scale": ("F32", (32,))}, "INT8", "scaled", SHAPE, "channel", 8.5),
    "int4 awq of modelopt": ({"weight": ("U8", (16, 256)), "weight_scale": ("F32", (32, 2)), "pre_quant_scale": ("BF16", (256,))},
                             "INT4", "modelopt", (32, 256), "128", (4096 + 256 + 512) * 8 / 8192),
    "pack-quantized": ({"weight_packed": ("I32", (32, 8)), "weight_scale": ("BF16", (32, 2)),
                        "weight_shape": ("I64", (2,), struct.pack("<2q", 32, 64))}, "INT4", "compressed-tensors", SHAPE, "32",
                       (1024 + 128 + 16) * 8 / 2048),
    "gptq": ({"qweight": ("I32", (32, 48)), "qzeros": ("I32", (2, 6)), "scales": ("F16", (2, 48)), "g_idx": ("I32", (256,))}, "INT4",
             "gptq", (48, 256), "128", (6144 + 48 + 192 + 1024) * 8 / (48 * 256)),
    "gptq of 8 bits": ({"qweight": ("I32", (64, 48)), "qzeros": ("I32", (2, 12)), "scales": ("F16", (2, 48))}, "INT8", "gptq",
                       (48, 256), "128", (12288 + 96 + 192) * 8 / (48 * 256)),
    "awq": ({"qweight": ("I32", (256, 6)), "qzeros": ("I32", (2, 6)), "scales": ("F16", (2, 48))}, "INT4", "awq", (48, 256), "128",
            (6144 + 48 + 192) * 8 / (48 * 256)),
    "bitsandbytes": ({"weight": ("U8", (1024, 1)), "weight.absmax": ("F32", (32,)), "weight.quant_map": ("F32", (16,)),
                      "weight.quant_state.bitsandbytes__nf4": ("U8", (80,))}, "NF4", "bitsandbytes", (2048,), "64",
                     (1024 + 128 + 64 + 80) * 8 / 2048),
    "bitsandbytes int8": ({"weight": ("I8", SHAPE), "SCB": ("F32", (32,))}, "INT8", "bitsandbytes", SHAPE, "channel", 8.5),
    "mlx": ({"weight": ("U32", (32, 8)), "scales": ("BF16", (32, 1)), "biases": ("BF16", (32, 1))}, "INT4", "mlx", SHAPE, "64", 4.5),
    "bf16": ({"weight": ("BF16", SHAPE)}, "BF16", "plain", SHAPE, "", 16),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout(tmp_path, name):
    tensors, format_, layout, shape, block, bits = LAYOUTS[name]
    r, w = only(tmp_path, under(M, tensors))
    assert (w.format, w.layout, w.shape, w.block) == (format_, layout, shape, block)
    assert w.bits == pytest.approx(bits) and w.problem == "" and w.kind == "mlp" and w.name == M
    assert r.total.bytes == w.bytes and r.total.bits == pytest.approx(bits)


def test_the_experts_of_gpt_oss(tmp_path):
    e = "model.layers.3.mlp.experts.gate_up_proj"
    r = inspect(folder(tmp_path / "c", {f"{e}_blocks": ("U8", (4, 64, 3, 16)), f"{e}_scales": ("U8", (4, 64, 3)),
                                        f"{e}_bias": ("BF16", (4, 64))}))
    w = next(w for w in r.weights if w.name == e)
    assert (w.format, w.layout, w.shape, w.bits, w.kind) == ("MXFP4", "gpt-oss", (4, 64, 96), 4.25, "experts")
    assert any("2^(scale - 127)" in t for t in r.explained)


def test_experts_in_one_tensor(tmp_path):
    """As ModelOpt writes Llama 4: the parameter's own name before _weight_scale."""
    e = "model.layers.0.feed_forward.experts.gate_up_proj"
    w = only(tmp_path, {e: ("U8", (2, 32, 32)), f"{e}_weight_scale": ("F8_E4M3", (2, 32, 4)), f"{e}_weight_scale_2": f32(1e-4, 2e-4),
                        f"{e}_input_scale": f32(.01)})[1]
    assert (w.name, w.format, w.shape, w.activations, w.kind) == (e, "NVFP4", (2, 32, 64), "FP4", "experts")


def test_the_group_of_mlx_is_in_its_config(tmp_path):
    parts = {"weight": ("U32", (32, 8)), "scales": ("BF16", (32, 2)), "biases": ("BF16", (32, 2))}
    _, w = only(tmp_path, under(M, parts), config={"quantization": {"group_size": 32, "bits": 4}})
    assert (w.format, w.shape, w.block) == ("INT4", SHAPE, "32")


@pytest.mark.parametrize(("said", "layout", "activations"), [
    ({"quant_method": "modelopt", "quant_algo": "FP8"}, "modelopt", "FP8"),
    ({"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": {
        "weights": {"num_bits": 8, "type": "float"}, "input_activations": {"num_bits": 8, "type": "float", "dynamic": True}}}},
     "compressed-tensors", "FP8")])
def test_the_metadata_says_whose_fp8_it_is(tmp_path, said, layout, activations):
    parts = {"weight": ("F8_E4M3", SHAPE), "weight_scale": f32(.01)}
    r, w = only(tmp_path, under(M, parts), config={"quantization_config": said})
    assert (w.layout, w.activations) == (layout, activations) and r.warnings == []


@pytest.mark.parametrize("wrong", [
    modelopt() | {"weight_scale": ("F8_E4M3", (32, 5))}, modelopt() | {"weight_scale": ("F8_E4M3", (16, 4))},
    modelopt() | {"weight_scale": ("F8_E4M3", (32, 1))}, modelopt() | {"weight_scale": ("F8_E4M3", ())},
    {"weight": ("U8", (32, 32)), "weight_scale": ("F8_E4M3", (32, 4))}, compressed() | {"weight_scale": ("F8_E4M3", (32, 3))},
    {"weight": ("F8_E4M3", SHAPE), "weight_scale": ("F32", (7,))}, {"weight": ("F8_E4M3", SHAPE), "input_scale": f32(.1)},
    {"weight_packed": ("I32", (32, 8)), "weight_scale": ("BF16", (32, 2))},
    {"weight_packed": ("I32", (32, 8)), "weight_scale": ("BF16", (32, 2)), "weight_shape": ("I64", (2,), struct.pack("<2q", 32, -64))},
    {"weight_packed": ("I32", (32, 8)), "weight_scale": ("BF16", (32, 2)), "weight_shape": ("I64", (2,), struct.pack("<2q", 16, 64))},
    {"weight_scale": ("F8_E4M3", (32, 4))}, {"qweight": ("I32", (32, 48))}, {"weight": ("U8", (512, 512))},
    {"qweight": ("I32", (0, 48)), "scales": ("F16", (0, 48))}, {"weight": ("U32", (3, 5)), "scales": ("BF16", (3, 7))}])
def test_parts_that_do_not_fit_are_warned_of(tmp_path, wrong):
    r, w = only(tmp_path, under(M, wrong))
    assert w.problem and {code for code, _ in r.warnings} & {"shapes", "unknown-layout"}
    assert M in " ".join(text for _, text in r.warnings)


def test_kinds_and_patterns(tmp_path):
    names = {"model.embed_tokens.weight": "embedding", "lm_head.weight": "head", "model.layers.1.self_attn.q_proj.weight": "attention",
             "model.layers.1.self_attn.q_norm.weight": "norm", "model.layers.1.input_layernorm.weight": "norm",
             "model.layers.1.mlp.gate_proj.weight": "mlp", "model.layers.1.mlp.gate.weight": "router",
             "model.layers.1.mlp.experts.7.up_proj.weight": "experts", "model.layers.1.mlp.shared_expert.up_proj.weight": "shared",
             "model.layers.1.linear_attn.in_proj_qkvz.weight": "mixer", "model.layers.1.self_attn.q_proj.bias": "bias",
             "model.visual.blocks.0.attn.qkv.weight": "vision", "mtp.fc.weight": "mtp", "something.weight": "other",
             "model.layers.1.mlp.shared_expert_gate.weight": "router", "blk.0.attn_q.weight": "attention", "output.weight": "head",
             "blk.0.ffn_up.weight": "mlp", "blk.0.ffn_up_exps.weight": "experts", "blk.0.ffn_norm.weight": "norm",
             "token_embd.weight": "embedding", "blk.0.ffn_gate_inp.weight": "router", "output_norm.weight": "norm"}
    (tmp_path / "m.safetensors").write_bytes(safetensors({n: ("BF16", (4, 4)) for n in names}))
    r = inspect(tmp_path / "m.safetensors")
    assert {w.tensors[0].name: w.kind for w in r.weights} == names
    assert "model.layers.*.mlp.experts.*.up_proj" in {row.pattern for row in r.rows}


def test_the_shipped_model_and_what_nvfp4_would_make_of_it():
    r = inspect(paths.PICO)
    assert not r.quantized and r.kept == [] and r.total.bits == 16 and r.warnings == [] and r.formats.keys() == {"BF16"}
    linear = sum(w.parameters for w in r.weights if w.kind in ("attention", "mlp"))
    assert r.nvfp4_bytes == round(linear * 4.5 / 8) + 2 * (r.total.parameters - linear)


def test_modelopts_w4a8_made_by_modelopt(tiny, batches, tokenizer, tmp_path):
    """Blocks of 32 belong to that format, and its weight_scale_2 is amax / 448."""
    import copy

    from gb10 import quantize

    folder = quantize.export(quantize.quantize(copy.deepcopy(tiny), batches, recipe="w4a8-nvfp4-fp8"), tokenizer, tmp_path / "w4a8")
    report = inspect(folder)
    assert report.warnings == [] and "in blocks of 32" in str(report) and "amax / 448" in str(report)
    weight = next(w for w in report.weights if w.name == M)
    assert (weight.block, weight.activations) == ("32", "FP8")
    amax = max(tiny.get_submodule(M.replace("up", part)).weight.abs().max().float() for part in ("up", "gate"))
    assert quantize.read_tensor(folder, f"{M}.weight_scale_2") == amax / 448
