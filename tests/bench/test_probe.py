"""Asking servers before a run: what they serve, and one clear sentence for each way in which they don't."""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from gb10 import endpoints, paths
from gb10.bench import probe
from gb10.bench.http1 import NotHttp
from gb10.bench.target import Target, parse
from gb10.errors import UserError, WorkFailed

KEY = "sk-secret-0123456789"


def http(body, status="200 OK", *headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", *headers, "", ""]
    return "\r\n".join(head).encode() + data


def listing(*ids, owner="vllm"):
    return {"object": "list", "data": [{"id": i, "object": "model", "owned_by": owner} for i in ids]}


@contextmanager
def server(answer, host="127.0.0.1", tls=None):
    """A raw socket on a free port. answer: bytes, {path: bytes}, or f(connection, request); yields the
    Target, which has the requests so far in `.asked`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind((host, 0))
    listener.listen(16)
    asked: list[bytes] = []
    threads, open_now = [], []

    def one(sock):
        try:
            if tls:
                sock = tls.wrap_socket(sock, server_side=True)
            request = b""
            while b"\r\n\r\n" not in request and (data := sock.recv(65536)):
                request += data
            asked.append(request)
            if callable(answer):
                answer(sock, request)
            elif isinstance(answer, dict):
                sock.sendall(answer.get(request.split(b" ")[1].decode(), http({}, "404 Not Found")))
            else:
                sock.sendall(answer)
        except OSError:
            pass
        finally:
            sock.close()

    def serve():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            open_now.append(sock)
            threads.append(threading.Thread(target=one, args=(sock,), daemon=True))
            threads[-1].start()

    acceptor = threading.Thread(target=serve, daemon=True)
    acceptor.start()
    target = Target("https" if tls else "http", host, listener.getsockname()[1], "/v1")
    object.__setattr__(target, "asked", asked)
    try:
        yield target
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for sock in open_now:
            sock.close()
        acceptor.join(2)


def silent(sock, request):
    """Takes the request and says nothing, until the client gives up."""
    sock.settimeout(10)
    sock.recv(1)


@pytest.fixture(scope="module")
def nobody():
    """A port on which nothing listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))                  # bound, never listening: nobody else gets it meanwhile
        yield Target("http", "127.0.0.1", s.getsockname()[1], "/v1")


# ------------------------------------------------------------ one GET

def test_a_get_is_one_request_with_what_servers_expect():
    with server(http(b"hello", "201 Created")) as t:
        assert probe.get(t, "/any/path") == (201, b"hello")
    [request] = t.asked
    lines = request.decode().split("\r\n")
    assert lines[0] == "GET /any/path HTTP/1.1"
    assert f"Host: 127.0.0.1:{t.port}" in lines
    assert not any(line.lower().startswith(("authorization", "content-length")) for line in lines)


@pytest.mark.parametrize("key", [KEY, f"  {KEY}\n"])
def test_the_key_goes_into_the_authorization_header(key):
    with server(http(listing("m"))) as t:
        probe.models(t, key)
    assert t.asked[0].count(f"\r\nAuthorization: Bearer {KEY}\r\n".encode()) == 1
    assert t.asked[0].count(KEY.encode()) == 1


@pytest.mark.parametrize("key", ["a\r\nX-Evil: 1", "schlüssel", "a\0b"])
def test_a_key_that_no_header_can_carry_is_refused_before_anything_is_sent(key):
    with server(http(listing("m"))) as t:
        with pytest.raises(UserError, match="the API key holds characters") as e:
            probe.models(t, key)
        assert t.asked == []
    assert key not in e.value.message


def chunked(sock, request):
    body = json.dumps(listing("a", "b")).encode()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    parts = (body[:7], body[7:20], body[20:], b"")
    data = head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts)
    for i in range(0, len(data), 13):             # in pieces that end anywhere
        sock.sendall(data[i:i + 13])
        time.sleep(0.001)


def until_the_end(sock, request):
    sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(listing("a", "b")).encode())


@pytest.mark.parametrize("answer", [chunked, until_the_end])
def test_bodies_of_every_kind_are_read(answer):
    with server(answer) as t:
        assert probe.models(t) == (["a", "b"], "vllm")


def test_over_ipv6():
    try:
        with server(http(listing("six")), host="::1") as t:
            assert probe.models(t) == (["six"], "vllm")
            assert f"Host: [::1]:{t.port}".encode() in t.asked[0]
    except OSError as e:
        pytest.skip(f"no IPv6 here ({e})")


def test_every_address_of_a_host_is_tried(nobody, monkeypatch):
    with server(http(listing("m"))) as t:
        two = [(socket.AF_INET, ("127.0.0.1", nobody.port)), (9999, ("nowhere", 1)),
               (socket.AF_INET, ("127.0.0.1", t.port))]
        monkeypatch.setattr(Target, "addresses", lambda self: two)
        assert probe.models(parse("http://several.example/v1"))[0] == ["m"]
        monkeypatch.setattr(Target, "addresses", lambda self: two[:1])
        with pytest.raises(ConnectionRefusedError):
            probe.get(parse("http://several.example/v1"), "/")
        monkeypatch.setattr(Target, "addresses", lambda self: [])
        with pytest.raises(OSError, match="no address"):
            probe.get(parse("http://several.example/v1"), "/")


def drip(sock, request):
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:                                   # each read succeeds, the whole never ends
        sock.sendall(b"x")
        time.sleep(0.02)


def deaf(sock, request):
    time.sleep(1)


@pytest.mark.parametrize("answer", [silent, drip, deaf])
def test_the_deadline_holds_for_the_whole(answer):
    with server(answer) as t:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            probe.get(t, "/", timeout=0.2)
        assert 0.15 < time.monotonic() - began < 0.6


def test_at_most_four_megabytes_are_read():
    sent = []

    def endless(sock, request):
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent.append(sock.send(b" " * 65536))

    with server(endless) as t, pytest.raises(NotHttp, match="longer than 4 MB"):
        probe.get(t, "/", timeout=5)
    assert sum(sent) < 16 * 2**20, "what the socket buffers hold comes on top"
    with server(http(b"x" * (4 * 2**20 - 500))) as t:
        assert len(probe.get(t, "/", timeout=5)[1]) == 4 * 2**20 - 500


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Le",
                                    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
def test_an_answer_that_breaks_off_is_none(answer):
    with server(answer) as t:
        with pytest.raises(ConnectionError):
            probe.get(t, "/")
        with pytest.raises(WorkFailed, match="closes the connection instead of answering"):
            probe.models(t)


# ------------------------------------------------------------ sentences

def test_nobody_there(nobody):
    says = f"nothing listens at 127.0.0.1 port {nobody.port}: start an engine there, or name"
    with pytest.raises(WorkFailed, match=says):
        probe.models(nobody)
    for port, start in ((8002, "./course up vllm"), (8001, "./course up trtllm"), (11434, "ollama serve"),
                        (8000, "./course up")):
        said = probe.sentence(Target("http", "127.0.0.1", port, "/v1"), ConnectionRefusedError(), 1).message
        assert f"port {port}: start it (" in said
        assert start in said
        for path in (word.strip("()") for word in said.split() if word.startswith("compose/")):
            assert (paths.ROOT / path.rstrip("),")).is_file()
    far = probe.sentence(Target("http", "spark-2", 8002, "/v1"), ConnectionRefusedError(), 1).message
    assert "compose" not in far
    assert "its own 127.0.0.1 only" in far


def test_a_name_that_is_not_known():
    with pytest.raises(WorkFailed, match="the name no-such-host.invalid can't be looked up"):
        probe.models(parse("http://no-such-host.invalid:8002/v1"))


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_key_is_asked_for_or_refused(status):
    with server(http({"error": f"wrong key {KEY}"}, status)) as t:
        with pytest.raises(UserError, match="asks for an API key: put it into GB10_API_KEY"):
            probe.models(t)
        with pytest.raises(UserError, match="refuses the API key: look at GB10_API_KEY") as e:
            probe.models(t, KEY)
    assert KEY not in e.value.message


@pytest.mark.parametrize(("answer", "kind", "says"), [
    (b"SSH-2.0-OpenSSH_9.6\r\n", UserError, "does not speak HTTP/1.1: look at the port"),
    (b"\x15\x03\x01\x00\x02\x02\x46", UserError, "may speak TLS: try https://"),
    (b"\0" * 5000, UserError, "does not speak HTTP/1.1"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n", UserError, "does not speak HTTP"),
    (http(b"The plain HTTP request was sent to HTTPS port", "400 Bad Request"), UserError, "speaks TLS: try"),
    (http({"detail": "Not Found"}, "404 Not Found"), UserError, "is not there (HTTP 404)"),
    (http(b"", "307 Temporary Redirect", "Location: /there"), UserError, "sends you elsewhere (HTTP 307)"),
    (http({"error": "loading"}, "503 Service Unavailable"), WorkFailed, "answers HTTP 503 instead of a list"),
    (http(b"<html>hello</html>"), UserError, "no list of models as OpenAI's API has it"),
    (http([]), UserError, "no list of models"),
    (http({"models": []}), UserError, "no list of models"),
    (http({"data": "x"}), UserError, "no list of models"),
    (http({"data": [1]}), UserError, "no list of models"),
    (http({"data": [{"id": 7}]}), UserError, "no list of models"),
    (http({"data": [{"name": "x"}]}), UserError, "no list of models"),
    (http(b"[" * 100_000), UserError, "no list of models"),
    (http(b'{"data": "\xff"}'), UserError, "no list of models"),
    (http({"data": []}), WorkFailed, "lists no model"),
    (http({"object": "list", "data": None}), WorkFailed, "lists no model"),
    (http(listing(*[f"model-{i}" * 10 for i in range(60_000)])), UserError, "does not speak HTTP/1.1"),
])
def test_what_is_no_list_of_models_is_one_sentence(answer, kind, says):
    with server(answer) as t, pytest.raises(kind) as e:
        probe.models(t, KEY)
    assert says in e.value.message
    assert "\n" not in e.value.message
    assert KEY not in e.value.message


def test_a_server_that_hangs():
    with server(silent) as t, pytest.raises(WorkFailed, match="does not answer within 0.2 s"):
        probe.models(t, timeout=0.2)


def test_an_echo_does_not_bring_the_key_into_a_message():
    with server(lambda sock, request: sock.sendall(request)) as t:
        with pytest.raises(NotHttp) as raw:
            probe.get(t, "/", KEY)
        with pytest.raises(UserError) as e:
            probe.models(t, KEY)
    for text in (str(raw.value), repr(raw.value), e.value.message):
        assert "secret" not in text


def test_a_long_list_that_fits_is_read():
    names = [f"model-{i}" for i in range(20_000)]
    with server(http(listing(*names))) as t:
        assert probe.models(t)[0] == names


# ------------------------------------------------------------ TLS

@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(certificate, key) for 127.0.0.1, made by openssl; skipped without it."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    try:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-out", cert, "-keyout", key],
                       check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl here that makes a certificate")
    return cert, key


@pytest.fixture
def tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def test_a_certificate_of_ones_own_and_its_cure(tls, certificate, monkeypatch, tmp_path):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with server(http(listing("m")), tls=tls) as t:
        with pytest.raises(UserError, match=r"is not trusted \(self-signed certificate\): set SSL_CERT_FILE"):
            probe.models(t)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert probe.models(t) == (["m"], "vllm")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
        with pytest.raises(UserError, match=r"SSL_CERT_FILE names .*gone.pem, which is no file"):
            probe.models(t)


def test_tls_where_there_is_none_and_none_where_there_is(tls):
    plain = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

    def at_once(sock, request):
        sock.sendall(plain)

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve():
        sock, _ = listener.accept()
        sock.recv(65536)                          # the ClientHello, which is no line
        sock.sendall(plain)
        sock.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with pytest.raises(UserError, match="does not speak TLS: try http://"):
        probe.models(Target("https", "127.0.0.1", port, "/v1"))
    thread.join(2)
    listener.close()
    with server(at_once, tls=tls) as t, pytest.raises((UserError, WorkFailed), match="https://"):
        probe.models(Target("http", t.host, t.port, "/v1"))


def test_a_tls_server_that_hangs_in_the_handshake():
    listener = socket.create_server(("127.0.0.1", 0))          # accepts by its backlog, and never reads
    began = time.monotonic()
    with pytest.raises(WorkFailed, match=r"does not answer within 0.2 s: .* speaks no TLS"):
        probe.models(Target("https", "127.0.0.1", listener.getsockname()[1], "/v1"), timeout=0.2)
    assert time.monotonic() - began < 1
    listener.close()


# ------------------------------------------------------------ engine, version, format

@pytest.mark.parametrize(("owner", "server_header", "engine"), [
    ("vllm", "uvicorn", "vLLM"), ("sglang", "", "SGLang"), ("tensorrt_llm", "uvicorn", "TensorRT-LLM"),
    ("library", "", "Ollama"), ("llamacpp", "", "llama.cpp"), ("", "llama.cpp", "llama.cpp"),
    ("somebody", "uvicorn", endpoints.UNKNOWN),
    ("", "", endpoints.UNKNOWN), ("gb10 stand-in over transformers (not vLLM)", "", endpoints.STANDIN),
])
def test_engines_by_what_they_say(owner, server_header, engine):
    assert endpoints.engine_of(owner, server_header) == engine


def test_the_stand_in_is_known_by_its_owner():
    text = (paths.ROOT / "gb10" / "engines" / "standin.py").read_text()
    assert f'OWNER = "{endpoints.STANDIN_OWNER}' in text


def test_the_engine_is_found_among_several_owners_and_beside_them():
    mixed = {"data": [{"id": "jane/tune", "owned_by": "jane"}, {"id": "qwen3:8b", "owned_by": "library"}]}
    with server(http(mixed)) as t:
        assert probe.models(t) == (["jane/tune", "qwen3:8b"], "library")
    foreign = {"/v1/models": http(listing("hf.co/unsloth/x", owner="unsloth")),
               "/api/version": http({"version": "0.12.3"})}
    with server(foreign) as t:
        assert probe.identify(t) == (["hf.co/unsloth/x"], "Ollama")
    with server({"/v1/models": http(listing("m", owner="proxy"))}) as t:
        assert probe.identify(t) == (["m"], endpoints.UNKNOWN)
    with server(http(listing("m", owner=""), "200 OK", "Server: llama.cpp")) as t:
        assert probe.identify(t) == (["m"], "llama.cpp")


@pytest.mark.parametrize(("answers", "expected"), [
    ({"/version": http({"version": "0.28.0"})}, "0.28.0"),
    ({"/api/version": http({"version": "0.12.3"})}, "0.12.3"),
    ({"/version": http(b"<html>"), "/api/version": http({"version": "1"})}, "1"),
    ({"/version": http({"version": 3})}, None),
    ({"/version": http({"version": "0.1\nrm"})}, "0.1 rm"),
    ({}, None),
])
def test_versions(answers, expected):
    with server(answers) as t:
        assert probe.version(t) == expected


def test_a_version_that_can_not_be_had_is_none(nobody):
    assert probe.version(nobody) is None
    with server(silent) as t:
        began = time.monotonic()
        assert probe.version(t, timeout=0.2) is None
        assert time.monotonic() - began < 0.6


def test_the_root_of_an_api_below_a_prefix():
    with server({"/llm/version": http({"version": "9"})}) as t:
        assert probe.version(Target("http", t.host, t.port, "/llm/v1")) == "9"


def test_ollama_says_what_a_model_is_quantised_to(nobody):
    qwen = {"name": "qwen3:8b", "model": "qwen3:8b", "details": {"quantization_level": "Q4_K_M"}}
    vague = {"name": "v", "model": "v", "details": {"quantization_level": "unknown"}}
    tags = {"models": [{"name": "x", "model": "x", "details": {}}, vague, qwen]}
    with server({"/api/tags": http(tags)}) as t:
        assert probe.quantization(t, "qwen3:8b") == "q4_k_m"
        assert probe.quantization(t, "x") is None
        assert probe.quantization(t, "v") is None
        assert probe.quantization(t, "other") is None
    for answer in (http([]), http({"models": 3}), http(b"{"), http(tags, "500 No")):
        with server(answer) as t:
            assert probe.quantization(t, "qwen3:8b") is None
    assert probe.quantization(nobody, "qwen3:8b") is None


# ------------------------------------------------------------ who is up

def test_the_list_of_ports_is_the_courses():
    assert {name: parse(url).port for name, url in endpoints.KNOWN} == {
        "TensorRT-LLM": 8001, "vLLM": 8002, "Ollama": 11434, "own": 8000, "SGLang": 30000, "NIM": 8003}
    assert all(parse(url).loopback for _, url in endpoints.KNOWN)
    assert endpoints.MENU == ("Ollama", "TensorRT-LLM", "vLLM")


def test_the_menu_tells_who_really_answers(nobody):
    with server(http(listing("qwen3:8b", owner="library"))) as ollama, server(http(listing("own"))) as own, \
            server(http({"data": []})) as empty, server(http({}, "401 No")) as locked:
        rows = probe.up((("TensorRT-LLM", nobody.url), ("vLLM", ollama.url), ("Ollama", empty.url),
                         ("own", own.url), ("SGLang", locked.url)))
    assert [r["number"] for r in rows] == [1, 2, 3, None, None]
    assert [r["name"] for r in rows] == ["Ollama", "TensorRT-LLM", "vLLM", "own", "SGLang"]
    first, second, third, mine, sglang = rows
    assert (first["answers"], first["models"]) == (False, [])
    assert "lists no model" in first["warning"]
    assert (second["answers"], second["engine"], second["warning"]) == (False, "", "")
    assert third == {"number": 3, "name": "vLLM", "url": ollama.url, "answers": True, "engine": "Ollama",
                     "models": ["qwen3:8b"], "warning": "Ollama answers on the port of vLLM"}
    assert (mine["answers"], mine["engine"], mine["warning"]) == (True, "vLLM", "")
    assert "asks for an API key" in sglang["warning"]


def test_a_port_that_hangs_costs_no_more_than_a_second_in_all():
    with server(silent) as a, server(drip) as b, server(http(listing("m"))) as c:
        began = time.monotonic()
        rows = probe.up((("Ollama", a.url), ("TensorRT-LLM", b.url), ("vLLM", c.url)))
        took = time.monotonic() - began
    assert took < 1.1
    assert [r["answers"] for r in rows] == [False, False, True]
    assert all("does not answer within" in r["warning"] for r in rows[:2])


def test_refused_ports_cost_nothing(nobody):
    began = time.monotonic()
    rows = probe.up(tuple((name, nobody.url) for name in ("Ollama", "vLLM", "own")))
    assert time.monotonic() - began < 0.3
    assert not any(r["answers"] or r["warning"] for r in rows)


# ------------------------------------------------------------ the container's image

DOCKER = """\
vllm/vllm-openai:v0.28.0\t127.0.0.1:8002->8000/tcp
nvcr.io/nvidia/tensorrt-llm/release:1.3.0\t0.0.0.0:8001->8000/tcp, [::]:8001->8000/tcp
old/style:1\t:::9001->80/tcp
a/range:2\t0.0.0.0:9100-9103->9100-9103/tcp
elsewhere:3\t192.168.1.9:9200->80/tcp
udp:4\t0.0.0.0:9300->9300/udp
inside:5\t9400/tcp
none:6\t
odd:7\t0.0.0.0:->80/tcp, 0.0.0.0:x-9500->80/tcp
"""


@pytest.mark.parametrize(("port", "image"), [
    (8002, "vllm/vllm-openai:v0.28.0"), (8001, "nvcr.io/nvidia/tensorrt-llm/release:1.3.0"),
    (9001, "old/style:1"), (9100, "a/range:2"), (9103, "a/range:2"), (9104, None), (9200, None), (9300, None),
    (9400, None), (8000, None), (80, None), (800, None),
])
def test_the_image_behind_a_port(port, image):
    def run(argv, timeout):
        assert argv[:2] == ["docker", "ps"]
        assert timeout == 2.0
        return 0, DOCKER

    assert probe.image_of(port, run) == image


@pytest.mark.parametrize("answer", [(127, "no such file"), (1, "permission denied"), (124, "late"), (0, "")])
def test_without_docker_there_is_no_image(answer):
    assert probe.image_of(8002, lambda *_: answer) is None


def test_docker_is_looked_for_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert probe.image_of(8002) is None
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\nprintf 'my/image:1\\t127.0.0.1:8002->8000/tcp\\n'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    assert probe.image_of(8002) == "my/image:1"


def test_the_module_needs_the_standard_library_only_and_little_of_it():
    code = ("import sys; import gb10.bench.probe; "
            "heavy = ('urllib.request', 'http.client', 'ssl', 'gb10.engines', 'gb10.machine'); "
            "print([m for m in heavy if m in sys.modules])")
    out = subprocess.run([sys.executable, "-S", "-c", code], cwd=paths.ROOT, capture_output=True, text=True,
                         check=False)
    assert out.stdout.strip() == "[]", out.stderr
