"""The real course, cloned afresh: its script, its lock, its build, its package, with few of its packages.

Installing all of it takes minutes and gigabytes, and that is how the suite itself was started (./course test). Here the
clone's dependencies are cut down to two small ones, so that the same steps run in seconds: the build backend and the two
packages come from the real index, under the real requirements.lock.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("psutil", "requests")


def clone(to: Path) -> Path:
    """A git clone of the repository as it stands, uncommitted changes to tracked files included."""
    git = ["git", "-c", "safe.directory=*"]
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        ignore = shutil.ignore_patterns(".venv*", ".course", "work", "__pycache__", ".git")
        shutil.copytree(ROOT, to, ignore=ignore, symlinks=True)
        return to
    subprocess.run([*git, "clone", "-q", "--no-hardlinks", str(ROOT), str(to)], check=True, capture_output=True)
    names = subprocess.run([*git, "-C", str(ROOT), "diff", "--name-only", "--diff-filter=AM", "-z", "HEAD"], check=True,
                           capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)
    return to


def test_fresh_clone_in_a_path_with_a_space(tmp_path):
    folder = clone(tmp_path / "my courses")
    assert os.access(folder / "course", os.X_OK)

    def course(*argv, cwd=tmp_path):
        return subprocess.run([str(folder / "course"), *argv], text=True, capture_output=True, check=False, cwd=cwd,
                              timeout=400, env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})

    assert "Usage: ./course" in course("--help").stdout
    assert not (folder / ".venv").exists()

    pyproject = (folder / "pyproject.toml").read_text()
    cut = re.sub(r"(?ms)^dependencies = \[.*?^\]", f"dependencies = {json.dumps(KEPT)}", pyproject)
    cut = re.sub(r"(?ms)^imports = \[.*?^\]", f"imports = {json.dumps([*KEPT, 'gb10'])}", cut)
    cut = re.sub(r"(?m)^torch-cpu-index = .*", 'torch-cpu-index = "http://127.0.0.1:9/whl/cpu"', cut)
    assert cut.count("psutil") == 2
    (folder / "pyproject.toml").write_text(cut)

    first = course("check", "--json")
    if "can't be reached" in first.stderr:
        pytest.skip("NO PACKAGE INDEX HERE: the build of a fresh clone was not tried")
    assert "Setting up the course, once" in first.stderr and "Ready" in first.stderr, first.stderr
    assert first.returncode in (0, 1), first.stderr  # 1: the machine lacks something, which check then names
    assert {"rung", "ok", "checks"} <= set(json.loads(first.stdout))
    assert "Traceback" not in first.stderr

    venv = folder / ".venv"
    settings = json.loads((venv / "share/jupyter/lab/settings/overrides.d/gb10.json").read_text())
    assert settings["@jupyterlab/apputils-extension:kernels-settings"] == {"commsOverSubshells": "disabled"}
    pins = dict(re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", (folder / "requirements.lock").read_text()))
    for name in KEPT:
        assert list(venv.glob(f"lib/python3*/site-packages/{name}-{pins[name]}.dist-info"))
    log = (folder / ".course" / "install.log").read_text()
    assert "Successfully installed" in log

    second = course("--version", cwd=folder)
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout.startswith("gb10 ")
    status = subprocess.run(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=all"], text=True,
                            capture_output=True, check=False).stdout
    assert "??" not in status, "what ./course makes is ignored by git"
