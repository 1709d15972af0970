"""Checkers of lesson 05, notebook 2: stubs, solutions, mistakes, odd answers, and engines that vary where they shouldn't."""

import pytest
from lesson05_helpers import from_notebook, place

from gb10 import notebooks, sampling
from gb10.check import lesson05
from gb10.check.lesson05 import many_tokens, settings
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET

from scripted_engine import Scripted  # isort: skip - found through lesson05_helpers

NAMES = ("distinct_share", "settings_for", "majority")
MISTAKES = {"distinct_share": many_tokens._DISTINCT_MISTAKES, "majority": many_tokens._VOTE_MISTAKES}
GOOD = {"code": {"temperature": 0, "max_tokens": 500}, "fact": {"temperature": 0, "max_tokens": 50},
        "haiku": {"temperature": 0.8, "top_p": 0.9, "max_tokens": 60}, "brainstorm": {"temperature": 1.2, "min_p": 0.05, "max_tokens": 300}}


@pytest.fixture(scope="module")
def toy():
    with Scripted() as engine:
        yield place(engine)


def check(name, function, engine=None):
    return getattr(lesson05, name)(function, engine)


@pytest.mark.parametrize("name", NAMES)
def test_the_untouched_stub(name, toy):
    assert check(name, from_notebook("02-", name, notebooks.EXERCISE), toy).status == NOT_ATTEMPTED
    for nothing in (None, ..., lambda *args: None):
        assert check(name, nothing, toy).status == NOT_ATTEMPTED


@pytest.mark.parametrize("name", NAMES)
def test_the_solution(name, toy):
    verdict = check(name, from_notebook("02-", name, notebooks.SOLUTION), toy)
    assert verdict.status == CORRECT, verdict
    assert "not tried" not in dict(verdict.rows)["live"]


def test_the_courses_own_is_right():
    assert check("distinct_share", sampling.distinct).status == CORRECT


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, m in MISTAKES.items() for n in range(len(m))])
def test_each_mistake_has_its_hint(name, number):
    mistake = MISTAKES[name][number]
    verdict = check(name, mistake.function)
    assert verdict.status == NOT_YET
    assert verdict.hint == mistake.hint, verdict


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", [7, [], float("nan"), {"temperature": 1}, object()])
def test_odd_answers_are_not_yet(name, answer):
    assert check(name, lambda *args: answer).status == NOT_YET


@pytest.mark.parametrize("name", NAMES)
def test_what_raises_is_not_yet(name, toy):
    def raises(*args):
        raise KeyError("oops")

    verdict = check(name, raises, toy)
    assert verdict.status == NOT_YET
    assert "oops" in str(verdict)


OBJECTIONS = [
    ("code", {"temperature": 0.9, "max_tokens": 5}, "one right answer"),
    ("fact", {"temperature": 0, "top_p": 0.9, "max_tokens": 5}, "change nothing"),
    ("fact", {"temperature": 0}, "say temperature and max_tokens"),
    ("haiku", {"temperature": 0, "max_tokens": 5}, "surprise"),
    ("haiku", {"temperature": 0.9, "top_k": 1, "max_tokens": 5}, "surprise"),
    ("haiku", {"temperature": 3, "max_tokens": 5}, "out of range"),
    ("haiku", {"temperature": "0.9", "max_tokens": 5}, "out of range"),
    ("haiku", {"temperature": True, "max_tokens": 5}, "out of range"),
    ("haiku", {"temperature": 0.9, "top_k": 1.5, "max_tokens": 5}, "whole number"),
    ("haiku", {"temperature": 0.9, "max_tokens": 20.5}, "whole number"),
    ("haiku", {"temperature": 0.9, "top_p": 0, "max_tokens": 5}, "above 0"),
    ("haiku", {"temperature": float("nan"), "max_tokens": 5}, "JSON"),
    ("haiku", {"temperature": 0.9, "max_tokens": 5, "stop": {1, 2}}, "JSON"),
    ("haiku", {"temperature": 0.9, "max_tokens": 5, "creativity": 11}, "no sampling field"),
    ("brainstorm", {"temperature": 1.4, "max_tokens": 5}, "cuts the tail"),
    ("brainstorm", {"temperature": 0.9, "max_tokens": 5, "seed": 3}, "same answer each time"),
    ("brainstorm", "hot", "dictionary"),
    ("brainstorm", {1: 2}, "dictionary"),
]


@pytest.mark.parametrize(("use", "given", "told"), OBJECTIONS)
def test_contradictory_settings_are_told(use, given, told):
    verdict = check("settings_for", lambda u: given if u == use else GOOD[u])
    assert verdict.status == NOT_YET
    assert told in verdict.hint
    assert verdict.rows[0][1] == f"settings_for({use!r})"


def test_taste_is_not_judged(toy):
    other = {"code": {"temperature": 0.2, "seed": 1, "max_tokens": 9}, "fact": {"temperature": 1.0, "top_k": 1, "max_tokens": 9},
             "haiku": {"temperature": 1.0, "max_tokens": 9, "presence_penalty": -1}, "brainstorm": {"temperature": 0.7, "max_tokens": 9, "n": 5}}
    assert check("settings_for", other.__getitem__, toy).status == CORRECT


def test_answers_that_vary_are_found(toy):
    varied = GOOD | {"fact": {"temperature": 0.3, "max_tokens": 9}}
    assert settings.objection("fact", varied["fact"]) is None
    found = [check("settings_for", varied.__getitem__, toy) for _ in range(3)]
    assert any(v.status == NOT_YET and "second time" in v.hint for v in found)


def test_one_refused_field_leaves_the_others_tried():
    with Scripted(reject={"min_p"}) as engine:
        verdict = check("settings_for", GOOD.__getitem__, place(engine, "engine"))
    assert verdict.status == CORRECT
    live = dict(verdict.rows)["live"]
    assert "code 1 different of 2" in live
    assert "brainstorm not tried" in live


def test_a_filter_that_leaves_one_token_is_found(toy):
    tight = GOOD | {"haiku": {"temperature": 1.0, "top_p": 0.01, "max_tokens": 9}}
    verdict = check("settings_for", tight.__getitem__, toy)
    assert verdict.status == NOT_YET
    assert "haiku" in verdict.hint


@pytest.mark.parametrize("broken", [{"faults": {"max_tokens": "fail"}}, {"faults": {"seed": "drop"}}])
def test_an_engine_that_refuses_or_fails_is_told(broken):
    with Scripted(**broken) as engine:
        verdict = check("settings_for", GOOD.__getitem__, place(engine))
    assert verdict.status == CORRECT
    assert "not tried" in dict(verdict.rows)["live"]


def test_an_engine_that_ignores_temperature_is_not_held_against_code():
    with Scripted(ignore={"temperature"}) as engine:
        verdict = check("settings_for", GOOD.__getitem__, place(engine))
    assert "code came out differently" not in verdict.hint
    assert "code 2 different of 2" in dict(verdict.rows)["live"]
