"""Processes and ports: who is this pid really, who holds this port, end a process and all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

PATIENCE = 10.0     # seconds between SIGTERM and SIGKILL


def identity(pid: int) -> str | None:
    """What tells this process from a later one with the same pid; None if it does not run (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        if fields[0] in "ZX":
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{fields[19]}"  # field 22: start time in clock ticks since the machine started
    except (OSError, ValueError, IndexError):
        if os.path.isdir("/proc/self"):
            return None
    import psutil

    try:
        p = psutil.Process(pid)
        return None if p.status() == psutil.STATUS_ZOMBIE else f"{p.create_time():.0f}"
    except psutil.Error:
        return None


def alive(pid: int, ident: str) -> bool:
    """Does exactly this process still run?"""
    return isinstance(pid, int) and pid > 1 and bool(ident) and identity(pid) == ident


def end(pid: int, ident: str) -> bool:
    """Ask a process and everything it started to end (SIGTERM), after PATIENCE make them (SIGKILL).

    Only the process with this identity is touched, never one that got its pid later. What it left behind in its
    session after it died itself is ended too. True if nothing of it runs any more.
    """
    import psutil

    victims = []
    if alive(pid, ident):
        with contextlib.suppress(psutil.Error):
            leader = psutil.Process(pid)
            victims = [leader, *leader.children(recursive=True)]
    if hasattr(os, "getsid"):
        # The engine leads a session of its own, and a session's number is not given out again while it has a member.
        known = {p.pid for p in victims}
        if identity(pid) in (None, ident):
            for p in psutil.process_iter():
                with contextlib.suppress(psutil.Error, OSError):
                    if p.pid not in known and p.pid != os.getpid() and os.getsid(p.pid) == pid:
                        victims.append(p)
    for stop, wait in (("terminate", PATIENCE), ("kill", 5.0)):
        for p in victims:
            with contextlib.suppress(psutil.Error):
                getattr(p, stop)()
        _, victims = psutil.wait_procs(victims, timeout=wait)
        _reap(pid)
        if not victims:
            return True
    return False


def _reap(pid: int) -> None:
    """If it was our own child, take its exit status, so that no zombie stays."""
    with contextlib.suppress(ChildProcessError, OSError, AttributeError):
        os.waitpid(pid, os.WNOHANG)


def port_free(port: int) -> bool:
    """Can 127.0.0.1:port be bound now? (Connections that linger in TIME_WAIT don't count.)"""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        if os.name == "posix":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.settimeout(0.3)
        return s.connect_ex(("127.0.0.1", port)) != 0


def wait_port_free(port: int, seconds: float = 10.0) -> bool:
    limit = time.monotonic() + seconds
    while not port_free(port):
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True


def holder(port: int) -> str | None:
    """Who listens there, as "NAME (pid N)"; None where the system won't tell (another user's process)."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for c in psutil.net_connections(kind="tcp"):
            if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid:
                return f"{psutil.Process(c.pid).name()} (pid {c.pid})"
    return None


@contextlib.contextmanager
def undisturbed():
    """Within this block Ctrl-C and SIGTERM are ignored: a clean-up that is broken off leaves something running."""
    try:
        old = [(s, signal.signal(s, signal.SIG_IGN)) for s in (signal.SIGINT, signal.SIGTERM)]
    except ValueError:      # not the main thread
        old = []
    try:
        yield
    finally:
        for s, handler in old:
            signal.signal(s, handler)


class terminated_as_interrupt:
    """Within this block SIGTERM raises KeyboardInterrupt, so that clean-up happens for both. Main thread only."""

    def __enter__(self):
        def raise_(_signum, _frame):
            raise KeyboardInterrupt

        try:
            self._old = signal.signal(signal.SIGTERM, raise_)
        except ValueError:  # not the main thread
            self._old = None
        return self

    def __exit__(self, *_):
        if self._old is not None:
            signal.signal(signal.SIGTERM, self._old)
