"""What this machine is: rung, GPUs, the formats they multiply natively, and the memory that is truly available.

Standard library only, no torch. `detect()` reads nvidia-smi and /proc; every source can be replaced by a recorded one
(`proc`, `cgroup`, `run`, `env`), which is how a GB10 is tested where there is none.

Why not NVML or torch for memory: on GB10 CPU and GPU share one pool, nvidia-smi reports its size as "[N/A]" (NVML "Not
Supported") and cudaMemGetInfo counts page cache as used. The honest figure is MemAvailable in /proc/meminfo
(DGX Spark known issues, docs.nvidia.com/dgx/dgx-spark/known-issues.html).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from gb10.errors import UserError

RUNGS = ("laptop", "spark", "rack")
GIB = 2**30

# Compute capability -> formats that its tensor cores multiply (CUDA C++ programming guide, tensor core data types;
# fp4 = block-scaled NVFP4 and MXFP4). 10.0 B200, 10.3 B300, 11.0 Thor, 12.0 RTX 50, 12.1 GB10, 9.0 H100/H200, 8.9 Ada.
_BLACKWELL = ("fp4", "fp8", "int8", "bf16", "fp16")
_NATIVE = {
    (7, 0): ("fp16",), (7, 2): ("int8", "fp16"), (7, 5): ("int8", "fp16"),
    (8, 0): ("int8", "bf16", "fp16"), (8, 6): ("int8", "bf16", "fp16"), (8, 7): ("int8", "bf16", "fp16"),
    (8, 9): ("fp8", "int8", "bf16", "fp16"), (9, 0): ("fp8", "int8", "bf16", "fp16"),
}
# A100 and A30, H100/H200/GH200, B200, B300; 8.6 and 8.9 are desktop chips too, so those are told by name.
_DATACENTRE = {(8, 0), (9, 0), (10, 0), (10, 3)}
_DATACENTRE_NAME = re.compile(r"\b(A10G?|A16|A30|A40|A100|A800|L4|L20|L40S?|G?H\d{2,3}|G?B[123]00)\b")

Runner = Callable[[list[str], float], tuple[int, str]]


@dataclass(frozen=True)
class Gpu:
    name: str
    compute_capability: tuple[int, int] | None     # None: the driver is too old to say
    memory_bytes: int | None                       # None: not reported (unified memory, as on GB10)

    @property
    def native_formats(self) -> tuple[str, ...]:
        return native_formats(self.compute_capability)

    @property
    def is_gb10(self) -> bool:
        return self.compute_capability == (12, 1) or "GB10" in self.name.upper().split()

    @property
    def is_datacentre(self) -> bool:
        return self.compute_capability in _DATACENTRE or bool(_DATACENTRE_NAME.search(self.name))


@dataclass(frozen=True)
class Machine:
    rung: str                          # "laptop", "spark" or "rack"
    rung_declared: bool                # by GB10_RUNG rather than found
    gpus: tuple[Gpu, ...]
    gpu_trouble: str | None            # why nvidia-smi could not be used although it is there
    memory_total_bytes: int            # of the machine, or of the container if that is less
    memory_available_bytes: int        # MemAvailable, or what the container's limit leaves if that is less
    memory_limit_bytes: int | None     # a container's limit, where one is set below the machine's total
    swap_total_bytes: int
    swap_free_bytes: int
    page_cache_bytes: int
    cores: int
    system: str
    arch: str
    python: str

    @property
    def native_formats(self) -> tuple[str, ...]:
        """What the first GPU multiplies natively; () without one."""
        return self.gpus[0].native_formats if self.gpus else ()

    @property
    def unified_memory(self) -> bool:
        """CPU and GPU share one pool, so an engine that takes too much wedges the whole machine."""
        return any(g.is_gb10 for g in self.gpus)

    def describe(self) -> str:
        """One clause: "rung laptop: 2 cores, 23.5 GiB, no NVIDIA GPU"."""
        if not self.gpus:
            gpu = "no NVIDIA GPU"
        else:
            count = f"{len(self.gpus)} x " if len(self.gpus) > 1 else ""
            cc = self.gpus[0].compute_capability
            gpu = f"{count}{self.gpus[0].name}" + (f" (compute capability {cc[0]}.{cc[1]})" if cc else "")
        return f"rung {self.rung}: {self.cores} cores, {self.memory_total_bytes / GIB:.1f} GiB, {gpu}"

    def to_dict(self) -> dict:
        """Plain data for --json."""
        d = asdict(self)
        for gpu, mine in zip(d["gpus"], self.gpus, strict=True):
            cc = mine.compute_capability
            gpu["compute_capability"] = f"{cc[0]}.{cc[1]}" if cc else None
            gpu["native_formats"] = list(mine.native_formats)
        d["gpus"] = list(d["gpus"])
        return d | {"native_formats": list(self.native_formats), "unified_memory": self.unified_memory}


def native_formats(cc: tuple[int, int] | None) -> tuple[str, ...]:
    """Formats that tensor cores of this compute capability multiply; () when it is unknown or has none."""
    if cc is None or cc < (7, 0):
        return ()
    return _BLACKWELL if cc >= (10, 0) else _NATIVE.get(cc, ())


def run_quietly(argv: list[str], timeout: float) -> tuple[int, str]:
    """(exit code, stdout); 127 when there is no such program, 124 when it did not end in time. Never raises."""
    try:
        p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                             text=True, errors="replace", start_new_session=True)
    except OSError as e:
        return 127, str(e)
    try:
        out, err = p.communicate(timeout=timeout)
        return p.returncode, out or err
    except subprocess.TimeoutExpired:
        # With a hung driver even SIGKILL waits: kill the whole group and don't wait for it (subprocess.run would).
        try:
            os.killpg(p.pid, signal.SIGKILL)
        except OSError:
            p.kill()
        return 124, f"no answer within {timeout:g} s"


def _find_nvidia_smi() -> str | None:
    wsl = "/usr/lib/wsl/lib/nvidia-smi"   # under WSL 2 it is not on every PATH
    return shutil.which("nvidia-smi") or (wsl if os.path.exists(wsl) else None)


def parse_nvidia_smi(text: str) -> tuple[Gpu, ...]:
    """`--query-gpu=name,compute_cap,memory.total --format=csv,noheader,nounits` -> GPUs; "[N/A]" becomes None."""
    gpus = []
    for line in text.strip().splitlines():
        fields = [f.strip() for f in line.split(",")]
        if len(fields) < 3 or not fields[0]:
            raise ValueError(f"not what nvidia-smi prints: {line[:80]!r}")
        cc = re.fullmatch(r"(\d+)\.(\d+)", fields[-2])
        mib = re.fullmatch(r"\d+", fields[-1])
        gpus.append(Gpu(", ".join(fields[:-2]), cc and (int(cc[1]), int(cc[2])), mib and int(mib[0]) * 2**20))
    return tuple(gpus)


def detect_gpus(run: Runner = run_quietly, nvidia_smi: str | None = None,
                timeout: float = 5.0) -> tuple[tuple[Gpu, ...], str | None]:
    """(GPUs, trouble). No nvidia-smi at all is no trouble; one that fails or hangs is."""
    exe = nvidia_smi or _find_nvidia_smi()
    if exe is None:
        return (), None
    code, out = run([exe, "--query-gpu=name,compute_cap,memory.total", "--format=csv,noheader,nounits"], timeout)
    if code == 127:
        return (), None
    if code:
        said = " ".join(out.split())[:160] or "it says nothing"
        return (), said if code == 124 else f"exit code {code}: {said}"
    if "no devices were found" in out.lower() or not out.strip():
        return (), "it finds no device"
    try:
        return parse_nvidia_smi(out), None
    except ValueError as e:
        return (), str(e)


def _meminfo(proc: Path) -> dict[str, int]:
    """/proc/meminfo in bytes; {} where there is none (macOS)."""
    try:
        text = (proc / "meminfo").read_text()
    except OSError:
        return {}
    return {k: int(v) * 1024 for k, v in re.findall(r"^([^:\s]+):\s+(\d+) kB", text, re.MULTILINE)}


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):   # no such file, or "max"
        return None


def _cgroup_memory(proc: Path, root: Path) -> tuple[int, int] | None:
    """(limit, available under it) of the tightest memory limit above this process; None without one.

    Version 2 has memory.max, memory.current and memory.stat; version 1 memory/memory.limit_in_bytes and
    memory.usage_in_bytes. Page cache of the group (inactive_file) is given back under pressure, so it counts as
    available, as MemAvailable does for the machine.
    """
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names, inactive = root, ("memory.max", "memory.current"), r"^inactive_file (\d+)"
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
            inactive = r"^total_inactive_file (\d+)"
        else:
            continue
        # Inside a container the path may be the host's: then only the root of what is mounted here is readable.
        folder = base / path.strip("/")
        for f in dict.fromkeys([folder, *(p for p in folder.parents if p.is_relative_to(base)), base]):
            limit, used = _number(f / names[0]), _number(f / names[1])
            if limit is None or used is None:
                continue
            try:
                cache = re.search(inactive, (f / "memory.stat").read_text(), re.MULTILINE)
            except OSError:
                cache = None
            found.append((limit, max(0, limit - used + (int(cache[1]) if cache else 0))))
    return min(found, key=lambda pair: pair[1], default=None)


def _memory_without_proc() -> tuple[int, int]:
    import psutil  # a dependency of the course, imported only where there is no /proc/meminfo

    v = psutil.virtual_memory()
    return v.total, v.available


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decide_rung(gpus: tuple[Gpu, ...]) -> str:
    """rack: a B200/B300, or two or more data-centre GPUs or GB10s; spark: one GB10; laptop: everything else."""
    if any(g.compute_capability in {(10, 0), (10, 3)} for g in gpus):
        return "rack"
    if sum(g.is_datacentre or g.is_gb10 for g in gpus) >= 2:
        return "rack"
    return "spark" if any(g.is_gb10 for g in gpus) else "laptop"


def declared_rung(env: Mapping[str, str]) -> str | None:
    """What GB10_RUNG says (a second Spark can't be seen from the first: GB10_RUNG=rack declares it).

    Raises:
        UserError: it names no rung.
    """
    value = env.get("GB10_RUNG", "").strip().lower()
    if value and value not in RUNGS:
        raise UserError(f"GB10_RUNG is {value!r}; it must be laptop, spark or rack (or unset).")
    return value or None


def detect(*, proc: Path | str = "/proc", cgroup: Path | str = "/sys/fs/cgroup", run: Runner = run_quietly,
           env: Mapping[str, str] | None = None, nvidia_smi: str | None = None, timeout: float = 5.0) -> Machine:
    """What this machine is, now (nothing is cached: available memory changes). `timeout` (s) bounds nvidia-smi.

    Raises:
        UserError: GB10_RUNG names no rung.
    """
    proc, cgroup = Path(proc), Path(cgroup)
    declared = declared_rung(os.environ if env is None else env)
    gpus, trouble = detect_gpus(run, nvidia_smi, timeout)
    mem = _meminfo(proc)
    if "MemTotal" in mem:
        total = mem["MemTotal"]
        available = mem.get("MemAvailable", mem.get("MemFree", 0) + mem.get("Cached", 0))
    else:
        total, available = _memory_without_proc()
    limit = _cgroup_memory(proc, cgroup)
    bounded = limit is not None and limit[0] < total
    return Machine(
        rung=declared or decide_rung(gpus), rung_declared=declared is not None, gpus=gpus, gpu_trouble=trouble,
        memory_total_bytes=limit[0] if bounded else total,
        memory_available_bytes=min(available, limit[1]) if bounded else available,
        memory_limit_bytes=limit[0] if bounded else None,
        swap_total_bytes=mem.get("SwapTotal", 0), swap_free_bytes=mem.get("SwapFree", 0),
        # Shmem is counted in Cached but cannot be dropped.
        page_cache_bytes=max(0, mem.get("Cached", 0) + mem.get("Buffers", 0) - mem.get("Shmem", 0)),
        cores=_cores(), system=platform.system(), arch=platform.machine(), python=platform.python_version(),
    )


def banner(*packages: str, machine: Machine | None = None) -> str:
    """The version and machine line of a notebook; imports none of the packages it names.

    >>> banner("torch")   # doctest: +SKIP
    'gb10 0.1.0 | Python 3.11.7 | torch 2.13.0+cpu | rung laptop: 2 cores, 23.5 GiB, no NVIDIA GPU'
    """
    from importlib.metadata import PackageNotFoundError, version

    from gb10 import __version__

    machine = machine or detect()
    parts = [f"gb10 {__version__}", f"Python {machine.python}"]
    for package in packages or ("torch", "nvidia-modelopt"):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"{package} not installed")
    return " | ".join([*parts, machine.describe()])
