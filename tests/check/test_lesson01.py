"""Every checker of lesson 01 with the untouched stub, the solution, each plausible mistake, other styles of right answers."""

import math

import numpy as np
import pytest

from gb10 import catalog, notebooks, roofline
from gb10.check import lesson01
from gb10.check.lesson01 import fits, speed
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET

EXERCISES = {
    "available_gib": ("01", lesson01.available_gib, fits._MEMINFO_MISTAKES),
    "weight_gib": ("01", lesson01.weight_gib, fits._WEIGHT_MISTAKES),
    "kv_bytes": ("01", lesson01.kv_bytes, fits._KV_MISTAKES),
    "max_users": ("01", lesson01.max_users, fits._USER_MISTAKES),
    "bytes_read": ("02", lesson01.bytes_read, speed._READ_MISTAKES),
    "ridge_tokens": ("02", lesson01.ridge_tokens, speed._RIDGE_MISTAKES),
    "possible": ("02", lesson01.possible, speed._CLAIM_MISTAKES),
}


def from_notebook(name, kind):
    """The function as the derived notebook defines it."""
    source = next(s for s in notebooks.sources("01") if s.stem.startswith(EXERCISES[name][0]))
    cell = next(c for c in notebooks.derive(source, kind).cells if c.source.startswith(f"def {name}("))
    scope = {}
    exec(cell.source, scope)  # noqa: S102 - our own notebook
    return scope[name]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_untouched_stub(name):
    assert EXERCISES[name][1](from_notebook(name, notebooks.EXERCISE)).status == NOT_ATTEMPTED


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution(name):
    verdict = EXERCISES[name][1](from_notebook(name, notebooks.SOLUTION))
    assert verdict.status == CORRECT, verdict


@pytest.mark.parametrize(("name", "number"), [(n, i) for n in EXERCISES for i in range(len(EXERCISES[n][2]))])
def test_each_mistake_gets_its_own_hint(name, number):
    _, check, mistakes = EXERCISES[name]
    verdict = check(mistakes[number].function)
    assert verdict.status == NOT_YET and verdict.hint == mistakes[number].hint


@pytest.mark.parametrize("name", EXERCISES)
def test_other_wrong_answers(name):
    check, solution = EXERCISES[name][1], from_notebook(name, notebooks.SOLUTION)
    first = solution_of_first_case(name, solution)

    def nearly(*args):
        out = solution(*args)
        return not out if isinstance(out, bool) else out + 1 if isinstance(out, int) else out * 1.01

    def raises(first, *rest):
        raise ZeroDivisionError("no")

    wrong = [nearly, raises, lambda *a: math.nan, lambda *a: math.inf, lambda *a: -1.5, lambda *a: "1", lambda *a: [], lambda: 1,
             lambda *a: first]                            # one case by heart
    for function in wrong:
        verdict = check(function)
        assert verdict.status == NOT_YET and verdict.hint, (name, function)
    assert "your code raised" in dict(check(raises).rows)
    assert check(None).status == NOT_ATTEMPTED and check(lambda *a: None).status == NOT_ATTEMPTED
    assert check(3).status == NOT_YET


def solution_of_first_case(name, solution):
    """The right answer to the checker's first question, and to no other."""
    seen = []

    def listen(*args):
        seen.append(args)
        return solution(*args)

    EXERCISES[name][1](listen)
    return solution(*seen[0])


# ---------------------------------------------------------------- right answers in other styles, written on their own

def available_by_split(text):
    numbers = dict(line.split(":") for line in text.strip().split("\n"))
    return np.float64(numbers["MemAvailable"].replace("kB", "").strip()) * 1024 / 1024**3


def weights_by_array(linear, tables, bits):
    return (np.array([linear, tables]) @ np.array([bits, 16])) / 8 / 1024**3


def kv_by_loop(config, context, users, bytes_each):
    total = 0
    for _layer in range(config["num_hidden_layers"]):
        keys = config["num_key_value_heads"] * config["head_dim"] * context
        total += 2 * keys * users * bytes_each
    return float(total)


def users_by_counting(available, weights, engine, per_user):
    n = 0
    while weights + engine + (n + 1) * per_user <= available - 10:
        n += 1
    return np.int64(n)


def read_by_parts(model, bits):
    import torch

    total = torch.tensor(float(model["always"]), dtype=torch.float64) * bits
    if model["n_experts"] > 0:
        total += model["experts"] / model["n_experts"] * model["top_k"] * bits
    return (total + 16 * model["table"]) / 8


def ridge_by_arithmetic(tflops, bandwidth_gbs, bits):
    weights_per_second = bandwidth_gbs * 1e9 * 8 / bits
    return tflops * 1e12 / (2 * weights_per_second)


def possible_by_limit(tps, batch, step_bytes, bandwidth_gbs):
    return np.float64(tps) <= batch * bandwidth_gbs * 1e9 / step_bytes


def possible_by_number(tps, batch, step_bytes, bandwidth_gbs):
    return int(bandwidth_gbs * 1e9 - tps * step_bytes / batch >= 0)


@pytest.mark.parametrize(("name", "function"), [
    ("available_gib", available_by_split), ("weight_gib", weights_by_array), ("kv_bytes", kv_by_loop), ("max_users", users_by_counting),
    ("bytes_read", read_by_parts), ("ridge_tokens", ridge_by_arithmetic), ("possible", possible_by_limit), ("possible", possible_by_number)])
def test_right_answers_in_other_styles(name, function):
    verdict = EXERCISES[name][1](function)
    assert verdict.status == CORRECT, verdict


# ---------------------------------------------------------------- what is taught is what the library computes

@pytest.mark.parametrize("model", ["Qwen3-8B", "Llama-3.3-70B-Instruct", "Qwen3-0.6B"])
def test_kv_bytes_as_in_the_library(model):
    m = catalog.model(model)
    (cache,) = m.caches
    config = {"num_key_value_heads": cache.elements // 256, "head_dim": 128, "num_hidden_layers": cache.layers}
    assert from_notebook("kv_bytes", notebooks.SOLUTION)(config, 5000, 3, 2) == roofline.kv_bytes(m, "bf16", 5000, 3)


@pytest.mark.parametrize(("model", "fmt", "bits"), [("Qwen3-8B", "nvfp4", 4.5), ("Llama-3.3-70B-Instruct", "fp8", 8), ("Qwen3-32B", "bf16", 16)])
def test_weights_as_in_the_library(model, fmt, bits):
    m = catalog.model(model)
    tables = m.count("embedding", "head")
    taught = from_notebook("weight_gib", notebooks.SOLUTION)(m.params - tables, tables, bits) * 2**30
    assert taught == pytest.approx(roofline.weight_bytes(m, fmt), rel=0.002)          # norms are in 16 bit


@pytest.mark.parametrize("model", ["Qwen3-8B", "Qwen3-30B-A3B", "Qwen3-0.6B"])
def test_bytes_read_as_in_the_library(model):
    m = catalog.model(model)
    experts = next((p for p in m.parts if p.kind == "experts"), None)
    taught = from_notebook("bytes_read", notebooks.SOLUTION)({
        "always": m.count("attention", "ffn", "shared", "router", "small"), "experts": experts.params if experts else 0,
        "n_experts": experts.experts if experts else 0, "top_k": experts.top_k if experts else 0, "table": m.count("embedding"),
        "tied": m.tied}, 4.5)
    assert taught == pytest.approx(roofline.read_weights(m, "nvfp4"), rel=0.02)       # router and norms are in 16 bit


def test_the_ridge_as_in_the_library():
    taught = from_notebook("ridge_tokens", notebooks.SOLUTION)(125, 273, 16)
    assert taught == pytest.approx(roofline.ridge("gb10", "bf16"))                     # 2 FLOP for 2 bytes
