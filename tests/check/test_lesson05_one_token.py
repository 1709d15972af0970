"""Checkers of lesson 05, notebook 1: stubs, solutions, mistakes, odd answers, and draws of engines that honour, ignore and refuse."""

import numpy as np
import pytest
from lesson05_helpers import from_notebook, place

from gb10 import notebooks, sampling
from gb10.check import lesson05
from gb10.check.lesson05 import one_token
from gb10.check.lesson05 import one_token_mistakes as wrong
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET

from scripted_engine import Scripted  # isort: skip - found through lesson05_helpers

MISTAKES = {"with_temperature": wrong.TEMPERATURE, "keep_top_k": wrong.TOP_K, "keep_top_p": wrong.TOP_P, "keep_min_p": wrong.MIN_P,
            "penalized": wrong.PENALTIES}
OURS = {"with_temperature": sampling.temperature, "keep_top_k": sampling.top_k, "keep_top_p": sampling.top_p, "keep_min_p": sampling.min_p,
        "penalized": lambda row, prompt, output, r, p, f: sampling.penalize(row, prompt, output, r, p, f)}


@pytest.fixture(scope="module")
def toy():
    with Scripted() as engine:
        yield place(engine)


def check(name, function, engine=None):
    return getattr(lesson05, name)(function, engine)


@pytest.mark.parametrize("name", MISTAKES)
def test_the_untouched_stub(name, toy):
    assert check(name, from_notebook("01-", name, notebooks.EXERCISE), toy).status == NOT_ATTEMPTED
    for nothing in (None, ...):
        assert check(name, nothing, toy).status == NOT_ATTEMPTED


@pytest.mark.parametrize("name", MISTAKES)
def test_the_solution(name, toy):
    verdict = check(name, from_notebook("01-", name, notebooks.SOLUTION), toy)
    assert verdict.status == CORRECT, verdict
    live = dict(verdict.rows)["live"]
    assert "not tried on toy" in live if name == "penalized" else "against your prediction: 120 draws" in live, live


@pytest.mark.parametrize("name", MISTAKES)
def test_other_right_answers(name):
    for kind in (lambda a: a, list, tuple, lambda a: a.astype(np.float32)):
        assert check(name, lambda *args, kind=kind: kind(OURS[name](*args))).status == CORRECT


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, m in MISTAKES.items() for n in range(len(m))])
def test_each_mistake_has_its_hint(name, number):
    mistake = MISTAKES[name][number]
    verdict = check(name, mistake.function)
    assert verdict.status == NOT_YET
    assert verdict.hint == mistake.hint, verdict


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("answer", [7, "no", [], [float("nan")] * 7, np.zeros((2, 7)), {}, object(), lambda: 1])
def test_odd_answers_are_not_yet(name, answer):
    assert check(name, lambda *args: answer).status == NOT_YET


@pytest.mark.parametrize("name", MISTAKES)
def test_what_raises_is_not_yet(name, toy):
    def raises(*args):
        raise ZeroDivisionError("oops")

    verdict = check(name, raises, toy)
    assert verdict.status == NOT_YET
    assert "oops" in str(verdict)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_changed_argument_is_told(name):
    def spoils(row, *args):
        out = OURS[name](row.copy(), *args)
        row[:] = 0
        return out

    verdict = check(name, spoils)
    assert verdict.status == NOT_YET
    assert "copy" in verdict.hint


FIELDS = {"with_temperature": "temperature", "keep_top_k": "top_k", "keep_top_p": "top_p", "keep_min_p": "min_p"}


@pytest.mark.parametrize("name", FIELDS)
def test_an_engine_that_ignores_the_field_is_told(name):
    with Scripted(ignore={FIELDS[name]}) as engine:
        verdict = check(name, OURS[name], place(engine))
    assert verdict.status == CORRECT
    live = dict(verdict.rows)["live"]
    assert "Not held against you" in live or "not tried" in live, live


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("broken", [{"reject": {"top_k"}}, {"reject": {"logprobs"}}, {"ignore": {"logprobs", "top_logprobs"}},
                                    {"faults": {"logprobs": "drop"}}, {"faults": {"seed": "fail"}}])
def test_an_engine_that_refuses_or_fails_is_told(name, broken):
    with Scripted(**broken) as engine:
        verdict = check(name, OURS[name], place(engine))
    assert verdict.status == CORRECT
    assert "not tried" in dict(verdict.rows)["live"]


def test_right_on_the_cases_and_wrong_on_the_engine(toy):
    """Whoever answers the cases by heart is found by the draws."""
    known = {str(args): OURS["keep_top_k"](*args) for args in ((one_token.ROW, k) for k in (2, 1, 4, 0, -1, 7, 50))}
    verdict = check("keep_top_k", lambda row, k: known.get(str((row, k)), np.asarray(row)), toy)
    assert verdict.status == NOT_YET
    assert "draws don't fit" in verdict.hint
