"""The stream on the wire: reads of a socket, the events in them, and the widget that walks through them."""

import json
import socket
import threading
from itertools import pairwise

import pytest

from gb10.errors import UserError, WorkFailed
from gb10.explore import wire


def chunk(delta=None, finish=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return json.dumps({"choices": choices} | more)


PAYLOADS = [chunk({"role": "assistant", "content": ""}), chunk({"reasoning": "hm"}), chunk({"content": "Hé"}), chunk({"content": "y"}, "stop"),
            chunk({}, "length"), chunk(usage={"completion_tokens": 3}), "[DONE]"]
KINDS = ["role", "reasoning", "text", "text", "finish", "usage", "done"]
BODY = "".join(f"data: {p}\n\n" for p in PAYLOADS).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(body, size):
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


def as_reads(raw, size):
    return [wire.Read(0.01 * i, raw[at : at + size]) for i, at in enumerate(range(0, len(raw), size))]


class OneAnswer:
    """A server that sends some bytes to whoever comes first, and closes."""

    def __init__(self, *parts):
        self.parts, self.listener, self.asked = parts, socket.create_server(("127.0.0.1", 0)), b""
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        connection, _ = self.listener.accept()
        with connection:
            while b"\r\n\r\n" not in self.asked or len(self.asked.partition(b"\r\n\r\n")[2]) < self.length():
                self.asked += connection.recv(65536)
            for part in self.parts:
                connection.sendall(part)

    def length(self):
        return int(self.asked.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)


@pytest.mark.parametrize("step", [1, 7, 64, 100_000])
@pytest.mark.parametrize("size", [5, 300, 100_000])
def test_the_same_events_however_the_bytes_are_cut(step, size):
    found = wire.events(as_reads(HEAD + chunked(BODY, size), step))
    assert [e.kind for e in found] == KINDS and [e.number for e in found] == list(range(7))
    assert [e.payload for e in found] == PAYLOADS
    assert "".join(e.text for e in found if e.kind == "text") == "Héy"
    assert all(a.at_s <= b.at_s for a, b in pairwise(found))


def test_lines_are_the_body_without_http():
    got = wire.lines(as_reads(HEAD + chunked(BODY, 11), 9))
    assert got == BODY.decode().split("\n")


def test_an_event_has_the_time_of_its_last_byte():
    raw = chunked(b'data: {"choices": []}\n\n', 15)
    [event] = wire.events([wire.Read(0.1, HEAD), wire.Read(0.2, raw[:20]), wire.Read(0.7, raw[20:])])
    assert event.at_s == 0.7 and event.kind == "other"


@pytest.mark.parametrize(("payload", "kind", "text"), [
    (chunk({"reasoning_content": "a"}), "reasoning", "a"), (chunk({"content": None}, "stop"), "finish", "stop"), ("not json", "other", ""),
    ('{"error": {"message": "dead"}}', "error", "{'message': 'dead'}"), ("[1, 2]", "other", ""), (chunk({"content": None}), "other", ""),
    (" [DONE] ", "done", ""), (chunk({"content": "x"}, "stop", usage={"completion_tokens": 1}), "text", "x")])
def test_kinds(payload, kind, text):
    assert wire.classify(payload) == (kind, text)


def test_listening_to_a_server():
    server = OneAnswer(HEAD, chunked(BODY, 90))
    reads = wire.listen(server.url, {"model": "m", "messages": []})
    assert b"".join(r.data for r in reads) == HEAD + chunked(BODY, 90)
    assert server.asked.startswith(b"POST /v1/chat/completions ") and b'"stream": true' in server.asked
    assert [e.kind for e in wire.events(reads)] == KINDS


def test_a_key_is_sent(monkeypatch):
    monkeypatch.setenv("GB10_API_KEY", "s3cret")
    server = OneAnswer(HEAD, chunked(BODY, 90))
    wire.listen(server.url, {})
    assert b"Authorization: Bearer s3cret" in server.asked


def test_a_refusal_and_a_broken_stream_are_sentences():
    refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 11\r\n\r\nno such one"
    with pytest.raises(UserError, match=r"refuses the request \(400\): no such one"):
        wire.listen(OneAnswer(refusal).url, {})
    with pytest.raises(WorkFailed, match="does not begin like HTTP"):
        wire.listen(OneAnswer(b"SSH-2.0-OpenSSH\r\n").url, {})
    with pytest.raises(WorkFailed, match="broke off after 0 reads"):
        wire.listen("http://127.0.0.1:9/v1", {})


def test_a_stream_that_ends_early_gives_what_came():
    part = chunked(BODY, 4000)[:-200]
    kinds = [e.kind for e in wire.events(wire.listen(OneAnswer(HEAD, part).url, {}))]
    assert 1 < len(kinds) < 7 and kinds[:-1] == KINDS[: len(kinds) - 1] and kinds[-1] == "other"


def test_ttft_and_description():
    found = wire.events(as_reads(HEAD + chunked(BODY, 50), 40))
    first = next(e for e in found if e.kind == "reasoning")
    assert wire.ttft(found) == first.at_s and f"{1e3 * first.at_s:.0f} ms" in wire.describe(found)
    assert wire.describe(found).startswith("7 events: 1 role, 2 text, 1 reasoning, 1 finish, 1 usage, 1 done")
    assert wire.ttft(found[:1]) is None


def test_the_widget_shows_every_event_and_escapes_it():
    nasty = [chunk({"content": "<img src=x>"}), *PAYLOADS]
    body = "".join(f"data: {p}\n\n" for p in nasty).encode()
    found = wire.events(as_reads(HEAD + chunked(body, 70), 30))
    box = wire.explore(found)
    slider, image, words = box.children
    assert slider.max == len(found) - 1
    for n in (0, 3, len(found) - 1):
        slider.value, e = n, found[n]
        assert f"event {n}</b>, {e.kind}" in words.value and "<img" not in words.value
        assert 'alt="Events of a stream' in image.value and f"Marked: event {n}" in image.value
