"""Experiments on how tokens are chosen: temperature, filters, seed, penalties, biases."""

from __future__ import annotations

from gb10.engines.fields.lab import HOT, OTHERS, QUESTION, Lab, quote, same
from gb10.engines.fields.rows import HONOURED, IGNORED

BIASED = "300"                   # a token that every vocabulary has, and that no answer here begins with
LONG = 48                        # tokens in which words come again


def temperature(lab: Lab):
    """0 gives the same twice, 2 gives something else."""
    cold = [lab.good(temperature=0) for _ in range(2)]
    hot = lab.good(temperature=HOT)
    a, b, h = cold[0].text(), cold[1].text(), hot.text()
    if not same(a, b):
        return IGNORED, f"two answers at temperature 0 differ: {quote(a)} and {quote(b)}", cold[1].status
    if not same(a, h):
        return HONOURED, f"0 gives {quote(a)} twice, {HOT:g} gives {quote(h)}", hot.status
    again = lab.good(temperature=HOT)
    if same(a, again.text()):
        return IGNORED, f"0 and {HOT:g} give the same text, {quote(a)}", again.status
    return HONOURED, f"0 gives {quote(a)} twice, {HOT:g} gives {quote(again.text())}", again.status


def _leaves_only_the_best(lab: Lab, **field):
    """At temperature 2, a filter that lets one token through gives the greedy text."""
    lab.need("temperature")
    greedy = lab.greedy().text()
    draws = [lab.good(temperature=HOT, **field) for _ in range(2)]
    if all(same(d.text(), greedy) for d in draws):
        return HONOURED, f"at temperature {HOT:g} it gives the greedy text, {quote(greedy)}", draws[0].status
    other = next(d for d in draws if not same(d.text(), greedy))
    return IGNORED, f"at temperature {HOT:g} the text wanders all the same: {quote(other.text())}", other.status


def top_p(lab: Lab):
    return _leaves_only_the_best(lab, top_p=0.0001)


def top_k(lab: Lab):
    return _leaves_only_the_best(lab, top_k=1)


def min_p(lab: Lab):
    return _leaves_only_the_best(lab, min_p=1.0)


def seed(lab: Lab):
    """The same number gives the same text, other numbers give others."""
    lab.need("temperature")
    first, again, *others = (lab.good(temperature=HOT, seed=s) for s in (11, 11, 12, 13))
    if not same(first.text(), again.text()):
        return IGNORED, f"seed 11 gives {quote(first.text())}, then {quote(again.text())}", again.status
    if all(same(first.text(), o.text()) for o in others):
        return IGNORED, f"seeds 11, 12 and 13 all give {quote(first.text())}", again.status
    return HONOURED, f"11 gives {quote(first.text())} twice, 12 another text", again.status


def _changes_the_text(lab: Lab, name: str, values: tuple[float, ...]):
    """Some greedy text differs with it. Answers in which words come again are tried, the longest first."""
    for question in (OTHERS[1], OTHERS[0], QUESTION):
        plain = lab.repeatable(question, LONG)
        for value in values:
            got = lab.good(question, LONG, **lab.calm(), **{name: value})
            if got.text() != plain.text():
                at = next((i for i, (x, y) in enumerate(zip(plain.text(), got.text(), strict=False)) if x != y),
                          min(len(plain.text()), len(got.text())))
                start = max(0, at - 8)
                was, now = quote(plain.text()[start:], 24), quote(got.text()[start:], 24)
                return HONOURED, f"{value:g} turns …{was} into …{now}", got.status
    return IGNORED, f"three greedy answers of up to {LONG} tokens stay as they are", got.status


def presence_penalty(lab: Lab):
    return _changes_the_text(lab, "presence_penalty", (2.0, -2.0))


def frequency_penalty(lab: Lab):
    return _changes_the_text(lab, "frequency_penalty", (2.0, -2.0))


def repetition_penalty(lab: Lab):
    return _changes_the_text(lab, "repetition_penalty", (2.0,))


def logit_bias(lab: Lab):
    """+100 on a token makes it the only one."""
    lab.need("temperature")
    plain, biased = lab.good(tokens=4, temperature=0), lab.good(tokens=4, temperature=0, logit_bias={BIASED: 100})
    if same(plain.text(), biased.text()):
        return IGNORED, f"token {BIASED} gets +100 and the text stays {quote(plain.text())}", biased.status
    return HONOURED, f"+100 for token {BIASED} turns {quote(plain.text())} into {quote(biased.text())}", biased.status


def logprobs(lab: Lab):
    reply = lab.good(tokens=4, **lab.calm(), logprobs=True)
    rows = _rows(reply)
    if rows and all(isinstance(r.get("logprob"), (int, float)) for r in rows):
        return HONOURED, f"{len(rows)} tokens come with their log-probability, the first {rows[0]['logprob']:.3f}", reply.status
    return IGNORED, "the answer carries no log-probabilities", reply.status


def top_logprobs(lab: Lab):
    lab.need("logprobs")
    reply = lab.good(tokens=4, **lab.calm(), logprobs=True, top_logprobs=3)
    rows = _rows(reply)
    found = [len(r.get("top_logprobs") or []) for r in rows]
    if found and min(found) >= 3:
        return HONOURED, f"each of {len(found)} tokens comes with {min(found)} candidates", reply.status
    return IGNORED, f"asked for 3 candidates for each token, got {max(found, default=0)}", reply.status


def _rows(reply) -> list[dict]:
    block = reply.choices[0].get("logprobs")
    rows = block.get("content") if isinstance(block, dict) else None
    return [r for r in rows if isinstance(r, dict)] if isinstance(rows, list) else []


ROWS = (
    ("temperature", "0 twice, then 2", temperature),
    ("top_p", f"top_p 0.0001 at temperature {HOT:g}", top_p),
    ("top_k", f"top_k 1 at temperature {HOT:g}", top_k),
    ("min_p", f"min_p 1 at temperature {HOT:g}", min_p),
    ("seed", f"11, 11, 12, 13 at temperature {HOT:g}", seed),
    ("logprobs", "true", logprobs),
    ("top_logprobs", "3", top_logprobs),
    ("presence_penalty", "2, −2", presence_penalty),
    ("frequency_penalty", "2, −2", frequency_penalty),
    ("repetition_penalty", "2", repetition_penalty),
    ("logit_bias", f'{{"{BIASED}": 100}}', logit_bias),
)
