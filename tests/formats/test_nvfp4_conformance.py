"""The NVFP4 codec against implementations that take other roads: how far they may differ, and that ours is not further.

The contract: block scales differ by one E4M3 step at most; where they are equal, codes differ by one step at most, and
only where |x / (s * g)| lies within 1e-6 (relative) of a tie. Exceptions, each its author's choice: torchao's smallest
block scale is 2^-6; compressed-tensors computes in BF16 when the weight is BF16 (so it is fed FP32).
"""

import pytest
import torch
from nvfp4_neighbours import BOUNDS, CompressedTensors, MlDtypes, TorchAO
from test_nvfp4 import CASES, bits

from gb10.formats import NVFP4

# ordinary tensors; what is left out: 1-D and 3-D (compressed-tensors takes neither), beyond BF16's range or precision
NAMES = ("gauss", "small gauss", "tiny gauss", "student t3", "student t5", "laplace", "uniform", "integers", "quarters",
         "few integers", "ties", "lognormal rows", "one zero row", "outlier 1e2", "outlier 1e4 over 1")


def differences(x, other):
    """Check the contract where it holds; returns the shares of codes and of scales that differ."""
    q, p = NVFP4.quantize(x), other.quantize(x.clone())
    ours, theirs = q.scales.view(torch.uint8).int(), p.scales.view(torch.uint8).int()
    normal = (x.unflatten(-1, (-1, 16)) != 0).any(-1)                    # an empty block's scale is anybody's choice
    if other is TorchAO:
        normal &= q.scales.float() >= 2 ** -6
    if other is CompressedTensors:
        normal &= ours > 1                       # what rounds to 0 it replaces by 2^-3, where ModelOpt clips to 2^-9
    assert ((ours - theirs).abs() <= 1)[normal].all()
    same = ((ours == theirs) & normal).repeat_interleave(16, -1)
    a, b = q.codes().int(), p.codes().int()
    y = x.float() / (q.scales.float() * q.tensor_scale).repeat_interleave(16, -1)
    # minus zero may be coded 8 or 0, whichever
    unlike = same & (a != b) & (x != 0)
    assert ((a & 7) - (b & 7)).abs()[unlike].le(1).all()
    assert (((a ^ b) & 8) == 0)[unlike].all()
    away = (y.double().abs()[..., None] / torch.tensor(BOUNDS, dtype=torch.float64) - 1).abs().amin(-1)
    assert (away[unlike] <= 1e-6).all()
    return (a != b).float().mean().item(), (ours != theirs)[normal].float().mean().item()


@pytest.mark.parametrize("name", NAMES)
def test_torchao(name):
    for dtype in (torch.float32, torch.bfloat16):
        codes, scales = differences(CASES[name].to(dtype), TorchAO)
        # almost all the same: where much differs, it is on purpose (-0.0 and ties in a grid, small scales)
        if name not in ("lognormal rows", "ties", "one zero row", "integers", "quarters", "few integers"):
            assert codes < .005 and scales < .01


@pytest.mark.parametrize("name", NAMES)
def test_compressed_tensors(name):
    codes, scales = differences(CASES[name], CompressedTensors)
    if name not in ("lognormal rows", "ties", "integers", "quarters", "few integers"):
        assert codes < .005 and scales < .01


@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith("subnormals")])
def test_ml_dtypes_is_equal(name):
    """A division in numpy and ml_dtypes' casts, with ModelOpt's rules: no difference at all."""
    for dtype in (torch.float32, torch.bfloat16):
        x = CASES[name].to(dtype)
        if not x.isfinite().all():
            continue                             # BF16 rounds the largest FP32 numbers to infinity
        q, p = NVFP4.quantize(x), MlDtypes.quantize(x)
        assert torch.equal(bits(q.tensor_scale), bits(p.g)) and torch.equal(bits(q.scales), bits(p.scales))
        assert torch.equal(q.codes(), p.codes())
        assert torch.equal(q.dequantize(), MlDtypes.dequantize(p))


@pytest.mark.parametrize("spoil", ["scale", "code", "sign"])
def test_the_contract_refuses(spoil):
    class Spoilt(TorchAO):
        @staticmethod
        def quantize(x):
            p = TorchAO.quantize(x)
            if spoil == "scale":
                p.scales = (p.scales.view(torch.uint8) + 2).view(torch.float8_e4m3fn)
            else:
                p.packed = p.packed ^ (1 if spoil == "code" else 8)
            return p

    with pytest.raises(AssertionError):
        differences(CASES["gauss"], Spoilt)
