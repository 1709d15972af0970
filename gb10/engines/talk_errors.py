"""How an answer can fail: two errors with names, and the client library's own in the course's words."""

from __future__ import annotations

import json

from gb10.errors import UserError, WorkFailed


class ThoughtItAll(WorkFailed):
    """finish_reason is length and there is no content: reasoning used up max_tokens. Has .reasoning and .usage."""

    def __init__(self, message: str, reasoning: str = "", usage: dict | None = None):
        super().__init__(message)
        self.reasoning, self.usage = reasoning, usage


class BrokenOff(WorkFailed):
    """A stream ended before the answer did. Has .text and .reasoning, as far as they came."""

    def __init__(self, message: str, text: str = "", reasoning: str = ""):
        super().__init__(message)
        self.text, self.reasoning = text, reasoning


class in_a_sentence:
    """Turns the openai client's exceptions into the course's two, one sentence each."""

    def __init__(self, url: str, engine: str):
        self.url, self.who = url, f"{engine or 'the engine'} at {url}"

    def __enter__(self):
        return self

    def __exit__(self, kind, e, trace):
        if e is None:
            return False
        import httpx
        import openai

        if isinstance(e, openai.APITimeoutError | httpx.TimeoutException):
            raise WorkFailed(f"{self.who} gave no answer in the time allowed: ask for fewer tokens, or allow more (timeout=…).") from None
        if isinstance(e, openai.APIConnectionError | httpx.TransportError):
            cause = e.__cause__ or e
            raise WorkFailed(f"{self.who} can't be reached, or went away ({' '.join(str(cause).split())[:120]}): ./course status "
                             f"shows what is up.") from None
        if isinstance(e, openai.APIStatusError):
            said = _said(e)
            if e.status_code in (401, 403):
                raise UserError(f"{self.who} asks for a key ({e.status_code}): export GB10_API_KEY with the one that it was started with.") from None
            if e.status_code < 500 and e.status_code not in (408, 409, 429):
                raise UserError(f"{self.who} refuses the request ({e.status_code}): {said}") from None
            raise WorkFailed(f"{self.who} failed ({e.status_code}): {said}") from None
        if isinstance(e, openai.APIError | json.JSONDecodeError):
            raise WorkFailed(f"{self.who} sent an error in place of the answer: {_said(e)}") from None
        return False


def _said(e) -> str:
    from gb10.engines.fields.wire import said

    body = getattr(e, "body", None)
    text = said(json.dumps(body).encode()) if isinstance(body, dict) else " ".join(str(getattr(e, "message", e)).split())[:200]
    return text or "it does not say why"
