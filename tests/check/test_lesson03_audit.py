"""Checkers of lesson 03, notebook 4, beyond what test_lesson03.py asks of every checker."""

import pytest
from lesson03_notebooks import from_notebook

from gb10 import notebooks
from gb10.check.lesson03 import audit
from gb10.check.verdict import CORRECT, NOT_YET


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
