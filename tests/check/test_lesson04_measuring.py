"""Checkers of lesson 04, notebook 3: stubs, solutions, mistakes, odd answers, and their trials on a server of known truth."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from gb10 import notebooks
from gb10.bench.selftest import Truth
from gb10.bench.spread import Spread
from gb10.check import lesson04, live
from gb10.check.lesson04 import measuring
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET

EXERCISES = {"percentile": (measuring.percentile, measuring._PERCENTILE_MISTAKES), "tpot": (measuring.tpot, measuring._TPOT_MISTAKES),
             "limit": (measuring.limit, measuring._LIMIT_MISTAKES)}


def from_notebook(name, kind):
    """The function of the notebook, as stub or as solution."""
    source = next(s for s in notebooks.sources("04") if s.name.startswith("03-"))
    cells = [c.source for c in notebooks.derive(source, kind).cells if c.cell_type == "code"]
    scope = {}
    exec(next(c for c in cells if c.startswith(f"def {name}(")), scope)  # noqa: S102 - our own notebook
    return scope[name]


def test_they_are_found_under_the_lessons_name():
    assert all(getattr(lesson04, name) is check for name, (check, _) in EXERCISES.items())


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_and_solution(name):
    assert EXERCISES[name][0](from_notebook(name, notebooks.EXERCISE)).status == NOT_ATTEMPTED
    verdict = EXERCISES[name][0](from_notebook(name, notebooks.SOLUTION))
    assert verdict.status == CORRECT, verdict


@pytest.mark.parametrize(("name", "number"), [(n, i) for n in EXERCISES for i in range(len(EXERCISES[n][1]))])
def test_each_mistake_gets_its_own_hint(name, number):
    check, mistakes = EXERCISES[name]
    verdict = check(mistakes[number].function)
    assert verdict.status == NOT_YET and verdict.hint == mistakes[number].hint, verdict


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("wrong", [lambda *a: math.nan, lambda *a: "8", lambda *a: [[]], lambda *a: 1 / 0, lambda a: a, 8.0],
                         ids=["nan", "text", "nested", "raises", "one argument", "no function"])
def test_odd_answers_are_a_verdict(name, wrong):
    verdict = EXERCISES[name][0](wrong)
    assert verdict.status == NOT_YET and verdict.hint


def test_numpys_percentile_is_right_and_the_benchmark_has_the_same():
    assert measuring.percentile(np.percentile).status == CORRECT
    values = [20, 21, 19, 22, 500]
    spread = Spread()
    for v in values:
        spread.add(v)
    assert spread.percentile(50) == pytest.approx(measuring._percentile(values, 50), rel=0.01)


def test_tpot_is_tried_on_answers_and_agrees_with_the_benchmark():
    with Truth(ttft=20, itl=4, tokens=24, owner="vllm") as truth:
        engine = SimpleNamespace(url=truth.url, model=None)
        verdict = measuring.tpot(measuring._tpot, engine)
        told = dict(verdict.rows)[live.ROW]
        assert verdict.status == CORRECT and "5 answers of 24 tokens" in told
        assert float(told.partition("your TPOT is ")[2].split()[0]) == pytest.approx(4, rel=0.1)

        def only_round_numbers(f, e, n):
            return measuring._tpot(f, e, n) if f == int(f) else 0.0

        verdict = measuring.tpot(only_round_numbers, engine)
        assert verdict.status == NOT_YET and "answers that the engine gave" in verdict.hint


def test_the_limit_is_tried_on_the_model_that_is_served():
    with Truth(ttft=5, itl=2, tokens=24, model="pico") as truth:
        engine = SimpleNamespace(url=truth.url, model="pico")
        told = dict(measuring.limit(measuring._limit, engine, 20.0).rows)[live.ROW]
        assert told.startswith("pico as bf16") and "measured" in told and "not as assumed" not in told
        told = dict(measuring.limit(measuring._limit, engine, 0.2).rows)[live.ROW]
        assert "something is not as assumed" in told
        assert "no bandwidth" in dict(measuring.limit(measuring._limit, engine).rows)[live.ROW]


def test_a_model_that_nobody_knows_is_no_fault_of_the_reader():
    verdict = measuring.limit(measuring._limit, SimpleNamespace(url="http://127.0.0.1:9/v1", model="no-such-model"), 20.0)
    assert verdict.status == CORRECT and "not tried" in dict(verdict.rows)[live.ROW]


def test_the_limit_is_the_rooflines():
    from gb10 import catalog, roofline

    m = catalog.model("Qwen3-8B", hub=False)
    fit = roofline.fit(m, weights="nvfp4", machine="gb10", context=1024, engine="vllm")
    mine = measuring._limit(273.0, roofline.read_weights(m, "nvfp4"), roofline.kv_bytes_per_token(m), 1024, 1)
    assert mine == pytest.approx(fit.decode_tps_limit, rel=1e-6)
