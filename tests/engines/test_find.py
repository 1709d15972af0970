"""connect(): the engine that is up, else one's own."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gb10.endpoints import STANDIN
from gb10.engines import find
from gb10.errors import UserError


@contextmanager
def listing(ids, owner="tests", body=None):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            data = body or json.dumps({"data": [{"id": i, "owned_by": owner} for i in ids]}).encode()
            self.send_response(200 if self.path == "/v1/models" else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def nothing_is_up(notes, monkeypatch):
    monkeypatch.delenv("GB10_URL", raising=False)
    monkeypatch.setattr(find, "KNOWN", ())


def test_the_first_of_the_known_engines_is_taken(monkeypatch, capsys):
    with listing(["llama"]) as a, listing(["qwen", "other"]) as b:
        known = (("TensorRT-LLM", "http://127.0.0.1:9/v1"), ("vLLM", b), ("Ollama", a))
        assert [e["engine"] for e in find.running(known)] == ["vLLM", "Ollama"]
        monkeypatch.setattr(find, "KNOWN", known)
        c = find.connect()
    client, model = c
    assert (model, c.engine, c.url, c.models) == ("qwen", "vLLM", b, ["qwen", "other"])
    assert str(client.base_url).rstrip("/") == b
    out = capsys.readouterr().out
    assert out == f"Engine: vLLM at {b} | model: qwen | rung: {c.rung}\n"


@pytest.mark.parametrize("strip", [True, False])
def test_an_address_from_the_environment_wins(monkeypatch, strip):
    with listing(["remote"], owner="vllm") as url:
        monkeypatch.setenv("GB10_URL", url.removesuffix("/v1") if strip else url)
        c = find.connect(quiet=True)
        assert (c.model, c.engine, c.url) == ("remote", "vLLM", url)
        with pytest.raises(UserError, match="does not serve x; it serves remote"):
            find.connect(model="x", quiet=True)


@pytest.mark.parametrize(("url", "says"), [("127.0.0.1:8000", "has to start with http"),
                                           ("http://127.0.0.1:9", "nothing that speaks OpenAI's protocol answers")])
def test_a_wrong_address_is_refused(monkeypatch, url, says):
    monkeypatch.setenv("GB10_URL", url)
    with pytest.raises(UserError, match=says):
        find.connect(quiet=True)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"data": "x"}', b'{"data": []}', b'{"data": [1]}'])
def test_other_programs_on_these_ports_are_no_engines(body):
    with listing([], body=body) as url:
        assert find.running((("vLLM", url),)) == []


def test_without_any_engine_the_embedded_one_is_started(monkeypatch, pico, capsys):
    from gb10.engines import launch

    monkeypatch.setenv("GB10_ENGINE", "standin")
    monkeypatch.setattr(launch.start, "__defaults__", (pico,))
    c = find.connect()
    try:
        assert (c.model, c.engine) == ("pico" if pico == launch.PICO else pico.name, STANDIN)
        assert "not vLLM" in capsys.readouterr().out
        assert c.client.completions.create(model=c.model, prompt="a", max_tokens=2).usage.completion_tokens
        assert find.connect(quiet=True).url == c.url, "the second call finds what the first has started"
    finally:
        find.stop()
    assert find.running() == []
