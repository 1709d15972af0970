"""Checker of lesson 04, notebook 1, exercise 3: a request that decides its answer. Only an engine can judge it."""
# ruff: noqa: BLE001 - whatever a learner's code raises becomes a verdict

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from gb10.check.verdict import CORRECT, NOT_YET, Verdict, grade
from gb10.errors import CourseError

QUESTION = "What does os.path.join do?"
NAME = "request_for"
LENGTHS = ((QUESTION, 70), ("Hello", 33))       # questions, and more tokens than their answers have of themselves
SHORT = ((QUESTION, 7), ("Hello", 4))           # for an engine that has no way to go on after the end


def right_request(model: str, question: str, n: int) -> dict:
    """One right answer."""
    return {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": n, "ignore_eos": True,
            "temperature": 0, "logprobs": True}


def request_for(function: Callable, engine=None) -> Verdict:
    """request_for(model, question, n) -> the body of a chat request: twice the same answer, n tokens long, with log-probabilities.

    engine: what connect() returned. The bodies are sent to it, and what comes back decides."""
    if not callable(function):
        return grade(NAME, function, (), hint="")
    if engine is None:
        return Verdict(NAME, NOT_YET, (("live", "not tried"),), "this one only the engine can judge: check.request_for(request_for, engine).")
    from gb10.engines.fields import wire

    try:
        wanted, wants_logprobs = _what_it_can(engine)
        for question, n in wanted:
            verdict = _one(function, engine, question, n, wants_logprobs)
            if verdict is not None:
                return verdict
    except CourseError as e:
        return Verdict(NAME, NOT_YET, (("live", e.message),), "the engine went away: start it again, then run this cell.")
    except wire.Silent as e:
        return Verdict(NAME, NOT_YET, (("live", f"{engine.url} does not answer ({e})"),), "start an engine again, then run this cell.")
    rows = [("checked", f"{2 * len(wanted)} requests to {engine.engine}: {' and '.join(str(n) for _, n in wanted)} tokens, twice the same")]
    if wanted == SHORT:
        rows.append(("note", "this engine can't go on after the end of an answer, so fewer tokens were asked for"))
    return Verdict(NAME, CORRECT, (*rows, ("so", "a request decides more than a prompt does: write down all of it.")))


def _what_it_can(engine) -> tuple[tuple, bool]:
    """The questions with numbers of tokens that this engine can give, and whether it gives log-probabilities."""
    from gb10.engines.fields.wire import post

    for wanted in (LENGTHS, SHORT):
        for leave_out in ((), ("logprobs",), ("ignore_eos",), ("logprobs", "ignore_eos")):
            replies = []
            for question, n in wanted:      # one after the other: the first that can't be had ends this attempt
                body = {k: v for k, v in right_request(engine.model, question, n).items() if k not in leave_out}
                replies.append(post(engine.url, body, 120))
                if replies[-1].status != 200 or replies[-1].count("completion_tokens") != n:
                    break
            else:
                return wanted, bool(replies[0].choices[0].get("logprobs")) and "logprobs" not in leave_out
    raise CourseError(f"{engine.engine} at {engine.url} gives no answer of a length that was asked for, whatever is sent")


def _one(function, engine, question: str, n: int, wants_logprobs: bool) -> Verdict | None:
    """The verdict on one question, None if all is well."""
    from gb10.engines.fields.wire import post

    call = ("call", f"request_for({engine.model!r}, {question!r}, {n})")
    try:
        body = function(engine.model, question, n)
    except NotImplementedError:
        body = None
    except (Exception, SystemExit) as e:
        return Verdict(NAME, NOT_YET, (call, ("your code raised", f"{type(e).__name__}: {e}"[:120])), "it gets a model's name, a question and a number.")
    if body is None or body is NotImplemented or body is ...:
        return grade(NAME, None, (), hint="")
    try:
        sent = json.loads(json.dumps(dict(body), allow_nan=False)) if isinstance(body, Mapping) else None
    except (TypeError, ValueError):
        sent = None
    if not isinstance(sent, dict):
        return Verdict(NAME, NOT_YET, (call, ("gave", f"a {type(body).__name__}")), "return a dictionary that can be written as JSON.")
    sent.pop("stream", None)
    limit = sent.get("max_completion_tokens") or sent.get("max_tokens")
    if not isinstance(limit, int) or not 0 < limit <= 10 * n:       # not sent: it could run for minutes
        return Verdict(NAME, NOT_YET, (call, ("limit", repr(limit))), f"no limit of about {n} tokens is in it: one field sets the most tokens that "
                                                                     f"an answer may have.")
    # The first is not judged: a prompt that is found in the prefix cache is computed with other last digits than a new one.
    replies = [post(engine.url, sent, 120) for _ in range(3)][1:]
    rows = (call, ("sent", _cut(json.dumps({k: v for k, v in sent.items() if k not in ("messages", "model")}))))
    bad = next((r for r in replies if r.status != 200 or not r.choices), None)
    if bad:
        return Verdict(NAME, NOT_YET, (*rows, ("the engine says", f"{bad.status}: {bad.error}")), "the engine refuses that request: read what it says.")
    asked = [m.get("content") for m in sent.get("messages", []) if isinstance(m, dict)]
    if question not in asked:
        return Verdict(NAME, NOT_YET, rows, "the question is not among the messages: it is the content of a message with the role user.")
    counts = [r.count("completion_tokens") for r in replies]
    rows += (("answers", " and ".join(f"{c} tokens, {r.finish}" for c, r in zip(counts, replies, strict=True))),)
    if any(c != n for c in counts):
        return Verdict(NAME, NOT_YET, (*rows, ("expected", f"{n} tokens")), _length_hint(counts, n))
    if replies[0].text() != replies[1].text():
        texts = ("the two texts", f"{_cut(replies[0].text(), 50)!r} and {_cut(replies[1].text(), 50)!r}")
        return Verdict(NAME, NOT_YET, (*rows, texts), "the same request, twice, and two answers: the tokens are drawn. Which field takes the "
                                                      "most probable one each time?")
    given = [((r.choices[0].get("logprobs") or {}).get("content") or []) for r in replies]
    if wants_logprobs and any(len(g) != n for g in given):
        return Verdict(NAME, NOT_YET, (*rows, ("log-probabilities", f"{len(given[0])} of {n}")), "the log-probabilities are missing: one field asks "
                                                                                               "for them.")
    return None


def _length_hint(counts, n: int) -> str:
    if any(c is None for c in counts):
        return "the engine did not count its tokens."
    if min(counts) < n:
        return ("the model ended its answer before the limit, by its end-of-sequence token: a field tells the engine to pass over it (the "
                "table of fields above has it).")
    return "more tokens came than were asked for: the limit is exactly n."


def _cut(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
