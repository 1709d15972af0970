"""Each way in which setting up can fail: the cause is named, the next step too, and the exit code is 1."""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def refused(done, *words):
    assert done.returncode == 1, done.stderr
    for word in (*words, "Next: ", "again"):
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


# --- Python --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version, age", [((3, 6), "old"), ((3, 10), "old"), ((3, 13), "new")])
def test_wrong_python_and_no_other(script, monkeypatch, tmp_path, version, age):
    monkeypatch.setattr(sys, "version_info", (*version, 1, "final", 0))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "execv", lambda *args: pytest.fail(f"started {args}"))
    with pytest.raises(script.Failure, match=f"Python too {age}: 3.11 or 3.12 needed"):
        script.use_right_python(["lab"])


def old_pythons():
    """Interpreters too old for the course that happen to be here."""
    found = []
    for minor in (6, 7, 8, 9, 10):
        paths = [shutil.which(f"python3.{minor}")]
        paths += [str(p) for p in Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}")]
        for path in filter(None, paths):
            if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
                found.append(path)
                break
    return found


def test_a_really_old_python(mini, tmp_path):
    if not (pythons := old_pythons()):
        pytest.skip("NO OLD PYTHON HERE: only its stand-in was tried")
    for python in pythons:
        done = mini.run("lab", command=[python, str(mini.root / "course")], env={"PATH": str(tmp_path)})
        refused(done, "Python too old: 3.11 or 3.12 needed")
    assert not (mini.root / ".venv").exists()
    # With a right one on the PATH it starts again under that; a broken one before it is passed over.
    for folder, target in (("a", "/bin/false"), ("b", sys.executable)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "python{}.{}".format(*sys.version_info)).symlink_to(target)
    path = f"{tmp_path / 'a'}:{tmp_path / 'b'}"
    done = mini.run("--help", command=[pythons[0], str(mini.root / "course")], env={"PATH": path})
    assert done.returncode == 0 and "Usage" in done.stdout, done.stderr


def test_starts_again_under_a_right_python(script, monkeypatch, tmp_path):
    right = tmp_path / "python{}.{}".format(*sys.version_info)
    right.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("GB10_COURSE_PYTHON", "")
    calls = []
    monkeypatch.setattr(os, "execv", lambda path, argv: calls.append((path, argv)) or sys.exit(0))
    with pytest.raises(SystemExit):
        script.use_right_python(["lab", "--port", "1"])
    assert calls == [(str(right), [str(right), str(ROOT / "course"), "lab", "--port", "1"])]


def test_python_without_its_venv_module(mini, tmp_path):
    """Debian without python3-venv: a standard library in which ensurepip is missing."""
    version = "python{}.{}".format(*sys.version_info)
    stdlib = Path(os.__file__).parent
    for there, here in ((stdlib, tmp_path / "home/lib" / version),):
        here.mkdir(parents=True)
        for entry in there.iterdir():
            if entry.name not in ("ensurepip", "site-packages"):
                (here / entry.name).symlink_to(entry)
    (tmp_path / "bin").mkdir()
    real = os.path.realpath(sys.executable)
    (tmp_path / "bin" / version).symlink_to(real)
    env = {"PYTHONHOME": str(tmp_path / "home"), "PATH": str(tmp_path / "bin")}
    done = mini.run("lab", command=[str(tmp_path / "bin" / version), str(mini.root / "course")], env=env)
    refused(done, "without its venv module", f"apt install {version}-venv")
    assert not (mini.root / ".venv").exists()
    # ... and once it is there, the same call succeeds
    (tmp_path / "home/lib" / version / "ensurepip").symlink_to(stdlib / "ensurepip")
    env["PYTHONHOME"] = ""
    assert mini.works(command=[real, str(mini.root / "course")])


# --- what pip reports ----------------------------------------------------------------------------------------


def test_pip_reports(installed_mini):
    """A resolution that fails, a hash that differs, a package that doesn't load: told apart, then recovered from."""
    lock = (installed_mini.root / "requirements.lock").read_text()
    try:
        installed_mini.edit("requirements.lock", "tinydep==1.0", "tinydep==9.9")
        text = refused(installed_mini.run("lab"), "lacks a pinned version", "tinydep==9.9", "install.log")
        assert "network" not in text
        installed_mini.edit("requirements.lock", "tinydep==9.9", "tinydep==1.1")
        installed_mini.index.damaged = True
        refused(installed_mini.run("lab"), "not the one that its index promised", "cache purge")
        installed_mini.index.damaged = False
        installed_mini.edit("pyproject.toml", '"tinydep", "gb10"]', '"tinydep", "no_such_module"]')
        refused(installed_mini.run("lab"), "the first import", "No module named 'no_such_module'")
        assert not installed_mini.stamp.exists()
        installed_mini.edit("pyproject.toml", '"no_such_module"]', '"gb10"]')
        assert installed_mini.works()["tinydep"] == "1.1"
    finally:
        installed_mini.index.damaged = False
        (installed_mini.root / "requirements.lock").write_text(lock)
    assert installed_mini.works()["tinydep"] == "1.0"


@pytest.mark.parametrize("line, word", [
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
    ("WARNING: Retrying after connection broken by 'NameResolutionError(...)'\nERROR: No matching distribution found",
     "can't be reached"),
    ("ERROR: Could not find a version that satisfies the requirement x (from versions: none)", "no network"),
    ("pip._vendor.requests.exceptions.ProxyError: Cannot connect", "proxy"),
    ("ssl.SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED", "certificate"),
    ("ERROR: ResolutionImpossible: for help visit", "contradict"),
    ("ERROR: [Errno 13] Permission denied: '/x'", "can't write"),
    ("something unheard of", "exit code 1"),
])
def test_words_and_causes(script, line, word):
    failure = script.diagnosis("Collecting x\n" + line, 1, "the packages")
    assert word in failure.cause and failure.step and failure.log


def test_killed_for_memory(script):
    assert "memory" in script.diagnosis("Collecting x", -9, "the packages").cause


# --- disk and folder -----------------------------------------------------------------------------------------


def test_too_little_space_is_noticed_beforehand(mini):
    mini.edit("pyproject.toml", "disk = 30,", "disk = 900000000,")
    mini.edit("pyproject.toml", "disk = 40,", "disk = 900000000,")
    refused(mini.run("lab"), "the disk is too full", "GB needed")
    assert not (mini.root / ".venv").exists()


def in_namespace(mini, setup):
    """Run ./course lab after `setup`, a shell line that mounts something, in a mount namespace of its own."""
    line = f'{setup} && cd "$COURSE" && exec "$PYTHON" course show'
    env = mini.env | {"COURSE": str(mini.root), "PYTHON": sys.executable}
    flags = ["-m"] if os.geteuid() == 0 else ["-rm"]
    if not shutil.which("unshare") or subprocess.run(
            ["unshare", *flags, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("NO MOUNT NAMESPACES HERE: the real full disk and read-only folder were not tried")
    return subprocess.run(["unshare", *flags, "sh", "-c", line], env=env, text=True, capture_output=True, check=False)


def test_the_disk_fills_up_in_the_middle(mini):
    mini.edit("pyproject.toml", '["tinydep"]', '["tinydep", "bigdep"]')
    keep = 'cp -r "$COURSE" /tmp/.course-copy.$$ && mount -t tmpfs -o size=60m none "$COURSE"'
    keep += ' && cp -r /tmp/.course-copy.$$/. "$COURSE" && rm -r /tmp/.course-copy.$$'
    refused(in_namespace(mini, keep), "the disk is full", "install.log")
    assert not mini.stamp.exists()
    assert mini.works()["tinydep"] == "1.0"  # outside of the small disk there is room


def test_read_only_folder(mini):
    if os.geteuid() != 0:
        mini.root.chmod(0o555)
        done = mini.run("show")
        mini.root.chmod(0o755)
    else:
        done = in_namespace(mini, 'mount --bind "$COURSE" "$COURSE" && mount -o remount,bind,ro "$COURSE"')
    refused(done, "can't write to", "folder of your own")


# --- torch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system, machine, gpu, answers, source", [
    ("linux", "x86_64", False, True, ("INDEX", "cpu")),
    ("linux", "x86_64", False, False, (None, "unknown")),
    ("linux", "x86_64", True, True, (None, "cuda")),
    ("linux", "aarch64", True, True, (None, "cuda")),
    ("linux", "aarch64", False, True, (None, "cuda")),
    ("darwin", "arm64", False, True, (None, "cpu")),
])
def test_where_torch_comes_from(script, monkeypatch, system, machine, gpu, answers, source):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(script, "gpu_present", lambda: gpu)
    monkeypatch.setattr(script, "reachable", lambda url: answers and url == "INDEX/torch/")
    assert script.torch_source({"torch-cpu-index": "INDEX"})[:2] == source


def test_nvidia_smi_counts_as_a_gpu(script, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    before = script.gpu_present()
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert script.gpu_present()
    assert not before or os.path.exists("/proc/driver/nvidia") or list(Path("/dev").glob("nvidia*"))


def torch_of(mini):
    return [p.name for p in (mini.root / ".venv").glob("lib/*/site-packages/torch-*.dist-info")]


def test_cpu_build_where_its_index_answers(mini, script):
    import platform

    if script.gpu_present() or platform.machine() != "x86_64" or sys.platform != "linux":
        pytest.skip("this machine takes the default build: see test_where_torch_comes_from")
    with (mini.root / "requirements.lock").open("a") as f:
        f.write("torch==2.13.0\n")
    mini.edit("pyproject.toml", '["tinydep"]', '["tinydep", "torch"]')
    mini.edit("pyproject.toml", "http://127.0.0.1:9", mini.index.url)
    seen = mini.works()
    assert "CPU build" in seen["stderr"]
    assert torch_of(mini) == ["torch-2.13.0+cpu.dist-info"]


# --- progress ------------------------------------------------------------------------------------------------


def test_one_line_is_updated_on_a_terminal(installed_mini):
    installed_mini.touch_pins()
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*installed_mini.command, "show"], env=installed_mini.env, stdout=subprocess.DEVNULL,
                               stderr=theirs)
    os.close(theirs)
    text = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # the terminal is closed when all have left
            break
        if not chunk:
            break
        text += chunk
    os.close(ours)
    assert process.wait(200) == 0
    assert b"\r\033[K  packages \xc2\xb7 " in text
    assert b"packages: done" in text


def test_lines_without_a_terminal(script, capsys):
    progress = script.Progress("packages")
    times = iter([0, 0, 3, 11, 15, 22, 22, 130, 130])
    progress.clock, progress.last, progress.start = lambda: next(times), 0, 0
    for detail in ("found 0", "", "found 2", "", "found 4"):
        progress.show(detail)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3, lines  # the title and two lines in 15 seconds: not one for every call
    assert script.Packages().state() == "asking the package index"


def test_pip_in_numbers(script, monkeypatch, tmp_path):
    monkeypatch.setattr(script, "installed", lambda: 3)
    monkeypatch.setattr(script, "fetched_mb", lambda: 12)
    monkeypatch.setattr(script, "STAMP", str(tmp_path / "stamp"))
    (tmp_path / "stamp").write_text("old")
    packages = script.Packages()
    for line in ("Obtaining file:///x", "Collecting a==1 (from gb10)", "  Downloading a-1-py3-none-any.whl.metadata (1 kB)",
                 "  Using cached a-1-py3-none-any.whl (2.0 MB)", "Processing ./x (from gb10)", "Collecting b",
                 "  Downloading b-1-py3-none-any.whl (10 MB)"):
        packages.read(line)
    assert packages.state() == "found 2, fetched 2 (12 MB)"
    assert (tmp_path / "stamp").exists(), "nothing has changed yet"
    packages.read("Installing collected packages: b, a, gb10")
    assert not (tmp_path / "stamp").exists(), "from here on the old stamp would lie"
    monkeypatch.setattr(script, "installed", lambda: 5)
    assert packages.state() == "installing 2 of 3"
    assert packages.summary() == "3 installed"
