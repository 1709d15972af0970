"""Every checker of lesson 03, notebook 4: the untouched stub, the solution, each plausible mistake, NaN and an exception."""

import math

import pytest

from gb10 import notebooks
from gb10.check import lesson03
from gb10.check.lesson03 import audit
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET

EXERCISES = {
    "same_work": (audit.same_work, audit._RUN_MISTAKES),
    "paired_interval": (audit.paired_interval, audit._PAIR_MISTAKES),
    "manifest_has_arm64": (audit.manifest_has_arm64, audit._MANIFEST_MISTAKES),
}


def from_notebook(name, kind):
    """The function as the derived notebook defines it."""
    source = next(s for s in notebooks.sources("03") if s.stem.startswith("04-"))
    cell = next(c for c in notebooks.derive(source, kind).cells if c.source.startswith(f"def {name}("))
    scope = {}
    exec(cell.source, scope)  # noqa: S102 - our own notebook
    return scope[name]


def test_they_are_found_under_the_lessons_name():
    assert all(getattr(lesson03, name) is check for name, (check, _) in EXERCISES.items())
    assert {"decode_block", "decode_rate", *EXERCISES} <= set(dir(lesson03))
    with pytest.raises(AttributeError, match="no checker 'nothing'"):
        lesson03.nothing  # noqa: B018


@pytest.mark.parametrize("name", EXERCISES)
def test_the_untouched_stub(name):
    assert EXERCISES[name][0](from_notebook(name, notebooks.EXERCISE)).status == NOT_ATTEMPTED


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution(name):
    verdict = EXERCISES[name][0](from_notebook(name, notebooks.SOLUTION))
    assert verdict.status == CORRECT, verdict


@pytest.mark.parametrize(("name", "number"), [(n, i) for n in EXERCISES for i in range(len(EXERCISES[n][1]))])
def test_each_mistake_gets_its_own_hint(name, number):
    check, mistakes = EXERCISES[name]
    verdict = check(mistakes[number].function)
    assert verdict.status == NOT_YET and verdict.hint == mistakes[number].hint, verdict


@pytest.mark.parametrize("name", EXERCISES)
def test_other_wrong_answers(name):
    check = EXERCISES[name][0]

    def raises(first, *rest):
        return first["no"]

    for wrong in (raises, lambda *a: 0, lambda *a: "x", lambda *a: math.nan, lambda: 1):
        verdict = check(wrong)
        assert verdict.status == NOT_YET and verdict.hint, wrong
    assert "your code raised" in dict(check(raises).rows)


def test_an_interval_may_come_as_a_list_or_an_array():
    import numpy as np

    solution = from_notebook("paired_interval", notebooks.SOLUTION)
    for form in (list, np.array):
        assert audit.paired_interval(lambda *a, form=form: form(solution(*a))).status == CORRECT


def test_an_interval_that_is_nearly_right_is_not_right():
    solution = from_notebook("paired_interval", notebooks.SOLUTION)
    assert audit.paired_interval(lambda *a: (solution(*a)[0], solution(*a)[1] * 1.01)).status == NOT_YET


def test_what_the_exercise_calls_the_same_work_is_what_the_audit_takes_for_it():
    """The reader's rule and the library's judge the same runs alike."""
    from gb10.explore.audit import differences

    def row(w):
        return {"ok": 10, "errors": {}, "input_tokens": {"p50": w["prompt_tokens"]}, "cached_tokens": 10 * w["cached_tokens"],
                "output_tokens": 10 * w["output_tokens"], "concurrency": w["in_flight"], "times_doubtful": False}

    assert audit.TOLERANCE == pytest.approx(0.05)
    for a, b, _ in audit._RUNS:
        assert len(differences(row(a), row(b))) == len(audit._spoilers(a, b)), (a, b)


def test_the_pairs_tell_a_paired_from_an_unpaired_interval():
    """Where pairs have much in common, drawing the sides apart hides a difference that is there."""
    args = audit._PAIRS[0][0]
    assert audit._interval(*args)[0] > 0 > audit._unpaired(*args)[0]
