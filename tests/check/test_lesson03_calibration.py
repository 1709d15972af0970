"""Every checker of lesson 03, notebook 2: the untouched stub, the solution, each plausible mistake, NaN and an exception."""

import math

import pytest

from gb10 import notebooks
from gb10.check import lesson03
from gb10.check.lesson03 import calibration
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET

EXERCISES = {
    "running_max": (calibration.running_max, calibration._RUNNING_MISTAKES),
    "block_fate": (calibration.block_fate, calibration._FATE_MISTAKES),
    "choose_samples": (calibration.choose_samples, calibration._CHOICE_MISTAKES),
}


def from_notebook(name, kind):
    """The function as the derived notebook defines it."""
    source = next(s for s in notebooks.sources("03") if s.stem.startswith("02-"))
    cell = next(c for c in notebooks.derive(source, kind).cells if c.source.startswith(f"def {name}("))
    scope = {}
    exec(cell.source, scope)  # noqa: S102 - our own notebook
    return scope[name]


def test_they_are_found_under_the_lessons_name():
    assert all(getattr(lesson03, name) is check for name, (check, _) in EXERCISES.items())


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

    def raises(first, *rest):
        return first["no"]

    def endless(*args):
        raise SystemExit

    for wrong in (raises, endless, lambda *a: 0, lambda *a: "x", lambda *a: math.nan, lambda *a: [math.nan] * 4, lambda: 1, 7):
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


def test_a_running_maximum_may_be_made_in_other_ways():
    import numpy as np
    import torch

    for other in (lambda b: np.maximum.accumulate([np.abs(v).max() for v in b]),
                  lambda b: torch.tensor([max(map(abs, v)) for v in b]).cummax(0).values,
                  lambda b: (max(abs(x) for v in b[:i + 1] for x in v) for i in range(len(b)))):
        assert calibration.running_max(other).status == CORRECT


def test_a_fate_may_be_computed_in_other_orders_and_written_in_other_ways():
    def reordered(block_amax, amax):
        r = 448 * block_amax / amax
        return "Clipped" if r > 448 else "Full" if r >= 1 / 64 else "Coarse" if r > 1 / 1024 else "Lost"

    def by_e4m3(block_amax, amax):
        import torch

        r = torch.tensor(block_amax / (amax / 2688) / 6)
        if r > 448:
            return "clipped"
        s = r.to(torch.float8_e4m3fn).float()
        return "full" if s >= 2 ** -6 else "coarse" if s > 0 else "lost"

    for other in (reordered, by_e4m3):
        assert calibration.block_fate(other).status == CORRECT


def test_the_exercises_fates_are_the_explorers():
    from gb10.explore import calibration as explorer

    for (block_amax, amax), _ in calibration._BLOCKS:
        assert calibration._fate(block_amax, amax) == explorer.fate(block_amax * 448 / amax)
    assert {calibration._fate(*args) for args, _ in calibration._BLOCKS} == set(explorer.FATES)


def test_a_count_may_come_in_a_list_and_must_be_one_of_those_given():
    solution = from_notebook("choose_samples", notebooks.SOLUTION)
    assert calibration.choose_samples(lambda *a: [solution(*a)]).status == CORRECT
    assert calibration.choose_samples(lambda *a: solution(*a) + 1).status == NOT_YET


def test_too_wide_intervals_choose_the_largest_count():
    solution = from_notebook("choose_samples", notebooks.SOLUTION)
    assert solution({1: (-9, 9), 8: (-9, 9), 512: (0, 0)}, 0.5) == 512
