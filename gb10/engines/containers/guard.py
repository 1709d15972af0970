"""What stands in the way on this machine: another engine, a missing checkpoint, memory that only looks used."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from gb10.engines.containers import docker, here
from gb10.engines.containers.causes import DROP_CACHES
from gb10.engines.containers.planning import Plan
from gb10.engines.containers.spec import SPECS
from gb10.errors import UserError

GIB = 2**30
SMALL = 8 * GIB         # an engine that takes no more may stand beside another
PROC = Path("/proc")


def alone(plan: Plan) -> None:
    """Refuse a second start of an engine that is up, and a second big engine on unified memory, with the figures: each takes
    its share of the same pool."""
    own = docker.find(plan.spec.project)
    if own and own.runs:
        raise UserError(f"{plan.spec.title} is up already" + (f" on port {own.port}" if own.port else "") + ": starting it again would "
                        "end that one. ./course down first.")
    others = [*_containers(plan), *_foreign(plan)]
    if others and plan.budget.needed > SMALL:
        raise UserError(f"{others[0]} is up already, and {plan.spec.title} with {plan.chosen.name} would take {plan.budget}: one big "
                        f"engine at a time, or the machine wedges. Stop the other first: {_how(others[0])}.")


def _how(other: str) -> str:
    if "(the course's)" not in other:
        return "ollama stop MODEL, or end the program"
    name = other.split()[0]
    return "./course down" if name in SPECS else f"docker compose --project-name gb10-{name} down"


def _containers(plan: Plan) -> list[str]:
    return [f"{p.removeprefix('gb10-')} (the course's) in a container" for p in docker.projects() if p != plan.spec.project]


def _foreign(plan: Plan) -> list[str]:
    """Engines of others that answer on this machine; an Ollama counts when it holds a model."""
    from gb10.engines import find, state

    known = {e.url for e in state.sweep()[0]} | {plan.url}
    known |= {f"http://127.0.0.1:{SPECS[p].host_port()}/v1" for name in docker.projects() if (p := name.removeprefix("gb10-")) in SPECS}
    found = []
    for e in find.running():
        if e["url"] in known:
            continue
        if e["engine"] != "Ollama":
            found.append(f"{e['engine']} with {e['models'][0]} at {e['url']}")
        elif loaded := _loaded(e["url"]):
            found.append(f"Ollama with {loaded}")
    return found


def _loaded(url: str) -> str:
    try:
        with here.open(url.removesuffix("/v1") + "/api/ps", timeout=2) as r:
            rows = json.load(r)["models"]
        return ", ".join(f"{m['name']} ({m['size'] / GIB:.1f} GiB)" for m in rows)
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def checkpoint(plan: Plan) -> None:
    """A folder that the plan relies on is there, and so is the key without which a NIM fetches nothing. Raises UserError."""
    if plan.spec.name == "nim" and not os.environ.get("NGC_API_KEY"):
        raise UserError("a NIM needs NGC_API_KEY in the environment (from ngc.nvidia.com; it is stored nowhere), and once docker login "
                        "nvcr.io --username '$oauthtoken' --password-stdin.")
    folder = plan.chosen.folder
    if folder is not None and not (folder / "config.json").exists():
        raise UserError(f"there is no checkpoint in {folder}" + (f": {plan.chosen.notes[0]}." if plan.chosen.notes else "."))


def memory_free(plan: Plan, drop: bool) -> None:
    """vLLM and SGLang look at MemFree, which on a Spark counts page cache as used; what they ask for has to be free there.

    drop: give the page cache back first (with sudo, which may ask for a password). Raises UserError with the cure.
    """
    short = _short(plan)
    if short and drop:
        import subprocess

        print(f"Giving the page cache back: {DROP_CACHES}", file=sys.stderr)
        if subprocess.run(["sudo", "sh", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches"], check=False).returncode:
            raise UserError(f"the page cache could not be given back: call it yourself, {DROP_CACHES}")
        short = _short(plan)
    if short:
        wanted, free, cache = (f"{n / GIB:.1f}" for n in short)
        raise UserError(f"{plan.spec.title} would ask for {wanted} GiB and see only {free} as free: {cache} GiB hold files that were read, "
                        f"which it takes for used. Give them back: {DROP_CACHES} (or the same command with --drop-caches).")


def _short(plan: Plan) -> tuple[float, float, float] | None:
    """(asked for, MemFree, page cache) where the second is less than the first although the memory is there."""
    if plan.spec.memory not in ("total", "static") or not plan.budget.unified:
        return None
    try:
        text = (PROC / "meminfo").read_text()
    except OSError:
        return None
    kb = {k: int(v) * 1024 for k, v in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    wanted = plan.budget.share(plan.spec.memory) * plan.budget.total
    free = kb.get("MemFree", 0)
    return (wanted, free, kb.get("Cached", 0)) if free < wanted else None
