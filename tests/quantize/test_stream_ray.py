"""The stream on a Ray cluster of two nodes on this machine: the same bytes, also when a worker is killed."""

import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
from test_stream_interrupted import FILE, make_big

from gb10.errors import WorkFailed
from gb10.quantize.streaming import cluster
from gb10.quantize.streaming.run import prepare, stream

ray = pytest.importorskip("ray", reason="Ray is an extra of its own")


@pytest.fixture(scope="module")
def two_nodes():
    from ray.cluster_utils import Cluster

    made = Cluster()
    try:
        for head in (True, False):
            made.add_node(num_cpus=1, object_store_memory=200 << 20,
                          **({"include_dashboard": False} if head else {}))
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        assert len(ray.nodes()) == 2
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_big(tmp_path_factory.mktemp("ray") / "model")


@pytest.fixture(scope="module")
def want(model, tmp_path_factory):
    return (stream(model, tmp_path_factory.mktemp("want") / "out").folder / FILE).read_bytes()


def workers():
    """Processes of this cluster that run, or wait for, a task."""
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[0].startswith("ray::")]


def test_the_same_bytes_from_both_nodes(two_nodes, model, want, tmp_path, monkeypatch):
    """A task waits until tasks run on two nodes: Ray has to spread them."""
    plain, marks = cluster.quantize_group, tmp_path / "marks"
    marks.mkdir()

    def meeting(*args):
        import time

        import ray

        (marks / ray.get_runtime_context().get_node_id()).touch()
        deadline = time.monotonic() + 90
        while len(list(marks.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        return plain(*args)

    monkeypatch.setattr(cluster, "quantize_group", meeting)
    made = cluster.stream_on_ray(prepare(model), tmp_path / "out")
    assert (made.folder / FILE).read_bytes() == want and len(list(marks.iterdir())) == 2
    assert ray.is_initialized(), "a connection that was there before is left alone"


def test_a_killed_workers_group_is_done_again(two_nodes, model, want, tmp_path, monkeypatch):
    """Every first attempt at a group dies in the middle of its work."""
    plain, marks = cluster.quantize_group, tmp_path / "marks"
    marks.mkdir()

    def dying(folder, infos, samples, version):
        mark = marks / infos[0].name
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(folder, infos, samples, version)

    monkeypatch.setattr(cluster, "quantize_group", dying)
    made = cluster.stream_on_ray(prepare(model), tmp_path / "out")
    assert (made.folder / FILE).read_bytes() == want
    assert len(list(marks.iterdir())) == 8, "four groups in each of two layers, each killed once"


def test_workers_killed_from_outside(two_nodes, model, want, tmp_path):
    killed = []

    def progress(done, total):
        if done and not killed:
            for process in workers():
                killed.append(process.pid)
                process.send_signal(signal.SIGKILL)

    made = cluster.stream_on_ray(prepare(model), tmp_path / "out", progress=progress)
    assert killed and (made.folder / FILE).read_bytes() == want


def test_a_worker_that_always_dies_ends_the_run(two_nodes, model, want, tmp_path, monkeypatch):
    def dying(*args):
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as m:
        m.setattr(cluster, "quantize_group", dying)
        m.setattr(cluster, "RETRIES", 0)
        with pytest.raises(WorkFailed, match="died"):
            cluster.stream_on_ray(prepare(model), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (stream(model, tmp_path / "out").folder / FILE).read_bytes() == want


@pytest.mark.parametrize(("change", "match"), [
    ({"folder": "/nowhere"}, "can't be read on"), ({"version": "other"}, "another version"),
    ({"samples": [1, 2]}, "another model")])
def test_what_a_worker_refuses(two_nodes, model, tmp_path, monkeypatch, change, match):
    plain = cluster.quantize_group

    def other(folder, infos, samples, version):
        given = {"folder": folder, "samples": samples, "version": version} | change
        return plain(given["folder"], infos, (given["samples"] * 3)[:len(infos)], given["version"])

    monkeypatch.setattr(cluster, "quantize_group", other)
    with pytest.raises(WorkFailed, match=match):
        cluster.stream_on_ray(prepare(model), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nan_is_named_from_afar(two_nodes, model, tmp_path):
    broken = shutil.copytree(model, tmp_path / "model")
    job = prepare(broken)
    last = job.source.tensors["model.layers.1.mlp.down_proj.weight"]
    with open(broken / FILE, "r+b") as f:
        f.seek(last.offset)
        f.write(b"\xff\x7f")
    with pytest.raises(WorkFailed, match=r"layers\.1\.mlp\.down_proj\.weight.*NaN"):
        cluster.stream_on_ray(prepare(broken), tmp_path / "out")


def test_no_cluster_and_no_ray(model, tmp_path):
    """In processes of their own: here a cluster is up."""
    def run(*flags, code=""):
        argv = [sys.executable, "-m", "gb10", "quantize", str(model), str(tmp_path / "out"), *flags]
        if code:
            argv = [sys.executable, "-c", f"import sys; {code}; from gb10.cli import main; sys.exit(main({argv[3:]!r}))"]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120,
                              env={**os.environ, "RAY_ADDRESS": ""})

    nobody = run("--ray", "127.0.0.1:1")
    assert nobody.returncode == 2 and "no Ray cluster answers" in nobody.stderr and "Traceback" not in nobody.stderr
    without = run("--ray", code="sys.modules['ray'] = None")
    assert without.returncode == 2 and "isn't installed" in without.stderr
    whole = run("--ray", "--recipe", "nvfp4")
    assert whole.returncode == 2 and "belongs to the stream" in whole.stderr
    assert not (tmp_path / "out").exists()


def test_without_ray_uses_no_ray():
    code = "import sys, gb10.cli.quantize, gb10.quantize.streaming.run; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
