"""A server whose true send times are known: it notes the moment before every write of a token.

    python -m gb10.bench.truth --port 9000 --ttft 50 --itl 5 --tokens 128 --shape plain

It speaks enough of OpenAI's protocol to be measured, in many shapes: what engines really send, and what goes wrong. One
thread, one epoll, standard library; 64 streams at 5 ms take about a quarter of a core. GET /truth gives its notes: for each
X-Request-Id the arrival of the request and the times of its token writes, in ns of the monotonic clock, which is the same
in every process of the machine.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import signal
import socket
import sys
from array import array
from itertools import count
from time import monotonic_ns

MS = 1_000_000


class Plan:
    """What one request gets: how it begins, when its tokens come, how it ends."""

    def __init__(self, options, asked: dict, number: int):
        self.o, self.asked, self.number = options, asked, number
        limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
        self.tokens = min(limit, options.tokens) if isinstance(limit, int) and limit > 0 else options.tokens
        if options.short and not asked.get("ignore_eos"):
            self.tokens = min(self.tokens, options.short)
        stream = asked.get("stream_options") or {}
        self.usage = bool(stream.get("include_usage"))
        self.counting = bool(stream.get("continuous_usage_stats"))
        self.prompt = prompt_tokens(asked)
        self.before = (f'{{"id":"chatcmpl-{number:012x}","object":"chat.completion.chunk","created":1790000000,'
                       f'"model":"{options.model}","choices":[{{"index":0,"delta":').encode()

    def at(self, token: int) -> float:
        """When token number 0, 1, … is sent, in ms from the request."""
        return self.o.ttft + token * self.o.itl

    def counts(self, n: int) -> dict:
        return {"prompt_tokens": self.prompt, "total_tokens": self.prompt + n, "completion_tokens": n}

    def event(self, delta: dict, n: int = 0, finish: str | None = None) -> bytes:
        """One chunk of the answer as an event; n: tokens so far, for who asked to be told."""
        tail = f',"logprobs":null,"finish_reason":{json.dumps(finish)}}}]'
        if self.counting:
            tail += ',"usage":' + json.dumps(self.counts(n), separators=(",", ":"))
        return b"data: " + self.before + json.dumps(delta, separators=(",", ":")).encode() + tail.encode() + b"}\n\n"

    def word(self, token: int, field: str = "content") -> bytes:
        return self.event({field: f" word{token}"}, token + 1)

    @property
    def finish(self) -> str:
        limit = self.asked.get("max_completion_tokens") or self.asked.get("max_tokens")
        return "length" if self.tokens == limit else self.o.finish

    def ending(self, finish: str | None = None, usage: bool | None = None) -> bytes:
        """The event with the finish_reason, the usage if it was asked for, [DONE]."""
        out = self.event({}, self.tokens, finish or self.finish)
        if self.usage if usage is None else usage:
            out = out + b"data: " + self.before.partition(b'"choices"')[0] + b'"choices":[],"usage":' + \
                json.dumps(self.counts(self.tokens), separators=(",", ":")).encode() + b"}\n\n"
        return out + b"data: [DONE]\n\n"


# A shape is a generator of (ms from the request, bytes of the body, tokens in them). None for bytes closes the connection.


def plain(p: Plan):
    """As vLLM: the role with the first token in one write, one token an event."""
    yield p.at(0), [p.event({"role": "assistant", "content": ""}), p.word(0)], 1
    for i in range(1, p.tokens):
        yield p.at(i), [p.word(i)], 1
    yield p.at(p.tokens - 1), [p.ending()], 0


def role_first(p: Plan):
    """The role leaves early, as with chunked prefill."""
    yield p.o.ttft / 5, [p.event({"role": "assistant", "content": ""})], 0
    for i in range(p.tokens):
        yield p.at(i), [p.word(i)], 1
    yield p.at(p.tokens - 1), [p.ending()], 0


def reasoning_content(p: Plan, field: str = "reasoning_content"):
    """The first half is thought, in a field of its own."""
    for i in range(p.tokens):
        yield p.at(i), [p.word(i, field if i < p.tokens // 2 else "content")], 1
    yield p.at(p.tokens - 1), [p.ending()], 0


def reasoning(p: Plan):
    """The same under the name that Ollama and newer vLLM use."""
    yield from reasoning_content(p, "reasoning")


def four_tokens(p: Plan):
    """Four tokens in an event, as with speculative decoding."""
    for i in range(0, p.tokens, 4):
        n = min(4, p.tokens - i)
        yield p.at(i), [p.event({"content": "".join(f" word{j}" for j in range(i, i + n))}, i + n)], n
    yield p.at(p.tokens - 1), [p.ending()], 0


def four_events(p: Plan):
    """Four events in a write."""
    for i in range(0, p.tokens, 4):
        n = min(4, p.tokens - i)
        yield p.at(i), [b"".join(p.word(j) for j in range(i, i + n))], n
    yield p.at(p.tokens - 1), [p.ending()], 0


def no_usage(p: Plan):
    """The usage is never told."""
    p.counting = False
    for i in range(p.tokens):
        yield p.at(i), [p.word(i)], 1
    yield p.at(p.tokens - 1), [p.ending(usage=False)], 0


def comment(p: Plan):
    """A comment before anything else, as proxies send against time-outs."""
    yield p.o.ttft / 5, [b": ping\n\n"], 0
    for i in range(p.tokens):
        yield p.at(i), [p.word(i)], 1
    yield p.at(p.tokens - 1), [p.ending()], 0


def split(p: Plan):
    """Every eighth event leaves in two segments, 2 ms apart."""
    for i in range(p.tokens):
        event = p.word(i)
        if i % 8 == 7:
            half = len(event) // 2
            yield p.at(i), [Raw(b"%x\r\n" % len(event) + event[:half])], 0
            yield p.at(i) + 2, [Raw(event[half:] + b"\r\n")], 1
        else:
            yield p.at(i), [event], 1
    yield p.at(p.tokens - 1) + 2, [p.ending()], 0


def empty_text(p: Plan):
    """Every eighth token has no text: half of a character, say."""
    for i in range(p.tokens):
        yield p.at(i), [p.event({"content": ""}, i + 1) if i % 8 == 4 else p.word(i)], 0 if i % 8 == 4 else 1
    yield p.at(p.tokens - 1), [p.ending()], 0


def error_inside(p: Plan):
    """HTTP 200, and an error after 16 tokens."""
    for i in range(16):
        yield p.at(i), [p.word(i)], 1
    yield p.at(16), [b'data: {"error":{"message":"the engine has died","code":500}}\n\n', b"data: [DONE]\n\n"], 0


def dropped(p: Plan):
    """The connection goes after 16 tokens."""
    for i in range(16):
        yield p.at(i), [p.word(i)], 1
    yield p.at(16), None, 0


def busy(p: Plan):
    """Every fifth request is turned away with a 503 (the server counts)."""
    yield from plain(p)


def stall(p: Plan):
    """Nothing comes any more after 16 tokens, and the connection stays."""
    for i in range(16):
        yield p.at(i), [p.word(i)], 1
    yield 1e9, [b""], 0


def usage_beside_text(p: Plan):
    """The usage stands on the last event with text, as llama.cpp sends it."""
    for i in range(p.tokens - 1):
        yield p.at(i), [p.word(i)], 1
    last = json.loads(p.word(p.tokens - 1)[6:])
    last["choices"][0]["finish_reason"] = p.finish
    last["usage"] = p.counts(p.tokens)
    yield p.at(p.tokens - 1), [b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n"], 1


def half_event(p: Plan):
    """The stream ends properly in the middle of an event."""
    for i in range(16):
        yield p.at(i), [p.word(i)], 1
    yield p.at(16), [p.word(16)[:40]], 0


def garbage(p: Plan):
    """What is no JSON, in the middle."""
    for i in range(16):
        yield p.at(i), [p.word(i)], 1
    yield p.at(16), [b"data: {oops\n\n"], 0
    yield p.at(17), [p.ending()], 0


def huge(p: Plan):
    """One event of 2 MB among the others."""
    for i in range(p.tokens):
        yield p.at(i), [p.event({"content": "x" * 2_000_000}, i + 1) if i == 8 else p.word(i)], 1
    yield p.at(p.tokens - 1), [p.ending()], 0


def endless(p: Plan):
    """An event that does not end."""
    for i in range(1000):
        yield p.at(i), [b"data: " if i == 0 else b"x" * 65_536], 0


def drip(p: Plan):
    """Byte by byte, a byte every half millisecond."""
    at, p.tokens = p.at(0), min(p.tokens, 3)
    for i in range(p.tokens):
        for b in p.word(i):
            yield at, [bytes((b,))], 0
            at += 0.5
    yield at, [p.ending()], 0


def nothing(p: Plan):
    """A proper answer without a token."""
    p.tokens = 0
    yield p.at(0), [p.event({"role": "assistant", "content": ""}), p.ending(finish="stop")], 0


def crlf(p: Plan):
    """Lines that end in CR LF."""
    for at, bodies, n in plain(p):
        yield at, [b.replace(b"\n", b"\r\n") for b in bodies], n


SHAPES = {f.__name__: f for f in (
    plain, role_first, reasoning_content, reasoning, four_tokens, four_events, no_usage, comment, split, empty_text, error_inside,
    dropped, busy, stall, usage_beside_text, half_event, garbage, huge, endless, drip, nothing, crlf)}


class Raw(bytes):
    """Bytes that are already chunked."""


def prompt_tokens(asked: dict) -> int:
    """The server's own tokenizer: a word is a token and a third of one, a message has 9 more."""
    messages = asked.get("messages") or [{"content": asked.get("prompt") or ""}]
    return sum(9 + len(str(m.get("content", "")).split()) * 4 // 3 for m in messages)


class Connection:
    __slots__ = ("buffer", "fd", "name", "out", "sock", "steps", "streaming", "zero")

    def __init__(self, sock):
        self.sock, self.fd = sock, sock.fileno()
        self.buffer = self.out = b""
        self.steps, self.name, self.zero, self.streaming = None, "", 0, False


class Server:
    """One listener. `serve()` runs until the process is told to end."""

    def __init__(self, options):
        self.o = options
        self.truth: dict[str, tuple[int, array]] = {}
        self.requests = self.posts = 0
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((options.host, options.port))
        self.listener.listen(1024)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.poll = select.epoll()
        self.poll.register(self.listener.fileno(), select.EPOLLIN)
        self.connections: dict[int, Connection] = {}
        self.due: list = []
        self.order = count()

    def serve(self) -> None:
        fileno = self.poll.fileno()
        while True:
            now = monotonic_ns()
            while self.due and self.due[0][0] <= now:
                _, _, c, step = heapq.heappop(self.due)
                self._step(c, step)
                now = monotonic_ns()
            left = (self.due[0][0] - now) / 1e9 if self.due else 1.0
            select.select((fileno,), (), (), max(0.0, min(left, 1.0)))
            for fd, mask in self.poll.poll(0):
                if fd == self.listener.fileno():
                    self._accept()
                elif c := self.connections.get(fd):
                    self._ready(c, mask)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            c = Connection(sock)
            self.connections[c.fd] = c
            self.poll.register(c.fd, select.EPOLLIN)

    def _close(self, c: Connection) -> None:
        if self.connections.pop(c.fd, None):
            self.poll.unregister(c.fd)
            c.sock.close()
            c.steps = None

    def _ready(self, c: Connection, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self._flush(c)
        if not mask & ~select.EPOLLOUT:
            return
        try:
            data = c.sock.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(c)
            return
        c.buffer += data
        head, sep, body = c.buffer.partition(b"\r\n\r\n")
        if not sep:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        if len(body) < length:
            return
        c.buffer = body[length:]
        method, path, _ = (lines[0] + "  ").split(" ", 2)
        self._request(c, method, path, headers, body[:length])

    def _request(self, c: Connection, method: str, path: str, headers: dict, body: bytes) -> None:
        now = monotonic_ns()
        o = self.o
        if o.key and headers.get("authorization") != f"Bearer {o.key}":
            self._answer(c, 401, {"error": {"message": "invalid API key", "type": "authentication_error"}})
        elif path.startswith("/truth"):
            notes = {name: [zero, *times] for name, (zero, times) in self.truth.items()}
            self._answer(c, 200, notes)
            self.truth.clear()
        elif path.endswith("/models"):
            self._answer(c, 200, {"object": "list", "data": [{"id": o.model, "object": "model", "owned_by": o.owner}]})
        elif path == "/version":
            self._answer(c, 200, {"version": "0.0-truth"})
        elif method != "POST" or not path.endswith("/completions"):
            self._answer(c, 404, {"error": {"message": "there is no such path"}})
        else:
            self.posts += 1
            asked = json.loads(body)
            wrong = next((f for f in o.forbid if f in asked or f in (asked.get("stream_options") or {})), None)
            if wrong:
                self._answer(c, 400, {"error": {"message": f"{wrong}: extra inputs are not permitted"}})
            elif asked.get("model") not in (None, o.model):
                self._answer(c, 404, {"error": {"message": f"the model {asked['model']} does not exist"}})
            elif o.shape == "busy" and self.posts % 5 == 0:
                self._answer(c, 503, {"error": {"message": "too many requests at once"}})
            elif o.vanish and self.posts > o.vanish:
                os._exit(0)
            else:
                self._start(c, asked, headers.get("x-request-id", f"?{self.posts}"), now)

    def _start(self, c: Connection, asked: dict, name: str, now: int) -> None:
        c.name, c.zero, c.streaming = name, now, False
        c.steps = SHAPES[self.o.shape](Plan(self.o, asked, self.posts))
        self.truth[name] = (now, array("q"))
        self._plan(c)

    def _plan(self, c: Connection) -> None:
        step = next(c.steps, None)
        if step is None:
            self._write(c, b"0\r\n\r\n")
            c.steps = None
        else:
            heapq.heappush(self.due, (c.zero + int(step[0] * MS), next(self.order), c, step))

    def _step(self, c: Connection, step) -> None:
        if c.steps is None:
            return
        _, bodies, tokens = step
        if bodies is None:
            self._close(c)
            return
        data = b"".join(b if isinstance(b, Raw) else b"%x\r\n" % len(b) + b + b"\r\n" for b in bodies if b)
        if not c.streaming:
            c.streaming = True
            data = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n") + data
        now = monotonic_ns()
        if tokens:
            self.truth[c.name][1].append(now)
        self._write(c, data)
        if c.steps is not None:
            self._plan(c)

    def _answer(self, c: Connection, status: int, data: dict) -> None:
        body = json.dumps(data).encode()
        self._write(c, f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def _write(self, c: Connection, data: bytes) -> None:
        if c.out:
            c.out += data
            return
        c.out = data
        self._flush(c)

    def _flush(self, c: Connection) -> None:
        try:
            while c.out:
                c.out = c.out[c.sock.send(c.out):]
            self.poll.modify(c.fd, select.EPOLLIN)
        except BlockingIOError:
            self.poll.modify(c.fd, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self._close(c)


def options(argv: list[str] | None = None):
    import argparse

    p = argparse.ArgumentParser(prog="python -m gb10.bench.truth", description=__doc__.partition("\n")[0])
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=0, help="0: a free one, which is printed")
    p.add_argument("--ttft", type=float, default=50, metavar="MS")
    p.add_argument("--itl", type=float, default=5, metavar="MS")
    p.add_argument("--tokens", type=int, default=128, metavar="N", help="at most, whatever a request asks for")
    p.add_argument("--shape", default="plain", choices=SHAPES)
    p.add_argument("--model", default="truth")
    p.add_argument("--owner", default="truth")
    p.add_argument("--finish", default="stop", help="finish_reason of an answer that did not reach its max_tokens")
    p.add_argument("--short", type=int, metavar="N", help="stop after N tokens unless ignore_eos is asked for")
    p.add_argument("--forbid", default=[], type=lambda s: s.split(","), metavar="FIELD,…", help="answer 400 to these fields")
    p.add_argument("--key", help="ask for this API key")
    p.add_argument("--vanish", type=int, metavar="N", help="be gone after N requests")
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    server = Server(options(argv))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(json.dumps({"port": server.port}), flush=True)
    server.serve()


if __name__ == "__main__":
    main()
