"""A run from the first question to the last figure: endpoints, cells in their order, the journal, what is told meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from datetime import UTC
from time import sleep, time

from gb10.bench import live as live_views
from gb10.bench.endpoint import Endpoint
from gb10.bench.figures import Figures
from gb10.bench.journal import Run, home
from gb10.bench.resume import ENDLESS, left
from gb10.bench.summary import figures
from gb10.bench.telemetry import Telemetry, driver, idle_power
from gb10.bench.worker import Worker
from gb10.endpoints import UNKNOWN
from gb10.errors import WorkFailed

BLOCKS = 6                       # of each engine in a comparison, in the order A B B A A B B A …
REST_S = 1.5                     # after the last request, before the GPU's idle power is read, and while it is


def plan(o, endpoints: int) -> list[dict]:
    """The cells of a run, in the order in which they are measured."""
    cells: list[dict] = []
    blocks = BLOCKS if endpoints > 1 else 1
    for concurrency in o.levels:
        for rate in o.rates or [None]:
            for block in range(blocks):
                order = range(endpoints) if block % 2 == 0 else reversed(range(endpoints))
                for endpoint in order:
                    requests = None if o.requests is None else max(1, -(-o.requests // blocks))
                    cells.append({"cell": len(cells), "endpoint": endpoint, "concurrency": concurrency, "rate": rate, "block": block, "blocks": blocks,
                                  "requests": requests, "seconds": None if o.seconds is None else o.seconds / blocks,
                                  "poisson": o.arrivals == "poisson"})
    return cells


class Campaign:
    """One run. `execute` returns the Run; `interrupted` tells whether a person stopped it."""

    def __init__(self, o, endpoints: list[Endpoint], worker: Worker, view: live_views.Silent):
        self.o, self.endpoints, self._worker, self.view = o, endpoints, worker, view
        self.interrupted = False
        self.trouble = ""
        self.groups: list[Figures] = []

    # ------------------------------------------------------------ the whole

    def execute(self, run: Run | None = None) -> Run:
        """Measure. run: one to go on with. Raises WorkFailed when nothing could be measured at all."""
        if run:
            run.hold()
        todo = left(run) if run else {}
        before = self._catch_ctrl_c()
        try:
            salt = int(run.meta["salt"]) if run else int.from_bytes(os.urandom(8), "big")
            for e in self.endpoints:
                e.prepare(self.o, self._worker, salt)
                self.view.note(prepared(e, self.o))
            if run is None:
                run = Run.create(self._meta(salt), home() if self.o.results is None else _path(self.o.results))
                run.hold()
                todo = {c["cell"]: whole(c) for c in run.meta["cells"]}
            else:
                run.mend()
                run.append({"k": "resume", "unix": time()})
            self.view.note(announcement(run.meta["cells"], self.endpoints, self.o, todo))
            with Telemetry(run.telemetry) as telemetry:
                self._cells(run, todo, salt, telemetry)
        except WorkFailed:
            if self.interrupted:                          # before there was anything to report
                raise KeyboardInterrupt from None
            raise
        finally:
            self._restore_ctrl_c(before)
            self.view.close()
        run.release()
        run.meta["ended"], run.meta["stopped"] = now_text(), self.interrupted or bool(self.trouble)
        self.groups = figures(run)
        self._learn(run)
        try:
            run.save()
        except WorkFailed as e:                           # the figures are there all the same
            self.trouble = self.trouble or e.message
            run.meta["notes"].append(e.message)
        return run

    def _cells(self, run: Run, todo: dict, salt: int, telemetry: Telemetry) -> None:
        failed = set()                                    # endpoints that are gone
        for cell in run.meta["cells"]:
            work = todo.get(cell["cell"])
            if work is None or cell["endpoint"] in failed or self.interrupted:
                continue
            endpoint = self.endpoints[cell["endpoint"]]
            spec = endpoint.spec(self.o, salt).but(
                cell=cell["cell"], name=run.id, todo=work["todo"], seconds=work["seconds"], concurrency=cell["concurrency"],
                least=cell["concurrency"] + 1 if cell["seconds"] else 0, rate=cell["rate"], poisson=cell["poisson"], journal=str(run.journal))
            self.view.cell(cell, endpoint)
            try:
                run.append({"k": "start", "cell": cell["cell"], "unix": time()})
                done = self._worker.run(spec, lambda row: self.view.progress(row, telemetry.last))
                run.append({"k": "stopped", "cell": cell["cell"]} if done["cancelled"] else {"k": "end", "cell": cell["cell"]} | done)
            except WorkFailed as e:
                if not self.interrupted:
                    self.trouble = e.message
                return
            self.view.cell_done(cell, done)
            if done["gave_up"]:
                failed.add(cell["endpoint"])
                self.trouble = f"{endpoint.target.url} is gone: {done['gave_up']}"

    # ------------------------------------------------------------ meta

    def _meta(self, salt: int) -> dict:
        from gb10 import __version__
        from gb10.bench.wire import KERNEL_STAMPS
        from gb10.machine import detect

        o, machine = self.o, detect()
        first = self.endpoints[0]
        name = "".join(c if c.isalnum() or c in ".-" else "-" for c in first.model.rstrip("/").rpartition("/")[2].lower())[:40]
        stamp = now_text().replace("-", "").replace(":", "")[:15].replace("T", "-")
        facts = machine.to_dict()
        return {
            "id": f"{stamp}-{'-'.join(_word(e.engine) for e in self.endpoints)}-{name}", "created": now_text(), "ended": None,
            "label": o.label, "endpoints": [e.facts() for e in self.endpoints], "cells": plan(o, len(self.endpoints)),
            "workload": {"prompt_tokens": o.prompt_tokens, "max_tokens": o.max_tokens, "fixed_length": not o.any_length, "cold": not o.warm,
                         "temperature": o.temperature, "api": o.api, "turns": o.turns, "extra": o.extra,
                         "prompt": o.prompt_text},
            "slo": o.slos, "seed": o.seed, "salt": str(salt), "stall_s": o.stall, "timeout_s": o.timeout, "warmup": o.warmup,
            "command": o.argv, "preset": o.preset, "weights": o.weights, "machine": facts,
            "client": {"gb10": __version__, "python": machine.python, "stamps": "kernel" if KERNEL_STAMPS else "user"}, "notes": []}

    def _learn(self, run: Run) -> None:
        """What is only asked after the clock has stopped: versions, images, how far from the roofline."""
        from gb10.bench import probe
        from gb10.bench.beside import rooflines

        for e, facts in zip(self.endpoints, run.meta["endpoints"], strict=True):
            facts["version"] = facts["version"] or probe.version(e.target, e.key)
            facts["quantization"] = probe.quantization(e.target, e.model, e.key) if e.engine == "Ollama" else None
            if e.target.loopback:
                facts["image"] = facts["image"] or probe.image_of(e.target.port)
        if run.meta["machine"]["gpus"] and any(e.target.loopback for e in self.endpoints) and not self.interrupted:
            sleep(REST_S)                                 # with the model loaded and nothing to do: what the work came on top of
            run.meta["idle_w"] = idle_power(REST_S)
            run.meta["driver"] = driver()
        if self.trouble:
            run.meta["notes"].append(self.trouble)
        run.meta["roofline"] = rooflines(run, self.groups, self.o.machine, self.o.roofline_model)

    # ------------------------------------------------------------ Ctrl-C

    def _catch_ctrl_c(self):
        """The first Ctrl-C ends the cell that runs, and the report of what was done follows; the second ends everything."""
        if threading.current_thread() is not threading.main_thread():
            return None

        def stop(number, frame):
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            self._worker.stop()

        return signal.signal(signal.SIGINT, stop)

    @staticmethod
    def _restore_ctrl_c(before) -> None:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def whole(cell: dict) -> dict:
    return {"todo": [[0, cell["requests"] or ENDLESS]], "seconds": cell["seconds"]}


def prepared(e: Endpoint, o) -> str:
    """What the warm-up found out."""
    row = e.first
    if row.get("err"):
        return (f"{e.engine} at {e.target.url}, {e.model}: the warm-up request failed ({row['err']}: {row.get('why', 'no reason given')}); "
                "measured all the same.")
    out = f"{e.engine} at {e.target.url} serves {e.model}: prompt {row.get('isl', '?')} tokens"
    if e.prompt_tokens is not None:
        out = f"{e.engine} at {e.target.url} serves {e.model}: prompt {e.prompt_tokens} tokens (asked: {o.prompt_tokens})"
    out += f", first answer {row.get('n', '?')} tokens"
    if e.refused:
        out += f"; it refuses {', '.join(e.refused)}"
    if not o.any_length and "ignore_eos" not in e.body:
        out += "; it can't be made to write on to the asked length, so only answers that reach it are compared"
    return out + "."


def announcement(cells: list[dict], endpoints: list[Endpoint], o, todo: dict) -> str:
    """How long it will take, from the speed of the warm-up; a guess, and said to be one."""
    total = 0.0
    for cell in cells:
        if cell["cell"] not in todo:
            continue
        row = endpoints[cell["endpoint"]].first
        answer = row.get("end", 0) / 1e6 * o.turns
        if cell["rate"]:
            total += cell["seconds"] or cell["requests"] / cell["rate"] + answer
        elif cell["seconds"]:
            total += max(cell["seconds"], answer * -(-cell["concurrency"] // 4)) + answer
        else:
            total += -(-cell["requests"] // cell["concurrency"]) * answer
    text = f"{total:.0f} s" if total < 100 else f"{total / 60:.0f} min"
    return f"{len(todo)} {'cell' if len(todo) == 1 else 'cells'}, about {text} if more users don't slow it down. Ctrl-C ends with a report."


def now_text() -> str:
    from datetime import datetime

    return datetime.now(UTC).isoformat(timespec="seconds")


def _word(engine: str) -> str:
    return "server" if engine == UNKNOWN else "".join(c for c in engine.lower() if c.isalnum()) or "server"


def _path(text: str):
    from pathlib import Path

    return Path(text).expanduser()


