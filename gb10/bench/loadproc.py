"""The load process: a bare interpreter that does nothing but send, receive and write lines.

Parent and load process talk in JSON lines. On stdin: one Spec a line; the end of stdin stops whatever runs. On stdout:
{"p": …} four times a second, and {"done": …} or {"failed": "a sentence"} at the end of each.

The process ignores Ctrl-C (its parent tells it to stop), imports neither packages nor site-packages, and is the only one
that writes the journal: a line is in the file when the next request of its slot has hardly begun.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from gb10.bench.load import Load
from gb10.bench.lock import lock
from gb10.bench.spec import Spec
from gb10.errors import CourseError, WorkFailed


def main() -> None:
    """The load process itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stdin, buffer = sys.stdin.fileno(), b""
    while True:
        line, buffer = _line(stdin, buffer)
        if not line:
            return
        spec, rows, file = Spec.from_json(line), [], None
        _allow_files(spec.concurrency + 64)
        try:
            if spec.journal:
                file = os.open(spec.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                lock(file)
            write = rows.append if file is None else lambda row, file=file: _append(file, row)
            load = Load(spec, write, lambda row: _say({"p": row}), stdin)
            done = load.run()
            _say({"done": done | ({"rows": rows} if file is None else {})})
        except OSError as e:
            _say({"failed": f"the load process can't go on ({e.strerror or e}" + (f": {e.filename}" if e.filename else "") + ")."})
        except CourseError as e:
            _say({"failed": e.message})
        finally:
            if file is not None:
                os.close(file)


def _line(stdin: int, buffer: bytes) -> tuple[bytes, bytes]:
    while b"\n" not in buffer:
        more = os.read(stdin, 1 << 20)
        if not more:
            return b"", b""
        buffer += more
    line, _, buffer = buffer.partition(b"\n")
    return line, buffer


def _allow_files(count: int) -> None:
    """So many open files, as far as the system lets this process: the usual 1024 are too few for 1024 connections."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard))


def _append(file: int, row: dict) -> None:
    """One line, whole or not at all as far as the system allows: a single write to a file opened for appending."""
    data = json.dumps(row, separators=(",", ":")).encode() + b"\n"
    try:
        while data:
            data = data[os.write(file, data):]
    except OSError as e:
        raise WorkFailed(f"the journal can't be written ({e.strerror}); what had finished before is in it.") from e


def _say(row: dict) -> None:
    try:
        sys.stdout.write(json.dumps(row, separators=(",", ":")) + "\n")
        sys.stdout.flush()
    except OSError:                      # the parent is gone; so shall we be when we next look
        pass
