"""Pictures of a benchmark run: the data behind them, and that they show it."""

import pytest

from gb10 import bench
from gb10.bench.selftest import Truth
from gb10.errors import UserError
from gb10.explore import measured


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with Truth(ttft=10, itl=2, tokens=16, owner="vllm") as truth:
        yield bench.measure(truth.url, concurrency=(1, 3), requests=6, max_tokens=16, results=str(folder))


def test_measure_gives_rows_distributions_and_text(result):
    assert [r["concurrency"] for r in result.rows] == [1, 3] and all(r["ok"] == 6 for r in result.rows)
    assert result.groups[0].ttft.n == 6 and "tok/s user" in str(result) and not result.comparison
    assert bench.saved(result.run.folder).rows == result.rows
    assert bench.saved(None, result.run.folder.parent).run.id == result.run.id


def test_scaling_is_the_rows_in_order(result):
    points = measured.scaling(result)
    assert [(p.engine, p.concurrency) for p in points] == [("vLLM", 1), ("vLLM", 3)]
    assert [p.user_tps for p in points] == [r["user_tps"] for r in result.rows]
    picture = measured.show_scaling(result)
    assert picture.png.startswith(b"\x89PNG") and len(picture.png) > 5000
    assert f"vLLM at 3: {points[1].user_tps:.0f} tokens per second" in picture.alt


@pytest.mark.parametrize("kind", measured.KINDS)
def test_distributions_run_from_nothing_to_everything(result, kind):
    curves = measured.spreads(result, kind)
    assert [c.concurrency for c in curves] == [1, 3]
    for c, r in zip(curves, result.rows, strict=True):
        values, shares = zip(*c.points, strict=True)
        assert list(values) == sorted(values) and shares[0] == 0 and shares[-1] == 1
        assert values[50] == pytest.approx(r[f"{kind}_ms"]["p50"], abs=0.001) and c.n == r[f"{kind}_ms"]["n"]
    assert "3 in flight: median" in measured.show_spreads(result, kind).alt


def test_another_kind_is_refused_and_so_is_a_run_without_figures(tmp_path):
    with Truth(shape="dropped") as truth:
        failed = bench.measure(truth.url, requests=2, results=str(tmp_path))
    with pytest.raises(ValueError, match="no level with figures"):
        measured.show_scaling(failed)
    with pytest.raises(ValueError, match="no level with figures"):
        measured.show_spreads(failed)
    with pytest.raises(ValueError, match="one of ttft"):
        measured.spreads(failed, "beauty")


def test_reports_are_written_from_a_notebook(result, tmp_path):
    assert result.write(html=str(tmp_path / "r.html")) == [str(tmp_path / "r.html")]
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(TypeError, match="no setting 'speed'"):
        bench.measure("http://127.0.0.1:9/v1", speed=3)
    with pytest.raises(UserError, match="--requests 0"):
        bench.measure("http://127.0.0.1:9/v1", requests=0)
