"""A request as text to paste: for a terminal, and for Python. Nothing is imported for it, nothing is sent."""

from __future__ import annotations

import json
import os

# What the openai client takes as arguments of its own; the rest goes into extra_body.
CLIENT = frozenset({
    "model", "messages", "prompt", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "stream", "stream_options",
    "n", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty", "logit_bias", "response_format", "tools", "tool_choice",
    "reasoning_effort", "parallel_tool_calls", "user"})


def split(body: dict) -> dict:
    """The arguments with which the openai client sends this body."""
    own = {k: v for k, v in body.items() if k in CLIENT}
    extra = {k: v for k, v in body.items() if k not in CLIENT}
    return own | ({"extra_body": extra} if extra else {})


def path(body: dict) -> str:
    return "/completions" if "prompt" in body else "/chat/completions"


def curl(url: str, body: dict) -> str:
    """A curl command that sends `body` to the engine at `url` (base URL, ends in /v1).

    If GB10_API_KEY is set the command names that variable; the key itself is in no text.
    """
    # The header is read from standard input: as an argument everybody on the machine could see the key (ps). bash, zsh; curl 7.55.
    key = ['  -H @- <<<"Authorization: Bearer $GB10_API_KEY"'] if os.environ.get("GB10_API_KEY") else []
    data = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
    flags = "-sN" if body.get("stream") else "-s"
    return " \\\n".join([f"curl {flags} {url.rstrip('/')}{path(body)}", "  -H 'Content-Type: application/json'", f"  -d '{data}'", *key])


def snippet(url: str, body: dict) -> str:
    """Python that sends `body` with the openai client."""
    arguments = split(body)
    call = "client.completions" if "prompt" in body else "client.chat.completions"
    lines = ["import os", "", "from openai import OpenAI", "",
             f'client = OpenAI(base_url={url.rstrip("/")!r}, api_key=os.environ.get("GB10_API_KEY", "not-needed"))',
             f"answer = {call}.create(", *(f"    {name}={value!r}," for name, value in arguments.items()), ")"]
    piece = "text" if "prompt" in body else "delta.content"
    if body.get("stream"):
        lines += ["for chunk in answer:", "    for choice in chunk.choices:", f'        print(choice.{piece} or "", end="", flush=True)']
    else:
        lines += [f"print(answer.choices[0].{'text' if 'prompt' in body else 'message.content'})"]
    return "\n".join(lines)
