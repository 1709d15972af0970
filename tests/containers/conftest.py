"""A Spark without a Spark: Docker in miniature on PATH, and a machine that says it is a GB10 with nothing running."""

import os
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gb10 import machine
from gb10.engines import find, process, state

GIB = 2**30
THIS = machine.detect(env={})
HERE = Path(__file__).parent


def gb10(available_gib: float = 114.0) -> machine.Machine:
    """A DGX Spark some time after boot."""
    return replace(THIS, rung="spark", gpus=(machine.Gpu("NVIDIA GB10", (12, 1), None),), memory_total_bytes=int(121.6 * GIB),
                   memory_available_bytes=int(available_gib * GIB), memory_limit_bytes=None)


@pytest.fixture
def free_port():
    while True:
        port = random.randint(20000, 60000)
        if process.port_free(port):
            return port


@pytest.fixture
def spark(monkeypatch, tmp_path):
    """spark("memory") chooses what goes wrong (fake_docker.py, served.py); its state folder is spark.docker."""
    docker, notes = tmp_path / "docker", tmp_path / "engines"
    (tmp_path / "bin").mkdir()
    docker.mkdir()
    program = tmp_path / "bin" / "docker"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -S -E {HERE / 'fake_docker.py'} \"$@\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_DOCKER_STATE", str(docker))
    for name in ("GB10_BIND", "GB10_API_KEY", "GB10_URL", "VLLM_PORT", "VLLM_IMAGE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(state, "FOLDER", notes)
    monkeypatch.setattr(machine, "detect", lambda **_: gb10())
    monkeypatch.setattr(find, "KNOWN", ())
    monkeypatch.setattr("gb10.engines.containers.starting.POLL", 0.05)
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "meminfo").write_text(f"MemTotal: {int(121.6 * 2**20)} kB\nMemFree: {110 * 2**20} kB\nCached: {3 * 2**20} kB\n")
    monkeypatch.setattr("gb10.engines.containers.guard.PROC", proc)

    def behave(what):
        monkeypatch.setenv("FAKE_DOCKER", what)

    behave.docker, behave.notes, behave.proc = docker, notes, proc
    behave("good")
    yield behave
    from gb10.engines.containers import docker as command

    behave("good")
    for project in command.projects():
        command.run("compose", "--project-name", project, "down")
