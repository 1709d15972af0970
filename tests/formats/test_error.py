"""Errors as one number: against the formulas written out, and where a sum in FP32 would go wrong."""

import math

import pytest
import torch

from gb10.formats.error import relative_rmse, snr_db


def test_the_formulas():
    x, y = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.5])
    assert relative_rmse(x, y) == pytest.approx(0.5 / 5)
    assert snr_db(x, y) == pytest.approx(20.0)
    assert snr_db(x, 0 * x) == 0.0 and relative_rmse(x, 0 * x) == 1.0
    assert snr_db(x, x / 2) == pytest.approx(6.0206, abs=1e-4)


def test_equal_and_all_zero_tensors():
    x, zero = torch.tensor([1.0, -2.0]), torch.zeros(2)
    assert relative_rmse(x, x) == 0 and snr_db(x, x) == math.inf
    assert relative_rmse(zero, zero) == 0 and snr_db(zero, zero) == math.inf
    assert relative_rmse(zero, x) == math.inf and snr_db(zero, x) == -math.inf


def test_sums_and_differences_are_in_fp64():
    x = torch.full((1 << 20,), 1e-25)                       # squares of these vanish in FP32
    assert relative_rmse(x, x * 0.9) == pytest.approx(0.1, rel=1e-6)
    assert relative_rmse(torch.tensor([1e30]), torch.tensor([0.5e30])) == pytest.approx(0.5)
    half = torch.tensor([1.0, 2.0]).bfloat16()
    assert relative_rmse(half, torch.tensor([1.0, 2.0 + 2 ** -20])) > 0


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"one shape are compared, not \(2, 2\) with \(2,\)"):
        snr_db(torch.ones(2, 2), torch.ones(2))
