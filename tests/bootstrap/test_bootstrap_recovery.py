"""What breaks an environment or changes what it must hold, and that the next start mends it."""

import json
import os
import platform
import shutil
import signal
import sys
from pathlib import Path

import pytest


def test_moved_and_copied_folders_are_made_anew(installed_mini, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(installed_mini.root, copy, symlinks=True)
    seen = installed_mini.works(command=[installed_mini.command[0], str(copy / "course")])
    assert "made anew" in seen["stderr"]
    assert Path(seen["gb10"]).parent == copy / "gb10", "the copy must not run the original"
    assert not list((copy / ".course").glob("old-*"))


def test_pins_that_move_are_followed_in_place(installed_mini):
    (installed_mini.root / ".venv" / "mine.txt").write_text("kept")
    installed_mini.edit("requirements.lock", "tinydep==1.0", "tinydep==1.1")
    try:
        seen = installed_mini.works()
        assert seen["tinydep"] == "1.1"
        assert "brought up to date" in seen["stderr"]
        assert (installed_mini.root / ".venv" / "mine.txt").exists()
    finally:
        installed_mini.edit("requirements.lock", "tinydep==1.1", "tinydep==1.0")
    assert installed_mini.works()["tinydep"] == "1.0"


def test_files_that_the_package_installs_count_as_pins(installed_mini):
    (installed_mini.root / "share" / "note.txt").write_text("changed")
    assert "brought up to date" in installed_mini.works()["stderr"]
    assert installed_mini.works()["stderr"] == ""


def test_the_test_extra_comes_when_it_is_needed_and_stays(installed_mini):
    def has_extra():
        return bool(list((installed_mini.root / ".venv").glob("lib/*/site-packages/tinytest.py")))

    assert not has_extra(), "the lab needs the runtime part only"
    assert installed_mini.run("test").returncode == 0
    assert has_extra()
    for name in ("lab", "test"):
        assert installed_mini.run(name).stderr == "", "nothing is left to do"
    installed_mini.touch_pins()
    assert "brought up to date" in installed_mini.run("lab").stderr
    assert "extra test" in installed_mini.stamp.read_text(), "an update of the lab keeps the extra"


def test_without_a_network_an_update_fails_and_then_recovers(installed_mini):
    installed_mini.edit("requirements.lock", "tinydep==1.0", "tinydep==1.1")
    try:
        failed = installed_mini.run("lab", env={"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"})
        assert failed.returncode == 1
        assert "can't be reached" in failed.stderr and "Then run ./course lab again" in failed.stderr
        log = Path(failed.stderr.rstrip().rpartition("Full log: ")[2])
        assert "127.0.0.1" in log.read_text() or "Connection refused" in log.read_text()
        assert installed_mini.works()["tinydep"] == "1.1"
    finally:
        installed_mini.edit("requirements.lock", "tinydep==1.1", "tinydep==1.0")


@pytest.mark.parametrize("damage", ["python is gone", "no stamp"])
def test_a_broken_environment_is_made_anew(installed_mini, script, damage):
    venv = installed_mini.root / ".venv"
    if damage == "python is gone":
        (venv / "bin" / "python").unlink()
        (venv / "bin" / "python").symlink_to("/nonexistent/python3.11")
    else:
        installed_mini.stamp.unlink()
        (next(venv.glob("lib/python3*/site-packages")) / "tinydep.py").unlink()  # what a kill may leave
    seen = installed_mini.works()
    assert "made anew" in seen["stderr"] and "Ready" in seen["stderr"]
    assert "CPU index does not answer" in seen["stderr"] or script.gpu_present() or platform.machine() != "x86_64"


def test_when_a_stamp_holds(script, monkeypatch, tmp_path):
    monkeypatch.setattr(script, "STAMP", str(tmp_path / "stamp"))
    monkeypatch.setattr(script, "PYTHON", sys.executable)
    script.write_stamp("")
    good = script.read_stamp()
    assert script.holds(good, "") and not script.holds(good, "test")
    assert script.holds(dict(good, extra="test"), "")
    assert not script.holds(dict(good, home="elsewhere"), "") and not script.holds(dict(good, pins="others"), "")
    for text in ("", "home", "home \n", "\0\0", "home 1\npins"):
        (tmp_path / "stamp").write_text(text)
        assert not script.holds(script.read_stamp(), "")
    (tmp_path / "stamp").unlink()
    assert script.read_stamp() == {} and not script.holds({}, "")


@pytest.fixture
def held(installed_mini):
    """The shared miniature with a pin that has moved and an index that sends half a wheel and waits."""
    installed_mini.edit("requirements.lock", "tinydep==1.0", "tinydep==1.1")
    index = installed_mini.index
    index.asked.clear()
    index.hold.clear()
    index.sent.clear()
    yield installed_mini
    index.hold.set()
    index.cut = 0
    installed_mini.edit("requirements.lock", "tinydep==1.1", "tinydep==1.0")
    assert installed_mini.works()["tinydep"] == "1.0"


def test_killed_in_the_middle(mini, index):
    index.hold.clear()
    process = mini.start("lab", start_new_session=True)
    assert index.asked.wait(300)
    process.kill()  # pip lives on and still holds the lock
    process.communicate()
    assert not mini.stamp.exists()
    second = mini.start("show")
    assert f"waiting: another ./course (process {process.pid}) is setting up" in second.stderr.readline()
    index.hold.set()
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    assert "made anew" in err
    assert json.loads(out)["tinydep"] == "1.0"


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_the_middle(held, number, code):
    process = held.start("lab")
    assert held.index.asked.wait(300)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    pip = [int(n) for n in children.read_text().split()] if children.exists() else []
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == code
    assert "stopped. Run ./course lab again" in err and "Traceback" not in err
    for pid in pip:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not (held.root / ".course" / "tmp").exists(), "nothing half downloaded is left"
    held.index.hold.set()
    assert held.works()["tinydep"] == "1.1"


def test_two_at_once(held):
    first = held.start("show")
    assert held.index.asked.wait(300)
    second = held.start("show")
    assert "waiting" in second.stderr.readline()
    held.index.hold.set()
    outs = [p.communicate(timeout=300) for p in (first, second)]
    assert [p.returncode for p in (first, second)] == [0, 0], outs
    assert [json.loads(out)["tinydep"] for out, _ in outs] == ["1.1", "1.1"]
    assert outs[1][1].count("\n") < 10, "waiting is told every ten seconds, not every time it looks"
    assert "brought up to date" in outs[0][1] and "brought up to date" not in outs[1][1]
    assert held.index.sent == ["tinydep-1.1-py3-none-any.whl"], "it was installed once"


def test_a_download_that_breaks_off(held):
    held.index.cut = 1
    held.index.hold.set()
    failed = held.run("lab")
    assert failed.returncode == 1 and "Full log" in failed.stderr
    assert "broke off" in failed.stderr
    assert held.works()["tinydep"] == "1.1"
