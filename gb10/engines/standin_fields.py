"""What the stand-in understands of a request, and the refusal of everything else.

A field that is not honoured is refused with 400, unless its value asks for nothing (n=1, penalties of 0, …): a server
that ignores what it was asked gives answers to another question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


class Refused(Exception):
    """Becomes an error in OpenAI's shape."""

    def __init__(self, message: str, param: str | None = None, status: int = 400):
        super().__init__(message)
        self.message, self.param, self.status = message, param, status


@dataclass
class Request:
    """A request, checked. `prompt` is text, token ids, or a list of messages."""

    chat: bool
    prompt: str | list
    max_tokens: int | None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0              # 0: all
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    logprobs: int | None = None     # how many alternatives per token; None: no logprobs at all
    ignore_eos: bool = False


# Not honoured; the values that ask for nothing are let through.
_NEUTRAL = {
    "n": (1,), "best_of": (1,), "presence_penalty": (0,), "frequency_penalty": (0,), "repetition_penalty": (1,),
    "logit_bias": ({},), "echo": (False,), "suffix": (), "tools": ([],), "tool_choice": ("none",),
    "response_format": ({"type": "text"},), "min_tokens": (0,),
}
_COMMON = {"model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "stream", "stream_options",
           "logprobs", "ignore_eos"}
_CHAT = _COMMON | {"messages", "max_completion_tokens", "top_logprobs"}
_TEXT = _COMMON | {"prompt"}
MAX_LOGPROBS = 20


def parse(body: object, served: str, chat: bool) -> Request:
    """Check a request's body against what is honoured. Raises Refused (400; 404 for another model's name)."""
    if not isinstance(body, dict):
        raise Refused("the body has to be a JSON object")
    for key, value in body.items():
        if key not in (_CHAT if chat else _TEXT) and value is not None and value not in _NEUTRAL.get(key, ()):
            raise Refused(f"the stand-in does not honour '{key}'; it refuses rather than ignores it. vLLM does more: "
                          f"./course up vllm, where its wheels run", key)
    model = body.get("model")
    if model is not None and model != served:
        raise Refused(f"The model `{model}` does not exist: this server has `{served}`.", "model", 404)
    r = Request(
        chat=chat,
        prompt=_messages(body) if chat else _prompt(body),
        max_tokens=_number(body, "max_completion_tokens" if body.get("max_completion_tokens") else "max_tokens",
                           int, 1, None, None if chat else 16),
        temperature=_number(body, "temperature", float, 0, 100, 1.0),
        top_p=_number(body, "top_p", float, 0, 1, 1.0, open_low=True),
        top_k=max(0, _number(body, "top_k", int, -1, None, 0)),
        min_p=_number(body, "min_p", float, 0, 1, 0.0),
        seed=_number(body, "seed", int, -(2**63), 2**63 - 1, None),
        stop=_stop(body),
        stream=_flag(body, "stream"),
        ignore_eos=_flag(body, "ignore_eos"),
        logprobs=_logprobs(body, chat),
    )
    options = body.get("stream_options")
    if options is not None:
        if not r.stream:
            raise Refused("stream_options needs stream: true", "stream_options")
        if not isinstance(options, dict) or set(options) - {"include_usage"}:
            raise Refused("stream_options may hold include_usage only", "stream_options")
        r.include_usage = _flag(options, "include_usage")
    return r


def _number(body, name, kind, low, high, default, *, open_low=False):
    value = body.get(name)
    if value is None:
        return default
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        good = good and isinstance(value, int)
    if not good or value < low or (open_low and value == low) or (high is not None and value > high):
        span = f"{'above' if open_low else 'at least'} {low}" + (f" and at most {high}" if high is not None else "")
        raise Refused(f"{name} has to be {'a whole number' if kind is int else 'a number'}, {span}; got {value!r}", name)
    return kind(value)


def _flag(body, name) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refused(f"{name} has to be true or false; got {value!r}", name)
    return bool(value)


def _stop(body) -> tuple[str, ...]:
    value = body.get("stop")
    value = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(s, str) and s for s in value):
        raise Refused("stop has to be a text or a list of texts, none of them empty", "stop")
    return tuple(value)


def _logprobs(body, chat) -> int | None:
    if not chat:
        return _number(body, "logprobs", int, 0, MAX_LOGPROBS, None)
    top = _number(body, "top_logprobs", int, 0, MAX_LOGPROBS, None)
    if _flag(body, "logprobs"):
        return top or 0
    if top:
        raise Refused("top_logprobs needs logprobs: true", "top_logprobs")
    return None


def _prompt(body) -> str | list[int]:
    value = body.get("prompt")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], (str, list)):
        value = value[0]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(i, int) and not isinstance(i, bool) for i in value):
        return value
    raise Refused("prompt has to be one text or one list of token ids (the stand-in takes no batches)", "prompt")


def _messages(body) -> list[dict]:
    messages, out = body.get("messages"), []
    if not isinstance(messages, list) or not messages:
        raise Refused("messages has to be a list with at least one message", "messages")
    for m in messages:
        content = m.get("content") if isinstance(m, dict) else None
        if isinstance(content, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
            content = "".join(str(p.get("text", "")) for p in content)
        if not isinstance(content, str) or not isinstance(m.get("role"), str) or set(m) - {"role", "content"}:
            raise Refused("each message has to be an object with a role and a content of text, nothing else", "messages")
        out.append({"role": m["role"], "content": content})
    return out
