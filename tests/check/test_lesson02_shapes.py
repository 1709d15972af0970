"""Lesson 2's checkers and right answers in an unusual wrapping, and answers that aren't there."""

import ast
import fractions

import numpy as np
import pytest
import torch

from gb10 import notebooks
from gb10.check import lesson02
from gb10.check.verdict import CORRECT, NOT_YET

NUMBERS = ("decode", "encode", "block_scale", "scale_offset", "checkpoint_bytes", "snr_db", "relative_error", "combined_db",
           "better_scale")
ROWS = ("magnitudes", "quantize_block", "pack", "unpack", "dequantize", "through_rotation")


@pytest.fixture(scope="module")
def solutions():
    """name -> the solution, from the three derived notebooks: their imports and definitions, nothing run besides."""
    scope = {}
    for source in notebooks.sources("02"):
        for cell in notebooks.derive(source, notebooks.SOLUTION).cells:
            if cell.cell_type == "code":
                tree = ast.parse(cell.source)
                tree.body = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom, ast.FunctionDef))]
                exec(compile(tree, source.name, "exec"), scope)  # noqa: S102 - our own notebooks
    return scope


def test_every_checker_is_named_here():
    assert sorted(NUMBERS + ROWS) == dir(lesson02)


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: torch.tensor([v]), lambda v: np.array([[v]]), np.float64,
                                  lambda v: torch.tensor(v, dtype=torch.float64), fractions.Fraction], ids=range(6))
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_in_another_wrapping(name, wrap, solutions):
    assert getattr(lesson02, name)(lambda *a: wrap(float(solutions[name](*a)))).status == CORRECT


@pytest.mark.parametrize("wrap", [tuple, iter, np.array, torch.tensor, lambda v: (x for x in v), lambda v: np.array(v, np.float32)],
                         ids=range(6))
@pytest.mark.parametrize("name", ROWS)
def test_a_row_in_another_wrapping(name, wrap, solutions):
    assert getattr(lesson02, name)(lambda *a: wrap([float(v) for v in solutions[name](*a)])).status == CORRECT


@pytest.mark.parametrize("name", ROWS)
def test_a_row_in_another_shape(name, solutions):
    verdict = getattr(lesson02, name)(lambda *a: np.array([float(v) for v in solutions[name](*a)])[:, None])
    assert verdict.status == NOT_YET and "flat row" in verdict.hint


@pytest.mark.parametrize("name", NUMBERS + ROWS)
def test_printed_instead_of_returned(name, solutions, capsys):
    scope = {"solution": solutions[name]}
    exec("def printing(*a):\n    print(solution(*a))\n", scope)  # noqa: S102 - as a cell of a notebook defines it
    verdict = getattr(lesson02, name)(scope["printing"])
    assert verdict.status == NOT_YET and "return" in verdict.hint
