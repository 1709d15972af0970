"""Checkers of lesson 03, notebook 3, beyond what test_lesson03.py asks of every checker: and recipes that are measured."""

import math
from types import SimpleNamespace

import pytest
from lesson03_notebooks import from_notebook

from gb10 import notebooks
from gb10.check.lesson03 import recipes
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET
from gb10.quantize.bootstrap import Interval


def test_other_right_answers():
    def by_sum(shapes, kept, bits):
        return int(sum(math.prod(s) * 2 if n in set(kept) else math.prod(s) * bits / 8 + 4 for n, s in shapes.items()))

    def by_loop(points):
        out = []
        for name, size, low, _high in points:
            if all(size < s or low <= h for n, s, _l, h in points if n != name):
                out.append(name)
        return tuple(out)

    assert recipes.checkpoint_bytes(by_sum).status == CORRECT
    assert recipes.pareto(by_loop).status == CORRECT


def test_the_exercise_is_the_librarys_rule():
    from gb10.explore import pareto

    for case in recipes._POINTS:
        points = [pareto.Point(n, size, low, (low + high) / 2, high) for n, size, low, high in case.args[0]]
        assert sorted(p.name for p in pareto.frontier(points)) == sorted(recipes._pareto(case.args[0]))


# ---------------------------------------------------------------- the rule of exercise 8

BETTER, WORSE, NOTHING = Interval(-0.004, -0.003, -0.002), Interval(0.002, 0.003, 0.004), Interval(-0.001, 0.0, 0.001)


@pytest.mark.parametrize(("kl", "loss", "status", "said"), [
    (BETTER, BETTER, CORRECT, "better by 0.00300 nats of KL (0.00200 to 0.00400)"),
    (BETTER, NOTHING, CORRECT, "no difference shown"),
    (BETTER, WORSE, NOT_YET, "its loss is shown to be higher"),
    (NOTHING, BETTER, NOT_YET, "not shown to be better"),
    (NOTHING, NOTHING, NOT_YET, "not shown to be better"),
    (WORSE, BETTER, NOT_YET, "the loss fell, and yet"),
    (WORSE, WORSE, NOT_YET, "shown to be worse"),
    (Interval(0, 0, 0), Interval(0, 0, 0), NOT_YET, "the same as the default"),
])
def test_the_rule(kl, loss, status, said):
    verdict = recipes.judge(kl, loss, 0.01, 0.013)
    assert verdict.status == status and said in repr(verdict), verdict


# ---------------------------------------------------------------- measured, on fewer tokens than the notebook's

# KL in thousandths of a nat of each group of pico alone in W4A16, as section 6 of the notebook measures it
HARM = {"0": (0.13, 0.22, 2.36, 2.98), "1": (0.35, 0.36, 0.06, 0.06), "2": (0.93, 0.66, 0.23, 0.18),
        "3": (1.63, 0.88, 0.69, 0.41), "4": (1.83, 1.58, 1.39, 0.67), "5": (3.85, 1.48, 2.26, 1.37)}


@pytest.fixture(scope="module")
def pico():
    """The checker with a quarter of its tokens."""
    whole, recipes.TOKENS = recipes.TOKENS, 2048
    recipes._pico.cache_clear()
    yield recipes._pico()
    recipes.TOKENS = whole
    recipes._pico.cache_clear()


@pytest.fixture(scope="module")
def layers(pico):
    harm = {f"{n}.{k}": v / 1000 for n, row in HARM.items() for k, v in zip(("qkv", "o", "gate_up", "down"), row, strict=True)}
    return [SimpleNamespace(name=n, weights=g.weights, bytes=g.bytes, harm=harm[n]) for n, g in pico.groups.items()]


def filled(key, fmt="fp8"):
    """A recipe that raises groups in this order, as long as they fit."""
    def recipe(layers, budget):
        choice, left = {}, budget - sum(x.bytes["w4a16"] for x in layers)
        for x in sorted(layers, key=key):
            if (extra := x.bytes[fmt] - x.bytes["w4a16"]) <= left:
                choice[x.name], left = fmt, left - extra
        return choice
    return recipe


def number(x):
    return int(x.name.partition(".")[0])


def test_a_thoughtful_recipe_is_measured_to_be_better(layers):
    verdict = recipes.my_recipe(from_notebook("my_recipe", notebooks.SOLUTION), layers)
    assert verdict.status == CORRECT and "better by 0.00" in repr(verdict), verdict


@pytest.mark.parametrize(("key", "fmt"), [(number, "fp8"), (lambda x: -number(x), "fp8"), (lambda x: -x.harm / x.weights, "bf16")],
                         ids=["first layers", "last layers", "bf16 for the worst"])
def test_a_naive_one_is_not(layers, key, fmt):
    verdict = recipes.my_recipe(filled(key, fmt), layers)
    assert verdict.status == NOT_YET and "KL, yours - default" in repr(verdict), verdict


def test_the_default_is_nvidias_recipe_without_its_kv_cache(pico):
    """Same formats, layer by layer, and the same bytes."""
    from gb10 import quantize
    from gb10.quantize.stored import stored_bytes

    theirs = quantize.quantize(pico._load(), pico.batches, recipe=recipes.DEFAULT, kv="none")
    ours = pico.made(recipes.default_choice(pico.groups))
    assert stored_bytes(theirs) == stored_bytes(ours)
    ids = pico.ids[:257]
    assert (quantize.score(theirs, ids).nll == quantize.score(ours, ids).nll).all()


# ---------------------------------------------------------------- answers that are not measured

def test_the_stub_of_exercise_8(layers):
    assert recipes.my_recipe(from_notebook("my_recipe", notebooks.EXERCISE), layers).status == NOT_ATTEMPTED
    assert recipes.my_recipe(lambda layers, budget: None, layers).status == NOT_ATTEMPTED
    assert recipes.my_recipe(None, layers).status == NOT_ATTEMPTED


def broken(layers, budget):
    return {layers[0].colour: "fp8"}


@pytest.mark.parametrize(("answer", "said"), [
    (lambda layers, budget: {x.name: "fp8" for x in layers}, "over the budget by 1,548,360 bytes"),
    (lambda layers, budget: {"5.q": "fp8"}, "no group '5.q'"),
    (lambda layers, budget: {"5.qkv": "fp4"}, "not 'fp4'"),
    (lambda layers, budget: {"5.qkv": math.nan}, "not nan"),
    (lambda layers, budget: {"5.qkv": ["fp8"]}, "not ['fp8']"),
    (lambda layers, budget: ["5.qkv"], "return a dictionary"),
    (lambda layers, budget: 7, "return a dictionary"),
    (lambda layers, budget: {1: 2}, "no group 1"),
    (lambda layers: {}, "your code raised"),
    (broken, "your code raised"),
    ({"5.qkv": "fp8"}, "give the function itself"),
])
def test_refused_before_anything_is_measured(pico, layers, answer, said, monkeypatch):
    monkeypatch.setattr(pico, "measure", lambda choice: pytest.fail("measured"))
    verdict = recipes.my_recipe(answer, layers)
    assert verdict.status == NOT_YET and said in repr(verdict), verdict


def test_the_answer_cannot_change_what_it_is_judged_by(pico, layers, monkeypatch):
    """A function that empties its list of layers changes neither the budget nor the groups."""
    def greedy(layers, budget):
        layers.clear()
        return dict.fromkeys(pico.groups, "bf16")

    monkeypatch.setattr(pico, "measure", lambda choice: pytest.fail("measured"))
    verdict = recipes.my_recipe(greedy, layers)
    assert verdict.status == NOT_YET and "over the budget" in verdict.hint and len(layers) == 24
