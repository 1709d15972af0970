"""Every number of the catalogue carries its source, and a number without one is refused."""

import copy

import pytest

from gb10 import catalog
from gb10.catalog import find, formats, hardware, measured, source
from gb10.catalog.source import Source, Unsourced, read_json
from gb10.roofline import prefill

ROW = {"title": "x", "unified": False, "memory_nominal": {"value": 1, "unit": "GB", "source": "nvfp4-blog"},
       "bandwidth": {"value": 1, "unit": "GB/s", "source": "nvfp4-blog"}}


def test_every_source_has_an_address_a_title_and_a_day():
    assert len(catalog.sources()) > 40
    for s in catalog.sources().values():
        assert source.check(s) is s
    used = {f.source.key for m in catalog.machines().values() for f in m.figures}
    used |= {m.source.key for m in catalog.measurements()} | {r.source.key for r in prefill.rates()}
    used |= {f.source.key for f in (*catalog.weight_formats().values(), *catalog.kv_formats().values())}
    for row in read_json("models.json").values():
        used |= {row["source"], row.get("reported_source", row["source"])} | {k["source"] for k in row.get("keeps", {}).values()}
    assert used <= catalog.sources().keys()


@pytest.mark.parametrize("bad", [
    {"url": ""}, {"url": "somewhere"}, {"url": "http://"}, {"url": "gb10/no/such/file.py"}, {"what": ""}, {"what": "a page"},
    {"accessed": ""}, {"accessed": "yesterday"}, {"accessed": "2026-11"}])
def test_a_source_that_says_too_little_is_refused(bad):
    good = {"key": "k", "url": "https://example.org/page", "what": "a page about it", "accessed": "2026-11-21"}
    source.check(Source(**good))
    with pytest.raises(Unsourced):
        source.check(Source(**good | bad))


@pytest.mark.parametrize("field", ["memory_nominal", "bandwidth"])
@pytest.mark.parametrize("change", [{"source": None}, {"source": "hearsay"}, {"value": None}, {"value": -1}, {"unit": "bananas"}])
def test_a_machine_with_a_figure_from_nowhere_is_refused(field, change):
    hardware.build("m", ROW)
    row = copy.deepcopy(ROW)
    row[field] |= change
    with pytest.raises(Unsourced):
        hardware.build("m", row)


def test_a_doubtful_figure_needs_a_source_too():
    wrong = {"value": 192, "unit": "GB", "what": "memory", "doubtful": "no"}
    with pytest.raises(Unsourced):
        hardware.build("m", ROW | {"others": [wrong]})


def test_a_measurement_without_source_or_with_an_unexplained_doubt_is_refused():
    doubts = read_json("doubts.json")
    fields = (source.DATA / "measurements.csv").read_text().split("\n", 1)[0].split(",")
    row = dict.fromkeys(fields, "") | {"id": "b1", "decode_tps": "10", "batch": "1", "source": "ollama-spark"}
    assert measured.build(row, doubts).decode_tps == 10
    for bad in ({"source": ""}, {"source": "a friend"}, {"doubtful": "smells"}, {"decode_tps": ""}):
        with pytest.raises(Unsourced):
            measured.build(row | bad, doubts)


def test_a_model_or_format_without_source_is_refused():
    row = copy.deepcopy(read_json("models.json")["Qwen3-8B"])
    find.build("m", row)
    for bad in ({"source": ""}, {"reported_source": "the press"}, {"keeps": {"q4_0": {"head": 8}}}):
        with pytest.raises(Unsourced):
            find.build("m", row | bad)
    fmt = read_json("formats.json")["nvfp4"]
    formats.build("f", fmt)
    with pytest.raises(Unsourced):
        formats.build("f", fmt | {"source": None})
    with pytest.raises(Unsourced):
        formats.build("f", fmt | {"bits": {"head": 16}})


# ---------------------------------------------------------------- known-wrong figures

def wrong(machine, unit):
    return [f for f in catalog.machine(machine).circulating if f.unit == unit]


def test_b300_has_288_gb_and_36_petaflops_of_eight_are_fp8():
    b300 = catalog.machine("b300")
    assert b300.figure("memory_nominal").value == 288
    assert {f.value for f in wrong("b300", "GB")} == {192} and len(wrong("b300", "GB")) == 2
    eight = next(f for f in wrong("b300", "PFLOPS") if f.value == 36)
    assert "FP8" in eight.doubtful and eight.base == 8 * b300.flops("fp8")
    assert b300.flops("nvfp4") == 13e15


def test_the_petaflop_of_the_spark_counts_sparsity():
    spark = catalog.machine("gb10")
    figure = next(f for f in wrong("gb10", "TFLOPS") if f.value == 1000)
    assert "sparsity" in figure.doubtful and spark.flops("nvfp4") == figure.base / 2
    assert {f.value for f in wrong("gb10", "GB/s")} == {300, 435}


def test_nothing_is_computed_with_a_doubtful_figure():
    for m in catalog.machines().values():
        used = {m.memory, m.bandwidth, m.bandwidth_measured, *(m.flops(f) for f in ("nvfp4", "fp8", "bf16"))}
        assert not used & {f.base for f in m.figures if f.doubtful} - {f.base for f in m.figures if not f.doubtful}


@pytest.mark.parametrize(("name", "gb", "gbs"), [
    ("gb10", 128, 273), ("rtx-5090", 32, 1792), ("rtx-pro-6000", 96, 1792), ("h100", 80, 3350), ("h200", 141, 4800),
    ("b200", 180, 8000), ("b300", 288, 8000), ("gb200", 186, 8000), ("jetson-thor", 128, 273), ("strix-halo", 128, 256),
    ("mac-studio", 512, 819), ("m4-max", 128, 546)])
def test_machines(name, gb, gbs):
    m = catalog.machine(name)
    assert (m.figure("memory_nominal").value, m.bandwidth) == (gb, gbs * 1e9)
    assert 0.84 * gb * 1e9 < m.memory <= (192 if name == "b200" else gb) * 2**30      # a GB of memory chips is a GiB


def test_this_machine_as_measured(tmp_path, monkeypatch):
    from gb10 import paths

    monkeypatch.setattr(paths, "STATE", tmp_path)
    with pytest.raises(ValueError, match="not been measured"):
        catalog.machine("this")
    (tmp_path / hardware.MEASURED).write_text('{"read_gbs": 41.5, "measured": "2026-11-21T10:00:00"}')
    m = catalog.machine("this")
    assert m.bandwidth == 41.5e9 and m.memory > 1e9 and m.figures[0].source.accessed == "2026-11-21"
    assert catalog.this_machine(bandwidth_gbs=20, memory_bytes=8e9).memory == 8e9
    (tmp_path / hardware.MEASURED).write_text("{broken")
    with pytest.raises(ValueError, match="not been measured"):
        catalog.machine("this")
    with pytest.raises(ValueError, match="makes no sense"):
        catalog.this_machine(bandwidth_gbs=0)


# ---------------------------------------------------------------- measurements

def test_measurements_are_all_there_and_the_doubtful_ones_say_why():
    rows = {m.id: m for m in catalog.measurements()}
    assert len(rows) == 287
    doubtful = [m for m in rows.values() if m.doubtful]
    assert len(doubtful) == 20 and all(len(m.reason) > 20 and m.spoils for m in doubtful)
    assert not rows["b0206"].usable("prefill_tps") and rows["b0206"].usable("decode_tps")
    assert not rows["b0225"].usable("decode_tps") and not rows["b0239"].usable("decode_tps")
    assert rows["b0207"].machine_name is None                       # two boxes
    assert rows["b0203"].weights == "gguf-mxfp4" and rows["b0226"].weights == "mxfp4"
    assert {m.engine_name for m in rows.values()} >= {"llama.cpp", "ollama", "sglang", "trtllm", "edge-llm"}


def test_no_usable_measurement_is_above_the_dense_peak():
    for m in catalog.measurements():
        if m.machine_name == "gb10" and m.usable("prefill_tps"):
            assert 2 * (m.params_active or 0) * m.prefill_tps < catalog.machine("gb10").flops("nvfp4"), m.id


@pytest.mark.parametrize(("name", "mib"), [("h100", 81559), ("h200", 143771), ("b200", 183359), ("rtx-pro-6000", 97887),
                                           ("rtx-5090", 32607), ("mac-studio", 512 * 1024), ("m4-max", 128 * 1024)])
def test_visible_memory_is_what_the_driver_shows(name, mib):
    m = catalog.machine(name)
    assert m.memory == pytest.approx(mib * 2**20) and m.figure("memory_visible").source.url
