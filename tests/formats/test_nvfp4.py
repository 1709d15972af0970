"""The NVFP4 codec against ModelOpt's NVFP4QTensor, bit for bit, by both of its paths: compiled loops and torch."""

import math

import numpy as np
import pytest
import torch
from nvfp4_neighbours import ModelOpt

from gb10.formats import NVFP4
from gb10.formats.kernels import load
from gb10.formats.kernels import nvfp4 as fast
from gb10.formats.nvfp4 import round_trip

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
dtypes = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
TIES = torch.tensor([0, -0.0, .1, -.1, .25, .75, 1.25, 1.75, 2.5, 3.5, 5, -.25, -.75, -1.25, -5, 6])


@pytest.fixture(params=["loops", "torch"])
def path(request, monkeypatch):
    """Each test once through the compiled loops and once through torch alone."""
    if request.param == "loops":
        assert load.loops() is not None, "the compiled loops can't be had on this machine: see stderr"
    else:
        monkeypatch.setattr(load, "loops", lambda: None)
    return request.param


def bits(t):
    """Raw bits, so that -0.0 and 0.0 differ."""
    return t.contiguous().view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[t.dtype.itemsize])


def rng(seed):
    return torch.Generator().manual_seed(seed)


def gauss(*shape, scale=1.0, seed=0):
    return torch.randn(*shape, generator=rng(seed)) * scale


def student(*shape, freedom, seed=0):
    chi = torch.stack([gauss(*shape, seed=seed + 1 + i) ** 2 for i in range(freedom)]).mean(0)
    return gauss(*shape, seed=seed) / chi.sqrt()


def outlier(small, large):
    x = gauss(16, 64, scale=small)
    x[3, 17] = large
    return x


def patterns(dtype, seed=None):
    """Every finite bit pattern of a 16-bit float, in order or shuffled: [rows, 64]."""
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[every.isfinite()]
    if seed is not None:
        every = every[torch.randperm(len(every), generator=rng(seed))]
    return every[: len(every) // 64 * 64].view(-1, 64)


def random_patterns(seed):
    x = torch.randint(-2 ** 31, 2 ** 31 - 1, (64, 256), generator=rng(seed)).to(torch.int32).view(torch.float32)
    return torch.where(x.isfinite(), x, torch.ones(()))


CASES = {
    "gauss": gauss(64, 128), "small gauss": gauss(64, 128, scale=.02), "tiny gauss": gauss(32, 64, scale=1e-3),
    "student t3": student(64, 128, freedom=3), "student t5": .02 * student(64, 128, freedom=5),
    "laplace": gauss(64, 128) * (-torch.rand(64, 128, generator=rng(1)).log()).sqrt(),
    "uniform": torch.rand(64, 128, generator=rng(2)) - .5,
    "lognormal rows": gauss(64, 128) * torch.exp(3 * gauss(64, 1, seed=2)),
    "ties": torch.cat((TIES, TIES * 448)).reshape(2, 16), "integers": gauss(32, 64, scale=4).round(),
    "quarters": gauss(32, 64, scale=12).round() / 4, "few integers": gauss(32, 64).round(),
    "one zero row": torch.cat((torch.zeros(1, 64), gauss(7, 64))), "minus zeros": gauss(8, 32).clamp(min=0) * -1.0,
    "outlier 3e4": outlier(1e-3, 3e4), "outlier 1e2": outlier(1e-2, 1e2), "outlier 1e4": outlier(1e-6, -1e4),
    "outlier 1e4 over 1": outlier(1.0, 1e4),
    "1e-36": gauss(4, 32, scale=1e-36), "1e-40": gauss(4, 32, scale=1e-40), "1e36": gauss(4, 32, scale=1e36),
    "1e38": gauss(4, 32).clamp(-3, 3) * 1e38,
    "subnormals": torch.randint(-40000, 40000, (32, 64), generator=rng(3)).float() * 2.0 ** -149,
    # the scales of the smaller blocks underflow, s * g = 0
    "subnormals, mixed": (torch.randint(-99999, 99999, (64, 64), generator=rng(3)) / 10.0 ** torch.arange(64).remainder(
        6)[:, None]).round() * 2.0 ** -149,
    "subnormals in large": torch.cat((gauss(1, 64, scale=1e30), gauss(3, 64, scale=1e-41))),
    "one block": gauss(16), "one axis": gauss(64), "three axes": gauss(2, 3, 32), "one value": torch.full((16,), .3),
    "bf16 patterns": patterns(torch.bfloat16).float(), "bf16 patterns, shuffled": patterns(torch.bfloat16, 0).float(),
    "fp16 patterns": patterns(torch.float16).float(), "fp16 patterns, shuffled": patterns(torch.float16, 0).float(),
    "fp32 patterns": random_patterns(4),
}


def same(x, g=None, amax=None):
    """Codes, scales, tensor scale and both ways back: ModelOpt's bits."""
    want = ModelOpt.quantize(x.clone(), g)
    q = NVFP4.quantize(x, amax=amax)
    assert torch.equal(bits(q.tensor_scale), bits(want.g.reshape(())))
    assert torch.equal(bits(q.scales), bits(want.scales))
    assert torch.equal(q.packed, want.packed)
    for dtype in DTYPES.values():
        assert torch.equal(bits(q.dequantize(dtype)), bits(ModelOpt.dequantize(want, dtype)))
    assert torch.equal(bits(round_trip(x, amax)), bits(ModelOpt.dequantize(want, x.dtype)))


@dtypes
@pytest.mark.parametrize("name", CASES)
def test_bits_are_modelopts(path, name, dtype):
    x = CASES[name].to(dtype)
    if dtype == torch.float16:
        x = x.clamp(-65504, 65504)
    if not x.any() or x.float().abs().amax() / 2688 == 0:
        return                                   # nothing is left of it in this dtype; see the test of zeros
    same(x)


@dtypes
def test_bits_are_modelopts_on_what_comes_by_chance(path, dtype):
    for seed in range(60):
        generator = np.random.default_rng(seed)
        shape = (*generator.integers(1, 5, generator.integers(0, 3)), 16 * generator.integers(1, 12))
        x = torch.from_numpy(generator.standard_t(generator.choice([1, 2, 5, 100]), shape)).float()
        x = x * 2.0 ** float(generator.integers(-12, 8)) * torch.exp(torch.from_numpy(
            generator.normal(0, generator.choice([0, 1, 4]), (*shape[:-1], 1))).float())
        if generator.random() < .3:
            x = (x * 4).round() / 4
        if generator.random() < .3:
            x[torch.from_numpy(generator.random(shape) < .5)] = -0.0
        x = x.clamp(-6e4, 6e4).to(dtype)
        if x.any():
            same(x)
            amax = x.float().abs().amax() * float(2 ** generator.normal())
            same(x, g=amax / 2688, amax=amax)


@dtypes
@pytest.mark.parametrize("factor", [1e-6, 0.5, 1.0, 3.7, 1e9])
def test_bits_with_a_given_amax(path, factor, dtype):
    x = gauss(64, 128, scale=.05).to(dtype)
    amax = x.abs().amax().float() * factor       # below 1: a calibrated amax that some blocks exceed
    same(x, g=amax / 2688, amax=amax)
    same(x, g=amax / 2688, amax=amax.item())


@pytest.mark.parametrize("amax", [1e-40, 1e-30, 1e-3, 2688.0, 1e6, 3e38])
@dtypes
def test_every_pattern_of_16_bits_under_a_given_amax(path, dtype, amax):
    """Saturated above, vanishing below, scales that underflow: all that a short float can meet."""
    for x in (patterns(torch.bfloat16, 1), patterns(torch.float16, 1)):
        x = x.float() if dtype == torch.float32 else x.to(dtype)
        if x.isfinite().all():
            same(x, g=torch.tensor(amax) / 2688, amax=amax)


def test_golden_vector(path):
    x = torch.tensor([
        [0.5, -1, 1.5, -2, 2.5, -3, 3.5, -4, 4.5, -5, 5.5, -6, .25, -.25, 0, .1],
        [.01, -.02, .03, .04, -.05, .06, .07, -.08, .09, .1, -.11, .12, .13, .14, .15, -.16]])
    q = NVFP4.quantize(x)
    assert bits(q.tensor_scale).item() == 0x3B124925
    assert bits(q.scales).flatten().tolist() == [0x7E, 0x54]
    assert bytes(q.packed.flatten().tolist()).hex() == "a1c3d4e6e6f78000" + "91324cd5656e76f7"
    assert q.shape == x.shape and q.nbytes == 16 + 2 + 4


def test_the_tie_probe(path):
    codes = NVFP4.quantize(TIES, amax=torch.tensor(2688.0)).codes().tolist()
    assert codes == [0, 0, 0, 8, 0, 2, 2, 4, 4, 6, 6, 8, 10, 10, 14, 7]


@dtypes
@pytest.mark.parametrize("g", [1.0, 2.0 ** -20, 2.0 ** -126 * 3, 0.0123, 7.77e-5, 3e-39])
def test_every_tie_under_every_scale(path, dtype, g):
    """Seven midpoints, both signs, one step of the input's own dtype to either side; all 126 scale bytes."""
    amax = torch.tensor(g if dtype != torch.float16 or 1e-3 < g < 2 else 0.0123) * 2688
    g = amax / 2688
    s = torch.arange(1, 127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    bounds = torch.tensor((.25, .75, 1.25, 1.75, 2.5, 3.5, 5.0))
    middle = ((s * g)[:, None] * bounds).to(dtype)                        # [126, 7]
    near = torch.stack((bits(middle) - 1, bits(middle), bits(middle) + 1), dim=1).clamp(min=0).view(dtype)
    top = ((6 * g) * s).to(dtype)[:, None, None].expand(-1, 3, 1)         # makes the block's scale what it is
    x = torch.cat((top, near, -near, torch.zeros_like(top)), dim=-1).reshape(-1, 16)
    x = x[x.isfinite().all(-1)]
    q = NVFP4.quantize(x, amax=amax)
    if g == 1 and dtype != torch.float16:
        assert torch.equal(bits(q.scales).flatten(), torch.arange(1, 127, dtype=torch.uint8).repeat_interleave(3))
    y = x.float() / (q.scales.float() * g).repeat_interleave(16, -1)
    assert torch.equal(q.codes(), by_hand(y))
    assert g != 1 or (y.abs()[..., None] == bounds).any(-1).sum() >= 126 * 14      # ties were met
    same(x, g=g, amax=amax)


def by_hand(y):
    """E2M1 codes of FP32 y by the definition: the nearer value, and of two the one with the even code."""
    values = np.array([0, .5, 1, 1.5, 2, 3, 4, 6])
    distance = np.abs(np.abs(y.double().numpy())[..., None] - values)
    # argmin takes the first of equals: show it the even codes before the odd ones
    order = np.array([0, 2, 4, 6, 1, 3, 5, 7])
    code = order[distance[..., order].argmin(-1)]
    return torch.from_numpy(np.where(y.numpy() < 0, code + 8, code).astype(np.uint8))


def test_every_code_survives(path):
    x = torch.tensor([0, .5, 1, 1.5, 2, 3, 4, 6, 0, -.5, -1, -1.5, -2, -3, -4, -6])
    assert torch.equal(NVFP4.quantize(x).dequantize(), x)
    assert NVFP4.bits_per_weight == 4.5 and NVFP4.block == 16 and NVFP4.name == "NVFP4"


@dtypes
@pytest.mark.parametrize("x", [torch.zeros(4, 32), torch.full((2, 16), -0.0), torch.full((2, 16), 1e-44),
                               torch.zeros(16)])
def test_all_zero_decodes_to_plus_zero(path, x, dtype):
    x = x.to(dtype)
    q = NVFP4.quantize(x)
    assert q.tensor_scale == 1 and torch.equal(bits(q.dequantize(dtype)), bits(torch.zeros_like(x)))
    assert torch.equal(bits(round_trip(x)), bits(torch.zeros_like(x)))
    assert bits(q.scales).flatten().unique().tolist() == [0x38 if not x.any() else 0x01]
    assert not x.any() or torch.equal(NVFP4.quantize(x, amax=1.0).dequantize(dtype), torch.zeros_like(x))


def test_zeros_with_an_amax_of_zero(path):
    x = torch.zeros(2, 16)
    assert torch.equal(NVFP4.quantize(x, amax=0).dequantize(), x) and torch.equal(round_trip(x, 0), x)


@dtypes
def test_empty(path, dtype):
    """No largest value, no scale: refused. Within a model (an expert without tokens) it passes as it is."""
    for shape in ((0, 16), (3, 0, 32), (16, 0)):
        x = torch.zeros(shape, dtype=dtype)
        with pytest.raises(ValueError, match=r"shape \(.*0.*\) holds no values"):
            NVFP4.quantize(x)
        assert round_trip(x).shape == shape and round_trip(x, 3.0).dtype == dtype
    # parts of no blocks decode all the same
    q = NVFP4(torch.zeros(0, 8, dtype=torch.uint8), torch.zeros(0, 1).to(torch.float8_e4m3fn), 1.0)
    assert q.dequantize(dtype).shape == (0, 16) and q.dequantize(dtype).dtype == dtype


@dtypes
@pytest.mark.parametrize("view", [
    lambda x: x.t(), lambda x: x[:, ::2], lambda x: x[::3], lambda x: x[:, 16:80], lambda x: x[5].expand(40, -1),
    lambda x: x.view(8, 20, 160).transpose(0, 1), lambda x: x.view(8, 20, 160).permute(2, 1, 0)[:, :, None].expand(
        -1, -1, 16, -1).flatten(2), lambda x: x.flatten()[3:][:160], lambda x: x.t()[7], lambda x: x.flip(1),
    lambda x: x[:1].t()[:16].t(), lambda x: x.view(2, 80, 160)[:, ::5]],
    ids=["transposed", "every second", "every third row", "columns", "expanded", "axes swapped", "axes turned",
         "unaligned", "a column", "flipped", "one row", "rows of two"])
def test_strides_make_no_difference(path, view, dtype, monkeypatch):
    monkeypatch.setattr("gb10.formats.kernels.nvfp4.PIECE", 512)        # in many pieces
    x = view(gauss(160, 160).to(dtype))
    before = x.clone()
    q, plain = NVFP4.quantize(x), NVFP4.quantize(x.clone(memory_format=torch.contiguous_format))
    assert torch.equal(q.packed, plain.packed) and torch.equal(bits(q.scales), bits(plain.scales))
    assert torch.equal(bits(round_trip(x)), bits(plain.dequantize(dtype)))
    assert torch.equal(x, before)                # and the input is as it was
    strided = NVFP4(q.packed.repeat_interleave(2, 0)[::2], q.scales.repeat_interleave(2, 0)[::2], q.tensor_scale)
    assert torch.equal(bits(strided.dequantize()), bits(plain.dequantize()))


@pytest.mark.parametrize("setting", ["dtype", "device"])
def test_torchs_defaults_make_no_difference(path, setting):
    """As while a model is being loaded: the default dtype is BF16, or what is made lands on another device."""
    x, want = gauss(8, 64), NVFP4.quantize(gauss(8, 64), amax=3.1)
    fast._constants.cache_clear()
    if setting == "device" and path == "torch":
        return                                   # elements.py's tables would be elsewhere: torch's own affair
    torch.set_default_dtype(torch.bfloat16) if setting == "dtype" else torch.set_default_device("meta")
    try:
        got = NVFP4.quantize(x, amax=3.1)
        decoded, tripped = got.dequantize(), round_trip(x, 3.1)
        again = NVFP4(got.packed, got.scales, want.tensor_scale.item()).dequantize()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        fast._constants.cache_clear()
    assert torch.equal(got.packed, want.packed) and torch.equal(bits(got.scales), bits(want.scales))
    assert got.tensor_scale == want.tensor_scale
    assert all(torch.equal(bits(t), bits(want.dequantize())) for t in (decoded, tripped, again))


def test_gradients_stop(path):
    x = gauss(4, 32).requires_grad_()
    q = NVFP4.quantize(x, amax=x.abs().amax())
    assert not any(t.requires_grad for t in (q.packed, q.scales, q.tensor_scale, q.dequantize(), round_trip(x)))
    assert x.grad_fn is None and x.is_leaf
    same(torch.nn.Parameter(gauss(4, 32)).detach())
    assert torch.equal(NVFP4.quantize(torch.nn.Parameter(gauss(4, 32))).packed, NVFP4.quantize(gauss(4, 32)).packed)


@pytest.mark.parametrize(("x", "says"), [
    (torch.zeros(3, 17), r"\(3, 17\)"), (torch.zeros(3, 0), r"\(3, 0\)"), (torch.tensor(1.0), r"\(\)"),
    (torch.zeros(2, 16, dtype=torch.int32), "int32"), (torch.zeros(2, 16, dtype=torch.float64), "float64"),
    (torch.zeros(2, 16, dtype=torch.float8_e4m3fn), "float8"), (torch.zeros(2, 16, dtype=torch.bool), "bool"),
    (torch.tensor([math.nan] + [1.0] * 15), r"\(16,\).*NaN"), (torch.tensor([1.0] * 31 + [-math.inf]), r"\(32,\).*inf"),
    (torch.tensor([[math.nan] * 16] * 3).bfloat16(), r"\(3, 16\).*NaN"),
    (torch.tensor([1.0] * 31 + [math.inf]).half(), r"\(32,\).*inf")])
def test_what_is_refused(path, x, says):
    with pytest.raises(ValueError, match=says) as refused:
        NVFP4.quantize(x)
    assert "\n" not in str(refused.value)
    if x.dtype in DTYPES.values() and x.ndim and x.shape[-1] == 16:
        with pytest.raises(ValueError, match="NaN"):       # a given amax hides none
            NVFP4.quantize(x, amax=1.0)


@pytest.mark.parametrize("amax", [math.nan, math.inf, -1.0, 0.0, torch.tensor(-2.0), torch.ones(3), torch.zeros(()),
                                  torch.tensor([[math.nan]]), 1e39, torch.ones(0)])
def test_an_amax_that_is_refused(path, amax):
    with pytest.raises(ValueError, match=r"amax.*(\(2, 16\)|0)|\(2, 16\).*amax"):
        NVFP4.quantize(torch.ones(2, 16), amax=amax)


def test_a_round_trip_keeps_nan(path):
    x = gauss(4, 32)
    x[2, 5] = math.nan
    assert round_trip(x).isnan().all()           # the tensor scale is NaN, as in ModelOpt
    given = round_trip(x, 3.0)
    assert given[2, :16].isnan().all() and torch.equal(given[3], round_trip(x[3], 3.0))


@pytest.mark.parametrize(("packed", "scales", "g"), [
    (torch.zeros(2, 8, dtype=torch.int8), torch.zeros(2, 1), 1.0),
    (torch.zeros(2, 8, dtype=torch.uint8), torch.zeros(2, 1), 1.0),
    (torch.zeros(2, 8, dtype=torch.uint8), torch.zeros(2, 2).to(torch.float8_e4m3fn), 1.0),
    (torch.zeros(2, 8, dtype=torch.uint8), torch.zeros(2).to(torch.float8_e4m3fn), 1.0),
    (torch.zeros(2, 12, dtype=torch.uint8), torch.zeros(2, 1).to(torch.float8_e4m3fn), 1.0),
    (torch.zeros(2, 8, dtype=torch.uint8), torch.zeros(2, 1).to(torch.float8_e4m3fn), torch.ones(2)),
    (torch.zeros(2, 8, dtype=torch.uint8), torch.zeros(2, 1).to(torch.float8_e4m3fn), 3)])
def test_parts_that_do_not_fit(packed, scales, g):
    with pytest.raises(ValueError, match="NVFP4"):
        NVFP4(packed, scales, g)


def test_parts_replaced_later_are_looked_at_again(path):
    q = NVFP4.quantize(gauss(4, 32))
    q.scales = q.scales[:2]
    with pytest.raises(ValueError, match="one block scale"):
        q.dequantize()


def test_parts_of_any_bits(path):
    """Every code under every scale byte, NaN and negative ones too, as ModelOpt decodes them."""
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    packed = torch.arange(256, dtype=torch.uint8).repeat(256, 1)
    scales = torch.arange(256, dtype=torch.uint8)[:, None].expand(-1, 32).contiguous().view(torch.float8_e4m3fn)
    for g in (1.0, 0.0123, 1e-42, 1e36):
        q = NVFP4(packed, scales, torch.tensor([g]))
        for dtype in DTYPES.values():
            want = NVFP4QTensor(torch.Size((256, 512)), dtype, packed).dequantize(
                dtype, scale=scales, double_scale=torch.tensor(g), block_sizes={-1: 16})
            got = q.dequantize(dtype)
            assert torch.equal(got.isnan(), want.isnan())
            assert torch.equal(bits(got.nan_to_num(nan=7)), bits(want.nan_to_num(nan=7)))
    assert q.dequantize(torch.float64).dtype == torch.float64
    with pytest.raises(ValueError, match="int32"):
        q.dequantize(torch.int32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@dtypes
def test_a_gpu_gives_the_same_bits(dtype):
    for x in CASES.values():
        x = x.to(dtype).clamp(-6e4, 6e4)
        here, there = NVFP4.quantize(x), NVFP4.quantize(x.cuda())
        assert there.packed.is_cuda and torch.equal(there.packed.cpu(), here.packed)
        assert torch.equal(bits(there.scales.cpu()), bits(here.scales))
        assert torch.equal(bits(there.tensor_scale.cpu()), bits(here.tensor_scale))
        assert torch.equal(bits(there.dequantize(dtype).cpu()), bits(here.dequantize(dtype)))
        assert torch.equal(bits(round_trip(x.cuda()).cpu()), bits(round_trip(x)))
