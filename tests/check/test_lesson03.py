"""What every checker of lesson 03 has to do, with the stub, the solution, each plausible mistake, and answers of all kinds."""

import math

import pytest
from lesson03_notebooks import from_notebook

from gb10 import notebooks
from gb10.check import lesson03
from gb10.check.lesson03 import audit, calibration, first, recipes
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET

# name -> (checker, its plausible mistakes). Exercise 8, my_recipe, measures: test_lesson03_recipes.py
EXERCISES = {
    "decode_block": (first.decode_block, first._BLOCK_MISTAKES),
    "decode_rate": (first.decode_rate, first._STREAM_MISTAKES),
    "running_max": (calibration.running_max, calibration._RUNNING_MISTAKES),
    "block_fate": (calibration.block_fate, calibration._FATE_MISTAKES),
    "choose_samples": (calibration.choose_samples, calibration._CHOICE_MISTAKES),
    "checkpoint_bytes": (recipes.checkpoint_bytes, recipes._SHAPE_MISTAKES),
    "pareto": (recipes.pareto, recipes._POINT_MISTAKES),
    "same_work": (audit.same_work, audit._RUN_MISTAKES),
    "paired_interval": (audit.paired_interval, audit._PAIR_MISTAKES),
    "manifest_has_arm64": (audit.manifest_has_arm64, audit._MANIFEST_MISTAKES),
}


def test_they_are_found_under_the_lessons_name():
    assert all(getattr(lesson03, name) is check for name, (check, _) in EXERCISES.items())
    assert set(dir(lesson03)) == {*EXERCISES, "my_recipe"}
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
def test_hints_differ(name):
    hints = [m.hint for m in EXERCISES[name][1]]
    assert len(set(hints)) == len(hints)


@pytest.mark.parametrize("name", EXERCISES)
def test_other_wrong_answers(name):
    check = EXERCISES[name][0]

    def raises(*args):
        return args[0]["no"][0]["never"]

    def leaves(*args):
        raise SystemExit

    for wrong in (raises, leaves, lambda *a: 0, lambda *a: "x", lambda *a: [], lambda *a: math.nan, lambda *a: [math.nan] * 4,
                  lambda: 1, 7):
        verdict = check(wrong)
        assert verdict.status == NOT_YET and verdict.hint, wrong
    assert "your code raised" in dict(check(raises).rows)


@pytest.mark.parametrize("name", EXERCISES)
def test_unfinished_answers(name):
    check = EXERCISES[name][0]

    def empty(*args):
        pass

    def prints(*args):
        print(args, end="")

    assert check(empty).status == check(None).status == NOT_ATTEMPTED
    assert check(prints).status == NOT_YET and "return" in check(prints).hint
