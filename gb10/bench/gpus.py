"""What the GPUs say of themselves, through NVML (pynvml of the package nvidia-ml-py; without it there are
none).

Any call may be answered with "Not Supported": device memory is on GB10, always (DGX Spark known issues). It
is then None, and the call isn't made again. On GB10 power, energy counter, SM clock, temperature and
utilisation work (driver 580.142, rwlove/home-ops pull request 13238). Power there is that of the GPU rail,
not of the wall; on Ampere or newer NVML gives the mean of the last second (nvmlDeviceGetPowerUsage). Listing
processes takes milliseconds, under a lock that the driver's other users wait for (4.5 ms on an RTX 4090,
MangoHud pull request 2104): it is done every 2 s only.
"""

from __future__ import annotations

from contextlib import suppress
from time import monotonic

PROCESSES_EVERY = 2.0            # seconds
GIVE_UP = 3                      # failures in a row after which a call isn't made again
# NVML_ERROR_NOT_SUPPORTED, _NO_PERMISSION, _FUNCTION_NOT_FOUND: they won't change while we look
_NEVER = {3, 4, 13}

# Bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h) that mean: slower than it could be.
REASONS = {0x004: "power cap", 0x008: "hardware slowdown", 0x010: "sync boost", 0x020: "thermal",
           0x040: "hardware thermal", 0x080: "power brake", 0x200: "board limit", 0x400: "reliability"}
_HARMLESS = 0x001 | 0x002 | 0x100    # idle, clocks as the application or the user set them, display clock
_CLOCK_SM, _TEMPERATURE_GPU = 1, 0   # nvmlClockType_t, nvmlTemperatureSensors_t


def reasons(bits: int) -> list[str]:
    """Why the clock is held down, in words; [] if it isn't."""
    if bits & 0x0C0:
        bits &= ~0x008               # set together with the two that say it more exactly
    words = [word for bit, word in REASONS.items() if bits & bit]
    rest = bits & ~_HARMLESS & ~sum(REASONS)
    return words + ([f"reason {rest:#x}"] if rest else [])


class Reading:
    """One NVML call on one GPU, under its newer or its older name. Calling it gives the value, or None."""

    __slots__ = ("_args", "_failures", "_functions", "_turn")

    def __init__(self, nvml, names: list[str], *args, turn=int):
        self._functions = [f for f in (getattr(nvml, n, None) for n in names) if f]
        self._args, self._turn, self._failures = args, turn, 0

    def __call__(self):
        while self._functions:
            try:
                value = self._turn(self._functions[0](*self._args))
            except Exception as e:  # noqa: BLE001  a driver that is unwell must not end a benchmark
                if getattr(e, "value", None) in _NEVER:
                    self._functions.pop(0)
                    continue
                self._failures += 1
                if self._failures >= GIVE_UP:
                    self._functions.clear()
                return None
            self._failures = 0
            return value
        return None


class Gpu:
    """One GPU and what can be read of it."""

    def __init__(self, nvml, handle, proc: str = "/proc"):
        def reading(*names, args=(), turn=int):
            return Reading(nvml, [f"nvmlDeviceGet{name}" for name in names], handle, *args, turn=turn)

        self._readings = {
            "w": reading("PowerUsage", turn=lambda mw: mw / 1000),
            "sm_mhz": reading("ClockInfo", args=(_CLOCK_SM,)),
            "temp_c": reading("Temperature", args=(_TEMPERATURE_GPU,)),
            "util": reading("UtilizationRates", turn=lambda rates: int(rates.gpu)),
            "throttle": reading("CurrentClocksEventReasons", "CurrentClocksThrottleReasons", turn=reasons),
            "energy_mj": reading("TotalEnergyConsumption"),
        }
        self._processes = reading("ComputeRunningProcesses", turn=list)
        self._proc = proc
        self._known: dict[int, tuple[str, set]] = {}
        self._asked = float("-inf")
        self._last = {"mem_procs": None, "procs": None, "others": []}

    def read(self, now: float | None = None) -> dict:
        """One sample; now: s of the monotonic clock."""
        row = {name: reading() for name, reading in self._readings.items()}
        row["throttle"] = row["throttle"] or []
        now = monotonic() if now is None else now
        if now - self._asked >= PROCESSES_EVERY:
            self._asked = now
            self._last = self._compute()
        return row | self._last

    def _compute(self) -> dict:
        """The processes that compute here. The one with the most memory is taken for the engine, with those
        in its container or process group; the rest are others."""
        found = self._processes()
        if found is None:
            return {"mem_procs": None, "procs": None, "others": []}
        sizes = [(getattr(p, "usedGpuMemory", None), p.pid) for p in found]
        known = [size for size, _ in sizes if size is not None]
        sizes.sort(key=lambda pair: (-(pair[0] or 0), pair[1]))
        who = [(pid, *self._who(pid)) for _, pid in sizes]
        return {"mem_procs": sum(known) if known or not found else None, "procs": len(found),
                "others": [f"{name} (pid {pid})" for pid, name, family in who[1:] if not family & who[0][2]]}

    def _who(self, pid: int) -> tuple[str, set]:
        """(name, what it has in common with other processes of one engine)."""
        if pid not in self._known:
            # A process may have ended meanwhile, and a container hides those of the host.
            group = self._read(f"{pid}/stat").rpartition(")")[2].split()[2:3]
            inside = self._read(f"{pid}/cgroup").strip()
            contained = any(word in inside for word in ("docker", "containerd", "libpod", "kube"))
            family = {*group, inside} if contained else set(group)
            self._known[pid] = self._read(f"{pid}/comm").strip() or "a process", family
        return self._known[pid]

    def _read(self, name: str) -> str:
        try:
            with open(f"{self._proc}/{name}", encoding="utf-8", errors="replace") as f:
                return f.read()
        except OSError:
            return ""


class Gpus:
    """All GPUs of the machine; none where there is no pynvml, no driver or no GPU."""

    def __init__(self, nvml=None, proc: str = "/proc"):
        """nvml: a module like pynvml; None imports it (60 ms, if it is installed); False doesn't look."""
        self._nvml, self.gpus, self.driver = None, [], None
        if nvml is None:
            try:
                import pynvml as nvml
            except Exception:  # noqa: BLE001  not installed, or broken: either way there is nothing to read
                return
        if not nvml:
            return
        try:
            nvml.nvmlInit()
            self._nvml = nvml
            count = nvml.nvmlDeviceGetCount()
            with suppress(Exception):
                self.driver = nvml.nvmlSystemGetDriverVersion()
            self.gpus = [Gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(i), proc) for i in range(count)]
        except Exception:  # noqa: BLE001  no driver, or one that is unwell
            self.close()

    def read(self, now: float | None = None) -> list[dict]:
        return [gpu.read(now) for gpu in self.gpus]

    def close(self) -> None:
        nvml, self._nvml, self.gpus = self._nvml, None, []
        if nvml:
            with suppress(Exception):
                nvml.nvmlShutdown()
