"""What an engine shows of itself from outside: lines of its log, its processes, its pages."""

import http.server
import os
import subprocess
import threading
from types import SimpleNamespace

import pytest

from gb10.engines import state
from gb10.explore import engine_now

VLLM = """\
(APIServer pid=11) INFO 11-27 07:45:58 [api_utils.py:347]  ▄▄ ▄█ █     █     █ ▀▄▀ █  version 0.32.0
(APIServer pid=11) INFO 11-27 07:45:58 [api_utils.py:286] non-default args: {'dtype': 'float32', 'max_model_len': 2048}
(APIServer pid=11) INFO 11-27 07:45:58 [model.py:733] Resolved architecture: Qwen3ForCausalLM
(APIServer pid=11) INFO 11-27 07:45:58 [model.py:2152] Using max model len 2048
(EngineCore pid=12) INFO 11-27 07:46:12 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: dtype=torch.float32, KV cache size
(EngineCore pid=12) INFO 11-27 07:46:12 [default_loader.py:501] Loading weights took 0.04 seconds
(EngineCore pid=12) INFO 11-27 07:46:14 [kv_cache_utils.py:2327] CPU KV cache size: 174,720 tokens, Maximum concurrency for 2,048 tokens per request: 85.31x
(EngineCore pid=12) INFO 11-27 07:46:14 [core.py:402] init engine (profile, create kv cache, warmup model) took 0.77 s
INFO:     Application startup complete.
INFO:     127.0.0.1:51060 - "GET /health HTTP/1.1" 200 OK
"""


def test_the_lines_of_a_log_that_tell_something():
    assert dict(engine_now.telling(VLLM)) == {
        "version": "version 0.32.0", "architecture": "Resolved architecture: Qwen3ForCausalLM", "longest request": "Using max model len 2048",
        "weights": "Loading weights took 0.04 seconds",
        "KV cache": "CPU KV cache size: 174,720 tokens, Maximum concurrency for 2,048 tokens per request: 85.31x",
        "warm-up": "init engine (profile, create kv cache, warmup model) took 0.77 s", "ready": "Application startup complete."}


def test_a_log_in_colour_reads_the_same():
    paint = {"(EngineCore pid=12) INFO 11-27": "\x1b[0;36m(EngineCore pid=12)\x1b[0;0m \x1b[32mINFO\x1b[0m \x1b[90m11-27",
             "[default_loader.py:501] Load": "[default_loader.py:501]\x1b[0m Load"}
    painted = VLLM
    for plain, coloured in paint.items():
        assert plain in painted
        painted = painted.replace(plain, coloured)
    assert engine_now.telling(painted) == engine_now.telling(VLLM)


@pytest.mark.parametrize(("line", "kind"), [
    ("[TRT-LLM] [I] Allocated 12.34 GiB for max tokens in paged KV cache (101088).", "KV cache"),
    ("[2026-11-01 10:00:00] max_total_num_tokens=123456, chunked_prefill_size=8192", "KV cache"),
    ("[2026-11-01 10:00:00] The server is fired up and ready to roll!", "ready"),
    ("main: server is listening on http://127.0.0.1:8080", "ready")])
def test_other_engines_are_read_too(line, kind):
    assert [k for k, _ in engine_now.telling(line)] == [kind]


def test_a_log_that_says_nothing():
    assert engine_now.telling("") == [] == engine_now.telling("hello\nworld")


@pytest.fixture
def server():
    class Pages(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            body = f"{self.path} {self.headers.get('Authorization')}".encode()
            self.send_response(404 if self.path == "/nope" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=s.serve_forever, args=(0.02,), daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{s.server_port}/v1", port=s.server_port)
    s.shutdown()
    s.server_close()


def test_pages(server, monkeypatch):
    assert engine_now.page(server.url, "/health") == (200, "/health None")
    assert engine_now.page(server.url, "/v1/models")[1].startswith("/v1/models")
    assert engine_now.page(server.url, "/nope")[0] == 404
    monkeypatch.setenv("GB10_API_KEY", "k")
    assert engine_now.page(server.url, "/metrics") == (200, "/metrics Bearer k")
    status, why = engine_now.page("http://127.0.0.1:9/v1", "/health")
    assert status == 0 and why


def test_the_memory_of_whoever_listens_there(server):
    found = engine_now.held(server.url)
    assert found[0].pid == os.getpid() and found[0].bytes > 10e6
    assert engine_now.held("http://127.0.0.1:9/v1") == []


def test_an_engine_of_the_course_is_found_by_its_note(server, monkeypatch, tmp_path):
    log = tmp_path / "1.log"
    log.write_text(VLLM)
    child = subprocess.Popen(["sleep", "30"])
    try:
        note = SimpleNamespace(url=server.url, log=str(log), pid=child.pid)
        monkeypatch.setattr(state, "sweep", lambda: ([note], []))
        assert engine_now.log_of(server.url) == log and engine_now.log_of("http://127.0.0.1:9/v1") is None
        assert [h.pid for h in engine_now.held(server.url)] == [child.pid]
    finally:
        child.kill()
        child.wait()
    log.unlink()
    assert engine_now.log_of(server.url) is None


def test_nvidia_smi_is_asked_for_processes_only(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert engine_now.gpu_processes() == []
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "$@" > "$0.asked"\necho "123, python, 8000 MiB"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert engine_now.gpu_processes() == ["123, python, 8000 MiB"]
    assert "--query-compute-apps" in (tmp_path / "nvidia-smi.asked").read_text()
