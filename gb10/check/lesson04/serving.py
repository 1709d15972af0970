"""Checkers of lesson 04, notebook 1: a stream's lines, and the KV cache's users; the request that decides its answer is in
requesting.py."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable

from gb10.check import live
from gb10.check.lesson04.requesting import QUESTION, request_for, right_request
from gb10.check.verdict import Case, Mistake, Verdict, grade

__all__ = ["read_stream", "request_for", "right_request", "users_that_fit"]


# ---------------------------------------------------------------- exercise 2: read a stream

def _chunk(delta: dict | None = None, finish: str | None = None, usage: dict | None = None) -> str:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return "data: " + json.dumps({"object": "chat.completion.chunk", "choices": choices} | ({"usage": usage} if usage else {}))


_USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
_ROLE = [_chunk({"role": "assistant", "content": ""}), ""]
_HELLO = [*_ROLE, _chunk({"content": "Hel"}), "", _chunk({"content": "lo "}), "", _chunk({"content": "you"}), ""]
_END = [_chunk({}, "stop"), "", _chunk(usage=_USAGE), "", "data: [DONE]", ""]


def _read(lines, *, error=True, content=("content",), blanks=True, last_finish=True):
    """(text, finish_reason, usage) from the lines of a body."""
    text, finish, usage = "", None, None
    for line in lines:
        if not line.startswith("data:"):
            continue
        payload = line[5:].strip()
        if payload == "[DONE]":
            break
        data = json.loads(payload)
        if error and "error" in data:
            raise RuntimeError(data["error"]["message"])
        usage = data.get("usage") or usage
        for choice in data.get("choices", []):
            for name in content:
                text += choice["delta"].get(name) or ""
            finish = (choice.get("finish_reason") or finish) if last_finish else choice.get("finish_reason")
    return text if blanks else text.strip(), finish, usage


_STREAMS = (
    Case(([*_HELLO, *_END],), None, "an ordinary stream"),
    Case(([*_ROLE, _chunk({"content": " a "}), "", _chunk({"content": None}), "", _chunk({"content": " b\n"}, "length"), "",
           "data: [DONE]", ""],), None, "blanks that belong to the text, content null, and no usage"),
    Case(([": ping", "", *_HELLO[:4], ": ping", "", "event: message", *_HELLO[4:], *_END],), None, "comments that keep the connection open"),
    Case(([*_ROLE, _chunk({"reasoning": "2 and 2"}), "", _chunk({"reasoning_content": "is 4"}), "", _chunk({"content": "4"}), "", *_END],),
         None, "reasoning before the content"),
    Case((["data:" + line[6:] if line.startswith("data: ") else line for line in [*_HELLO, *_END]],), None, "no blank behind data:"),
    Case(([*_HELLO, _chunk({}, "stop"), "", _chunk({}, None, _USAGE), "", "data: [DONE]", ""],), None, "the usage beside an empty delta"),
    Case((_HELLO,), None, "a stream that breaks off: no finish_reason, no [DONE]"),
    Case(([*_HELLO, 'data: {"error": {"message": "the engine has died", "code": 500}}', "", "data: [DONE]", ""],), "RuntimeError: the engine has died",
         "an error in the middle"),
)
_FIELDS = ("content", "reasoning", "reasoning_content")
_STREAM_MISTAKES = (
    Mistake(lambda lines: _read(lines, content=_FIELDS),
            "reasoning is not part of the answer: take the content of each delta, and nothing else."),
    Mistake(lambda lines: _read(lines, error=False),
            "one stream holds an event {\"error\": …} with HTTP 200 before it: raise RuntimeError with its message, or half an answer "
            "passes for a whole one."),
    Mistake(lambda lines: _read(lines, last_finish=False),
            "the events after the one with the finish_reason have none: keep the one that came."),
    Mistake(lambda lines: _read(lines, blanks=False), "blanks at the ends of the text belong to it: strip the payload, not the content."),
    Mistake(lambda lines: (*_read(lines)[:2], _read(lines)[2] or {}), "no usage came: say None, not an empty dictionary."),
    Mistake(lambda lines: _read(lines)[0], "return three things: the text, the finish_reason, the usage."),
    Mistake(lambda lines: _pieces(lines), "join the pieces to one text."),
)


def _pieces(lines):
    data = [json.loads(x[5:]) for x in lines if x.startswith("data:") and "[DONE]" not in x]
    text = [c["delta"]["content"] for d in data for c in d.get("choices", []) if c["delta"].get("content")]
    return text, *_read(lines)[1:]


def _or_its_error(function: Callable) -> Callable:
    """A RuntimeError as the text that a case can expect."""
    if not callable(function):
        return function

    @functools.wraps(function)
    def told(*args):
        try:
            return function(*args)
        except NotImplementedError:
            raise
        except RuntimeError as e:
            return f"RuntimeError: {e}"
    return told


def _three(text, finish, usage) -> tuple:
    return text, finish, usage


def read_stream(function: Callable, engine=None) -> Verdict:
    """read_stream(lines) -> (text, finish_reason, usage) of a streamed answer; lines: of the body, without their ends.

    engine: what connect() returned; a stream of it is read, too, and has to give the text that comes in one piece."""
    cases = [Case(c.args, c.expected or _read(*c.args), c.name) for c in _STREAMS]
    mistakes = [Mistake(_or_its_error(m.function), m.hint) for m in _STREAM_MISTAKES]
    verdict = grade(
        "read_stream", _or_its_error(function), cases, mistakes=mistakes,
        hint="for each line that begins with data: take what follows; [DONE] ends the stream; the rest is JSON. The text is in "
             "choices[0]['delta']['content'] (which may be missing or None, and choices may be empty), the finish_reason beside the "
             "delta, the usage beside choices.",
        done="that is all that a client library does with a stream.")

    def trial():
        from gb10.engines.talk import request
        from gb10.explore import wire

        body = request(engine.model, QUESTION, engine=engine.engine, max_tokens=24) | {"stream_options": {"include_usage": True}}
        lines = wire.lines(wire.listen(engine.url, body))
        text, finish, usage = live.yours(lambda given: _three(*function(given)), lines)
        right, reason, count = _read(lines)
        same = text == right and finish == reason and (usage or None) == count
        said = f"a stream of {len(lines)} lines from {engine.url}: {right[:40]!r}…, {reason}"
        return said, 1.0 if same else 0.0, 1.0

    return live.confirm(verdict, engine, trial, "on a stream of the engine that is up your function gives something else: print its lines "
                                                "with wire.lines(reads).")


# ---------------------------------------------------------------- exercise 1: users of the KV cache

def _page(block: object, blocks: object, extra: str = "") -> str:
    return (
        "# HELP vllm:num_requests_running Number of requests in model execution batches.\n# TYPE vllm:num_requests_running gauge\n"
        'vllm:num_requests_running{engine="0",model_name="m"} 2.0\n# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n'
        f'vllm:cache_config_info{{{extra}block_size="{block}",cache_dtype="auto",effective_attention_block_size="99",engine="0",'
        f'num_cpu_blocks="None",num_gpu_blocks="{blocks}",num_gpu_blocks_override="None"}} 1.0\n')


def _cache(page: str) -> tuple[int, int] | None:
    """(tokens in a block, blocks) of vLLM's KV cache, from its metrics page."""
    line = next((x for x in page.splitlines() if x.startswith("vllm:cache_config_info{")), "")
    found = [re.search(rf'[{{,]{name}="(\d+)"', line) for name in ("block_size", "num_gpu_blocks")]
    return (int(found[0][1]), int(found[1][1])) if all(found) else None


def _users(page: str, context: int) -> int:
    size = _cache(page)
    return size[1] // math.ceil(context / size[0]) if size else 0


_CACHES = (
    Case((_page(16, 4096), 2048), None, "4096 blocks of 16 tokens"),
    Case((_page(128, 1365), 2048), None, "1365 blocks of 128: the rest is no user"),
    Case((_page(128, 1000, 'hash_block_size="7",'), 1000), None, "1000 tokens take eight blocks of 128, the last one not full"),
    Case((_page(16, 100), 16384), None, "one user is too many"),
    Case(("# HELP python_info Python platform information\npython_info{version=\"3.12\"} 1.0\n", 2048), None, "a page of another engine: say 0"),
)
_CACHE_MISTAKES = (
    Mistake(lambda p, c: _cache(p)[0] * _cache(p)[1] // c if _cache(p) else 0,
            "blocks are given out whole: a user with 1000 tokens holds eight blocks of 128. Count blocks, not tokens."),
    Mistake(lambda p, c: _cache(p)[1] // (c // _cache(p)[0]) if _cache(p) else 0, "a block that is not full is a block: round up (math.ceil)."),
    Mistake(lambda p, c: _cache(p)[0] * _cache(p)[1] / c if _cache(p) else 0, "users come whole: round down, and count in blocks."),
    Mistake(lambda p, c: _cache(p)[0] * _cache(p)[1] if _cache(p) else 0, "those are the tokens of the cache; asked is how many users they serve."),
    Mistake(lambda p, c: max(1, _users(p, c)), "if not even one fits, the answer is 0."),
)


def users_that_fit(function: Callable, engine=None) -> Verdict:
    """users_that_fit(page, context) -> how many users of `context` tokens the KV cache of a vLLM holds; page: its /metrics.

    engine: what connect() returned; if it has such a page, that is read, too."""
    cases = [Case(c.args, _users(*c.args), c.name) for c in _CACHES]
    verdict = grade(
        "users_that_fit", function, cases, mistakes=_CACHE_MISTAKES,
        hint="the line begins with vllm:cache_config_info; its labels are name=\"value\", with a comma between them: num_gpu_blocks blocks of "
             "block_size tokens. A user needs ceil(context / block_size) of them; without that line return 0.",
        done="an engine that says how full it is can be asked before one more user comes.")

    def trial():
        from gb10.explore import engine_now

        status, page = engine_now.page(engine.url, "/metrics")
        if status != 200 or not _cache(page):
            return f"not tried: {engine.engine} has no such line on its metrics page", None, None
        block, blocks = _cache(page)
        return f"{blocks} blocks of {block} tokens at {engine.url}: {_users(page, 1000)} users of 1000 tokens", live.yours(function, page, 1000), _users(page, 1000)

    return live.confirm(verdict, engine, trial, "on the page of the engine that is up your function gives another number: look for that line "
                                                "in it.", rel=0)
