"""ModelOpt's quantizers on CPU, through the course's backends."""

import struct

import pytest
import torch

from gb10.quantize import backend
from gb10.quantize.backend import nvfp4
from gb10.quantize.quantizing import nvfp4_config


def quantizer(role, amax=None, block=16, **more):
    from modelopt.torch.quantization.config import QuantizerAttributeConfig
    from modelopt.torch.quantization.nn import TensorQuantizer

    nvfp4_config()      # registers the backends
    q = TensorQuantizer(QuantizerAttributeConfig(
        num_bits=(2, 1), block_sizes={-1: block, "type": "dynamic", "scale_bits": (4, 3)}, backend=role, **more))
    if amax is not None:
        q.amax = amax
    return q


def bits(t):
    return t.contiguous().view({2: torch.int16, 4: torch.int32}[t.dtype.itemsize])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weight_quantizer_is_nvfp4qtensor(dtype):
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    torch.manual_seed(0)
    w = (torch.randn(48, 64) * .03).to(dtype)
    w[0, :16] = 0
    amax = w.abs().amax() * 1.25        # shared with a sibling of larger range
    q, scales, g = NVFP4QTensor.quantize(w.clone(), 16, weights_scaling_factor_2=amax.float() / 2688)
    want = q.dequantize(dtype, scale=scales, double_scale=g, block_sizes={-1: 16})
    assert torch.equal(bits(quantizer(backend.WEIGHT, amax)(w)), bits(want))


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def kernel_transcription(row, amax):
    """fp4_fake_quant_kernel (ModelOpt 0.47.0, fp4_kernel_hopper.py), one scalar operation at a time.

    Python computes in double and rounds each result to FP32; for one operation on FP32 operands that is exact.
    """
    g = f32(amax / f32(2688.0))
    g = g if g > 0 else f32(1e-12)
    out = []
    for start in range(0, len(row), 16):
        block = row[start:start + 16]
        r = min(f32(max(abs(v) for v in block) / f32(6.0 * g)), 448.0)
        s = f32(torch.tensor(r).to(torch.float8_e4m3fn).float().item() * g)
        s = s if s >= f32(1e-5) else 1.0
        for v in block:
            y = f32(abs(v) / s)
            bounds = ((.25, True), (.75, False), (1.25, True), (1.75, False), (2.5, True), (3.5, False), (5, True))
            code = next((i for i, (b, closed) in enumerate(bounds) if y < b or (closed and y == b)), 7)
            m = f32((0, .5, 1, 1.5, 2, 3, 4, 6)[code] * s)
            out.append(m if v >= 0 else -m)
    return out


@pytest.mark.parametrize("few", [0, 1 << 30], ids=["codec", "torch"])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6])
def test_activation_quantizer_follows_the_cuda_kernel(scale, few, monkeypatch):
    monkeypatch.setattr("gb10.quantize.backend.nvfp4.FEW", few)
    torch.manual_seed(1)
    x = torch.randn(4, 64) * scale
    x[1, :16] = 0
    x[2, 16:32] *= 1e-5                 # a block that vanishes: no lower clamp here
    x[3, :8] = torch.tensor([.25, .75, 1.25, 1.75, 2.5, 3.5, 5, 6]) * scale
    x[3, 8:12] = torch.tensor([-0.0, -1e-9, 1e-9, 0]) * scale
    amax = x.abs().amax() * 0.8         # live activations may exceed the calibrated range
    got = quantizer(backend.ACTIVATION, amax)(x)
    want = torch.tensor([kernel_transcription(r.tolist(), amax.item()) for r in x])
    assert torch.equal(bits(got), bits(want))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares with ModelOpt's CUDA kernel: needs an NVIDIA GPU")
def test_activation_quantizer_is_the_cuda_kernel():
    from modelopt.torch.kernels.quantization.gemm import fp4_fake_quant_block

    torch.manual_seed(2)
    x = torch.randn(256, 1024, device="cuda")
    amax = x.abs().amax()
    want = fp4_fake_quant_block(x, amax).cpu()
    got = backend.fake_quantize_activation(x.cpu(), amax.cpu())
    # ModelOpt divides amax by 2688 on the GPU, where torch multiplies with the reciprocal of a Python number: its tensor scale,
    # and with it every value, can be off by the last bits; rarely a block scale falls to the other side (on an H200 in blocks of
    # 66 of 84 million values).
    assert (~torch.isclose(got, want, rtol=4e-7, atol=0)).float().mean() < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_codec_gives_the_activations_of_the_kernel(dtype):
    """Above FEW elements; blocks over many orders of magnitude, so that all of the kernel's exceptions occur."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(64, 512, generator=generator)
    x *= 10 ** torch.empty(64, 32, 1).uniform_(-7, 1, generator=generator).expand(-1, -1, 16).reshape(64, 512)
    x[0, :64], x[1, :64] = 0, -0.0
    x, amax = x.to(dtype), torch.tensor(11.0)
    assert x.numel() >= nvfp4.FEW
    want = nvfp4._kernel(x.float().unflatten(-1, (-1, 16)), amax / 2688).reshape(x.shape).to(dtype)
    for given in (x, x.t().contiguous().t(), x.reshape(4, 16, 512)):
        assert torch.equal(bits(nvfp4.fake_quantize_activation(given, amax)), bits(want.reshape(given.shape)))


def test_nan_stays_where_it_is():
    x = torch.ones(64, 512)
    x[3, 100] = float("nan")
    out = nvfp4.fake_quantize_activation(x, torch.tensor(1.0))
    assert out[3, 96:112].isnan().any() and torch.isfinite(out[:3]).all() and torch.isfinite(out[4:]).all()


def test_a_partial_block_is_filled_up_with_zeros():
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(5))
    amax = x.abs().amax()
    whole = nvfp4.fake_quantize_activation(torch.nn.functional.pad(x, (0, 8)), amax)
    assert torch.equal(nvfp4.fake_quantize_activation(x, amax), whole[:, :40])
    with pytest.raises(ValueError, match="blocks of 16"):
        nvfp4.fake_quantize_weight(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_in_blocks_of_32_are_nvfp4qtensor_too(dtype):
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    w = (torch.randn(24, 96, generator=torch.Generator().manual_seed(6)) * .03).to(dtype)
    w[0, :32], w[1] = 0, w[1] * 1e-4
    amax = w.abs().amax().float()
    q, scales, g = NVFP4QTensor.quantize(w.clone(), 32, weights_scaling_factor_2=amax / 2688)
    want = q.dequantize(dtype, scale=scales, double_scale=g, block_sizes={-1: 32})
    assert torch.equal(bits(quantizer(backend.WEIGHT, amax, block=32)(w)), bits(want))


def test_a_fixed_amax_of_the_kv_cache_counts():
    """use_constant_amax: ModelOpt's cast presets take 448, whatever is seen."""
    x = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(7))
    got = quantizer(backend.ACTIVATION, use_constant_amax=True)(x)
    assert torch.equal(got, nvfp4.fake_quantize_activation(x, torch.tensor(448.0)))
    assert not torch.equal(got, nvfp4.fake_quantize_activation(x))


@pytest.mark.parametrize("role", [backend.WEIGHT, backend.ACTIVATION])
def test_without_a_calibrated_amax_the_inputs_own_is_taken(role):
    x = torch.randn(8, 32, generator=torch.Generator().manual_seed(3))
    assert torch.equal(quantizer(role)(x), quantizer(role, x.abs().amax())(x))


@pytest.mark.parametrize("role", [backend.fake_quantize_weight, backend.fake_quantize_activation])
def test_no_tokens_come_back_as_no_tokens(role):
    """An expert of a mixture may be sent none."""
    for amax in (None, torch.tensor(3.0)):
        assert role(torch.zeros(0, 64, dtype=torch.bfloat16), amax).shape == (0, 64)


def test_another_format_is_refused():
    from modelopt.torch.quantization.config import QuantizerAttributeConfig
    from modelopt.torch.quantization.nn import TensorQuantizer

    nvfp4_config()
    q = TensorQuantizer(QuantizerAttributeConfig(
        num_bits=(2, 1), block_sizes={-1: 32, "type": "dynamic", "scale_bits": (8, 0)}, backend=backend.WEIGHT))
    with pytest.raises(NotImplementedError, match="NVFP4"):
        q(torch.ones(2, 32))


def test_config_names_the_backends_and_leaves_the_head_alone():
    config = nvfp4_config()
    named = {e["quantizer_name"]: e["cfg"].get("backend") for e in config["quant_cfg"] if "cfg" in e}
    assert named == {"*weight_quantizer": backend.WEIGHT, "*input_quantizer": backend.ACTIVATION}
    assert {"quantizer_name": "*lm_head*", "enable": False} in config["quant_cfg"]
