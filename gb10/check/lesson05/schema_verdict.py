"""Checker of lesson 05, notebook 3: a verdict on structured output, tried on small engines of known behaviour and on the one that is up."""
# ruff: noqa: BLE001 - whatever a learner's code raises becomes a verdict

from __future__ import annotations

import copy
import json
from collections.abc import Callable

from gb10.check import live
from gb10.check.lesson05 import schema_engines as small
from gb10.check.verdict import CORRECT, NOT_YET, Verdict, grade
from gb10.errors import CourseError

NAME = "verdict_on_schema"
WORDS = ("honoured", "ignored", "rejected")
FIELD = "response_format json_schema"
MOST = 20                        # requests to one engine

# engine: what to say of a wrong answer about it
HINTS = {
    "honours it": "this one does as the schema says. Does your request hold response_format with the type json_schema, a name and a schema, and do you "
                  "parse the content before you compare?",
    "ignores it": "this one answers 200 with plain prose: the status says nothing. Parse the content (json.loads raises ValueError for prose), and compare.",
    "refuses it with 400": "this one answers 400 because of the field: that is rejected, and its answer has no choices.",
    "refuses it with 422": "this one answers 422, as servers that check requests with pydantic do: every status but 200 is a refusal here, not 400 alone.",
    "honours it, with blanks and line ends": "JSON may have blanks and line ends: compare the parsed object, not the text.",
    "honours json_object only": "valid JSON is not enough: this one gives some object, with keys of its own. Compare keys and values with the schema.",
    "ignores it, and its model likes JSON": "this one ignores the field, and its model wrote fitting JSON by itself: your schema or your question suggests "
                                            "it. Take a key and a value (enum or const) that nobody would guess, and leave both out of the question.",
    "has the keys right and the values not": "the keys are right and the values don't fit the schema: check the values, too.",
    "puts prose around the JSON": "there are words around the JSON: a program that parses the content would fail, so nothing was enforced. Don't search "
                                  "for braces; parse all of it.",
    "puts a Markdown fence around the JSON": "the JSON stands in a Markdown fence: the content as a whole is no JSON, so nothing was enforced.",
    "honours it, and gives four tokens unless you ask for more": "the JSON was cut off in the middle: engines have limits of their own. Send max_tokens.",
    "thinks, then honours it": f"content is null and finish_reason is length: the tokens went into reasoning. Give max_tokens enough for {small.THOUGHT} "
                               f"tokens of thought and an answer (this engine takes {small.LIMIT} at most), and read content.",
    "thinks, then ignores it": "the content behind the reasoning is prose (it is null if max_tokens is too small): json.loads raises TypeError for None, "
                               "ValueError for prose.",
}


def right(ask) -> str:
    """One right answer."""
    schema = {"type": "object", "properties": {"zq_41": {"enum": ["vellum-7319"]}}, "required": ["zq_41"], "additionalProperties": False}
    status, answer = ask({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1000, "temperature": 0,
                          "response_format": {"type": "json_schema", "json_schema": {"name": "probe", "schema": schema, "strict": True}}})
    if status != 200:
        return "rejected"
    try:
        return "honoured" if json.loads(answer["choices"][0]["message"]["content"] or "") == {"zq_41": "vellum-7319"} else "ignored"
    except ValueError:
        return "ignored"


def verdict_on_schema(function: Callable, engine=None) -> Verdict:
    """verdict_on_schema(ask) -> "honoured", "ignored" or "rejected"; ask(body) gives (status, answer).

    engine: what connect() returned; it is asked, too, and the verdict compared with the course's own experiment."""
    if function is None or function is NotImplemented or function is ... or not callable(function):
        return grade(NAME, function, (), hint="")
    for number, name in enumerate(small.TRUTH):
        verdict = _one(function, name, first=number == 0)
        if verdict is not None:
            return verdict
    done = Verdict(NAME, CORRECT, (("checked", f"{len(small.TRUTH)} small engines: {', '.join(small.TRUTH)}"),))
    return _live(done, function, engine)


def _one(function: Callable, name: str, first: bool) -> Verdict | None:
    """The verdict on one small engine; None if all is well."""
    sent: list = []
    serve = small.serve(name, seed=len(name))

    def ask(body):
        if len(sent) >= MOST:
            raise RuntimeError(f"more than {MOST} requests to one engine")
        sent.append(copy.deepcopy(body))
        if not isinstance(body, dict):
            raise TypeError(f"ask() takes the body of a request, a dictionary; got a {type(body).__name__}")
        return serve(json.loads(json.dumps(body)))

    rows = (("engine", f"one that {name}"),)
    try:
        got = function(ask)
    except NotImplementedError:
        return grade(NAME, None, (), hint="")
    except (Exception, SystemExit) as e:
        rows += _last(sent) + (("your code raised", f"{type(e).__name__}: {e}"[:140]), ("expected", repr(small.TRUTH[name][0])))
        return Verdict(NAME, NOT_YET, rows, HINTS[name])
    if first and (got is None or got is NotImplemented or got is ...) and not sent:
        return grade(NAME, None, (), hint="")
    rows += _last(sent)
    rows += (("gave", repr(got)[:100]), ("expected", repr(small.TRUTH[name][0])))
    if not isinstance(got, str) or got not in WORDS:
        return Verdict(NAME, NOT_YET, rows, f"return one of the three words, as a text: {', '.join(WORDS)}.")
    if not sent:
        return Verdict(NAME, NOT_YET, rows, "nothing was sent: call ask(body), and judge by what comes back.")
    if got == small.TRUTH[name][0]:
        return None
    return Verdict(NAME, NOT_YET, rows, _why(sent[-1], got) or HINTS[name])


def _why(body, got: str) -> str:
    """What is wrong with the request itself, if something is."""
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        return "the request has no messages, and an engine refuses it for that alone: {\"messages\": [{\"role\": \"user\", \"content\": …}], …}."
    if small.limit(body, 1) > small.LIMIT:
        return f"this engine refuses max_tokens beyond its context of {small.LIMIT}, whatever else is asked: ask for less."
    if not any(k in body for k in ("response_format",)):
        return "the last request has no response_format: {\"type\": \"json_schema\", \"json_schema\": {\"name\": …, \"schema\": …}}."
    if small.schema_of(body) is None:
        return ("response_format is not of the form {\"type\": \"json_schema\", \"json_schema\": {\"name\": …, \"schema\": …}}: what happens to another "
                "form says nothing about this one.")
    return ""


def _last(sent: list) -> tuple:
    if not sent or not isinstance(sent[-1], dict):
        return ()
    try:
        text = json.dumps({k: v for k, v in sent[-1].items() if k != "messages"})
    except (TypeError, ValueError):
        text = repr(sent[-1])
    return (("sent", text if len(text) <= 220 else text[:219] + "…"),)


def _all_thought(answer: dict) -> bool:
    """Whether the limit came before any content, and reasoning was what came."""
    choice = (answer.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    return bool(message.get("reasoning") or message.get("reasoning_content")) and not message.get("content")


def _live(verdict: Verdict, function: Callable, engine) -> Verdict:
    if engine is None:
        return live.confirm(verdict, None, lambda: ("", None, None), "")
    from gb10.engines import fields, raw

    def trial():
        [row] = fields.table(engine.url, engine.model, engine=engine.engine, only=[FIELD], quiet=True)
        ask = raw.asker(engine)
        failed: list = []
        thought: list = []

        def guarded(body):
            try:
                status, answer = ask(body)
            except CourseError as e:     # the engine's doing, not the reader's
                failed.append(e)
                raise
            thought[:] = [body.get("max_tokens")] if _all_thought(answer) else []
            return status, answer

        try:
            got = live.yours(function, guarded)
        except live.Raised:
            if failed:
                raise failed[0] from None
            raise
        told = f"{engine.engine}: your function says {got!r}, the course's own experiment {row.outcome!r} ({row.evidence})"
        if thought:
            return f"{told}. The model spent {thought[0] or 'all its'} tokens on reasoning and gave no content, so nothing can be told from that", None, None
        if row.outcome == fields.UNKNOWN:
            return told, None, None
        return told, 1.0 if got == row.outcome else 0.0, 1.0

    found = live.confirm(verdict, engine, trial, "right on the small engines, and another verdict than the course's on the engine that is up. Look at what "
                                                 "ask() gave: print(ask(body)).")
    keep = [(label, text) for label, text in found.rows if found.status == CORRECT or label not in ("gave", "expected")]
    return Verdict(found.exercise, found.status, tuple(keep), found.hint)
