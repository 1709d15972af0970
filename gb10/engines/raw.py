"""A request as it stands, and the answer as it comes: no client between the two that completes or checks anything.

    ask = raw.asker(connect())
    status, answer = ask({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8})
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable

from gb10.engines.fields.wire import headers, opener
from gb10.errors import WorkFailed


def asker(where, timeout: float = 300.0) -> Callable[[dict], tuple[int, dict]]:
    """ask(body) -> (HTTP status, the answer's JSON). where: what connect() or start() returned.

    The model's name is filled in where the body has none. What is no JSON object comes as {"error": {"message": its text}}.
    ask raises WorkFailed if nobody answers, and TypeError for a body that is no dictionary.
    """
    def ask(body: dict) -> tuple[int, dict]:
        if not isinstance(body, dict):
            raise TypeError(f"ask() takes the body of a request, a dictionary; got a {type(body).__name__}")
        return post(where.url, "/chat/completions", {"model": where.model} | body, timeout)

    return ask


def post(url: str, path: str, body: dict, timeout: float = 300.0) -> tuple[int, dict]:
    """POST body to URL + path; (status, JSON). Raises WorkFailed if nobody answers."""
    request = urllib.request.Request(f"{url.rstrip('/')}{path}", json.dumps(body).encode(), headers())
    try:
        with opener().open(request, timeout=timeout) as reply:
            return reply.status, _object(reply.read())
    except urllib.error.HTTPError as e:
        return e.code, _object(e.read())
    except (OSError, http.client.HTTPException) as e:
        raise WorkFailed(f"{url} did not answer ({getattr(e, 'reason', None) or e or type(e).__name__}): ./course status shows what is up.") from None


def _object(raw: bytes) -> dict:
    text = raw.decode(errors="replace")
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    return data if isinstance(data, dict) else {"error": {"message": text[:300]}}
