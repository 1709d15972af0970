"""What more users bring, relative to one; pico's 4-bit checkpoint; rates held against limit and band."""

import json
from types import SimpleNamespace

import pytest

from gb10.errors import WorkFailed
from gb10.explore import batching, four_bits, held_against


def row(concurrency, all_, each, ttft, rate=None, **more):
    return {"engine": "vLLM", "model": "a/pico", "endpoint": 0, "concurrency": concurrency, "rate": rate, "system_tps": all_, "user_tps": each,
            "ttft_ms": {"p50": ttft}} | more


def result(*rows, roofline=()):
    return SimpleNamespace(rows=list(rows), run=SimpleNamespace(meta={"roofline": list(roofline)}))


def test_gains_are_relative_to_one_user():
    found = batching.gains(result(row(4, 250.0, 70.0, 90.0), row(1, 100.0, 100.0, 30.0), row(8, 1.0, 1.0, 1.0, rate=2.0), row(2, None, None, None)))
    assert [(g.users, g.all, g.each, g.ttft) for g in found] == [(1, 1, 1, 1), (4, 2.5, 0.7, 3)]
    assert "4 at once:  2.50 times the tokens, each at 0.70" in batching.describe(found)
    picture = batching.show(found + batching.gains(result(row(1, 50.0, 50.0, 9.0), row(4, 51.0, 50.0, 99.0)), "plain"))
    assert picture.png.startswith(b"\x89PNG") and "vLLM at 4: 2.50 and 0.70" in picture.alt and "plain at 4: 1.02 and 1.00" in picture.alt


def test_without_one_user_there_is_nothing_to_compare_with():
    with pytest.raises(ValueError, match="no level with one user"):
        batching.gains(result(row(4, 250.0, 70.0, 90.0)))


def checkpoint(folder, algorithm="NVFP4", weights=True):
    folder.mkdir(parents=True)
    (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": algorithm}}))
    if weights:
        (folder / "model.safetensors").write_bytes(b"1234")


def test_a_checkpoint_that_is_there_is_taken(tmp_path, monkeypatch, capsys):
    checkpoint(tmp_path / "pico-nvfp4")
    monkeypatch.setattr(four_bits.subprocess, "run", lambda *_, **__: pytest.fail("made anew"))
    assert four_bits.checkpoint(tmp_path / "pico-nvfp4") == tmp_path / "pico-nvfp4" and "made before" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["nothing", "another format", "no weights", "not json"])
def test_what_is_not_whole_is_made_anew(tmp_path, monkeypatch, how):
    folder = tmp_path / "x"
    if how == "another format":
        checkpoint(folder, "W4A16_NVFP4")
    elif how == "no weights":
        checkpoint(folder, weights=False)
    elif how == "not json":
        checkpoint(folder)
        (folder / "hf_quant_config.json").write_text("{")
    assert not four_bits.whole(folder)

    def make(argv, **_):
        assert argv[3:6] == ["quantize", str(four_bits.paths.PICO), str(folder)] and "--force" in argv and "nvfp4" in argv
        for f in folder.glob("*"):
            f.unlink()
        if folder.exists():
            folder.rmdir()
        checkpoint(folder)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(four_bits.subprocess, "run", make)
    assert four_bits.whole(four_bits.checkpoint(folder))


def test_a_failure_is_told_in_its_own_words(tmp_path, monkeypatch):
    monkeypatch.setattr(four_bits.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stderr="loading …\n./course: the disk is full.\n"))
    with pytest.raises(WorkFailed, match="the disk is full"):
        four_bits.checkpoint(tmp_path / "x")


LINE = {"endpoint": 0, "share": 0.5, "limit_tps": 200.0, "predicted_tps": 120.0, "low": 90.0, "high": 150.0}


@pytest.mark.parametrize(("measured", "where"), [(50.0, "below the band"), (100.0, "inside the band"), (180.0, "above the band"),
                                                 (250.0, "above the limit")])
def test_where_a_rate_lies(measured, where):
    h, = held_against.held(result(row(1, 1.0, measured, 1.0), row(4, 1.0, 10.0, 1.0), roofline=[LINE]))
    assert h.where == where and h.share == measured / 200 and h.engine == "vLLM, pico"
    assert f"{measured:.4g} tok/s measured" in held_against.describe(h)
    picture = held_against.show(result(row(1, 1.0, measured, 1.0), roofline=[LINE]))
    assert picture.png.startswith(b"\x89PNG") and where in picture.alt


def test_several_results_and_those_without_a_line():
    known = result(row(1, 1.0, 100.0, 1.0), roofline=[LINE])
    unknown = result(row(1, 1.0, 100.0, 1.0), roofline=[{"endpoint": 0, "share": None, "text": "no roofline: nobody knows it."}])
    assert len(held_against.held(known, unknown, known)) == 2
    assert held_against.why_not(known, unknown) == ["no roofline: nobody knows it."]
    assert held_against.show(unknown) == "no roofline: nobody knows it."
    assert held_against.show(result()) == "no engine was measured with one user alone."


def test_a_real_runs_line_is_the_benchmarks_own(tmp_path):
    from gb10 import bench
    from gb10.bench.selftest import Truth

    with Truth(ttft=10, itl=30, tokens=8, model="nvidia/Qwen3-8B-NVFP4", owner="vllm") as truth:
        found = bench.measure(truth.url, requests=3, max_tokens=8, machine="gb10", results=str(tmp_path))
    h, = held_against.held(found)
    assert h.limit == found.run.meta["roofline"][0]["limit_tps"] and h.measured == found.rows[0]["user_tps"] and h.where in ("inside the band", "below the band")
