"""Checkers of lesson 03, quantize with ModelOpt."""

from __future__ import annotations

from collections.abc import Callable

from gb10.check.verdict import Case, Mistake, Verdict, grade

GRID = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


# ---------------------------------------------------------------- exercise 1: decode a block

def _decode(packed, block_scale, tensor_scale, *, low_first=True, signed=True, grid=GRID, scale=None):
    nibbles = [n for byte in packed for n in ((byte & 15, byte >> 4) if low_first else (byte >> 4, byte & 15))]
    scale = block_scale * tensor_scale if scale is None else scale(block_scale, tensor_scale)
    return [grid[n & 7] * (-1 if signed and n & 8 else 1) * scale for n in nibbles]


def _twos_complement(packed, block_scale, tensor_scale):
    nibbles = [n for byte in packed for n in (byte & 15, byte >> 4)]
    return [(n - 16 if n > 7 else n) * block_scale * tensor_scale for n in nibbles]


def _halves(packed, block_scale, tensor_scale):
    even = _decode(packed, block_scale, tensor_scale)
    return even[0::2] + even[1::2]


_BLOCKS = (
    Case(([0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE], 1.0, 1.0), None, "the sixteen codes in order"),
    Case(([0xA1, 0xC3, 0xD4, 0xE6, 0xE6, 0xF7, 0x80, 0x00], 448.0, 0.002232142857), None, "a block from a golden vector"),
    Case(([0x91, 0x32, 0x4C, 0xD5, 0x65, 0x6E, 0x76, 0xF7], 12.0, 0.002232142857), None, "small scale"),
)

_BLOCK_MISTAKES = (
    Mistake(lambda *a: _decode(*a, low_first=False),
            "your pairs are swapped: the even element of a pair lies in the low nibble (byte & 0x0F), the odd one in "
            "the high nibble (byte >> 4)."),
    Mistake(lambda *a: _decode(*a, signed=False),
            "bit 3 of a code is the sign: the codes 8 to 15 are the negatives of the codes 0 to 7."),
    Mistake(_twos_complement, "the codes are not two's-complement integers: look them up in the E2M1 grid, which is not "
                              "evenly spaced."),
    Mistake(lambda *a: _decode(*a, grid=tuple(range(8))),
            "a code is a position on the grid, not the value itself: code 7 means 6.0."),
    Mistake(lambda *a: _decode(*a, scale=lambda s, g: s), "the tensor scale is missing: value = grid * block scale * "
                                                          "tensor scale."),
    Mistake(lambda *a: _decode(*a, scale=lambda s, g: g), "the block scale is missing: value = grid * block scale * "
                                                          "tensor scale."),
    Mistake(lambda *a: _decode(*a, scale=lambda s, g: s / g),
            "ModelOpt's weight_scale_2 is a multiplier (llm-compressor stores its inverse and divides)."),
    Mistake(_halves, "the elements are interleaved: byte 0 holds elements 0 and 1, byte 1 holds 2 and 3, and so on."),
    Mistake(lambda *a: _decode(*a)[0::2], "every byte holds two elements; you returned one of each pair."),
)


def decode_block(function: Callable) -> Verdict:
    """decode_block(packed, block_scale, tensor_scale) -> 16 values: 8 bytes with two E2M1 codes each, and both scales."""
    cases = [Case(c.args, _decode(*c.args), c.name) for c in _BLOCKS]
    return grade(
        "decode_block", function, cases, mistakes=_BLOCK_MISTAKES, rel=1e-5, absolute=1e-12,
        hint="for each byte take its low four bits, then its high four; bits 0-2 pick a value of the grid, bit 3 is the "
             "sign; multiply by both scales. Return a list of 16 numbers.",
        done="you can read an NVFP4 checkpoint without any library.")


# ---------------------------------------------------------------- exercise 2: the rate of a stream

def _rate(times, asked_at):
    return (len(times) - 1) / (times[-1] - times[0])


_STREAMS = (
    Case(([10.5, 10.58, 10.75, 10.9, 11.0], 10.0), None, "5 tokens, asked at 10.0, the first at 10.5"),
    Case(([0.25, 0.5, 0.75, 1.0], 0.0), None, "4 tokens"),
    Case(([3.0, 3.5], 0.0), None, "two tokens"),
    Case(([1.0], 0.0), 0.0, "one token: no interval, so no rate; say 0"),
)

_STREAM_MISTAKES = (
    Mistake(lambda t, a: len(t) / (t[-1] - a),
            "that is tokens over the whole wait. It mixes in the time to the first token (TTFT), which is prefill and "
            "queueing; decoding starts when the first token is there."),
    Mistake(lambda t, a: (len(t) - 1) / (t[-1] - a),
            "your clock starts at the question. Time to the first token is measured apart: start at times[0]."),
    Mistake(lambda t, a: len(t) / (t[-1] - t[0]),
            "n tokens have n - 1 intervals between them; the first token opens the clock and is not counted."),
    Mistake(lambda t, a: len(t) / t[-1], "times are clock readings, not durations: subtract where the clock started."),
    Mistake(lambda t, a: (t[-1] - t[0]) / (len(t) - 1), "those are seconds per token (the time per output token, TPOT); "
                                                        "asked is its inverse."),
    Mistake(lambda t, a: 1 / (t[1] - t[0]), "that is the rate of the first interval; take all of them."),
)


def decode_rate(function: Callable) -> Verdict:
    """decode_rate(times, asked_at) -> tokens per second while decoding; times are the arrival times of the tokens."""
    cases = [Case(c.args, _rate(*c.args) if c.expected is None else c.expected, c.name) for c in _STREAMS]
    return grade(
        "decode_rate", function, cases, mistakes=_STREAM_MISTAKES, rel=1e-6,
        hint="count the intervals between tokens and divide by the time from the first token to the last; a stream of "
             "one token has no interval: return 0.",
        done="this is how serving benchmarks define it, and why they report TTFT apart.")
