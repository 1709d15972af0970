"""NVFP4 with given block scales, against the triton kernels it stands in for, transcribed one operation at a time."""

import math
import struct

import pytest
import torch

from gb10.quantize import backend
from gb10.quantize.backend import static


def bits(t):
    return t.contiguous().view({2: torch.int16, 4: torch.int32}[t.dtype.itemsize])


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def fp4(y):
    """fp4_round_magnitude (kernels/quantization/common/nvfp4_quant.py, ModelOpt 0.47.0)."""
    for bound, closed, value in ((.25, True, 0.0), (.75, False, .5), (1.25, True, 1.0), (1.75, False, 1.5),
                                 (2.5, True, 2.0), (3.5, False, 3.0), (5.0, True, 4.0)):
        if y < bound or (closed and y == bound):
            return value
    return 6.0


def transcription(block, amax, global_amax, e4m3_max):
    """compute_fp4_scales with scaled_e4m3_impl's arithmetic, then nvfp4_scalar_quant."""
    largest = f32(f32(global_amax * (448.0 / e4m3_max)) / 6.0)
    largest = largest if largest > 2 ** -24 else 1.0
    up = f32(448.0 / largest)
    scaled = min(max(f32(f32(amax / 6.0) * up), -448.0), 448.0)
    scale = f32(torch.tensor(scaled).to(torch.float8_e4m3fn).float().item() * f32(1.0 / up))
    if scale == 0:
        return [0.0] * len(block)
    return [math.copysign(f32(fp4(f32(abs(v) / scale)) * scale), v if v else 1.0) for v in block]


@pytest.mark.parametrize("e4m3_max", [448.0, 256.0])
def test_static_blocks_follow_the_triton_kernel(e4m3_max):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 16, generator=generator) * 10 ** torch.empty(20, 1).uniform_(-5, 1, generator=generator)
    x[0] = 0
    x[1, :8] = torch.tensor([.25, .75, 1.25, 1.75, 2.5, 3.5, 5, 6])
    x[2, :3] = torch.tensor([-0.0, -1e-9, 1e-9])
    amax = x.abs().amax(1) * torch.empty(20).uniform_(.5, 1.2, generator=generator)      # as a search would choose
    amax[1] = 6.0
    global_amax = amax.amax() * 1.3
    got = static.fake_quantize_static(x, amax, global_amax, True, e4m3_max)
    want = torch.tensor([transcription(row, a, global_amax.item(), e4m3_max)
                         for row, a in zip(x.tolist(), amax.tolist(), strict=True)])
    assert torch.equal(bits(got), bits(want))
    assert not torch.equal(got, static.fake_quantize_static(x, amax, global_amax, True, 704.0 - e4m3_max))


def test_scales_that_are_not_rounded_and_those_that_are_not_numbers():
    x = torch.full((3, 16), 1.3)
    amax = torch.tensor([6.0 * 0.7, math.inf, 0.0])
    out = static.fake_quantize_static(x, amax, quantize=False)
    assert out[:, 0].tolist() == [f32(2.0 * f32(4.2 / 6)), 1.5, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_shapes_and_dtypes(dtype):
    x = torch.randn(3, 4, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    amax = x.float().reshape(-1, 16).abs().amax(1)
    out = static.fake_quantize_static(x, amax)
    assert out.shape == x.shape and out.dtype == dtype
    assert torch.equal(static.fake_quantize_static(x.reshape(-1, 16), amax.reshape(6, 4)), out.reshape(-1, 16))
    assert torch.equal(static.fake_quantize_static(x, amax, dtype=torch.float32).to(dtype), out)
    assert static.fake_quantize_static(x[:0], amax[:0]).shape == (0, 4, 32)
    with pytest.raises(ValueError, match="divisible"):
        static.fake_quantize_static(x, amax[:7])


def test_cast():
    y = torch.tensor([.25, .75, -1.25, 1.75, 2.5, -3.5, 5, 7, -0.0, -.1])
    assert bits(static.cast(y)).tolist() == bits(
        torch.tensor([0, 1, -1, 2, 2, -4, 4, 6, 0.0, -0.0])).tolist()


@pytest.fixture
def quantizer():
    """ModelOpt's own quantizer for static blocks, as a search leaves it."""
    from modelopt.torch.quantization.config import QuantizerAttributeConfig
    from modelopt.torch.quantization.nn import StaticBlockScaleQuantizer, TensorQuantizer

    backend.register()

    def make(w, **more):
        q = TensorQuantizer(QuantizerAttributeConfig(
            num_bits=(2, 1), block_sizes={-1: 16, "type": "static", "scale_bits": (4, 3)}, **more))
        q.amax = w.reshape(-1, 16).abs().amax(1, keepdim=True)
        return StaticBlockScaleQuantizer.from_tensor_quantizer(q, global_amax=w.abs().amax())

    return make


def test_modelopts_quantizer_runs_without_triton(quantizer):
    w = torch.randn(8, 64, generator=torch.Generator().manual_seed(2))
    amax = w.reshape(-1, 16).abs().amax(1)
    assert torch.equal(quantizer(w)(w), static.fake_quantize_static(w, amax, w.abs().amax()))


@pytest.mark.parametrize("through", [True, False])
def test_gradients_are_modelopts(quantizer, through):
    w = torch.randn(8, 64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    q = quantizer(w.detach(), pass_through_bwd=through)
    q._amax.mul_(0.5)
    q(w).sum().backward()
    inside = w.detach().reshape(-1, 16).abs() <= q._amax
    assert torch.equal(w.grad, torch.ones_like(w) if through else inside.float().reshape(8, 64))
    assert not inside.all()


def test_learned_scales_run_and_learn(quantizer):
    """QAT's LSQ mode, which casts by the second of ModelOpt's triton functions."""
    w = torch.randn(8, 64, generator=torch.Generator().manual_seed(4), requires_grad=True)
    q = quantizer(w.detach())
    q.enable_lsq(learnable_amax=["post", "pre"])
    out = q(w)
    out.square().sum().backward()
    assert torch.isfinite(out).all() and out.unique().numel() > 16
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (w, q._amax_post))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares with ModelOpt's triton kernel: needs an NVIDIA GPU")
def test_on_a_gpu_it_is_the_triton_kernel():
    from modelopt.torch.kernels.quantization.gemm import (
        static_blockwise_fp4_cast,
        static_blockwise_fp4_fake_quant,
    )

    x = torch.randn(256, 1024, generator=torch.Generator().manual_seed(5))
    amax = x.reshape(-1, 16).abs().amax(1)
    want = static_blockwise_fp4_fake_quant(x.cuda(), amax.cuda(), amax.amax().cuda()).cpu()
    # Divisions on the GPU are not the correctly rounded ones: values may differ in the last bits (seen on an H200).
    assert (~torch.isclose(static.fake_quantize_static(x, amax, amax.amax()), want, rtol=4e-7, atol=0)).float().mean() < 1e-4
    assert torch.equal(static.cast(x), static_blockwise_fp4_cast(x.cuda()).cpu())
