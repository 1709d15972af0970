"""MXFP4 and MXFP8: scale exponents against exact arithmetic, bytes against torchao, ModelOpt and compressed-tensors."""

import math
from fractions import Fraction

import pytest
import torch

from gb10.formats import MXFP4, MXFP8
from gb10.formats.elements import E2M1
from gb10.formats.mx import RULES, scale_bytes

MX = {"MXFP4": MXFP4, "MXFP8": MXFP8}


def gauss(*shape, scale=1.0, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def grid_of_exponents():
    """Rows of Gauss numbers with a row for each power of two from 2^-118 to 2^120."""
    return gauss(239, 64, seed=3) * torch.exp2(torch.arange(-118.0, 121.0))[:, None]


CASES = {
    "gauss": gauss(64, 256), "small": gauss(64, 128, scale=.02), "every exponent": grid_of_exponents(),
    "heavy tails": gauss(64, 128) / gauss(64, 128, seed=1).abs().clamp(min=1e-3), "integers": gauss(64, 64, scale=9).round(),
    "ties": torch.tensor([4, .25, .75, 1.25, 1.75, 2.5, 3.5, 5, -.25, -.75, -1.25, -5, 0.0, -0.0, 7, 8] * 8).view(2, 64),
    "zero blocks": torch.cat((torch.zeros(1, 64), -torch.zeros(1, 64), gauss(2, 64))), "one axis": gauss(96),
    "three axes": gauss(2, 3, 32), "outlier": torch.cat((gauss(1, 63, scale=1e-3), torch.tensor([[3e4]])), 1),
}


def exponent(amax, rule, emax, mbits, top):
    """The scale's exponent by exact rational arithmetic; frexp gives floor(log2) + 1 exactly."""
    if amax == 0:
        return -127
    floor = math.frexp(amax)[1] - 1
    if rule == "ceil":
        e = floor - emax - 1
        while Fraction(amax) > Fraction(top) * Fraction(2) ** e:
            e += 1
        return max(-127, e)
    if rule == "even":
        # rounded to mbits mantissa bits, half upwards; a carry makes the next power of two
        floor += Fraction(amax) / Fraction(2) ** floor >= 2 - Fraction(1, 2 ** (mbits + 1))
    return max(-127, floor - emax)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cls", MX.values(), ids=MX)
def test_exponents_of_every_bfloat16_number_and_beside_every_boundary(cls, rule):
    every = torch.arange(0, 0x7F80).to(torch.int16).view(torch.bfloat16).float()
    near = torch.tensor([4.0, 6.0, 7.0, 8.0, 448.0, 496.0, 511.99]).view(torch.int32)
    near = (near[:, None, None] + (torch.arange(-120, 115) << 23)[:, None] + torch.arange(-2, 3)).view(-1).int()
    amax = torch.cat((every, near.view(torch.float32), torch.tensor([1e-45, 1e-40, 3.4028235e38])))
    got = scale_bytes(amax, rule, cls.emax, cls.mbits, cls.top)
    want = [exponent(a, rule, cls.emax, cls.mbits, cls.top) + 127 for a in amax.tolist()]
    assert got.tolist() == want


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("cls", MX.values(), ids=MX)
def test_bytes_are_torchaos(cls, dtype, rule):
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    from torchao.prototype.mx_formats.mx_tensor import to_mx

    mode = {"floor": ScaleCalculationMode.FLOOR, "ceil": ScaleCalculationMode.RCEIL, "even": ScaleCalculationMode.EVEN}
    kind = torch.float4_e2m1fn_x2 if cls is MXFP4 else torch.float8_e4m3fn
    for name, x in CASES.items():
        x = x.to(dtype)
        scales, data = to_mx(x, kind, 32, mode[rule])
        q = cls.quantize(x, rule=rule)
        assert torch.equal(q.scales.view(torch.uint8), scales.view(torch.uint8).reshape(q.scales.shape)), name
        assert torch.equal(q.packed, data.view(torch.uint8).reshape(q.packed.shape)), name


def test_decoding_is_torchaos_to_the_sign_of_zero():
    from torchao.prototype.mx_formats.mx_tensor import to_dtype

    for cls, kind in ((MXFP4, torch.float4_e2m1fn_x2), (MXFP8, torch.float8_e4m3fn)):
        q = cls.quantize(CASES["heavy tails"])
        data = q.packed if cls is MXFP4 else q.packed.view(torch.float8_e4m3fn)
        want = to_dtype(data, q.scales, kind, 32, torch.float32)
        assert torch.equal(q.dequantize().view(torch.int32), want.view(torch.int32))


def test_a_logarithm_in_floating_point_misses_what_the_bits_show():
    """Why ceil differs from ModelOpt and torchao in a few FP32 cases: amax a hair above 6 * 2^k, k far from 0."""
    from modelopt.torch.quantization.qtensor.mxfp4_tensor import MXFP4QTensor

    x = torch.zeros(1, 32)
    x[0, 0] = torch.nextafter(torch.tensor(6 * 2.0 ** -60), torch.tensor(1.0))
    q = MXFP4.quantize(x, rule="ceil")
    _, theirs = MXFP4QTensor.quantize(x.clone(), 32)
    assert q.scales.view(torch.uint8).item() == 127 - 60 + 1
    assert theirs.item() == 127 - 60


def test_modelopts_mxfp4_but_for_ties_and_zeros():
    from modelopt.torch.quantization.qtensor.mxfp4_tensor import MXFP4QTensor

    x = CASES["heavy tails"]
    packed, scales = MXFP4QTensor.quantize(x.clone(), 32)
    q = MXFP4.quantize(x, rule="ceil")
    assert torch.equal(q.packed, packed._quantized_data)
    assert torch.equal(q.scales.view(torch.uint8), scales.reshape(q.scales.shape))
    # the stated differences: ties towards zero, code 8 for every zero
    ties = torch.tensor([4.0, 0.0, -0.0, .25, .75, 1.25, 1.75, 2.5, 3.5, 5.0, -.75, -5.0] + [6.0] * 20)
    packed, _ = MXFP4QTensor.quantize(ties.clone(), 32)
    theirs = MXFP4(packed._quantized_data.view(1, -1), scales).codes()[0]
    ours = MXFP4.quantize(ties, rule="ceil").codes()
    assert theirs[:12].tolist() == [6, 8, 8, 0, 1, 2, 3, 4, 5, 6, 9, 14]
    assert ours[:12].tolist() == [6, 0, 8, 0, 2, 2, 4, 4, 6, 6, 10, 14]


def test_modelopts_mxfp8_bit_for_bit():
    from modelopt.torch.quantization.qtensor.mxfp8_tensor import MXFP8QTensor

    for name, x in CASES.items():
        if x.ndim < 2:
            continue
        packed, scales = MXFP8QTensor.quantize(x.clone())
        q = MXFP8.quantize(x, rule="ceil")
        assert torch.equal(q.packed, packed._quantized_data.view(torch.uint8)), name
        assert torch.equal(q.scales.view(torch.uint8), scales), name


@pytest.mark.parametrize("bits", [4, 8])
def test_compressed_tensors_rounds_amax_to_one_mantissa_bit_in_both_formats(bits):
    from compressed_tensors.quantization.utils import generate_mx_scales

    amax = grid_of_exponents().abs().amax(-1)
    theirs = generate_mx_scales(amax.clone(), bits).to(torch.uint8)
    cls = MXFP4 if bits == 4 else MXFP8
    inside = theirs > 0                                             # theirs wraps around where the exponent is too small
    assert inside.sum() > 200
    assert torch.equal(scale_bytes(amax, "even", cls.emax, 1, cls.top)[inside], theirs[inside])
    same = torch.equal(scale_bytes(amax, "even", cls.emax, cls.mbits, cls.top)[inside], theirs[inside])
    assert same == (bits == 4)                                      # MXFP8: three bits here and in torchao, one there


def nearest(y):
    """Code of |y| by exact distances to the eight magnitudes, a tie to the even code."""
    return min(range(8), key=lambda c: (abs(Fraction(E2M1[c]) - Fraction(y)), c % 2))


@pytest.mark.parametrize("rule", RULES)
def test_elements_by_exact_arithmetic(rule):
    x = torch.cat((CASES["gauss"][:2, :64].flatten(), CASES["ties"].flatten(), CASES["heavy tails"][0])).view(-1, 32)
    q = MXFP4.quantize(x, rule=rule)
    decoded = q.dequantize()
    for row, codes, values in zip(x.tolist(), q.codes().tolist(), decoded.tolist(), strict=True):
        e = exponent(max(map(abs, row)), rule, 2, 1, 6.0)
        for v, code, value in zip(row, codes, values, strict=True):
            want = nearest(abs(Fraction(v)) / Fraction(2) ** e)
            assert code & 7 == want and code >> 3 == (math.copysign(1, v) < 0)
            assert Fraction(value) == Fraction(E2M1[want]) * Fraction(2) ** e * (-1 if v < 0 else 1)


def test_what_floor_saturates_and_ceil_does_not():
    x = torch.tensor([7.9] + [0.5] * 31)
    assert MXFP4.quantize(x).dequantize()[0] == 6.0
    assert MXFP4.quantize(x, rule="ceil").dequantize()[0] == 8.0
    assert MXFP4.quantize(x, rule="even").dequantize()[0] == 8.0
    wide = gauss(64, 64)
    assert (MXFP4.quantize(wide, rule="ceil").dequantize() - wide).abs().max() <= wide.abs().max() / 4


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cls", MX.values(), ids=MX)
def test_the_ends_of_the_range(cls, rule):
    zeros = cls.quantize(torch.zeros(2, 32), rule=rule)
    assert zeros.scales.view(torch.uint8).tolist() == [[0], [0]] and not zeros.dequantize().any()
    # below 2^-127 * 6 the exponent stays at -127, and the elements are multiples of 2^-128 (2^-136)
    step = 2.0 ** -128 if cls is MXFP4 else 2.0 ** -136
    for small in (1e-38, 1e-39, 1e-40):
        x = torch.full((32,), small)
        got = cls.quantize(x, rule=rule)
        assert got.scales.view(torch.uint8).item() == 0
        assert (got.dequantize() - x).abs().max() <= max(step / 2, small / (2 if cls is MXFP4 else 16))
    large = cls.quantize(torch.full((32,), 2.0e38), rule=rule)
    assert torch.isfinite(large.dequantize()).all() and large.scales.view(torch.uint8).item() < 255


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="rule is floor, ceil or even, not 'rceil'"):
        MXFP4.quantize(torch.ones(32), rule="rceil")
