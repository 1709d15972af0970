"""Prompts of exactly so many tokens without a tokenizer: the server's own count says how long a text became."""

from __future__ import annotations

from collections.abc import Callable

from gb10.errors import UserError, WorkFailed

TRIES = 6                        # prompts of whole words
PADS = 3                         # and with short words


def words_for(tokens: int, count: Callable[[int, int], int | None]) -> tuple[int, int, int]:
    """(words, short words, tokens reached): filler so that a prompt has `tokens` tokens, or as near as filler goes.

    count(words, short) sends a request and returns usage.prompt_tokens. A word of filler is a token or a few, so the count
    grows in a line: two points give it, one or two more mend the rounding. What is then missing is made up for by short
    words, which are one token each for nearly every tokenizer.
    Raises UserError when the wish is shorter than an empty prompt, WorkFailed when the server does not count.
    """
    known: dict[int, int] = {}

    def ask(words: int, short: int = 0) -> int:
        if short or words not in known:
            n = count(words, short)
            if n is None:
                raise WorkFailed("the server does not say how long a prompt was (no usage.prompt_tokens): leave out --prompt-tokens.")
            if short:
                return n
            known[words] = n
        return known[words]

    least = ask(0)
    if tokens < least:
        raise UserError(f"--prompt-tokens {tokens} is too short: template, nonce and instruction alone are {least} tokens here.")
    guess = max(1, (tokens - least) * 3 // 4)
    while len(known) < TRIES and tokens not in known.values():
        ask(guess)
        below = max((w for w in known if known[w] <= tokens), default=0)
        above = min((w for w in known if known[w] > tokens), default=None)
        other = above if above is not None else min((w for w in known if w != below), default=below, key=lambda w: abs(w - below))
        if other == below:
            break
        slope = (known[other] - known[below]) / (other - below)
        if slope <= 0:
            break
        guess = max(0, round(below + (tokens - known[below]) / slope))
        if guess in known:
            guess = below + 1 if known[guess] < tokens else guess - 1
            if guess in known or guess < 0:
                break
    best = min(known, key=lambda w: (abs(known[w] - tokens), w))
    found = (best, 0, known[best])
    below = max(w for w in known if known[w] <= tokens)
    short = tokens - known[below]
    for _ in range(PADS):
        if found[2] == tokens or short <= 0:
            break
        reached = ask(below, short)
        if abs(reached - tokens) < abs(found[2] - tokens):
            found = (below, short, reached)
        short += tokens - reached
    return found
