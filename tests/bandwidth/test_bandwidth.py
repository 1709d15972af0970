"""The streaming measurement: what it counts, what it refuses, what it writes down. No test depends on how fast anything is."""

import json

import numpy as np
import pytest

from gb10 import bandwidth, catalog, paths
from gb10.bandwidth import Cache, Point, cpu, loops

KIB, MIB, GIB = 2**10, 2**20, 2**30


# ---------------------------------------------------------------- loops

@pytest.mark.parametrize("compiled", [False, True])
def test_the_loops_touch_every_element(compiled):
    f = cpu._loops() if compiled else {k: getattr(loops, k) for k in bandwidth.ARRAYS}
    x, y, z = (np.arange(16, dtype=np.int64) + k for k in (1, 100, 0))
    assert f["read"](x, 1) == x.sum()
    assert f["read"](x, 2) == x.sum() + (x ^ 1).sum(), "each pass must really be made"
    f["copy"](x, z, 1)
    assert (z == x).all()
    f["triad"](x, y, z, 1)
    assert (z == x + 3 * y).all()


# ---------------------------------------------------------------- measuring

@pytest.mark.parametrize(("kernel", "threads"), [("read", 1), ("read", 3), ("copy", 2), ("triad", 1)])
def test_a_point_counts_all_arrays_of_all_threads(kernel, threads):
    p = bandwidth.measure(kernel, 96 * KIB, threads, seconds=0.001, repeats=1)
    assert (p.kernel, p.threads, p.device) == (kernel, threads, "cpu") and p.rate > 0
    assert 0.97 * 96 * KIB <= p.size <= 96 * KIB


@pytest.mark.parametrize(("kernel", "size", "threads"), [("write", MIB, 1), ("read", MIB, 0), ("read", 4 * KIB, 2), ("read", -1, 1)])
def test_what_can_not_be_measured(kernel, size, threads):
    with pytest.raises(ValueError, match="kernel|share"):
        bandwidth.measure(kernel, size, threads)


def test_a_rate_is_bytes_over_time(monkeypatch):
    """With a clock of our own: a pass takes 1 ms, whatever the loop does."""
    import threading

    clock = threading.local()

    def now():
        clock.now = getattr(clock, "now", 0.0)
        return clock.now

    def loop(x, passes):
        clock.now += 0.001 * passes

    monkeypatch.setattr(cpu, "_loops", lambda: {"read": loop})
    monkeypatch.setattr(cpu.time, "perf_counter", now)
    p = bandwidth.measure("read", 64 * KIB, 1)
    assert p.rate == pytest.approx(64 * KIB / 0.001)


def test_a_sweep_leaves_out_what_makes_no_sense():
    seen = []
    points = bandwidth.sweep(("read", "copy"), [8 * KIB, 64 * KIB], [1, 4], lambda done, of: seen.append((done, of)),
                             seconds=0.0005, repeats=1)
    assert [(p.kernel, p.threads, round(p.size / KIB)) for p in points] == [
        (k, t, s) for k in ("read", "copy") for t, s in ((1, 8), (1, 64), (4, 64))]
    assert seen == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize(("available", "caches", "largest"), [
    (64 * GIB, (), 256 * MIB), (64 * GIB, (48 * KIB, 384 * MIB), 1024 * MIB), (GIB, (32 * MIB,), 128 * MIB),
    (64 * GIB, (114 * MIB,), 384 * MIB), (50 * KIB, (), 16 * KIB)])
def test_working_sets(available, caches, largest):
    sizes = bandwidth.sizes(available, caches)
    assert sizes[0] == 16 * KIB and sizes == sorted(set(sizes)) and sizes[-1] == largest
    assert len(sizes) == 1 or max(sizes) <= max(256 * MIB, 4 * max(caches, default=0))


@pytest.mark.parametrize(("cores", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (20, [1, 2, 4, 8, 16, 20])])
def test_thread_counts(cores, counts):
    assert bandwidth.thread_counts(cores) == counts


# ---------------------------------------------------------------- what is made of the points

POINTS = [Point("read", 64 * KIB, 1, 200e9), Point("read", 64 * KIB, 2, 400e9), Point("read", 256 * MIB, 1, 30e9),
          Point("read", 256 * MIB - 96, 2, 41e9), Point("copy", 256 * MIB, 1, 99e9)]


def test_memory_is_the_largest_set_at_its_best_thread_count():
    assert bandwidth.memory_rate(POINTS) == 41e9 and bandwidth.memory_rate(POINTS, "copy") == 99e9
    with pytest.raises(ValueError, match="triad"):
        bandwidth.memory_rate(POINTS, "triad")


def test_the_rate_at_a_size():
    assert bandwidth.rate_at(POINTS, 100 * KIB) == 400e9 and bandwidth.rate_at(POINTS, 23e6) == 41e9
    for size, kernel in ((0, "read"), (MIB, "triad")):
        with pytest.raises(ValueError, match="nothing was measured"):
            bandwidth.rate_at(POINTS, size, kernel)


def test_what_is_saved_is_what_the_catalogue_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "STATE", tmp_path)
    with pytest.raises(ValueError, match="not been measured"):
        catalog.machine("this")
    path = bandwidth.save(41.234e9)
    assert json.loads(path.read_text())["read_gbs"] == 41.23 and list(tmp_path.iterdir()) == [path]
    assert catalog.machine("this").bandwidth == pytest.approx(41.23e9)


@pytest.mark.parametrize("rate", [0, -1e9, 41.2, 1e16, float("nan")])
def test_a_rate_that_makes_no_sense_is_not_saved(tmp_path, rate):
    with pytest.raises(ValueError, match="no sense"):
        bandwidth.save(rate, tmp_path)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- caches

def write_cpu(root, core, index, level, kind, size, shared):
    folder = root / f"cpu{core}" / "cache" / f"index{index}"
    folder.mkdir(parents=True)
    for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
        (folder / name).write_text(f"{text}\n")


def test_caches_as_linux_lists_them(tmp_path):
    for core in range(4):
        write_cpu(tmp_path, core, 0, 1, "Data", "48K", core)
        write_cpu(tmp_path, core, 1, 1, "Instruction", "32K", core)
        write_cpu(tmp_path, core, 2, 2, "Unified", "512K" if core > 1 else "2M", core)     # two kinds of cores, as on GB10
        write_cpu(tmp_path, core, 3, 3, "Unified", "8192K", "0-1" if core < 2 else "2-3")
    assert bandwidth.caches(tmp_path, {0, 1, 2, 3}) == (Cache(1, 48 * KIB, 4), Cache(2, 2 * MIB, 4), Cache(3, 8 * MIB, 2))
    assert bandwidth.caches(tmp_path, {2}) == (Cache(1, 48 * KIB, 1), Cache(2, 512 * KIB, 1), Cache(3, 8 * MIB, 1))
    assert [str(c) for c in bandwidth.caches(tmp_path, {0, 1, 2, 3})] == ["L1 4 × 48 KiB", "L2 4 × 2 MiB", "L3 2 × 8 MiB"]


def test_no_caches_listed_or_damaged(tmp_path):
    assert bandwidth.caches(tmp_path / "nothing", {0}) == ()
    write_cpu(tmp_path, 0, 0, 1, "Data", "lots", 0)
    write_cpu(tmp_path, 0, 1, 2, "Unified", "1024K", 0)
    assert bandwidth.caches(tmp_path, {0}) == (Cache(2, MIB, 1),)
    assert all(c.size > 0 and c.count > 0 for c in bandwidth.caches())


# ---------------------------------------------------------------- GPU

def test_gpu_sizes_and_the_refusal_without_one():
    import torch

    from gb10.bandwidth import gpu

    assert gpu.sizes(100 * GIB)[-1] == GIB and gpu.sizes(8 * MIB) == [MIB, 2 * MIB] and gpu.sizes(0) == [MIB]
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="no CUDA device"):
            gpu.measure("read", MIB)
    else:
        assert gpu.measure("copy", 64 * MIB).rate > 1e9
