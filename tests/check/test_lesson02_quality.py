"""Checkers of lesson 02, notebook 3: the untouched stub, the solution, right answers in other styles, each mistake."""

import math

import numpy as np
import pytest
import torch

from gb10 import notebooks
from gb10.check.lesson02 import decibels, quality, repairs
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET
from gb10.formats import error, variants
from gb10.formats.elements import decode_e2m1, encode_e2m1

MISTAKES = {
    "snr_db": decibels._SNR_MISTAKES,
    "relative_error": decibels._ERROR_MISTAKES,
    "combined_db": decibels._COMBINE_MISTAKES,
    "better_scale": repairs._SCALE_MISTAKES,
    "through_rotation": repairs._ROTATION_MISTAKES,
}


def check(name, function):
    return getattr(quality, name)(function)


def from_notebook(name, kind):
    """The function as the derived notebook defines it, with the helpers that the notebook gives."""
    source = next(s for s in notebooks.sources("02") if s.stem.startswith("03-"))
    cells = [c.source for c in notebooks.derive(source, kind).cells if c.cell_type == "code"]
    scope = {"torch": torch, "math": math, "decode_e2m1": decode_e2m1, "encode_e2m1": encode_e2m1}
    for helper in ("def signs(", "def round_e4m3("):
        exec(next(c for c in cells if helper in c), scope)  # noqa: S102 - our own notebook
    exec(next(c for c in cells if c.startswith(f"def {name}(")), scope)  # noqa: S102
    return scope[name]


@pytest.mark.parametrize("name", MISTAKES)
def test_the_untouched_stub(name):
    assert check(name, from_notebook(name, notebooks.EXERCISE)).status == NOT_ATTEMPTED
    assert check(name, lambda *a: None).status == NOT_ATTEMPTED


@pytest.mark.parametrize("name", MISTAKES)
def test_the_solution(name):
    answer = check(name, from_notebook(name, notebooks.SOLUTION))
    assert answer.status == CORRECT, answer


@pytest.mark.parametrize(("name", "number"), [(n, i) for n in MISTAKES for i in range(len(MISTAKES[n]))])
def test_each_mistake_gets_its_own_hint(name, number):
    answer = check(name, MISTAKES[name][number].function)
    assert answer.status == NOT_YET and answer.hint == MISTAKES[name][number].hint, answer


# ---------------------------------------------------------------- right answers in other styles

def numpy_snr(x, y):
    x, y = np.asarray(x), np.asarray(y)
    return 10 * np.log10(np.mean(x ** 2) / np.mean((x - y) ** 2))


def amplitude_snr(x, y):
    return 20 * torch.log10(torch.linalg.vector_norm(x) / torch.linalg.vector_norm(x - y))


def loop_snr(x, y):
    signal = noise = 0.0
    for a, b in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True):
        signal += a * a
        noise += (a - b) ** 2
    return 10 * (math.log(signal / noise) / math.log(10))


def float32_snr(x, y):
    x, y = x.float(), y.float()
    return (10 * torch.log10(x.pow(2).mean() / (x - y).pow(2).mean())).item()


def snr_of_one(x, y):
    return torch.tensor(numpy_snr(x, y))


def scale_in_numpy(block):
    """E4M3 by ml_dtypes, E2M1 by nearest of a table."""
    import ml_dtypes

    block = block.numpy()
    table = np.array([0, .5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)
    best = None
    for top in (6, 4):
        s = (np.abs(block).max() / np.float32(top)).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
        back = np.sign(block) * table[np.abs(np.abs(block)[:, None] / s - table).argmin(1)] * s
        squared = ((back - block) ** 2).mean()
        if best is None or squared < best[0]:
            best = squared, s
    return best[1]


def scale_as_tensor(block):
    s = (block.abs().amax() / torch.tensor([6.0, 4.0])).to(torch.float8_e4m3fn).float()
    y = block[None] / s[:, None]
    return s[((decode_e2m1(encode_e2m1(y)) * s[:, None] - block).norm(dim=1)).argmin()]


def rotation_as_list(block, quantize):
    n = len(block)
    return variants.inverse_hadamard(quantize(variants.hadamard(block, n)), n).tolist()


def rotation_by_bits(block, quantize):
    n = len(block)
    h = np.array([[(-1.0) ** (i & j).bit_count() for j in range(n)] for i in range(n)]) / np.sqrt(n)
    return h.T @ np.asarray(quantize(torch.from_numpy(h @ np.asarray(block))))


OTHERS = [
    ("snr_db", numpy_snr), ("snr_db", amplitude_snr), ("snr_db", loop_snr), ("snr_db", float32_snr), ("snr_db", snr_of_one),
    ("snr_db", error.snr_db), ("relative_error", lambda db: np.float32(10) ** (-db / 20)),
    ("relative_error", lambda db: math.sqrt(1 / 10 ** (db / 10))), ("relative_error", lambda db: torch.tensor(10.0) ** (-db / 20)),
    ("combined_db", lambda a, b: a - 10 * math.log10(1 + 10 ** ((a - b) / 10))),
    ("combined_db", lambda a, b: 10 * np.log10(1 / (1 / 10 ** (a / 10) + 1 / 10 ** (b / 10)))),
    ("better_scale", scale_in_numpy), ("better_scale", scale_as_tensor), ("through_rotation", rotation_as_list),
    ("through_rotation", rotation_by_bits),
    ("through_rotation", lambda b, q: tuple(rotation_as_list(b, q))),
]


@pytest.mark.parametrize(("name", "function"), OTHERS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(OTHERS)])
def test_right_answers_in_other_styles(name, function):
    answer = check(name, function)
    assert answer.status == CORRECT, answer


# ---------------------------------------------------------------- wrong answers of any other kind

@pytest.mark.parametrize("name", MISTAKES)
def test_other_wrong_answers(name):
    solution = from_notebook(name, notebooks.SOLUTION)

    def spoilt(by):
        def wrong(*args):
            out = solution(*args)
            return out * by
        return wrong

    def raises(first, *rest):
        raise KeyError("no")

    def first_only(*args, _seen=[]):  # noqa: B006 - remembers on purpose: right once, then the same again
        _seen[:1] = _seen[:1] or [solution(*args)]
        return _seen[0]

    for wrong in (spoilt(math.nan), spoilt(math.inf), spoilt(1.01), raises, first_only, lambda *a: 0, lambda *a: [],
                  lambda *a: "20 dB", lambda: 1):
        answer = check(name, wrong)
        assert answer.status == NOT_YET and answer.hint, wrong
    assert "your code raised" in dict(check(name, raises).rows)
    assert check(name, 3).status == NOT_YET


# ---------------------------------------------------------------- what the checkers hold to be right

def test_the_expected_answers_are_the_librarys():
    for seed, noise in ((1, 0.4), (2, 0.1), (3, 8.0)):
        x, y = decibels._draws(seed, 4, 16, noise=noise)
        assert decibels._snr(x, y) == pytest.approx(error.snr_db(x, y), abs=1e-9)
    for values, _, _ in repairs._ROTATION_BLOCKS:
        block = torch.tensor(values, dtype=torch.float64)
        assert repairs._through(block, lambda v: v) == pytest.approx(values)
        assert repairs._through(block, lambda v: v, back=None) == pytest.approx(
            variants.hadamard(block, len(values)).tolist(), rel=1e-6)


def test_the_checkers_own_rounding_is_that_of_the_formats():
    y = torch.linspace(-8, 8, 4001)
    assert [repairs._e2m1(v) for v in y.tolist()] == decode_e2m1(encode_e2m1(y)).tolist()
    r = torch.logspace(-9, 9, 5001, base=2).clamp(2 ** -9, 448)
    assert [repairs._e4m3(v) for v in r.tolist()] == r.to(torch.float8_e4m3fn).float().tolist()


def test_the_better_scale_is_the_one_that_four_over_six_takes():
    for values, _ in repairs._SCALE_BLOCKS:
        # a second block whose maximum sets the tensor scale of four_over_six to 1
        x = torch.stack((torch.tensor(values), torch.full((16,), 6.0 * 256)))
        q = variants.four_over_six(x)
        assert q.tensor_scale.item() == 1 and q.scales[0].float().item() == repairs._better(values)


def test_no_block_is_decided_by_the_last_bits():
    for values, name in repairs._SCALE_BLOCKS:
        peak = max(map(abs, values))
        for measure in (repairs.power, max, lambda e: sum(map(abs, e))):
            a, b = (measure(repairs._loss(values, repairs._e4m3(peak / t))) for t in (6, 4))
            assert abs(a - b) > 0.02 * max(a, b), name


