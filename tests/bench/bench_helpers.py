"""What several tests of the benchmark share: servers on raw sockets, cells against them, the command as a user calls it."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading

from gb10.bench.figures import Figures, Segment
from gb10.bench.spec import Spec
from gb10.bench.worker import Worker
from gb10.paths import ROOT

COMMAND = [sys.executable, str(ROOT / "appendix" / "llm_benchmark.py")]
ANSWER = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n%s\r\n%s0\r\n\r\n")


def event(delta, finish=None, **more):
    data = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | more
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def words(n=4, prompt=9):
    """The events of an answer with n tokens, and its end."""
    usage = {"prompt_tokens": prompt, "completion_tokens": n, "total_tokens": prompt + n}
    return [*(event({"content": f" w{i}"}) for i in range(n)), event({}, "length"),
            b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n", b"data: [DONE]\n\n"]


def good(n=4, headers=b"", prompt=9):
    return ANSWER % (headers, b"".join(map(chunk, words(n, prompt))))


def plain(body, status="200 OK", kind="application/json", headers=""):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


MODELS = plain({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "vllm"}]})


class Talk:
    """The server's end of one connection."""

    def __init__(self, sock, number):
        self.sock, self.number, self.buffer = sock, number, b""

    def request(self):
        """(head, body) of the next request; None at the end."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        length = next((int(v) for k, _, v in (line.partition(b":") for line in head.split(b"\r\n")) if k.lower() == b"content-length"), 0)
        while len(self.buffer) < length:
            if not self._more():
                return None
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return head, body

    def _more(self):
        data = self.sock.recv(1 << 16)
        self.buffer += data
        return bool(data)

    def send(self, *parts):
        for part in parts:
            self.sock.sendall(part)

    def reset(self):
        """Close it with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class RawServer:
    """A listener on a free loopback port; `talk(t)` is called in a thread for each connection. A with block ends it."""

    def __init__(self, talk, host="127.0.0.1", tls=None, backlog=128, rcvbuf=None, port=0):
        self.talk, self.tls = talk, tls
        self.connections = 0
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self._open: set = set()
        self.listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        if rcvbuf:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(backlog)
        self.host, self.port = host, self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://{'localhost' if self.tls else self.host}:{self.port}/v1"

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._one, args=(sock, self.connections), daemon=True).start()

    def _one(self, sock, number):
        self._open.add(sock)
        try:
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self._open.add(sock)
            self.talk(Talk(sock, number))
        except OSError:
            pass
        finally:
            sock.close()

    def spec(self, **changes):
        """A cell against this server."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        given = {"addresses": [(family, (self.host, self.port))], "host": f"localhost:{self.port}", "prompt": "Say something.",
                 "body": {"model": "m", "stream": True, "max_tokens": 4}, "todo": [(0, 4)], "stall_s": 5, "timeout_s": 10,
                 "tls": "localhost" if self.tls else None}
        return Spec(**given | changes)

    def __enter__(self):
        return self

    def quit(self):
        """Listen no longer; what is connected stays."""
        try:
            self.listener.shutdown(socket.SHUT_RDWR)         # wakes who waits in accept()
        except OSError:
            pass
        self.listener.close()

    def __exit__(self, *_):
        self.quit()
        for sock in list(self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def serving(answer, **how):
    """A server that gives `answer` (bytes, or f(head, body, number of the request)) to every POST, and a list of models."""
    def talk(t):
        while request := t.request():
            head, body = request
            if head.startswith(b"GET"):
                t.send(MODELS if b"/models" in head.split(b"\r\n")[0] else plain({}, "404 Not Found"))
                continue
            server.heads.append(head)
            server.bodies.append(body)
            t.send(answer(head, body, len(server.bodies)) if callable(answer) else answer)

    server = RawServer(talk, **how)
    return server


class Guarded(Worker):
    """A load process that is killed when a cell does not end, so that a test fails instead of hanging."""

    def run(self, spec, progress=lambda row: None):
        guard = threading.Timer(45, self.process.kill)
        guard.start()
        try:
            return super().run(spec, progress)
        finally:
            guard.cancel()


def figures(done, concurrency=1, rate=None, slo=None):
    """The figures of a cell whose lines came back with its totals."""
    f = Figures(0, concurrency, rate, slo)
    f.segments.append(Segment(concurrency, done["started"]))
    for row in done["rows"]:
        f.add(row, f.segments[0])
    f.settle()
    for row in done["rows"]:
        f.count(row, f.segments[0])
    return f


def environment(**more):
    """For a command that a user without any settings calls."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("GB10_", "PYTHON", "SSL_CERT"))}
    return env | {"GB10_RUNG": "laptop"} | more


def bench(*args, env=None, cwd=None, timeout=60, stdin=subprocess.DEVNULL, command=COMMAND):
    """The command, with whatever it said. A traceback is never right."""
    p = subprocess.run([*command, *map(str, args)], capture_output=True, text=True, stdin=stdin, cwd=cwd, timeout=timeout,
                       check=False, env=environment() if env is None else env)
    assert "Traceback" not in p.stderr and "Error:" not in p.stderr, p.stderr
    return p


def sentence(p, code):
    """The one sentence with which a command refused."""
    assert p.returncode == code, (p.returncode, p.stdout, p.stderr)
    said = p.stderr.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("llm_benchmark.py: ") and len(said[0]) > 30, said
    assert said[0].endswith((".", "…", "--help", "?")) or said[0][-1] in ".)", said
    return said[0].removeprefix("llm_benchmark.py: ")
