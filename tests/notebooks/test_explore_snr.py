"""What notebook 3 of lesson 2 shows: the table against reference values, both explorers over their whole range, the sources."""

import io
import itertools
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from gb10 import paths
from gb10.explore import figure, published, repairs, snr, tensors
from gb10.formats import NVFP4
from gb10.formats.error import snr_db

CSV = paths.LESSONS / "02-nvfp4-math" / "published_accuracy.csv"

# dB on 1024 x 4096 from this recipe, taken with code that shares nothing with this repository (ModelOpt, torchao and
# numpy; two digits): Gauss, Laplace, Student t 5, Student t 3, outlier columns, uniform
REFERENCE = {
    "FP8, one scale per tensor": (31.53, 31.54, 31.54, 31.52, 31.51, 31.87),
    "MXFP8": (30.65, 30.08, 30.00, 29.46, 28.27, 31.38),
    "NVFP4": (20.44, 20.65, 20.69, 20.86, 20.87, 19.86),
    "NVFP4, four-over-six": (21.22, 21.19, 21.24, 21.23, 21.08, 21.19),
    "NVFP4, scale search": (21.81, 21.67, 21.71, 21.57, 21.22, 22.10),
    "NVFP4, 16 x 16 tiles": (19.07, 17.76, 17.30, 14.81, 15.23, 19.15),
    "NVFP4 without tensor scale": (19.74, 20.35, 20.30, 20.68, 20.69, 19.94),
    "NVFP4 with FP32 block scales": (20.53, 20.80, 20.83, 21.07, 21.18, 19.95),
    "NVINT4": (21.28, 19.78, 19.83, 18.84, 18.72, 23.58),
    "INT4, blocks of 32": (20.26, 18.34, 18.24, 16.83, 16.00, 23.32),
    "INT4, blocks of 128": (18.61, 15.91, 15.28, 12.98, 10.17, 23.02),
    "MXFP4, floor": (18.86, 17.99, 17.96, 16.99, 15.39, 19.88),
    "MXFP4, ceil": (18.53, 17.57, 17.55, 16.46, 15.25, 19.39),
    "MXFP4, even": (19.02, 18.16, 18.15, 17.16, 15.78, 19.88),
}


def ink(png):
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    assert (image[..., 3] == 255).all(), "a figure must be opaque: it is shown on dark themes, too"
    return (image[..., :3] < 250).any(-1).mean()


# ---------------------------------------------------------------- the table

@pytest.fixture(scope="module")
def small():
    return snr.table(64, 1024)


def test_the_table_at_full_size_is_the_reference():
    """Two kinds of data at full size; the other four are checked on fewer rows below."""
    drawn = snr.data(1024, 4096)
    for name, column in (("Gauss", 0), ("outlier columns", 4)):
        for label, values in REFERENCE.items():
            if label not in ("FP8, one scale per tensor", "NVFP4", "MXFP4, floor", "INT4, blocks of 128"):
                continue                        # a quarter of a second each
            got = snr_db(drawn[name], snr.find(label).decode(drawn[name]))
            assert got == pytest.approx(values[column], abs=0.011), (label, name)


def test_fewer_rows_move_it_little(small):
    for label, values in REFERENCE.items():
        for name, expected in zip(small.data, values, strict=True):
            loose = 0.6 if "t, 3" in name or "FP8" in label or "tiles" in label else 0.3 if "outlier" in name else 0.15
            assert small.at(label, name) == pytest.approx(expected, abs=loose), (label, name)


def test_every_format_is_there_once_and_has_its_bits(small):
    labels = [f.label for f in snr.FORMATS]
    assert len(set(labels)) == len(labels) == len(small.snr) and set(labels) >= set(REFERENCE) >= {"NVFP4"}
    assert set(snr.SHOWN) <= set(labels) and set(repairs.ROTATED) <= set(labels) and set(tensors.COMPARED) <= set(labels)
    assert snr.find("INT4, blocks of 128").bits == 4.125 and snr.find("NVFP4").bits == 4.5
    assert snr.find("NVFP4 with FP32 block scales").bits == 6 and not snr.find("NVFP4 with FP32 block scales").real
    with pytest.raises(KeyError, match="NVFP5"):
        snr.find("NVFP5")


def test_the_table_is_drawn_and_told(small):
    assert ink(figure.png(snr.draw_table(small))) > 0.1
    told = snr.describe_table(small)
    assert "64 by 1024" in told and all(f.label in told for f in small.formats)
    assert f"{min(small.row('NVFP4')):.1f} to {max(small.row('NVFP4')):.1f}" in told


def test_powers_add():
    assert snr.powers_added(20, 20) == pytest.approx(16.9897) and snr.powers_added(20) == pytest.approx(20)
    assert snr.powers_added(20, 200) == pytest.approx(20)


# ---------------------------------------------------------------- the explorer of distributions

def test_the_explorer_over_its_whole_range():
    gauss = snr.compute("Gauss")
    for family, (_, stops) in snr.FAMILIES.items():
        for strength in stops:
            readings = snr.compute(family, strength)
            x = snr.sample(family, strength)
            assert [r.label for r in readings] == list(snr.SHOWN) and x.shape == snr.SIZE
            for r in readings:
                assert 5 < r.snr < 33 and r.error == pytest.approx(10 ** (-r.snr / 20))
            assert readings[2].snr == pytest.approx(snr_db(x, NVFP4.quantize(x).dequantize()), abs=1e-6)
            if strength < 50:
                assert 19.4 < readings[2].snr < 21.6, "NVFP4 is level"
            assert readings[2].zeroed == ((NVFP4.quantize(x).dequantize() == 0) & (x != 0)).double().mean().item()
            assert snr.describe(family, strength).startswith(family)
    low, high = snr.draw(readings, gauss).axes[0].get_xlim()
    for family, (_, stops) in snr.FAMILIES.items():
        assert all(low < r.snr < high for s in stops for r in snr.compute(family, s)), "a dot outside the picture"


def test_heavier_tails_cost_int4_and_not_nvfp4():
    number = snr.SHOWN.index("INT4, blocks of 128")
    for family in ("Student t", "outlier columns"):
        stops = [s for s in snr.FAMILIES[family][1] if 1 < s <= 30]
        if family == "outlier columns":
            assert snr.compute(family, 1)[number].snr > 18
            stops.reverse()
        ends = [snr.compute(family, s)[number].snr for s in (stops[0], stops[-1])]
        assert abs(ends[0] - ends[1]) > 5, family


def test_what_snr_hides():
    """A hundredfold outlier in 128: INT4 sets nearly everything else to zero, and its SNR goes up again."""
    number = snr.SHOWN.index("INT4, blocks of 128")
    far, near = snr.compute("outlier columns", 100)[number], snr.compute("outlier columns", 20)[number]
    assert far.snr > near.snr and far.zeroed > 0.85 > near.zeroed


@pytest.mark.parametrize(("family", "strength"), [("Cauchy", 1), ("Student t", 0), ("outlier columns", -1), ("Student t", math.nan)])
def test_a_sample_that_makes_no_sense(family, strength):
    with pytest.raises(ValueError, match=family):
        snr.sample(family, strength)


def test_the_widget_of_distributions():
    family, strength, image, words = snr.explore().children
    assert strength.disabled and "Gauss" in words.value and 'alt="SNR of 7 formats on Gauss: ' in image.value
    family.value = "outlier columns"
    assert not strength.disabled and strength.description == "times larger" and strength.value == 10
    seen = set()
    for _, stop in strength.options:
        strength.value = stop
        assert f"outlier columns, {stop:g} times larger" in words.value and f"{stop:g} times larger" in image.value
        expected = snr.compute("outlier columns", stop)[2]
        cells = re.sub(r"<[^>]*>", " ", words.value).split("NVFP4 ", 1)[1].split()
        assert cells[:5] == [f"{expected.snr:.1f}", "dB", f"{100 * expected.error:.1f}", "%", f"{100 * expected.zeroed:.0f}"]
        seen.add(image.value)
    assert len(seen) == len(strength.options)
    for name in snr.FAMILIES:                       # every way from one family to another
        family.value = name
        assert name in words.value and strength.disabled == (len(snr.FAMILIES[name][1]) == 1)
        assert strength.value in snr.FAMILIES[name][1]


# ---------------------------------------------------------------- the explorer of repairs

def test_the_repairs_over_their_whole_range():
    for outlier, number in itertools.product((0.5, 1, 3, 7.5, 12, 20), range(20)):
        repaired = {r.repair: r for r in repairs.compute(outlier, number)}
        assert tuple(repaired) == repairs.REPAIRS
        for r in repaired.values():
            assert r.block == repaired["as it is"].block and len(r.grid) == 15
            assert all(any(math.isclose(v, g, rel_tol=1e-5, abs_tol=1e-7) for g in r.grid) for v in r.landed)
            assert r.snr == pytest.approx(snr_db(torch.tensor(r.block), torch.tensor(r.back)), abs=1e-3)
            assert sum(v * v for v in r.rounded) == pytest.approx(sum(v * v for v in r.block), rel=1e-4), "a rotation keeps lengths"
        assert repaired["as it is"].back == repaired["as it is"].landed != repaired["rotated"].landed
        # a search over more scales, the usual one among them, can only be better
        assert repaired["scale search"].snr >= repaired["four-over-six"].snr - 1e-6


@pytest.mark.parametrize("outlier", [0, -1, 41, math.nan])
def test_an_outlier_out_of_range(outlier):
    with pytest.raises(ValueError, match="outlier"):
        repairs.compute(outlier, 0)


def test_rotation_is_undone():
    x = snr.sample("outlier columns", 20, (4, 128))
    for size in (16, 32):
        assert repairs.through_rotation(x, lambda v: v, size) == pytest.approx(x, abs=1e-5)


def test_rotation_lifts_integers_and_lowers_nvfp4():
    drawn = snr.data(64, 4096)
    gains = {(g.label, g.data): g.rotated - g.plain for g in repairs.gains({k: drawn[k] for k in ("Gauss", "outlier columns")})}
    assert gains["NVFP4", "outlier columns"] < -1 and gains["NVINT4", "outlier columns"] > 4
    assert gains["INT4, blocks of 32", "outlier columns"] > 5 and gains["MXFP4, floor", "outlier columns"] > 3
    assert all(abs(v) < 0.1 for (_, data), v in gains.items() if data == "Gauss")


def test_the_repairs_are_drawn_and_told():
    rows = repairs.gains({"Gauss": snr.sample("Gauss", size=(8, 256)), "uniform": snr.sample("uniform", size=(8, 256))})
    assert ink(figure.png(repairs.draw_gains(rows))) > 0.02 and "NVINT4 on uniform" in repairs.describe_gains(rows)
    for chosen in repairs.REPAIRS:
        repaired = repairs.compute(6.0, 3)
        assert ink(figure.png(repairs.draw(repaired, chosen))) > 0.02
        unit = float(re.search(r"grid unit ([\d.]+)", repairs.describe(repaired, chosen))[1])
        r = next(r for r in repaired if r.repair == chosen)
        assert r.grid[-1] == pytest.approx(6 * unit, rel=5e-3)


def test_the_widget_of_repairs():
    outlier, number, repair, image, words = repairs.explore().children
    assert "Block 0 with an outlier of 3" in words.value and "as it is: grid unit" in words.value
    for control, value, says in ((outlier, 12.0, "outlier of 12"), (number, 7, "Block 7"), (repair, "rotated", "rotated: grid unit")):
        before = image.value
        control.value = value
        assert image.value != before and says in words.value and says in image.value
    expected = repairs.compute(12.0, 7)
    assert all(f"{r.repair} {r.snr:.1f} dB" in words.value for r in expected)
    assert outlier.max <= repairs.NEIGHBOUR


# ---------------------------------------------------------------- a model's tensors

@pytest.mark.parametrize(("family", "strength", "expected"), [("Gauss", 0, 0), ("Laplace", 0, 3), ("uniform", 0, -1.2), ("Student t", 10, 1)])
def test_kurtosis(family, strength, expected):
    x = snr.sample(family, strength, (256, 4096))
    assert tensors.kurtosis(x) == pytest.approx(expected, abs=0.06) == pytest.approx(tensors.kurtosis(x * 1e-3 + 1), abs=0.06)


def test_kurtosis_of_a_constant():
    assert tensors.kurtosis(torch.ones(8)) == 0


@pytest.fixture(scope="module")
def pico():
    return tensors.linear_tensors(tokens=128)


def test_picos_tensors_are_its_weights_and_the_inputs_of_its_layers(pico):
    from safetensors.torch import load_file

    stored = load_file(paths.PICO / "model.safetensors")
    weights = {layer: x for (layer, kind), x in pico.items() if kind == tensors.WEIGHT}
    assert len(weights) == 42 == len(pico) - len(weights)
    assert torch.equal(weights["3.up_proj"], stored["model.layers.3.mlp.up_proj.weight"].float())
    assert torch.equal(weights["0.q_proj"], stored["model.layers.0.self_attn.q_proj.weight"].float())
    assert pico["0.down_proj", tensors.ACTIVATION].shape == (128, 768)
    # the first layer's input is computed by hand: embedding, then RMSNorm
    x = pico["0.q_proj", tensors.ACTIVATION]
    assert torch.equal(x, pico["0.v_proj", tensors.ACTIVATION])
    scaled = x / stored["model.layers.0.input_layernorm.weight"].float()
    assert scaled.square().mean(-1) == pytest.approx(torch.ones(128), abs=1e-2)


def test_each_activation_counts_once_and_nvfp4_is_level(pico):
    rows = tensors.compute(pico)
    kinds = [r.kind for r in rows]
    assert (kinds.count(tensors.WEIGHT), kinds.count(tensors.ACTIVATION)) == (42, 24)
    low, high = tensors.span(rows, "NVFP4", tensors.WEIGHT)
    assert 20.2 < low <= high < 20.8
    heavy = [r for r in rows if r.kurtosis > 30]
    assert heavy and all(r.layer.endswith("down_proj") and r.snr["NVFP4"] > r.snr["INT4, blocks of 128"] + 4 for r in heavy)
    assert ink(figure.png(tensors.draw(rows))) > 0.01 and "42 weights" in tensors.describe(rows)
    low, high = tensors.draw(rows).axes[0].get_xlim()
    assert all(low < r.kurtosis < high for r in rows)


# ---------------------------------------------------------------- published figures

def test_every_published_figure_has_a_source():
    rows = published.read(CSV)
    assert len(rows) > 50 and {r.standing for r in rows} == {"primary", "secondary"}
    assert len({(r.model, r.format, r.method, r.metric, r.source) for r in rows}) == len(rows), "a figure twice"
    for r in rows:
        paper = re.search(r"arXiv (\d{4}\.\d{5})", r.source)
        assert not paper or r.url == f"https://arxiv.org/abs/{paper[1]}"
        number = re.search(r"#(\d+)$", r.source)
        assert not number or r.url.endswith(f"/{number[1]}")
        assert paper or number or "NVIDIA blog" in r.source
        assert 0 < r.value <= 101 and r.billions > 0


HEADER = ",".join(published.COLUMNS)
GOOD = "M,8,NVFP4,RTN,MMLU,70,73,score,arXiv 2509.23202,https://arxiv.org/abs/2509.23202,primary"


@pytest.mark.parametrize(("old", "new", "says"), [
    ("arXiv 2509.23202,", ",", "'source' is empty"), ("https://arxiv.org/abs/2509.23202", "", "'url' is empty"),
    ("https://arxiv.org", "arxiv.org", "no https address"), (",primary", ",hearsay", "standing"), (",70,", ",seventy,", "seventy"),
    (",73,", ",,", "without a baseline"), (",primary", "", "another number of fields"), (",primary", ",primary,x", "another number of fields"),
    ("M,8", " ,8", "'model' is empty")])
def test_a_figure_without_a_source_is_refused(tmp_path, old, new, says):
    path = tmp_path / "p.csv"
    path.write_text(f"{HEADER}\n{GOOD}\n", encoding="utf-8")
    assert published.read(path)[0].kept == pytest.approx(100 * 70 / 73)
    path.write_text(f"{HEADER}\n{GOOD}\n{GOOD.replace(old, new, 1)}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=says) as e:
        published.read(path)
    assert "line 3" in str(e.value)


def test_another_header_is_refused(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("model,value\nM,3\n", encoding="utf-8")
    with pytest.raises(ValueError, match="columns"):
        published.read(path)


def test_the_picture_of_model_sizes():
    rows = published.read(CSV)
    nvfp4, mxfp4 = (published.recovery(rows, name, "RTN") for name in ("NVFP4", "MXFP4"))
    assert [r.billions for r in nvfp4] == sorted(r.billions for r in nvfp4) and len(nvfp4) == len(mxfp4) == 7
    fig = published.draw(rows)
    low, high = fig.axes[0].get_ylim()
    assert all(low < r.value < high for r in nvfp4 + mxfp4)
    assert ink(figure.png(fig)) > 0.01 and "83.9 % at 1B" in published.describe(rows)
    with pytest.raises(ValueError, match="no score"):
        next(r for r in rows if r.unit == "perplexity").kept  # noqa: B018
