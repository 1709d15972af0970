"""Checkers of lesson 02, notebook 1: the untouched stub, the solution, right answers in other styles, each mistake."""

import math
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import torch

from gb10 import notebooks
from gb10.check import lesson02
from gb10.check.lesson02 import sixteen
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET
from gb10.explore import minifloat
from gb10.formats import elements

EXERCISES = {
    "decode": (sixteen.decode, sixteen._DECODE_MISTAKES),
    "magnitudes": (sixteen.magnitudes, sixteen._MAGNITUDE_MISTAKES),
    "encode": (sixteen.encode, sixteen._ENCODE_MISTAKES),
}


def from_notebook(name, kind):
    """The function as the derived notebook defines it."""
    source = next(s for s in notebooks.sources("02") if s.stem.startswith("01-"))
    cell = next(c for c in notebooks.derive(source, kind).cells if c.source.startswith(f"def {name}("))
    scope = {}
    exec(cell.source, scope)  # noqa: S102 - our own notebook
    return scope[name]


# ---------------------------------------------------------------- the checkers know the right answers

def test_the_expected_values_are_those_of_the_codec():
    for case in sixteen._CODES:
        assert case.expected == elements.decode_e2m1(torch.tensor(case.args)).item()
    xs = [case.args[0] for case in sixteen._NUMBERS]
    assert [c.expected for c in sixteen._NUMBERS] == elements.encode_e2m1(torch.tensor(xs)).tolist()
    assert {abs(c.args[0]) for c in sixteen._NUMBERS if c.name.startswith("a tie")} == set(elements.E2M1_BOUNDS)
    assert [c.expected for c in sixteen._NUMBERS] == [minifloat.land(x).code for x in xs]


def test_the_expected_magnitudes_are_those_of_ml_dtypes():
    for args, name in (((2, 1), "float4_e2m1fn"), ((2, 3), "float6_e2m3fn"), ((3, 2), "float6_e3m2fn")):
        case = next(c for c in sixteen._FORMATS if c.args == args)
        codes = np.arange(len(case.expected), dtype=np.uint8).view(getattr(ml_dtypes, name))
        assert case.expected == codes.astype(float).tolist()


# ---------------------------------------------------------------- stub and solution

@pytest.mark.parametrize("name", EXERCISES)
def test_the_untouched_stub(name):
    assert EXERCISES[name][0](from_notebook(name, notebooks.EXERCISE)).status == NOT_ATTEMPTED
    assert getattr(lesson02, name)(lambda *a: None).status == NOT_ATTEMPTED


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution(name):
    verdict = EXERCISES[name][0](from_notebook(name, notebooks.SOLUTION))
    assert verdict.status == CORRECT, verdict


# ---------------------------------------------------------------- right answers in other styles

TABLE = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
BOUNDS = np.array([.25, .75, 1.25, 1.75, 2.5, 3.5, 5])


def decode_by_arithmetic(code):
    m = code % 2
    e = code // 2 % 4
    magnitude = m * 0.5 if e == 0 else (2 + m) * 2.0 ** e / 4
    return (1 - 2 * (code // 8)) * magnitude


def encode_by_searching(x):
    low, high = np.searchsorted(BOUNDS, abs(x), "left"), np.searchsorted(BOUNDS, abs(x), "right")
    k = low if low % 2 == 0 else high            # they differ on a tie only
    return k | (8 if x < 0 else 0)


def encode_by_stretches(x):
    a = min(abs(x), 6)
    step = .5 if a < 2 else 1 if a < 4 else 2
    return TABLE.index(round(a / step) * step) + (x < 0) * 8


def encode_by_distance(x):
    """Nearest; of two equally near the one with an even code."""
    best = min(range(8), key=lambda c: (abs(abs(x) - TABLE[c]), c % 2))
    return np.int64(best + (8 if x < 0 else 0))


def magnitudes_from_bits(exponent_bits, mantissa_bits):
    """Put the bits into a float64 whose exponent is shifted to fit, subnormals included: multiply to undo the shift."""
    codes = np.arange(2 ** (exponent_bits + mantissa_bits), dtype=np.uint64)
    tiny = (codes << np.uint64(52 - mantissa_bits)).view(np.float64)
    return tiny * 2.0 ** 1000 * 2.0 ** (1023 - 1000 - (2 ** (exponent_bits - 1) - 1))


RIGHT = [
    ("decode", decode_by_arithmetic),
    ("decode", lambda c: (TABLE + [-v for v in TABLE])[c]),
    ("decode", lambda c: math.copysign(TABLE[c & 7], 7.5 - c)),                       # code 8 is -0.0
    ("decode", lambda c: 0.0 if c == 8 else decode_by_arithmetic(c)),                 # code 8 is +0.0
    ("decode", lambda c: np.float32(TABLE[c & 7]) * (-1 if c > 7 else 1)),
    ("decode", lambda c: np.array([c], np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)),     # one element
    ("decode", lambda c: torch.tensor(TABLE + [-v for v in TABLE])[c]),
    ("decode", lambda c: elements.decode_e2m1(torch.tensor([c], dtype=torch.uint8))),
    ("magnitudes", lambda e, m: np.array(minifloat.magnitudes(e, m), dtype=np.float32)),
    ("magnitudes", lambda e, m: torch.tensor(minifloat.magnitudes(e, m))),
    ("magnitudes", lambda e, m: set(minifloat.magnitudes(e, m))),
    ("magnitudes", magnitudes_from_bits),
    ("encode", encode_by_searching),
    ("encode", encode_by_stretches),
    ("encode", encode_by_distance),
    ("encode", lambda x: torch.tensor(encode_by_distance(x))),
    ("encode", lambda x: elements.encode_e2m1(torch.tensor([x]))),                     # in FP32
    ("encode", lambda x: encode_by_searching(np.float32(x))),
    ("encode", lambda x: [int(encode_by_distance(x))]),
    ("encode", lambda x: float(encode_by_distance(x))),
]


@pytest.mark.parametrize(("name", "function"), RIGHT)
def test_right_answers_in_other_styles(name, function):
    verdict = EXERCISES[name][0](function)
    assert verdict.status == CORRECT, verdict


# ---------------------------------------------------------------- mistakes

@pytest.mark.parametrize(("name", "number"), [(n, i) for n in EXERCISES for i in range(len(EXERCISES[n][1]))])
def test_each_mistake_gets_its_own_hint(name, number):
    check, mistakes = EXERCISES[name]
    verdict = check(mistakes[number].function)
    assert verdict.status == NOT_YET and verdict.hint == mistakes[number].hint


def encode_school_rule(x):
    """Written by another hand: half goes up in magnitude."""
    code = sum(abs(x) >= b for b in BOUNDS.tolist())
    return code + 8 if x < 0 else code


def encode_argmin(x):
    return int(np.argmin(np.abs(np.array(TABLE + [-v for v in TABLE]) - x)))


def encode_truncating(x):
    return max(i for i, v in enumerate(TABLE) if v <= abs(x)) + 8 * (x < 0)


def encode_without_end(x):
    grid = [*TABLE, 8.0]
    return int(np.argmin(np.abs(np.array(grid) - abs(x)))) + 8 * (x < 0)


def decode_without_subnormal(code):
    s, e, m = code >> 3, (code >> 1) & 3, code & 1
    return (-1) ** s * 2.0 ** (e - 1) * (1 + m / 2)


def decode_1_2(code):
    s, e, m = code >> 3, (code >> 2) & 1, code & 3
    return (-1) ** s * ((1 + m / 4) * 2 if e else m / 4 * 2)


def decode_bias_2(code):
    s, e, m = code >> 3, (code >> 1) & 3, code & 1
    return (-1) ** s * (2.0 ** (e - 2) * (1 + m / 2) if e else 2.0 ** -1 * m / 2)


def magnitudes_without_subnormals(exponent_bits, mantissa_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    return [2 ** (e - bias) * (1 + m / 2 ** mantissa_bits) for e in range(2 ** exponent_bits) for m in range(2 ** mantissa_bits)]


@pytest.mark.parametrize(("name", "function", "says"), [
    ("encode", encode_school_rule, "larger magnitude"),
    ("encode", encode_argmin, "whichever comes first"),
    ("encode", encode_truncating, "truncation"),
    ("encode", encode_without_end, "saturation|above 6"),
    ("encode", lambda x: encode_by_distance(abs(x)), "sign is missing"),
    ("encode", lambda x: encode_by_distance(x) | (8 if math.copysign(1, x) < 0 else 0), "−0.0 has code 0"),
    ("encode", lambda x: TABLE[encode_by_distance(abs(x))] * (-1 if x < 0 else 1), "that is the value"),
    ("decode", decode_without_subnormal, "subnormal"),
    ("decode", decode_1_2, "two exponent bits"),
    ("decode", decode_bias_2, "bias is 1"),
    ("decode", lambda c: TABLE[c & 7], "sign is missing"),
    ("magnitudes", magnitudes_without_subnormals, "otherwise there is no zero"),
    ("magnitudes", lambda e, m: TABLE, "loop over all exponent codes"),            # one case hard-coded
])
def test_mistakes_by_another_hand(name, function, says):
    import re

    verdict = EXERCISES[name][0](function)
    assert verdict.status == NOT_YET and re.search(says, verdict.hint), verdict


@pytest.mark.parametrize("name", EXERCISES)
def test_other_wrong_answers(name):
    check = EXERCISES[name][0]
    solution = from_notebook(name, notebooks.SOLUTION)
    seen = []

    def remembers_the_first(*args):
        seen.append(args)
        return solution(*seen[0])

    def raises(first, *rest):
        return first["no"]

    def exits(*args):
        raise SystemExit

    wrongs = (remembers_the_first, raises, exits, lambda *a: math.nan, lambda *a: math.inf, lambda *a: "3", lambda *a: [],
              lambda *a: [math.nan], lambda *a: {}, lambda: 1, lambda *a: [solution(*a), 0], 3)
    for wrong in wrongs:
        verdict = check(wrong)
        assert verdict.status == NOT_YET and verdict.hint, wrong
    assert dict(check(raises).rows)["your code raised"].endswith('at: return first["no"]')
    for nothing in (None, ..., NotImplemented):
        assert check(nothing).status == NOT_ATTEMPTED


def test_a_wrong_sign_of_nothing_but_minus_zero_is_found():
    """Each special case is asked for: whoever gets all but one wrong number right is not done."""
    for special in (-0.0, -0.1, -1e-30, 100.0, -30.0, 5.0, 2.5 + 2 ** -20):
        assert sixteen.encode(lambda x, s=special: 3 if repr(x) == repr(s) else encode_by_distance(x)).status == NOT_YET


# ---------------------------------------------------------------- the package

def test_the_package_names_all_checkers_and_costs_nothing():
    for name in dir(lesson02):
        assert callable(getattr(lesson02, name))
    with pytest.raises(AttributeError, match="decode"):
        lesson02.encodes  # noqa: B018
    code = "import sys, gb10.check.lesson02 as c; c.encode; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
