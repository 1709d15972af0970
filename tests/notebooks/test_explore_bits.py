"""Sixteen codes, their bins, and the two explorers that show them, held against the codec over their whole range."""

import math
import re

import numpy as np
import pytest
import torch
from test_explore import ink

from gb10.explore import bits, figure, rounding
from gb10.explore.minifloat import E2M1, INTEGERS, POWERS, anatomy, bin_of, land, magnitudes
from gb10.formats import elements


def codec(xs):
    """(codes, values) of E2M1 as gb10.formats computes them."""
    codes = elements.encode_e2m1(torch.tensor(xs, dtype=torch.float32))
    return codes.tolist(), elements.decode_e2m1(codes).tolist()


# ---------------------------------------------------------------- magnitudes

def test_e2m1_is_the_codecs():
    assert E2M1 == elements.E2M1


@pytest.mark.parametrize(("exponent", "mantissa", "name"), [
    (2, 1, "float4_e2m1fn"), (2, 3, "float6_e2m3fn"), (3, 2, "float6_e3m2fn"), (4, 3, "float8_e4m3fn"), (5, 2, "float8_e5m2")])
def test_magnitudes_are_those_of_ml_dtypes(exponent, mantissa, name):
    import ml_dtypes

    ours = magnitudes(exponent, mantissa)
    theirs = np.arange(len(ours), dtype=np.uint8).view(getattr(ml_dtypes, name)).astype(np.float64)
    taken = ~np.isfinite(theirs)             # codes that the wider formats reserve for NaN and infinity
    assert taken.sum() == {"float8_e4m3fn": 1, "float8_e5m2": 4}.get(name, 0)
    assert np.array_equal(np.array(ours)[~taken], theirs[~taken])


def test_other_small_formats():
    assert POWERS == (0, .25, .5, 1, 2, 4, 8, 16)
    assert magnitudes(1, 2) == tuple(i / 2 for i in range(8)) == tuple(i / 2 for i in INTEGERS)


# ---------------------------------------------------------------- bins

def test_the_bins_of_the_sixteen_codes_are_those_of_the_codec():
    xs = [i / 64 for i in range(-8 * 64, 8 * 64 + 1)] + [1e-30, -1e-30, 1e30, -1e30]
    for x, code in zip(xs, codec(xs)[0], strict=True):
        assert [c for c in range(16) if x in bin_of(c)] == [code], x


def test_the_ends_of_each_bin_by_the_neighbouring_float():
    for code in range(16):
        b = bin_of(code)
        for end, inside, outwards in ((b.low, b.low_in, -math.inf), (b.high, b.high_in, math.inf)):
            if math.isinf(end):
                assert not inside
                continue
            at, beyond = np.float32(end), np.nextafter(np.float32(end), np.float32(outwards))
            within = np.nextafter(at, np.float32(-outwards))
            codes, _ = codec([float(at), float(beyond), float(within)])
            assert (codes[0] == code) is inside and codes[1] != code and codes[2] == code


def test_bins_in_words():
    assert [str(bin_of(c)) for c in (0, 1, 2, 7, 8, 9, 14, 15)] == [
        "[0, 0.25]", "(0.25, 0.75)", "[0.75, 1.25]", "(5, ∞)", "[−0.25, 0)", "(−0.75, −0.25)", "[−5, −3.5]", "(−∞, −5)"]


# ---------------------------------------------------------------- landing

SLIDER = [i * rounding.STEP for i in range(int(-rounding.LIMIT / rounding.STEP), int(rounding.LIMIT / rounding.STEP) + 1)]


def test_every_position_of_the_slider_lands_as_in_the_codec():
    ties = set()
    for x, code, value in zip(SLIDER, *codec(SLIDER), strict=True):
        landings = rounding.compute(x)
        at = landings["E2M1"]
        assert (at.code, at.value) == (code, value) and at.error == value - x
        assert at.saturated == (abs(x) > 6)
        assert landings["integers"].value == round(x)                   # Python's round is half to even, too
        nearest = min(abs(abs(x) - v) for v in POWERS)
        assert abs(landings["powers of 2"].error) == nearest
        ties |= {abs(x)} if at.tie else set()
        assert all(text in rounding.describe(landings) for text in ("E2M1: ", "integers: ", "powers of 2: "))
    assert ties == set(elements.E2M1_BOUNDS), "the slider must be able to reach every tie"


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf])
def test_what_has_no_place_is_refused(x):
    with pytest.raises(ValueError, match="finite"):
        rounding.compute(x)


def test_saturation_and_ties_are_said():
    assert "saturates" in rounding.sentence("E2M1", land(7.0))
    assert rounding.sentence("E2M1", land(-2.5)) == "E2M1: −2.5 → −2 (code 12, bits 1100), error 0.5; a tie, the even code wins"
    assert rounding.sentence("E2M1", land(-0.125)) == "E2M1: −0.125 → −0 (code 8, bits 1000), error 0.125"
    assert rounding.sentence("E2M1", land(-0.0)) == "E2M1: −0 → 0 (code 0, bits 0000), error 0"


# ---------------------------------------------------------------- anatomy

def test_every_code_taken_apart():
    for code in range(16):
        a = anatomy(code)
        assert a.value == elements.decode_e2m1(torch.tensor([code], dtype=torch.uint8)).item()
        assert math.copysign(1, a.value) == (-1 if code > 7 else 1)
        assert int(a.bits, 2) == code == a.sign * 8 + a.exponent * 2 + a.mantissa
        assert a.value in a.bin or code == 8
        line = sorted({-v for v in E2M1} | set(E2M1))
        assert a.below == max((v for v in line if v < a.value), default=None)
        assert a.above == min((v for v in line if v > a.value), default=None)
        # the formula, as it is written, gives the value
        left, right = bits.formula(a).replace("−", "-").replace("×", "*").replace("^", "**").split(" = ")
        assert eval(left) == a.value == float(right)
        assert str(a.bin) in bits.describe(a) and bits.formula(a) in bits.table(a)


@pytest.mark.parametrize("code", [-1, 16])
def test_a_code_has_four_bits(code):
    with pytest.raises(ValueError, match="four bits"):
        anatomy(code)
    with pytest.raises(ValueError, match="four bits"):
        bits.toggler(code)


# ---------------------------------------------------------------- views

@pytest.mark.parametrize("code", [0, 5, 8, 15])
def test_the_line_has_ink(code):
    assert ink(figure.png(bits.draw(anatomy(code)))) > 0.01


@pytest.mark.parametrize("x", [-7.0, -5.0, 0.0, 2.25])
def test_the_three_lines_have_ink(x):
    assert ink(figure.png(rounding.draw(rounding.compute(x)))) > 0.05


def value_in(html):
    return re.search(r"<b>(.*?)</b>", html).group(1)


def test_the_toggler_follows_every_switch():
    box = bits.toggler(5)
    row, words, image = box.children
    switches, (back, on) = [column.children[1] for column in row.children[:4]], row.children[4:]
    assert [s.description for s in switches] == list("0101") and value_in(words.value) == "3"
    switches[0].value = True
    assert value_in(words.value) == "−3" and "code 13, bits 1101" in image.value
    switches[3].value = False
    assert value_in(words.value) == "−2" and switches[3].description == "0"
    seen = []
    for _ in range(16):
        on.click()
        seen.append(value_in(words.value))
    assert seen == [bits.number(anatomy(c % 16).value) for c in range(13, 29)]
    back.click()
    assert value_in(words.value) == "−1.5" and all(s.tooltip.split()[1] == "bit," for s in switches)


def test_the_slider_moves_words_and_picture():
    slider, words, image = rounding.explore().children
    assert "2.25 → 2 " in words.value
    slider.value = -4.875
    assert "E2M1: −4.875 → −4 (code 14" in words.value and "integers: −4.875 → −5" in words.value
    assert "[−5, −3.5] to code 14" in words.value and "E2M1: −4.875 → −4" in image.value
    slider.value = 0.30000000000000004                # not an eighth: the nearest one is shown
    assert "E2M1: 0.25 → 0 (code 0" in words.value
