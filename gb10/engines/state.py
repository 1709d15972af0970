"""What the course has started: one file per port, `.course/engines/PORT.json`, its log beside it.

A file is believed only as far as it can be checked: the process must still be the one that was started. Files of
engines that are gone are removed by whoever meets them; one that can't be read is restored from the running engine.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from gb10.endpoints import STANDIN
from gb10.engines import process
from gb10.errors import WorkFailed
from gb10.paths import STATE

FOLDER = STATE / "engines"
MARK = "GB10_ENGINE_NOTE"       # every engine carries its note in its environment, so that a lost file can be restored


@dataclass
class Engine:
    """One started engine."""

    engine: str
    url: str
    model: str
    pid: int
    ready_s: float | None       # seconds from start to first answer; None while it starts
    port: int
    identity: str               # tells the process from a later one with its pid
    path: str                   # the model folder
    log: str
    owner: str = "up"           # "up": stays until ./course down; "notebook": ends with its kernel
    container: str = ""         # the compose project, of an engine in a container; pid and identity say nothing then

    @property
    def alive(self) -> bool:
        if self.container:
            from gb10.engines import containers

            starts = self.ready_s is None and process.alive(self.pid, self.identity)
            return starts or containers.alive(self.container)
        return process.alive(self.pid, self.identity)

    @property
    def title(self) -> str:
        """How readers know it."""
        if self.container:
            from gb10.engines.containers.spec import SPECS

            return SPECS[self.engine].title if self.engine in SPECS else self.engine
        return {"vllm": "vLLM on the CPU", "standin": STANDIN}.get(self.engine, self.engine)

    @property
    def where(self) -> str:
        return f"container {self.container}" if self.container else f"pid {self.pid}"

    def contract(self) -> dict:
        """The shape that ./course up --json and ./course status --json promise."""
        place = {"container": self.container} if self.container else {"pid": self.pid}
        return {"engine": self.engine, "url": self.url, "model": self.model, **place, "ready_s": self.ready_s}


def file(port: int) -> Path:
    return FOLDER / f"{port}.json"


def log_file(port: int) -> Path:
    return FOLDER / f"{port}.log"


def locks() -> Path:
    """The folder of the locks on ports: one for all checkouts of this user, and nobody else's."""
    folder = Path(tempfile.gettempdir()) / f"gb10-ports-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and (folder.is_symlink() or folder.stat().st_uid != os.getuid()):
        raise WorkFailed(f"{folder} belongs to somebody else; the course keeps its locks on ports there. Set TMPDIR to a "
                         f"folder of your own.")
    return folder


def write(e: Engine) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    tmp = FOLDER / f".{e.port}.{os.getpid()}.tmp"
    try:
        tmp.write_text(json.dumps(asdict(e), indent=1) + "\n")
        os.replace(tmp, file(e.port))
    finally:
        tmp.unlink(missing_ok=True)


def remove(port: int) -> None:
    file(port).unlink(missing_ok=True)


def read(port: int) -> Engine | None:
    """The engine noted for a port, dead or alive; None if there is no note or it can't be read."""
    try:
        data = json.loads(file(port).read_text())
        e = Engine(**data)
        if e.port != port or not isinstance(e.pid, int) or not isinstance(e.identity, str) or not isinstance(e.container, str):
            raise ValueError
        return e
    except OSError:
        return None
    except (ValueError, TypeError):
        return None


def mark(e: Engine) -> str:
    return json.dumps(asdict(e) | {"folder": str(FOLDER)})


def recover(port: int) -> Engine | None:
    """Find the engine that was started on this port by the note in its environment."""
    import psutil

    for p in psutil.process_iter():
        try:
            text = p.environ().get(MARK)
            if not text or os.getsid(p.pid) != p.pid:  # only the one that leads its session
                continue
            data = json.loads(text)
            if data.pop("folder") == str(FOLDER) and data["port"] == port and (ident := process.identity(p.pid)):
                return Engine(**data | {"pid": p.pid, "identity": ident})
        except (psutil.Error, OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
    return None


def ports() -> list[int]:
    return sorted(int(f.stem) for f in FOLDER.glob("*.json") if f.stem.isdigit())


def sweep() -> tuple[list[Engine], list[str]]:
    """(engines that run, sentences about notes that were wrong and have been removed)."""
    running, said = [], []
    for port in ports():
        e = read(port)
        if e is None and (e := recover(port)):
            said.append(f"the note about port {port} could not be read and was restored from the running engine")
            write(e)
            running.append(e)
        elif e is None:
            said.append(f"the note about port {port} could not be read and was removed; nothing of the course's runs there")
            remove(port)
        elif not e.alive:
            if not e.container:
                process.end(e.pid, e.identity)  # children that outlived it
            said.append(f"{e.engine} on port {port} ({e.where}) is gone; its log is {e.log}")
            remove(port)
        else:
            running.append(e)
    return running, said
