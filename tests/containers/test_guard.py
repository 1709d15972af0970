"""What stands in the way on this machine is told with the figures, before anything is started."""

import json
import os
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gb10 import cli, machine
from gb10.engines import containers, find, ports, process, state
from gb10.engines.containers import guard
from gb10.errors import UserError

from .conftest import gb10


@contextmanager
def answering(pages: dict):
    """A server that answers these paths with this JSON; its port."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(pages.get(self.path, {})).encode()
            self.send_response(200 if self.path in pages else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_a_second_big_engine_is_refused_with_the_figures(spark, free_port, capsys):
    assert cli.main(["up", "vllm", "--port", str(free_port)]) == 0
    capsys.readouterr()
    assert cli.main(["up", "trtllm", "--model", "Qwen3-14B"]) == 2
    err = capsys.readouterr().err
    assert "vllm (the course's) in a container is up already, and TensorRT-LLM with Qwen3-14B-FP4 would take" in err
    assert "GiB (weights" in err and "./course down" in err
    assert cli.main(["down"]) == 0
    assert not list(spark.docker.glob("*.container"))


def test_the_same_engine_is_not_started_over_the_one_in_use(spark, free_port, capsys):
    assert cli.main(["up", "vllm", "--port", str(free_port)]) == 0
    running = [f.name for f in spark.docker.glob("*.container")]
    capsys.readouterr()
    assert cli.main(["up", "vllm", "--model", "Qwen3-14B", "--port", str(free_port + 1)]) == 2
    assert f"vLLM is up already on port {free_port}: starting it again would end that one" in capsys.readouterr().err
    assert [f.name for f in spark.docker.glob("*.container")] == running and cli.main(["status"]) == 0
    assert "was ready in" in capsys.readouterr().out


def test_two_starts_at_the_same_time_are_one_too_many(spark, free_port, capsys):
    with ports.alone("containers"):
        assert cli.main(["up", "vllm", "--port", str(free_port)]) == 2
    assert "another engine is being started in a container just now" in capsys.readouterr().err


def test_one_that_is_starting_counts_as_there(spark):
    me = os.getpid()
    note = state.Engine("vllm", "http://127.0.0.1:8002/v1", "m", me, None, 8002, process.identity(me), "", "log", container="gb10-vllm")
    assert note.alive and not replace(note, pid=0, identity="").alive


def test_a_nim_without_a_key_is_refused_before_its_image_is_fetched(spark, capsys, monkeypatch):
    monkeypatch.delenv("NGC_API_KEY", raising=False)
    assert cli.main(["up", "nim"]) == 2
    assert "a NIM needs NGC_API_KEY" in capsys.readouterr().err


def test_no_proxy_is_asked_about_this_machine(spark, free_port, monkeypatch):
    """A proxy would neither find the engine nor keep the key to itself."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("GB10_API_KEY", "key_of_the_test")
    assert cli.main(["up", "vllm", "--port", str(free_port)]) == 0


def test_a_small_one_may_stand_beside_it(spark, free_port):
    assert cli.main(["up", "vllm", "--port", str(free_port)]) == 0
    plan = containers.plan("sglang", "Qwen3-0.6B", users=1, context=2048)
    assert plan.budget.needed < guard.SMALL
    guard.alone(plan)


def test_a_foreign_engine_counts_and_an_idle_ollama_does_not(spark, monkeypatch):
    plan = containers.plan("vllm", "Qwen3-8B")
    models = {"/v1/models": {"data": [{"id": "someone's-70b", "owned_by": "vllm"}]}}
    with answering(models) as port:
        monkeypatch.setattr(find, "KNOWN", (("vLLM", f"http://127.0.0.1:{port}/v1"),))
        with pytest.raises(UserError, match=f"vLLM with someone's-70b at http://127.0.0.1:{port}/v1 is up already"):
            guard.alone(plan)
    for loaded, refused in (([], False), ([{"name": "qwen3:32b", "size": 22 * 2**30}], True)):
        with answering(models | {"/api/ps": {"models": loaded}}) as port:
            monkeypatch.setattr(find, "KNOWN", (("Ollama", f"http://127.0.0.1:{port}/v1"),))
            if refused:
                with pytest.raises(UserError, match=r"Ollama with qwen3:32b \(22.0 GiB\) is up already"):
                    guard.alone(plan)
            else:
                guard.alone(plan)


def test_page_cache_that_looks_like_used_memory_is_offered_its_cure(spark, free_port, capsys, monkeypatch):
    """MemFree is what vLLM compares with; the memory is there, but files fill it."""
    (spark.proc / "meminfo").write_text(f"MemTotal: {121 * 2**20} kB\nMemFree: {6 * 2**20} kB\nCached: {100 * 2**20} kB\n")
    assert cli.main(["up", "vllm", "--port", str(free_port)]) == 2
    err = capsys.readouterr().err
    assert "see only 6.0 as free: 100.0 GiB hold files" in err and "drop_caches" in err and "--drop-caches" in err
    called = []

    def sudo(words, check):
        called.append(words)
        (spark.proc / "meminfo").write_text(f"MemFree: {110 * 2**20} kB\n")
        return type("Done", (), {"returncode": 0})

    plan = containers.plan("vllm")
    with monkeypatch.context() as m:
        m.setattr("subprocess.run", sudo)
        guard.memory_free(plan, drop=True)
    assert called == [["sudo", "sh", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches"]]


def test_memory_that_is_not_there_is_refused_before_docker_is_asked(spark, capsys, monkeypatch):
    monkeypatch.setattr(machine, "detect", lambda **_: gb10(available_gib=12))
    assert cli.main(["up", "vllm", "--model", "Qwen3-32B"]) == 2
    assert "12.0 GiB are free on this machine now, of which the system keeps 8.0" in capsys.readouterr().err


def test_a_checkpoint_of_ones_own_has_to_be_there(spark, capsys):
    assert cli.main(["up", "vllm", "--model", "Qwen3-4B", "--weights", "nvfp4"]) == 2
    err = capsys.readouterr().err
    assert "there is no checkpoint in" in err and "./course quantize" in err
