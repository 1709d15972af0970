"""NVFP4's variants, each against its definition written out as loops over blocks, and what each is there for."""

import math

import numpy as np
import pytest
import torch

from gb10.formats import MXFP4, NVFP4, variants
from gb10.formats.elements import E2M1
from gb10.formats.error import relative_rmse, snr_db


def gauss(*shape, scale=1.0, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def e4m3(value):
    return torch.tensor(float(value)).to(torch.float8_e4m3fn).float().item()


def nearest(y):
    """The E2M1 value nearest to y, a tie to the even code: by comparing distances in FP64."""
    code = min(range(8), key=lambda c: (abs(E2M1[c] - abs(float(y))), c % 2))
    return math.copysign(E2M1[code], y)


def decode(values, step):
    return [float(np.float32(nearest(np.float32(v) / np.float32(step))) * np.float32(step)) for v in values]


def best_of(x, multipliers):
    """Per block of 16 the multiplier of the least squared error, of equals the first; decoded, by loops."""
    g = np.float32(x.abs().max().item()) / np.float32(6 * 256)
    rows = []
    for row in x.tolist():
        out = []
        for start in range(0, len(row), 16):
            block = row[start:start + 16]
            r = np.float32(max(map(abs, block))) / (np.float32(6) * g)
            tries = [decode(block, np.float32(e4m3(r * np.float32(m))) * g) for m in multipliers]
            out += min(tries, key=lambda t: sum((a - b) ** 2 for a, b in zip(block, t, strict=True)))
        rows.append(out)
    return torch.tensor(rows)


@pytest.mark.parametrize("multipliers", [(1.0, 1.5), variants.MULTIPLIERS])
def test_searches_find_what_trying_everything_finds(multipliers):
    x = gauss(4, 64)
    got = variants.four_over_six(x) if len(multipliers) == 2 else variants.scale_search(x)
    assert torch.equal(got.dequantize(), best_of(x, multipliers))


def test_the_sweep_has_eighteen_multipliers_and_a_search_never_errs_more_than_its_first():
    assert len(variants.MULTIPLIERS) == 18
    assert (variants.MULTIPLIERS[0], variants.MULTIPLIERS[5], variants.MULTIPLIERS[-1]) == (0.75, 1.0, 1.6)
    x = gauss(32, 256) / gauss(32, 256, seed=1).abs().clamp(min=.05)

    def errors(q):
        return (q.dequantize() - x).double().square().unflatten(-1, (-1, 16)).sum(-1)

    plain, best = errors(variants.scale_search(x, (1.0,))), errors(variants.scale_search(x, (1.0, 1.5)))
    assert (best <= plain * (1 + 1e-5)).all() and (best < plain * 0.99).any()
    with pytest.raises(ValueError, match="multipliers are positive numbers"):
        variants.scale_search(x, ())
    with pytest.raises(ValueError, match="multipliers are positive numbers"):
        variants.scale_search(x, (1.0, -1.0))


def test_four_over_six_on_the_block_that_it_is_named_for():
    """Values at 3/4 of the maximum: 4.5 of 6 isn't on the grid, 3 of 4 is."""
    x = torch.tensor([[6.0] + [4.5] * 15, [6.0] + [4.0] * 15, [6.0] + [0.0] * 15])
    q = variants.four_over_six(x)
    assert q.codes()[2, 0] == 7                                      # either would do: 6 is kept
    assert torch.allclose(q.dequantize(), x, rtol=1e-6)
    assert q.codes()[0].tolist() == [6] + [5] * 15 and q.codes()[1].tolist() == [7] + [6] * 15
    assert (NVFP4.quantize(x).dequantize()[0, 1:] - 4.5).abs().min() > 0.4


def test_tiles_have_the_scales_of_their_transpose():
    x = gauss(48, 64)
    q = variants.tiles(x)
    assert q.scales.shape == (48, 4)
    assert torch.equal(q.dequantize(), variants.tiles(x.T.contiguous()).dequantize().T)
    g = x.abs().max() / 2688
    for i in range(0, 48, 16):
        for j in range(4):
            want = e4m3(x[i:i + 16, 16 * j:16 * j + 16].abs().max() / (6 * g))
            assert (q.scales[i:i + 16, j].float() == want).all()
    stacked = torch.stack((x, 3 * x))                                # leading axes are independent but for g
    assert torch.equal(variants.tiles(stacked).scales[1].view(torch.uint8), q.scales.view(torch.uint8))
    for shape in ((8, 64), (64,)):
        with pytest.raises(ValueError, match="NVFP4 tiles are 16 rows by 16 columns"):
            variants.tiles(torch.ones(shape))


def test_stochastic_rounding_is_right_on_average_and_repeats_with_its_seed():
    x = gauss(2, 32)
    q = variants.stochastic(x, torch.Generator().manual_seed(1))
    again = variants.stochastic(x, torch.Generator().manual_seed(1))
    other = variants.stochastic(x, torch.Generator().manual_seed(2))
    assert torch.equal(q.packed, again.packed) and not torch.equal(q.packed, other.packed)
    assert torch.equal(q.scales.view(torch.uint8), NVFP4.quantize(x).scales.view(torch.uint8))

    # 4096 copies of a block, rounded independently; the standard error of each mean is known from p (1 - p)
    copies = 4096
    step = (q.scales.float() * q.tensor_scale).repeat_interleave(16, -1)
    many = variants.stochastic(x.repeat(copies, 1), torch.Generator().manual_seed(3)).dequantize().view(copies, 2, 32)
    y = (x / step).abs().clamp(max=6)
    gap = torch.where(y < 2, 0.5, torch.where(y < 4, 1.0, 2.0)) * step
    z = (many.mean(0) - x.sign() * y * step) / (gap / 2 / copies ** .5)
    assert z.abs().max() < 4.5                                       # 64 values; the worst case has p = 1/2
    nearest_value = NVFP4.quantize(x).dequantize()
    assert ((nearest_value - x) / (gap / 2 / copies ** .5)).abs().max() > 20     # what rounding to nearest would give


def test_stochastic_rounding_leaves_what_is_on_the_grid_and_hits_only_neighbours():
    grid = torch.tensor([E2M1 + tuple(-v for v in E2M1)]) * 448
    back = variants.stochastic(grid, torch.Generator().manual_seed(0)).dequantize()
    assert torch.equal(back, grid)
    x = gauss(16, 64)
    q = variants.stochastic(x, torch.Generator().manual_seed(0))
    y = (x / (q.scales.float() * q.tensor_scale).repeat_interleave(16, -1)).abs()
    magnitude = torch.tensor(E2M1)[(q.codes() & 7).int()]
    below = torch.tensor(E2M1)[torch.searchsorted(torch.tensor(E2M1), y.clamp(max=6), right=True) - 1]
    above = torch.tensor(E2M1)[torch.searchsorted(torch.tensor(E2M1), y.clamp(max=6))]
    assert ((magnitude == below) | (magnitude == above)).all()


def test_the_tensor_scale_matters_for_small_tensors_with_e4m3_scales():
    """Relative RMSE without and with it. Below 0.012 a block's amax / 6 is under E4M3's smallest number."""
    table = {}
    for sigma in (1.0, 0.02, 0.001):
        x = gauss(256, 1024, scale=sigma)
        table[sigma] = (relative_rmse(x, variants.single_level(x).dequantize()),
                        relative_rmse(x, NVFP4.quantize(x).dequantize()))
    assert table[1.0] == pytest.approx((0.095, 0.095), abs=1e-3)
    assert table[0.02] == pytest.approx((0.103, 0.095), abs=1e-3)
    assert table[0.001] == pytest.approx((0.282, 0.095), abs=2e-3)
    q = variants.single_level(torch.full((16,), 1e-3))
    assert q.tensor_scale == 1 and q.scales.float().item() == 2.0 ** -9
    assert variants.single_level(torch.full((16,), 1e4)).dequantize()[0] == 2688


def test_with_fp32_scales_the_tensor_scale_cancels():
    for sigma in (1.0, 0.001):
        x = gauss(64, 256, scale=sigma)
        one, two = (relative_rmse(x, variants.exact_scales(x, two_level=level)) for level in (False, True))
        assert one == pytest.approx(two, rel=1e-5)
        assert one < relative_rmse(x, NVFP4.quantize(x).dequantize())
    assert not variants.exact_scales(torch.zeros(2, 32), two_level=True).any()
    x = torch.tensor([6.0, -3.0, 0.4] + [0.0] * 13)
    assert variants.exact_scales(x)[:3].tolist() == [6.0, -3.0, 0.5]


def test_other_blocks():
    x = gauss(64, 256)
    assert torch.equal(variants.with_block(x, 16), NVFP4.quantize(x).dequantize())
    snr = [snr_db(x, variants.with_block(x, block)) for block in (8, 16, 32, 64)]
    assert snr == sorted(snr, reverse=True)


@pytest.mark.parametrize("size", [1, 2, 16, 32, 128])
def test_hadamard_is_orthonormal_and_its_inverse_undoes_it(size):
    h = variants.hadamard(torch.eye(size), size)
    entries = torch.tensor([[(-1) ** (i & j).bit_count() for j in range(size)] for i in range(size)])
    assert torch.allclose(h, entries / size ** .5)
    assert torch.allclose(h @ h.T, torch.eye(size), atol=1e-6)
    x, signs = gauss(3, 4, 128), variants.random_signs(size, seed=5)
    y = variants.hadamard(x, size, signs)
    assert y.norm().item() == pytest.approx(x.norm().item(), rel=1e-6)
    assert torch.allclose(variants.inverse_hadamard(y, size, signs), x, atol=1e-5)
    if size > 1:
        assert not torch.allclose(y, variants.hadamard(x, size))
    other = gauss(3, 4, 128, seed=9)                                 # what a layer computes stays the same
    assert torch.allclose((y * variants.hadamard(other, size, signs)).sum(-1), (x * other).sum(-1), atol=1e-3)


def test_hadamard_spreads_one_outlier_and_helps_mxfp4_there():
    x = gauss(64, 256, scale=.02)
    x[:, ::32] *= 20
    spread = variants.hadamard(x, 32, variants.random_signs(32))
    assert spread.abs().max() < 0.6 * x.abs().max()
    assert snr_db(spread, MXFP4.quantize(spread).dequantize()) > snr_db(x, MXFP4.quantize(x).dequantize()) + 2


def test_signs_are_seeded_and_of_one_size():
    signs = variants.random_signs(64, seed=1)
    assert set(signs.tolist()) == {1.0, -1.0} and torch.equal(signs, variants.random_signs(64, seed=1))
    assert not torch.equal(signs, variants.random_signs(64, seed=2))
    with pytest.raises(ValueError, match=r"one sign for each of the 16 elements, not a tensor of shape \(64,\)"):
        variants.hadamard(gauss(2, 64), 16, signs)
    with pytest.raises(ValueError, match="size is a power of two, not 12"):
        variants.hadamard(gauss(2, 24), 12)
    with pytest.raises(ValueError, match=r"blocks of 16 along the last axis; \(2, 24\)"):
        variants.hadamard(gauss(2, 24))


@pytest.mark.parametrize("variant", [variants.tiles, variants.four_over_six, variants.scale_search,
                                     variants.stochastic, variants.single_level, variants.exact_scales])
def test_zeros_stay_zeros_and_what_nvfp4_refuses_is_refused(variant):
    x = gauss(32, 32)
    x[:16] = 0
    for y in (torch.zeros(16, 32), x):
        back = variant(y)
        back = back if isinstance(back, torch.Tensor) else back.dequantize()
        assert torch.isfinite(back).all() and not back[:16].any() and back.shape == y.shape
    for bad, words in ((torch.ones(16, 17), r"\(16, 17\) does not divide"), (torch.ones(16, 16).int(), "is int32"),
                       (torch.full((16, 16), math.nan), "NaN or infinity"), (torch.ones(0, 16), "holds no values")):
        with pytest.raises(ValueError, match=words):
            variant(bad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_torchs_default_dtype_and_device_make_no_difference(dtype):
    x = gauss(16, 64)

    def all_of_them():
        yield from (q.dequantize() for q in (variants.tiles(x), variants.four_over_six(x), variants.single_level(x)))
        yield variants.stochastic(x, torch.Generator("cpu").manual_seed(0)).dequantize()
        yield from (variants.exact_scales(x), variants.with_block(x, 32))
        yield variants.hadamard(x, signs=variants.random_signs())

    want = list(all_of_them())
    torch.set_default_dtype(dtype)
    torch.set_default_device("meta")
    try:
        got = list(all_of_them())
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
