"""How well does this client measure, here and now? It measures a server that knows when it sent what, and compares.

The truth of a TTFT is the server's note before its first token write, minus the moment in which we began to send: what lies
between is the way of the request, the server's own work and the wait it was told to make. Errors are ours alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from typing import Self

from gb10.bench import probe
from gb10.bench.spec import Spec
from gb10.bench.spread import Spread
from gb10.bench.target import Target
from gb10.bench.worker import BARE, Worker
from gb10.errors import WorkFailed
from gb10.paths import ROOT

# streams, TTFT and time between tokens in ms, requests
LEVELS = ((1, 50.0, 5.0, 6), (16, 50.0, 5.0, 48), (64, 50.0, 5.0, 128), (256, 500.0, 50.0, 256))
TOKENS = 128
# what is asked of it (ms; TPOT in per cent); a machine that is busy otherwise can miss them
LIMITS = {"ttft": 0.15, "gap_p99": 0.2, "tpot_percent": 0.1}
SLOW_LIMIT = 0.3                 # TTFT at 256 streams


class Truth:
    """A server of known truth in a process of its own, on a free loopback port."""

    def __init__(self, **options):
        command = [sys.executable, *BARE, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); from gb10.bench.truth import main; main()"]
        for name, value in options.items():
            if value is not None:
                command += [f"--{name}", ",".join(value) if isinstance(value, list | tuple) else str(value)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        line = self._process.stdout.readline()
        if not line:
            raise WorkFailed(f"the test server did not start (exit code {self._process.wait()}).")
        host = options.get("host", "127.0.0.1")
        self.target = Target("http", host, json.loads(line)["port"], "/v1")
        self.pid = self._process.pid

    @property
    def url(self) -> str:
        return self.target.url

    def notes(self) -> dict[str, list[int]]:
        """X-Request-Id -> [arrival of the request, write of each token], monotonic ns. Asking empties the notes."""
        status, body = probe.get(self.target, "/truth", timeout=30.0)
        if status != 200:
            raise WorkFailed(f"the test server answers {status}.")
        return json.loads(body)

    def spec(self, **changes) -> Spec:
        """A cell against this server."""
        body = {"model": "truth", "stream": True, "max_tokens": TOKENS, "stream_options": {"include_usage": True}}
        given = {"addresses": self.target.addresses(), "host": self.target.host_header, "body": body, "prompt": "Tell me.", "asked": TOKENS}
        return Spec(**given | changes)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def measure(streams: int, ttft: float, itl: float, requests: int, worker: Worker | None = None, stamps: str = "auto") -> dict:
    """One level: what was read, what was true (p50 and p99 in ms), and the processor time of the load process per token."""
    with Truth(ttft=ttft, itl=itl, tokens=TOKENS) as truth:
        spec = truth.spec(concurrency=streams, todo=[(0, requests)], stamps=stamps, name="selftest")
        if worker is None:
            with Worker() as own:
                before = cpu_ns(own.pid)
                done, used = own.run(spec), cpu_ns(own.pid) - before
        else:
            before = cpu_ns(worker.pid)
            done, used = worker.run(spec), cpu_ns(worker.pid) - before
        return {"streams": streams, "asked_ttft": ttft, "asked_itl": itl} | held_against(done, truth.notes()) | {
            "cpu_ms_per_1000": round(used / 1e3 / max(1, done["tokens"]), 1), "stamps": done["stamps"]}


def held_against(done: dict, notes: dict[str, list[int]], name: str = "selftest") -> dict:
    """Journal lines against the server's notes, request by request. All in ms."""
    read, true, error = ({k: Spread() for k in ("ttft", "gap", "tpot")} for _ in range(3))
    arrival = Spread()
    early = merged = 0                                    # arrivals before their sending; answers with merged reads
    for row in done["rows"]:
        if row.get("err"):
            continue
        sent_at = done["zero_ns"] + row["send"] * 1000
        writes = notes[f"{name}-{row['cell']}-{row['i']}"][1:]
        got = [sent_at + row["ttft"] * 1000]
        for gap in row["gaps"]:
            got.append(got[-1] + gap * 1000)
        if len(got) == len(writes):
            late = [(g - w) // 1000 for g, w in zip(got, writes, strict=True)]
            early += sum(v < -2 for v in late)            # µs are rounded
            arrival.extend(late)
        else:
            merged += 1
        read["ttft"].add(row["ttft"])
        true["ttft"].add((writes[0] - sent_at) // 1000)
        error["ttft"].add(abs(row["ttft"] - (writes[0] - sent_at) // 1000))
        read["gap"].extend(row["gaps"])
        true["gap"].extend([(b - a) // 1000 for a, b in pairwise(writes)])
        # in ns: a TPOT's error is far below a µs
        read["tpot"].add((row["e2e"] - row["ttft"]) * 1000 // (row["n"] - 1))
        true["tpot"].add((writes[-1] - writes[0]) // (row["n"] - 1))
    out = {"requests": len(done["rows"]), "errors": done["errors"], "merged": merged, "early": early}
    for key, scale in (("ttft", 1e3), ("gap", 1e3), ("tpot", 1e6)):
        for p in (50, 99):
            a, b = read[key].percentile(p), true[key].percentile(p)
            out |= {f"{key}_p{p}": None if a is None else a / scale, f"true_{key}_p{p}": None if b is None else b / scale}
    for p in (50, 99):
        out[f"arrival_error_p{p}"] = None if not arrival.n else arrival.percentile(p) / 1e3
    return out


def faults(row: dict) -> list[str]:
    """Which of the limits a level misses, in words."""
    if row["errors"] or row["ttft_p50"] is None:
        return [f"{row['errors']} requests failed"]
    limit = SLOW_LIMIT if row["streams"] > 64 else LIMITS["ttft"]
    out = []
    if abs(row["ttft_p50"] - row["true_ttft_p50"]) > limit:
        out.append(f"TTFT p50 is off by more than {limit:g} ms")
    if abs(row["gap_p99"] - row["true_gap_p99"]) > LIMITS["gap_p99"]:
        out.append(f"gap p99 is off by more than {LIMITS['gap_p99']:g} ms")
    if abs(row["tpot_p50"] / row["true_tpot_p50"] - 1) * 100 > LIMITS["tpot_percent"]:
        out.append(f"TPOT is off by more than {LIMITS['tpot_percent']:g} %")
    return out


COLUMNS = (("true_ttft_p50", 10, 3), ("ttft_p50", 9, 3), ("true_tpot_p50", 11, 4), ("tpot_p50", 9, 4), ("true_gap_p99", 10, 3), ("gap_p99", 9, 3),
           ("arrival_error_p50", 9, 3), ("arrival_error_p99", 8, 3), ("cpu_ms_per_1000", 9, 1))


def line(row: dict) -> str:
    """A row of the table; "–" for arrivals where every answer had reads that merged."""
    return f"{row['streams']:>7} " + " ".join(f"{'–' if row[key] is None else format(row[key], f'.{digits}f'):>{width}}"
                                              for key, width, digits in COLUMNS)


HEAD = (f"{'':>7}  {'TTFT p50':^20}  {'TPOT p50':^20}  {'gap p99':^19}  {'arrival late':^17}  CPU ms/\n"
        f"{'streams':>7}  {'true':>10} {'read':>9}  {'true':>10} {'read':>9}  {'true':>9} {'read':>9}  {'p50':>8} {'p99':>8}  {'1000 tok':>8}")


def run(say=print, levels=LEVELS) -> list[dict]:
    """All levels, told as they come. Returns the rows; `faults` judges them."""
    say("A server that notes when it sends each token, measured by this client on this machine. Times in ms.\n")
    say(HEAD)
    rows = []
    with Worker() as worker:
        for level in levels:
            rows.append(measure(*level, worker=worker))
            if rows[-1]["ttft_p50"] is None:
                say(f"{rows[-1]['streams']:>7}  nothing was measured: {rows[-1]['errors']} requests failed")
            else:
                say(line(rows[-1]))
    return rows


def cpu_ns(pid: int) -> int:
    """Processor time of a process so far; 0 where /proc does not say."""
    try:
        with open(f"/proc/{pid}/schedstat") as f:
            return int(f.read().split()[0])
    except (OSError, ValueError, IndexError):
        return 0
