"""FP8 E4M3 with one scale, against ModelOpt and ml_dtypes."""

import ml_dtypes
import numpy as np
import pytest
import torch

from gb10.formats import FP8


def gauss(*shape, scale=1.0, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


CASES = {
    "gauss": gauss(64, 128), "small": gauss(64, 128, scale=.02), "1e-36": gauss(4, 32, scale=1e-36),
    "heavy tails": gauss(64, 128) / gauss(64, 128, seed=1).abs().clamp(min=1e-3), "1e36": gauss(4, 32, scale=1e36),
    "integers": gauss(32, 64, scale=9).round(), "one axis": gauss(7), "three axes": gauss(2, 3, 5),
    "minus zeros": torch.tensor([-0.0, 0.0, 448.0, -1e-9]),
}


@pytest.mark.parametrize("name", CASES)
def test_bits_are_modelopts(name):
    from modelopt.torch.quantization.qtensor.fp8_tensor import FP8QTensor

    x = CASES[name]
    want, scale = FP8QTensor.quantize(x.clone())
    q = FP8.quantize(x)
    assert torch.equal(q.packed, want._quantized_data.view(torch.uint8))
    assert q.scales.shape == () and q.scales.item() == scale.item()
    assert torch.equal(q.dequantize().view(torch.int32), want.dequantize(torch.float32, scale=scale).view(torch.int32))


def test_every_element_is_rounded_as_ml_dtypes_rounds_it():
    """At scale 1: every bfloat16 number up to 448, every tie between two neighbours and what lies beside it."""
    every = torch.arange(0, 0x7F80).to(torch.int16).view(torch.bfloat16).float()
    grid = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    ties = (grid[1:] + grid[:-1]) / 2
    top, zero = torch.tensor(448.0), torch.tensor(0.0)
    x = torch.cat((every, ties, torch.nextafter(ties, zero), torch.nextafter(ties, top)))
    x = torch.cat((x[x <= 448], -x[x <= 448], top[None]))
    q = FP8.quantize(x)
    assert q.scales.item() == 1.0
    assert torch.equal(q.packed, torch.from_numpy(x.numpy().astype(ml_dtypes.float8_e4m3fn).view(np.uint8)))
    even = q.packed[every[every <= 448].numel():][:126] & 1         # the ties follow the bfloat16 numbers
    assert not even.any()


def test_zero_and_the_ends_of_fp32():
    zero = FP8.quantize(torch.zeros(3, 5))
    assert zero.scales.item() == 1.0 and not zero.dequantize().any()
    for value in (1e-44, 1e-40, 3.0e38):
        x = torch.tensor([value, -value, 0.0])
        back = FP8.quantize(x).dequantize()
        assert torch.isfinite(back).all() and (back.double() - x.double()).abs().max() <= max(value / 16, 448 * 1e-45)


def test_bfloat16_gets_an_fp32_scale_where_modelopt_rounds_it():
    from modelopt.torch.quantization.qtensor.fp8_tensor import FP8QTensor

    x = gauss(16, 32).bfloat16()
    q = FP8.quantize(x)
    assert q.scales.dtype == torch.float32 and torch.equal(q.scales, x.float().abs().max() / 448)
    _, theirs = FP8QTensor.quantize(x.clone())
    assert theirs.dtype == torch.bfloat16 and theirs.float() != q.scales
