"""A token stream as it is on the wire: every read of the socket, with its time, and the events in it.

Nothing is tidied up: the reads hold HTTP's status line, its headers and the sizes of its chunks, too.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import urlsplit

from gb10.bench.http1 import NotHttp, Response
from gb10.bench.sse import Events
from gb10.errors import UserError, WorkFailed
from gb10.explore import figure

KINDS = ("role", "text", "reasoning", "finish", "usage", "done", "error", "other")
COLOUR = {"role": figure.GREY, "text": figure.BLUE, "reasoning": figure.ORANGE, "finish": figure.GREEN, "usage": "#7a4fbf", "done": "black",
          "error": figure.RED, "other": figure.GREY}


@dataclass(frozen=True)
class Read:
    """What one read of the socket returned. at_s: seconds since the request was sent."""

    at_s: float
    data: bytes


@dataclass(frozen=True)
class Event:
    """One server-sent event. kind: what it brings, one of KINDS; at_s: when its last byte was read."""

    number: int
    at_s: float
    kind: str
    text: str
    payload: str


def listen(url: str, body: dict, timeout: float = 120.0) -> list[Read]:
    """POST body with stream=true to URL/chat/completions and keep every read until the answer is complete.

    Raises UserError (the engine refuses the request) or WorkFailed (nobody there, or the connection broke)."""
    place = urlsplit(url)
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = kind(place.hostname, place.port, timeout=timeout)
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    if key := os.environ.get("GB10_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    reads, response = [], Response()
    try:
        connection.connect()
        connection.request("POST", f"{place.path.rstrip('/')}/chat/completions", json.dumps(body | {"stream": True}), headers)
        sent = time.perf_counter()
        while not response.done:
            data = connection.sock.recv(65536)
            if not data:
                response.end()
                break
            reads.append(Read(time.perf_counter() - sent, data))
            response.feed(data)
    except (OSError, NotHttp) as e:
        raise WorkFailed(f"the stream of {url} broke off after {len(reads)} reads ({e}): ./course status shows what is up.") from None
    finally:
        connection.close()
    if response.status != 200:
        raise UserError(f"the engine at {url} refuses the request ({response.status}): {_body(reads)[:200].decode(errors='replace')}")
    return reads


def _body(reads: Sequence[Read]) -> bytes:
    response = Response()
    return b"".join(response.feed(r.data) for r in reads)


def lines(reads: Sequence[Read]) -> list[str]:
    """The lines of the body, without their ends: what is left when HTTP's own bytes are gone."""
    return _body(reads).decode(errors="replace").split("\n")


def events(reads: Sequence[Read]) -> list[Event]:
    """The server-sent events in some reads, in order."""
    response, parser, out = Response(), Events(), []
    for read in reads:
        for payload in parser.feed(response.feed(read.data)):
            text = payload.decode(errors="replace")
            out.append(Event(len(out), read.at_s, *classify(text), text))
    if rest := parser.rest():
        text = rest.decode(errors="replace")
        out.append(Event(len(out), reads[-1].at_s, *classify(text), text))
    return out


def classify(payload: str) -> tuple[str, str]:
    """(kind, text) of an event's payload."""
    if payload.strip() == "[DONE]":
        return "done", ""
    try:
        data = json.loads(payload)
    except ValueError:
        return "other", ""
    if not isinstance(data, dict):
        return "other", ""
    if data.get("error"):
        return "error", str(data["error"])
    choice = next((c for c in data.get("choices") or [] if isinstance(c, dict)), {})
    delta = choice.get("delta") or {}
    if delta.get("content"):
        return "text", delta["content"]
    if thought := delta.get("reasoning") or delta.get("reasoning_content"):
        return "reasoning", thought
    if choice.get("finish_reason"):
        return "finish", choice["finish_reason"]
    if data.get("usage") and not choice:
        return "usage", f"{data['usage'].get('completion_tokens')} tokens"
    return ("role", str(delta["role"])) if delta.get("role") else ("other", "")


def ttft(found: Sequence[Event]) -> float | None:
    """Seconds to the first text or reasoning; None if there is none."""
    return next((e.at_s for e in found if e.kind in ("text", "reasoning")), None)


def describe(found: Sequence[Event]) -> str:
    counts = {k: sum(e.kind == k for e in found) for k in KINDS}
    first = ttft(found)
    said = ", ".join(f"{n} {k}" for k, n in counts.items() if n)
    return f"{len(found)} events: {said}" + ("" if first is None else f"; the first text after {1e3 * first:.0f} ms")


def draw(found: Sequence[Event], chosen: int = 0):
    """Figure: events along the time, the chosen one marked."""
    fig, ax = figure.new(9, 2.2)
    rows = [k for k in KINDS if any(e.kind == k for e in found)]
    for kind in rows:
        times = [1e3 * e.at_s for e in found if e.kind == kind]
        ax.scatter(times, [rows.index(kind)] * len(times), marker="|", s=160, color=COLOUR[kind])
    e = found[chosen]
    ax.scatter([1e3 * e.at_s], [rows.index(e.kind)], s=150, facecolor="none", edgecolor="black", linewidth=1.6)
    ax.set(yticks=range(len(rows)), yticklabels=rows, xlabel="ms since the request was sent", xlim=(0, None), ylim=(len(rows) - 0.4, -0.6))
    return fig


def explore(found: Sequence[Event]):
    """Widget: move through the events of a stream; below, the payload of the one that is marked."""
    import ipywidgets as w

    number = w.IntSlider(0, 0, max(0, len(found) - 1), description="event", continuous_update=False, layout=w.Layout(width="70%"))
    image, words = w.HTML(), w.HTML()
    image.add_class("gb10-wire-image")
    words.add_class("gb10-wire-words")

    def update(_=None):
        e = found[number.value]
        alt = f"Events of a stream over time. {describe(found)}. Marked: event {e.number}, {e.kind}, after {1e3 * e.at_s:.1f} ms."
        image.value = figure.show(draw(found, number.value), alt)._repr_html_()
        words.value = (f"<b>event {e.number}</b>, {e.kind} {escape(repr(e.text)) if e.text else ''}, after {1e3 * e.at_s:.1f} ms"
                       f'<br><code style="white-space:pre-wrap;color:inherit;background:transparent">data: {escape(e.payload)}</code>')

    number.observe(update, "value")
    update()
    return w.VBox([number, image, words])
