"""Gets the compiled loops: from the disk where they are kept, else compiled for this processor and put there.

They lie in `__pycache__` beside loops.py; in the user's cache folder where that can't be written (a shared or read-only
checkout); or where NUMBA_CACHE_DIR says. The file's name holds what they were made from and for, its first bytes a
checksum: one that is stale or damaged is made anew. A machine on which that can't be done goes without: `loops` returns
None, and the formats go through torch.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("build.py", "loops.py", "vectors.py")
_lock = threading.Lock()
_loaded: list = []                               # the dictionary of loops or None, once that is known


def loops() -> dict[str, Callable[..., int]] | None:
    """name -> function of pointers and counts (Python integers; loops.py, EXPORTS). Python's lock is let go of meanwhile.

    The first call on a machine compiles, which is said on stderr and takes a few seconds.
    """
    if not _loaded:
        with _lock:
            if not _loaded:
                _loaded.append(_get())
    return _loaded[0]


def _get() -> dict[str, Callable[..., int]] | None:
    try:
        name = _name()
        kept = _read(name)
        if kept is None:
            from gb10.formats.kernels import build  # first: without numba there is nothing to announce

            _say("compiling the loops of the number formats for this processor; that takes a few seconds, once")
            kept = build.build()
            if not _keep(name, *kept):
                _say("no folder to keep them in can be written: every start compiles them (NUMBA_CACHE_DIR names one)")
        return _callable(*kept)
    except Exception as e:  # noqa: BLE001 - numba or LLVM may be missing or fail in any way; torch does the same work
        _say(f"the compiled loops can't be had ({type(e).__name__}: {str(e).splitlines()[0] if str(e) else 'no reason'}); "
             f"NVFP4 goes through torch: the same bits, many times slower")
        return None


def _say(sentence: str) -> None:
    print(f"gb10: {sentence}", file=sys.stderr)


def _name() -> str:
    """A file name that changes with the loops, LLVM and the processor."""
    import llvmlite
    import llvmlite.binding as llvm

    made = hashlib.sha256()
    for source in SOURCES:
        made.update((HERE / source).read_bytes())
    made.update(f"{llvmlite.__version__} {llvm.llvm_version_info} {llvm.get_process_triple()} {llvm.get_host_cpu_name()} "
                f"{llvm.get_host_cpu_features().flatten()}".encode())
    return f"gb10-loops-{made.hexdigest()[:20]}.o"


def _folders() -> Iterator[Path]:
    if os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(os.environ["NUMBA_CACHE_DIR"])
    yield HERE / "__pycache__"
    try:
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gb10"
    except RuntimeError:                         # no home
        return


def _read(name: str) -> tuple[bytes, dict[str, int]] | None:
    """(object code, number of arguments of each loop), if a sound copy is kept."""
    for folder in _folders():
        try:
            data = (folder / name).read_bytes()
        except OSError:
            continue
        digest, _, rest = data.partition(b"\n")
        if digest == hashlib.sha256(rest).hexdigest().encode():
            arguments, _, code = rest.partition(b"\n")
            return code, json.loads(arguments)
    return None


def _keep(name: str, code: bytes, arguments: dict[str, int]) -> bool:
    rest = json.dumps(arguments).encode() + b"\n" + code
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=name, delete=False) as f:
                f.write(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
            os.replace(f.name, folder / name)    # whole or not at all, also when two processes compile at once
            return True
        except OSError:
            continue
    return False


def _callable(code: bytes, arguments: dict[str, int]) -> dict[str, Callable[..., int]]:
    engine, llvm = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    # ctypes: an int64 and a pointer are passed alike on every 64-bit processor, and Python's lock is let go of.
    return {name: ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * n)(engine.get_function_address(name))
            for name, n in arguments.items()}


@functools.cache
def _engine():
    """LLVM's engine, which holds the loaded code for as long as the process lives."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine), llvm
