"""Checkers of lesson 03, notebook 1, beyond what test_lesson03.py asks of every checker: nearly right answers, and the library."""

import math

import pytest
from lesson03_notebooks import from_notebook

from gb10 import notebooks
from gb10.check.lesson03 import first as lesson03
from gb10.check.verdict import CORRECT, NOT_YET


@pytest.mark.parametrize("name", ["decode_block", "decode_rate"])
def test_answers_that_are_nearly_right(name):
    check = getattr(lesson03, name)
    solution = from_notebook(name, notebooks.SOLUTION)

    def poisoned(*args):
        out = solution(*args)
        return [math.nan] + out[1:] if isinstance(out, list) else math.nan

    def nearly(*args):
        out = solution(*args)
        return [v * 1.01 for v in out] if isinstance(out, list) else out * 1.01

    for wrong in (poisoned, nearly):
        verdict = check(wrong)
        assert verdict.status == NOT_YET and verdict.hint, wrong


def test_the_block_may_come_as_an_array():
    import numpy as np

    solution = from_notebook("decode_block", notebooks.SOLUTION)
    assert lesson03.decode_block(lambda *a: np.array(solution(*a), dtype=np.float32)).status == CORRECT


def test_decoding_as_taught_is_what_the_codec_does():
    import torch

    from gb10.formats import NVFP4

    x = torch.randn(16, generator=torch.Generator().manual_seed(0))
    q = NVFP4.quantize(x)
    decoded = lesson03._decode(q.packed.tolist(), q.scales.item(), q.tensor_scale.item())
    assert decoded == pytest.approx(q.dequantize().tolist(), rel=1e-6)


def test_the_rate_is_that_of_the_library():
    from gb10.explore.stream import Answer

    for case in lesson03._STREAMS:
        times, asked_at = case.args
        assert lesson03.decode_rate(from_notebook("decode_rate", notebooks.SOLUTION))
        assert Answer("", asked_at, tuple(times)).decode_rate == pytest.approx(
            lesson03._rate(times, asked_at) if case.expected is None else case.expected)
