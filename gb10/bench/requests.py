"""Requests in bytes. Everything that is alike in a cell is made once; a request puts its nonce, seed and number in."""

from __future__ import annotations

import json

from gb10.bench import http1
from gb10.bench.prompts import mixed, nonce

_NONCE, _SEED, _ID = "@@nonce@@", 987654321, "@@request@@"


class Requests:
    """What the load loop sends for request number i of a cell."""

    def __init__(self, spec):
        self.spec = spec
        prompt = (_NONCE + " " if spec.nonce else "") + spec.prompt
        body = dict(spec.body)
        if spec.api == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        if "seed" in body:
            body["seed"] = _SEED
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        self._parts = _cut(text.encode(), spec.nonce, "seed" in body)
        length = len(self._body(0))
        head = http1.request("POST", spec.host, spec.path, spec.headers | {"X-Request-Id": _ID}, length)
        self._head = head.split(_ID.encode())

    def name(self, number: int) -> bytes:
        """The X-Request-Id: engines write it into their log."""
        return f"{self.spec.name}-{self.spec.cell}-{number}".encode()

    def _body(self, number: int) -> bytes:
        spec = self.spec
        fill = {"nonce": nonce(spec.salt, spec.cell, number).encode(),
                "seed": str(100_000_000 + mixed(spec.seed, spec.cell, number) % 900_000_000).encode()}
        return b"".join(fill[p] if isinstance(p, str) else p for p in self._parts)

    def single(self, number: int) -> bytes:
        return self._head[0] + self.name(number) + self._head[1] + self._body(number)

    def conversation(self, number: int) -> Conversation:
        return Conversation(self, number)


class Conversation:
    """Several turns, each holding everything said before."""

    def __init__(self, requests: Requests, number: int):
        self._requests, self._number = requests, number
        self._messages: list[dict] = []

    def request(self, turn: int, answer=()) -> bytes:
        """The request of a turn; answer: pieces of what the model said to the turn before."""
        spec = self._requests.spec
        if turn:
            said = "".join(p if isinstance(p, str) else p.decode("utf-8", "replace") for p in answer)
            self._messages.append({"role": "assistant", "content": said})
            asked = f"{nonce(spec.seed, self._number, turn)} {spec.follow_up}"
        else:
            asked = f"{nonce(spec.salt, spec.cell, self._number)} {spec.prompt}" if spec.nonce else spec.prompt
        self._messages.append({"role": "user", "content": asked})
        body = spec.body | {"messages": self._messages}
        number = self._number * spec.turns + turn
        if "seed" in body:
            body["seed"] = 100_000_000 + mixed(spec.seed, spec.cell, number) % 900_000_000
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        head = http1.request("POST", spec.host, spec.path,
                             spec.headers | {"X-Request-Id": self._requests.name(number).decode()}, len(data))
        return head + data


def _cut(text: bytes, with_nonce: bool, with_seed: bool) -> list:
    """The text in parts, the names of what changes between them."""
    parts: list = [text]
    marks = [(str(_SEED).encode(), "seed")] * with_seed + [(_NONCE.encode(), "nonce")] * with_nonce
    for mark, name in marks:
        out: list = []
        for part in parts:
            if isinstance(part, bytes) and mark in part:
                before, _, behind = part.partition(mark)
                out += [before, name, behind]
            else:
                out.append(part)
        parts = out
    return parts
