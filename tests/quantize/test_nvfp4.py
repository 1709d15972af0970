"""The NVFP4 codec against ModelOpt's own NVFP4QTensor, bit for bit."""

import pytest
import torch

from gb10.formats import NVFP4
from gb10.formats.nvfp4 import round_trip


@pytest.fixture(scope="module")
def qtensor():
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    return NVFP4QTensor


def bits(t):
    """Raw bits, so that -0.0 and 0.0 differ."""
    return t.contiguous().view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[t.dtype.itemsize])


def gauss(*shape, scale=1.0, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def outlier(small, large):
    x = gauss(16, 64, scale=small)
    x[3, 17] = large
    return x


TIES = torch.tensor([0, -0.0, .1, -.1, .25, .75, 1.25, 1.75, 2.5, 3.5, 5, -.25, -.75, -1.25, -5, 6])
CASES = {
    "gauss": gauss(64, 128), "small gauss": gauss(64, 128, scale=.02), "tiny gauss": gauss(32, 64, scale=1e-3),
    "heavy tails": gauss(64, 128) / gauss(64, 128, seed=1).abs().clamp(min=1e-3),
    "lognormal rows": gauss(64, 128) * torch.exp(3 * gauss(64, 1, seed=2)),
    "ties": torch.cat((TIES, TIES * 448)).reshape(2, 16), "integers": gauss(32, 64, scale=4).round(),
    "one zero row": torch.cat((torch.zeros(1, 64), gauss(7, 64))), "minus zeros": gauss(8, 32).clamp(min=0) * -1.0,
    "outlier 3e4": outlier(1e-3, 3e4), "outlier 1e2": outlier(1e-2, 1e2), "outlier 1e4": outlier(1e-6, -1e4),
    "1e-36": gauss(4, 32, scale=1e-36), "1e-40": gauss(4, 32, scale=1e-40), "1e36": gauss(4, 32, scale=1e36),
    "one axis": gauss(64), "three axes": gauss(2, 3, 32),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_bits_are_modelopts(qtensor, name, dtype):
    x = CASES[name].to(dtype)
    packed, scales, tensor_scale = qtensor.quantize(x.clone(), 16)
    want = packed.dequantize(dtype, scale=scales, double_scale=tensor_scale, block_sizes={-1: 16})
    q = NVFP4.quantize(x)
    assert torch.equal(q.packed, packed._quantized_data)
    assert torch.equal(bits(q.scales), bits(scales))
    assert torch.equal(bits(q.tensor_scale), bits(tensor_scale))
    assert torch.equal(bits(q.dequantize(dtype)), bits(want))
    assert torch.equal(bits(round_trip(x)), bits(want))


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.7])
def test_bits_with_a_given_amax(qtensor, factor):
    x = gauss(64, 128, scale=.05).bfloat16()
    amax = x.abs().amax() * factor      # below 1: a calibrated amax that some blocks exceed
    packed, scales, g = qtensor.quantize(x.clone(), 16, weights_scaling_factor_2=amax.float() / 2688)
    q = NVFP4.quantize(x, amax=amax)
    assert torch.equal(q.packed, packed._quantized_data) and torch.equal(bits(q.scales), bits(scales))
    want = packed.dequantize(x.dtype, scale=scales, double_scale=g, block_sizes={-1: 16})
    assert torch.equal(bits(round_trip(x, amax)), bits(want))


def test_golden_vector():
    x = torch.tensor([
        [0.5, -1, 1.5, -2, 2.5, -3, 3.5, -4, 4.5, -5, 5.5, -6, .25, -.25, 0, .1],
        [.01, -.02, .03, .04, -.05, .06, .07, -.08, .09, .1, -.11, .12, .13, .14, .15, -.16]])
    q = NVFP4.quantize(x)
    assert bits(q.tensor_scale).item() == 0x3B124925
    assert bits(q.scales).flatten().tolist() == [0x7E, 0x54]
    assert bytes(q.packed.flatten().tolist()).hex() == "a1c3d4e6e6f78000" + "91324cd5656e76f7"
    assert q.shape == x.shape and q.nbytes == 16 + 2 + 4


def test_every_tie_goes_to_the_even_code():
    codes = NVFP4.quantize(TIES, amax=torch.tensor(2688.0)).codes().tolist()
    assert codes == [0, 0, 0, 8, 0, 2, 2, 4, 4, 6, 6, 8, 10, 10, 14, 7]


def test_every_code_survives():
    x = torch.tensor([0, .5, 1, 1.5, 2, 3, 4, 6, 0, -.5, -1, -1.5, -2, -3, -4, -6])
    assert torch.equal(NVFP4.quantize(x).dequantize(), x)
    assert NVFP4.bits_per_weight == 4.5


@pytest.mark.parametrize("x", [torch.zeros(4, 32), torch.full((2, 16), -0.0), torch.full((2, 16), 1e-44)])
def test_all_zero_decodes_to_plus_zero(x):
    q = NVFP4.quantize(x)
    assert q.tensor_scale == 1 and torch.equal(bits(q.dequantize()), bits(torch.zeros_like(x)))
    assert torch.equal(bits(round_trip(x)), bits(torch.zeros_like(x)))


def test_empty():
    assert NVFP4.quantize(torch.zeros(0, 16)).dequantize().shape == (0, 16)


@pytest.mark.parametrize("x", [torch.zeros(3, 17), torch.tensor(1.0), torch.zeros(16, dtype=torch.int32),
                               torch.tensor([float("nan")] + [1.0] * 15), torch.tensor([float("inf")] + [1.0] * 15)])
def test_what_is_refused(x):
    with pytest.raises(ValueError):
        NVFP4.quantize(x)
