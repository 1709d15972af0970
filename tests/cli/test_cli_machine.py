"""What the machine is, from texts of nvidia-smi and /proc.

The GB10, B200 and two-GPU texts below are WRITTEN AFTER THE REFERENCES, not recorded on such machines: NVIDIA's DGX
Spark known issues say that nvidia-smi gives memory as "[N/A]" there ("Not Supported" in the table view), CUDA's list
of GPUs gives the compute capabilities.
"""

import pytest

from gb10 import machine
from gb10.errors import UserError

GIB = 2**30
GB10 = "NVIDIA GB10, 12.1, [N/A]\n"
H200 = "NVIDIA H200, 9.0, 143771\n"
B200 = "NVIDIA B200, 10.0, 183359\n"
RTX4090 = "NVIDIA GeForce RTX 4090, 8.9, 24564\n"
MEMINFO_SPARK = """MemTotal:       127600000 kB
MemFree:         3000000 kB
MemAvailable:   98000000 kB
Buffers:          200000 kB
Cached:         96000000 kB
SwapTotal:      16777212 kB
SwapFree:       16777212 kB
Shmem:            100000 kB
"""
MEMINFO_LAPTOP = """MemTotal:        8000000 kB
MemFree:         1000000 kB
MemAvailable:    6000000 kB
Buffers:          100000 kB
Cached:          5000000 kB
SwapTotal:             0 kB
SwapFree:              0 kB
"""


def says(text, code=0):
    return lambda argv, timeout: (code, text)


@pytest.fixture
def detect(tmp_path):
    """detect(nvidia-smi text, meminfo, cgroup files) -> Machine, from files under tmp_path."""

    def call(smi="", code=0, meminfo=MEMINFO_LAPTOP, own_cgroup="0::/\n", cgroup=None, env=None, installed=True):
        (tmp_path / "proc/self").mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc/meminfo").write_text(meminfo)
        (tmp_path / "proc/self/cgroup").write_text(own_cgroup)
        for name, text in (cgroup or {}).items():
            f = tmp_path / "cgroup" / name
            f.parent.mkdir(parents=True, exist_ok=True)
            f.write_text(text)
        return machine.detect(proc=tmp_path / "proc", cgroup=tmp_path / "cgroup", env=env or {},
                              run=says(smi, code if installed else 127), nvidia_smi="nvidia-smi")

    return call


def test_a_laptop(detect):
    m = detect(installed=False)
    assert (m.rung, m.gpus, m.gpu_trouble, m.native_formats) == ("laptop", (), None, ())
    assert m.memory_available_bytes == 6_000_000 * 1024 and m.swap_total_bytes == 0
    assert m.page_cache_bytes == 5_100_000 * 1024
    assert m.describe().endswith("7.6 GiB, no NVIDIA GPU")


def test_a_spark(detect):
    m = detect(GB10, meminfo=MEMINFO_SPARK)
    assert m.rung == "spark" and m.unified_memory
    assert m.gpus == (machine.Gpu("NVIDIA GB10", (12, 1), None),)
    assert m.native_formats[:2] == ("fp4", "fp8")
    assert m.memory_available_bytes == 98_000_000 * 1024      # not MemFree: page cache is given back
    assert m.to_dict()["gpus"][0]["compute_capability"] == "12.1"
    assert "NVIDIA GB10 (compute capability 12.1)" in m.describe()


@pytest.mark.parametrize(("smi", "rung", "formats"), [
    (RTX4090, "laptop", ("fp8", "int8", "bf16", "fp16")),
    (RTX4090 * 2, "laptop", ("fp8", "int8", "bf16", "fp16")),
    (H200, "laptop", ("fp8", "int8", "bf16", "fp16")),
    (H200 * 2, "rack", ("fp8", "int8", "bf16", "fp16")),
    (B200, "rack", ("fp4", "fp8", "int8", "bf16", "fp16")),
    ("NVIDIA B300 SXM6 AC, 10.3, 275040\n" * 8, "rack", ("fp4", "fp8", "int8", "bf16", "fp16")),
    ("NVIDIA L40S, 8.9, 46068\n" * 2, "rack", ("fp8", "int8", "bf16", "fp16")),
    ("NVIDIA RTX A4000, 8.6, 16376\n" * 2, "laptop", ("int8", "bf16", "fp16")),
    ("NVIDIA GeForce RTX 5090, 12.0, 32607\n", "laptop", ("fp4", "fp8", "int8", "bf16", "fp16")),
    ("Tesla V100-SXM2-16GB, 7.0, 16160\n", "laptop", ("fp16",)),
    ("Tesla K80, 3.7, 11441\n", "laptop", ()),
])
def test_rungs_and_native_formats(detect, smi, rung, formats):
    m = detect(smi)
    assert (m.rung, m.native_formats) == (rung, formats)


@pytest.mark.parametrize(("smi", "code", "said"), [
    ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", 9, "exit code 9: NVIDIA-SMI has"),
    ("No devices were found\n", 0, "finds no device"),
    ("", 0, "finds no device"),
    ("Segmentation fault\n", 0, "not what nvidia-smi prints"),
    ("no answer within 5 s", 124, "no answer within 5 s"),
    ('Field "compute_cap" is not a valid field to query.\n', 2, "exit code 2"),
])
def test_a_broken_nvidia_smi_is_told(detect, smi, code, said):
    m = detect(smi, code)
    assert m.rung == "laptop" and not m.gpus and said in m.gpu_trouble


def test_declared_rung(detect):
    m = detect(GB10, env={"GB10_RUNG": "rack"})
    assert m.rung == "rack" and m.rung_declared
    with pytest.raises(UserError, match="laptop, spark or rack"):
        detect(env={"GB10_RUNG": "server"})


def test_container_limits(detect):
    m = detect(own_cgroup="0::/pod/ours\n", cgroup={
        "pod/memory.max": f"{4 * GIB}", "pod/memory.current": f"{3 * GIB}", "pod/memory.stat": f"inactive_file {GIB}\n",
        "pod/ours/memory.max": "max", "pod/ours/memory.current": "5"})
    assert m.memory_total_bytes == m.memory_limit_bytes == 4 * GIB
    assert m.memory_available_bytes == 2 * GIB


def test_container_limits_version_1(detect):
    m = detect(own_cgroup="4:memory:/docker/abc\n", cgroup={
        "memory/memory.limit_in_bytes": f"{2 * GIB}", "memory/memory.usage_in_bytes": f"{GIB}",
        "memory/memory.stat": "total_inactive_file 0\n"})
    assert (m.memory_total_bytes, m.memory_available_bytes) == (2 * GIB, GIB)


def test_no_limit_is_no_limit(detect):
    m = detect(own_cgroup="4:memory:/\n0::/\n", cgroup={
        "memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "5"})
    assert m.memory_limit_bytes is None and m.memory_total_bytes == 8_000_000 * 1024


def test_the_real_machine_and_the_banner():
    m = machine.detect()
    assert 0 < m.memory_available_bytes <= m.memory_total_bytes and m.cores >= 1 and m.rung in machine.RUNGS
    line = machine.banner("pytest", "no-such-package", machine=m)
    assert line.startswith("gb10 ") and "no-such-package not installed" in line and "pytest 9" in line
    assert line.endswith(m.describe()) and "\n" not in line


def test_a_program_that_hangs_is_left():
    assert machine.run_quietly(["sh", "-c", "sleep 20 & sleep 20"], 0.2) == (124, "no answer within 0.2 s")
