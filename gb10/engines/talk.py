"""One `chat()` for the whole course: it says exactly what it sent, and an answer that isn't one is an error with a name.

    from gb10.engines.talk import chat
    answer = chat(connect(), "What does os.path.join do?", max_tokens=64)
    answer.text, answer.usage, answer.request      # and print(answer.curl()), print(answer.snippet())
    for piece in chat(connect(), "…", stream=True):
        print(piece.text, end="")

Rules: the model's name is asked for at /v1/models; a field that the engine is not known to take is refused here (an
engine may ignore it, and answer another question); every sampling field is sent, so that no default of the engine or
of the checkpoint decides unseen; reasoning is read under both of its names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from gb10.engines.talk_errors import BrokenOff, ThoughtItAll, in_a_sentence
from gb10.engines.talk_paste import curl, snippet, split
from gb10.errors import UserError, WorkFailed

__all__ = ["Answer", "BrokenOff", "Piece", "Stream", "ThoughtItAll", "chat", "curl", "read", "request", "snippet"]

MAX_TOKENS = 256
# Fields of OpenAI's own API; an engine that the course knows nothing about is sent these alone.
STANDARD = frozenset({
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "stream", "stream_options", "n",
    "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty", "logit_bias", "response_format", "tools", "tool_choice"})
# Sampling fields for which a checkpoint's generation_config.json may have a value of its own, and what is sent instead.
NEUTRAL = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
ALL_TOKENS = {"sglang": -1}      # top_k that means "no limit", where it isn't 0
# Beside what fields/documents.toml says: fields without an experiment of their own.
ALSO = {"vllm": {"tool_choice", "reasoning_effort", "return_token_ids", "prompt_logprobs", "bad_words", "allowed_token_ids"},
        "trtllm": {"tool_choice", "reasoning_effort"}, "sglang": {"tool_choice", "reasoning_effort", "regex", "ebnf"},
        "ollama": {"reasoning_effort"}, "llamacpp": {"tool_choice", "reasoning_effort"}, "standin": set()}


@dataclass(frozen=True)
class Piece:
    """What one event of a stream brought. at_s: seconds since the request was sent."""

    text: str
    reasoning: str
    at_s: float


@dataclass(frozen=True)
class Answer:
    """A whole answer. request: the body that was sent; choices: all of them, as the server sent them."""

    text: str
    reasoning: str
    finish_reason: str | None
    usage: dict | None
    logprobs: list[dict] | None          # one per token: token, logprob, top_logprobs
    request: dict
    url: str
    seconds: float
    ttft_s: float | None = None          # time to the first text or reasoning, if it was streamed
    choices: list[dict] = field(default_factory=list, repr=False)

    def __str__(self) -> str:
        return self.text

    def curl(self) -> str:
        """The same request for a terminal; a key appears as $GB10_API_KEY only."""
        return curl(self.url, self.request)

    def snippet(self) -> str:
        """The same request in Python, with the openai client."""
        return snippet(self.url, self.request)


def chat(where, messages, *, model: str | None = None, stream: bool = False, force: bool = False, timeout: float = 600.0, **fields):
    """Ask an engine; returns an Answer, or with stream=True a Stream of Pieces.

    where: a Connection (gb10.engines.connect), a Server (gb10.engines.start), or a base URL that ends in /v1.
    messages: a list of messages, or a text, which becomes one message of the user.
    fields: of the request. Not given: temperature 0, max_tokens 256, and the neutral value of the other sampling fields.
    force: send fields, too, that this engine is not known to take.

    Raises UserError (an unknown field, or the engine refused the request: its words in a sentence), ThoughtItAll,
    BrokenOff, or WorkFailed (nobody answers, the engine failed).
    """
    url, client, engine, known = _place(where)
    body = request(model or known or _first_model(client, url), messages, engine=engine, force=force, **fields)
    if stream:
        return Stream(client.with_options(timeout=timeout, max_retries=0), url, body, engine)
    started = time.perf_counter()
    with in_a_sentence(url, engine):
        found = client.with_options(timeout=timeout, max_retries=0).chat.completions.create(**split(body)).model_dump()
    return read(found, body, url, time.perf_counter() - started)


def request(model: str, messages, *, engine: str = "", force: bool = False, **fields) -> dict:
    """The body that chat() sends. Raises UserError for fields that the engine is not known to take."""
    from gb10.engines.fields.documents import accepted, engine_key, expected

    key, takes = engine_key(engine) if engine else None, accepted(engine) if engine else None
    takes = STANDARD if takes is None else takes | ALSO.get(key, set())
    if not force and (strange := [f for f in fields if f not in takes]):
        told = expected(engine).get(strange[0])
        what = f"{told.outcome} it ({told.note})" if told else "is not known to take it"
        what = what.replace("ignored it", "ignores it").replace("rejected it", "rejects it")
        raise UserError(f"{strange[0]}: {engine or 'this engine'} {what}. Leave it out, or send it all the same with force=True.")
    body: dict = {"model": model, "messages": [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)}
    if "max_completion_tokens" not in fields:
        body["max_tokens"] = MAX_TOKENS
    for name, value in NEUTRAL.items():
        if name in takes:
            body[name] = ALL_TOKENS.get(key, value) if name == "top_k" else value
    return body | fields


class Stream:
    """An answer on its way. Iterate over it for Pieces; afterwards .answer is the whole."""

    def __init__(self, client, url: str, body: dict, engine: str):
        self._client, self.url, self.engine = client, url, engine
        self.request = body | {"stream": True}
        if "stream_options" not in body:
            self.request["stream_options"] = {"include_usage": True}
        self.pieces: list[Piece] = []
        self._answer: Answer | None = None

    @property
    def answer(self) -> Answer:
        """The whole answer; reads what is left of the stream."""
        if self._answer is None:
            for _ in self:
                pass
        return self._answer

    def __iter__(self) -> Iterator[Piece]:
        if self.pieces or self._answer:
            raise UserError("this stream has been read: its pieces are in .pieces, the whole in .answer.")
        text, reasoning, finish, usage, rows = [], [], None, None, []
        started = time.perf_counter()
        try:
            with in_a_sentence(self.url, self.engine), self._client.chat.completions.create(**split(self.request)) as events:
                for event in events:
                    data = event.model_dump()
                    usage = data.get("usage") or usage
                    for c in (data.get("choices") or [])[:1]:
                        delta = c.get("delta") or {}
                        finish = c.get("finish_reason") or finish
                        rows += (c.get("logprobs") or {}).get("content") or []
                        piece = Piece(delta.get("content") or "", _reasoning(delta), time.perf_counter() - started)
                        if piece.text or piece.reasoning:
                            text.append(piece.text)
                            reasoning.append(piece.reasoning)
                            self.pieces.append(piece)
                            yield piece
        except WorkFailed as e:
            if self.pieces:
                raise BrokenOff(f"the answer broke off after {len(self.pieces)} pieces: {e.message}", "".join(text), "".join(reasoning)) from None
            raise
        if finish is None:
            raise BrokenOff(f"the answer of {self.url} broke off after {len(self.pieces)} pieces: the stream ended without a finish_reason. "
                            f"The engine may have died: ./course status and ./course logs say more.", "".join(text), "".join(reasoning))
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(text) or None, "reasoning": "".join(reasoning) or None},
                  "finish_reason": finish, "logprobs": {"content": rows} if rows else None}
        first = self.pieces[0].at_s if self.pieces else None
        self._answer = read({"choices": [choice], "usage": usage}, self.request, self.url, time.perf_counter() - started, first)


def read(found: dict, body: dict | None = None, url: str = "", seconds: float = 0.0, ttft: float | None = None) -> Answer:
    """The Answer in a server's JSON. Raises ThoughtItAll if its tokens went into reasoning, WorkFailed if there is no choice."""
    body = body or {}
    choices = found.get("choices") or []
    if not choices:
        raise WorkFailed(f"{url} answered without any choice: is it an OpenAI-compatible server?")
    message, finish = choices[0].get("message") or {}, choices[0].get("finish_reason")
    text, reasoning = message.get("content") or "", _reasoning(message)
    if not text and finish == "length":
        raise ThoughtItAll(_all_thought(body, reasoning, found.get("usage")), reasoning, found.get("usage"))
    rows = (choices[0].get("logprobs") or {}).get("content")
    return Answer(text, reasoning, finish, found.get("usage"), rows, body, url, seconds, ttft, choices)


def _all_thought(body: dict, reasoning: str, usage: dict | None) -> str:
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    spent = f"{len(reasoning)} characters of reasoning" if reasoning else "tokens that the server shows nowhere"
    of = f"the limit of {limit} tokens" if limit else "the limit"
    return (f"no content came: {of} (finish_reason length) was used up by {spent}. Give more tokens "
            f"(max_tokens={4 * (limit or MAX_TOKENS)}), or switch thinking off "
            f"(chat_template_kwargs={{\"enable_thinking\": False}} where the model's template has it).")


def _reasoning(message: dict) -> str:
    """vLLM and Ollama call it reasoning, TensorRT-LLM, SGLang and llama.cpp reasoning_content."""
    return message.get("reasoning") or message.get("reasoning_content") or ""


def _place(where) -> tuple[str, object, str, str | None]:
    """(base URL, openai client, engine's name, model if it is known) of a Connection, a Server or a URL."""
    if isinstance(where, str):
        url = where.rstrip("/")
        if not url.startswith(("http://", "https://")):
            raise UserError(f"{where!r} is no address: give one such as http://127.0.0.1:8000/v1, or what connect() returned.")
        import os

        from openai import OpenAI

        from gb10.engines.find import models, title

        _, owner = models(url, 3.0)
        return url, OpenAI(base_url=url, api_key=os.environ.get("GB10_API_KEY") or "not-needed"), title("own", url, owner) if owner else "", None
    try:
        return where.url, where.client, where.engine, where.model
    except AttributeError:
        raise UserError(f"chat() needs to know where to ask: what connect() or start() returned, or a URL; "
                        f"not a {type(where).__name__}.") from None


def _first_model(client, url: str) -> str:
    with in_a_sentence(url, ""):
        listed = client.with_options(timeout=10.0, max_retries=0).models.list().data
    if not listed:
        raise WorkFailed(f"{url} lists no model: it may still be loading one. ./course status shows what is up.")
    return listed[0].id
