"""The command line as a user calls it: another process, with scratch folders for everything that it writes."""

import os
import subprocess
import sys

import pytest

from gb10.paths import ROOT


@pytest.fixture
def env(tmp_path):
    """An environment whose home, work folder and state lie under tmp_path and in which nothing is declared."""
    e = {k: v for k, v in os.environ.items()
         if not k.startswith(("GB10_", "HF_", "JUPYTER", "SSH_", "DISPLAY", "WAYLAND", "PYTEST"))}
    for name in ("HUGGING_FACE_HUB_TOKEN", "XDG_CACHE_HOME", "IPYTHONDIR"):
        e.pop(name, None)
    (tmp_path / "home").mkdir()
    return e | {"HOME": str(tmp_path / "home"), "GB10_WORK": str(tmp_path / "work"),
                "GB10_STATE": str(tmp_path / "state"), "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def course(env):
    """course("check", "--json", GB10_RUNG="x") -> the finished process, as ./course would have run it."""

    def call(*argv, cwd=ROOT, timeout=60, **more):
        return subprocess.run([sys.executable, "-m", "gb10", *argv], cwd=cwd, env=env | more, text=True,
                              capture_output=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)

    return call
