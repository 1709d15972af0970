"""What holds for every format: one set of cases, run over each class in gb10.formats.FORMATS."""

import math

import ml_dtypes
import numpy as np
import pytest
import torch

from gb10.formats import FORMATS
from gb10.formats.error import relative_rmse

WIDE = 256                                                  # divides into every format's blocks
# the elements' types in another library
VALUES = {
    "NVFP4": ml_dtypes.float4_e2m1fn, "MXFP4": ml_dtypes.float4_e2m1fn, "MXFP8": ml_dtypes.float8_e4m3fn,
    "FP8": ml_dtypes.float8_e4m3fn, "INT4": ml_dtypes.int4, "INT8": np.int8, "NVINT4": ml_dtypes.int4,
}

formats = pytest.mark.parametrize("cls", FORMATS.values(), ids=FORMATS)


def gauss(*shape, scale=1.0, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def steps(q):
    """What each element is multiplied by, FP64 [..., K]."""
    scales = q.scales.double() * getattr(q, "tensor_scale", torch.ones(())).double()
    if scales.ndim == 0:
        return scales.expand(q.shape)
    return scales.repeat_interleave(q.shape[-1] // scales.shape[-1], -1)


def read(name, codes):
    """Codes (uint8 array) as another library reads them, FP64."""
    return torch.from_numpy(codes.view(VALUES[name]).astype(np.float64))


def elements(q):
    return read(q.name, q.codes().numpy())


def every_value(name):
    """All values that an element can have, ascending."""
    four = VALUES[name] in (ml_dtypes.float4_e2m1fn, ml_dtypes.int4)
    values = read(name, np.arange(16 if four else 256, dtype=np.uint8))
    return torch.unique(values[torch.isfinite(values)])


def same(a, b):
    return torch.equal(a.packed, b.packed) and a.scales.dtype == b.scales.dtype and torch.equal(steps(a), steps(b))


def test_names_and_order():
    assert list(FORMATS) == ["NVFP4", "MXFP4", "MXFP8", "FP8", "INT4", "INT8", "NVINT4"]
    assert all(cls.name == name for name, cls in FORMATS.items())


@formats
@pytest.mark.parametrize("shape", [(WIDE,), (4, WIDE), (2, 3, WIDE)])
def test_fields_agree_with_each_other(cls, shape):
    x = gauss(*shape)
    q = cls.quantize(x)
    four = cls.name in ("NVFP4", "MXFP4", "INT4", "NVINT4")
    assert q.packed.dtype == torch.uint8 and q.packed.shape == (*shape[:-1], WIDE // 2 if four else WIDE)
    assert q.shape == x.shape and q.codes().shape == x.shape and q.codes().dtype == torch.uint8
    if four:
        assert torch.equal(q.codes()[..., 0::2] | q.codes()[..., 1::2] << 4, q.packed)
    if cls.block:
        assert q.scales.shape == (*shape[:-1], WIDE // cls.block)
    back = q.dequantize()
    assert back.shape == x.shape and back.dtype == torch.float32
    assert torch.allclose(back.double(), elements(q) * steps(q), rtol=2.0 ** -22, atol=0)
    extra = 4 * hasattr(q, "tensor_scale")
    assert q.nbytes == q.packed.nbytes + q.scales.nbytes + extra
    per_block = cls.bits_per_weight * x.numel() / 8             # scales per tensor or row aren't counted in it
    assert 0 <= q.nbytes - per_block <= 4 * max(1, x.numel() // WIDE)
    assert cls.name in repr(q)


@formats
def test_errors_are_half_a_step_where_nothing_saturates(cls):
    x = gauss(16, WIDE)
    q = cls.quantize(x)
    y, got, grid = x.double() / steps(q), elements(q), every_value(cls.name)
    inside = y.abs() <= grid.max()
    above = torch.searchsorted(grid, y.clamp(grid.min(), grid.max())).clamp(1)
    half = (grid[above] - grid[above - 1]) / 2                  # y lies between these two
    assert ((got - y).abs() <= half * (1 + 1e-6))[inside].all()
    assert (got.abs() == grid.max())[~inside].all()             # beyond the last code: saturated


@formats
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_tensors_are_quantized_as_their_fp32_selves(cls, dtype):
    x = gauss(8, WIDE).to(dtype)
    q, want = cls.quantize(x), cls.quantize(x.float())
    assert same(q, want)
    assert torch.equal(q.dequantize(dtype), want.dequantize().to(dtype)) and q.dequantize(dtype).dtype == dtype


@formats
def test_quantizing_what_was_quantized_changes_nothing_that_can_be_seen(cls):
    once = cls.quantize(gauss(32, WIDE)).dequantize()
    twice = cls.quantize(once).dequantize()
    if cls.name in ("MXFP4", "MXFP8", "INT4"):                  # scales that come out the same to the bit
        assert torch.equal(once, twice)
    # elsewhere a scale is a rounded quotient: it may come out an FP32 rounding beside, and the values with it
    assert torch.allclose(once, twice, rtol=1e-6, atol=0)


@formats
def test_input_is_left_alone_however_it_lies_in_memory(cls):
    x = gauss(WIDE, 2 * WIDE)
    keep = x.clone()
    for view in (x.T[:WIDE, :WIDE], x[:, ::2], x.requires_grad_(True)[:, :WIDE]):
        q = cls.quantize(view)
        assert same(q, cls.quantize(view.detach().clone().contiguous()))
        assert not q.dequantize().requires_grad
    assert torch.equal(x, keep)


@formats
def test_zeros_give_zeros(cls):
    x = gauss(4, WIDE)
    x[1] = 0
    for y in (torch.zeros(2, WIDE), -torch.zeros(2, WIDE), x):
        back = cls.quantize(y).dequantize()
        assert torch.isfinite(back).all() and not back[1].any()


@formats
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e3, 1e30])
def test_the_error_does_not_depend_on_the_unit(cls, scale):
    x = gauss(16, WIDE)
    if cls.name == "INT4" and scale in (1e-30, 1e30):           # its FP16 scales end before
        assert set(cls.quantize(x * scale).scales.flatten().tolist()) == {2.0 ** -24 if scale < 1 else 65504.0}
        return
    error = relative_rmse(x * scale, cls.quantize(x * scale).dequantize())
    unit = relative_rmse(x, cls.quantize(x).dequantize())
    assert error == pytest.approx(unit, rel=0.15)               # a power of two as scale makes a difference


@formats
@pytest.mark.parametrize("value", [torch.finfo(torch.float32).max, 3.3e38, 1e38, 1e-36, 1e-40, 1e-45])
def test_the_ends_of_fp32_stay_finite(cls, value):
    x = torch.full((16, WIDE), value)
    x[1] *= 0.3
    x[2] *= -1
    back = cls.quantize(x).dequantize()
    assert torch.isfinite(back).all()
    assert (back.abs() <= value * 1.5 + 2.0 ** -128).all()


BAD = {
    "NaN": (torch.tensor([1.0] * 255 + [math.nan]), "NaN or infinity"),
    "infinity": (torch.tensor([[-math.inf] + [1.0] * 255]), "NaN or infinity"),
    "float16 infinity": (torch.full((2, 256), 65504.0).half() * 2, "NaN or infinity"),
    "integers": (torch.ones(2, 256, dtype=torch.int32), "int32"),
    "float64": (torch.ones(2, 256).double(), "float64"),
    "float8": (torch.ones(2, 256).to(torch.float8_e4m3fn), "float8_e4m3fn"),
    "complex": (torch.ones(2, 256, dtype=torch.complex64), "complex64"),
    "array": (np.ones((2, 256), np.float32), "float32"),
    "no axis": (torch.tensor(1.0), "axis"),
    "empty row": (torch.ones(3, 0), "no values"),
    "no rows": (torch.ones(0, 256), "no values"),
    "sparse": (torch.eye(256).to_sparse(), "sparse_coo"),
    "no memory": (torch.ones(2, 256, device="meta"), "meta device"),
}


@formats
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_quantized_is_refused_in_one_sentence(cls, case):
    """ValueError that names the format, the tensor's shape and what is wrong."""
    x, word = BAD[case]
    with pytest.raises(ValueError) as caught:
        cls.quantize(x)
    said = str(caught.value)
    assert "\n" not in said
    assert cls.name in said and str(tuple(x.shape)) in said and word in said


@formats
def test_a_last_axis_that_does_not_divide_is_refused(cls):
    if cls.block is None:
        assert cls.quantize(torch.ones(3, 17)).shape == (3, 17)
        return
    for shape in ((cls.block - 1,), (2, cls.block + 2), (2, 1)):
        with pytest.raises(ValueError, match=f"blocks of {cls.block} along the last axis"):
            cls.quantize(torch.ones(shape))


@formats
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_has_no_shape_is_refused_by_its_kind(cls):
    nested = torch.nested.nested_tensor([torch.ones(2, 256), torch.ones(3, 256)])
    for x, kind in (([1.0] * 256, "a list"), (None, "NoneType"), (1.0, "a float"), (nested, "nested")):
        with pytest.raises(ValueError, match=f"^{cls.name}.quantize takes a torch tensor of .*{kind}"):
            cls.quantize(x)


@formats
@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, "float32", torch.complex64])
def test_values_are_decoded_to_floats_only(cls, dtype):
    with pytest.raises(ValueError, match=f"^{cls.name}.dequantize gives"):
        cls.quantize(gauss(2, WIDE)).dequantize(dtype)


@formats
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_torchs_default_dtype_and_device_make_no_difference(cls, dtype):
    x = gauss(4, WIDE)
    want = cls.quantize(x)
    torch.set_default_dtype(dtype)
    torch.set_default_device("meta")
    try:
        got = cls.quantize(x)
        back = got.dequantize()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert same(got, want) and torch.equal(back, want.dequantize())
