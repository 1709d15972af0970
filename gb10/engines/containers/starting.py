"""Start an engine's container and wait until it answers; stop it again. Whatever fails leaves nothing running."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import time
from pathlib import Path

from gb10.engines import ports, process, state
from gb10.engines.containers import answering, causes, docker, guard
from gb10.engines.containers.planning import Plan
from gb10.errors import UserError, WorkFailed
from gb10.progress import Progress

POLL = 1.0
WORKER_LIVES = 30.0     # seconds
_ARCH = {"aarch64": "arm64", "x86_64": "amd64"}
_NOISE = re.compile(r"^\s*(?:\(\S+ pid=\d+\)\s*)?(?:INFO|WARNING|DEBUG)?\s*(?:\d\d-\d\d \d\d:\d\d:\d\d)?\s*(?:\[[^\]]*\])?\s*")


def start(plan: Plan, *, timeout: float = 1800, quiet: bool = False, drop_caches: bool = False) -> state.Engine:
    """Bring it up; returns its note when it has answered. timeout: s from the container's start to its first answer.

    Raises UserError (refused: nothing was started) or WorkFailed (it was tried; nothing is left running).
    """
    docker.require()
    guard.checkpoint(plan)
    guard.alone(plan)
    state.FOLDER.mkdir(parents=True, exist_ok=True)
    with ports.alone("containers"), ports.held(plan.port, False):
        progress = Progress(f"{plan.spec.title} with {plan.chosen.name}", quiet=quiet)
        with process.terminated_as_interrupt():
            _stopped_pulling(plan, progress)
            guard.alone(plan)           # minutes may have passed
            guard.memory_free(plan, drop_caches)
            return _start(plan, timeout, progress)


def _stopped_pulling(plan: Plan, progress: Progress) -> None:
    try:
        _pull(plan, progress)
    except KeyboardInterrupt:
        progress.clear()
        progress.say("Stopped while the image was fetched: nothing is left running; what has come is kept.")
        raise


def _start(plan: Plan, timeout: float, progress: Progress) -> state.Engine:
    file = state.log_file(plan.port)
    me = os.getpid()        # until it is ready, the note lives as long as this process
    note = state.Engine(plan.spec.name, plan.url, plan.chosen.name, me, None, plan.port, process.identity(me) or "", plan.chosen.given,
                        str(file), "up", container=plan.spec.project)
    t0 = time.monotonic()
    try:
        state.write(note)
        _up(plan, progress)
        _wait(plan, timeout, progress)
        if plan.spec.name == "ollama":
            answering.fetch_into_ollama(plan, progress)
        if plan.role != "worker":
            progress.update("answering for the first time")
            answering.first_answer(plan)
        note.pid, note.identity, note.ready_s = 0, "", round(time.monotonic() - t0, 1)
        state.write(note)
    except BaseException as e:
        with process.undisturbed():
            progress.clear()
            progress.update("stopping it")
            _take_down(plan, file)
            state.remove(plan.port)
            progress.clear()
        if isinstance(e, KeyboardInterrupt):
            progress.say(f"Stopped while {plan.spec.title} was starting: nothing is left running; what was downloaded is kept.")
        raise
    progress.done(f"ready in {note.ready_s} s")
    return note


def _explained(plan: Plan, text: str, otherwise: str) -> WorkFailed:
    last = "\n".join(f"    {line[:160]}" for line in [x for x in text.splitlines() if x.strip()][-6:]) or "    (nothing was written)"
    sentence = causes.why(text, arch=platform.machine(), prefix=plan.spec.prefix, image=_image(plan), model=plan.chosen.given)
    return WorkFailed(f"{plan.spec.title}: {sentence or otherwise}\nThe last lines:\n{last}")


def _image(plan: Plan) -> str:
    """The image that compose would take; "" if it can't say."""
    done = docker.run(*plan.compose("config", "--images", plan.service)[1:], env=plan.environment)
    return next(iter(done.stdout.split()), "") if done.returncode == 0 else ""


def _pull(plan: Plan, progress: Progress) -> None:
    """The image, if it isn't here; wrong architectures are refused now and not by a crash."""
    checked = docker.run(*plan.compose("config", "--quiet")[1:], env=plan.environment)
    if checked.returncode:
        raise UserError(f"compose refuses {plan.file}: {' '.join(checked.stderr.split())[:300]}")
    image = _image(plan)
    if not image or not docker.has_image(image):
        progress.say(f"Fetching the image {image or plan.file}: 10 to 25 GB, once.")
        said, code = [], 0
        lines = docker.lines(plan.compose("--progress", "plain", "pull", plan.service), plan.environment)
        with contextlib.closing(lines):
            while True:
                try:
                    line = next(lines)
                except StopIteration as end:
                    code = end.value
                    break
                said.append(line)
                progress.update(f"fetching the image: {line.strip()[:90]}")
        if code:
            raise _explained(plan, "\n".join(said), "the image could not be fetched.")
    built, this = docker.architecture(image), _ARCH.get(platform.machine(), "")
    if built and this and built != this:
        raise UserError(f"the image {image} is made for {built}, this machine is {this}: take a tag that is, with "
                        f"{plan.spec.prefix}_IMAGE.")


def _up(plan: Plan, progress: Progress) -> None:
    progress.update("starting the container")
    done = docker.run(*plan.command[1:], timeout=180, env=plan.environment)
    if done.returncode:
        raise _explained(plan, f"{done.stdout}\n{done.stderr}", "the container could not be started.")


def _wait(plan: Plan, timeout: float, progress: Progress) -> None:
    """Until /health says yes and the model is listed; the engine's own words are shown meanwhile."""
    t0 = time.monotonic()
    while not _is_up(plan, t0):
        container = docker.find(plan.spec.project, plan.service)
        words = docker.log(container.id, 200) if container else []
        if container is None:
            raise WorkFailed(f"{plan.spec.title}'s container is gone: somebody has removed it.")
        if not container.runs:
            raise _explained(plan, "\n".join(words) + f"\n{container.error}" * bool(container.error), _end(container))
        if time.monotonic() - t0 > timeout:
            raise _explained(plan, "\n".join(words), f"it did not answer within {timeout:.0f} s, and was stopped (--timeout gives it "
                                                     f"longer; a first load of a large model takes 15 minutes).")
        line = next((text for w in reversed(words) if len(text := _NOISE.sub("", w)) > 3), "")
        progress.update(f"{line[:100] or 'starting'} (usually {plan.spec.ready_in})")
        time.sleep(POLL)


def _is_up(plan: Plan, since: float) -> bool:
    if plan.role == "worker":       # it has no port of its own: one that lives for a while has read its settings and waits for the head
        container = docker.find(plan.spec.project, plan.service)
        return bool(container and container.runs) and time.monotonic() - since > WORKER_LIVES
    return answering.ready(plan)


def _end(c: docker.Container) -> str:
    if c.out_of_memory or c.exit_code == 137:
        sure = "for want of memory (exit code 137)" if c.out_of_memory else "(exit code 137), most likely for want of memory"
        return (f"the system ended it {sure}: take fewer users or a shorter context (--users 4 --context 8192), or a smaller model; "
                f"nothing else should be running.")
    return f"its container ended with code {c.exit_code} while starting."


def _take_down(plan: Plan, file: Path) -> None:
    """Remove the container; its words stay in a file, for ./course logs. Never raises: something else is being told."""
    with contextlib.suppress(Exception):
        if container := docker.find(plan.spec.project, plan.service):
            docker.keep_log(container.id, file)
    with contextlib.suppress(Exception):
        docker.run(*plan.compose("down", "--timeout", "30")[1:], timeout=90, env=plan.environment)
    with contextlib.suppress(Exception):        # a compose that was broken off may have left one behind
        if docker.find(plan.spec.project):
            docker.run("compose", "--project-name", plan.spec.project, "down", "--timeout", "30", timeout=90)
