"""The MX formats and their kin, against ModelOpt's CUDA source (read and transcribed) and its own tensors."""

import math
import re
import struct
from pathlib import Path

import pytest
import torch

from gb10.quantize.backend import mx

E8M0 = (8, 0)
FORMATS = {(2, 1): "E2M1", (3, 2): "E3M2", (2, 3): "E2M3", (1, 2): "E1M2", (4, 3): "E4M3", (5, 2): "E5M2", 8: "INT8"}


def bits(t):
    return t.contiguous().view({2: torch.int16, 4: torch.int32}[t.dtype.itemsize])


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


@pytest.fixture(scope="module")
def tables():
    """name -> (values, bounds), read out of the header that the CUDA extension is compiled with."""
    import modelopt.torch.kernels.quantization as kernels

    text = (Path(kernels.__path__[0]) / "gemm" / "tensor_quant_mx.h").read_text()
    found = {}
    for name, kind, numbers in re.findall(r"float (e\dm\d)_table_(values|bounds)\[\d+\] = \{([^}]*)\}", text):
        found.setdefault(name.upper(), {})[kind] = [float(n) for n in numbers.split(",")]
    tops = dict(re.findall(r"case Types::(\w+):\s*return ([\d.]+)f;", text))
    return {name: (t["values"], t["bounds"]) for name, t in found.items()}, {k: float(v) for k, v in tops.items()}


def convert(x, name, tables):
    """convert_to_types of tensor_quant_mx.h, for x >= 0."""
    if name == "INT8":
        return float(min(round(x), 127))                     # rint and round: half to even
    if name in ("E4M3", "E5M2"):                             # the hardware's cast, saturating
        dtype = torch.float8_e4m3fn if name == "E4M3" else torch.float8_e5m2
        return torch.tensor(min(x, torch.finfo(dtype).max)).to(dtype).item()
    values, bounds = tables[0][name]
    for i, bound in enumerate(bounds):                       # round_to_even; the last bound is left out there, too
        if x < bound or (x == bound and i % 2 == 0):
            return values[i]
        if x == bound:
            return values[i + 1]
    return values[-1]


def kernel(block, name, tables):
    """amax_and_convert_kernel with an E8M0 scale on one block, one operation at a time."""
    amax = max(abs(v) for v in block)
    up = down = 1.0
    if amax:
        pattern = struct.unpack("I", struct.pack("f", amax / tables[1][name]))[0]
        exponent, significand = pattern >> 23 & 0xFF, pattern & 0x7FFFFF
        above = significand > 0 and exponent != 0xFE and not (exponent == 0 and significand <= 0x400000)
        power = exponent - 126 if above else exponent - 127
        up, down = math.ldexp(1.0, -power), math.ldexp(1.0, power)
    return [math.copysign(f32(convert(f32(abs(v) * up), name, tables) * down), v) if v else 0.0 for v in block]


@pytest.mark.parametrize("element", FORMATS, ids=FORMATS.values())
def test_the_cuda_kernel(element, tables):
    name, generator = FORMATS[element], torch.Generator().manual_seed(0)
    x = torch.randn(24, 32, generator=generator) * 10 ** torch.empty(24, 1).uniform_(-9, 9, generator=generator)
    x[0], x[1] = 0, 1e-40                                    # zeros, and a block of subnormal numbers
    grid = torch.linspace(0, mx.ELEMENTS[element].top, 32)   # whole and half steps: ties
    x[2], x[3], x[4] = grid, -grid * 1.5, grid.round()
    if name in tables[0]:
        values, bounds = tables[0][name]                     # every element and every tie
        x = torch.cat((x, _behind(values[-1], torch.tensor([*values, *bounds]))))
    got = mx.fake_quantize_block(x, element, E8M0, 32)
    want = torch.tensor([kernel(row, name, tables) for row in x.tolist()])
    assert torch.equal(bits(got), bits(want))


def _behind(top, numbers):
    """Rows of 32 that hold the numbers behind the largest element, which makes the scale 1."""
    rows = torch.nn.functional.pad(numbers, (0, -len(numbers) % 31)).reshape(-1, 31)
    return torch.cat((torch.full((len(rows), 1), top), rows), 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("element", [(2, 1), (4, 3)], ids=["MXFP4QTensor", "MXFP8QTensor"])
def test_weights_are_what_the_checkpoint_holds(element, dtype):
    from modelopt.torch.quantization.qtensor import MXFP4QTensor, MXFP8QTensor

    generator = torch.Generator().manual_seed(1)
    w = torch.randn(32, 96, generator=generator) * 10 ** torch.empty(32, 1).uniform_(-4, 2, generator=generator)
    w[0], w[1, :4] = 0, torch.tensor([0.0, -0.0, 1e-7, -1e-7])
    w[2, :8] = torch.tensor([6, .25, .75, 1.25, 1.75, 2.5, 3.5, 5])           # ties
    w = w.to(dtype)
    q, scale = MXFP4QTensor.quantize(w.clone(), 32) if element == (2, 1) else MXFP8QTensor.quantize(w.clone())
    want = q.dequantize(dtype, scale=scale, block_sizes={-1: 32})
    got = mx.fake_quantize_block_weight(w, element, E8M0, 32)
    assert torch.equal(bits(got), bits(want))


def test_weights_and_activations_differ_at_ties():
    x = _behind(6.0, torch.tensor([.75, 1.75, 3.5]))
    weight, activation = mx.fake_quantize_block_weight(x, (2, 1), E8M0, 32), mx.fake_quantize_block(x, (2, 1), E8M0, 32)
    assert weight[0, 1:4].tolist() == [.5, 1.5, 3.0] and activation[0, 1:4].tolist() == [1.0, 2.0, 4.0]


def test_two_levels_of_scale():
    """compute_scale_with_global, for INT8 elements with E4M3 scales, in Python's own double precision."""
    x = torch.randn(6, 16, generator=torch.Generator().manual_seed(2))
    x[0], x[1] = 0, x[1] * 1e-6
    amax = x.abs().amax()
    two_level = 448.0 * f32(127.0 / amax.item())
    want = []
    for row in x.tolist():
        top = max(abs(v) for v in row)
        scale = torch.tensor(f32(f32(top / 127) * two_level)).to(torch.float8_e4m3fn).item() / two_level
        up = f32(1 / scale) if scale else 0.0
        want.append([math.copysign(f32(min(round(f32(abs(v) * up)), 127) * f32(scale)), v) if v else 0.0 for v in row])
    assert torch.equal(mx.fake_quantize_block(x, 8, (4, 3), 16, amax), torch.tensor(want))
    assert not torch.equal(mx.fake_quantize_block(x, 8, (4, 3), 16, 1.3 * amax), torch.tensor(want))


@pytest.mark.parametrize("element", FORMATS, ids=FORMATS.values())
def test_shapes(element):
    """Partial blocks, three axes, strides, nothing at all: a row's blocks are its own."""
    x = torch.randn(4, 6, 80, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)
    for function in (mx.fake_quantize_block, mx.fake_quantize_block_weight):
        whole = function(x, element, E8M0, 32)
        assert whole.shape == x.shape and whole.dtype == x.dtype
        assert torch.equal(function(x[1, 2], element, E8M0, 32), whole[1, 2])
        assert torch.equal(function(x[..., 64:], element, E8M0, 32), whole[..., 64:])
        assert torch.equal(function(x.transpose(0, 1), element, E8M0, 32), whole.transpose(0, 1))
        assert function(x[:0], element, E8M0, 32).shape == (0, 6, 80)


def test_infinity_and_nan_stay():
    """6 * 2^126, the largest element under the scale of a block with an infinity, is beyond FP32."""
    x = torch.ones(2, 32)
    x[0, 3], x[1, 5] = -math.inf, math.nan
    out = mx.fake_quantize_block(x, (2, 1), E8M0, 32)
    assert out[0, 3] == -math.inf and out[0].count_nonzero() == 1
    assert out[1, 5].isnan() and torch.equal(out[1, :5], torch.ones(5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares with ModelOpt's CUDA extension: needs a GPU")
@pytest.mark.parametrize("element", FORMATS, ids=FORMATS.values())
def test_on_a_gpu_it_is_the_cuda_extension(element):
    from modelopt.torch.quantization.tensor_quant import dynamic_block_quant

    x = torch.randn(256, 1024, generator=torch.Generator().manual_seed(4))
    want = dynamic_block_quant(x.cuda(), 32, None, None, element, E8M0, None, None, True).cpu()
    assert torch.equal(mx.fake_quantize_block(x, element, E8M0, 32), want)
