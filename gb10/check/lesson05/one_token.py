"""Checkers of lesson 05, notebook 1: the filters between logits and the next token, by hand and against the engine's own draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gb10.check import live
from gb10.check.lesson05 import one_token_mistakes as wrong
from gb10.check.verdict import CORRECT, NOT_YET, Case, Verdict, grade

QUESTION = "Tell me about strings."
DRAWS, TOP = 120, 20
NEAR = 1e-6

# Logits with halves: exact in every float type. Two of them are equal.
ROW = np.array([2.0, -1.0, 0.5, 3.0, 0.5, -4.0, 1.0])
EVEN = np.log(np.array([0.15, 0.5, 0.05, 0.3]))


def _judged(name: str, function: Callable, right: Callable, calls, mistakes, hint: str, done: str) -> Verdict:
    """grade(), and a look at whether the argument was left as it was."""
    cases = [Case(args, right(*args), label) for label, args in calls]
    verdict = grade(name, function, cases, mistakes=mistakes, rel=NEAR, absolute=NEAR, hint=hint, done=done)
    if verdict.status == CORRECT:
        row = np.array(calls[0][1][0])
        function(row, *calls[0][1][1:])
        if not np.array_equal(row, calls[0][1][0]):
            return Verdict(name, NOT_YET, (("after the call", "the logits that were given are changed"),),
                           "work on a copy (np.array(logits, dtype=float) makes one): a filter that changes its argument spoils the next one's.")
    return verdict


def _on_the_engine(verdict: Verdict, engine, function: Callable, right: Callable, setting: Callable) -> Verdict:
    """Seeded draws of the engine, held against what the reader's function predicts from the candidates that the engine shows.

    setting(probs) -> (temperature that the request has, the value for the function, the other fields). top_k makes the candidates the whole
    distribution. What the course's own function predicts is tried first: draws that don't fit that are the engine's doing.
    """
    def trial():
        from gb10 import sampling
        from gb10.engines import next_token

        calm = next_token.plain(engine)
        seen = next_token.look(engine, QUESTION, TOP, **calm)
        seen = seen.first(seen.clear)
        heat, value, fields = setting(sampling.softmax(seen.logprobs))
        asked = {"temperature": heat, "top_k": len(seen.tokens)} | fields
        counts = next_token.draws(engine, QUESTION, range(DRAWS), quiet=True, **calm, **asked)
        start = seen.logprobs if right is _temperature else seen.logprobs / heat

        def held(row):
            return sampling.chi_square(counts, seen.by_text(sampling.softmax(row)))

        what = ", ".join(f"{k} {v:.3g}" for k, v in asked.items())
        ours = held(right(start, value))
        if not ours.agrees():
            return f"with {what} {engine.engine} doesn't draw as it should ({ours}): it may ignore a field, or order the filters otherwise. Not held against you.", None, None
        row = np.asarray(live.yours(function, np.array(start), value), dtype=float)
        mine = held(row)
        # 120 draws can't see everything: what the engine confirmed has to come out, too.
        good = mine.agrees() and np.allclose(sampling.softmax(row), sampling.softmax(right(start, value)), atol=NEAR)
        return f"with {what}, {engine.engine} against your prediction: {mine}", float(good), 1.0

    return live.confirm(verdict, engine, trial, ELSEWHERE)


def _gap(probs) -> int:
    """How many of the candidates to keep: up to the widest gap between the second and the sixth, where no rounding decides."""
    places = range(2, min(6, len(probs) - 1) + 1)
    return max(places, key=lambda i: probs[i - 1] / max(probs[i], 1e-30), default=1)


def _by_k(probs):
    k = _gap(probs)
    return 1.6, k, {"top_k": k}


def _by_p(probs):
    k = _gap(probs)
    p = float(probs[:k].sum() - probs[k - 1] / 2)          # reached within the k-th
    return 1.0, p, {"top_p": p}


def _by_least(probs):
    k = _gap(probs)
    p = float((probs[k - 1] * probs[min(k, len(probs) - 1)]) ** 0.5 / probs[0])
    return 1.0, p, {"min_p": p}


def _temperature(row, t):
    from gb10 import sampling

    return sampling.temperature(row, t)


def _filter(name: str) -> Callable:
    def right(row, value):
        from gb10 import sampling

        return getattr(sampling, name)(row, value)
    return right


ELSEWHERE = "the engine's draws don't fit what your function predicts from its candidates, though the cases here do: look at ties and at -inf."


def with_temperature(function: Callable, engine=None) -> Verdict:
    """with_temperature(logits, t) -> logits [V] of the distribution at temperature t; t = 0: only the largest (the first of several) stays."""
    calls = [("colder", (ROW, 0.5)), ("hotter", (ROW, 2.0)), ("untouched", (ROW, 1.0)), ("zero: greedy", (ROW, 0.0)),
             ("zero, and two are the largest", (np.array([1.0, 3.0, 3.0]), 0))]
    verdict = _judged("with_temperature", function, _temperature, calls, wrong.TEMPERATURE,
                      "divide each logit by t. At t = 0 that can't be done: keep the largest (np.argmax) and put -inf everywhere else.",
                      "softmax of what you return is the distribution that the engine draws from.")
    return _on_the_engine(verdict, engine, function, _temperature, lambda probs: (1.6, 1.6, {}))


def keep_top_k(function: Callable, engine=None) -> Verdict:
    """keep_top_k(logits, k) -> the k largest logits [V], the rest -inf; ties with the k-th stay; k below 1 or from V on: all."""
    calls = [("two stay", (ROW, 2)), ("one stays", (ROW, 1)), ("the fourth has an equal", (ROW, 4)), ("0 means off", (ROW, 0)),
             ("-1 means off", (ROW, -1)), ("as many as there are", (ROW, 7)), ("more than there are", (ROW, 50))]
    verdict = _judged("keep_top_k", function, _filter("top_k"), calls, wrong.TOP_K,
                      "find the k-th largest logit (np.sort(logits)[-k]), and put -inf where a logit is smaller. k below 1, and k of at "
                      "least len(logits), leave all.", "ties stay, as in vLLM: k is a threshold, not a promise.")
    return _on_the_engine(verdict, engine, function, _filter("top_k"), _by_k)


def keep_top_p(function: Callable, engine=None) -> Verdict:
    """keep_top_p(logits, p) -> logits [V]: the smallest set of the likeliest whose probability reaches p; the rest -inf."""
    calls = [("half is reached by one", (EVEN, 0.45)), ("the second crosses 0.6", (EVEN, 0.6)), ("three", (EVEN, 0.9)), ("all but nothing", (EVEN, 0.97)),
             ("1 means off", (EVEN, 1.0)), ("the likeliest always stays", (EVEN, 1e-6)), ("logits, not probabilities", (ROW, 0.8)),
             ("logits with a constant added", (EVEN + 7, 0.6)), ("some are gone already", (np.array([-np.inf, 1.0, 0.0, -np.inf]), 0.5))]
    verdict = _judged("keep_top_p", function, _filter("top_p"), calls, wrong.TOP_P,
                      "softmax; order from the likeliest down; add up. A token stays if those before it have less than p together. Put the "
                      "rest to -inf, each at its own place.", "the set grows where the model is unsure and shrinks where it is sure: that is the point of it.")
    return _on_the_engine(verdict, engine, function, _filter("top_p"), _by_p)


def keep_min_p(function: Callable, engine=None) -> Verdict:
    """keep_min_p(logits, p) -> logits [V]: those with at least p times the probability of the likeliest; the rest -inf."""
    calls = [("a fifth of the likeliest", (EVEN, 0.2)), ("half of it", (EVEN, 0.5)), ("0 means off", (EVEN, 0.0)), ("1: only the likeliest", (EVEN, 1.0)),
             ("logits, not probabilities", (ROW, 0.1)), ("logits with a constant added", (EVEN - 9, 0.2))]
    verdict = _judged("keep_min_p", function, _filter("min_p"), calls, wrong.MIN_P,
                      "softmax; the threshold is p times the largest probability; put -inf where a probability is below it.",
                      "relative to the likeliest: where one token has it all, few others pass.")
    return _on_the_engine(verdict, engine, function, _filter("min_p"), _by_least)


def _penalize(row, prompt, output, repetition, presence, frequency):
    from gb10 import sampling

    return sampling.penalize(row, prompt, output, repetition, presence, frequency)


def penalized(function: Callable, engine=None) -> Verdict:
    """penalized(logits, prompt, output, repetition, presence, frequency) -> logits [V]; prompt, output: lists of token ids.

    engine: what connect() returned; if it serves pico, repetition_penalty is tried on it (a repetition penalty needs true logits, which no
    engine shows, and of pico the course has them)."""
    calls = [("presence counts once", (ROW, [], [3, 3, 0], 1.0, 1.5, 0.0)), ("frequency counts each time", (ROW, [], [3, 3, 0], 1.0, 0.0, 0.5)),
             ("the prompt isn't the output", (ROW, [3, 3, 2], [], 1.0, 1.5, 0.5)), ("repetition: prompt and output", (ROW, [3, 5], [1], 2.0, 0.0, 0.0)),
             ("a token in both, said twice", (ROW, [3], [3, 3], 2.0, 0.0, 0.0)), ("negative: a reward", (ROW, [], [2], 1.0, -1.0, -0.5)),
             ("all three", (ROW, [0, 1], [1, 2, 2], 1.25, 0.5, 0.25)), ("nothing said", (ROW, [], [], 2.0, 2.0, 2.0))]
    verdict = _judged("penalized", function, _penalize, calls, wrong.PENALTIES,
                      "first repetition: for each token that is in prompt or output, once, divide its logit if it is positive and multiply "
                      "it if it is negative. Then, for tokens of the output, take off frequency times the count, and presence once.",
                      "a logit is no probability: that is why repetition has to look at its sign.")

    def trial():
        from gb10 import sampling
        from gb10.engines import next_token

        if not next_token.is_pico(engine):
            return f"not tried on {engine.model}: repetition_penalty needs the logits themselves, and the engine shows log-probabilities", None, None
        question = "Return the strings that begin with Return."
        whole = next_token.whole(question)
        counts = next_token.draws(engine, question, range(DRAWS), quiet=True, temperature=1.3, repetition_penalty=2.5)

        def held(row):
            return sampling.chi_square(counts, whole.by_text(sampling.softmax(np.asarray(row, dtype=float) / 1.3)))

        ours = held(sampling.penalize(whole.logits, whole.prompt, (), 2.5))
        if not ours.agrees():
            return f"{engine.engine} doesn't draw as it should ({ours}): it may ignore the field. Not held against you.", None, None
        row = np.asarray(live.yours(function, np.array(whole.logits, dtype=float), list(whole.prompt), [], 2.5, 0.0, 0.0), dtype=float)
        mine = held(row)
        good = mine.agrees() and np.allclose(row, sampling.penalize(whole.logits, whole.prompt, (), 2.5), atol=NEAR)
        return f"with repetition_penalty 2.5, {engine.engine} against your prediction: {mine}", float(good), 1.0

    return live.confirm(verdict, engine, trial, ELSEWHERE)


__all__ = ["keep_min_p", "keep_top_k", "keep_top_p", "penalized", "with_temperature"]
