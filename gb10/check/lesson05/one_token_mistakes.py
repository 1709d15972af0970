"""Plausible wrong filters, each with the hint that its author needs."""

from __future__ import annotations

import numpy as np

from gb10.check.verdict import Mistake


def _soft(row):
    raised = np.exp(row - np.max(row))
    return raised / raised.sum()


def _keep(row, kept):
    return np.where(kept, row, -np.inf)


def _largest(row, k):
    """Exactly k, ties broken by place."""
    order = np.argsort(-row, kind="stable")
    return _keep(row, np.isin(np.arange(len(row)), order[:k]))


def _nucleus(row, p, *, probs=None, crossing=True, at_least_one=True):
    probs = _soft(row) if probs is None else probs
    order = np.argsort(-probs, kind="stable")
    total = np.cumsum(probs[order])
    keep = (total - probs[order] < p) if crossing else total <= p
    if at_least_one:
        keep[0] = True
    out = np.full(len(row), -np.inf)
    out[order[keep]] = row[order[keep]]
    return out


def _in_order(row, p):
    """The sorted row, not put back."""
    order = np.argsort(-row, kind="stable")
    return _nucleus(row, p)[order]


TEMPERATURE = (
    Mistake(lambda row, t: row * t if t else _keep(row, np.arange(len(row)) == row.argmax()),
            "a higher temperature makes the distribution flatter: divide by t, don't multiply."),
    Mistake(lambda row, t: _soft(row / t) if t else _soft(row / 1e-9),
            "logits are asked for, not probabilities: leave the softmax to whoever draws."),
    Mistake(lambda row, t: row / t if t else row, "temperature 0 means greedy: only the largest stays, the others get -inf."),
    Mistake(lambda row, t: row / t if t else _keep(row, row == row.max()),
            "at temperature 0 one token has to stay: of several largest the first, as np.argmax takes it."),
    Mistake(lambda row, t: row / t if t else _keep(np.zeros(len(row)), np.arange(len(row)) == row.argmax()),
            "at temperature 0 the largest keeps its logit; only the others become -inf."),
)

TOP_K = (
    Mistake(lambda row, k: _largest(row, k) if 0 < k < len(row) else row,
            "the k-th has an equal, and both stay: compare with the k-th largest logit, don't count places."),
    Mistake(lambda row, k: _keep(row, row >= np.sort(row)[-k]) if k < len(row) else row, "k below 1 means that the filter is off: give the logits back."),
    Mistake(lambda row, k: _keep(row, row > np.sort(row)[-k]) if 0 < k < len(row) else row, "the k-th itself stays: use <, not <=, for those that go."),
    Mistake(lambda row, k: np.where(row >= np.sort(row)[-k], row, 0.0) if 0 < k < len(row) else row,
            "a logit of 0 is a token with a good chance: what is removed gets -inf."),
    Mistake(lambda row, k: np.sort(row)[::-1][:k] if 0 < k < len(row) else row, "every token keeps its place: give back as many logits as you got."),
    Mistake(lambda row, k: _keep(row, row <= np.sort(row)[k - 1]) if 0 < k < len(row) else row, "those are the k smallest: np.sort ascends."),
)

TOP_P = (
    Mistake(lambda row, p: _nucleus(row, p, crossing=False) if p < 1 else row,
            "the token that crosses p stays: it is kept if those *before* it have less than p together."),
    Mistake(lambda row, p: _nucleus(row, p, crossing=False, at_least_one=False) if p < 1 else row,
            "the token that crosses p stays; so the likeliest is always there, however small p is."),
    Mistake(lambda row, p: _keep(row, _soft(row) >= 1 - p), "p counts the probability of all that stay together, not that of each one."),
    Mistake(lambda row, p: _keep(row, _soft(row) >= p * _soft(row).max()), "that is min-p: top-p adds probabilities up, from the likeliest down."),
    Mistake(_in_order, "the logits come back in sorted order: put each at its own place (out[order[keep]] = logits[order[keep]])."),
    Mistake(lambda row, p: np.where(np.isfinite(_nucleus(row, p)), row, 0.0), "what is removed gets -inf: a logit of 0 is a token with a good chance."),
    Mistake(lambda row, p: _nucleus(row, p, probs=np.exp(row)) if p < 1 else row, "exp(logits) sums to 1 only by chance: divide by the sum, as softmax does."),
)

MIN_P = (
    Mistake(lambda row, p: _keep(row, _soft(row) >= p), "the threshold isn't p itself but p times the largest probability."),
    Mistake(lambda row, p: _keep(row, _soft(row) > p * _soft(row).max()), "exactly at the threshold stays: with p = 1 the likeliest itself would go."),
    Mistake(lambda row, p: _keep(row, row >= p * row.max()), "compare probabilities, not logits: take the softmax first."),
    Mistake(lambda row, p: np.where(_soft(row) >= p * _soft(row).max(), row, 0.0), "what is removed gets -inf: a logit of 0 is a token with a good chance."),
    Mistake(_nucleus, "that is top-p: min-p compares each token with the likeliest, and adds nothing up."),
)


def _penalties(row, prompt, output, r, presence, frequency, *, sign=True, prompt_too=True, output_in=True, everywhere=False, each=False, once=False):
    row = np.array(row, dtype=float)
    seen = (list(prompt) if prompt_too else []) + (list(output) if output_in else [])
    for t in seen if each else set(seen):
        row[t] = row[t] / r if row[t] > 0 or not sign else row[t] * r
    counted = [*prompt, *output] if everywhere else list(output)
    for t in set(counted):
        row[t] -= (1 if once else counted.count(t)) * frequency + presence
    return row


PENALTIES = (
    Mistake(lambda *a: _penalties(*a, sign=False), "a negative logit that is divided comes nearer to 0, which makes the token likelier: multiply it."),
    Mistake(lambda *a: _penalties(*a, prompt_too=False), "repetition looks at the prompt, too."),
    Mistake(lambda *a: _penalties(*a, output_in=False), "repetition looks at the prompt and at the output."),
    Mistake(lambda *a: _penalties(*a, everywhere=True), "presence and frequency look at the output alone: the prompt costs nothing."),
    Mistake(lambda *a: _penalties(*a, each=True), "repetition counts once for a token, however often it came: go over the set of them."),
    Mistake(lambda *a: _penalties(*a, once=True), "frequency is taken off for each time that the token came."),
    Mistake(lambda row, prompt, output, r, presence, frequency: _penalties(row, prompt, output, r, 0, presence + frequency),
            "presence is taken off once, however often the token came."),
    Mistake(lambda row, prompt, output, r, presence, frequency: _penalties(row, prompt, output, r, -presence, -frequency),
            "penalties are taken off: a positive one makes a token less likely."),
)
