"""Checkers of lesson 05, notebook 3: prompting."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from gb10.check import live
from gb10.check.lesson05.schema_verdict import verdict_on_schema
from gb10.check.verdict import CORRECT, NOT_YET, Case, Mistake, Verdict, grade, one_number

__all__ = ["few_shot", "prefill_of", "verdict_on_schema"]


# ---------------------------------------------------------------- exercise 1: few-shot

def _few(examples, question):
    out = []
    for asked, answered in examples:
        out += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return [*out, {"role": "user", "content": question}]


def _roles(examples, question, user="user", assistant="assistant", last="user"):
    out = []
    for asked, answered in examples:
        out += [{"role": user, "content": asked}, {"role": assistant, "content": answered}]
    return [*out, {"role": last, "content": question}]


_TWO = [("What is 2 + 2?", "four"), ("What is 3 + 1?", "also four")]
_SHOTS = (
    Case((_TWO, "What is 1 + 1?"), None, "two examples"),
    Case(([], "What is 1 + 1?"), None, "no example: the question alone"),
    Case(([("a", "A")], "b"), None, "one example"),
    Case(([("z", "Z"), ("y", "Y"), ("x", "X")], "w"), None, "three, in their own order"),
    Case(([["Capital of France?", "PARIS"]], "Capital of Peru?"), None, "a pair may be a list"),
)
_SHOT_MISTAKES = (
    Mistake(lambda e, q: [{"role": "user", "content": "\n".join([f"{a}\n{b}" for a, b in e] + [q])}],
            "that is one long message. Asked are separate turns: each example is a message of the user and one of the assistant."),
    Mistake(lambda e, q: _roles(e, q, user="user", assistant="user"), "the answers of the examples come from the assistant: that is the voice to be copied."),
    Mistake(lambda e, q: _roles(e, q, user="assistant", assistant="user"), "the wrong way round: the user asks, the assistant answers."),
    Mistake(lambda e, q: _roles(e, q, user="system", assistant="system"), "no system messages here: an example looks like a turn that has happened."),
    Mistake(lambda e, q: _roles(e, q, last="assistant"), "the question comes from the user; an assistant's message at the end would be taken for an answer."),
    Mistake(lambda e, q: _few(e, q)[:-1], "the question itself is missing: it is the last message."),
    Mistake(lambda e, q: [_few(e, q)[-1], *_few(e, q)[:-1]], "the question comes last: the model continues what stands at the end."),
    Mistake(lambda e, q: _few(list(reversed(list(e))), q), "keep the order of the examples."),
    Mistake(lambda e, q: _few(list(e)[:1], q), "all examples, not the first alone."),
    Mistake(lambda e, q: [*_few(e, q), {"role": "assistant", "content": ""}], "no empty answer at the end: the chat template opens the assistant's turn."),
    Mistake(lambda e, q: [m["content"] for m in _few(e, q)], "a message is a dictionary with a role and a content."),
    Mistake(lambda e, q: [{"role": r, "content": c} for a, b in e for r, c in (("user", a), ("assistant", b))] + [q],
            "the question is a message, too: {\"role\": \"user\", \"content\": question}."),
)


def few_shot(function: Callable, engine=None) -> Verdict:
    """few_shot(examples, question) -> messages: each example (question, answer) as a turn of the user and one of the assistant, then the question.

    engine: what connect() returned; it counts the tokens of the messages."""
    cases = [Case(c.args, _few(*c.args), c.name) for c in _SHOTS]
    verdict = grade("few_shot", function, cases, mistakes=_SHOT_MISTAKES,
                    hint='for each pair append {"role": "user", "content": question} and {"role": "assistant", "content": answer}; the question last.',
                    done="to the model it looks as if it had answered so all along.")
    if verdict.status == CORRECT:
        examples = [tuple(pair) for pair in _TWO]
        try:
            for _ in range(2):           # a second call shows a list that grows from call to call
                got = list(function(examples, "again"))
            kept = examples == _TWO and got == _few(_TWO, "again")
        except (Exception, SystemExit):  # noqa: BLE001 - a learner's code
            kept = False
        if not kept:
            return Verdict("few_shot", NOT_YET, (("call", "few_shot(examples, …), twice with the same list"),),
                           "the second call gives something else: begin with a new list each time, and leave the examples as they are.")

    def trial():
        run = uuid.uuid4().hex[:6]
        examples = [(f"What is item {i} of {run}?", f"Item {i}.") for i in range(3)]
        messages = live.yours(lambda: list(function(examples, "What is item 9?")))
        alone, wanted, got = (_prompt_tokens(engine, m) for m in (_few([], "What is item 9?"), _few(examples, "What is item 9?"), messages))
        if None in (alone, wanted, got):
            return "this engine doesn't count the tokens of a prompt", None, None
        return f"{engine.engine}: the question alone makes a prompt of {alone} tokens, with your three examples it has {got}", got, float(wanted)

    return live.confirm(verdict, engine, trial, "right on paper, yet the engine counts another number of tokens: does it work for any examples?", rel=0)


def _prompt_tokens(engine, messages) -> int | None:
    from gb10.engines.talk import ThoughtItAll, chat

    try:
        usage = chat(engine, messages, max_tokens=1).usage
    except ThoughtItAll as e:            # one token of a thought: the prompt was read all the same
        usage = e.usage
    return (usage or {}).get("prompt_tokens")


# ---------------------------------------------------------------- exercise 3: prefill of a conversation

def _prefill(turns, system, cached):
    total, before = 0, 0
    for number, (question, answer) in enumerate(turns):
        new = question + (system if number == 0 else 0)
        total += new if cached else before + new
        before += new + answer
    return total


def _without_cache(turns, system, each):
    """Sum over turns of each(system, questions and answers so far, question, answer)."""
    return sum(each(system, turns[:i], q, a) for i, (q, a) in enumerate(turns))


_TALKS = (
    Case(([(10, 50), (20, 60), (30, 70)], 100, False), 110 + 180 + 270, "three turns, no cache"),
    Case(([(10, 50), (20, 60), (30, 70)], 100, True), 160, "the same, perfect cache"),
    Case(([(25, 200)], 40, False), 65, "one turn: nothing repeats"),
    Case(([(25, 200)], 40, True), 65, "one turn, cached: the first prompt is always computed"),
    Case(([(8, 30)] * 10, 0, False), None, "ten turns without a system prompt"),
    Case(([(8, 30)] * 10, 0, True), 80, "the same, cached"),
    Case(([(12, 300), (900, 40), (7, 7), (1, 1)], 2000, False), None, "a long system prompt, a pasted file"),
    Case(([(12, 300), (900, 40), (7, 7), (1, 1)], 2000, True), 2920, "the same, cached"),
)
_PREFILL_MISTAKES = (
    Mistake(lambda t, s, c: _prefill(t, s, False), "with cached=True only what was never read or written before is computed."),
    Mistake(lambda t, s, c: _prefill(t, s, True), "without a cache, each request computes its whole prompt again: all that was said before, and the new question."),
    Mistake(lambda t, s, c: _prefill(t, s, not c), "the wrong way round: a cache saves work."),
    Mistake(lambda t, s, c: _prefill(t, s, True) if c else _without_cache(t, s, lambda s, b, q, a: s + sum(x for x, _ in b) + q),
            "the answers are sent again as well: they stand in the messages of the next turns."),
    Mistake(lambda t, s, c: _prefill(t, s, True) if c else _without_cache(t, s, lambda s, b, q, a: s + sum(map(sum, b)) + q + a),
            "the answer of a turn isn't in its own prompt: it comes after it, in decode."),
    Mistake(lambda t, s, c: _prefill(t, s, True) if c else s + _without_cache(t, 0, lambda s, b, q, a: sum(map(sum, b)) + q),
            "the system prompt is sent with every turn."),
    Mistake(lambda t, s, c: _prefill(t, s, True) if c else s + sum(map(sum, t[:-1])) + t[-1][0],
            "that is the last prompt alone; asked is the sum over all of them."),
    Mistake(lambda t, s, c: _prefill(t, s, True) + sum(a for _, a in t[:-1]) if c else _prefill(t, s, False),
            "the keys and values of an answer were computed while it was written: a perfect cache knows the answers, too."),
    Mistake(lambda t, s, c: _prefill(t, s, True) + s * (len(t) - 1) if c else _prefill(t, s, False), "the system prompt is known after the first turn."),
    Mistake(lambda t, s, c: sum(q for q, _ in t) if c else _prefill(t, s, False), "the first turn has to read the system prompt, cache or not."),
    Mistake(lambda t, s, c: _prefill(t, s, c) + sum(a for _, a in t), "answers are decode, not prefill: count what stands in the prompts."),
)


def prefill_of(function: Callable, engine=None) -> Verdict:
    """prefill_of(turns, system, cached) -> prompt tokens computed over a conversation; turns: [(question tokens, answer tokens), …].

    engine: what connect() returned; a conversation of three turns is held with it."""
    cases = [Case(c.args, _prefill(*c.args), c.name) for c in _TALKS]
    verdict = grade("prefill_of", one_number(function), cases, mistakes=_PREFILL_MISTAKES,
                    hint="go through the turns and keep count of what was said so far: a prompt is that, and the new question. Without a cache add the whole "
                         "prompt, with one only its new part.",
                    done="twice the turns: four times the work without a cache, twice with it.")

    def trial():
        counts = _talk(engine)
        if counts is None:
            return "this engine doesn't count tokens", None, None
        prompts, answers = zip(*counts, strict=True)
        questions = [prompts[0], *(after - before - answer for before, after, answer in zip(prompts, prompts[1:], answers, strict=False))]
        if min(questions) < 1:
            return (f"the prompts of three turns have {', '.join(map(str, prompts))} tokens, so the answers ({', '.join(map(str, answers))}) don't come back "
                    f"whole: a model that thinks isn't sent its reasoning again"), None, None
        turns = list(zip(questions, answers, strict=True))
        got = live.yours(function, turns, 0, False)
        told = f"three turns with {engine.engine}, prompts of {', '.join(map(str, prompts))} tokens: together {sum(prompts)}; your function says {got!r}"
        return told, got, float(sum(prompts))

    return live.confirm(verdict, engine, trial, "right on paper, yet not on the tokens of a real conversation.", rel=0)


def _talk(engine) -> list[tuple[int, int]] | None:
    """(prompt tokens, answer tokens) of three turns, as the engine counts them."""
    from gb10.engines.next_token import plain
    from gb10.engines.talk import chat

    messages, counts = [], []
    for question in ("What does len do?", "What does sorted do?", "What does print do?"):
        messages.append({"role": "user", "content": question})
        answer = chat(engine, messages, max_tokens=40, **plain(engine))
        messages.append({"role": "assistant", "content": answer.text})
        if not answer.usage or not answer.usage.get("prompt_tokens"):
            return None
        counts.append((answer.usage["prompt_tokens"], answer.usage.get("completion_tokens") or 0))
    return counts
