"""Build llama-server and llama-quantize from source, once; an interrupted build goes on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from gb10.engines.launch import last_lines
from gb10.engines.llama_cpp import source
from gb10.errors import UserError, WorkFailed
from gb10.paths import STATE
from gb10.progress import Progress

HOME = STATE / "llama.cpp"
PROGRAMS = ("llama-server", "llama-quantize")
# The web page, TLS, tests and examples are not needed; one file without shared libraries can be moved into place at once.
OPTIONS = ("-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
           "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF")
DISK_GB = 0.9                            # archive, source and objects; 0.3 stay
STAMP = "gb10-stamp.json"
_DONE = re.compile(r"^\[\s*(\d+)%\]|^\[(\d+)/(\d+)\]")


def missing() -> str | None:
    """What a build needs and this machine hasn't, as one sentence with the cure; None where everything is there."""
    lacking = [] if shutil.which("cmake") else ["cmake"]
    if not any(shutil.which(c) for c in (os.environ.get("CXX") or "c++", "c++", "g++", "clang++")):
        lacking.append("a C++ compiler")
    if not (shutil.which("make") or shutil.which("ninja")):
        lacking.append("make")
    if not lacking:
        return None
    cure = "xcode-select --install, and cmake from cmake.org" if platform.system() == "Darwin" else \
        "on Debian, Ubuntu and DGX OS: sudo apt install cmake build-essential"
    return f"llama.cpp can't be built here: {' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} missing ({cure})."


def built(home: Path | None = None) -> bool:
    """True if the programs are in place, and are those that this version of the course builds."""
    bin_ = (home or HOME) / "bin"
    try:
        stamp = json.loads((bin_ / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(stamp, dict) and stamp.get("key") == key() and all(os.access(bin_ / p, os.X_OK) for p in PROGRAMS)


def key() -> str:
    """Changes whenever what would be built changes."""
    return hashlib.sha256(json.dumps([source.SHA256, OPTIONS, PROGRAMS, platform.machine()]).encode()).hexdigest()


def build(*, home: Path | None = None, jobs: int | None = None, quiet: bool = False) -> Path:
    """Build the programs if need be and return the folder that holds them.

    jobs: how many compilers at once; None: one for each core. Raises UserError when a tool is missing or the disk is full (nothing
    was changed), WorkFailed when the work failed. What is done is kept: run it again after an interruption.
    """
    home = home or HOME
    if built(home):
        return home / "bin"
    if reason := missing():
        raise UserError(reason)
    existing = next(p for p in (home, *home.parents) if p.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < DISK_GB and not (home / "build").exists():
        raise UserError(f"building llama.cpp needs about {DISK_GB} GB of disk, {free:.1f} GB are free in {existing}: free some first.")
    home.mkdir(parents=True, exist_ok=True)
    with _alone(home / "build.lock", quiet):
        if not built(home):
            tree = source.unpack(source.fetch(home, quiet), home / f"source-{source.VERSION}")
            _make(home, tree, jobs or _cores(), quiet)
            _install(home)
    return home / "bin"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _alone(path: Path, quiet: bool):
    """One build at a time."""
    try:
        import fcntl
    except ImportError:                   # Windows
        yield
        return
    shown = Progress("llama.cpp", quiet=quiet)
    with open(path, "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                shown.update("another process is building it; waiting for that")
                time.sleep(0.5)
        yield


def _make(home: Path, tree: Path, jobs: int, quiet: bool) -> None:
    work, log = home / "build", home / "build.log"
    progress = Progress("llama.cpp", quiet=quiet)
    with open(log, "w", encoding="utf-8") as out:
        if not (work / "CMakeCache.txt").exists():
            shutil.rmtree(work, ignore_errors=True)       # a configuration that was cut off
            _run(["cmake", "-S", str(tree), "-B", str(work), *OPTIONS], out, log, progress, "configuring")
        _run(["cmake", "--build", str(work), "--target", *PROGRAMS, "--parallel", str(jobs)], out, log, progress, "compiling")
    progress.done(f"built, log in {log}")


def _run(command: list[str], out, log: Path, progress: Progress, what: str) -> None:
    """Run to the end, showing how far it is; whatever ends this ends it, too. Raises WorkFailed with the last lines of the log."""
    proc = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while proc.poll() is None:
            progress.update(what + _percent(log))
            with contextlib.suppress(subprocess.TimeoutExpired):
                proc.wait(0.5)
    except BaseException:
        with contextlib.suppress(OSError):
            os.killpg(proc.pid, signal.SIGTERM)
        proc.wait()
        progress.clear()
        raise
    if proc.returncode:
        raise WorkFailed(f"{what} llama.cpp failed (cmake ended with code {proc.returncode}). Its last lines:\n{last_lines(log)}\n"
                         f"The whole log: {log}")


def _percent(log: Path) -> str:
    """", 45 %" from the last line of a make or ninja log that tells, else nothing."""
    with open(log, "rb") as f:
        f.seek(max(0, f.seek(0, os.SEEK_END) - 4000))
        lines = f.read().decode("utf-8", "replace").splitlines()
    for line in reversed(lines):
        if m := _DONE.match(line):
            return f", {m[1] or round(100 * int(m[2]) / int(m[3]))} %"
    return ""


def _install(home: Path) -> None:
    """Move the programs into place, all at once, and remove what only the build needed."""
    partial, final = home / "bin.part", home / "bin"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name in PROGRAMS:
        shutil.copy2(home / "build" / "bin" / name, partial / name)
    done = {"key": key(), "version": source.VERSION, "machine": platform.machine()}
    (partial / STAMP).write_text(json.dumps(done) + "\n", encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    shutil.rmtree(home / "build", ignore_errors=True)
