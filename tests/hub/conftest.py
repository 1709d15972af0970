"""A stand-in hub that offers a small model, a store of the test's own, and the command as a user calls it."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hub_server import REPO, Hub

from gb10 import paths
from gb10.hub import fetching, store
from gb10.paths import ROOT


@pytest.fixture(scope="session")
def pico(tmp_path_factory) -> Path:
    """The shipped model's files, with 2 MB of weights."""
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("model") / "pico"
    shutil.copytree(paths.PICO, folder)
    numbers = np.random.default_rng(6).standard_normal((2, 500, 500), dtype=np.float32)
    save_file({"model.embed_tokens.weight": numbers[0], "lm_head.weight": numbers[1]}, folder / "model.safetensors")
    return folder


@pytest.fixture
def there(pico, tmp_path, monkeypatch):
    """A hub that offers pico, together with pickles that must not be fetched; the store is the test's own."""
    offered = tmp_path / "offered"
    shutil.copytree(pico, offered)
    for bad in ("pytorch_model.bin", "training_args.pt", "modeling_evil.py"):
        (offered / bad).write_bytes(b"pickled or worse")
    server = Hub(offered, REPO)
    monkeypatch.setattr(store, "FOLDER", tmp_path / "state" / "models")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetching.time, "sleep", lambda s: None)
    yield server
    server.close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty Hugging Face cache."""
    from huggingface_hub import constants

    folder = tmp_path / "hf" / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


class Command:
    """`./course …` in processes of their own, whose home and state lie under `base`."""

    def __init__(self, base: Path, **more):
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("GB10_", "HF_", "XDG_"))}
        (base / "home").mkdir(parents=True, exist_ok=True)
        self.base, self.models = base, base / "state" / "models"
        self.env = keep | {"HOME": str(base / "home"), "GB10_STATE": str(base / "state"), "PYTHONPATH": str(ROOT), **more}

    def start(self, *argv, **more) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-m", "gb10", "models", *map(str, argv)], cwd=self.base, env=self.env | more,
                                text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)

    def __call__(self, *argv, **more) -> subprocess.CompletedProcess:
        p = self.start(*argv, **more)
        try:
            out, err = p.communicate(timeout=60)
        finally:
            p.kill()
        return subprocess.CompletedProcess(p.args, p.returncode, out, err)

    def killed_when(self, ready, *argv, sig=signal.SIGKILL, **more) -> tuple[int, str, str]:
        """Start, send the signal as soon as `ready()` is true, return (exit code, stdout, stderr)."""
        p = self.start(*argv, **more)
        end = time.monotonic() + 30
        while not ready():
            assert p.poll() is None and time.monotonic() < end, p.communicate()
            time.sleep(0.01)
        p.send_signal(sig)
        out, err = p.communicate(timeout=30)
        return p.returncode, out, err


@pytest.fixture
def course(tmp_path, there) -> Command:
    """The command on the first machine; it shares its store with the test."""
    return Command(tmp_path, HF_ENDPOINT=there.url, HF_HOME=str(tmp_path / "hf"))


@pytest.fixture
def call(there, cache, tmp_path, monkeypatch, capsys):
    """The same in this process, which is quicker: call("get", REPO) -> what a finished process would have left."""
    from gb10 import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    def run(*argv, **env):
        with monkeypatch.context() as m:
            for name, value in env.items():
                m.setenv(name, value)
            capsys.readouterr()
            try:
                code = cli.main(["models", *map(str, argv)])
            except SystemExit as e:              # argparse
                code = e.code
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(argv, code, out, err)

    return run


@pytest.fixture
def machine(tmp_path):
    """machine("name", VARIABLE="…") -> the command on another machine."""
    return lambda name, **env: Command(tmp_path / name, **env)


@pytest.fixture
def second(machine) -> Command:
    """The command on a second machine: no hub, and no way to one."""
    return machine("second", HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
