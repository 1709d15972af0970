"""Gets the compiled loops: numba is imported on the first CPU tensor, compiles once, and keeps its work on disk.

Where it keeps it: in `__pycache__` beside loops.py; in numba's folder for the user where that can't be written (a
shared or read-only checkout); or where NUMBA_CACHE_DIR says. What is kept there is never trusted: if it can't be read,
it is compiled anew, and a machine on which numba can't work at all goes without (`get` returns None).
"""

from __future__ import annotations

import functools
import sys
import threading

_lock = threading.RLock()


@functools.cache
def get(job: str, kind: int):
    """The loops, ready for `job` ("quantize", "round trip" or "dequantize") on elements of that kind: name -> function.

    None where numba can't be used, which is said once on stderr.
    """
    with _lock:
        for attempt in ("as kept", "anew", "unkept"):
            try:
                source, loops = _loops(keep=attempt != "unkept")
                if attempt == "anew":
                    for loop in loops.values():
                        loop.recompile()         # throws away what is kept of it
                source.rehearse(loops, job, kind)
                return loops
            except Exception as e:  # noqa: BLE001  unpickling a damaged file may raise whatever it likes
                reason = e
        _say_without(f"{type(reason).__name__}: {reason}".splitlines()[0])
        return None


@functools.cache
def _loops(keep: bool):
    from numba.core import event

    from gb10.formats.kernels import loops

    event.register("numba:compile", _Notice(loops.__name__, event.Listener))
    return loops, loops.compiled(cache=keep)


def _Notice(module: str, listener: type):
    """Says so in one line on stderr when a loop of `module` is compiled rather than loaded."""

    class Notice(listener):
        def on_start(self, e):
            if e.data["dispatcher"].py_func.__module__ == module:
                _say_compiling()

        def on_end(self, e):
            pass

    return Notice()


@functools.cache
def _say_compiling() -> None:
    print("gb10: compiling the number formats' loops for this machine, once; that takes a few seconds", file=sys.stderr)


@functools.cache
def _say_without(reason: str) -> None:
    print(f"gb10: numba can't be used ({reason}); NVFP4 goes through torch: the same bits, many times slower",
          file=sys.stderr)
