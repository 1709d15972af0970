"""Memory, power, clocks and temperatures beside a run: a thread that appends a JSON line to a file a few
times a second.

    with Telemetry(run.telemetry) as t:
        ...                                # t.last is the latest sample
    energy(samples, start, end); memory(samples, start, end); warnings(samples, start, end)

A sample: {"unix": s, "mem_total", "mem_available", "swap_used", "page_cache": bytes or None without
/proc/meminfo, "gpus": [{"w": W, "sm_mhz", "temp_c", "util": %, "throttle": [words], "energy_mj": of the
counter, "mem_procs": bytes that its compute processes hold, "procs": how many those are, "others": ["name
(pid N)", … of those that are no part of the engine]}]}; whatever a GPU doesn't tell is None
(`gb10.bench.gpus`).

Memory in use is mem_total - mem_available: on unified memory that is the honest figure (on a Spark with a 34
GiB model it agreed within 0.04 GiB with what the driver accounts for, nvtop pull request 466; page cache
isn't in it). mem_procs is the part of it that the GPU's processes declare.

Power is that of the GPU's rail, never of the wall: a Spark draws 60 to 90 W there while its GPU says 33 to
50.

Cost of a sample without a GPU: 0.23 to 0.33 ms of CPU at 5 Hz (2 x86-64 vCPUs, caches cold by then; 0.03 ms
when called in a row), 0.15 % of a core. NVML comes on top; `cost_ms` says what it was in this run.
"""

from __future__ import annotations

import json
import os
import threading
from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise
from time import monotonic, sleep, thread_time, time

from gb10.bench.gpus import Gpus

GIB = 2**30
FIRST_SAMPLE = 2.0         # seconds that start() waits for it at most (NVML may have to load the driver)
KEEP_FREE = 8 * GIB        # of unified memory: a Spark with less is close to wedging
COVERED = 0.9              # share of a time span that samples must cover to speak for it
BEFORE = 5.0               # seconds by which a sample may be older than the span that it begins
BUSY, SLOW_MHZ = 90, 1000  # % and MHz: a GB10 under load runs at 2400 to 2500
RAIL = "the GPU's own rail, not the wall"      # for whatever shows a power or an energy
_encode = json.JSONEncoder(separators=(",", ":")).encode      # json.dumps would make it anew for each line


class Meminfo:
    """/proc/meminfo, opened once."""

    def __init__(self, proc: str = "/proc"):
        try:
            self._fd = os.open(f"{proc}/meminfo", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def read(self) -> dict:
        """Bytes, as in gb10.machine: page cache without what is shared memory; None where it isn't told."""
        try:
            text = b"\n" + os.pread(self._fd, 8192, 0)
        except OSError:
            text = b""
        cached, swap = _field(text, b"\nCached:"), _field(text, b"\nSwapTotal:")
        available = _field(text, b"\nMemAvailable:")
        if available is None and cached is not None:
            available = (_field(text, b"\nMemFree:") or 0) + cached
        if cached is not None:
            cached = max(0, cached + (_field(text, b"\nBuffers:") or 0) - (_field(text, b"\nShmem:") or 0))
        if swap is not None:
            swap -= _field(text, b"\nSwapFree:") or 0
        return {"mem_total": _field(text, b"\nMemTotal:"), "mem_available": available, "swap_used": swap,
                "page_cache": cached}

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _field(text: bytes, name: bytes) -> int | None:
    """Bytes of a line such as "Cached:  123 kB"."""
    at = text.find(name)
    if at < 0:
        return None
    number, _, _ = text[at + len(name):at + len(name) + 40].strip().partition(b" ")
    return int(number) * 1024 if number.isdigit() else None


class Telemetry:
    """The thread. `last`: the latest sample; `samples`: how many; `trouble`: why it ended early, if it did.

    It is a daemon: a driver that hangs can neither hold up stop() for long nor the end of the program.
    """

    def __init__(self, path, interval: float = 0.2, proc: str = "/proc", nvml=None):
        """path: the file to append to; interval: s; nvml: a module like pynvml, None for the installed one,
        False for none."""
        self.path, self.interval = path, interval
        self.last: dict | None = None
        self.samples, self.trouble = 0, ""
        self._proc, self._nvml, self._cpu = proc, nvml, 0.0
        self._first, self._end = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def cost_ms(self) -> float | None:
        """Mean CPU time of a sample in ms, on this machine."""
        return self._cpu / self.samples * 1000 if self.samples else None

    def start(self) -> Telemetry:
        """Begin, and wait for the first sample, so that what follows is covered."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as e:
            self.trouble = self._why(e)
            return self
        self._thread = threading.Thread(target=self._run, args=(fd,), name="telemetry", daemon=True)
        self._thread.start()
        self._first.wait(FIRST_SAMPLE)
        return self

    def stop(self) -> None:
        """End; the last line is whole. Returns after a second at most."""
        self._end.set()
        if self._thread:
            self._thread.join(1.0)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    def _run(self, fd: int) -> None:
        meminfo, gpus = Meminfo(self._proc), Gpus(self._nvml, self._proc)
        try:
            _mend(fd)
            due = monotonic()
            while not self._end.is_set():
                began = thread_time()
                row = {"unix": round(time(), 3)} | meminfo.read() | {"gpus": gpus.read()}
                line = _encode(row).encode() + b"\n"
                if os.write(fd, line) < len(line):
                    raise OSError(0, "no space left on the device")
                self.last = row
                self._cpu += thread_time() - began
                self.samples += 1
                self._first.set()
                due = max(due + self.interval, monotonic())      # late: no samples in a burst
                self._end.wait(due - monotonic())
        except OSError as e:                                     # a full disk, mostly
            self.trouble = self._why(e)
        finally:
            self._first.set()
            os.close(fd)
            meminfo.close()
            gpus.close()

    def _why(self, e: OSError) -> str:
        return (f"no telemetry after {self.samples} samples: {self.path} can't be written ({e.strerror}). "
                "The measurement itself went on.")


def _mend(fd: int) -> None:
    """After a kill the file may end within a line: end it, and say so, as journals do."""
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        os.write(fd, b'\n{"k":"resume"}\n')


def idle_power(seconds: float = 2.0, nvml=None) -> float | None:
    """Mean W of all GPUs together over the next seconds, to be measured before a run; None where no GPU
    tells."""
    gpus = Gpus(nvml)
    try:
        samples, end = [], monotonic() + seconds
        while gpus.gpus:
            samples.append({"unix": monotonic(), "gpus": gpus.read()})
            if monotonic() >= end:
                break
            sleep(min(0.1, max(0.0, end - monotonic())))
    finally:
        gpus.close()
    spent = energy(samples, samples[0]["unix"], samples[-1]["unix"]) if samples else None
    return spent and spent["mean_w"]


def driver(nvml=None) -> str | None:
    """The GPU driver's version; None without one."""
    gpus = Gpus(nvml)
    gpus.close()
    return gpus.driver


# ------------------------------------------------------------ what the samples of a time span say

def energy(samples: Iterable[dict], start_unix: float, end_unix: float,
           idle_w: float | None = None) -> dict | None:
    """Energy of all GPUs together between two times: {"joules", "mean_w", "source", "above_idle_joules"}.

    source: "energy counter" where every GPU has one that moves, else "trapezoid of N samples" of the power;
    both linear between samples. All four are None where the GPUs don't tell, or samples cover under 90 % of
    the span; None without GPUs. above_idle_joules: what idle_w (`idle_power`) doesn't explain. It is the
    energy of the GPU's own rail.
    """
    rows = sorted((s for s in samples if "unix" in s and s.get("gpus")), key=lambda s: s["unix"])
    if not rows:
        return None
    nothing = {"joules": None, "mean_w": None, "source": None, "above_idle_joules": None}
    seconds = end_unix - start_unix
    if seconds <= 0:
        return nothing
    joules, used = 0.0, None
    for i in range(max(len(s["gpus"]) for s in rows)):
        power = _series(rows, i, "w")
        watts = _mean(power, start_unix, end_unix, _area)
        counted = _mean(_series(rows, i, "energy_mj"), start_unix, end_unix, _growth)
        if counted is not None and (counted > 0 or not watts):      # else it stands still while power flows
            joules += counted / 1000 * seconds
        elif watts is not None:
            joules += watts * seconds
            used = max(used or 2, sum(start_unix <= t <= end_unix for t, _ in power))
        else:
            return nothing
    return {"joules": joules, "mean_w": joules / seconds,
            "source": "energy counter" if used is None else f"trapezoid of {used} samples",
            "above_idle_joules": None if idle_w is None else joules - idle_w * seconds}


def _series(rows: list[dict], gpu: int, name: str) -> list[tuple[float, float]]:
    gpus = ((s["unix"], s["gpus"][gpu]) for s in rows if gpu < len(s["gpus"]))
    return [(unix, g[name]) for unix, g in gpus if g.get(name) is not None]


def _mean(series: list[tuple[float, float]], start: float, end: float, total) -> float | None:
    """`total` per second over the part of a time span that the series covers; None if that is too little."""
    if len(series) < 2:
        return None
    a, b = max(start, series[0][0]), min(end, series[-1][0])
    if b <= a or b - a < COVERED * (end - start):
        return None
    inside = [(a, _at(series, a)), *(p for p in series if a < p[0] < b), (b, _at(series, b))]
    value = total(inside)
    return None if value is None else value / (b - a)


def _at(series: list[tuple[float, float]], t: float) -> float:
    """The value at a time within the series, linear between its points."""
    i = max(1, bisect_left(series, t, key=lambda p: p[0]))
    (t0, v0), (t1, v1) = series[i - 1], series[i]
    return v0 + (v1 - v0) * (t - t0) / (t1 - t0) if t1 > t0 else v1


def _area(points: list[tuple[float, float]]) -> float:
    return sum((t1 - t0) * (v0 + v1) / 2 for (t0, v0), (t1, v1) in pairwise(points))


def _growth(points: list[tuple[float, float]]) -> float | None:
    """None when the counter went back: the driver was loaded anew."""
    if any(v1 < v0 for (_, v0), (_, v1) in pairwise(points)):
        return None
    return points[-1][1] - points[0][1]


def _within(samples: Iterable[dict], start: float, end: float) -> list[dict]:
    """The samples of a time span in order, with the one just before it: how things stood when it began."""
    rows = sorted((s for s in samples if "unix" in s and start - BEFORE <= s["unix"] <= end),
                  key=lambda s: s["unix"])
    first = bisect_left(rows, start, key=lambda s: s["unix"])
    return rows[max(0, first - 1):]


def memory(samples: Iterable[dict], start: float, end: float) -> dict | None:
    """Bytes between two times; None without samples that tell.

    {"total", "start_used", "peak_used", "lowest_available", "swap_grew", "peak_gpu_procs"}. Used is total -
    available. peak_gpu_procs: the most that compute processes on the GPUs held together, None where it isn't
    told.
    """
    rows = [s for s in _within(samples, start, end)
            if s.get("mem_total") is not None and s.get("mem_available") is not None]
    if not rows:
        return None
    swap = [s["swap_used"] for s in rows if s.get("swap_used") is not None]
    held = [sum(g.get("mem_procs") or 0 for g in s["gpus"]) for s in rows
            if any(g.get("mem_procs") is not None for g in s.get("gpus", ()))]
    used = [s["mem_total"] - s["mem_available"] for s in rows]
    return {"total": rows[0]["mem_total"], "start_used": used[0], "peak_used": max(used),
            "lowest_available": min(s["mem_available"] for s in rows),
            "swap_grew": max(swap) - swap[0] if swap else 0, "peak_gpu_procs": max(held, default=None)}


def warnings(samples: Iterable[dict], start: float, end: float, gpu_total: int | None = None) -> list[str]:
    """What makes the figures of a time span less than they seem, a sentence each.

    gpu_total: bytes of the GPU's own memory; None where CPU and GPU share one pool, as on GB10.
    """
    rows = _within(samples, start, end)
    return [*_memory_warnings(rows, start, end, gpu_total), *_throttle_warnings(rows),
            *_slow_warning(rows, gpu_total), *_other_warnings(rows)]


def _memory_warnings(rows: list[dict], start: float, end: float, gpu_total: int | None) -> list[str]:
    m = memory(rows, start, end)
    if m is None:
        return []
    out = []
    if m["swap_grew"] > 16 * 2**20:              # pages that nobody needs go out at any time
        out.append(f"swap grew by {_gib(m['swap_grew'])}: memory was short, and these are the figures of a "
                   "machine that swaps.")
    unified = gpu_total is None and any(s.get("gpus") for s in rows)
    if unified and m["lowest_available"] < KEEP_FREE:
        out.append(f"only {_gib(m['lowest_available'])} of unified memory were left: below 8 GiB a Spark is "
                   "close to wedging; give the engine less.")
    elif not unified and m["lowest_available"] < 0.05 * m["total"]:
        out.append(f"only {_gib(m['lowest_available'])} of main memory were left.")
    return out


def _throttle_warnings(rows: list[dict]) -> list[str]:
    seen = [{word for g in s["gpus"] for word in g.get("throttle", ())} for s in rows if s.get("gpus")]
    kinds = (("heat", {"thermal", "hardware thermal"}),
             ("power", {"power cap", "power brake", "board limit"}))
    out = [_throttled(f"by {kind}", seen, words) for kind, words in kinds]
    rest = set().union(*seen) - kinds[0][1] - kinds[1][1]
    return [s for s in (*out, _throttled("by the driver", seen, rest)) if s]


def _throttled(by: str, seen: list[set], words: set) -> str:
    hits = [found & words for found in seen if found & words]
    if not hits:
        return ""
    share = 100 * len(hits) / len(seen)
    return (f"the GPU's clock was held down {by} ({', '.join(sorted(set().union(*hits)))}) in "
            f"{f'{share:.0f}' if share >= 1 else 'under 1'} % of {len(seen)} samples.")


def _slow_warning(rows: list[dict], gpu_total: int | None) -> list[str]:
    """GB10 can be stuck at a fraction of its clock without giving a reason: 513 MHz in reports of the NVIDIA
    forum ("Investigating 513MHz cap for GPU"); taking the power away for a while ended it
    (Blackwellboy/model-serving-minefield, trap 124)."""
    clocks = sorted(g["sm_mhz"] for s in rows for g in s.get("gpus", ())
                    if (g.get("util") or 0) >= BUSY and g.get("sm_mhz"))
    if gpu_total is not None or len(clocks) < 5 or clocks[len(clocks) // 2] >= SLOW_MHZ:
        return []
    return [(f"the GPU was busy at {clocks[len(clocks) // 2]} MHz, where a GB10 runs at 2400: if that "
             "lasts, shut down and unplug its power supply for a minute.")]


def _other_warnings(rows: list[dict]) -> list[str]:
    others = sorted({name for s in rows for g in s.get("gpus", ()) for name in g.get("others", ())})
    if not others:
        return []
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    who = "it" if len(others) == 1 else "they"
    return [f"not only the engine was on the GPU: {shown}; what {who} did is in these figures."]


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.0f} MiB"
