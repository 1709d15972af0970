"""What becomes of messages before a model sees them: one text by the chat template, then tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MARKS = {"Ġ": " ", "Ċ": "\n"}     # how byte-level tokenizers spell a blank and a line's end


@dataclass(frozen=True)
class Seen:
    """text: after the template; pieces: the tokens as texts; by: who made it."""

    text: str
    pieces: tuple[str, ...]
    by: str


def by_template(messages: Sequence[dict], **switches) -> Seen:
    """By pico's tokenizer and its chat template, in this process. switches: variables for the template."""
    from gb10.engines import pico

    _, tokenizer = pico.load()
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True, **switches)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return Seen(text, tuple(tokenizer.decode([i]) for i in ids), "transformers, with pico's template")


def by_engine(where, messages: Sequence[dict], **switches) -> Seen | None:
    """By the engine itself: vLLM's /tokenize takes messages, and /detokenize makes one text of the tokens. None where it has no such page.

    where: what connect() or start() returned. switches: what a request would have as chat_template_kwargs.
    Raises WorkFailed if nobody answers.
    """
    from gb10.engines.raw import post

    root = where.url.removesuffix("/v1")
    body = {"model": where.model, "messages": list(messages), "return_token_strs": True}
    status, found = post(root, "/tokenize", body | ({"chat_template_kwargs": switches} if switches else {}), 30)
    tokens = found.get("tokens")
    if status != 200 or not isinstance(tokens, list):
        return None
    status, whole = post(root, "/detokenize", {"model": where.model, "tokens": tokens}, 30)
    pieces = found.get("token_strs") or [str(t) for t in tokens]
    for mark, meaning in MARKS.items():
        pieces = [p.replace(mark, meaning) for p in pieces]
    return Seen(whole.get("prompt", "") if status == 200 else "", tuple(pieces), f"{where.engine}, /tokenize")


def switched(where, messages: Sequence[dict], switch: str = "enable_thinking") -> tuple[str, ...] | None:
    """The two prompts that a switch of the template makes, for (False, True), from where they differ on; None if the engine can't show it.

    ("", "") of a template that has no such switch."""
    both = [by_engine(where, messages, **{switch: on}) for on in (False, True)]
    if None in both:
        return None
    texts = [s.text for s in both]
    same = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    return tuple(t[same:] for t in texts)
