"""The command as a user calls it: what it says, what it leaves behind, how it exits."""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gb10 import endpoints as places
from gb10.bench import live, options, selftest
from gb10.bench.main import main
from gb10.bench.selftest import Truth
from gb10.errors import UserError
from gb10.paths import ROOT

FRONT = ROOT / "appendix" / "llm_benchmark.py"


@pytest.fixture(scope="module")
def truth():
    with Truth(ttft=12, itl=2, tokens=64) as server:
        yield server


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Where this test's runs go."""
    monkeypatch.setenv("GB10_BENCH", str(tmp_path / "runs"))
    monkeypatch.delenv("GB10_API_KEY", raising=False)
    return tmp_path / "runs"


def call(*argv, env=None, timeout=60):
    """A bare interpreter without site-packages: (exit code, stdout, stderr)."""
    done = subprocess.run([sys.executable, "-S", str(FRONT), *map(str, argv)], capture_output=True, text=True, timeout=timeout,
                          check=False, stdin=subprocess.DEVNULL, env=os.environ | (env or {}))
    return done.returncode, done.stdout, done.stderr


def run(capsys, *argv):
    code = main([str(a) for a in argv], prog="bench")
    said = capsys.readouterr()
    return code, said.out, said.err


SMALL = ("--requests", 4, "--max-tokens", 8)

# ---------------------------------------------------------------- measuring


def test_the_contract_of_json(truth, results, tmp_path):
    file = tmp_path / "out.json"
    code, out, _ = call("--url", truth.url, "--model", "truth", "--concurrency", "1,3", "--requests", 6, "--max-tokens", 16, "--json", file)
    data = json.loads(file.read_text())
    assert code == 0 and [r["concurrency"] for r in data["runs"]] == [1, 3]
    for r in data["runs"]:
        assert r["requests"] == r["ok"] == 6 and r["errors"] == {} and r["output_tokens"] == 96
        assert {"p50", "p90", "p99"} <= r["ttft_ms"].keys() & r["tpot_ms"].keys() & r["gap_ms"].keys() & r["e2e_ms"].keys()
        assert 12 <= r["ttft_ms"]["p50"] < 60 and 1.5 < r["tpot_ms"]["p50"] < 20 and r["client_lag_ms"]["p99"] >= 0
        assert r["user_tps"] == pytest.approx(1000 / r["tpot_ms"]["p50"], rel=1e-3) and r["system_tps"] > 0
    meta = data["meta"]
    assert meta["command"][:2] == ["--url", truth.url]
    assert meta["format"] == "gb10-bench" and meta["endpoints"][0]["version"] == "0.0-truth" and "ignore_eos" in meta["endpoints"][0]["fields"]
    assert [p.name for p in results.iterdir()] == [meta["id"]]
    lines = [json.loads(line) for line in (results / meta["id"] / "journal.jsonl").read_text().splitlines()]
    assert sorted(r["i"] for r in lines if r["k"] == "req" and r["cell"] == 1) == list(range(6))
    assert "tok/s user" in out and meta["id"] in out


def test_json_to_standard_output_is_json_alone(truth, results):
    code, out, err = call("--url", truth.url, *SMALL, "--json", "-")
    assert code == 0 and json.loads(out)["runs"][0]["ok"] == 4 and "TTFT" in err


def test_all_forms_of_the_report(truth, results, tmp_path, capsys):
    files = {form: tmp_path / f"r.{form}" for form in ("html", "md", "csv", "json")}
    code, out, _ = run(capsys, "--url", truth.url, *SMALL, "--quiet", "--label", "row 3", *(x for f, p in files.items() for x in (f"--{f}", p)))
    assert code == 0 and all(f"Written: {p}" in out for p in files.values())
    assert files["html"].read_text().startswith("<!doctype html>") and files["csv"].read_text().count("\n") == 2
    assert "row 3" in files["html"].read_text() and "truth" in files["md"].read_text()
    again = {form: tmp_path / f"again.{form}" for form in files}
    assert run(capsys, "--report", *(x for f, p in again.items() for x in (f"--{f}", p)))[0] == 0
    assert all(again[f].read_text() == files[f].read_text() for f in files)       # a function of the run's files alone


def test_prompts_have_the_length_asked_for(truth, results, capsys, tmp_path):
    code, *_ = run(capsys, "--url", truth.url, *SMALL, "--prompt-tokens", 305, "--quiet", "--json", tmp_path / "o.json")
    row = json.loads((tmp_path / "o.json").read_text())["runs"][0]
    assert code == 0 and row["input_tokens"]["min"] == row["input_tokens"]["max"] == 305


def test_refused_fields_are_left_out_and_noted(results, capsys, tmp_path):
    with Truth(ttft=5, itl=1, tokens=8, forbid=["min_tokens", "continuous_usage_stats"]) as strict:
        code, _, err = run(capsys, "--url", strict.url, *SMALL, "--json", tmp_path / "o.json")
    e = json.loads((tmp_path / "o.json").read_text())["meta"]["endpoints"][0]
    assert code == 0 and set(e["rejected"]) == {"min_tokens", "continuous_usage_stats"} and "it refuses" in err
    assert "min_tokens" not in e["fields"] and "stream_options.include_usage" in e["fields"]


def test_answers_that_end_early_are_not_compared_unless_asked(results, capsys, tmp_path):
    with Truth(ttft=5, itl=1, tokens=64, short=20, forbid=["ignore_eos"]) as eager:
        code, out, _ = run(capsys, "--url", eager.url, "--requests", 4, "--max-tokens", 32, "--quiet", "--json", tmp_path / "a.json")
        row = json.loads((tmp_path / "a.json").read_text())["runs"][0]
        assert code == 1 and row["errors"] == {"short": 4} and row["ttft_ms"] is None and "--any-length" in out
        code, out, _ = run(capsys, "--url", eager.url, "--requests", 4, "--max-tokens", 32, "--any-length", "--quiet", "--json", tmp_path / "b.json")
        row = json.loads((tmp_path / "b.json").read_text())["runs"][0]
        assert code == 0 and row["ok"] == 4 and row["output_tokens"] == 80 and row["finish"] == {"stop": 4}


@pytest.mark.parametrize(("shape", "kind"), [("error_inside", "in_band"), ("dropped", "truncated")])
def test_failing_requests_fail_the_command_and_the_result_is_written(results, capsys, tmp_path, shape, kind):
    with Truth(ttft=5, itl=1, shape=shape) as bad:
        code, out, err = run(capsys, "--url", bad.url, "--requests", 5, "--concurrency", 2, "--json", tmp_path / "o.json")
    row = json.loads((tmp_path / "o.json").read_text())["runs"][0]
    assert code == 1 and row["errors"] == {kind: 5} and row["ttft_ms"] is row["tpot_ms"] is None
    assert f"5 of 5 failed ({kind})" in out and "the warm-up request failed" in err


def test_some_503s(results, capsys, tmp_path):
    with Truth(ttft=5, itl=1, tokens=8, shape="busy") as busy:
        code, _, _ = run(capsys, "--url", busy.url, "--requests", 10, "--max-tokens", 8, "--quiet", "--json", tmp_path / "o.json")
    row = json.loads((tmp_path / "o.json").read_text())["runs"][0]
    assert code == 1 and (row["ok"], row["errors"]) == (8, {"http_503": 2}) and row["ttft_ms"]["n"] == 8


def test_a_comparison_has_verdicts(results, capsys, tmp_path):
    with Truth(ttft=5, itl=1, tokens=8, owner="vllm") as fast, Truth(ttft=5, itl=4, tokens=8, owner="sglang") as slow:
        code, out, _ = run(capsys, "--url", fast.url, "--url", slow.url, "--requests", 18, "--max-tokens", 8, "--quiet",
                           "--json", tmp_path / "o.json", "--html", tmp_path / "o.html")
    data = json.loads((tmp_path / "o.json").read_text())
    speed = data["comparison"][0]
    assert code == 0 and [r["engine"] for r in data["runs"]] == ["vLLM", "SGLang"] and [r["requests"] for r in data["runs"]] == [18, 18]
    assert speed["low"] > 1.5 and speed["verdict"].startswith("vLLM ") and "6 pairs of blocks" in out
    order = [c["endpoint"] for c in data["meta"]["cells"]]
    assert order == [0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0]


# ---------------------------------------------------------------- judging


def test_expectations(truth, results, capsys):
    assert run(capsys, "--url", truth.url, *SMALL, "--quiet", "--expect", "tpot_p50<1s", "--expect", "errors=0")[0] == 0
    code, out, _ = run(capsys, "--url", truth.url, *SMALL, "--quiet", "--expect", "ttft_p50<1ms", "--expect", "system_tps>1")
    assert code == 1 and "NOT KEPT: ttft_p50<1ms" in out and "kept: system_tps>1" in out
    code, out, _ = run(capsys, "--report", "--expect", "ttft_p50@7<1s")
    assert code == 1 and "nothing was measured at 7 at once" in out


@pytest.mark.parametrize(("text", "kept"), [
    ("ttft_p50<51ms", True), ("ttft_p50<0.05s", False), ("TTFT_P50 <= 50 ms", True), ("ttft_p99@4<1s", True), ("ttft_p50>49999us", True),
    ("errors=2", True), ("errors==0", False), ("goodput>0", False), ("ttfa_p50<1s", False), ("itl_p99<=7", True), ("ok>=9", False)])
def test_a_condition_on_a_row(text, kept):
    """A figure that isn't there keeps no promise; answers that ended early are no errors."""
    from gb10.bench.expect import Expectation

    row = {"concurrency": 4, "rate": None, "engine": "x", "ttft_ms": {"p50": 50.0, "p99": 60.0}, "gap_ms": {"p99": 7.0}, "ttfa_ms": None,
           "goodput_per_s": None, "errors": {"http_503": 2, "short": 5}, "ok": 8}
    [(got, said)] = Expectation(text).check([row])
    assert got is kept and said.startswith("kept: " if kept else "NOT KEPT: ")


def test_goodput(truth, results, capsys, tmp_path):
    run(capsys, "--url", truth.url, *SMALL, "--quiet", "--slo", "ttft=1", "--json", tmp_path / "o.json")
    row = json.loads((tmp_path / "o.json").read_text())["runs"][0]
    assert row["goodput_per_s"] == 0 < row["requests_per_s"]


# ---------------------------------------------------------------- saved runs


def test_runs_are_listed_shown_and_held_against_each_other(truth, results, capsys):
    for tokens in (8, 9):
        run(capsys, "--url", truth.url, "--requests", 4, "--max-tokens", tokens, "--quiet")
    code, out, _ = run(capsys, "--report", "--list")
    ids = re.findall(r"\d{8}-\d{6}-\S+", out)
    assert code == 0 and len(ids) == 2
    assert ids[1] in run(capsys, "--report", "2")[1] and ids[0] in run(capsys, "--report")[1]
    code, out, _ = run(capsys, "--report", "1", "2")
    assert code == 0 and "a drift between them" in out and "max_tokens 9 and 8" in out
    code, out, _ = run(capsys, "--leaderboard", *(results / i for i in ids))
    assert code == 0 and "truth" in out and "seat " in out and "127.0.0.1" not in out


def test_a_finished_run_has_nothing_to_resume(truth, results, capsys):
    run(capsys, "--url", truth.url, *SMALL, "--quiet")
    code, _, err = run(capsys, "--resume")
    assert code == 2 and "is complete" in err


def test_no_run_yet(results, capsys):
    code, _, err = run(capsys, "--report")
    assert code == 2 and "there is no run" in err and not results.exists()


# ---------------------------------------------------------------- while it goes on


def progress(**more):
    return {"done": 3, "errors": 1, "in_flight": 4, "pieces": 900, "tokens": 90, "t": 2.0, "recent": [(50_000, 5000.0), (70_000, 6000.0)]} | more


def test_the_lines_of_the_live_table():
    cell = {"requests": 40, "seconds": None}
    sample = {"mem_total": 16 << 30, "mem_available": 4 << 30, "swap_used": 0, "gpus": [{"w": 40.2, "sm_mhz": None, "temp_c": 61, "throttle": ["thermal"]}]}
    told = dict(live.lines(progress(), sample, [100.0, 200.0], cell))
    assert told["requests"] == "3 of 40 done, 4 in flight, 1 failed" and told["time"] == "2 s"
    assert told["TTFT"].startswith("70.0 ms median, 70.0 ms longest") and told["memory"] == "12.0 of 16.0 GiB in use, swap 0.0 GiB"
    assert told["GPU"] == "40 W, 61 °C, thermal" and told["reads/s"] == "▅█  200"
    # nothing has ended yet, no /proc/meminfo (macOS), no sample
    for sample in ({"mem_total": None, "mem_available": None, "swap_used": None, "gpus": []}, None):
        assert [name for name, _ in live.lines(progress(recent=[]), sample, [], {"seconds": 9.0})] == ["requests", "time", "reads/s"]


def test_a_live_table_in_a_terminal_and_lines_elsewhere(truth, results, capsys):
    pytest.importorskip("rich")
    with Truth(ttft=20, itl=5, tokens=64) as slow:
        code, shown = terminal([sys.executable, str(FRONT), "--url", slow.url, "--seconds", "0.8", "--max-tokens", "64", "--concurrency", "2"])
    assert code == 0 and "2 in flight" in shown and "reads/s" in shown and "tok/s user" in shown and "Traceback" not in shown
    code, out, err = run(capsys, "--url", truth.url, *SMALL)
    assert code == 0 and "serves truth" in err and "4 requests in" in err and "in flight" not in err and "serves truth" not in out
    assert run(capsys, "--url", truth.url, *SMALL, "--quiet")[2] == ""


# ---------------------------------------------------------------- from a notebook, and of itself


def test_from_a_notebook(truth, results):
    from gb10 import bench

    result = bench.measure(truth.url, concurrency=(1, 2), requests=4, max_tokens=8, extra={"top_k": 3})
    assert [r["concurrency"] for r in result.rows] == [1, 2] and all(r["ok"] == 4 for r in result.rows) and "tok/s user" in str(result)
    assert bench.saved("last").rows == result.rows and [r.id for r in bench.runs()] == [result.run.id] and "top_k" in str(result.run.meta)
    with pytest.raises(TypeError, match="no setting 'tokens'"):
        bench.measure(truth.url, tokens=8)
    with pytest.raises(UserError, match="makes no sense"):
        bench.measure(truth.url, requests=0)
    assert len(list(results.iterdir())) == 1


def test_a_notebook_may_measure_in_a_thread(truth, results):
    """Where there are no signals to catch."""
    from concurrent.futures import ThreadPoolExecutor

    from gb10 import bench

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(bench.measure, truth.url, requests=3, max_tokens=8).result(60).rows[0]["ok"] == 3


def test_the_client_measures_itself():
    said = []
    rows = selftest.run(say=said.append, levels=((1, 20.0, 4.0, 3), (4, 20.0, 4.0, 8)))
    assert [r["streams"] for r in rows] == [1, 4] and len(said) == 4
    for r in rows:
        assert r["errors"] == 0 and r["true_ttft_p50"] >= 20 and r["ttft_p50"] > r["true_ttft_p50"] - 0.1 and r["early"] == 0
        assert r["tpot_p50"] == pytest.approx(r["true_tpot_p50"], rel=0.1) and r["stamps"] == "kernel"


def test_which_limits_the_self_test_holds_itself_to():
    row = {"streams": 16, "errors": 0} | {f"{true}{name}": v for true in ("", "true_") for name, v in
                                          (("ttft_p50", 50.0), ("gap_p99", 5.1), ("tpot_p50", 5.0))}
    assert selftest.faults(row) == []
    assert "TTFT" in selftest.faults(row | {"ttft_p50": 50.2})[0] and "gap p99" in selftest.faults(row | {"gap_p99": 5.4})[0]
    assert "TPOT" in selftest.faults(row | {"tpot_p50": 5.01})[0] and selftest.faults(row | {"errors": 2}) == ["2 requests failed"]
    assert selftest.faults(row | {"streams": 256, "ttft_p50": 50.2}) == []
    assert selftest.faults({"errors": 3, "ttft_p50": None}) == ["3 requests failed"]


# ---------------------------------------------------------------- asking for help


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as e:
        main(["--help"], prog="bench")
    out = capsys.readouterr().out
    assert e.value.code == 0 and "Examples" in out and "bench --engine vllm,ollama" in out and "GB10_API_KEY" in out


def test_explain(capsys):
    code, out, _ = run(capsys, "--explain", "tpot")
    assert code == 0 and "N - tokens in the first event" in " ".join(out.split()) and "goodput" not in out
    assert "roofline" in run(capsys, "--explain")[1]
    code, _, err = run(capsys, "--explain", "beauty")
    assert code == 2 and "there is no figure 'beauty'" in err


def test_presets_say_their_minutes():
    text = options.parser("bench").format_help()
    assert all(minutes in " ".join(text.split()) for minutes in ("about 30 seconds", "about 3 minutes", "about 10 minutes"))
    for levels, seconds, said in options.PRESETS.values():
        told = float(re.search(r"\d+", said)[0]) * (60 if "minute" in said else 1)
        assert len(levels) * seconds == pytest.approx(told, rel=0.1)


# ---------------------------------------------------------------- wrong requests

WRONG = [
    ([], "whom shall I measure"),
    (["--engine", "vlm"], "there are ollama"),
    (["--url", "ftp://x"], "no URL of a server"), (["--url", "http://"], "no URL of a server"), (["--url", "http://x:99999"], "no usable port"),
    (["--url", "http://me:secret@x/v1"], "GB10_API_KEY"), (["--url", "http://[::1/v1"], "in brackets"),
    (["--concurrency", "0"], "at least 1"), (["--concurrency", "two"], "can't be read"), (["--concurrency", "4,4"], "twice"),
    (["--concurrency", "9999"], "at most 4096"),
    (["--requests", "0"], "makes no sense"), (["--requests", "x"], "invalid int"), (["--seconds", "nan"], "makes no sense"),
    (["--requests", "3", "--seconds", "3"], "exclude each other"),
    (["--max-tokens", "-1"], "makes no sense"), (["--prompt-tokens", "0"], "makes no sense"), (["--turns", "0"], "makes no sense"),
    (["--prompt", "hi", "--prompt-tokens", "9"], "exclude each other"), (["--prompt", "@/no/such/file"], "No such file"),
    (["--rate", "-2"], "at least 0.001"), (["--rate", "1", "--turns", "2"], "--turns goes with"), (["--turns", "2", "--api", "completions"], "chat API"),
    (["--preset", "quick", "--requests", "3"], "preset says how much"), (["--preset", "long"], "invalid choice"),
    (["--temperature", "-1"], "makes no sense"), (["--stall", "0"], "makes no sense"), (["--timeout", "0"], "makes no sense"),
    (["--warmup", "-1"], "makes no sense"), (["--seed", "-1"], "makes no sense"),
    (["--extra", "[1]"], "no JSON object"), (["--extra", '{"stream": false}'], "can't set stream"),
    (["--slo", "speed=3"], "can't be read"), (["--slo", "ttft=0"], "can't be read"),
    (["--expect", "tpot<3"], "there is no figure"), (["--expect", "fast"], "can't be read"), (["--expect", "errors=0ms"], "no unit of errors"),
    (["--seconds", "inf"], "makes no sense"), (["--temperature", "inf"], "makes no sense"), (["--stall", "inf"], "makes no sense"),
    (["--timeout", "nan"], "makes no sense"), (["--slo", "ttft=inf"], "can't be read"), (["--slo", ""], "can't be read"),
    (["--rate", "inf"], "at most 4096"), (["--rate", "nan"], "at least"), (["--rate", "1e-300"], "at least"), (["--rate", ""], "can't be read"),
    (["--concurrency", ""], "can't be read"), (["--concurrency", "1,,4"], "can't be read"), (["--concurrency", "1.5"], "can't be read"),
    (["--rate", "1", "--concurrency", "2,4"], "one --concurrency is enough"),
    (["--extra", '{"stream_options": 5}'], "can't set stream_options"), (["--extra", '{"max_tokens": 5}'], "can't set max_tokens"),
    (["--extra", '{"a": "\\ud800"}'], "not UTF-8"), (["--label", "\udcff"], "not UTF-8"), (["--prompt", "\udcff"], "not UTF-8"),
    (["--model", "\udcff"], "not UTF-8"), (["--json", ""], "names no file"), (["--csv", "x" * 5000], "too long"),
    (["--machine", "abacus"], "no machine 'abacus'"), (["--weights", "fp3"], "no weight format 'fp3'"),
    (["--roofline-model", "nobody/knows"], "no model of the catalogue"), (["--report", "x" * 5000], "there is no run"),
    (["--report", "--expect", "fast"], "can't be read"), (["--report", "--html", "/no/such/folder/x"], "its folder"),
    (["--url", "http://127.0.0.1:9", "--url", "http://127.0.0.1:10", "--model", "a", "--model", "b", "--model", "c"], "3 models for 2 servers"),
    (["--json", "/no/such/folder/x.json"], "its folder"), (["--html", "."], "that is a folder"),
    (["--frobnicate"], "unrecognized"), (["--resume", "nothing"], "there is no run"), (["--report", "a", "b", "c"], "one run, or two"),
    (["--leaderboard", "/no/such/run"], "/no/such/run"), (["--leaderboard", "x" * 5000], "too long"),
]


@pytest.mark.parametrize(("argv", "said"), WRONG, ids=lambda v: " ".join(v)[:40] if isinstance(v, list) else "")
def test_a_wrong_request_costs_one_sentence_and_changes_nothing(results, capsys, argv, said):
    needs_server = argv and not {"--engine", "--url", "--resume", "--report", "--leaderboard"} & set(argv)
    code, out, err = run(capsys, *(["--url", "http://127.0.0.1:9"] if needs_server else []), *argv)
    assert code == 2 and said in err and out == "" and err.count("\n") == 1 and not results.exists(), err


def test_a_server_that_is_not_there(results, capsys):
    code, _, err = run(capsys, "--url", "http://127.0.0.1:9/v1")
    assert code == 1 and "nothing listens at 127.0.0.1 port 9" in err and not results.exists()


def test_a_model_that_is_not_served(truth, results, capsys):
    code, _, err = run(capsys, "--url", truth.url, "--model", "gpt-5")
    assert code == 2 and "does not serve gpt-5; it serves truth" in err and not results.exists()


def test_a_wrong_key_is_told_and_a_right_one_is_written_nowhere(results, monkeypatch, tmp_path):
    secret = "sk-verysecret123"
    with Truth(ttft=5, itl=1, tokens=8, key=secret) as locked:
        code, out, err = call("--url", locked.url, *SMALL)
        assert code != 0 and "GB10_API_KEY" in err
        code, out, err = call("--url", locked.url, *SMALL, "--json", tmp_path / "o.json", "--html", tmp_path / "o.html", env={"GB10_API_KEY": secret})
    assert code == 0
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) >= 5 and not [p for p in files if secret.encode() in p.read_bytes()] and secret not in out + err


@pytest.mark.parametrize(("key", "code"), [("sk-secret", 0), ("sk-secret\n", 0), (" sk-secret ", 0), ("ключ", 2), ("a\x01b", 2), ("sk-sec", 1)])
def test_keys_as_people_have_them(results, key, code):
    """With a newline at the end, as `cat` of a file gives it; with what no header can carry."""
    with Truth(ttft=5, itl=1, tokens=8, key="sk-secret") as locked:
        got, out, err = call("--url", locked.url, "--model", "truth", *SMALL, "--quiet", env={"GB10_API_KEY": key})
    assert got == code and "Traceback" not in err and err.count("\n") == (code != 0), err
    assert key.strip() not in out + err


def test_the_same_server_twice_is_no_comparison(truth, results, capsys):
    code, _, err = run(capsys, "--url", truth.url, "--url", truth.url + "/chat/completions", *SMALL)
    assert code == 2 and "nothing to compare" in err and not results.exists()


def test_who_reads_no_further_is_no_fault(truth, results):
    """`… | head -1`: no traceback, and the run is there."""
    done = subprocess.run(f"{sys.executable} -S {FRONT} --url {truth.url} --requests 4 --max-tokens 8 --quiet | head -1", shell=True,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and "Traceback" not in done.stderr and len(list(results.iterdir())) == 1


def test_a_name_with_two_addresses_is_found_on_the_one_that_answers(truth, results, monkeypatch):
    """localhost is ::1 before 127.0.0.1 on many machines."""
    from gb10.bench import target

    port = truth.target.port
    places = [(10, 1, 6, "", ("::1", port, 0, 0)), (2, 1, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(target.socket, "getaddrinfo", lambda *a, **k: places)
    assert main(["--url", f"http://localhost:{port}", "--requests", "4", "--max-tokens", "8", "--quiet"], "bench") == 0


def test_conversations_and_the_clock_from_the_command(truth, results, capsys, tmp_path):
    for argv, requests in ((["--turns", "3", "--requests", "2"], 6), (["--rate", "40", "--requests", "6"], 6),
                           (["--rate", "30,60", "--seconds", "0.3", "--arrivals", "constant"], None)):
        code, *_ = run(capsys, "--url", truth.url, "--max-tokens", 8, "--quiet", "--json", tmp_path / "o.json", *argv)
        rows = json.loads((tmp_path / "o.json").read_text())["runs"]
        assert code == 0 and all(r["errors"] == {} and r["ok"] for r in rows)
        assert requests is None or rows[0]["requests"] == requests
        if "--rate" in argv:
            assert all(r["response_ms"]["p50"] >= r["e2e_ms"]["min"] and r["rate"] for r in rows)
    assert [r["rate"] for r in rows] == [30.0, 60.0] and rows[1]["requests"] > rows[0]["requests"]


def test_seconds_are_kept(truth, results, tmp_path):
    """With requests built ahead it would be easy to send those after the time is up."""
    code, *_ = call("--url", truth.url, "--seconds", 0.5, "--max-tokens", 8, "--quiet", "--json", tmp_path / "o.json")
    row = json.loads((tmp_path / "o.json").read_text())["runs"][0]
    assert code == 0 and 0.4 < row["seconds"] < 2.0 and row["requests"] <= 22           # at 26 ms each


def test_results_that_can_not_be_written(truth, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, "--url", truth.url, *SMALL, "--quiet", "--results", tmp_path / "file" / "runs")
    assert code == 1 and "can't be written" in err and err.count("\n") == 1


# ---------------------------------------------------------------- where it runs


def test_a_copy_of_two_folders_is_enough(truth, results, tmp_path):
    for folder in ("appendix", "gb10"):
        shutil.copytree(ROOT / folder, tmp_path / "copy" / folder, ignore=shutil.ignore_patterns("__pycache__", "pico"))
    done = subprocess.run([sys.executable, "-S", "-I", str(tmp_path / "copy" / "appendix" / "llm_benchmark.py"), "--url", truth.url,
                           "--requests", "2", "--max-tokens", "4"], capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_file_alone_says_what_is_missing(tmp_path):
    shutil.copy(FRONT, tmp_path)
    done = subprocess.run([sys.executable, str(tmp_path / FRONT.name)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and "copy the whole course" in done.stderr


def test_no_package_is_imported():
    """What runs on a bare Spark must not need the course's environment."""
    code = (f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pkgutil, importlib, gb10.bench as b\n"
            "for m in pkgutil.walk_packages(b.__path__, 'gb10.bench.'): importlib.import_module(m.name)\n"
            "print(sorted({n.partition('.')[0] for n in sys.modules} & {'numpy', 'torch', 'rich', 'aiohttp', 'pynvml', 'psutil'}))")
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_as_a_sub_command_of_the_course(results, capsys):
    from gb10 import cli

    assert cli.main(["bench", "--explain", "TTFT"]) == 0 and "TTFT: Time to first token" in capsys.readouterr().out
    assert cli.main(["bench", "--requests", "0"]) == 2 and capsys.readouterr().err.startswith("./course bench: ")


# ---------------------------------------------------------------- the menu


def talk(answers, known):
    """The command in a pseudo-terminal, with these answers; (exit code, all that was shown)."""
    code = (f"import sys; sys.path.insert(0, {str(ROOT)!r}); import gb10.endpoints as e; e.KNOWN = {known!r}\n"
            "from gb10.bench import options, probe; options.PRESETS = {k: ((1,), 0.3, v[2]) for k, v in options.PRESETS.items()}\n"
            "probe.up.__defaults__ = (e.KNOWN, *probe.up.__defaults__[1:])\n"
            "from gb10.bench.main import main; sys.exit(main([], 'bench'))")
    return terminal([sys.executable, "-S", "-c", code], answers)


def terminal(command, answers=()):
    """A command in a pseudo-terminal; (exit code, all that was shown)."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    shown, waiting, end = b"", list(answers), time.monotonic() + 40
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.3)[0]:
            try:
                data = os.read(fd, 65536)
            except OSError:
                break
            if not data:
                break
            shown += data
        elif waiting and shown.rstrip().endswith((b":", b"?")):
            os.write(fd, waiting.pop(0).encode() + b"\n")
    os.close(fd)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


@pytest.fixture
def known(truth):
    """vLLM's place is taken by the test server, all others by nobody."""
    with Truth(ttft=5, itl=1, tokens=128, owner="vllm") as server:
        yield tuple((name, server.url if name == "vLLM" else f"http://127.0.0.1:{9 + i}/v1") for i, (name, _) in enumerate(places.KNOWN))


def test_the_menu_measures_what_is_chosen(known, results):
    code, shown = talk(["3", "1"], known)
    assert code == 0 and "1  Ollama        not up" in shown and "3  vLLM          up: truth" in shown and "tok/s user" in shown


def test_the_menu_takes_a_url_and_compares_what_is_up(known, results):
    url = known[1][1]
    code, shown = talk(["4", url, "1"], known)
    assert code == 0 and f"{url}: short prompts" in shown
    code, shown = talk(["5", "1"], known)
    assert code == 0 and "compare all that are up (1)" in shown


def test_the_menu_without_a_choice(known, results):
    code, shown = talk(["1"], known)
    assert code == 2 and "Ollama does not answer" in shown
    code, shown = talk(["x", ""], known)
    assert code == 2 and "is not on the list" in shown and "nothing was chosen" in shown and not results.exists()


def test_the_menu_is_left_by_the_end_of_input(known, results):
    for answers in (["\x04"], ["4", "\x04"], ["3", "\x04"]):                          # Ctrl-D
        code, shown = talk(answers, known)
        assert code == 2 and "nothing was chosen" in shown and "Traceback" not in shown, shown
    assert not results.exists()


def test_another_engine_on_a_port_is_warned_of(truth, results):
    with Truth(owner="vllm") as server:
        _, shown = talk(["", ""], (("Ollama", server.url), ("TensorRT-LLM", "http://127.0.0.1:9/v1"), ("vLLM", "http://127.0.0.1:9/v1")))
    assert "WARNING: vLLM answers on the port of Ollama" in shown


def test_without_a_terminal_nothing_is_waited_for(results):
    started = time.monotonic()
    code, out, err = call(timeout=20)
    assert code == 2 and "whom shall I measure" in err and out == "" and time.monotonic() - started < 15
    assert not Path(results).exists()
