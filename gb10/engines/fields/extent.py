"""Experiments on what is asked and how far the answer goes: model, messages, limits, stops, streams, copies."""

from __future__ import annotations

from gb10.engines.fields.lab import OTHERS, QUESTION, SHORT, Lab, quote, same
from gb10.engines.fields.rows import HONOURED, IGNORED, REJECTED, Undecided

NOBODY = "gb10-no-such-model"
IDS = list(range(2048))          # the commonest tokens of any vocabulary are among them
MORE = 8


def model(lab: Lab):
    if not lab.send_model:
        return REJECTED, "the served name itself is refused; without a name there is an answer", 400
    reply = lab.ask(tokens=2, model=NOBODY)
    if reply.status == 200:
        return IGNORED, f"a model that does not exist, {NOBODY}, answers", 200
    if 400 <= reply.status < 500:
        return HONOURED, f"a name that is not served is refused: {quote(reply.error, 60)}", reply.status
    raise Undecided(f"the engine failed: {reply.error}", reply.status)


def messages(lab: Lab):
    a, b = lab.greedy(QUESTION), lab.greedy(OTHERS[0])
    if same(a.text(), b.text()):
        return IGNORED, f"two questions get the same answer, {quote(a.text())}", b.status
    return HONOURED, f"{quote(QUESTION)} gets {quote(a.text(), 24)}, another question another answer", b.status


def _limit(lab: Lab, name: str):
    """An answer of 2 tokens that is cut off."""
    reply = lab.good(SHORT, **{name: 2})
    n = reply.count("completion_tokens")
    if n is None:
        raise Undecided("the engine does not count tokens", reply.status)
    if n <= 2 and reply.finish == "length":
        return HONOURED, f"the answer stops after {n} tokens, finish_reason is length", reply.status
    if n <= 2:
        raise Undecided(f"the answer ended by itself after {n} tokens", reply.status)
    return IGNORED, f"asked for 2 tokens at most, got {n}", reply.status


def max_tokens(lab: Lab):
    return _limit(lab, "max_tokens")


def max_completion_tokens(lab: Lab):
    return _limit(lab, "max_completion_tokens")


def stop(lab: Lab):
    """A word from the middle of the greedy text ends the answer before it."""
    lab.need("temperature")
    whole = lab.greedy().text()
    at = next((i for i in range(len(whole) // 3, len(whole) - 4)
               if whole[i : i + 4].strip() == whole[i : i + 4] and whole.find(whole[i : i + 4]) == i), None)
    if at is None:
        raise Undecided("the greedy answer is too short to cut")
    word = whole[at : at + 4]
    reply = lab.good(temperature=0, stop=[word])
    got = reply.text()
    if got.rstrip() == whole[:at].rstrip():
        return HONOURED, f"the answer ends before {quote(word)}", reply.status
    if same(got, whole) and len(got) >= len(whole) - 2:
        return IGNORED, f"the answer goes on past {quote(word)}", reply.status
    if got.startswith(whole[:at]) and len(got) < len(whole):
        return HONOURED, f"the answer ends at {quote(word)}, but the word stays in the text", reply.status
    raise Undecided(f"the answer became another one: {quote(got)}", reply.status)


def stop_token_ids(lab: Lab):
    lab.need("temperature")
    whole, reply = lab.greedy().text(), lab.good(temperature=0, stop_token_ids=IDS)
    if same(reply.text(), whole) and len(reply.text()) >= len(whole) - 2:
        return IGNORED, f"the answer goes on to {quote(whole[-24:])}", reply.status
    if whole.startswith(reply.text().rstrip()):
        return HONOURED, f"the answer ends after {quote(reply.text()) if reply.text() else 'nothing'}", reply.status
    raise Undecided(f"the answer became another one: {quote(reply.text())}", reply.status)


def ignore_eos(lab: Lab):
    """An answer that ends by itself goes on to the limit."""
    lab.need(lab.limit or "max_tokens")
    question, ended = lab.ended()
    n = ended.count("completion_tokens")
    reply = lab.good(question, n + MORE, **lab.calm(), ignore_eos=True)
    got = reply.count("completion_tokens")
    if got == n + MORE:
        return HONOURED, f"an answer of {n} tokens goes on to the limit of {got}", reply.status
    return IGNORED, f"the answer ends after {got} tokens as without it", reply.status


def min_tokens(lab: Lab):
    lab.need(lab.limit or "max_tokens")
    question, ended = lab.ended()
    n = ended.count("completion_tokens")
    reply = lab.good(question, n + 2 * MORE, **lab.calm(), min_tokens=n + MORE)
    got = reply.count("completion_tokens") or 0
    if got >= n + MORE:
        return HONOURED, f"an answer of {n} tokens becomes one of {got}", reply.status
    return IGNORED, f"asked for at least {n + MORE} tokens, got {got}", reply.status


def n(lab: Lab):
    reply = lab.good(tokens=2, n=2, **({"temperature": 1.0} if lab.calm() else {}))
    if len(reply.choices) == 2:
        return HONOURED, "two choices come back", reply.status
    return IGNORED, f"asked for 2 choices, got {len(reply.choices)}", reply.status


def stream(lab: Lab):
    reply = lab.good(tokens=4, stream=True)
    if reply.events > 1:
        return HONOURED, f"the answer comes in {reply.events} events", reply.status
    return IGNORED, "the answer comes in one piece", reply.status


def include_usage(lab: Lab):
    """The count comes when it is asked for, and only then."""
    lab.need("stream")
    not_asked, asked = (lab.good(tokens=4, stream=True, stream_options={"include_usage": on}) for on in (False, True))
    if not asked.usage:
        return IGNORED, "asked for, and no usage comes", asked.status
    if not_asked.usage:
        return IGNORED, "the usage comes whether it is asked for or not", not_asked.status
    return HONOURED, f"the last event counts {asked.count('completion_tokens')} tokens; without it none does", asked.status


FIRST = (
    ("model", f'"{NOBODY}"', model),
    ("max_tokens", "2", max_tokens),
    ("max_completion_tokens", "2", max_completion_tokens),
    ("stream", "true", stream),
    ("stream_options.include_usage", "true, false", include_usage),
)
# These compare greedy answers: temperature goes before them.
THEN = (
    ("messages", "two questions", messages),
    ("stop", "a word of the greedy answer", stop),
    ("stop_token_ids", f"0 to {IDS[-1]}", stop_token_ids),
    ("ignore_eos", "true", ignore_eos),
    ("min_tokens", f"{MORE} more than the answer has", min_tokens),
    ("n", "2", n),
)
