"""Start, wait, stop, and everything that goes wrong: each a sentence, nothing left behind.

The engine is a miniature one (fake_engine.py); what is tested is the course's own code around it.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from gb10 import cli
from gb10.engines import launch, ports, process, state
from gb10.errors import UserError, WorkFailed

FAKE = Path(__file__).with_name("fake_engine.py")


def adapter(behaviour: str) -> SimpleNamespace:
    from gb10.engines import vllm_cpu

    return SimpleNamespace(
        NAME="fake", READY_IN="a moment", PHASES=(), cause=vllm_cpu.cause,
        dtype=lambda m: "float32", context=lambda m, wanted: 100, needs=lambda m, length, kind: {"weights": 1},
        command=lambda m, name, port, length, kind: [sys.executable, str(FAKE), str(port), behaviour, name],
        environment=lambda m, length, kind: {},
    )


@pytest.fixture
def fake(monkeypatch, notes):
    """fake("dies") makes the next start run a miniature engine of that behaviour."""
    monkeypatch.setattr(process, "PATIENCE", 1.0)

    def behave(behaviour):
        monkeypatch.setattr(launch, "choose", lambda engine: (adapter(behaviour), None))

    behave("good")
    return behave


def left_behind(notes: Path, port: int) -> list[str]:
    """Notes, processes and listeners that should be gone."""
    found = [f.name for f in notes.glob("*.json*")]
    for p in psutil.process_iter(["cmdline"]):
        if str(FAKE) in (p.info["cmdline"] or []) and str(port) in p.info["cmdline"] and p.status() != "zombie":
            found.append(str(p))
    return found + ([] if process.port_free(port) else [f"port {port}"])


def test_start_answer_stop(fake, notes, pico, port):
    with launch.start(pico, port=port, name="n", quiet=True) as server:
        assert server.alive
        assert server.url == f"http://127.0.0.1:{port}/v1"
        assert server.client.models.list().data[0].id == server.model
        note = json.loads(state.file(port).read_text())
        assert note["pid"] == server.pid and note["ready_s"] == server.ready_s > 0
        assert "fake engine starts" in server.log.read_text()
        listening = [c for c in psutil.Process(server.pid).net_connections() if c.status == "LISTEN"]
        assert [c.laddr.ip for c in listening] == ["127.0.0.1"]
    assert not server.alive
    assert left_behind(notes, port) == []
    server.stop()  # twice does no harm


@pytest.mark.parametrize(("behaviour", "says"), [
    ("dies", r"ended with code 3 while starting: ValueError: the weights are of the wrong shape\nIts last lines:\n    fake"),
    ("grabbed", "another program took the port meanwhile"),
    ("silent", "did not answer within 1 s"),
    ("mute", "came up but refuses to answer"),
])
def test_a_failed_start_says_why_and_leaves_nothing(fake, notes, pico, port, behaviour, says):
    fake(behaviour)
    with pytest.raises(WorkFailed, match=says) as e:
        launch.start(pico, port=port, quiet=True, timeout=1 if behaviour == "silent" else 30)
    assert str(state.log_file(port)) in e.value.message
    assert left_behind(notes, port) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_waiting_leaves_nothing(fake, notes, pico, port, how, capsys):
    fake("silent")
    pid = os.getpid()
    subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(1); os.kill({pid}, {int(how)})"])
    with pytest.raises(KeyboardInterrupt):
        launch.start(pico, port=port, timeout=60)
    assert "nothing is left running" in capsys.readouterr().err
    assert left_behind(notes, port) == []


@pytest.mark.parametrize("behaviour", ["stubborn", "family"])
def test_one_that_ignores_sigterm_is_killed_with_its_children(fake, notes, pico, port, behaviour):
    fake(behaviour)
    server = launch.start(pico, port=port, quiet=True)
    child = re.search(r"child (\d+)", server.log.read_text())
    server.stop()
    assert left_behind(notes, port) == []
    assert child is None or not psutil.pid_exists(int(child[1])) or psutil.Process(int(child[1])).status() == "zombie"


def test_children_of_a_dead_engine_are_ended_too(fake, notes, pico, port):
    fake("family")
    server = launch.start(pico, port=port, quiet=True)
    child = int(re.search(r"child (\d+)", server.log.read_text())[1])
    os.kill(server.pid, signal.SIGKILL)
    os.waitpid(server.pid, 0)
    assert psutil.pid_exists(child)
    running, said = state.sweep()
    assert running == [] and f"pid {server.pid}) is gone" in said[0]
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"


def test_a_port_that_others_hold_is_refused_by_name(fake, notes, pico, port):
    with socket.create_server(("127.0.0.1", port)), pytest.raises(UserError, match=rf"port {port} is taken: .*pid {os.getpid()}"):
        launch.start(pico, port=port, quiet=True)
    assert left_behind(notes, port) == []


def test_the_courses_own_engine_on_the_port_is_named(fake, notes, pico, port):
    with launch.start(pico, port=port, name="first", quiet=True):
        with pytest.raises(UserError, match=rf"the course's own fake serves first there .*down --port {port}"):
            launch.start(pico, port=port, quiet=True)
        assert state.read(port).alive


def test_without_a_port_the_next_free_one_is_taken(fake, notes, pico, port, monkeypatch):
    monkeypatch.setattr(ports, "PORT", port)
    with launch.start(pico, quiet=True) as a, launch.start(pico, quiet=True) as b:
        assert (a.port, b.port != port) == (port, True)


def test_the_next_free_port_is_none_that_is_another_engines(notes, port, monkeypatch):
    """A server on 8001 would be taken for TensorRT-LLM."""
    monkeypatch.setattr(ports, "KNOWN", (("TensorRT-LLM", f"http://127.0.0.1:{port + 1}/v1"), ("own", f"http://127.0.0.1:{port}/v1")))
    with socket.create_server(("127.0.0.1", port)), ports.held(port, True) as got:
        assert got > port + 1


def test_a_second_start_on_the_same_port_at_the_same_time_is_refused(fake, notes, pico, port):
    with ports.held(port, False), pytest.raises(UserError, match="another start on it is under way"):
        launch.start(pico, port=port, quiet=True)


def test_the_lock_on_a_port_holds_for_every_checkout(fake, notes, pico, port, monkeypatch, tmp_path):
    with ports.held(port, False):
        monkeypatch.setattr(state, "FOLDER", tmp_path / "another checkout")
        with pytest.raises(UserError, match="another start on it is under way"):
            launch.start(pico, port=port, quiet=True)
    assert state.locks().stat().st_mode & 0o077 == 0


def test_a_lock_folder_that_is_not_ours_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(state.tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"gb10-ports-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkFailed, match="belongs to somebody else"):
        state.locks()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"engine": "vllm"}', '{"pid": "x"}'])
def test_a_note_that_cannot_be_read_is_cleared_away(fake, notes, pico, port, content):
    state.file(port).write_text(content)
    running, said = state.sweep()
    assert running == [] and "could not be read and was removed" in said[0]
    launch.start(pico, port=port, quiet=True).stop()
    assert left_behind(notes, port) == []


def test_a_lost_note_is_restored_from_the_running_engine(fake, notes, pico, port):
    server = launch.start(pico, port=port, name="lost", quiet=True)
    state.file(port).write_text("{ broken")
    running, said = state.sweep()
    assert "restored" in said[0]
    assert [(e.pid, e.model, e.port) for e in running] == [(server.pid, "lost", port)]
    assert launch.stop(running[0])
    assert left_behind(notes, port) == []


def test_a_recycled_pid_is_never_touched(notes, port):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        stale = state.Engine("fake", f"http://127.0.0.1:{port}/v1", "m", bystander.pid, 1.0, port, "an earlier life", "", "log")
        state.write(stale)
        running, said = state.sweep()
        assert running == [] and "is gone" in said[0]
        launch.stop(stale)
        time.sleep(0.2)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_an_engine_ends_with_the_notebook_that_started_it(fake, notes, port, pico):
    """The owner is killed outright, so no clean-up of its own can run."""
    code = f"""
import sys; sys.path[:0] = [{str(FAKE.parent)!r}]
from pathlib import Path
from gb10.engines import launch, state
import test_lifecycle as t
state.FOLDER = Path({str(notes)!r})
launch.choose = lambda e: (t.adapter("good"), None)
launch.start({str(pico)!r}, port={port}, quiet=True)
print("up", flush=True)
import time; time.sleep(60)
"""
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "up\n"
    note = state.read(port)
    assert note.alive and note.owner == "notebook"
    owner.kill()
    owner.wait()
    assert process.wait_port_free(port, 5)
    assert not note.alive


def test_the_commands(fake, notes, pico, port, capsys):
    """up --json, status, logs, down as a person types them."""
    def course(*args):
        code = cli.main([*args])
        return code, *capsys.readouterr()

    code, out, _ = course("up", "--model", str(pico), "--port", str(port), "--name", "mine", "--json")
    up = json.loads(out)
    assert code == 0
    assert set(up) == {"engine", "url", "model", "pid", "ready_s"}
    assert (up["url"], up["model"]) == (f"http://127.0.0.1:{port}/v1", "mine")

    _, out, _ = course("status", "--json")
    status = json.loads(out)
    assert {k: status[k] for k in up} == up
    assert [e["answers"] for e in status["engines"] if e["own"]] == [True]
    assert up["url"] in course("status")[1]
    assert "fake engine starts" in course("logs", "--port", str(port))[1]

    code, _, err = course("up", "--model", str(pico), "--port", str(port))
    assert code == 2 and err.count("\n") == 1 and "is taken" in err

    code, out, _ = course("down", "--port", str(port))
    assert code == 0 and f"port {port} is free" in out
    assert not psutil.pid_exists(up["pid"]) or psutil.Process(up["pid"]).status() == "zombie"
    assert course("down", "--port", str(port))[0] == 0          # nothing to stop is no fault
    assert "fake engine starts" in course("logs")[1]            # the log outlives the engine
    assert left_behind(notes, port) == []


def test_up_prints_what_can_be_pasted(fake, notes, pico, port, capsys):
    assert cli.main(["up", "--model", str(pico), "--port", str(port)]) == 0
    out = capsys.readouterr().out
    curl = out[out.index("curl") : out.index("\n\nor in Python")]
    answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True).stdout
    assert json.loads(answer)["choices"][0]["text"] == "hello"
    compile(out[out.index("import os") : out.index("\n\nStop it")], "snippet", "exec")


def test_down_leaves_a_foreign_program_alone(notes, port, capsys):
    with socket.create_server(("127.0.0.1", port)):
        assert cli.main(["down", "--port", str(port)]) == 2
        assert "did not start: left alone" in capsys.readouterr().err


@pytest.mark.parametrize(("args", "says"), [
    (["nonsense"], "there is no engine 'nonsense'"),
    (["--port", "80"], "port 80 can't be used"),
    (["--context", "1"], "--context 1 is too short"),
    (["--timeout", "0"], "--timeout 0 leaves no time"),
    (["--model", "/nowhere"], "there is no model folder /nowhere"),
    (["standin", "--dtype", "bfloat16", "--model", "PICO"], "float32 only"),
])
def test_wrong_requests_cost_one_sentence(notes, pico, port, capsys, args, says):
    args = [str(pico) if a == "PICO" else a for a in args]
    args += [] if "--port" in args else ["--port", str(port)]
    assert cli.main(["up", *args]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
    assert list(notes.iterdir()) == []


def test_a_dry_run_starts_nothing(notes, pico, port, capsys):
    assert cli.main(["up", "standin", "--model", str(pico), "--port", str(port), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["command"][1:3] == ["-m", "gb10.engines.standin"]
    assert sum(plan["needs_bytes"].values()) < plan["available_bytes"]
    assert list(notes.iterdir()) == []


def test_no_token_reaches_an_engine_or_its_note(fake, notes, pico, port, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_the_test")
    with launch.start(pico, port=port, quiet=True) as server:
        assert "hf_secret" not in Path(f"/proc/{server.pid}/environ").read_text()
        assert not any("hf_secret" in f.read_text() for f in notes.iterdir())
