"""A run on disk: a folder with meta.json, journal.jsonl and telemetry.jsonl.

meta.json says what was asked of whom, with what, on what machine; it is written before the first request and replaced
whole when something is learned. The journals only grow, a line at a time, so a run that is killed keeps all that had
finished. A last line without its end is what a kill can leave: reading passes over it. Nothing here changes a run that is
being read, and files of another kind or another version are refused.

Lines of journal.jsonl, told apart by "k":
    start    a cell begins: cell, unix
    req      a request is over (`gb10.bench.flight`)
    end      a cell is over: totals of the load process
    resume   the run was taken up again
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from gb10.bench.lock import lock
from gb10.errors import UserError, WorkFailed

FORMAT, VERSION = "gb10-bench", 1
OUTLIVES = 3.0                   # seconds in which a load process notices that its command is gone
META, JOURNAL, TELEMETRY = "meta.json", "journal.jsonl", "telemetry.jsonl"


def home() -> Path:
    """Where runs go unless told otherwise: GB10_BENCH, else bench-results/ in the course's folder."""
    from gb10.paths import ROOT

    return Path(os.environ.get("GB10_BENCH") or ROOT / "bench-results")


class Run:
    """A run's folder."""

    def __init__(self, folder: Path, meta: dict):
        self.folder, self.meta = folder, meta
        self._locks: list[int] = []

    @property
    def journal(self) -> Path:
        return self.folder / JOURNAL

    @property
    def telemetry(self) -> Path:
        return self.folder / TELEMETRY

    @property
    def id(self) -> str:
        return self.meta["id"]

    # ------------------------------------------------------------ writing

    @classmethod
    def create(cls, meta: dict, under: Path) -> Run:
        """A new folder, named after the run's time, engine and model. Raises WorkFailed when it can't be written."""
        try:
            under.mkdir(parents=True, exist_ok=True)
            name, n = meta["id"], 1
            while True:
                try:
                    (under / name).mkdir()
                    break
                except FileExistsError:
                    n += 1
                    name = f"{meta['id']}-{n}"
            run = cls(under / name, {"format": FORMAT, "version": VERSION} | meta | {"id": name})
            run.save()
            run.journal.touch()
        except OSError as e:
            raise WorkFailed(f"results can't be written to {under} ({e.strerror}): name another folder with --results.") from e
        return run

    def save(self) -> None:
        """Write meta.json anew, whole or not at all."""
        partial = self.folder / f".{META}.{os.getpid()}"
        try:
            partial.write_text(json.dumps(self.meta, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            os.replace(partial, self.folder / META)
        except OSError as e:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise WorkFailed(f"{self.folder / META} can't be written ({e.strerror}).") from e

    def hold(self) -> None:
        """Keep others from measuring into this run until this process ends. Raises UserError when one does.

        A lock on the folder for the command, one on the journal for its load process, which can outlive it by a moment.
        """
        busy = UserError(f"{self.id} is still being measured by another process: wait for it, or stop it.")
        try:
            for path in (self.folder, self.journal):
                self._locks.append(os.open(path, os.O_RDONLY))
        except OSError as e:
            self.release()
            raise UserError(f"{self.journal} can't be read ({e.strerror}).") from e
        command, load = self._locks
        end = monotonic() + OUTLIVES
        while not (free := lock(command)) or not lock(load):
            if not free or monotonic() > end:
                self.release()
                raise busy
            sleep(0.05)
        os.close(self._locks.pop())                       # our own load process will want it

    def release(self) -> None:
        while self._locks:
            os.close(self._locks.pop())

    def append(self, row: dict) -> None:
        append(self.journal, row)

    def mend(self) -> None:
        """Before appending to a run that was killed: end the line it may have been killed in."""
        try:
            with open(self.journal, "rb+") as f:
                if f.seek(0, os.SEEK_END) and (f.seek(-1, os.SEEK_END), f.read(1))[1] != b"\n":
                    f.write(b"\n")
        except OSError as e:
            raise WorkFailed(f"{self.journal} can't be written ({e.strerror}).") from e

    # ------------------------------------------------------------ reading

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """An existing run: its folder or a file in it. Raises UserError for whatever is none."""
        folder = Path(folder)
        path = folder / META
        try:
            if folder.is_file():
                folder = folder.parent
                path = folder / META
            meta = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{folder} is no run: it has no {META}. './course bench --report' lists the runs.") from None
        except (OSError, ValueError, RecursionError) as e:
            raise UserError(f"{path} can't be read ({getattr(e, 'strerror', None) or 'not JSON'}); it was left as it is.") from e
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise UserError(f"{path} was not written by this benchmark; it was left as it is.")
        if meta.get("version") != VERSION:
            raise UserError(f"{path} is of version {meta.get('version')} of the format, and this program reads version {VERSION}; it "
                            "was left as it is.")
        if lacks := _lacks(meta):
            raise UserError(f"{path} lacks {lacks}; it was left as it is.")
        return cls(folder, meta)

    def rows(self) -> Iterator[dict]:
        """The lines of the journal, one at a time. Raises UserError for a line that is neither JSON nor cut off by a kill."""
        yield from rows(self.journal)

    def samples(self) -> Iterator[dict]:
        """The lines of telemetry; none where there is no such file."""
        if self.telemetry.exists():
            yield from rows(self.telemetry)


# What is read without asking whether it is there; a cell's endpoint must be one of those listed.
_NEEDED = {"id": str, "cells": list, "endpoints": list, "workload": dict}
_NEEDED_IN = {"endpoints": {"engine": str, "model": str, "url": str}, "cells": {"cell": int, "endpoint": int, "concurrency": int}}


def _lacks(meta: dict) -> str:
    """What a meta file must say and this one does not; "" for a sound one."""
    for key, kind in _NEEDED.items():
        if not isinstance(meta.get(key), kind):
            return f"'{key}'"
    for name, keys in _NEEDED_IN.items():
        for row in meta[name]:
            for key, kind in keys.items():
                if not (isinstance(row, dict) and isinstance(row.get(key), kind)):
                    return f"'{key}' in one of its {name}"
    if not isinstance(meta["workload"].get("max_tokens"), int):
        return "'max_tokens' in its workload"
    if not all(cell["concurrency"] > 0 and isinstance(cell.get("rate"), int | float | None) for cell in meta["cells"]):
        return "a load that makes sense in one of its cells"
    lines, notes = meta.get("roofline") or [], meta.get("notes") or []
    if not (isinstance(lines, list) and isinstance(notes, list) and all(isinstance(row, dict) and "text" in row for row in lines)):
        return "notes or roofline lines as this benchmark writes them"
    if not all(0 <= cell["endpoint"] < len(meta["endpoints"]) for cell in meta["cells"]):
        return "an endpoint that one of its cells names"
    return "" if meta["endpoints"] else "an endpoint"


def append(path: Path, row: dict) -> None:
    """One line at the end of a file, in one write. Raises WorkFailed."""
    data = json.dumps(row, separators=(",", ":")).encode() + b"\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            while data:
                data = data[os.write(fd, data):]
        finally:
            os.close(fd)
    except OSError as e:
        raise WorkFailed(f"{path} can't be written ({e.strerror}).") from e


def rows(path: Path) -> Iterator[dict]:
    try:
        file = open(path, "rb")          # noqa: SIM115 - closed below
    except OSError as e:
        raise UserError(f"{path} can't be read ({e.strerror}).") from e
    with file:
        torn = 0                         # the number of a line that is no JSON
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError  # noqa: TRY004 - handled as what it is: a line that is none of ours
            except (ValueError, RecursionError):
                if torn:
                    raise UserError(f"line {torn} of {path} is not what this benchmark writes; the file was left as it is.") from None
                torn = number
                continue
            if torn and row.get("k") != "resume":
                raise UserError(f"line {torn} of {path} is not what this benchmark writes; the file was left as it is.")
            torn = 0
            yield row


def runs(under: Path | None = None) -> list[Run]:
    """All runs under a folder, the newest first; what is no run is passed over."""
    found = []
    for path in sorted((under or home()).glob(f"*/{META}"), reverse=True):
        try:
            found.append(Run.open(path.parent))
        except UserError:
            continue
    return sorted(found, key=lambda r: str(r.meta.get("created")), reverse=True)


def find(name: str | None, under: Path | None = None) -> Run:
    """The run with this name, number (1 is the newest) or folder; the newest without one. Raises UserError."""
    if name and (os.path.exists(name) or os.sep in name):
        return Run.open(name)
    known = runs(under)
    if not known:
        raise UserError(f"there is no run under {under or home()} yet: make one with ./course bench --engine vllm, for instance.")
    if not name or name in ("last", "latest"):
        return known[0]
    if name.isdecimal() and 1 <= int(name) <= len(known):
        return known[int(name) - 1]
    fitting = [r for r in known if name in r.id]
    if len(fitting) == 1:
        return fitting[0]
    why = "no run is named so" if not fitting else f"{len(fitting)} runs are named so"
    raise UserError(f"{name}: {why}; './course bench --report --list' shows them.")
