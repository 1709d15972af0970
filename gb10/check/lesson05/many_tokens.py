"""Checkers of lesson 05, notebook 2: how different answers are, settings for a use, and a vote. The settings are judged in settings.py."""

from __future__ import annotations

from collections.abc import Callable

from gb10.check import live
from gb10.check.lesson05.settings import settings_for
from gb10.check.verdict import Case, Mistake, Verdict, grade

__all__ = ["distinct_share", "majority", "settings_for"]
PROMPT = "Tell me about strings."


# ---------------------------------------------------------------- exercise 1: distinct-n

def _distinct(texts, n, *, lower=True, per_text=False, joined=False, split=None):
    def grams(text):
        w = (text.lower() if lower else text).split(split)
        return [tuple(w[i:i + n]) for i in range(len(w) - n + 1)]

    if per_text:
        shares = [len(set(g)) / len(g) for g in map(grams, texts) if g]
        return sum(shares) / len(shares) if shares else 0.0
    found = grams(" ".join(texts)) if joined else [g for t in texts for g in grams(t)]
    return len(set(found)) / len(found) if found else 0.0


_TEXTS = (
    Case((["a b c d"], 1), None, "all different"), Case((["a b a b a"], 1), None, "two of five"),
    Case((["a b c", "a b c"], 2), None, "twice the same text"), Case((["The end", "the END"], 1), None, "case doesn't count"),
    Case((["a b", "c d"], 2), None, "a pair doesn't reach from one text into the next"), Case((["a  b\nc", "a b"], 2), None, "blanks and line ends"),
    Case((["a", ""], 2), None, "too short for a pair: 0"), Case(([], 1), None, "no texts: 0"), Case((["a b c a b c d", "d a b c"], 3), None, "triples"),
)
_DISTINCT_MISTAKES = (
    Mistake(lambda t, n: _distinct(t, n, per_text=True), "count over all texts together: two answers that say the same are half as different as one."),
    Mistake(lambda t, n: _distinct(t, n, joined=True), "an n-gram begins and ends within one text: don't join the texts first."),
    Mistake(lambda t, n: _distinct(t, n, lower=False), "make the words lower case: The and the are one word here."),
    Mistake(lambda t, n: _distinct(t, n, split=" "), "split at any blank space: text.split() without an argument takes line ends and runs of blanks, too."),
    Mistake(lambda t, n: _distinct(t, 1), "n words in a row make an n-gram; these are single words."),
    Mistake(lambda t, n: 1 - _distinct(t, n), "that is the share that is said again; asked is the share that is different."),
)


def distinct_share(function: Callable, engine=None) -> Verdict:
    """distinct_share(texts, n) -> the share of different n-grams among all n-grams of all texts; 0 if there is none."""
    verdict = grade("distinct_share", function, [Case(c.args, _distinct(*c.args), c.name) for c in _TEXTS], mistakes=_DISTINCT_MISTAKES,
                    hint="words: text.lower().split(). n-grams: n neighbouring words, as tuples. Divide the number of different ones "
                         "(a set) by the number of all of them, over all texts; 0 if there are none.",
                    done="this is distinct-n, as papers on text generation report it.")

    def trial():
        from gb10 import sampling

        texts = [a.text for a in _answers(engine, 6, temperature=1.0)]
        return (f"six answers of {engine.engine} at temperature 1: distinct-2 is {sampling.distinct(texts, 2):.2f}",
                live.yours(function, list(texts), 2), sampling.distinct(texts, 2))

    return live.confirm(verdict, engine, trial, "on answers of the engine your function gives another number: print them.", rel=1e-6)


def _answers(engine, n: int, **fields) -> list:
    """n seeded answers; what failed is left out. Raises WorkFailed if all did."""
    from gb10.engines.many import many
    from gb10.engines.next_token import plain
    from gb10.errors import CourseError

    found = many(engine, [{"messages": PROMPT, "max_tokens": 24, "seed": s, **plain(engine), **fields} for s in range(n)], quiet=True)
    good = [a for a in found if not isinstance(a, CourseError)]
    if not good:
        raise found[0]
    return good


# ---------------------------------------------------------------- exercise 3: a vote

def _norm(text: str) -> str:
    return " ".join(text.lower().split()).removesuffix(".")


def _vote(answers, *, norm=_norm, last=False, empty=False, normalised=False):
    votes: dict = {}
    for a in answers:
        if norm(a) or empty:
            votes.setdefault(norm(a), []).append(a)
    if not votes:
        return ""
    keys = list(votes)
    best = max(reversed(keys) if last else keys, key=lambda k: len(votes[k]))
    return best if normalised else votes[best][0]


_VOTES = (
    Case((["B", "A", "A"],), None, "two against one"), Case((["Paris.", "London", " paris", "PARIS"],), None, "written differently, meant alike"),
    Case((["x", "y", "y", "x"],), None, "a tie: the one that came first"), Case((["", " ", "", "42"],), None, "empty answers have no vote"),
    Case((["a  b", "c", "a\nb"],), None, "blanks and line ends"), Case((["", ""],), None, "nobody said anything"), Case(([],), None, "no answers"),
    Case((["one", "Two.", "two"],), None, "give the answer back as it was written first"),
)
_VOTE_MISTAKES = (
    Mistake(lambda a: _vote(a, norm=lambda t: t), "compare what is meant, not how it is written: lower case, single blanks, no full stop at the end."),
    Mistake(lambda a: _vote(a, last=True), "in a tie the answer that came first wins."),
    Mistake(lambda a: _vote(a, empty=True), "an empty answer has no vote: it says that something failed, not what is right."),
    Mistake(lambda a: _vote(a, normalised=True), "give the winner back as it was written the first time, not in its lower-case form."),
    Mistake(lambda a: next((x for x in a if x.strip()), ""), "that is the first answer: count how often each occurs."),
    Mistake(lambda a: max(a, key=len, default=""), "that is the longest answer: count how often each occurs."),
)


def majority(function: Callable, engine=None) -> Verdict:
    """majority(answers) -> the most frequent answer, as it was first written; blanks, case and a full stop at the end don't count."""
    verdict = grade("majority", function, [Case(c.args, _vote(*c.args), c.name) for c in _VOTES], mistakes=_VOTE_MISTAKES,
                    hint="bring each answer into one form (lower case, single blanks, no full stop at the end), count the forms that aren't empty, and "
                         "return the first answer that has the most frequent form; '' if there is none.",
                    done="self-consistency is this vote over sampled answers.")

    def trial():
        texts = [a.text for a in _answers(engine, 5, temperature=0.7)]
        same = live.yours(function, list(texts)) == _vote(texts)
        return f"five answers of {engine.engine} at temperature 0.7: {len({_norm(t) for t in texts})} different ones", float(same), 1.0

    return live.confirm(verdict, engine, trial, "on five answers of the engine another one wins: print them.")
