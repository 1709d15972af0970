"""What stands around the compiled loops: kept on disk, made anew when they must be, done without where they can't be had;
threads, memory, subnormals."""

import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gb10
from gb10.formats import NVFP4
from gb10.formats.kernels import load, memory
from gb10.formats.kernels import nvfp4 as fast

ROOT = Path(gb10.__file__).parent.parent
SAYS_COMPILING = "gb10: compiling the loops"
# prints the bits of one quantized tensor
PROGRAM = """
import sys, time, torch
from gb10.formats import NVFP4
x = torch.sin(torch.arange(512.0)).mul(3).view(4, 128).bfloat16()
start = time.perf_counter()
q = NVFP4.quantize(x)
print(bytes(q.packed.flatten().tolist()).hex(), q.tensor_scale.item(), q.dequantize().double().sum().item())
print(time.perf_counter() - start, "numba" in sys.modules, "scipy" in sys.modules)
"""


@pytest.fixture
def checkout(tmp_path):
    """A copy of the number formats alone, in which nothing has been compiled, and a home of its own."""
    kernels = tmp_path / "copy" / "gb10" / "formats" / "kernels"
    shutil.copytree(ROOT / "gb10" / "formats", kernels.parent, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "gb10" / "__init__.py", tmp_path / "copy" / "gb10" / "__init__.py")
    (tmp_path / "home").mkdir()

    def run(**more):
        env = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
        env |= {"PYTHONPATH": str(tmp_path / "copy"), "HOME": str(tmp_path / "home")} | more
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, cwd=tmp_path, capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines(), [line for line in done.stderr.splitlines() if line.startswith("gb10:")]

    run.kernels, run.home, run.tmp = kernels, tmp_path / "home", tmp_path
    return run


@pytest.fixture(scope="module")
def expected():
    x = torch.sin(torch.arange(512.0)).mul(3).view(4, 128).bfloat16()
    q = NVFP4.quantize(x)
    return f"{bytes(q.packed.flatten().tolist()).hex()} {q.tensor_scale.item()} {q.dequantize().double().sum().item()}"


def kept(folder):
    return [f for f in folder.glob("**/gb10-loops-*") if f.is_file()]


def test_compiled_once_then_kept(checkout, expected):
    """Where a damaged file lies, too: it is replaced."""
    file = checkout.kernels / "__pycache__" / load._name()
    file.parent.mkdir()
    file.write_bytes(b"0" * 5000)
    out, said = checkout()
    assert out[0] == expected and len(said) == 1 and said[0].startswith(SAYS_COMPILING)
    assert out[1].split()[1] == "True"           # numba was there
    assert kept(checkout.kernels) == [file] and not kept(checkout.home) and file.stat().st_size > 10000

    out, said = checkout()
    assert out[0] == expected and said == []
    assert out[1].split()[1:] == ["False", "False"], "a later process imports numba, which takes most of a second"


@pytest.mark.parametrize("damage", [lambda b: b[:1000], lambda b: b[:500] + bytes([b[500] ^ 4]) + b[501:], lambda b: b"",
                                    lambda b: b"\n" + b, lambda b: b[:-1]])
def test_a_damaged_file_counts_as_none(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert load._keep("x.o", b"code" * 500, {"loop": 3}) and load._read("x.o") == (b"code" * 500, {"loop": 3})
    (tmp_path / "x.o").write_bytes(damage((tmp_path / "x.o").read_bytes()))
    assert load._read("x.o") is None


def test_changed_loops_are_another_file(tmp_path, monkeypatch):
    """An update of the course must never meet loops of before it."""
    before = load._name()
    monkeypatch.setattr(load, "HERE", tmp_path)
    for name in load.SOURCES:
        shutil.copy(Path(load.__file__).parent / name, tmp_path)
    assert load._name() == before
    with (tmp_path / "loops.py").open("a") as f:
        f.write("# changed\n")
    assert load._name() != before


@pytest.mark.parametrize("where", ["home", "named", "nowhere"])
def test_a_checkout_that_cannot_be_written(tmp_path, monkeypatch, capsys, where):
    """Its `__pycache__` is a file here: that stops even root."""
    (tmp_path / "__pycache__").write_text("")
    monkeypatch.setattr(load, "HERE", tmp_path)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if where == "named":
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named" / "folder"))
    if where == "nowhere":
        (tmp_path / "cache").write_text("")
    assert load._keep("x.o", b"code", {}) == (where != "nowhere")
    assert load._read("x.o") == (None if where == "nowhere" else (b"code", {}))
    folder = {"home": tmp_path / "cache" / "gb10", "named": tmp_path / "named" / "folder", "nowhere": tmp_path}[where]
    assert (folder / "x.o").exists() == (where != "nowhere")


@pytest.mark.parametrize("broken", ["numba", "llvmlite"])
def test_without_numba_the_same_bits(checkout, expected, broken):
    (checkout.tmp / "copy" / f"{broken}.py").write_text("raise ImportError('no such thing here')")
    out, said = checkout()
    assert out[0] == expected and len(said) == 1
    assert "no such thing here" in said[-1] and "torch" in said[-1]


def test_numba_told_not_to_compile(checkout, expected):
    out, said = checkout(NUMBA_DISABLE_JIT="1")
    assert out[0] == expected and len(said) == 1 and "NUMBA_DISABLE_JIT" in said[0] and "torch" in said[0]


def test_the_code_calls_nothing_from_outside():
    """What is loaded without numba must not need it: the build refuses a loop that could call Python."""
    from numba import types

    from gb10.formats.kernels import build, loops

    def raises(x):
        if x[0] > 1:
            raise ValueError
        return 0

    with pytest.raises(RuntimeError, match="raises still needs"):
        build._module("raises", raises, (types.CPointer(types.float32),))
    assert set(load.loops()) == set(loops.EXPORTS)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_threads_make_no_difference(monkeypatch, threads, dtype):
    """Whatever the stretches: blocks, an odd number of them, fall to different threads."""
    x = torch.randn(37, 16 * 111, generator=torch.Generator().manual_seed(0)).to(dtype)
    want = NVFP4.quantize(x)
    monkeypatch.setattr(fast, "STRETCH", 50)
    monkeypatch.setattr(fast, "_threads", lambda blocks: threads)
    got = NVFP4.quantize(x)
    assert torch.equal(got.packed, want.packed) and torch.equal(got.scales.view(torch.uint8), want.scales.view(torch.uint8))
    assert torch.equal(got.dequantize(dtype), want.dequantize(dtype))
    assert torch.equal(fast.Blocks(load.loops(), x).round_trip(got.tensor_scale), want.dequantize(dtype))


@pytest.mark.parametrize("threads", [1, 3])
def test_what_fails_in_a_thread_is_the_callers_to_know(threads):
    assert sorted(fast._share(threads, lambda n: n * n, range(50))) == [n * n for n in range(50)]
    with pytest.raises(IndexError):
        fast._share(threads, lambda n: n if n < 7 else [].pop(), range(50))


def test_as_many_threads_as_torch_may_use(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(3)), raising=False)
    assert [fast._threads(n) for n in (0, 1, fast.WORTH - 1, fast.WORTH, 1 << 20)] == [1, 1, 1, 2, 3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert fast._threads(1 << 20) == 1


def test_subnormals_count_whatever_the_caller_set():
    x = torch.full((2, 16), 3e-39)
    x[0, 3] = 1e-42
    want = NVFP4.quantize(x)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor can't take subnormals for zero")
    try:
        got = NVFP4.quantize(x)
        decoded, tripped = got.dequantize(), fast.Blocks(load.loops(), x).amax()
        assert (torch.tensor([1e-39]) * 0.5).view(torch.int32).item() == 0, "the setting is the caller's again"
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(got.packed, want.packed) and got.tensor_scale.view(torch.int32) == want.tensor_scale.view(torch.int32)
    assert torch.equal(decoded.view(torch.int32), want.dequantize().view(torch.int32)) and tripped == x.max()


def test_memory_of_a_dead_result_serves_again():
    memory._spare.clear()
    a = memory.empty((1 << 20,), torch.float32)
    at, part = a.data_ptr(), a.view(1024, 1024)[3]
    a.fill_(7)
    del a
    b = memory.empty((1 << 20,), torch.float32)
    assert b.data_ptr() != at and (part == 7).all(), "a view keeps it alive"
    del part
    c = memory.empty((1 << 20,), torch.float32)
    assert c.data_ptr() == at
    array = c.numpy()
    del c
    assert memory.empty((1 << 20,), torch.float32).data_ptr() != at, "so does a numpy array"
    array[:] = 1


def test_memory_is_found_while_other_threads_take_and_give(monkeypatch):
    class Pages(mmap.mmap):
        def __len__(self):                       # asked while the list is searched: then another thread takes the first
            if len(kept) == 3:
                kept.pop(0)
            return super().__len__()

    kept = [mmap.mmap(-1, 8 << 20), Pages(-1, 6 << 20), mmap.mmap(-1, 4 << 20)]
    wanted = kept[1]
    monkeypatch.setattr(memory, "_spare", kept)
    assert memory._take(6 << 20) is wanted and [len(pages) >> 20 for pages in kept] == [4]


def test_memory_kept_has_a_limit(monkeypatch):
    memory._spare.clear()
    monkeypatch.setattr(memory, "MOST", 10 << 20)
    for size in (4, 6, 8, 12):
        memory.empty((size << 20,), torch.uint8)
    assert [len(pages) >> 20 for pages in memory._spare] == [8]
    memory._spare.clear()


PEAK = """
import torch
from gb10.formats import NVFP4
from gb10.formats.kernels import memory
from gb10.formats.nvfp4 import round_trip

def status(name):
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(name))

def measure(name, work):
    memory._spare.clear()
    open("/proc/self/clear_refs", "w").write("5")    # the peak starts here
    before = status("VmRSS")
    result = work().nbytes
    print(name, status("VmHWM") - before, result)

for dtype in (torch.float32, torch.bfloat16):
    x = torch.randn(2048, 4096).to(dtype)
    q = NVFP4.quantize(x)                            # what is needed once: the loops, the tables
    q.dequantize(), q.dequantize(dtype), round_trip(x[:32]), NVFP4.quantize(x[:64, :64].t())
    for threads in (1, 2):
        torch.set_num_threads(threads)
        measure("quantize", lambda: NVFP4.quantize(x))
        measure("quantize-strided", lambda: NVFP4.quantize(x.view(4096, 2048).t()))
        measure("round-trip", lambda: round_trip(x))
        measure("dequantize", lambda: q.dequantize(dtype))
from gb10.formats.kernels import load
load.loops = lambda: None
measure("through-torch", lambda: NVFP4.quantize(x))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's count of the peak")
def test_extra_memory_stays_below_the_size_of_the_result():
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 17
    for name, peak, result in lines:
        ratio = int(peak) / int(result)          # the result itself included
        assert ratio > 2 if name == "through-torch" else ratio < 2, f"{name}: {ratio:.2f} times the result at its peak"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_threads_of_its_own():
    """The threads that wait for work don't come along into a fork; it must neither hang nor go without."""
    assert fast._share(3, lambda n: n * n, range(20))
    before = fast._pool()
    child = os.fork()
    if child == 0:
        try:
            fresh = fast._pool() is not before and sorted(fast._share(3, lambda n: n, range(20))) == list(range(20))
            os._exit(0 if fresh and fast._pool().submit(int).result(10) == 0 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert fast._pool() is before
