"""Containers of the course's that are there: does this one run, end it; and those started by hand."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from gb10.engines import state
from gb10.engines.containers import docker
from gb10.engines.containers.spec import SPECS
from gb10.errors import UserError, WorkFailed


def alive(project: str) -> bool:
    """Does the container of this project run? If Docker doesn't answer in time: as far as is known, yes."""
    try:
        container = docker.find(project)
    except UserError:       # there is no Docker
        return False
    except WorkFailed:
        return True
    return bool(container and container.runs)


def stop(project: str, log: Path | None = None) -> bool:
    """docker compose down, by the project's name alone; True if nothing of it runs any more."""
    if log and (container := docker.find(project)):
        docker.keep_log(container.id, log)
    done = docker.run("compose", "--project-name", project, "down", "--timeout", "30", timeout=90)
    return done.returncode == 0 and not alive(project)


def adopt() -> list[state.Engine]:
    """Engines that somebody started with docker compose itself, in the course's folder or a lesson's: noted, so that status,
    logs and down know them. Nothing is asked where there is no docker."""
    found = []
    if not shutil.which("docker"):
        return found
    with contextlib.suppress(UserError, WorkFailed):
        for project in docker.projects():
            engine = SPECS.get(project.removeprefix("gb10-"))
            container = docker.find(project) if engine else None
            if container is None or not container.runs or _known(project):
                continue
            port = container.port or engine.port
            found.append(state.Engine(engine.name, f"http://127.0.0.1:{port}/v1", _model(port), 0, None, port, "", "",
                                      str(state.log_file(port)), "compose", container=project))
            state.write(found[-1])
    return found


def _known(project: str) -> bool:
    """Is it noted? One that was adopted while it loaded is asked again what it serves."""
    note = next((e for p in state.ports() if (e := state.read(p)) and e.container == project), None)
    if note and note.owner == "compose" and (model := _model(note.port)) != note.model:
        note.model = model
        state.write(note)
    return note is not None


def _model(port: int) -> str:
    from gb10.engines import find

    return next(iter(find.models(f"http://127.0.0.1:{port}/v1")[0]), "its model is not loaded yet")
