"""./course check, first half: gather facts, all at once, none longer than its deadline.

A probe returns plain data; whatever it raises becomes a `Trouble`, and so does one that isn't back in time (a hung
network drive, a driver that doesn't answer): nothing is waited for. What the facts mean is decided in verdicts.py.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gb10 import machine, paths

DEADLINE = 1.7      # seconds for all probes together; ./course check as a whole stays under 2
PORTS = {8000: "./course up", 8001: "TensorRT-LLM", 8002: "vLLM", 8003: "NIM", 11434: "Ollama", 30000: "SGLang"}
TIME_SOURCE = "http://huggingface.co/"      # plain HTTP: with a wrong clock TLS would fail before it could tell


@dataclass(frozen=True)
class Trouble:
    """A fact that could not be had, and why."""

    why: str


@dataclass(frozen=True)
class Port:
    number: int
    taken: bool
    ours: str = ""          # the course's engine that listens there: "vllm, model pico"
    answers: str = ""       # model name, if whoever listens answers as an OpenAI-compatible server
    holder: str = ""        # "pid 123 (python3)", as far as it can be seen


def gather(probes: Mapping[str, Callable[[], object]], deadline: float = DEADLINE) -> dict[str, object]:
    """Run all probes at once in daemon threads and return what is there at the deadline."""
    facts: dict[str, object] = {}

    def one(name, probe):
        try:
            facts.setdefault(name, probe())
        except Exception as e:  # noqa: BLE001  whatever goes wrong in one probe is a fact about that probe
            facts.setdefault(name, Trouble(f"{type(e).__name__}: {e}" if str(e) else type(e).__name__))

    threads = [threading.Thread(target=one, args=item, daemon=True) for item in probes.items()]
    end = time.monotonic() + deadline
    for t in threads:
        t.start()
    for t in threads:
        t.join(max(0.0, end - time.monotonic()))
    return {name: facts.setdefault(name, Trouble(f"no answer within {deadline:g} s")) for name in probes}


# ---------------------------------------------------------------- the probes

def disk(root: Path = paths.ROOT) -> dict:
    import shutil

    usage = shutil.disk_usage(root)
    return {"free": usage.free, "total": usage.total, "engine_installed": paths.VENV_VLLM.is_dir()}


def _is_free(number: int) -> bool:
    with socket.socket() as s:
        if os.name == "posix":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True


def _holder(number: int) -> str:
    import psutil

    try:
        pids = {c.pid for c in psutil.net_connections("inet")
                if c.status == psutil.CONN_LISTEN and c.laddr.port == number and c.pid}
        return ", ".join(f"pid {p} ({psutil.Process(p).name()})" for p in sorted(pids))
    except psutil.Error:
        return ""      # macOS asks for root; another user's process can't be seen


def _model_at(number: int, timeout: float = 0.4) -> str:
    import json
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{number}/v1/models", timeout=timeout) as r:
            models = json.loads(r.read(1_000_000))["data"]
        return str(models[0]["id"])[:80] if models else "no model loaded"
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return ""


def port(number: int) -> Port:
    """Who, if anybody, listens on 127.0.0.1:number."""
    if _is_free(number):
        return Port(number, taken=False)
    ours = ""
    try:
        from gb10.engines import state

        note = state.read(number)
        if note and note.alive:
            ours = f"{note.engine}, model {note.model}, pid {note.pid}"
    except (ImportError, OSError, ValueError, TypeError, AttributeError):
        ours = ""       # a note that can't be read is the engines' business; the port is taken all the same
    return Port(number, True, ours, "" if ours else _model_at(number), "" if ours else _holder(number))


def docker(run: machine.Runner = machine.run_quietly) -> dict:
    """{"installed", "engine": version or "", "why", "compose": version or "", "nvidia": bool}."""
    import json
    import shutil

    if not shutil.which("docker"):
        return {"installed": False, "engine": "", "why": "", "compose": "", "nvidia": False}
    code, out = run(["docker", "info", "--format", "{{json .}}"], DEADLINE - 0.7)
    try:
        info = json.loads(out)
    except ValueError:
        info = {}
    why = " ".join(info.get("ServerErrors") or []) or ("" if info.get("ServerVersion") else " ".join(out.split())[:200])
    compose_code, compose = run(["docker", "compose", "version", "--short"], 0.5)
    devices = json.dumps(info.get("DiscoveredDevices") or [])
    return {
        "installed": True, "engine": "" if code or why else info.get("ServerVersion", ""), "why": why,
        "compose": "" if compose_code else compose.strip(),
        "nvidia": "nvidia" in (info.get("Runtimes") or {}) or "nvidia.com/gpu" in devices,
    }


def hub_token(env: Mapping[str, str] = os.environ) -> str:
    """Where a Hugging Face token is, "" when there is none. The token itself goes no further than this line."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if env.get(name, "").strip():
            return f"in the environment ({name})"
    file = Path(env.get("HF_TOKEN_PATH") or hub_home(env) / "token")
    return f"in {file}" if file.is_file() and file.stat().st_size else ""


def hub_home(env: Mapping[str, str]) -> Path:
    home = env.get("HF_HOME") or os.path.join(env.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home).expanduser()


def model_cache(env: Mapping[str, str] = os.environ, seconds: float = 1.0) -> dict:
    """{"path", "bytes", "complete", "writable"}: size on disk, links counted once; stops adding up after `seconds`."""
    folder = Path(env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE") or hub_home(env) / "hub").expanduser()
    end, total, complete, stack = time.monotonic() + seconds, 0, True, [folder]
    while stack:
        if time.monotonic() > end:
            complete = False
            break
        try:
            with os.scandir(stack.pop()) as entries:
                for e in entries:
                    if e.is_symlink():
                        continue
                    if e.is_dir():
                        stack.append(Path(e.path))
                    else:
                        total += e.stat().st_size
        except OSError:
            continue
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    return {"path": str(folder), "bytes": total, "complete": complete, "writable": os.access(existing, os.W_OK)}


def clock_offset(env: Mapping[str, str] = os.environ, timeout: float = 1.0, url: str = TIME_SOURCE) -> float | None:
    """This clock minus a web server's Date header, in seconds (± 1); None without a network."""
    import urllib.error
    import urllib.request
    from email.utils import parsedate_to_datetime

    if env.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return None

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args):
            return None

    try:
        with urllib.request.build_opener(Stay).open(urllib.request.Request(url, method="HEAD"), timeout=timeout) as r:
            date = r.headers.get("Date")
    except urllib.error.HTTPError as e:
        date = e.headers.get("Date")        # a redirect has a clock too
    except OSError:
        return None
    return time.time() - parsedate_to_datetime(date).timestamp() if date else None


def ntp(run: machine.Runner = machine.run_quietly) -> bool | None:
    """Is the clock kept in step? None where systemd can't say."""
    code, out = run(["timedatectl", "show", "-p", "NTPSynchronized", "--value"], 0.8)
    return {"yes": True, "no": False}.get(out.strip()) if code == 0 else None


def pins(root: Path = paths.ROOT) -> dict:
    """{"wrong": ["name 1.0 instead of 1.1", …], "missing": […], "count"}: installed packages against the pins.

    requirements.lock is a list of constraints: whatever of it is installed must have that version, but what a build
    of torch doesn't need (the CUDA libraries, for the CPU one) may be absent. pyproject's dependencies may not.
    A local version part ("+cpu") counts only when the pin has one.
    """
    import importlib.metadata as md
    import re
    import tomllib

    from packaging.requirements import Requirement

    direct = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    lock = root / "requirements.lock"
    locked = re.findall(r"^[A-Za-z0-9][^\s\\#]*==[^\\#\n]+", lock.read_text() if lock.exists() else "", re.MULTILINE)
    wrong, missing, seen = [], [], set()
    for required, lines in ((True, direct), (False, locked)):
        for line in lines:
            want = Requirement(re.split(r"\s--", line)[0].strip())
            pin = next((s.version for s in want.specifier if s.operator == "=="), None)
            name = re.sub(r"[-_.]+", "-", want.name).lower()
            if pin is None or name in seen or (want.marker and not want.marker.evaluate()):
                continue
            try:
                have = md.version(want.name)
            except md.PackageNotFoundError:
                missing += [want.name] if required else []
                continue
            seen.add(name)
            if (have if "+" in pin else have.split("+")[0]) != pin:
                wrong.append(f"{want.name} {have} instead of {pin}")
    return {"wrong": wrong, "missing": missing, "count": len(seen)}


def work_folder(work: Path = paths.WORK) -> dict:
    from gb10 import workspace

    parent = next(p for p in (work, *work.parents) if p.exists())
    laid, changed = workspace.changed(work)
    return {"exists": work.is_dir(), "writable": parent.is_dir() and os.access(parent, os.W_OK), "laid": laid,
            "changed": changed}


def all_probes() -> dict[str, Callable[[], object]]:
    probes = {
        "machine": lambda: machine.detect(timeout=DEADLINE - 0.3), "disk": disk, "docker": docker,
        "hub_token": hub_token, "model_cache": model_cache, "clock_offset": clock_offset, "ntp": ntp, "pins": pins,
        "work": work_folder,
    }
    return probes | {f"port {n}": (lambda n=n: port(n)) for n in PORTS}
