"""Servers that misbehave: each gives the right kind of error, none of it gets into a latency, and the run ends."""

import itertools
import json
import random
import resource
import select
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest
from bench_helpers import (
    ANSWER,
    Guarded,
    RawServer,
    bench,
    chunk,
    environment,
    figures,
    good,
    plain,
    sentence,
    serving,
    words,
)

from gb10.bench import wire as wire_module
from gb10.bench.load import GIVE_UP, Load
from gb10.bench.selftest import Truth
from gb10.bench.spec import Spec

load_module = sys.modules["gb10.bench.load"]
HEAD = ANSWER.partition(b"%s")[0] + b"\r\n"


@pytest.fixture(scope="module")
def shared():
    w = Guarded()
    yield w
    w.stop()
    assert w.process.wait(10) == 0
    assert w.process.stderr.read() == b""            # no traceback in the whole of this file
    w.__exit__()


@pytest.fixture
def worker(shared):
    yield shared
    assert shared.process.poll() is None


def errors(done, kind, why=None, n=4):
    """All n requests failed in this way, and no figure knows of them."""
    assert {r.get("err") for r in done["rows"]} == {kind}, done["rows"]
    assert (done["done"], done["errors"], done["tokens"]) == (n, n, 0)
    if why is not None:
        assert {r.get("why", "") for r in done["rows"]} == {why}
    r = figures(done).to_dict()
    assert r["errors"] == {kind: n} and r["ok"] == 0 and r["requests"] == n
    assert not any(r[k] for k in ("ttft_ms", "tpot_ms", "gap_ms", "e2e_ms", "ttfr_ms", "output_tokens", "user_tps", "client_lag_ms"))
    assert sorted(row["i"] for row in done["rows"]) == list(range(n))


def success(done, n=4, tokens=4):
    assert (done["done"], done["errors"], done["tokens"], done["gave_up"]) == (n, 0, n * tokens, ""), done
    assert not any("err" in r for r in done["rows"]) and sorted(r["i"] for r in done["rows"]) == list(range(n))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# ------------------------------------------------------------ no connection, or one that goes

def test_refused_from_the_start(worker):
    spec = Spec(addresses=[(socket.AF_INET, ("127.0.0.1", free_port()))], host="x", body={"model": "m"}, todo=[(0, 1000)], concurrency=2)
    done = worker.run(spec)
    assert GIVE_UP <= done["done"] <= GIVE_UP + 2 and done["errors"] == done["done"]
    assert done["gave_up"] == f"{GIVE_UP} connections failed in a row (Connection refused)"
    errors(done, "connect", "Connection refused", done["done"])
    assert all(r["send"] is None for r in done["rows"]) and figures(done).whole_s == 0


def test_gone_in_the_middle(worker):
    with Truth(ttft=5, itl=1, tokens=8, vanish=6) as truth:
        done = worker.run(truth.spec(asked=8, body={"model": "truth", "stream": True, "max_tokens": 8}, concurrency=2, todo=[(0, 500)]))
    fine = [r for r in done["rows"] if not r.get("err")]
    assert 4 <= len(fine) <= 6 and {"connect"} <= {r["err"] for r in done["rows"] if r.get("err")} <= {"truncated", "connect"}
    assert "connections failed in a row (Connection refused)" in done["gave_up"] and done["done"] < 40
    f = figures(done, 2)
    assert f.ttft.n == f.ok == len(fine) and f.output == 8 * len(fine)


def test_back_after_a_pause_is_no_reason_to_give_up(monkeypatch):
    """A server that restarts: refused a few times, then served again."""
    monkeypatch.setattr(load_module, "REST_NS", 100_000_000)
    back = []

    def answer(head, body, n):
        if n == 4:
            server.quit()
            threading.Timer(0.15, lambda: back.append(serving(good(), port=server.port))).start()
        return good(headers=b"Connection: close\r\n")

    rows = []
    with serving(answer) as server:
        done = Load(server.spec(todo=[(0, 12)]), rows.append).run() | {"rows": rows}
    with back[0]:
        assert back[0].bodies
    kinds = [r.get("err", "fine") for r in rows]
    assert done["gave_up"] == "" and kinds.count("fine") + kinds.count("connect") == 12 and "connect" in kinds


@pytest.mark.parametrize("concurrency", [1, 3])
def test_reset_instead_of_an_answer(worker, concurrency):
    with RawServer(lambda t: t.request() and t.reset()) as server:
        errors(worker.run(server.spec(concurrency=concurrency)), "truncated", "Connection reset by peer")


def test_reset_within_the_answer(worker):
    def talk(t):
        while t.request():
            t.send(HEAD, *map(chunk, words()[:2]))
            time.sleep(0.05)
            t.reset()
            return

    with RawServer(talk) as server:
        done = worker.run(server.spec(concurrency=2))
    errors(done, "truncated", "Connection reset by peer")
    assert all(r["events"] == 2 and r["ttft"] > 0 for r in done["rows"])       # what had come stands in the line


@pytest.mark.parametrize("how", ["close", "reset"])
def test_accepted_and_closed_at_once(worker, how):
    with RawServer(lambda t: t.reset() if how == "reset" else None) as server:
        done = worker.run(server.spec(concurrency=2, todo=[(0, 6)]))
    assert {r["err"] for r in done["rows"]} <= {"truncated", "connect"} and done["done"] == done["errors"] == 6


def test_a_server_that_closes_some_while_it_keeps_others_waiting(worker):
    """Connections that close again while others are still being made: counted wrongly, the run would never end."""
    taken = []

    def talk(t):
        taken.append(t)
        if len(taken) > 3:
            while t.request():
                t.send(good())

    with RawServer(talk, backlog=0) as server:
        accepting = server.listener.accept
        server.listener = _Slow(server.listener, accepting)
        done = worker.run(server.spec(concurrency=8, todo=[(0, 12)], timeout_s=20))
    assert done["done"] == 12 and {r.get("err", "fine") for r in done["rows"]} <= {"fine", "truncated"}


class _Slow:
    """A listener that accepts one connection after the other, with time between."""

    def __init__(self, listener, accept):
        self._listener, self._accept = listener, accept

    def accept(self):
        time.sleep(0.1)
        return self._accept()

    def __getattr__(self, name):
        return getattr(self._listener, name)


def test_the_head_and_then_the_end(worker):
    def talk(t):
        if t.request():
            t.send(HEAD)

    with RawServer(talk) as server:
        errors(worker.run(server.spec()), "truncated", "the server closed the connection")


# ------------------------------------------------------------ nothing, or slowly

def test_no_answer_at_all(worker):
    with RawServer(lambda t: t.request() and t.request()) as server:
        done = worker.run(server.spec(concurrency=4, timeout_s=0.6, stall_s=0.2))
    errors(done, "timeout", "not finished after 0.6 s")          # waiting in the server's queue is no stall
    assert all(600_000 <= r["end"] for r in done["rows"])


def test_an_answer_that_stops(worker):
    def talk(t):
        if t.request():
            t.send(HEAD, *map(chunk, words()[:2]))
            t.request()

    with RawServer(talk) as server:
        done = worker.run(server.spec(concurrency=4, stall_s=0.4))
    errors(done, "stall", "nothing came for 0.4 s")


def test_an_answer_that_stops_before_its_first_event(worker):
    def talk(t):
        if t.request():
            t.send(HEAD)
            t.request()

    with RawServer(talk) as server:
        errors(worker.run(server.spec(concurrency=4, stall_s=0.4)), "stall")


def test_byte_by_byte(worker):
    def talk(t):
        t.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while t.request():
            for b in good(2):
                t.send(bytes((b,)))
                time.sleep(0.0002)

    with RawServer(talk) as server:
        success(worker.run(server.spec(todo=[(0, 2)])), 2, 2)


# ------------------------------------------------------------ HTTP that says no

BODIES = {"JSON": (b'{"error": {"message": "we are\\n full"}}', "application/json", "we are full"),
          "Ollama's JSON": (b'{"error": "we are full"}', "application/json", "we are full"),
          "HTML": (b"<html>\n<h1>Bad</h1></html>", "text/html", "<html> <h1>Bad</h1></html>"),
          "nothing": (b"", "text/plain", ""),
          "long HTML": (b"<p>" + b"x" * 200_000, "text/html", "<p>" + "x" * 77)}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("status", [503, 429, 500])
def test_http_errors(worker, status, body):
    data, kind, why = BODIES[body]
    with serving(plain(data, f"{status} No", kind, "Retry-After: 1\r\n")) as server:
        done = worker.run(server.spec(concurrency=2))
    errors(done, f"http_{status}", why)
    assert all(r["status"] == status for r in done["rows"])


@pytest.mark.parametrize("way", ["chunked", "until the end", "cut off", "no chunk at all"])
def test_http_errors_in_every_framing(worker, way):
    body = b'{"error":{"message":"full"}}'
    raw = {"chunked": b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(body[:9]) + chunk(body[9:]) + b"0\r\n\r\n",
           "until the end": b"HTTP/1.1 503 No\r\n\r\n" + body,
           "cut off": b"HTTP/1.1 503 No\r\nContent-Length: 100\r\n\r\n" + body,
           "no chunk at all": b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"}[way]

    def talk(t):
        if t.request():
            t.send(raw)

    with RawServer(talk) as server:
        done = worker.run(server.spec())
    errors(done, "http_503", "full" if way in ("chunked", "until the end") else None)


def test_more_connections_than_files_are_usually_allowed():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with Guarded() as worker, serving(good()) as server:
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (60, hard))     # the load process's own: this one may hold more
        success(worker.run(server.spec(todo=[(0, 200)], concurrency=100)), 200)


def test_a_redirect_is_told_as_what_it_is(worker):
    with serving(plain(b"", "307 Elsewhere", headers="Location: /v2\r\n")) as server:
        errors(worker.run(server.spec()), "http_307")


def test_the_wrong_key_and_the_right_one(worker):
    with Truth(key="right", ttft=1, itl=1, tokens=4) as truth:
        done = worker.run(truth.spec(todo=[(0, 4)], headers={"Authorization": "Bearer wrong"}))
        errors(done, "http_401", "invalid API key")
        success(worker.run(truth.spec(todo=[(0, 4)], asked=None, headers={"Authorization": "Bearer right"})))


def test_a_key_that_the_server_repeats_is_not_written_down(worker):
    def answer(head, body, n):
        key = head.partition(b"Bearer ")[2].partition(b"\r\n")[0].decode()
        return plain({"error": {"message": f"the key {key} is not known"}}, "401 No")

    with serving(answer) as server:
        done = worker.run(server.spec(headers={"Authorization": "Bearer sk-secret"}))
    errors(done, "http_401", "the key … is not known")


# ------------------------------------------------------------ 200 that isn't

COMPLETION = {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "all at once"}, "finish_reason": "stop"}],
              "usage": {"completion_tokens": 3}}


@pytest.mark.parametrize(("answer", "kind", "why"), [
    (plain({"error": {"message": "no such model"}}), "in_band", "no such model"),
    (plain({"object": "error", "message": "old style"}), "in_band", "old style"),
    (plain(COMPLETION), "protocol", 'one JSON object instead of a stream: the server ignores "stream": true'),
    (plain(COMPLETION | {"pad": "x" * 100_000}), "protocol", "a long answer that is no event stream"),
    (plain(b"{nonsense"), "protocol", "{nonsense"),
    (plain(b""), "truncated", "the stream ended without a finish_reason"),
    (b"+OK POP3 server ready\r\n", "protocol", "the answer does not begin like HTTP: b'+OK POP3 server ready\\r\\n'"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", "protocol", "a chunk begins with b'nonsense\\r\\n' instead of its size"),
    (ANSWER % (b"", chunk(b"data: {oops\n\n")), "protocol", "{oops"),
    (ANSWER % (b"", chunk(b"data: 7\n\n")), "protocol", "7"),
    (ANSWER % (b"", chunk(b"<html>login</html>")), "truncated", "the stream ended without a finish_reason"),
    (ANSWER % (b"", b"".join(map(chunk, words()[4:]))), "empty", "no token came"),
])
def test_what_is_no_stream_of_events(worker, answer, kind, why):
    def talk(t):
        while t.request():
            t.send(answer)
            if b"HTTP" not in answer[:4] or b"nonsense" in answer:
                return

    with RawServer(talk) as server:
        errors(worker.run(server.spec()), kind, why)


@pytest.mark.parametrize("how", ["end", "reset", "terminator"])
def test_an_error_inside_the_stream_is_told_however_the_connection_ends(worker, how):
    def talk(t):
        while t.request():
            t.send(HEAD, chunk(words()[0]), chunk(b'data: {"error": {"message": "the engine has died"}}\n\n'))
            if how == "terminator":
                t.send(b"0\r\n\r\n")
                continue
            time.sleep(0.05)
            t.reset() if how == "reset" else None
            return

    with RawServer(talk) as server:
        errors(worker.run(server.spec()), "in_band", "the engine has died")


def test_a_connection_that_breaks_behind_done_has_done_its_work(worker):
    def talk(t):
        while t.request():
            t.send(HEAD, *map(chunk, words()))
            return

    with RawServer(talk) as server:
        success(worker.run(server.spec()))


# ------------------------------------------------------------ proper HTTP in unusual ways

def test_a_connection_that_is_closed_between_requests_is_no_error(worker):
    """As uvicorn does after some idle seconds, here as nastily as can be: just when the next request is on its way."""
    taken = []

    def talk(t):
        if t.number == 1 and t.request():
            taken.append(1)
            t.send(good())
            t.request()                              # it is read, and answered by closing
            taken.append("lost")
            return
        while t.request():
            taken.append(1)
            t.send(good())

    with RawServer(talk) as server:
        done = worker.run(server.spec(todo=[(0, 5)]))
        success(done, 5)
        assert server.connections == 2 and taken.count("lost") == 1 and taken.count(1) == 5
    assert sum("connect" in r for r in done["rows"]) == 2        # the first request on each connection says how long it took


@pytest.mark.parametrize("pause", [0, 0.03])
def test_a_server_that_closes_behind_every_answer_without_saying_so(worker, pause):
    def talk(t):
        if t.request():
            t.send(good())
            time.sleep(pause)

    with RawServer(talk) as server:
        success(worker.run(server.spec(todo=[(0, 12)], concurrency=3)), 12)


def test_twice_in_a_row_is_an_error(worker):
    """A request that was lost on an old connection is sent again once, not for ever."""
    def talk(t):
        if t.number == 1 and t.request():
            t.send(good())
        t.request()

    with RawServer(talk) as server:
        done = worker.run(server.spec(todo=[(0, 3)]))
    assert [r.get("err") for r in sorted(done["rows"], key=lambda r: r["i"])] == [None, "truncated", "truncated"]


def test_connection_close_on_every_answer(worker):
    with serving(good(headers=b"Connection: close\r\n")) as server:
        done = worker.run(server.spec(todo=[(0, 9)], concurrency=3))
        success(done, 9)
        assert server.connections == 9 and all("connect" in r for r in done["rows"])


def test_http_1_0(worker):
    def talk(t):
        if t.request():
            t.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", *words())

    with RawServer(talk) as server:
        success(worker.run(server.spec(todo=[(0, 4)])))


def test_one_connection_serves_a_slot(worker):
    with serving(good()) as server:
        success(worker.run(server.spec(todo=[(0, 20)], concurrency=2)), 20)
        assert server.connections == 2


def test_continue_before_the_answer(worker):
    with serving(b"HTTP/1.1 100 Continue\r\n\r\n" + good()) as server:
        success(worker.run(server.spec()))


# ------------------------------------------------------------ large requests

LARGE = "words of a long prompt " * 200_000          # 4.6 MB


def whole(server, n):
    assert len(server.bodies) == n
    for body in server.bodies:
        assert LARGE in json.loads(body)["messages"][0]["content"]


def test_a_large_request_goes_out_in_parts(worker):
    with serving(good(), rcvbuf=4096) as server:
        done = worker.run(server.spec(prompt=LARGE, todo=[(0, 3)], concurrency=2))
        success(done, 3)
        whole(server, 3)


def test_a_large_request_on_a_connection_that_had_been_closed_is_sent_whole_on_the_next(worker):
    """A part of it was out already when the connection broke; the new one gets all of it."""
    lost = []

    def talk(t):
        if t.number == 1:
            request = t.request()
            server.bodies.append(request[1])
            t.send(good())
            lost.append(t.sock.recv(10_000))         # the beginning of the next request
            t.reset()
            return
        while request := t.request():
            server.bodies.append(request[1])
            t.send(good())

    with RawServer(talk, rcvbuf=4096) as server:
        success(worker.run(server.spec(prompt=LARGE, todo=[(0, 3)])), 3)
        assert lost[0]
        whole(server, 3)


def test_a_refusal_before_the_request_is_out_is_read(worker):
    """413 and closed while most of the body was still to be sent: the status counts, not the broken pipe."""
    def talk(t):
        t.sock.recv(10_000)
        t.send(plain({"error": {"message": "too large"}}, "413 Too Large", headers="Connection: close\r\n"))
        t.sock.shutdown(socket.SHUT_WR)
        time.sleep(0.2)

    with RawServer(talk, rcvbuf=4096) as server:
        errors(worker.run(server.spec(prompt=LARGE, todo=[(0, 2)])), "http_413", "too large", n=2)


def test_an_answer_that_begins_before_the_request_is_out(worker):
    def talk(t):
        head = t.sock.recv(10_000)
        t.send(HEAD, *map(chunk, words()[:3]))
        time.sleep(0.1)
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        left = length - len(head.partition(b"\r\n\r\n")[2])
        while left > 0:
            left -= len(t.sock.recv(1 << 16))
        t.send(*map(chunk, words()[3:]), b"0\r\n\r\n")

    with RawServer(talk, rcvbuf=4096) as server:
        success(worker.run(server.spec(prompt=LARGE, todo=[(0, 1)])), 1)


# ------------------------------------------------------------ addresses

def ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


@pytest.mark.skipif(not ipv6(), reason="no IPv6 here")
def test_ipv6(worker):
    with serving(good(), host="::1") as server:
        success(worker.run(server.spec()))


@pytest.mark.parametrize("open_loop", [False, True])
def test_the_address_that_answers_is_found(worker, open_loop):
    """localhost is ::1 before 127.0.0.1 on many machines, and most servers listen on the latter only."""
    with serving(good()) as server:
        places = [(socket.AF_INET6, ("::1", server.port, 0, 0)), (socket.AF_INET, ("127.0.0.9", 1)), (socket.AF_INET, ("127.0.0.1", server.port))]
        how = {"rate": 40.0, "concurrency": 8} if open_loop else {"concurrency": 4}
        done = worker.run(server.spec(addresses=places, todo=[(0, 12)], **how))
        success(done, 12)


def test_a_server_that_is_gone_is_not_hammered(monkeypatch):
    """By the clock, each planned request tries once; between them nobody tries."""
    tries = []

    class Counting(wire_module.Wire):
        __slots__ = ()

        def __init__(self, *given):
            tries.append(time.monotonic())
            super().__init__(*given)

    monkeypatch.setattr(load_module, "Wire", Counting)
    spec = Spec(addresses=[(socket.AF_INET, ("127.0.0.1", free_port()))], host="x", body={"model": "m"}, todo=[(0, 6)], concurrency=8, rate=10.0)
    rows = []
    done = Load(spec, rows.append).run()
    errors(done | {"rows": rows}, "connect", "Connection refused", 6)
    assert len(tries) < 20                           # four of them beforehand, one or two in reserve


# ------------------------------------------------------------ other ways of dating

def test_times_of_reading(worker):
    with serving(good()) as server:
        done = worker.run(server.spec(stamps="user"))
    success(done)
    assert done["stamps"] == "user" and {r["stamps"] for r in done["rows"]} == {"user"}
    assert figures(done).to_dict()["stamps"] == "user"


def test_without_epoll(monkeypatch):
    """As on macOS: select.poll, and no stamps of the kernel."""
    monkeypatch.delattr(select, "epoll")
    monkeypatch.setattr(wire_module, "KERNEL_STAMPS", False)
    for how in ({"concurrency": 3}, {"rate": 50.0, "concurrency": 4}):
        rows = []
        with serving(good()) as server:
            done = Load(server.spec(todo=[(0, 9)], **how), rows.append).run()
        success(done | {"rows": rows}, 9)
        assert done["stamps"] == "user"
    rows = []
    with RawServer(lambda t: t.request() and t.reset()) as server:
        errors(Load(server.spec(), rows.append).run() | {"rows": rows}, "truncated")


def test_a_wall_clock_that_is_set_meanwhile_falsifies_nothing(monkeypatch):
    real, shift = load_module.Offset, [0]

    def stepping():
        from gb10.bench.clock import realtime_minus_monotonic

        return realtime_minus_monotonic() + shift[0]

    monkeypatch.setattr(load_module, "Offset", lambda: real(stepping))

    def talk(t):
        while t.request():
            t.send(HEAD, *map(chunk, words()[:2]))
            shift[0] += 3_600_000_000_000            # an hour
            time.sleep(0.6)
            t.send(*map(chunk, words()[2:]), b"0\r\n\r\n")

    rows = []
    with RawServer(talk) as server:
        done = Load(server.spec(todo=[(0, 2)]), rows.append).run() | {"rows": rows}
    success(done, 2)
    assert {r["stamps"] for r in rows} == {"stepped"} and done["clock_steps"] >= 1
    assert all(0 <= r["ttft"] < 5_000_000 and 500_000 < r["e2e"] < 10_000_000 and "ttfr" not in r for r in rows)


# ------------------------------------------------------------ TLS

@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    try:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key.pem", "-out", folder / "cert.pem",
                        "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                       check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl command here")
    return folder


@pytest.fixture
def tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


def test_tls_that_nobody_vouches_for_is_refused(tls, tmp_path):
    with serving(good(), tls=tls) as server:
        p = bench("--url", server.url, "--requests", 2, "--max-tokens", 4, "--results", tmp_path / "r")
        said = sentence(p, 2)
        assert "certificate" in said and "SSL_CERT_FILE" in said and not (tmp_path / "r").exists()
        said = sentence(bench("--url", server.url.replace("https", "http"), "--requests", 2), 1)
        assert "https://" in said or "TLS" in said
        # a model that is named needs no list of models: the first request finds out
        said = sentence(bench("--url", server.url, "--model", "m", "--requests", 2, "--results", tmp_path / "r"), 1)
        assert "CONNECT" in said and "certificate" in said.lower()


def test_tls_with_a_certificate_of_ones_own(tls, certificate, tmp_path):
    with serving(good(), tls=tls) as server:
        p = bench("--url", server.url, "--requests", 6, "--concurrency", 2, "--max-tokens", 4, "--results", tmp_path, "--json", "-",
                  env=environment(SSL_CERT_FILE=str(certificate / "cert.pem")))
    assert p.returncode == 0, p.stderr
    row = json.loads(p.stdout)["runs"][0]
    assert row["stamps"] == "tls" and row["ok"] == 6 and row["output_tokens"] == 24 and "behind TLS" in p.stderr
    journal = next(tmp_path.glob("*/journal.jsonl")).read_text().splitlines()
    assert [r["stamps"] for r in map(json.loads, journal) if r["k"] == "req"] == ["tls"] * 6


def test_tls_in_the_load_process(tls, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    many = HEAD + b"".join(map(chunk, words(2000))) + b"0\r\n\r\n"
    answers = {1: good(), 2: many, 3: plain({"error": {"message": "full"}}, "503 No"), 4: good(headers=b"Connection: close\r\n"), 5: good()}
    with Guarded() as worker, serving(lambda head, body, n: answers[n], tls=tls) as server:
        done = worker.run(server.spec(todo=[(0, 5)], prompt=LARGE))
        assert [r.get("err") for r in done["rows"]] == [None, None, "http_503", None, None]
        assert [r["n"] for r in done["rows"] if "n" in r] == [4, 2000, 4, 4] and done["stamps"] == "tls"
        assert server.connections == 2
        whole(server, 5)
        # a name that the certificate does not have, and a server that speaks no TLS
        done = worker.run(server.spec(tls="elsewhere.example", todo=[(0, 50)]))
        assert {r["err"] for r in done["rows"]} == {"connect"} and "elsewhere.example" in done["gave_up"]
    with Guarded() as worker, RawServer(lambda t: t.sock.recv(9999) and t.send(b"220 mail ready\r\n") or time.sleep(0.1)) as server:
        done = worker.run(server.spec(tls="localhost", todo=[(0, 50)]))
        assert {r["err"] for r in done["rows"]} == {"connect"}
        assert "SSL" in done["gave_up"].upper() or "reset" in done["gave_up"]       # whichever comes first


def test_a_tls_handshake_that_hangs_costs_no_processor_time(monkeypatch):
    """It is waited for, not looked at again and again."""
    monkeypatch.setattr(load_module, "CONNECT_S", 0.6)
    looked = []
    real = wire_module.Wire.progress
    monkeypatch.setattr(wire_module.Wire, "progress", lambda self: looked.append(1) or real(self))
    rows = []
    with RawServer(lambda t: time.sleep(3)) as server:
        Load(server.spec(tls="localhost", todo=[(0, 1)]), rows.append).run()
    assert [r["err"] for r in rows] == ["connect"] and rows[0]["why"] == "no connection after 0.6 s"
    assert len(looked) < 20


# ------------------------------------------------------------ everything at once

@pytest.mark.parametrize("how", ["closed", "open", "turns"])
def test_a_server_that_does_anything_at_any_time(worker, how):
    """Whatever happens: every request is told of once, none is made up, no more are in flight than asked for, the run ends."""
    rng, lock, sent = random.Random(1), threading.Lock(), []

    def talk(t):
        while request := t.request():
            with lock:
                what = rng.choice(("good",) * 8 + ("reset", "close", "late reset", "half", "503", "garbage", "close behind", "error", "stall"))
                sent.append(request[0])
            if what == "good":
                t.send(HEAD)
                for part in map(chunk, words()):
                    t.send(part)
                t.send(b"0\r\n", b"\r\n")
            elif what == "reset":
                return t.reset()
            elif what == "close":
                return None
            elif what in ("late reset", "half", "error"):
                t.send(HEAD, *map(chunk, words()[:2]))
                if what == "error":
                    t.send(chunk(b'data: {"error": {"message": "oh"}}\n\n'))
                time.sleep(0.01)
                return t.reset() if what == "late reset" else None
            elif what == "503":
                t.send(plain({"error": "full"}, "503 No"))
            elif what == "garbage":
                t.send(b"nonsense")
                return None
            elif what == "close behind":
                t.send(good())
                return None
            else:
                t.send(HEAD)
                t.request()
                return None

    count, turns = 120, 3 if how == "turns" else 1
    more = {"closed": {"concurrency": 8}, "open": {"rate": 300.0, "poisson": True, "concurrency": 8},
            "turns": {"concurrency": 8, "turns": 3}}[how]
    with RawServer(talk) as server:
        done = worker.run(server.spec(todo=[(0, count)], stall_s=0.3, **more))
    rows = done["rows"]
    assert done["done"] == len(rows) and not done["gave_up"] and len({r["i"] for r in rows}) == len(rows)
    assert {r["i"] // turns for r in rows} == set(range(count)) and (turns > 1 or len(rows) == count)
    assert {r.get("err", "fine") for r in rows} <= {"fine", "truncated", "stall", "http_503", "protocol", "in_band", "connect"}
    assert all(r["n"] == 4 and r["events"] == 4 for r in rows if not r.get("err")) and sum(not r.get("err") for r in rows) > 0.3 * len(rows)
    moments = sorted((at, step) for r in rows if r["send"] is not None for at, step in ((r["send"], 1), (r["send"] + r["end"], -1)))
    flying = list(itertools.accumulate(step for _, step in moments))
    assert max(flying) <= 8 and flying[-1] == 0
    assert len(rows) <= len(sent) <= 2 * len(rows)           # a lost connection costs a second try, never a third


def test_stopping_is_noticed_while_connections_are_still_being_made():
    """A host that swallows what is sent: nobody waits the whole ten seconds for Ctrl-C."""
    with socket.socket() as listener, Guarded() as worker:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fill = [socket.socket() for _ in range(4)]           # nobody accepts: the queue is full
        for s in fill:
            s.setblocking(False)
            s.connect_ex(listener.getsockname())
        threading.Timer(0.5, worker.stop).start()
        began = time.monotonic()
        done = worker.run(Spec(addresses=[(socket.AF_INET, listener.getsockname())], host="x", body={"model": "m"}, todo=[(0, 9)], concurrency=6))
        for s in fill:
            s.close()
    assert done["cancelled"] and done["rows"] == [] and time.monotonic() - began < 6
