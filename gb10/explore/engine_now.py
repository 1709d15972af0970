"""What an engine on this machine shows of itself from outside: its log, the memory of its processes, its plain pages."""

from __future__ import annotations

import re
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from gb10.engines.fields.wire import headers, opener

GB = 1e9
# what a line of an engine's log tells, and how to know it; vLLM's words, then those of others
TELLING = (
    ("version", r"version \d+\.\d+|vLLM API server version|TensorRT-LLM version|build: \d+"),
    ("architecture", r"Resolved architecture"),
    ("number type", r"dtype[ =]|Upcasting|Casting torch"),
    ("longest request", r"Using max model len"),
    ("weights", r"Loading weights took|Model loading took|Checkpoint size|model size|Load weight"),
    ("KV cache", r"KV cache size|KV cache memory|Available KV cache|KV Cache is allocated|Allocated .* for max tokens|max_total_num_tokens"),
    ("warm-up", r"init engine .* took|Capturing CUDA graph|Graph capturing finished"),
    ("ready", r"Starting vLLM server|Application startup complete|server is listening|The server is fired up|model loaded"),
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HEAD = re.compile(r"^(\([^)]*\)\s*)?((INFO|WARNING|DEBUG):?\s+)?([\d-]+ [\d:,.]+ )?(\[[^\]]*\]\s*)?")


@dataclass(frozen=True)
class Held:
    """Memory of one process. bytes: its own pages, and its share of those that it has in common with others (PSS)."""

    pid: int
    name: str
    bytes: int


def log_of(url: str) -> Path | None:
    """The log file of an engine that the course started here; None for others (a container's: ./course logs)."""
    note = _note(url)
    path = Path(note.log) if note and note.log else None
    return path if path and path.is_file() else None


def telling(text: str) -> list[tuple[str, str]]:
    """(what it tells, the line without its head) for the lines of a log that are worth reading; the last of each kind."""
    found: dict[str, str] = {}
    for line in _COLOUR.sub("", text).splitlines():
        kind = next((what for what, pattern in TELLING if re.search(pattern, line)), None)
        if kind and "non-default args" not in line and "with config:" not in line:
            found[kind] = " ".join(re.sub(r"[█▄▀▐▌▝▘]", "", _HEAD.sub("", line)).split())[:150]
    return [(what, found[what]) for what, _ in TELLING if what in found]


def held(url: str) -> list[Held]:
    """The processes of the engine at this address, largest first; empty if they can't be seen (another user's, a container's)."""
    import psutil

    found: dict[int, Held] = {}
    for pid in _pids(url):
        try:
            top = psutil.Process(pid)
            for p in (top, *top.children(recursive=True)):
                info = p.memory_full_info()
                found[p.pid] = Held(p.pid, p.name(), getattr(info, "pss", 0) or info.rss)
        except (psutil.Error, OSError):
            continue
    return sorted(found.values(), key=lambda h: -h.bytes)


def _pids(url: str) -> list[int]:
    import psutil

    note = _note(url)
    if note and note.pid:
        return [note.pid]
    port = _port(url)
    try:
        return sorted({c.pid for c in psutil.net_connections("tcp") if c.pid and c.status == "LISTEN" and c.laddr.port == port})
    except (psutil.Error, OSError):
        return []


def gpu_processes() -> list[str]:
    """nvidia-smi's list of processes with the GPU memory of each; empty where there is none.

    On a Spark this query works where the memory of the device as a whole is "Not Supported"."""
    if not (program := shutil.which("nvidia-smi")):
        return []
    try:
        done = subprocess.run([program, "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"], capture_output=True,
                              text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in done.stdout.splitlines() if line.strip()]


def page(url: str, path: str, timeout: float = 5.0) -> tuple[int, str]:
    """(status, text) of GET path at the engine's root or, for paths that begin with /v1, below it. (0, why) if nobody answers."""
    root = url.rstrip("/").removesuffix("/v1")
    try:
        with opener().open(urllib.request.Request(root + path, headers=headers()), timeout=timeout) as r:
            return r.status, r.read(4 << 20).decode(errors="replace")
    except urllib.error.HTTPError as e:
        return e.code, e.reason or ""
    except (OSError, ValueError) as e:
        return 0, str(getattr(e, "reason", e))


def _note(url: str):
    from gb10.engines import state

    return next((e for e in state.sweep()[0] if e.url == url.rstrip("/")), None)


def _port(url: str) -> int:
    from urllib.parse import urlsplit

    place = urlsplit(url)
    return place.port or (443 if place.scheme == "https" else 80)
