"""What breaks an environment or changes what it must hold, and that the next start mends it."""

import json
import os
import platform
import shutil
import signal
import time
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
    installed_mini.edit("pyproject.toml", "minutes = 0.3", "minutes = 0.4")  # any change
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


@pytest.mark.parametrize("damage", ["python is gone", "no stamp", "half a stamp", "an empty folder"])
def test_a_broken_environment_is_made_anew(installed_mini, script, damage):
    venv = installed_mini.root / ".venv"
    if damage == "python is gone":
        (venv / "bin" / "python").unlink()
        (venv / "bin" / "python").symlink_to("/nonexistent/python3.11")
    elif damage == "no stamp":
        installed_mini.stamp.unlink()
        (next(venv.glob("lib/python3*/site-packages")) / "tinydep.py").unlink()  # what a kill may leave
    elif damage == "half a stamp":
        installed_mini.stamp.write_text("home")
    else:
        shutil.rmtree(venv)
        venv.mkdir()
    seen = installed_mini.works()
    assert "made anew" in seen["stderr"] and "Ready" in seen["stderr"]
    assert "CPU index does not answer" in seen["stderr"] or script.gpu_present() or platform.machine() != "x86_64"


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_killed_in_the_middle(mini, index):
    index.hold.clear()
    process = mini.start("lab", start_new_session=True)
    assert index.asked.wait(120), process.stderr
    process.kill()  # pip lives on and still holds the lock
    process.communicate()
    assert not mini.stamp.exists()
    second = mini.start("show")
    time.sleep(0.5)
    assert second.poll() is None, "it must wait for the orphaned pip"
    index.hold.set()
    out, err = second.communicate(timeout=200)
    assert second.returncode == 0, err
    assert "waiting: another ./course" in err and "made anew" in err
    assert json.loads(out)["tinydep"] == "1.0"


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_the_middle(mini, index, number, code):
    index.hold.clear()
    process = mini.start("lab")
    assert index.asked.wait(120)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    pip = [int(n) for n in children.read_text().split()] if children.exists() else []
    process.send_signal(number)
    _, err = process.communicate(timeout=200)
    assert process.returncode == code
    assert "stopped. Run ./course lab again" in err and "Traceback" not in err
    for pid in pip:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    if number == signal.SIGINT:
        index.hold.set()
        assert mini.works()["tinydep"] == "1.0"


def test_two_at_once(mini, index):
    index.hold.clear()
    first = mini.start("show")
    assert index.asked.wait(120)
    second = mini.start("show")
    time.sleep(1)
    index.hold.set()
    outs = [p.communicate(timeout=200) for p in (first, second)]
    assert [p.returncode for p in (first, second)] == [0, 0], outs
    assert f"waiting: another ./course (process {first.pid}) is setting up" in outs[1][1]
    assert "Setting up" not in outs[1][1]
    assert index.sent == ["tinydep-1.0-py3-none-any.whl"], "it was installed once"


def test_a_download_that_breaks_off(mini, index):
    index.cut = 1
    failed = mini.run("lab")
    assert failed.returncode == 1 and "Full log" in failed.stderr
    assert "can't be reached" in failed.stderr
    assert mini.works()["tinydep"] == "1.0"
