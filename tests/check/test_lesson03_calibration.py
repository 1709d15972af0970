"""Checkers of lesson 03, notebook 2, beyond what test_lesson03.py asks of every checker."""

from lesson03_notebooks import from_notebook

from gb10 import notebooks
from gb10.check.lesson03 import calibration
from gb10.check.verdict import CORRECT, NOT_YET


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
