"""What notebook 2 of lesson 3 shows: ranges noted sample by sample, other ranges put in, and the explorer over its whole range."""

import functools

import pytest
import torch
from test_explore import ink

from gb10 import paths, quantize
from gb10.explore import calibration, figure, ranges
from gb10.formats import FP8, NVFP4
from gb10.formats.error import snr_db


@pytest.fixture(scope="module")
def pico():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(paths.PICO, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def ids():
    return torch.randint(4096, (6, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def quantized(ids):
    from transformers import AutoModelForCausalLM

    return quantize.quantize(AutoModelForCausalLM.from_pretrained(paths.PICO, dtype=torch.float32), [ids])


@pytest.fixture(scope="module")
def x():
    return torch.randn(64, 256, generator=torch.Generator().manual_seed(0)) * 3


# ---------------------------------------------------------------- ranges

def test_maxima_are_what_modelopt_calibrates(pico, ids, quantized):
    found = ranges.maxima(pico, ids, batch=6)
    assert len(found) == 42 and all(v.shape == (6,) and v.dtype == torch.float32 for v in found.values())
    for name, values in found.items():
        assert quantized.get_submodule(name).input_quantizer.amax.item() == pytest.approx(values.max().item(), rel=1e-5)


def test_maxima_do_not_depend_on_how_samples_are_batched(pico, ids):
    seen = []
    whole, parts = ranges.maxima(pico, ids), ranges.maxima(pico, ids, batch=4, progress=lambda *a: seen.append(a))
    assert seen == [(4, 6), (6, 6)]
    for name in whole:
        assert torch.allclose(whole[name], parts[name], rtol=1e-4)
    alone = ranges.maxima(pico, ids[3:4])
    assert all(alone[name].item() == pytest.approx(whole[name][3].item(), rel=1e-4) for name in whole)


def test_hooks_are_taken_away(pico, ids):
    ranges.maxima(pico, ids[:1])
    ranges.inputs(pico, ids[:1], ["model.layers.0.mlp.down_proj"])
    with pytest.raises(ValueError, match="samples, tokens"):
        ranges.maxima(pico, ids[:0])
    with pytest.raises(IndexError):
        ranges.maxima(pico, ids[:1] + 10 ** 6)
    assert not any(m._forward_pre_hooks for m in pico.modules())


def test_inputs_hold_the_maxima(pico, ids):
    name = "model.layers.3.mlp.down_proj"
    whole = ranges.inputs(pico, ids, [name])[name]
    assert whole.shape == (96, 768) and not whole.is_inference()
    assert whole.abs().reshape(6, -1).amax(1) == pytest.approx(ranges.maxima(pico, ids)[name], rel=1e-4)


def test_ranges_are_put_in(quantized):
    name = "model.layers.2.mlp.up_proj"
    quantizer = quantized.get_submodule(name).input_quantizer
    before, other = quantizer.amax.item(), quantized.get_submodule("model.layers.2.mlp.down_proj").input_quantizer.amax.item()
    assert ranges.put(quantized, {name: 3.0}, factor=2) is quantized and quantizer.amax.item() == 6.0
    assert quantized.get_submodule("model.layers.2.mlp.down_proj").input_quantizer.amax.item() == other
    ranges.put(quantized, {name: before})
    for wrong in ("model.layers.99.mlp.up_proj", "model.norm"):
        with pytest.raises(KeyError, match="no input quantizer"):
            ranges.put(quantized, {wrong: 1.0})


def test_an_engine_loses_blocks_that_the_simulation_saves(x):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(paths.PICO, dtype=torch.float32)
    model = quantize.quantize(model, [torch.arange(64)[None]])
    name = "model.layers.0.self_attn.q_proj"
    quantizer = model.get_submodule(name).input_quantizer
    amax = x.abs().max().item()
    ranges.put(model, {name: amax * 2 ** 20})
    assert quantizer(x).any()                              # the simulation divides by 1
    assert ranges.as_an_engine(model) is model
    assert not quantizer(x).any()
    ranges.put(model, {name: amax})
    assert torch.equal(quantizer(x), calibration.through(x, amax))
    quantizer.disable()
    ranges.put(model, {name: amax * 2 ** 20})
    assert torch.equal(quantizer(x), x)                    # switched off: nothing is lost


def test_rows_of_a_short_text_repeat_it():
    def tokenizer(text, verbose):
        return {"input_ids": [ord(c) for c in text]}

    rows = ranges.rows_of(tokenizer, "abc", samples=2, length=4)
    assert bytes(rows.flatten().tolist()) == b"abcabcab" and rows.shape == (2, 4)
    assert bytes(ranges.rows_of(tokenizer, "abcdefghij", 2, 4).flatten().tolist()) == b"abcdefgh"


# ---------------------------------------------------------------- how many samples

def test_spread_on_ranges_whose_answer_is_known():
    found = {"a.q_proj": torch.arange(1.0, 101), "a.o_proj": torch.full((100,), 5.0), "a.down_proj": torch.full((100,), 2.0),
             "a.k_proj": torch.tensor([1.0] * 99 + [1e6])}             # reads what q reads: doesn't count
    one, ten, all_ = ranges.spread(found, [1, 10, 100], draws=4000)
    assert one.worst == pytest.approx((0.05, 0.5, 0.95), abs=0.03)     # uniform
    assert ten.worst[1] == pytest.approx(0.5 ** (1 / 10), abs=0.01)    # median of the largest of ten
    assert one.middle == (1, 1, 1) and all_.worst == all_.middle == (1, 1, 1)
    assert ranges.spread(found, [1, 10]) == ranges.spread(found, [1, 10]) != ranges.spread(found, [1, 10], seed=1)
    for wrong in ([0], [101]):
        with pytest.raises(ValueError, match="1 to 100"):
            ranges.spread(found, wrong)


def test_the_picture_of_the_spread():
    shown = ranges.draw_spread(ranges.spread({"a.q_proj": torch.arange(1.0, 65)}, [1, 8, 64]))
    assert shown.png[:4] == b"\x89PNG" and ink(shown.png) > 0.02
    assert "1.00 with 64" in shown.alt and "one half" in shown.alt


def test_a_table_says_what_is_shown_and_what_is_not(pico, ids, quantized):
    usual = {n: v.max().item() for n, v in ranges.maxima(pico, ids).items()}
    text = torch.randint(4096, (12 * 16 + 1,), generator=torch.Generator().manual_seed(1)).tolist()
    found = quantize.compare_many(pico, {name: functools.partial(ranges.put, quantized, usual, f) for name, f in
                                         (("usual", 1), ("tiny", 1 / 64), ("twice", 2), ("four times", 4))}, text, window=16)
    lines = ranges.table(found, found["usual"]).splitlines()
    assert len(lines) == 5 and "KL beside usual" in lines[0]
    assert "no difference shown" in lines[1] and "no difference shown" not in lines[2] and f"{found['tiny'].kl.value:.4f}" in lines[2]
    assert lines[3].removeprefix("twice").strip() == lines[4].removeprefix("four times").strip()
    assert "beside" not in ranges.table(found) and len(ranges.table(found).splitlines()) == 5
    ranges.put(quantized, usual)


# ---------------------------------------------------------------- the explorer

@pytest.mark.parametrize(("r", "expected"), [(449, "clipped"), (448, "full"), (1, "full"), (2 ** -6, "full"), (0.014, "coarse"),
                                             (2 ** -9, "coarse"), (0.001, "coarse"), (2 ** -10, "lost"), (1e-6, "lost")])
def test_fates(r, expected):
    assert calibration.fate(r) == expected
    scale = torch.tensor(float(r)).clamp(max=448).to(torch.float8_e4m3fn).float()
    assert (scale == 0) == (expected == "lost") and (scale < 2 ** -6) == (expected in ("coarse", "lost"))


@pytest.mark.parametrize("log2_factor", range(calibration.LOW, calibration.HIGH + 1))
def test_shares_over_the_whole_range(x, log2_factor):
    r = calibration.compute(x, log2_factor)
    assert sum(r.shares.values()) == pytest.approx(1) and set(r.shares) == set(calibration.FATES)
    each = [calibration.fate(v) for v in r.wanted]
    assert r.shares == pytest.approx({f: each.count(f) / len(each) for f in calibration.FATES})
    assert r.amax == pytest.approx(x.abs().max().item() * 2.0 ** log2_factor) and 0 <= r.zeroed <= 1
    assert f"{r.shares['lost']:.1%} lost" in calibration.describe(r)


def test_the_picture_at_both_ends_and_between(x):
    swept = calibration.sweep(x[:2])
    pictures = {figure.png(calibration.draw(calibration.compute(x, e), swept)) for e in (calibration.LOW, 0, calibration.HIGH)}
    assert len(pictures) == 3 and all(ink(png) > 0.02 for png in pictures)


def test_the_right_range_is_the_codec(x):
    r = calibration.compute(x)
    assert r.snr == snr_db(x, NVFP4.quantize(x).dequantize()) and r.shares["clipped"] == 0
    assert snr_db(x, calibration.through(x, x.abs().max().item(), "FP8")) == pytest.approx(snr_db(x, FP8.quantize(x).dequantize()))


def test_too_large_is_cheap_and_too_small_is_not(x):
    swept = calibration.sweep(x, (-2, -1, 0, 1, 6, 10))
    smaller, half, right, twice, larger, thousand = swept["NVFP4"]
    assert twice == right == larger == pytest.approx(thousand, abs=0.1)
    assert half < right - 1 and smaller < right - 5
    int8 = swept["INT8"]
    assert int8[2] - int8[3] == pytest.approx(6, abs=0.3) and max(swept["FP8"]) - swept["FP8"][5] < 1
    assert calibration.compute(x, 20).snr == pytest.approx(0, abs=1e-6) and calibration.compute(x, 20).zeroed == 1


def test_what_is_beyond_the_range_comes_back_as_its_end(x):
    amax = x.abs().max().item() / 8
    for name in ("NVFP4", "FP8", "INT8"):
        back = calibration.through(x, amax, name)
        assert back.abs().max().item() == pytest.approx(amax, rel=1e-6), name
        assert (back[x.abs() > 1.3 * amax].abs() > 0.99 * amax).all()
    with pytest.raises(KeyError):
        calibration.through(x, amax, "FP5")


def test_only_lost_blocks_are_lost(x):
    x = x.clone()
    x[0, :16] *= 2.0 ** -30
    kept = calibration.lose(x, x.abs().max())
    assert not kept[0, :16].any() and torch.equal(kept[0, 16:], x[0, 16:]) and torch.equal(kept[1:], x[1:])
    assert x[0, :16].any(), "the input is left alone"
    assert calibration.lose(x.bfloat16(), x.abs().max()).dtype == torch.bfloat16


@pytest.mark.parametrize("bad", [torch.zeros(2, 16), torch.ones(16), torch.ones(2, 15), torch.ones(0, 16),
                                 torch.full((2, 16), torch.inf), torch.full((2, 16), torch.nan)])
def test_no_activation(bad):
    with pytest.raises(ValueError, match="an activation is a finite tensor"):
        calibration.compute(bad)
    with pytest.raises(ValueError, match="an activation is a finite tensor"):
        calibration.sweep(bad)


def test_a_block_of_zeros_has_no_fate(x):
    x = x.clone()
    x[0, :16] = 0
    assert len(calibration.compute(x).wanted) == x.numel() // 16 - 1 and calibration.compute(x).shares["lost"] == 0


def test_the_widget_follows(x):
    name, factor, image, words = calibration.explore({"first": x, "second": x * 2}).children
    assert "Input of first" in image.value and " 1 times the true one" in words.value
    for control, value, says in ((factor, -2, "0.25 times"), (factor, 20, "100.0% lost"), (name, "second", "Input of second")):
        before = image.value
        control.value = value
        assert image.value != before and says in words.value + image.value
    assert (factor.min, factor.max) == (calibration.LOW, calibration.HIGH)
