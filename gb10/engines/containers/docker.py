"""Docker, asked by its command: is it there, does it see the GPU, which containers of the course's run, what do they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gb10.errors import UserError, WorkFailed
from gb10.paths import ROOT

PROJECT = "com.docker.compose.project"
COMPOSE = (2, 23, 1)        # options written inside a file: configs.content
PATIENCE = 60.0     # seconds for a command that should take one


@dataclass(frozen=True)
class Container:
    """What `docker inspect` says of one."""

    id: str
    name: str
    image: str
    status: str                 # created, running, restarting, exited, dead
    exit_code: int
    out_of_memory: bool
    error: str                  # of Docker itself, when it could not be started
    health: str                 # "", starting, healthy, unhealthy
    service: str
    port: int | None            # of this machine, that leads to it

    @property
    def runs(self) -> bool:
        return self.status in ("running", "restarting", "paused")


def run(*words: str, timeout: float = PATIENCE, env: dict[str, str] | None = None, merged: bool = False) -> subprocess.CompletedProcess:
    """A docker command in the course's folder, its output captured; merged: errors among the rest, as they came. Raises WorkFailed if Docker doesn't answer in time."""
    try:
        # In a session of its own: Ctrl-C in the terminal must not reach the command that cleans up after it.
        return subprocess.run(["docker", *words], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if merged else
                              subprocess.PIPE, text=True, errors="replace", timeout=timeout, cwd=ROOT, start_new_session=True,
                              stdin=subprocess.DEVNULL, env=None if env is None else os.environ | env)
    except subprocess.TimeoutExpired:
        raise WorkFailed(f"Docker does not answer (docker {words[0]} took over {timeout:.0f} s): restart it, sudo systemctl "
                         f"restart docker.") from None
    except OSError as e:
        raise UserError(f"docker can't be run ({e.strerror or e}): install Docker, or call ./course check.") from None


def require(gpu: bool = True) -> None:
    """Docker, its compose plugin and NVIDIA's runtime are there and may be used. Raises UserError, a sentence each."""
    if not shutil.which("docker"):
        raise UserError("there is no docker on this machine, in which this engine runs. Without it: ./course up starts vLLM on the "
                        "CPU, and --dry-run --machine gb10 shows what a Spark would be told.")
    info = run("info", "--format", "{{json .}}")
    said = f"{info.stdout} {info.stderr}"
    if "permission denied" in said.lower():
        raise UserError("you may not use Docker: sudo usermod -aG docker $USER, then log in anew.")
    try:
        facts = json.loads(info.stdout)
    except ValueError:
        facts = {}
    if info.returncode or not facts.get("ServerVersion"):
        raise UserError("Docker is installed but doesn't run: sudo systemctl start docker.")
    compose = run("compose", "version", "--short")
    if compose.returncode:
        raise UserError("Docker has no compose plugin: sudo apt install docker-compose-plugin.")
    version = tuple(int(n) for n in re.findall(r"\d+", compose.stdout)[:3])
    if version < COMPOSE:
        raise UserError(f"Docker Compose {compose.stdout.strip()} is too old for the course's files, which need "
                        f"{'.'.join(map(str, COMPOSE))}: sudo apt install --only-upgrade docker-compose-plugin.")
    runtimes = json.dumps(facts.get("Runtimes") or {}) + json.dumps(facts.get("DiscoveredDevices") or [])
    if gpu and "nvidia" not in runtimes:
        raise UserError("Docker doesn't know the GPU: install the NVIDIA Container Toolkit, then sudo nvidia-ctk runtime configure "
                        "--runtime=docker and sudo systemctl restart docker.")


def has_image(image: str) -> bool:
    return run("image", "inspect", "--format", "{{.Id}}", image).returncode == 0


def architecture(image: str) -> str:
    """"arm64", "amd64", …: what an image that is here was built for; "" if that can't be told."""
    return run("image", "inspect", "--format", "{{.Architecture}}", image).stdout.strip()


def find(project: str, service: str | None = None) -> Container | None:
    """The engine's container of a compose project of the course's, running or not; None if there is none. service: None takes
    the engine's, or its worker's of two Sparks. (What else a project has, a web page for instance, doesn't count.)"""
    words = ["ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={PROJECT}={project}"]
    engine = project.removeprefix("gb10-")
    wanted = (service,) if service else (engine, f"{engine}-worker")
    found = (inspect(ident) for ident in run(*words).stdout.split())
    return next((c for c in found if c and c.service in wanted), None)


def inspect(ident: str) -> Container | None:
    done = run("inspect", ident)
    try:
        data = json.loads(done.stdout)[0]
        state, config = data["State"], data["Config"]
        return Container(data["Id"], data["Name"].lstrip("/"), config["Image"], state["Status"], int(state["ExitCode"]),
                         bool(state.get("OOMKilled")), state.get("Error") or "", (state.get("Health") or {}).get("Status") or "",
                         (config.get("Labels") or {}).get("com.docker.compose.service", ""), _port(data))
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _port(data: dict) -> int | None:
    bindings = (data.get("HostConfig") or {}).get("PortBindings") or {}
    for places in bindings.values():
        for place in places or ():
            if str(place.get("HostPort", "")).isdigit():
                return int(place["HostPort"])
    return None


def projects() -> list[str]:
    """Compose projects of the course's that have a running container."""
    done = run("ps", "--filter", f"label={PROJECT}", "--format", "{{.Label \"" + PROJECT + "\"}}", timeout=10)
    return sorted({line.strip() for line in done.stdout.splitlines() if line.strip().startswith("gb10-")})


def log(ident: str, lines: int = 200) -> list[str]:
    """The last lines a container wrote, oldest first."""
    return [line for line in run("logs", "--tail", str(lines), ident, merged=True).stdout.splitlines() if line.strip()]


def lines(command: list[str], env: dict[str, str]) -> Iterator[str]:
    """Run a long command and yield what it writes, line by line; its end is sent as StopIteration.value, the exit code.

    Whoever stops listening (Ctrl-C) ends it.
    """
    proc = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                            errors="replace", cwd=ROOT, env=os.environ | env)
    try:
        for line in proc.stdout:
            yield line.rstrip()
        return proc.wait()
    finally:
        if proc.poll() is None:
            proc.terminate()
            try:
                proc.wait(10)
            except subprocess.TimeoutExpired:
                proc.kill()
                proc.wait()
        proc.stdout.close()


def keep_log(ident: str, file: Path) -> None:
    """Everything a container wrote, into a file, before it is removed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w") as out:
        subprocess.run(["docker", "logs", ident], stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=PATIENCE,
                       check=False, cwd=ROOT)
