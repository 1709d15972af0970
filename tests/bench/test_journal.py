"""Results on disk: what a kill leaves, what is resumed, what is refused, and memory that stays flat."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gb10.bench import journal
from gb10.bench.campaign import Campaign, plan
from gb10.bench.live import Silent
from gb10.bench.main import main
from gb10.bench.resume import left_to_do
from gb10.bench.selftest import Truth
from gb10.bench.spec import Spec
from gb10.bench.summary import figures
from gb10.bench.worker import Worker
from gb10.errors import UserError, WorkFailed
from gb10.paths import ROOT

FRONT = [sys.executable, "-S", str(ROOT / "appendix" / "llm_benchmark.py")]
REQUESTS, STREAMS = 60, 6


@pytest.fixture(scope="module")
def truth():
    with Truth(ttft=15, itl=2, tokens=8) as server:
        yield server


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("GB10_BENCH", str(tmp_path / "runs"))
    return tmp_path / "runs"


def start(truth, *more):
    return subprocess.Popen([*FRONT, "--url", truth.url, "--concurrency", str(STREAMS), "--requests", str(REQUESTS), "--max-tokens", "8",
                             "--quiet", *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.01)
    pytest.fail("waited in vain")


def journaled(runs, least):
    """The run's folder as soon as its journal has so many requests."""
    def look():
        for path in runs.glob("*/journal.jsonl"):
            if path.read_bytes().count(b'"k":"req"') >= least:
                return path.parent
        return None
    return wait_for(look)


def numbers(folder):
    return [r["i"] for r in journal.Run.open(folder).rows() if r["k"] == "req"]


def gone(pid):
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("victim", ["load process", "parent", "both"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_run_keeps_what_had_finished_and_is_resumed(truth, runs, capsys, victim, seed):
    truth.notes()
    rng = random.Random(f"{victim} {seed}")
    process = start(truth)
    folder = journaled(runs, rng.randrange(1, 30))
    time.sleep(rng.random() * 0.03)
    load = children(process.pid)
    victims = {"load process": load, "parent": [process.pid], "both": [process.pid, *load]}[victim]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=20)
    if victim == "load process":
        assert process.returncode == 1 and "was killed by signal 9" in out and "Traceback" not in err
    wait_for(lambda: all(gone(pid) for pid in load) and not left_behind(runs))       # nobody stays behind
    done = numbers(folder)
    assert len(set(done)) == len(done) < REQUESTS
    finished = [name for name, times in truth.notes().items() if len(times) == 9 and folder.name in name]
    assert len(done) >= len(finished) - STREAMS                          # at most what was in flight is missing
    assert main(["--report", str(folder)], "bench") == 0 and "tok/s user" in capsys.readouterr().out
    assert main(["--resume", str(folder), "--quiet"], "bench") == 0
    assert sorted(numbers(folder)) == list(range(REQUESTS))              # each exactly once
    [group] = figures(journal.Run.open(folder))
    assert (group.requests, group.ok, len(group.segments)) == (REQUESTS, REQUESTS, 2)
    assert main(["--resume", str(folder)], "bench") == 2 and "is complete" in capsys.readouterr().err


@pytest.mark.parametrize("group", [True, False], ids=["as a terminal sends it", "to the parent alone"])
def test_ctrl_c_ends_with_a_report(truth, runs, group, capsys):
    process = start(truth)
    folder = journaled(runs, 8)
    (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "tok/s user" in out and "Traceback" not in err
    assert main(["--report", "--list"], "bench") == 0 and "--resume goes on" in capsys.readouterr().out
    assert 8 <= len(numbers(folder)) < REQUESTS and json.loads((folder / "meta.json").read_text())["ended"]
    assert main(["--resume", str(folder), "--quiet"], "bench") == 0 and sorted(numbers(folder)) == list(range(REQUESTS))


def test_ctrl_c_in_the_warm_up_leaves_nothing(runs):
    with Truth(ttft=5000) as slow:
        process = start(slow)
        wait_for(lambda: children(process.pid))
        time.sleep(0.8)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "stopped" in err and not runs.exists()


@pytest.mark.parametrize("seed", range(6))
def test_ctrl_c_at_any_moment_is_no_traceback(truth, runs, seed):
    process = start(truth)
    time.sleep(random.Random(seed).random() * 0.15 + 0.1 * seed)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode in (130, -signal.SIGINT, 0) and "Traceback" not in err, err
    wait_for(lambda: not left_behind(runs))


def left_behind(runs):
    """Processes that were told to keep their runs there, as the command and all that it starts are."""
    def told(process):
        try:
            return str(runs).encode() in (process / "environ").read_bytes()
        except OSError:
            return False
    return [p for p in Path("/proc").iterdir() if p.name.isdigit() and told(p)]


def test_ctrl_c_between_two_requests_of_the_warm_up(runs):
    """The load process has been told to end when it would be given the next one."""
    class Endpoint:
        def prepare(self, o, worker, salt):
            os.kill(os.getpid(), signal.SIGINT)
            worker.run(Spec())

    with Worker() as worker, pytest.raises(KeyboardInterrupt):
        Campaign(None, [Endpoint()], worker, Silent()).execute()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and not runs.exists()


def test_ctrl_c_is_not_for_the_load_process(truth, runs):
    process = start(truth)
    folder = journaled(runs, 3)
    [load] = children(process.pid)
    assert os.getsid(load) == load                                       # a terminal's Ctrl-C does not even reach it
    os.kill(load, signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0 and sorted(numbers(folder)) == list(range(REQUESTS))


def test_a_load_process_that_dies_is_one_sentence():
    with Worker() as worker:
        worker.process.kill()
        for _ in range(2):
            with pytest.raises(WorkFailed, match="killed by signal 9"):
                worker.run(Spec(addresses=[], todo=[(0, 1)]))


def test_meta_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    run = journal.Run.create(META, tmp_path)
    before = {p: p.read_bytes() for p in run.folder.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal.os, "replace", full)
    run.meta["label"] = "row 3"
    with pytest.raises(WorkFailed, match="No space left"):
        run.save()
    assert {p: p.read_bytes() for p in run.folder.iterdir()} == before


def test_the_key_is_on_no_command_line(runs, monkeypatch):
    secret = "sk-verysecret456"
    monkeypatch.setenv("GB10_API_KEY", secret)
    with Truth(ttft=15, itl=2, tokens=8, key=secret) as locked:
        process = start(locked)
        folder = journaled(runs, 3)
        lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (process.pid, *children(process.pid))]
        out, err = process.communicate(timeout=30)
    assert len(lines) >= 2 and not [line for line in lines if secret.encode() in line]
    assert process.returncode == 0 and secret not in out + err
    assert not [p for p in folder.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]


def test_a_cell_that_was_given_up_is_taken_up_again(runs, capsys):
    """The server went in the middle and is back: what was not sent is sent, and nothing twice that was."""
    argv = ["--requests", "40", "--concurrency", "2", "--max-tokens", "8", "--quiet"]
    with Truth(ttft=5, itl=1, tokens=8, vanish=12) as first:
        port = first.target.port
        assert main(["--url", first.url, *argv], "bench") == 1
    said = capsys.readouterr().out
    assert "is gone" in said and "connections failed in a row" in said
    [folder] = runs.iterdir()
    before = numbers(folder)
    assert len(before) < 40
    with Truth(ttft=5, itl=1, tokens=8, port=port):
        assert main(["--resume", str(folder), "--quiet"], "bench") == 1          # some requests did fail, then
        assert sorted(numbers(folder)) == list(range(40))
        files = {p: p.read_bytes() for p in folder.iterdir()}
        assert main(["--resume", str(folder), "--quiet"], "bench") == 2          # and to resume what is complete changes nothing
        assert {p: p.read_bytes() for p in folder.iterdir()} == files


def test_a_run_that_still_goes_on_is_not_resumed(truth, runs, capsys):
    process = start(truth)
    folder = journaled(runs, 3)
    assert main(["--resume", str(folder)], "bench") == 2 and "still being measured" in capsys.readouterr().err
    assert process.wait(timeout=20) == 0 and sorted(numbers(folder)) == list(range(REQUESTS))
    process.communicate()


def test_a_run_of_several_cells_goes_on_where_it_was(truth, runs):
    process = start(truth, "--concurrency", "2,4")                       # the later flag counts
    folder = journaled(runs, REQUESTS + 5)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert main(["--resume", str(folder), "--quiet"], "bench") == 0
    rows = [r for r in journal.Run.open(folder).rows() if r["k"] == "req"]
    for cell in (0, 1):
        assert sorted(r["i"] for r in rows if r["cell"] == cell) == list(range(REQUESTS))


# ---------------------------------------------------------------- what is left to do


def test_left_to_do():
    cell = {"requests": 10, "seconds": None}
    assert left_to_do(cell, {0, 1, 4, 9}, False, 3.0) == {"todo": [[2, 4], [5, 9]], "seconds": None}
    assert left_to_do(cell, set(range(10)), False, 3.0) is None and left_to_do(cell, {1}, True, 0) is None
    timed = {"requests": None, "seconds": 30.0}
    assert left_to_do(timed, {0, 1, 7}, False, 12.0) == {"todo": [[8, 1 << 40]], "seconds": 18.0}
    assert left_to_do(timed, {3}, False, 31.0) is None
    # conversations of three turns: one that has begun is not begun again
    assert left_to_do({"requests": 3, "seconds": None}, {0, 1, 2, 3}, False, 1.0, turns=3)["todo"] == [[2, 3]]


def test_a_comparison_is_planned_in_turns():
    from types import SimpleNamespace

    o = SimpleNamespace(levels=[1, 4], rates=[], requests=12, seconds=None, arrivals="poisson")
    cells = plan(o, 2)
    assert [c["endpoint"] for c in cells[:4]] == [0, 1, 1, 0] and len(cells) == 24 and {c["requests"] for c in cells} == {2}
    assert [c["cell"] for c in cells] == list(range(24)) and [c["concurrency"] for c in cells] == [1] * 12 + [4] * 12


# ---------------------------------------------------------------- what is refused


META = {"format": "gb10-bench", "version": 1, "id": "x", "created": "2026-11-27T00:00:00+00:00",
        "cells": [{"cell": 0, "endpoint": 0, "concurrency": 1, "rate": None, "requests": 3, "seconds": None, "block": 0, "blocks": 1}],
        "endpoints": [{"engine": "vLLM", "url": "http://127.0.0.1:9/v1", "model": "m"}],
        "workload": {"prompt_tokens": None, "max_tokens": 8}, "notes": []}
LINE = {"k": "req", "cell": 0, "i": 0, "slot": 0, "send": 10, "end": 90_000, "ttft": 50_000, "e2e": 85_000, "n": 8, "n_src": "usage", "events": 8,
        "reads": 8, "gaps": [5000] * 7, "lag": {"40": 8}}
START = {"k": "start", "cell": 0, "unix": 1.79e9}


def make(folder, meta=META, lines=(START, LINE)):
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(meta if isinstance(meta, str) else json.dumps(meta))
    (folder / "journal.jsonl").write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.parametrize(("meta", "said"), [
    ("{", "not JSON"), ("[]", "was not written by this benchmark"), ({"format": "aiperf"}, "was not written by this benchmark"),
    ("{" * 100_000, "not JSON"), (META | {"version": 7}, "of version 7"), ({k: v for k, v in META.items() if k != "cells"}, "lacks"),
    (META | {"cells": [{}]}, "lacks"), (META | {"endpoints": []}, "lacks"), (META | {"cells": [META["cells"][0] | {"endpoint": 1}]}, "lacks"),
    (META | {"cells": [META["cells"][0] | {"concurrency": 0}]}, "lacks"), (META | {"cells": [META["cells"][0] | {"rate": "x"}]}, "lacks"),
    (META | {"workload": {}}, "lacks"), (META | {"endpoints": [{"engine": "vLLM"}]}, "lacks"), (META | {"notes": 5}, "lacks"),
    (META | {"roofline": [{}]}, "lacks")])
def test_foreign_and_old_runs_are_refused_and_left_as_they_are(tmp_path, capsys, meta, said):
    folder = make(tmp_path / "run", meta)
    before = {p: p.read_bytes() for p in folder.iterdir()}
    for argv in (["--report", str(folder)], ["--resume", str(folder)], ["--report", str(folder), "--json", str(tmp_path / "o.json")]):
        assert main(argv, "bench") == 2
        err = capsys.readouterr().err
        assert said in err and "left as it was" in err.replace("left as it is", "left as it was") and err.count("\n") == 1
    assert {p: p.read_bytes() for p in folder.iterdir()} == before and not (tmp_path / "o.json").exists()


@pytest.mark.parametrize("lines", [
    (START, "timestamp,name,url\n", LINE), (START, {"k": "req", "cell": 0}), (START, LINE | {"gaps": "many"}), (LINE,), (START, LINE | {"lag": [1]}),
    (START | {"unix": None}, LINE), (START, LINE | {"send": float("inf")}), (START, LINE | {"send": float("nan")}), (START, LINE | {"cell": [0]}),
    (START, LINE | {"slot": [0]}), (START, LINE | {"n": "8"}), (START, LINE | {"stamps": "odd"}), (START, LINE | {"stamps": [1]}),
    (START, LINE | {"err": 5}), (START, LINE | {"isl": "a"}), (START, LINE | {"lag": {"x": 1}}), ("\n\n", START, LINE), ("[]\n", START, LINE)])
def test_foreign_lines_are_refused(truth, tmp_path, capsys, lines):
    complete = META | {"salt": "1", "seed": 0, "stall_s": 9, "timeout_s": 9, "warmup": 0, "weights": None, "label": None,
                       "cells": [META["cells"][0] | {"poisson": False}], "endpoints": [{"engine": "x", "url": truth.url, "model": "truth"}],
                       "workload": {"prompt_tokens": None, "max_tokens": 8, "temperature": 0, "api": "chat", "turns": 1, "extra": {}, "prompt": None,
                                    "fixed_length": True, "cold": True}}
    folder = make(tmp_path / "run", complete, lines)
    before = {p: p.read_bytes() for p in folder.iterdir()}
    for argv in (["--report", str(folder), "--html", str(tmp_path / "o.html")], ["--resume", str(folder), "--quiet"]):
        assert main(argv, "bench") == 2
        err = capsys.readouterr().err
        assert "left as" in err and err.count("\n") == 1
    assert {p: p.read_bytes() for p in folder.iterdir()} == before and not (tmp_path / "o.html").exists()


def test_a_run_without_its_journal_is_one_sentence(tmp_path, capsys):
    folder = make(tmp_path / "run")
    (folder / "journal.jsonl").unlink()
    for argv in (["--report", str(folder)], ["--resume", str(folder)]):
        assert main(argv, "bench") == 2 and capsys.readouterr().err.count("\n") == 1
    with pytest.raises(UserError, match="journal.jsonl can't be read"):
        journal.Run.open(folder).hold()


@pytest.mark.parametrize("line", ['{"unix": 1}', '{"unix": "x"}', '{"unix": 1790000000.05, "mem_total": "much", "gpus": []}',
                                  '{"unix": 1790000000.05, "gpus": 5}', '{"unix": 1790000000.05, "gpus": [5]}', '{"k": "resume"}'])
def test_odd_telemetry_spoils_no_report(tmp_path, capsys, line):
    folder = make(tmp_path / "run")
    (folder / "telemetry.jsonl").write_text(line + "\n" + line + "\n")
    assert main(["--report", str(folder)], "bench") == 0 and "tok/s user" in capsys.readouterr().out


def test_a_line_torn_by_a_kill_is_passed_over(tmp_path):
    torn = json.dumps(LINE)[:70]
    assert figures(journal.Run.open(make(tmp_path / "a", lines=(START, LINE, torn))))[0].ok == 1
    lines = (START, LINE, torn + "\n", {"k": "resume", "unix": 2}, START, LINE | {"i": 1})
    assert figures(journal.Run.open(make(tmp_path / "b", lines=lines)))[0].ok == 2
    with pytest.raises(UserError, match="line 3"):
        figures(journal.Run.open(make(tmp_path / "c", lines=(START, LINE, torn + "\n", LINE))))


def test_runs_are_found_by_number_name_and_folder(tmp_path):
    for i in (1, 2):
        make(tmp_path / f"run{i}", META | {"id": f"run{i}", "created": f"2026-11-2{i}"})
    make(tmp_path / "foreign", "{}")
    (tmp_path / "empty").mkdir()
    assert [r.id for r in journal.runs(tmp_path)] == ["run2", "run1"]
    for name, found in ((None, "run2"), ("last", "run2"), ("2", "run1"), ("run1", "run1"), (str(tmp_path / "run1"), "run1")):
        assert journal.find(name, tmp_path).id == found
    for name in ("run", "nothing", "9", "²", "x" * 5000, str(tmp_path / "empty"), str(tmp_path / ("x" * 5000))):
        with pytest.raises(UserError):
            journal.find(name, tmp_path)


def test_two_runs_in_the_same_second_get_different_folders(tmp_path):
    one, two = (journal.Run.create(META, tmp_path) for _ in range(2))
    assert one.folder != two.folder and two.id == two.folder.name


def test_a_full_disk_is_one_sentence():
    with pytest.raises(WorkFailed, match="can't be written"):
        journal.Run.create(META, Path("/proc/nowhere"))


def test_a_full_disk_in_the_middle_keeps_what_had_finished(truth, runs, tmp_path):
    """The journal hits the limit on a file's size, which fails a write as a full disk does."""
    code = ("import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
            f"import runpy; sys.argv = sys.argv[1:]; runpy.run_path({FRONT[-1]!r}, run_name='__main__')")
    done = subprocess.run([sys.executable, "-S", "-c", code, "bench", "--url", truth.url, "--requests", "60", "--concurrency", "4", "--max-tokens", "8",
                           "--quiet"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "File too large" in done.stdout + done.stderr
    [folder] = runs.iterdir()
    assert 5 < len(numbers(folder)) < 60


# ---------------------------------------------------------------- from nothing to very much


def test_a_run_without_a_line(tmp_path, capsys):
    folder = make(tmp_path / "run", lines=())
    assert main(["--report", str(folder), "--html", str(tmp_path / "o.html"), "--csv", str(tmp_path / "o.csv")], "bench") == 0
    assert "Nothing was measured" in capsys.readouterr().out


def test_memory_stays_flat(tmp_path):
    code = (f"import sys, re; sys.path.insert(0, {str(ROOT)!r})\n"
            "from gb10.bench.outcome import Outcome; from gb10.bench.journal import Run\n"
            "o = Outcome(Run.open(sys.argv[1])); '\\n'.join(o.lines()); o.result()\n"
            "print(o.groups[0].ok, re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])")
    peak = {}
    rng = random.Random(0)
    varied = [json.dumps(LINE | {"ttft": int(50_000 * rng.lognormvariate(0, 0.4)), "gaps": [int(5000 * rng.lognormvariate(0, 0.3)) for _ in range(7)]})
              for _ in range(5000)]
    for count in (5_000, 60_000):
        lines = [START] + [varied[i % 5000].replace('"i": 0', f'"i": {i}').replace('"send": 10', f'"send": {i * 90_000}') + "\n" for i in range(count)]
        folder = make(tmp_path / str(count), lines=lines)
        done = subprocess.run([sys.executable, "-S", "-c", code, str(folder)], capture_output=True, text=True, check=True, timeout=120)
        ok, peak[count] = map(int, done.stdout.split())
        assert ok == count
    assert peak[60_000] - peak[5_000] < 12_000           # kB; the file grew by 16 MB
