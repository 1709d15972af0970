"""Ask an OpenAI-compatible server one thing, with exactly the fields given, and read whatever comes.

The openai client would check and complete requests on their way; here the body is sent as it stands.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from gb10.bench.sse import Events

LIMIT = 4 << 20                  # bytes of an answer that are read


class Silent(Exception):
    """The connection was refused, reset, or closed without an answer."""


@dataclass(frozen=True)
class Reply:
    """An answer, streamed or whole. status 0: none within the time-out."""

    status: int
    choices: list[dict] = field(default_factory=list)
    usage: dict | None = None
    error: str = ""              # the server's own words, or what was wrong with the answer
    events: int = 0              # server-sent events; 0 for an answer in one piece

    def text(self, number: int = 0) -> str:
        """Reasoning and content of a choice, one after the other."""
        return self.reasoning(number) + self.content(number)

    def content(self, number: int = 0) -> str:
        return str(self._message(number).get("content") or "")

    def reasoning(self, number: int = 0) -> str:
        m = self._message(number)
        return str(m.get("reasoning") or m.get("reasoning_content") or "")

    def _message(self, number: int) -> dict:
        message = self.choices[number].get("message") if number < len(self.choices) else None
        return message if isinstance(message, dict) else {}

    @property
    def finish(self) -> str | None:
        return self.choices[0].get("finish_reason") if self.choices else None

    def count(self, what: str) -> int | None:
        """prompt_tokens or completion_tokens, as far as the server counts."""
        n = (self.usage or {}).get(what)
        return n if isinstance(n, int) else None


def headers() -> dict[str, str]:
    """Those of a JSON request, with the key of GB10_API_KEY if that is set."""
    key = os.environ.get("GB10_API_KEY")
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


def opener():
    # No proxy: these are addresses of this machine or of the desk next to it.
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def post(url: str, body: dict, timeout: float) -> Reply:
    """POST body to URL/chat/completions. Raises Silent when nothing answers."""
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers())
    try:
        with opener().open(request, timeout=timeout) as r:
            streamed = "event-stream" in r.headers.get("Content-Type", "")
            raw = r.read(LIMIT)
            return from_events(r.status, raw) if streamed else whole(r.status, raw)
    except urllib.error.HTTPError as e:
        return Reply(e.code, error=said(e.read(LIMIT)) or str(e.reason))
    except TimeoutError:
        return Reply(0, error=f"no answer within {timeout:.0f} s")
    except urllib.error.URLError as e:
        if isinstance(e.reason, TimeoutError):
            return Reply(0, error=f"no answer within {timeout:.0f} s")
        raise Silent(str(e.reason)) from None
    except (OSError, http.client.HTTPException) as e:
        raise Silent(str(e) or type(e).__name__) from None


def alive(url: str) -> bool:
    """Does anything still answer at URL/models?"""
    try:
        with opener().open(urllib.request.Request(f"{url}/models", headers=headers()), timeout=5) as r:
            r.read(LIMIT)
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False


def whole(status: int, raw: bytes) -> Reply:
    try:
        data = json.loads(raw)
        if data.get("error"):
            return Reply(500, error=said(raw))
        choices = [c for c in data["choices"] if isinstance(c, dict)]
        return Reply(status, choices, data.get("usage"))
    except (ValueError, TypeError, AttributeError, KeyError):
        return Reply(500, error=f"the answer is not OpenAI's JSON: {raw[:60]!r}")


def from_events(status: int, raw: bytes) -> Reply:
    """The choices that the deltas of a stream add up to."""
    reader, parts, finish, usage, count = Events(), {}, {}, None, 0
    for payload in [*reader.feed(raw), reader.rest()]:
        if not payload or payload == b"[DONE]":
            continue
        count += 1
        try:
            data = json.loads(payload)
        except ValueError:
            continue
        if data.get("error"):
            return Reply(500, error=said(payload), events=count)
        usage = data.get("usage") or usage
        for c in data.get("choices") or []:
            message = parts.setdefault(c.get("index", 0), {})
            for key, value in (c.get("delta") or {}).items():
                if isinstance(value, str):
                    message[key] = message.get(key, "") + value
            finish[c.get("index", 0)] = c.get("finish_reason") or finish.get(c.get("index", 0))
    choices = [{"index": i, "message": parts[i], "finish_reason": finish.get(i)} for i in sorted(parts)]
    return Reply(status, choices, usage, events=count)


def said(raw: bytes) -> str:
    """The message of an error body, in one line."""
    text = raw.decode(errors="replace")
    try:
        data = json.loads(text)
        error = data.get("error", data) if isinstance(data, dict) else data
        text = str((error.get("message") or error.get("detail") or error) if isinstance(error, dict) else error)
    except ValueError:
        pass
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:199] + "…"
