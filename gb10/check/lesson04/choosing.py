"""Checkers of lesson 04, notebook 2: which engine."""

from __future__ import annotations

from collections.abc import Callable

from gb10.check import live
from gb10.check.verdict import Case, Mistake, Verdict, grade, one_number

# ---------------------------------------------------------------- exercise 4: which engines remain

_OFFERS = (("alpha", {"gguf", "own"}), ("beta", {"nvfp4", "users", "json", "own"}), ("gamma", {"users", "json", "own"}),
           ("delta", {"nvfp4", "users", "support"}))


def _choose(needs, offers, test=lambda needs, has: needs <= has):
    return [name for name, has in offers if test(set(needs), has)]


_NEEDS = (
    Case((["nvfp4", "users"], list(_OFFERS)), None, "two needs, two engines"),
    Case((["users"], list(_OFFERS)), None, "one need"),
    Case((["users", "json", "own"], list(_OFFERS)), None, "three needs"),
    Case((["nvfp4", "support"], list(_OFFERS)), None, "one engine"),
    Case((["gguf", "support"], list(_OFFERS)), None, "nobody has both"),
    Case((["gguf", "own", "json"], list(_OFFERS)), None, "one has two of the three"),
    Case(([], list(_OFFERS)), None, "nothing asked: everybody remains"),
    Case((["json", "json"], list(reversed(_OFFERS))), None, "the same need twice, another order"),
)
_CHOOSE_MISTAKES = (
    Mistake(lambda n, o: _choose(n, o, lambda needs, has: bool(needs & has) or not needs),
            "one need met is not enough: every need has to be among what the engine has."),
    Mistake(lambda n, o: _choose(n, o, lambda needs, has: bool(needs & has)),
            "one need met is not enough: every need has to be among what the engine has. (And with nothing asked, nobody falls out.)"),
    Mistake(lambda n, o: _choose(n, o, lambda needs, has: has <= needs),
            "the other way round: the needs have to be a part of what the engine has, which may have more."),
    Mistake(lambda n, o: _choose(n, o, lambda needs, has: needs == has), "an engine may have more than is asked."),
    Mistake(lambda n, o: _choose(n, o, lambda needs, has: not needs <= has), "those are the ones that fall out."),
    Mistake(lambda n, o: _choose(n, o)[:1], "return all that remain; which of them is best, you measure."),
    Mistake(lambda n, o: (_choose(n, o) or [None])[0], "return a list with the names of all that remain; an empty list where nobody does."),
    Mistake(lambda n, o: sorted(_choose(n, o)), "keep the order in which they are offered."),
    Mistake(lambda n, o: [(name, has) for name, has in o if set(n) <= has], "the names alone, without what they have."),
)


def choose(function: Callable) -> Verdict:
    """choose(needs, offers) -> names of the engines that have all needs, in the order of the offers."""
    cases = [Case(c.args, _choose(*c.args), c.name) for c in _NEEDS]
    return grade("choose", function, cases, mistakes=_CHOOSE_MISTAKES,
                 hint="go through the offers; keep a name if each need is in its set. Return a list of names.",
                 done="needs cut the list down, and what remains is a question for measurement.")


# ---------------------------------------------------------------- exercise 5: people

def _people(tps, tokens, answer, pause):
    return tps / tokens * (answer + pause)


_PEOPLE = (
    Case((320.0, 160, 4.0, 0.0), 8.0, "no pause: the requests in flight"),
    Case((320.0, 160, 4.0, 26.0), 60.0, "they read for 26 s"),
    Case((36.0, 300, 8.5, 60.0), _people(36.0, 300, 8.5, 60.0), "one Spark, one stream at a time"),
    Case((1000.0, 50, 0.4, 9.6), 200.0, "short answers"),
    Case((200.0, 400, 20.0, 0.0), 10.0, "long answers, no pause"),
)
_PEOPLE_MISTAKES = (
    Mistake(lambda x, n, r, z: x / n * r, "that many requests are in flight. A person who reads is still there: a round takes answer_s + pause_s."),
    Mistake(lambda x, n, r, z: x / n * z, "a round is the answer and the pause: both belong into it."),
    Mistake(lambda x, n, r, z: x * (r + z), "that counts tokens. Divide tokens per second by the tokens of an answer, and you have answers per second."),
    Mistake(lambda x, n, r, z: x * r, "that counts tokens, and leaves out the pause."),
    Mistake(lambda x, n, r, z: x / n, "those are answers per second. How many people ask for so many, if each needs one per round?"),
    Mistake(lambda x, n, r, z: n / x * (r + z), "answers per second are tokens per second over tokens, not the other way round."),
    Mistake(lambda x, n, r, z: x / n / (r + z), "multiply by the time of a round: the longer a person's round, the more people share the engine."),
    Mistake(lambda x, n, r, z: int(x / n * (r + z)), "don't round: 60.9 people are a figure to plan with, too."),
)


def people(function: Callable, engine=None) -> Verdict:
    """people(tokens_per_s, answer_tokens, answer_s, pause_s) -> people that keep the engine at this rate (Little's law)."""
    verdict = grade("people", one_number(function), _PEOPLE, mistakes=_PEOPLE_MISTAKES, rel=1e-6,
                    hint="answers per second = tokens_per_s / answer_tokens; each person takes one per round of answer_s + pause_s.",
                    done="with no pause it is the number of requests in flight: throughput times latency.")

    def trial():
        from gb10 import bench

        row = bench.measure(engine.url, model=engine.model, concurrency=4, requests=12, max_tokens=24, warmup=0).rows[0]
        if not row["ok"]:
            return f"12 requests were sent and all failed ({', '.join(row['errors'])})", None, None
        figures = (row["system_tps_whole_run"], row["output_tokens"] / row["ok"], row["e2e_ms"]["mean"] / 1000, 0.0)
        got = live.yours(function, *figures)
        told = (f"4 requests in flight all the time, {row['ok']} answers: {figures[0]:.4g} tokens/s, {figures[1]:.4g} tokens in "
                f"{figures[2]:.3g} s each; your function says {_number(got)} in flight")
        return told, got, _people(*figures)

    return live.confirm(verdict, engine, trial, "right on paper, yet not on the figures of a run: does it return a plain number for any input?")


def _number(value) -> str:
    try:
        return f"{float(value):.3g}"
    except (TypeError, ValueError):
        return repr(value)[:60]


# ---------------------------------------------------------------- exercise 6: share of a prompt that was cached

def _reading(hits, queries):
    return {"hits": hits, "queries": queries}


def _share(before, after):
    asked = after["queries"] - before["queries"]
    return (after["hits"] - before["hits"]) / asked if asked else 0.0


_READINGS = (
    Case((_reading(0, 0), _reading(0, 1500)), 0.0, "a first prompt: nothing known"),
    Case((_reading(0, 1500), _reading(1408, 3000)), 1408 / 1500, "the same prompt again, 11 blocks of 128 known"),
    Case((_reading(15360, 54825), _reading(15360, 56325)), 0.0, "a long-running engine, a new prompt"),
    Case((_reading(15360, 54825), _reading(16000, 56105)), 0.5, "a long-running engine, half of it known"),
    Case((_reading(7, 9), _reading(7, 9)), 0.0, "nothing was asked meanwhile: say 0"),
)
_SHARE_MISTAKES = (
    Mistake(lambda b, a: a["hits"] / a["queries"] if a["queries"] else 0.0,
            "that is the share since the engine started. Counters only grow: subtract the reading before."),
    Mistake(lambda b, a: a["hits"] - b["hits"], "those are tokens; divide by the tokens that were looked up meanwhile."),
    Mistake(lambda b, a: (a["queries"] - b["queries"]) / (a["hits"] - b["hits"]) if a["hits"] != b["hits"] else 0.0, "upside down: hits over queries."),
    Mistake(lambda b, a: 100 * _share(b, a), "right, in per cent; asked is a share from 0 to 1."),
    Mistake(lambda b, a: 1 - _share(b, a), "that share was not known; asked is the share that was."),
    Mistake(lambda b, a: (a["hits"] - b["hits"]) / a["queries"] if a["queries"] else 0.0, "subtract for both counters, queries too."),
    Mistake(lambda b, a: a["hits"] / a["queries"] - (b["hits"] / b["queries"] if b["queries"] else 0.0) if a["queries"] else 0.0,
            "a difference of two averages is not the average of the difference: subtract the counters first, then divide."),
)


def cached_share(function: Callable, engine=None) -> Verdict:
    """cached_share(before, after) -> share of the prompt tokens between two readings of /metrics that the cache knew."""
    verdict = grade("cached_share", one_number(function), _READINGS, mistakes=_SHARE_MISTAKES, rel=1e-6, absolute=1e-12,
                    hint="both counters grow from the start of the engine: (hits now - hits before) / (queries now - queries before), and 0 where "
                         "nothing was looked up.",
                    done="this is how a dashboard computes the hit rate of any window of time.")

    def trial():
        from gb10.engines import gauges

        prompt = live.long_prompt()
        _ask(engine, prompt)
        before = gauges.read(engine.url)
        if before is None or before.hits is None or before.queries is None:
            return "this engine doesn't tell its prefix cache on a metrics page", None, None
        tokens = _ask(engine, prompt)
        after = gauges.read(engine.url)
        readings = [_reading(g.hits, g.queries) for g in (before, after)]
        got = live.yours(function, *readings)
        return (f"a prompt of {tokens} tokens, sent twice: the second time the engine found {after.hits - before.hits:.0f} of them; your "
                f"function says {_number(got)}"), got, _share(*readings)

    return live.confirm(verdict, engine, trial, "right on paper, yet not on the engine's counters, which are floats: does it work for those?")


def _ask(engine, prompt: str) -> int:
    """Prompt tokens, as the engine counts them."""
    from gb10.engines.talk import ThoughtItAll, chat

    try:
        usage = chat(engine, prompt, max_tokens=4).usage
    except ThoughtItAll as e:            # four tokens of thought: the prompt was read all the same
        usage = e.usage
    return (usage or {}).get("prompt_tokens", 0)
