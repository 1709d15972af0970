"""Every checker of lesson 03, notebook 1, with the untouched stub, the solution, each plausible mistake, NaN and an exception."""

import math

import pytest

from gb10 import notebooks
from gb10.check.lesson03 import first as lesson03
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET
from gb10.formats.elements import E2M1

EXERCISES = {
    "decode_block": (lesson03.decode_block, lesson03._BLOCK_MISTAKES),
    "decode_rate": (lesson03.decode_rate, lesson03._STREAM_MISTAKES),
}


def from_notebook(name, kind):
    """The function as the derived notebook defines it."""
    source = next(s for s in notebooks.sources("03") if s.stem.startswith("01-"))
    cell = next(c for c in notebooks.derive(source, kind).cells if c.source.startswith(f"def {name}("))
    scope = {"E2M1": E2M1}
    exec(cell.source, scope)  # noqa: S102 - our own notebook
    return scope[name]


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
    assert verdict.status == NOT_YET and verdict.hint == mistakes[number].hint


@pytest.mark.parametrize("name", EXERCISES)
def test_other_wrong_answers(name):
    check = EXERCISES[name][0]
    solution = from_notebook(name, notebooks.SOLUTION)

    def poisoned(*args):
        out = solution(*args)
        return [math.nan] + out[1:] if isinstance(out, list) else math.nan

    def nearly(*args):
        out = solution(*args)
        return [v * 1.01 for v in out] if isinstance(out, list) else out * 1.01

    def raises(first, *rest):
        return first["no"]

    for wrong in (poisoned, nearly, raises, lambda *a: 0, lambda *a: [], lambda: 1):
        verdict = check(wrong)
        assert verdict.status == NOT_YET and verdict.hint, wrong
    assert "your code raised" in dict(check(raises).rows)


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
