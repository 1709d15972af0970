"""One token: what an engine holds likely to come next, and what it then draws.

    from gb10.engines import next_token
    seen = next_token.look(engine, "What does os.path.join do?")           # the likeliest 20, from the engine
    all_of_them = next_token.whole("What does os.path.join do?")           # every logit of pico, from transformers
    next_token.draws(engine, "What does os.path.join do?", range(500), temperature=1.2)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from gb10.engines import pico
from gb10.engines.many import each
from gb10.engines.talk import request, split
from gb10.engines.talk_errors import in_a_sentence
from gb10.errors import WorkFailed

CLEAR = 1e-3                     # of two logprobs: more than FP32's rounding, less than a step of BF16
TOP = 20                         # the most that vLLM shows by default (--max-logprobs), and OpenAI too


@dataclass(frozen=True)
class Candidates:
    """The likeliest tokens for one position. tokens: their texts, the likeliest first; logprobs: natural logarithms [n]; rest: the
    probability of all that is not shown; picked: the token that was drawn; request: the body that was sent."""

    tokens: tuple[str, ...]
    logprobs: np.ndarray
    rest: float
    picked: str
    request: dict

    @property
    def probs(self) -> np.ndarray:
        return np.exp(self.logprobs)

    @property
    def logits(self) -> np.ndarray:
        """The logprobs: softmax of them is the distribution among these tokens alone, as it is under top_k."""
        return self.logprobs

    @property
    def clear(self) -> int:
        """The largest top_k that these candidates decide: behind it comes one that is less likely by more than rounding.

        An engine keeps what equals the k-th, and 16-bit logits have few values: at an arbitrary k a token that isn't shown could come too.
        """
        drops = -np.diff(self.logprobs)
        return max((int(i) + 1 for i in np.flatnonzero(drops > CLEAR)), default=len(self.tokens))

    def first(self, k: int) -> Candidates:
        """The k likeliest of them."""
        kept = self.logprobs[:k]
        return replace(self, tokens=self.tokens[:k], logprobs=kept, rest=max(0.0, 1.0 - float(np.exp(kept).sum())))

    def by_text(self, probs) -> dict[str, float]:
        """{text: probability} of those above 0."""
        return _by_text(self.tokens, probs)


@dataclass(frozen=True)
class Whole:
    """Every logit [V] of pico for the first token of its answer, float32. tokens: the V texts; prompt: the ids that it saw."""

    logits: np.ndarray
    tokens: tuple[str, ...]
    prompt: tuple[int, ...]

    def by_text(self, probs) -> dict[str, float]:
        """{text: probability} of those above 0. Tokens that read alike (halves of a character do) are one."""
        return _by_text(self.tokens, probs)


def _by_text(tokens: Sequence[str], probs) -> dict[str, float]:
    out: dict[str, float] = {}
    for i in np.flatnonzero(np.asarray(probs)):
        out[tokens[i]] = out.get(tokens[i], 0.0) + float(probs[i])
    return out


def look(where, messages, top: int = TOP, *, force: bool = False, **fields) -> Candidates:
    """The `top` likeliest first tokens of the answer (an engine may show fewer). where: what connect() or start() returned.

    Raises UserError if the engine refuses the request, WorkFailed if it answers without log-probabilities.
    """
    body = request(where.model, messages, engine=where.engine, force=force,
                   **{"max_tokens": 1, "logprobs": True, "top_logprobs": top} | fields)
    row = _first_row(where, body)
    found = row.get("top_logprobs") or []
    if not found:
        raise WorkFailed(f"{where.engine} at {where.url} gave no log-probabilities: the field table of lesson 4 shows which fields it honours.")
    pairs = sorted(((c["token"], c["logprob"]) for c in found), key=lambda c: -c[1])[:top]
    logprobs = np.array([p for _, p in pairs])
    return Candidates(tuple(t for t, _ in pairs), logprobs, max(0.0, 1.0 - float(np.exp(logprobs).sum())), row["token"], body)


def draws(where, messages, seeds: Iterable[int], at_once: int = 8, *, force: bool = False, quiet: bool = False, **fields) -> dict[str, int]:
    """{token: times} of first tokens, one request for each seed. A request without a temperature draws at 1.

    Raises as look() does, at the first request that fails.
    """
    base = request(where.model, messages, engine=where.engine, force=force, **{"max_tokens": 1, "logprobs": True, "temperature": 1.0} | fields)
    rows = each(lambda seed: _first_row(where, base | {"seed": seed}), list(seeds), at_once, what="draws", quiet=quiet)
    return dict(Counter(row["token"] for row in rows).most_common())


def _first_row(where, body: Mapping) -> dict:
    """What the engine says of the first token that it drew."""
    with in_a_sentence(where.url, where.engine):
        found = where.client.with_options(max_retries=0).chat.completions.create(**split(dict(body))).model_dump()
    choices = found.get("choices") or [{}]
    rows = (choices[0].get("logprobs") or {}).get("content") or []
    if not rows:
        raise WorkFailed(f"{where.engine} at {where.url} gave no log-probabilities: the field table of lesson 4 shows which fields it honours.")
    return rows[0]


@cache
def _texts() -> tuple[str, ...]:
    net, tokenizer = pico.load()
    return tuple(tokenizer.decode([i]) for i in range(net.config.vocab_size))


def whole(messages) -> Whole:
    """Every logit of pico for the first token of its answer, by transformers in FP32. messages: as for chat()."""
    import torch

    net, tokenizer = pico.load()
    messages = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    with torch.inference_mode():
        logits = net(torch.tensor([ids])).logits[0, -1].float().numpy()
    return Whole(logits, _texts(), tuple(ids))


def is_pico(engine) -> bool:
    """Whether what an engine serves is the model that whole() computes. engine: what connect() or start() returned."""
    return engine.model.lower() == "pico"


def plain(engine) -> dict:
    """Request fields with which a model that thinks begins with its answer, where the engine takes them. Others begin so anyway."""
    from gb10.engines.fields.documents import accepted

    return {"chat_template_kwargs": {"enable_thinking": False}} if "chat_template_kwargs" in (accepted(engine.engine) or ()) else {}
