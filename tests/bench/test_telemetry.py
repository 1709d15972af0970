"""Telemetry: what a sample holds, what GB10 refuses to tell, and what samples say of a time span."""

import json
import os
import threading
import time
from types import SimpleNamespace

import pytest

from gb10.bench import gpus, journal, telemetry
from gb10.bench.telemetry import GIB, Telemetry, driver, energy, idle_power, memory, warnings

# Made up in the size of a DGX Spark (121.69 GiB visible), with
# fields between that must not be taken for others.
MEMINFO = """\
SwapCached:       123456 kB
MemTotal:       127600000 kB
MemFree:         2000000 kB
MemAvailable:   60000000 kB
Buffers:          500000 kB
Cached:         58000000 kB
Active:         30000000 kB
Shmem:            300000 kB
SwapTotal:      16000000 kB
SwapFree:       15000000 kB
"""


class NvmlError(Exception):
    def __init__(self, value):
        super().__init__(value)
        self.value = value


class Nvml:
    """Like pynvml on a GB10: no device memory, everything else; what it is asked is counted."""

    def __init__(self, count=1, refuse=(), fail=(), old=False):
        self.asked: list[str] = []
        self.refuse, self.fail = set(refuse), set(fail)
        self.count, self.began, self.reasons, self.watts = count, time.monotonic(), 0, 40.0
        self.processes = [SimpleNamespace(pid=7001, usedGpuMemory=30 * GIB)]
        if old:
            self.nvmlDeviceGetCurrentClocksThrottleReasons = self.nvmlDeviceGetCurrentClocksEventReasons
            self.nvmlDeviceGetCurrentClocksEventReasons = None

    def _say(self, name, value):
        self.asked.append(name)
        if name in self.refuse:
            raise NvmlError(3)                        # NVML_ERROR_NOT_SUPPORTED
        if name in self.fail:
            raise NvmlError(999)                      # NVML_ERROR_UNKNOWN
        return value

    def nvmlInit(self):
        self._say("init", None)

    def nvmlShutdown(self):
        self._say("shutdown", None)

    def nvmlSystemGetDriverVersion(self):
        return self._say("driver", "580.142")

    def nvmlDeviceGetCount(self):
        return self.count

    def nvmlDeviceGetHandleByIndex(self, i):
        return f"handle {i}"

    def nvmlDeviceGetPowerUsage(self, handle):
        return self._say("power", self.watts * 1000)

    def nvmlDeviceGetClockInfo(self, handle, kind):
        assert kind == 1, "the SM clock"
        return self._say("clock", 2411)

    def nvmlDeviceGetTemperature(self, handle, sensor):
        assert sensor == 0
        return self._say("temperature", 61)

    def nvmlDeviceGetUtilizationRates(self, handle):
        return self._say("utilization", SimpleNamespace(gpu=96, memory=0))

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return self._say("reasons", self.reasons)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._say("energy", int(1000 * self.watts * (time.monotonic() - self.began)))

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self._say("processes", self.processes)

    def nvmlDeviceGetMemoryInfo(self, handle):
        raise AssertionError("NVML is never asked for device memory: GB10 has none of its own")


@pytest.fixture
def proc(tmp_path):
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "meminfo").write_text(MEMINFO)
    return folder


def process(proc, pid, name, group, cgroup="0::/user.slice/session-1.scope"):
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "comm").write_text(name + "\n")
    (folder / "stat").write_text(f"{pid} (odd) name) S 1 {group} {group} 0 -1\n")
    (folder / "cgroup").write_text(cgroup + "\n")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# ------------------------------------------------------------ one sample

def test_memory_is_read_as_the_machine_room_reads_it(proc):
    from gb10.machine import detect

    row = telemetry.Meminfo(str(proc)).read()
    kb = 1024
    assert row == {"mem_total": 127_600_000 * kb, "mem_available": 60_000_000 * kb,
                   "swap_used": 1_000_000 * kb, "page_cache": 58_200_000 * kb}
    there = detect(proc=proc, cgroup=proc, run=lambda *_: (127, ""), env={})
    assert (there.memory_total_bytes, there.memory_available_bytes, there.page_cache_bytes) == \
        (row["mem_total"], row["mem_available"], row["page_cache"])


@pytest.mark.parametrize("text", [None, "", "MemTotal:\n", "MemTotal: many kB\n", "\0" * 5000])
def test_memory_that_is_not_told_is_none(tmp_path, text):
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    assert set(telemetry.Meminfo(str(tmp_path)).read().values()) == {None}


def test_a_gb10_tells_everything_but_its_memory(proc):
    process(proc, 7001, "VLLM::EngineCore", 7001)
    nvml = Nvml()
    [row] = gpus.Gpus(nvml, str(proc)).read()
    energy_mj = row.pop("energy_mj")
    assert 0 <= energy_mj < 40_000
    assert row == {"w": 40.0, "sm_mhz": 2411, "temp_c": 61, "util": 96, "throttle": [],
                   "mem_procs": 30 * GIB, "procs": 1, "others": []}


def test_what_is_not_supported_is_none_and_not_asked_again(proc):
    nvml = Nvml(refuse=("power", "energy", "processes", "reasons"))
    card = gpus.Gpus(nvml, str(proc))
    rows = [card.read(now)[0] for now in (0.0, 10.0, 20.0)]
    for r in rows:
        assert (r["w"], r["energy_mj"], r["mem_procs"], r["throttle"]) == (None, None, None, [])
    for what in ("power", "energy", "processes", "reasons"):
        assert nvml.asked.count(what) == 1, what
    assert nvml.asked.count("clock") == 3


def test_a_call_that_fails_is_tried_three_times_in_a_row_and_no_more(proc):
    nvml = Nvml(fail=("power",))
    card = gpus.Gpus(nvml, str(proc))
    assert [card.read()[0]["w"] for _ in range(2)] == [None, None]
    nvml.fail.clear()
    assert card.read()[0]["w"] == 40.0
    nvml.fail.add("power")
    for _ in range(6):
        assert card.read()[0]["w"] is None
    assert nvml.asked.count("power") == 6, "2 failed, 1 went well, 3 failed"


def test_older_drivers_call_the_reasons_by_their_older_name(proc):
    nvml = Nvml(old=True)
    nvml.reasons = 0x4
    assert gpus.Gpus(nvml, str(proc)).read()[0]["throttle"] == ["power cap"]
    missing = Nvml()                                  # pynvml has the new name, the driver does not
    missing.nvmlDeviceGetCurrentClocksThrottleReasons = lambda handle: 0x20
    missing.nvmlDeviceGetCurrentClocksEventReasons = lambda handle: (_ for _ in ()).throw(NvmlError(13))
    assert gpus.Gpus(missing, str(proc)).read()[0]["throttle"] == ["thermal"]


@pytest.mark.parametrize(("bits", "words"), [
    (0, []), (0x1, []), (0x2, []), (0x100, []), (0x103, []), (0x4, ["power cap"]),
    (0x8, ["hardware slowdown"]), (0x48, ["hardware thermal"]), (0x88, ["power brake"]), (0x21, ["thermal"]),
    (0x24, ["power cap", "thermal"]), (0x200, ["board limit"]), (0x1000, ["reason 0x1000"]),
])
def test_the_reasons_in_words(bits, words):
    assert gpus.reasons(bits) == words


def test_the_bits_are_those_of_the_published_header():
    pynvml = pytest.importorskip("pynvml")
    for bit, name in ((0x4, "SwPowerCap"), (0x8, "HwSlowdown"), (0x10, "SyncBoost"),
                      (0x20, "SwThermalSlowdown"), (0x40, "HwThermalSlowdown"),
                      (0x80, "HwPowerBrakeSlowdown")):
        assert getattr(pynvml, f"nvmlClocksEventReason{name}") == bit
        assert bit in gpus.REASONS
    harmless = pynvml.nvmlClocksEventReasonGpuIdle | pynvml.nvmlClocksEventReasonApplicationsClocksSetting \
        | pynvml.nvmlClocksEventReasonDisplayClockSetting
    assert gpus.reasons(harmless) == []
    never = ("NOT_SUPPORTED", "NO_PERMISSION", "FUNCTION_NOT_FOUND")
    assert {getattr(pynvml, f"NVML_ERROR_{n}") for n in never} == gpus._NEVER
    assert pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED).value == 3
    assert (pynvml.NVML_CLOCK_SM, pynvml.NVML_TEMPERATURE_GPU) == (gpus._CLOCK_SM, gpus._TEMPERATURE_GPU)
    for name in ("PowerUsage", "ClockInfo", "Temperature", "UtilizationRates", "CurrentClocksEventReasons",
                 "TotalEnergyConsumption", "ComputeRunningProcesses"):
        assert callable(getattr(pynvml, f"nvmlDeviceGet{name}"))


def test_who_else_computes_on_the_gpu(proc):
    inside = "0::/system.slice/docker-abc.scope"
    process(proc, 7001, "VLLM::EngineCore", 7001, inside)
    process(proc, 7002, "vllm", 6000, inside)         # of the same container
    process(proc, 7003, "worker", 7001)               # of the same process group
    process(proc, 8000, "python3", 8000)
    nvml = Nvml()
    held = {8000: 2 * GIB, 7002: None, 7003: GIB, 7001: 30 * GIB, 9999: 1}
    nvml.processes = [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in held.items()]
    [row] = gpus.Gpus(nvml, str(proc)).read()
    assert row["others"] == ["python3 (pid 8000)", "a process (pid 9999)"]
    assert (row["procs"], row["mem_procs"]) == (5, 33 * GIB + 1)


def test_processes_are_listed_every_two_seconds_only(proc):
    nvml = Nvml()
    card = gpus.Gpus(nvml, str(proc))
    for n in range(21):
        assert card.read(100 + n / 5)[0]["procs"] == 1
    assert nvml.asked.count("processes") == 3, "at 0, 2 and 4 s"
    assert nvml.asked.count("power") == 21


def test_without_a_driver_there_are_no_gpus(proc):
    nvml = Nvml()
    nvml.refuse.add("init")
    assert gpus.Gpus(nvml, str(proc)).read() == []
    assert gpus.Gpus(False, str(proc)).read() == []


# ------------------------------------------------------------ the thread

def test_samples_are_appended_a_line_each_and_end_with_it(tmp_path, proc):
    path = tmp_path / "telemetry.jsonl"
    nvml = Nvml()
    before = time.time()
    with Telemetry(path, interval=0.02, proc=str(proc), nvml=nvml) as t:
        assert t.last is not None, "the first sample is there when the run begins"
        time.sleep(0.3)
    n = len(lines(path))
    rows = list(journal.rows(path))
    assert rows == lines(path)
    assert 5 <= n <= 17, "15 are due in 0.3 s"
    assert n == t.samples
    assert t.last == rows[-1]
    assert rows[-1]["gpus"][0]["sm_mhz"] == 2411
    assert before - 0.01 <= rows[0]["unix"] <= rows[-1]["unix"] <= time.time()
    assert t.trouble == ""
    assert 0 < t.cost_ms < 20
    assert nvml.asked[-1] == "shutdown"
    time.sleep(0.06)
    assert len(lines(path)) == n, "nothing is written after stop()"


def test_a_full_disk_ends_it_with_a_note(proc):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with Telemetry("/dev/full", interval=0.01, proc=str(proc), nvml=False) as t:
        time.sleep(0.05)
    assert t.samples == 0
    assert "/dev/full can't be written (No space left on device)" in t.trouble


def test_half_a_line_counts_as_a_full_disk(tmp_path, proc, monkeypatch):
    path = tmp_path / "telemetry.jsonl"
    write, sizes = os.write, []

    def short(fd, data):
        sizes.append(len(data))
        return write(fd, data if len(sizes) < 3 else data[:20])

    monkeypatch.setattr(telemetry.os, "write", short)
    with Telemetry(path, interval=0.01, proc=str(proc), nvml=False) as t:
        t._thread.join(2)
    monkeypatch.undo()
    assert t.samples == 2
    assert "after 2 samples" in t.trouble
    assert len(list(journal.rows(path))) == 2, "the torn line is passed over"
    with Telemetry(path, interval=0.01, proc=str(proc), nvml=False) as again:
        time.sleep(0.05)
    rows = list(journal.rows(path))
    assert len(rows) == 2 + 1 + again.samples, "and a later run goes on behind it"
    assert memory(rows, 0, time.time()) is not None


def test_a_file_that_can_not_be_opened_is_a_note(tmp_path):
    with Telemetry(tmp_path / "not" / "there.jsonl", nvml=False) as t:
        pass
    assert "can't be written (No such file or directory)" in t.trouble
    assert t.cost_ms is None


def test_a_driver_that_hangs_holds_nobody_up(tmp_path, proc):
    nvml, inside, release = Nvml(), threading.Event(), threading.Event()
    nvml.nvmlDeviceGetPowerUsage = lambda handle: inside.set() or release.wait(20)
    t = Telemetry(tmp_path / "t.jsonl", interval=0.01, proc=str(proc), nvml=nvml)
    began = time.monotonic()
    t._first.wait = lambda s: None                    # start() would wait for 2 s
    t.start()
    assert inside.wait(5), "the driver is being asked"
    t.stop()
    assert time.monotonic() - began < 1.5
    assert t._thread.daemon, "so the program can end"
    release.set()
    t._thread.join(2)


def test_the_drivers_version():
    assert driver(Nvml()) == "580.142" and driver(Nvml(refuse=("driver",))) is None and driver(False) is None


def test_idle_power_is_the_counters_mean():
    nvml = Nvml(count=2)
    assert idle_power(0.15, nvml) == pytest.approx(80, rel=0.1)
    assert nvml.asked[-1] == "shutdown"
    assert idle_power(0.05, Nvml(refuse=("energy",))) == pytest.approx(40)
    assert idle_power(0.05, Nvml(refuse=("energy", "power"))) is None
    began = time.monotonic()
    assert idle_power(5, False) is None
    assert time.monotonic() - began < 1, "without a GPU there is nothing to wait for"


# ------------------------------------------------------------ energy of a time span

def sample(unix, *cards, available=60 * GIB, swap=0, total=120 * GIB, **more):
    return {"unix": unix, "mem_total": total, "mem_available": available, "swap_used": swap, "page_cache": 0,
            "gpus": list(cards)} | more


def card(w=None, energy_mj=None, **more):
    return {"w": w, "sm_mhz": 2400, "temp_c": 60, "util": 95, "throttle": [], "energy_mj": energy_mj,
            "mem_procs": None, "procs": 1, "others": []} | more


def test_the_trapezoid_of_a_ramp_is_exact():
    rows = [sample(t, card(w=10 + 2 * t)) for t in range(11)]           # 10 W to 30 W
    e = energy(rows, 2.5, 7.5)
    assert e["joules"] == pytest.approx(5 * 20)
    assert e["mean_w"] == pytest.approx(20)
    assert e["source"] == "trapezoid of 5 samples"
    assert e["above_idle_joules"] is None
    assert energy(rows, 2.5, 7.5, idle_w=4)["above_idle_joules"] == pytest.approx(80)
    assert energy(reversed(rows), 2.5, 7.5) == e, "order does not matter"
    assert energy(rows, 3.2, 3.4)["joules"] == pytest.approx(0.2 * 16.6), "between two samples"


def test_the_counter_goes_before_the_power():
    rows = [sample(t, card(w=999, energy_mj=5_000_000 + 30_000 * t)) for t in range(11)]
    e = energy(rows, 2.25, 6.75)
    assert e["source"] == "energy counter"
    assert e["joules"] == pytest.approx(30 * 4.5)
    assert e["mean_w"] == pytest.approx(30)


@pytest.mark.parametrize("counter", [
    lambda t: 1000,                                   # stands still
    lambda t: 10_000 * t if t < 5 else 10_000 * (t - 5),      # the driver was loaded anew
    lambda t: None if t > 2 else 10_000 * t,          # ends early
])
def test_a_counter_that_can_not_be_trusted_is_not_used(counter):
    rows = [sample(t, card(w=20, energy_mj=counter(t))) for t in range(11)]
    e = energy(rows, 1, 9)
    assert e["source"] == "trapezoid of 9 samples"
    assert e["joules"] == pytest.approx(160)


def test_a_gpu_that_draws_nothing_is_believed():
    assert energy([sample(t, card(w=0, energy_mj=7)) for t in range(5)], 1, 3)["joules"] == 0


def test_several_gpus_are_added_up():
    rows = [sample(t, card(w=20, energy_mj=20_000 * t), card(w=30)) for t in range(11)]
    e = energy(rows, 0, 10)
    assert e["joules"] == pytest.approx(500)
    assert e["source"].startswith("trapezoid")


def test_no_energy_without_power_without_gpus_or_without_samples():
    nothing = {"joules": None, "mean_w": None, "source": None, "above_idle_joules": None}
    assert energy([], 0, 1) is None
    assert energy([sample(0), sample(1)], 0, 1) is None
    assert energy([sample(t, card()) for t in range(3)], 0, 2, idle_w=3) == nothing
    rows = [sample(t, card(w=20)) for t in range(11)]
    assert energy(rows, 8, 20) == nothing, "a sixth of the span is covered"
    assert energy(rows, 20, 30) == nothing
    assert energy(rows, 5, 5) == nothing
    assert energy(rows, 0.5, 10.5)["joules"] == pytest.approx(200), "a twentieth lacks"


# ------------------------------------------------------------ memory and warnings

def test_memory_of_a_span_begins_with_the_sample_before_it():
    rows = [sample(0, available=100 * GIB), sample(1, available=90 * GIB, swap=GIB),
            sample(2, available=30 * GIB, swap=3 * GIB), sample(3, available=50 * GIB, swap=2 * GIB),
            sample(9, available=1 * GIB)]
    assert memory(rows, 1.5, 4) == {"total": 120 * GIB, "start_used": 30 * GIB, "peak_used": 90 * GIB,
                                    "lowest_available": 30 * GIB, "swap_grew": 2 * GIB,
                                    "peak_gpu_procs": None}
    assert memory(rows, 20, 30) is None, "an old sample says nothing about it"
    assert memory([{"k": "resume"}, {"unix": 1, "mem_total": None, "gpus": []}], 0, 2) is None


def test_what_gpu_processes_hold_is_the_sum_over_gpus():
    rows = [sample(t, card(mem_procs=t * GIB), card(mem_procs=None if t < 2 else GIB)) for t in range(4)]
    assert memory(rows, 0, 3)["peak_gpu_procs"] == 4 * GIB


def test_a_good_run_is_not_warned_about():
    rows = [sample(t / 5, card(w=40)) for t in range(50)]
    assert warnings(rows, 0, 10) == []
    assert warnings([], 0, 10) == []


def test_swap_that_grew_is_a_warning_and_a_little_of_it_is_none():
    def rows(swap):
        return [sample(0), sample(1, swap=swap)]

    assert warnings(rows(4 * 2**20), 0, 1) == []
    [said] = warnings(rows(3 * GIB), 0, 1)
    assert said.startswith("swap grew by 3.0 GiB")


def test_unified_memory_that_runs_out_is_a_warning_on_a_spark_only():
    spark = [sample(0, card()), sample(1, card(), available=7 * GIB)]
    [said] = warnings(spark, 0, 1)
    assert said.startswith("only 7.0 GiB of unified memory were left")
    assert warnings([sample(0, card(), available=8 * GIB)], 0, 1) == []
    assert warnings(spark, 0, 1, gpu_total=80 * GIB) == [], "a card with memory of its own"
    laptop = [sample(1, total=8 * GIB, available=2 * GIB)]
    assert warnings(laptop, 0, 1) == []
    [said] = warnings([sample(1, total=8 * GIB, available=GIB // 4)], 0, 1)
    assert said == "only 0.2 GiB of main memory were left."


def test_throttling_is_told_by_cause_and_share():
    rows = [sample(t, card(throttle=["thermal"] if t < 25 else [])) for t in range(100)]
    [said] = warnings(rows, 0, 100)
    assert said == "the GPU's clock was held down by heat (thermal) in 25 % of 100 samples."
    rows = [sample(t, card(throttle=["power cap"] if t == 3 else ["sync boost"])) for t in range(200)]
    power, rest = warnings(rows, 0, 200)
    assert "by power (power cap) in under 1 % of 200 samples" in power
    assert "by the driver (sync boost) in 100 % of 200 samples" in rest


def test_a_busy_gb10_at_a_low_clock_is_told():
    def rows(mhz, util):
        return [sample(t, card(sm_mhz=mhz, util=util)) for t in range(10)]

    [said] = warnings(rows(513, 96), 0, 10)
    assert "busy at 513 MHz" in said
    assert warnings(rows(2400, 96), 0, 10) == []
    assert warnings(rows(208, 3), 0, 10) == [], "idle GPUs clock down"
    assert warnings(rows(None, None), 0, 10) == []


def test_other_processes_on_the_gpu_are_named():
    [said] = warnings([sample(0, card(others=["python3 (pid 8000)"])), sample(1, card())], 0, 1)
    assert said == "not only the engine was on the GPU: python3 (pid 8000); what it did is in these figures."
    [said] = warnings([sample(0, card(others=[f"p (pid {n})" for n in range(1, 6)]))], 0, 1)
    assert "p (pid 3) and 2 more; what they did" in said
