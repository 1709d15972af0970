"""Checkers of lesson 02, notebook 2: the untouched stub, the solution, right answers in other styles, each mistake."""

import math

import ml_dtypes
import numpy as np
import pytest
import torch

from gb10 import notebooks
from gb10.check import lesson02
from gb10.check.lesson02 import packing, scaling
from gb10.check.lesson02 import sizes as size_checks
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET
from gb10.formats import NVFP4, elements, layouts

MISTAKES = {
    "block_scale": scaling._SCALE_MISTAKES,
    "quantize_block": scaling._CODE_MISTAKES,
    "pack": packing._PACK_MISTAKES,
    "unpack": packing._UNPACK_MISTAKES,
    "dequantize": packing._DEQUANTIZE_MISTAKES,
    "scale_offset": packing._OFFSET_MISTAKES,
    "checkpoint_bytes": size_checks._MISTAKES,
}


def check(name, function):
    return getattr(lesson02, name)(function)


def from_notebook(name, kind):
    """The function as the derived notebook defines it."""
    source = next(s for s in notebooks.sources("02") if s.stem.startswith("02-"))
    cell = next(c for c in notebooks.derive(source, kind).cells if c.source.startswith(f"def {name}("))
    scope = {"torch": torch, "elements": elements, "encode_e2m1": elements.encode_e2m1,
             "decode_e2m1": elements.decode_e2m1}
    exec(cell.source, scope)  # noqa: S102 - our own notebook
    return scope[name]


# ---------------------------------------------------------------- stub and solution

@pytest.mark.parametrize("name", MISTAKES)
def test_the_untouched_stub(name):
    assert check(name, from_notebook(name, notebooks.EXERCISE)).status == NOT_ATTEMPTED
    assert check(name, lambda *a: None).status == NOT_ATTEMPTED


@pytest.mark.parametrize("name", MISTAKES)
def test_the_solution(name):
    verdict = check(name, from_notebook(name, notebooks.SOLUTION))
    assert verdict.status == CORRECT, verdict


# ---------------------------------------------------------------- the checkers know the right answers

def test_the_expected_scales_and_codes_are_those_of_the_codec():
    for case in scaling._SCALES:
        block, g = case.args
        q = NVFP4.quantize(block, amax=torch.tensor(g * 2688))
        assert scaling._scale(block, q.tensor_scale.item()) == q.scales.float().item(), case.name
    for case in scaling._CODES:
        block, s, g = case.args
        assert scaling._codes(block, s, g) == elements.encode_e2m1(block / (s * g)).tolist(), case.name


def test_no_case_lies_so_near_a_tie_that_fp32_and_fp64_could_differ():
    for case in scaling._CODES:
        block, s, g = case.args
        for y in (block.double().abs() / (s * g)).tolist():
            nearest = min(elements.E2M1_BOUNDS, key=lambda b: abs(b - y))
            assert y == nearest or abs(y / nearest - 1) > 1e-3, case.name
    for case in scaling._SCALES:
        r = case.args[0].double().abs().max().item() / (6 * case.args[1])
        assert len({scaling._scale(case.args[0] * f, case.args[1]) for f in (0.999, 1, 1.001)}) == 1, (case.name, r)


def test_decoding_is_what_the_codec_does():
    x = torch.randn(64, generator=torch.Generator().manual_seed(0))
    q = NVFP4.quantize(x)
    assert packing._decode(q.packed, q.scales, q.tensor_scale.item()) == pytest.approx(q.dequantize().tolist(), rel=1e-6)
    assert packing._pack(q.codes()) == q.packed.tolist() and packing._unpack(q.packed) == q.codes().tolist()


def test_the_offsets_are_those_of_the_swizzle():
    """Numbered scales put into the tensor cores' order: each lies where scale_offset says."""
    rows, columns = 300, 18
    numbers = torch.arange(rows * columns).reshape(rows, columns)
    low, high = (layouts.swizzle_scales(part.to(torch.uint8)).long() for part in (numbers % 256, numbers // 256))
    placed = low + 256 * high
    for m, k in ((0, 0), (31, 3), (32, 0), (127, 17), (128, 0), (255, 4), (256, 9), (299, 17)):
        assert placed[packing._offset(m, k, columns)] == numbers[m, k]


# ---------------------------------------------------------------- right answers in other styles

def scale_by_numpy(block, tensor_scale):
    amax = float(np.abs(block.numpy()).max())
    wanted = min(max(amax / 6 / tensor_scale, 2 ** -9), 448)
    return np.float32(wanted if amax else 1).astype(ml_dtypes.float8_e4m3fn).astype(np.float64)


def scale_by_hand(block, tensor_scale):
    """E4M3 from its definition: steps of 2^(e - 3), 2^-9 below 2^-6; round() is half to even."""
    r = max(abs(float(x)) for x in block) / (6 * tensor_scale)
    if r == 0:
        return 1
    r = min(448.0, max(2 ** -9, r))
    step = 2.0 ** (max(-6, math.floor(math.log2(r))) - 3)
    return round(r / step) * step


def scale_as_float8(block, tensor_scale):
    r = block.abs().amax() / (6 * tensor_scale)
    return (torch.tensor(1.0) if r == 0 else r.clamp(2 ** -9, 448)).to(torch.float8_e4m3fn)


def codes_by_distance(block, scale, tensor_scale):
    grid, out = [0, .5, 1, 1.5, 2, 3, 4, 6], []
    for x in block.tolist():
        y = abs(x) / (scale * tensor_scale)
        out.append(min(range(8), key=lambda c, y=y: (abs(grid[c] - y), c % 2)) + (8 if x < 0 else 0))
    return tuple(out)


def codes_by_searchsorted(block, scale, tensor_scale):
    y = np.abs(block.numpy()) / np.float32(scale * tensor_scale)
    bounds = np.array([.25, np.nextafter(np.float32(.75), np.float32(0)), 1.25, np.nextafter(np.float32(1.75), np.float32(0)),
                       2.5, np.nextafter(np.float32(3.5), np.float32(0)), 5], dtype=np.float32)
    return np.searchsorted(bounds, y, side="left") + 8 * (block.numpy() < 0)


def pack_in_a_loop(codes):
    return [int(codes[i]) + 16 * int(codes[i + 1]) for i in range(0, len(codes), 2)]


def dequantize_with_floats(packed, scales, tensor_scale):
    grid, out = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0), []
    for i, byte in enumerate(packed.tolist()):
        for code in (byte % 16, byte // 16):
            out.append((-grid[code - 8] if code > 7 else grid[code]) * scales[i // 8].item() * tensor_scale)
    return out


def dequantize_by_the_class(packed, scales, tensor_scale):
    return NVFP4(packed, scales, torch.tensor(tensor_scale)).dequantize().numpy()


def offset_by_enumeration(m, k, per_row):
    """Walk over the padded layout byte by byte until (m, k) turns up."""
    place = 0
    for tile_m in range(0, m + 1, 128):
        for tile_k in range(0, per_row, 4):
            if (tile_m, tile_k) == (m // 128 * 128, k // 4 * 4):
                for row in range(32):
                    for group in range(4):
                        for column in range(4):
                            if (tile_m + group * 32 + row, tile_k + column) == (m, k):
                                return np.int64(place)
                            place += 1
            place += 512
    raise AssertionError


def bytes_exactly(shapes, vocabulary, hidden, tied):
    total = vocabulary * hidden * 2
    if not tied:
        total *= 2
    for rows, columns in shapes:
        total += rows * (columns // 2) + rows * (columns // 16) + 4
    return total


@pytest.mark.parametrize(("name", "answer"), [
    ("block_scale", scale_by_numpy), ("block_scale", scale_by_hand), ("block_scale", scale_as_float8),
    ("quantize_block", codes_by_distance), ("quantize_block", codes_by_searchsorted),
    ("pack", pack_in_a_loop), ("pack", lambda codes: bytes(pack_in_a_loop(codes))),
    ("pack", lambda codes: codes.numpy()[::2] + 16 * codes.numpy()[1::2].astype(int)),
    ("unpack", lambda packed: [n for byte in packed for n in divmod(int(byte), 16)[::-1]]),
    ("unpack", lambda packed: np.stack([packed.numpy() & 15, packed.numpy() >> 4], 1).ravel()),
    ("dequantize", dequantize_with_floats), ("dequantize", dequantize_by_the_class),
    ("scale_offset", offset_by_enumeration), ("checkpoint_bytes", bytes_exactly),
    ("checkpoint_bytes", lambda *a: float(bytes_exactly(*a))),
])
def test_right_answers_in_other_styles(name, answer):
    verdict = check(name, answer)
    assert verdict.status == CORRECT, verdict


# ---------------------------------------------------------------- wrong answers

@pytest.mark.parametrize(("name", "number"), [(n, i) for n in MISTAKES for i in range(len(MISTAKES[n]))])
def test_each_mistake_gets_its_own_hint(name, number):
    mistake = MISTAKES[name][number]
    verdict = check(name, mistake.function)
    assert verdict.status == NOT_YET and verdict.hint == mistake.hint


def test_hints_say_something_of_their_own():
    for name, mistakes in MISTAKES.items():
        hints = [m.hint for m in mistakes]
        assert len(set(hints)) >= len(hints) - 1, name     # both roundings to a power of two share one
        assert all(len(h) > 30 for h in hints), name


def scale_that_is_zero(block, tensor_scale):
    return (block.abs().max() / (6 * tensor_scale)).to(torch.float8_e4m3fn).float()


def codes_ties_away(block, scale, tensor_scale):
    y = (block / (scale * tensor_scale)).abs()
    return sum((y >= b).int() for b in (.25, .75, 1.25, 1.75, 2.5, 3.5, 5)) + 8 * (block < 0)


# Written as a learner would, and independent of the mistakes that the checker holds: the hint's key word must come out.
@pytest.mark.parametrize(("name", "answer", "word"), [
    ("block_scale", lambda b, g: (b.abs().max() / (6 * g)).item(), "eight bits"),
    ("block_scale", lambda b, g: (b.abs().max() / (6 * g)).bfloat16().float(), "float8_e4m3fn"),
    ("block_scale", lambda b, g: (b.max() / (6 * g)).to(torch.float8_e4m3fn).float(), "magnitude"),
    ("block_scale", lambda b, g: (b.abs().max() / 6).to(torch.float8_e4m3fn).float(), "tensor scale is missing"),
    ("block_scale", lambda b, g: (b.abs().max() / (448 * g)).to(torch.float8_e4m3fn).float(), "448"),
    ("block_scale", lambda b, g: (b.abs().max() / (4 * g)).to(torch.float8_e4m3fn).float(), "divided by 4"),
    ("block_scale", scale_that_is_zero, "2^-9"),
    ("quantize_block", codes_ties_away, "even code"),
    ("quantize_block", lambda b, s, g: elements.encode_e2m1(b / s), "tensor scale is missing"),
    ("quantize_block", lambda b, s, g: elements.encode_e2m1(b / (s / g)), "compressed-tensors"),
    ("quantize_block", lambda b, s, g: elements.encode_e2m1((b / (s * g)).abs()), "signs"),
    ("quantize_block", lambda b, s, g: elements.decode_e2m1(elements.encode_e2m1(b / (s * g))), "values"),
    ("pack", lambda c: c[0::2] << 4 | c[1::2], "swapped"),
    ("pack", lambda c: layouts.pack_halves(c, 16), "ggml"),
    ("pack", lambda c: c, "one byte for each code"),
    ("unpack", lambda p: torch.cat((p & 15, p >> 4)), "interleave"),
    ("unpack", lambda p: layouts.unpack_halves(p, 16), "halves"),
    ("dequantize", lambda p, s, g: NVFP4(p, s, torch.tensor(1 / g)).dequantize(), "divided by the tensor scale"),
    ("dequantize", lambda p, s, g: NVFP4((p << 4) | (p >> 4), s, torch.tensor(g)).dequantize(), "swapped"),
    ("dequantize", lambda p, s, g: NVFP4(p, s, torch.tensor(1.0)).dequantize(), "tensor scale is missing"),
    ("dequantize", lambda p, s, g: NVFP4(p, s, torch.tensor(g)).dequantize().reshape(-1, 16), "flat"),
    ("dequantize", lambda p, s, g: s * g, "scales.float()"),
    ("checkpoint_bytes", lambda s, v, h, t: sum(n * k for n, k in s) // 2 + v * h * 2 * (2 - t), "block scales"),
    ("checkpoint_bytes", lambda s, v, h, t: sum(n * k for n, k in s) * 9 // 16 + v * h * 4, "once"),
    ("checkpoint_bytes", lambda s, v, h, t: (sum(n * k for n, k in s) + v * h * (2 - t)) * 4.5 / 8, "embedding and head"),
    ("checkpoint_bytes", lambda s, v, h, t: sum(n * k for n, k in s) * 4.5 + v * h * 16 * (2 - t), "bits"),
])
def test_what_learners_write_gets_the_hint_that_fits(name, answer, word):
    verdict = check(name, answer)
    assert verdict.status == NOT_YET and word in verdict.hint, verdict


@pytest.mark.parametrize("name", MISTAKES)
def test_other_wrong_answers(name):
    solution = from_notebook(name, notebooks.SOLUTION)

    def first_spoilt(value):
        def wrong(*args):
            out = solution(*args)
            out = out.tolist() if hasattr(out, "tolist") else out
            return [value, *out[1:]] if isinstance(out, list) else value
        return wrong

    def only_the_first_case(*args, seen=[]):    # noqa: B006 - remembers on purpose
        seen.append(solution(*args))
        return seen[0]

    def raises(*args):
        return {}["no"]

    wrong = [first_spoilt(v) for v in (math.nan, math.inf, -math.inf, None, "3", 999, True)]
    wrong += [only_the_first_case, raises, lambda *a: [], lambda *a: 0.5, lambda *a: "text", lambda *a: a, lambda: 1, 5]
    for answer in wrong:
        verdict = check(name, answer)
        assert verdict.status != CORRECT and (verdict.hint or verdict.status == NOT_ATTEMPTED), (name, answer)
    assert "your code raised" in dict(check(name, raises).rows)


def test_a_function_that_changes_its_input_is_not_helped_by_it():
    def scale_in_place(block, tensor_scale):
        return scale_by_hand(block.abs_(), tensor_scale)

    for _ in range(2):
        assert check("block_scale", scale_in_place).status == CORRECT
    assert any((case.args[0] < 0).any() for case in scaling._SCALES)
