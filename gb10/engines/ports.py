"""The port an engine is started on: asked for, held while it starts, and who has it if it can't be had."""

from __future__ import annotations

import contextlib

from gb10.endpoints import KNOWN
from gb10.engines import process, state
from gb10.errors import UserError

PORT = 8000                     # "a model of one's own"


def checked(port: int | None) -> int:
    if port is None:
        return PORT
    if not 1024 <= port <= 65535:
        raise UserError(f"port {port} can't be used: take one from 1024 to 65535 (8000 is the course's own).")
    return port


@contextlib.contextmanager
def held(port: int, next_free: bool):
    """Hold the start of engines on this port, once it is known to be free; the next free one if that is allowed, but none
    that is another engine's usual place, where notebooks would take it for that.

    The lock is the user's, not the checkout's: vLLM binds its port with SO_REUSEPORT, so that two courses starting at
    the same moment would both get it and answer each other's requests.
    """
    locks = state.locks()
    others = {int(url.rsplit(":", 1)[1].split("/")[0]) for name, url in KNOWN if name != "own"}
    for candidate in (port, *(n for n in range(port + 1, port + 30) if next_free and n not in others)):
        with open(locks / f"{candidate}.lock", "w") as lock:
            if not _try_lock(lock):
                reason = "another start on it is under way"
            elif reason := taken(candidate):
                pass
            else:
                yield candidate
                return
    raise UserError(f"port {port} is taken: {reason}. Take another (--port {port + 3}), or stop what holds it.")


@contextlib.contextmanager
def alone(what: str):
    """One at a time on this machine. Raises UserError if somebody else is at it."""
    with open(state.locks() / f"{what}.lock", "w") as lock:
        if not _try_lock(lock):
            raise UserError("another engine is being started in a container just now: wait until it is up, ./course status shows it.")
        yield


def _try_lock(lock) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: two starts at the same moment are then told apart by the port alone
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def taken(port: int) -> str | None:
    """Why the port can't be had, as a clause; None if it can. Notes of engines that are gone are cleared away."""
    running, _ = state.sweep()
    for e in running:
        if e.port == port:
            return f"the course's own {e.engine} serves {e.model} there ({e.where}; ./course down --port {port} stops it)"
    if process.port_free(port):
        return None
    return f"{process.holder(port) or 'a program of another user'} listens there"
