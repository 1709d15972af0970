"""Checker of lesson 05, notebook 2, exercise 2: sampling settings for a use. Taste isn't judged; contradictions and what the engine does are."""
# ruff: noqa: BLE001 - whatever a learner's code raises becomes a verdict

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from gb10.check.verdict import CORRECT, NOT_YET, Verdict, grade
from gb10.errors import CourseError

NAME = "settings_for"
SAME, VARIED = ("code", "fact"), ("haiku", "brainstorm")
QUESTIONS = {"code": "What does os.path.join do?", "fact": "What does len do?", "haiku": "Write a haiku about strings.", "brainstorm": "Tell me about strings."}
RANGES = {"temperature": (0, 2), "top_p": (0, 1), "top_k": (-1, 10_000), "min_p": (0, 1), "max_tokens": (1, 100_000), "seed": (0, 2**63 - 1),
          "presence_penalty": (-2, 2), "frequency_penalty": (-2, 2), "repetition_penalty": (0.1, 10), "n": (1, 20), "max_completion_tokens": (1, 100_000)}
WHOLE = {"top_k", "max_tokens", "max_completion_tokens", "seed", "n"}
OTHER = {"stop", "logprobs", "top_logprobs"}
FREE = 0.6                       # a temperature from which answers differ


def _greedy(s: Mapping) -> bool:
    return s["temperature"] == 0 or s.get("top_k") == 1


def _cuts(s: Mapping) -> bool:
    return s.get("top_p", 1) < 1 or s.get("top_k", 0) > 0 or s.get("min_p", 0) > 0


def objection(use: str, s: object) -> str | None:
    """What speaks against these settings for this use, in a sentence; None if nothing does."""
    if not isinstance(s, Mapping) or not all(isinstance(k, str) for k in s):
        return f"for {use} a dictionary of request fields is wanted, such as {{'temperature': 0.7, 'max_tokens': 200}}"
    try:
        json.dumps(dict(s), allow_nan=False)
    except (TypeError, ValueError):
        return f"the settings for {use} can't be written as JSON, and a request is JSON: use plain numbers, texts and lists"
    for name, value in s.items():
        if name not in RANGES and name not in OTHER:
            return f"{name} is no sampling field of a request: {use} can have {', '.join(sorted([*RANGES, *OTHER]))}"
        if name in RANGES and (isinstance(value, bool) or not isinstance(value, int | float) or not RANGES[name][0] <= value <= RANGES[name][1]):
            return f"{name} = {value!r} for {use} is out of range: {RANGES[name][0]} to {RANGES[name][1]}"
        if name in WHOLE and not isinstance(value, int):
            return f"{name} = {value!r} for {use} has to be a whole number"
    if s.get("top_p") == 0:
        return f"top_p = 0 for {use} keeps nothing, and engines refuse it: it has to be above 0"
    if "temperature" not in s or not {"max_tokens", "max_completion_tokens"} & set(s):
        return f"say temperature and max_tokens for {use}: what isn't said, the engine or the checkpoint decides"
    if s["temperature"] == 0 and _cuts(s):
        return f"for {use} the temperature is 0, which takes the likeliest token: top_p, top_k and min_p then change nothing, so leave them out"
    if s["temperature"] > 1 and not _cuts(s):
        return f"for {use} the temperature is above 1 and no filter cuts the tail: section 1 showed what then comes"
    if use in SAME and not _greedy(s) and s["temperature"] > 0.3:
        return f"{use} has one right answer: at temperature {s['temperature']:g} the engine now and then takes another"
    if use in VARIED and (_greedy(s) or s["temperature"] < FREE):
        return f"{use} is to surprise: with these settings the same request gives nearly the same answer each time"
    if use in VARIED and "seed" in s:
        return f"a fixed seed gives {use} the same answer each time"
    return None


def settings_for(function: Callable, engine=None) -> Verdict:
    """settings_for(use) -> request fields (a dict) for "code", "fact", "haiku" and "brainstorm".

    engine: what connect() returned: code and fact are asked twice and must give the same text, brainstorm four times and must not."""
    uses = (*SAME, *VARIED)
    unattempted = grade(NAME, function, [], hint="")
    if unattempted.status != CORRECT:
        return unattempted
    found = {}
    for use in uses:
        try:
            found[use] = function(use)
        except (Exception, SystemExit) as e:
            if isinstance(e, NotImplementedError):
                return grade(NAME, None, [], hint="")
            return Verdict(NAME, NOT_YET, (("call", f"{NAME}({use!r})"), ("your code raised", f"{type(e).__name__}: {e}"[:120])),
                           "give a dictionary back for each of code, fact, haiku and brainstorm.")
    if all(v is None or v is ... for v in found.values()):
        return grade(NAME, None, [], hint="")
    rows = tuple((use, repr(s)[:150]) for use, s in found.items())
    for use, s in found.items():
        if told := objection(use, s):
            return Verdict(NAME, NOT_YET, (("call", f"{NAME}({use!r})"), ("gave", repr(s)[:150])), told + ".")
    if engine is None:
        return Verdict(NAME, CORRECT, (*rows, ("live", "not tried: give the engine as second argument")))
    try:
        told, wrong = _tried(found, engine)
    except CourseError as e:
        return Verdict(NAME, CORRECT, (*rows, ("live", f"not tried: {e.message}")))
    except Exception as e:
        return Verdict(NAME, CORRECT, (*rows, ("live", f"not tried: {type(e).__name__}: {e}"[:150])))
    return Verdict(NAME, NOT_YET if wrong else CORRECT, (*rows, ("live", told)), wrong or "")


def _tried(found: Mapping, engine) -> tuple[str, str]:
    """(what the engine did, what is wrong with the settings or ""). An engine that varies though told to be greedy isn't the settings' fault."""
    from gb10.engines.many import many
    from gb10.engines.next_token import plain

    requests = [{"messages": QUESTIONS[use], **plain(engine), **found[use], "max_tokens": 24} for use in SAME for _ in range(2)]
    requests += [{"messages": QUESTIONS[use], **plain(engine), **found[use], "max_tokens": 24, "seed": s} for use in VARIED for s in range(4)]
    requests = [{k: v for k, v in r.items() if k not in ("n", "max_completion_tokens")} for r in requests]
    answers = many(engine, requests, quiet=True)
    told, wrong = [], ""
    for use, given in {"code": answers[:2], "fact": answers[2:4], "haiku": answers[4:8], "brainstorm": answers[8:]}.items():
        if failed := next((a for a in given if isinstance(a, CourseError)), None):
            told.append(f"{use} not tried ({failed.message})")
            continue
        kinds = len({a.text for a in given})
        told.append(f"{use} {kinds} different of {len(given)}")
        if use in SAME and kinds > 1 and not _greedy(found[use]) and "seed" not in found[use]:
            wrong = wrong or f"{use} came out differently the second time: temperature 0, or a seed, makes it the same."
        if use in VARIED and kinds == 1:
            wrong = wrong or f"four answers for {use} with four seeds were one and the same: give it more freedom (a higher temperature, or a weaker filter)."
    return f"{engine.engine}: {'; '.join(told)}", wrong
