"""What lesson 1's explorers compute, over the whole range of their controls, and what they draw."""

import itertools
import math
import re

import pytest
from test_explore import ink

from gb10 import catalog, roofline
from gb10.bandwidth import Cache, Point
from gb10.explore import bandwidth, doubt, figure, fit_bars, memory_now, page_cache, predicted, roofline_plot
from gb10.roofline import calibrate, validate

GIB = 2**30

# ---------------------------------------------------------------- memory now

MEMINFO = """MemTotal:       127506842 kB
MemFree:         31457280 kB
MemAvailable:   104857600 kB
Buffers:           151000 kB
Cached:          77594624 kB
SReclaimable:      900000 kB
Shmem:             640000 kB
SwapTotal:        2097148 kB
"""


def test_the_parts_of_memory_add_up():
    m = memory_now.parse(MEMINFO)
    assert m.total == 127506842 * 1024 and m.available == 104857600 * 1024 and m.swap == 2097148 * 1024
    assert m.cache == (77594624 + 151000 + 900000 - 640000) * 1024
    assert sum(size for _, size in m.parts) == m.total


@pytest.mark.parametrize("text", [
    "MemTotal: 100 kB\nMemFree: 60 kB\n", "MemTotal: 100 kB\nMemFree: 100 kB\nCached: 90 kB\n",
    "MemTotal: 100 kB\nMemFree: 0 kB\nCached: 20 kB\nShmem: 50 kB\n"])
def test_odd_memory_stays_within_the_total(text):
    m = memory_now.parse(text)
    assert sum(size for _, size in m.parts) == m.total and min(m.programs, m.cache, m.free) >= 0


@pytest.mark.parametrize("text", ["", "MemFree: 5 kB\n", "<html>"])
def test_no_meminfo(text):
    with pytest.raises(ValueError, match="no /proc/meminfo"):
        memory_now.parse(text)


def test_this_machine_without_proc_and_with(tmp_path):
    (tmp_path / "meminfo").write_text(MEMINFO)
    assert memory_now.now(tmp_path) == memory_now.parse(MEMINFO)
    there = memory_now.now(tmp_path / "nothing")
    assert 0 < there.free <= there.total and there.available > 0


def test_the_bars_have_ink_and_words():
    picture = memory_now.show(("a", memory_now.parse(MEMINFO)), ("b", memory_now.parse(MEMINFO)))
    assert ink(picture.png) > 0.05 and "available to a new program 100.00 GiB" in picture.alt


# ---------------------------------------------------------------- page cache

def test_a_file_is_written_read_and_dropped(tmp_path):
    path = tmp_path / "in" / "file"
    assert page_cache.write(path, 3 * 2**20 + 5) > 0 and path.stat().st_size == 3 * 2**20 + 5
    assert page_cache.read(path) > 0
    assert page_cache.drop(path) in (True, False)
    assert path.stat().st_size == 3 * 2**20 + 5


# ---------------------------------------------------------------- fit bars

FITTING = list(itertools.product(("Qwen3-0.6B", "gpt-oss-120b", "Qwen3-30B-A3B", "Nemotron-3-Super-120B-A12B"),
                                 (1024, 131072), (1, 64), ("bf16", "fp8")))


@pytest.mark.parametrize(("model", "context", "users", "kv"), FITTING)
def test_bars_are_the_predictors(model, context, users, kv):
    machines = fit_bars.default_machines(8 * GIB)
    for weights in catalog.formats_of(catalog.model(model)):
        need = fit_bars.compute(model, weights, kv, context, users, machines)
        p = roofline.fit(model, weights=weights, kv=kv, machine="gb10", context=context, batch=users)
        assert need.total == pytest.approx(p.weight_bytes + p.kv_bytes + p.overhead_bytes)
        spark = next(a for hw, a in need.verdicts if hw.name == "gb10")
        assert spark.verdict == p.fits and spark.left == pytest.approx(p.left_bytes)
        left = [a.left for _, a in need.verdicts]
        assert left == sorted(left), "machines come smallest first, so what is left grows"
        assert f"DGX Spark (GB10) {fit_bars.WORDS[p.fits]}" in fit_bars.describe(need)


def test_this_machine_and_the_card_are_in_it():
    titles = [m.title for m in fit_bars.default_machines(8 * GIB)]
    assert titles[:2] == ["this machine", "a 24 GB card"]
    assert "this machine" not in [m.title for m in fit_bars.default_machines()]


@pytest.mark.parametrize("setting", [("Qwen3-0.6B", "bf16", 1024, 1), ("Llama-3.3-70B-Instruct", "bf16", 131072, 64)])
def test_the_bars_have_ink(setting):
    model, weights, context, users = setting
    need = fit_bars.compute(model, weights, "bf16", context, users, fit_bars.default_machines())
    assert ink(figure.png(fit_bars.draw(need, "title"))) > 0.03


def test_the_fit_widget_follows_its_controls():
    box = fit_bars.explore(8 * GIB)
    (model, fmt, kv), (context, users) = box.children[0].children, box.children[1].children
    image, words = box.children[2:]
    seen = {words.value}
    for control, value in ((fmt, "bf16"), (kv, "fp8"), (context, 131072), (users, 64), (model, "Llama-3.3-70B-Instruct")):
        control.value = value
        assert words.value not in seen and "<img alt=" in image.value
        seen.add(words.value)
    model.value = "gpt-oss-20b"                      # comes in its own formats only
    assert set(fmt.options) == set(catalog.formats_of(catalog.model("gpt-oss-20b"))) and fmt.value in fmt.options
    assert "gpt-oss-20b" in words.value
    for name in model.options[::6]:
        model.value = name
        assert name in words.value and "GiB" in words.value, name


# ---------------------------------------------------------------- bandwidth

CACHES = (Cache(1, 48 * 2**10, 2), Cache(2, 2**20, 2), Cache(3, 32 * 2**20, 1))


def made_up_points():
    return [Point(k, 2**i, t, (400e9 if i < 21 else 100e9 if i < 26 else 40e9) / (3 - t)) for k in ("read", "copy") for t in (1, 2)
            for i in range(14, 29)]


def test_lines_are_sorted_and_apart():
    lines = bandwidth.compute(made_up_points()[::-1], "read")
    assert list(lines) == [1, 2] and all(line == sorted(line) and len(line) == 15 for line in lines.values())
    with pytest.raises(ValueError, match="not measured"):
        bandwidth.compute(made_up_points(), "triad")


@pytest.mark.parametrize(("cache", "threads", "reach"), [(0, 1, 48 * 2**10), (0, 2, 96 * 2**10), (0, 9, 96 * 2**10), (2, 2, 32 * 2**20)])
def test_private_caches_add_up(cache, threads, reach):
    assert bandwidth.reach(CACHES[cache], threads) == reach


def test_the_bandwidth_widget_follows_its_controls():
    box = bandwidth.explore(made_up_points(), CACHES)
    (kernel, threads), image, words = box.children[0].children, *box.children[1:]
    assert (kernel.value, threads.value) == ("read", 2) and "2 threads: 400 GB/s at 16 KiB, 40 GB/s at 256 MiB" in words.value
    before = image.value
    threads.value = 1
    assert image.value != before and "L1 of 48 KiB" in words.value
    kernel.value = "copy"
    assert words.value.startswith("copy: ")
    assert ink(figure.png(bandwidth.draw(made_up_points(), "read", CACHES, 1))) > 0.01
    gpu = [Point("read", 2**i, 0, 230e9, "GB10") for i in range(20, 25)]
    assert "GPU, threads" in bandwidth.describe(gpu, "read") or "GPU" in bandwidth.describe(gpu, "read")


# ---------------------------------------------------------------- roofline

@pytest.mark.parametrize("computes", roofline_plot.COMPUTES)
def test_roofs_are_the_catalogues(computes):
    for roof in roofline_plot.roofs(computes):
        assert roof.ridge == pytest.approx(roofline.ridge(roof.machine, computes))
        assert roof.at(roof.ridge / 2) == pytest.approx(roof.flops / 2) and roof.at(roof.ridge * 3) == roof.flops
    assert [r.machine for r in roofline_plot.roofs("fp8")] == list(roofline_plot.MACHINES)


@pytest.mark.parametrize("weights", ["bf16", "fp8", "nvfp4"])
@pytest.mark.parametrize("model", ["Qwen3-8B", "Llama-3.3-70B-Instruct", "Qwen3-30B-A3B"])
def test_where_a_step_lands(weights, model):
    roof = roofline_plot.roofs(weights)[0]
    before = 0.0
    for n in [2**i for i in range(14)]:
        step = roofline_plot.compute(model, weights, n, roof)
        assert step.intensity >= before and step.rate <= roof.flops and step.rate <= roof.bandwidth * step.intensity * (1 + 1e-12)
        assert step.bound == ("memory" if step.intensity < roof.ridge else "arithmetic")
        before = step.intensity
    one = roofline_plot.compute(model, weights, 1, roof)
    limit = roofline.fit(model, weights=weights, machine="gb10", context=0).decode_tps_limit
    assert one.tokens_per_second == pytest.approx(limit)
    with pytest.raises(ValueError, match="at least one token"):
        roofline_plot.compute(model, weights, 0, roof)


def test_tokens_at_the_ridge_are_where_the_bound_changes():
    roof = roofline_plot.roofs("bf16")[0]
    n = roofline_plot.ridge_tokens(roof, 16)
    m = "Llama-3.3-70B-Instruct"
    assert roofline_plot.compute(m, "bf16", math.floor(n), roof).bound == "memory"
    assert roofline_plot.compute(m, "bf16", math.ceil(n) + 1, roof).bound == "arithmetic"


def test_the_roofline_widget_follows_its_controls():
    box = roofline_plot.explore()
    (model, weights), (machine, tokens), image, words = box.children[0].children, box.children[1].children, *box.children[2:]
    assert "bound by memory" in words.value and "Qwen3-8B in nvfp4 on DGX Spark" in words.value
    tokens.value = 8192
    assert "bound by arithmetic" in words.value
    weights.value = "bf16"
    assert "in bf16" in words.value and "b300" not in [name for _, name in machine.options]
    machine.value = "h200"
    assert "H200" in words.value
    weights.value = "nvfp4"                          # H200 has no FP4: back to the Spark
    assert machine.value == "gb10" and "in nvfp4 on DGX Spark" in words.value
    for name in model.options[::6]:
        model.value = name
        assert name in words.value and "<img alt=" in image.value


def test_the_roofline_has_ink():
    roofs = roofline_plot.roofs("nvfp4")
    assert ink(figure.png(roofline_plot.draw(roofs, roofline_plot.compute("Qwen3-8B", "nvfp4", 16, roofs[0])))) > 0.01
    assert ink(figure.png(roofline_plot.draw(roofs))) > 0.01


# ---------------------------------------------------------------- predicted and measured

@pytest.fixture(scope="module")
def comparison():
    return predicted.compute()


def test_every_measurement_is_shown_or_accounted_for(comparison):
    assert len(comparison.rows) + sum(comparison.left_out.values()) == len(catalog.measurements())
    assert len({r.id for r in comparison.rows}) == len(comparison.rows)
    assert {r.id for r in comparison.rows if r.doubt} == {"b0225", "b0238", "b0239"}


def test_rows_are_the_predictors(comparison):
    for r in comparison.rows[::7]:
        p = roofline.fit(r.model, weights=r.weights, context=r.context, batch=r.batch, engine=r.engine)
        assert (r.predicted, r.low, r.high, r.limit) == (p.decode_tps, p.decode_tps_low, p.decode_tps_high, p.decode_tps_limit)
        assert r.predicted <= r.limit


def test_errors_are_what_they_say():
    rows = [predicted.Row(str(i), "m", "f", "vllm", 1, 0, 100.0, 100.0 + i, 90, 109, 200, 150.0) for i in range(1, 11)]
    assert predicted.errors(rows) == {"n": 10, "median": pytest.approx(0.055), "p90": pytest.approx(0.091)}
    assert predicted.errors(rows, lambda r: r.naive)["p90"] == pytest.approx(0.5)
    assert all(r.inside for r in rows)


def test_the_promised_accuracy_on_what_is_shipped(comparison):
    alone = [r for r in comparison.sound if r.batch == 1]
    mine, naive = predicted.errors(alone), predicted.errors(alone, lambda r: r.naive)
    assert mine["median"] <= 0.07 and mine["p90"] <= 0.16 and naive["p90"] > 0.16
    assert sum(r.inside for r in comparison.sound) >= 0.85 * len(comparison.sound)


def test_the_naive_rule_is_the_predictors(comparison):
    alone = [r for r in comparison.sound if r.batch == 1]
    rows = {r.id: r for r in calibrate.rows()}
    for chosen in (alone, predicted.shortest(alone)):
        want = [abs(e) for e in validate.naive([rows[r.id] for r in chosen])]
        got = predicted.errors(chosen, predicted.at_its_best(chosen))
        assert got["median"] == pytest.approx(validate.quantile(want, 0.5))
        assert got["p90"] == pytest.approx(validate.quantile(want, 0.9))


def test_one_row_for_each_number(comparison):
    alone = [r for r in comparison.sound if r.batch == 1]
    short = predicted.shortest(alone)
    assert {r.config for r in short} == {r.config for r in alone} and len(short) == len({r.config for r in short})
    assert all(r.context <= other.context for r in short for other in alone if other.config == r.config)
    assert len(predicted.unseen_summary().splitlines()) == 2


def test_every_configuration_has_a_number_in_figure_and_table(comparison):
    numbers = comparison.numbers
    assert sorted(numbers.values()) == list(range(1, len(numbers) + 1))
    html = predicted.table(comparison)
    assert len(re.findall("<tr><td>", html)) == len(numbers) and html.count("*</td>") == 2      # two SGLang rows; b0225 has company
    figures = predicted.draw(comparison), predicted.draw_batched(comparison)
    drawn = {t.get_text() for f in figures for ax in f.axes for t in ax.texts}
    assert {str(n) for n in numbers.values()} <= drawn
    assert "median error" in predicted.show(comparison).alt and "2 to 32 users" in predicted.show_batched(comparison).alt


# ---------------------------------------------------------------- doubt

def test_known_doubts_are_found():
    claims = {(c.id, c.what): c for c in doubt.claims()}
    assert claims["b0206", "prefill"].verdict == doubt.IMPOSSIBLE         # 1000 TFLOPS on a chip of 500
    assert claims["b1656", "decode"].verdict == doubt.IMPOSSIBLE          # needs a quantised head
    assert claims["b0238", "decode"].verdict == doubt.DOUBTFUL
    assert claims["b0206", "decode"].verdict == claims["b0205", "decode"].verdict == doubt.POSSIBLE
    assert claims["b0246", "prefill"].verdict == doubt.POSSIBLE and claims["b0246", "prefill"].marked    # not by physics alone


def test_no_sound_row_of_a_spark_is_impossible():
    for c in doubt.claims():
        if "GB10" in c.text and not c.marked:
            assert c.verdict == doubt.POSSIBLE, c


def test_claims_come_boldest_first():
    shares = [c.share for c in doubt.claims()]
    assert shares == sorted(shares, reverse=True) and len(shares) > 200
