"""Checker of lesson 02, notebook 2: the size of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable

from gb10.check.verdict import Case, Mistake, Verdict, grade, one_number


def _bytes(shapes, vocabulary, hidden, tied, *, bits=4.5, table_bits=16, tables=None):
    tables = (1 if tied else 2) if tables is None else tables
    return sum(n * k for n, k in shapes) * bits / 8 + tables * vocabulary * hidden * table_bits / 8


_SMALL = [(64, 32), (16, 32), (16, 32), (32, 64), (96, 32), (96, 32), (32, 96)]
_WIDE = [(4096, 4096), (1024, 4096), (1024, 4096), (4096, 4096), (14336, 4096), (14336, 4096), (4096, 14336)] * 32
_CASES = (
    Case((_SMALL, 500, 32, False), None, "one small layer, a head of its own"),
    Case((_SMALL, 500, 32, True), None, "the same with a tied head"),
    Case((_WIDE, 128256, 4096, False), None, "the shapes of Llama-3.1-8B"),
)

_MISTAKES = (
    Mistake(lambda *a: _bytes(*a, bits=4), "the block scales are missing: 8 more bits for every 16 weights make 4.5 bits, not 4."),
    Mistake(lambda *a: _bytes(*a, bits=4, table_bits=4),
            "that is a quarter of BF16: the block scales are missing, and embedding and head stay in BF16."),
    Mistake(lambda *a: _bytes(*a, table_bits=4.5),
            "you quantized embedding and head as well: in ModelOpt's NVFP4 checkpoints they stay in BF16, two bytes a number."),
    Mistake(lambda *a: _bytes(*a, bits=36),
            "4.5 is in bits, and the tables are in bytes: divide the bits of the linear layers by 8."),
    Mistake(lambda *a: 8 * _bytes(*a), "those are bits; a byte has eight."),
    Mistake(lambda *a: _bytes(*a) / 1e9, "that is in GB; asked are bytes."),
    Mistake(lambda *a: _bytes(*a) / 2 ** 30, "that is in GiB; asked are bytes."),
    Mistake(lambda *a: _bytes(*a, tables=2),
            "a tied head is the embedding table once more: it is stored once, so count it once."),
    Mistake(lambda *a: _bytes(*a, tables=1),
            "the head is missing: when it isn't tied, it is a second matrix of vocabulary × hidden."),
    Mistake(lambda s, v, h, tied: _bytes(s, v, h, tied, tables=2 if tied else 1),
            "tied is the other way round: tied means that embedding and head share one table."),
    Mistake(lambda *a: _bytes(*a, tables=0), "embedding and head are missing: vocabulary × hidden numbers each, in BF16."),
    Mistake(lambda *a: _bytes(*a, bits=16), "that is the BF16 checkpoint; the linear layers shrink to 4.5 bits a weight."),
    Mistake(lambda *a: _bytes(*a, bits=4.25), "4.25 bits is MXFP4, with a scale for 32 weights; NVFP4 has one for 16."),
    Mistake(lambda *a: _bytes(*a, bits=5), "a block scale has 8 bits (E4M3), not 16: 4 + 8/16 bits a weight."),
    Mistake(lambda *a: _bytes(*a, bits=6), "a block scale has 8 bits (E4M3), not 32: 4 + 8/16 bits a weight."),
    Mistake(lambda *a: _bytes(*a, bits=8.5), "two codes share a byte: 4 bits a weight, not 8, plus the scales."),
    Mistake(lambda *a: _bytes(*a, bits=12), "the eight bits of a scale are shared by 16 weights: 4 + 8/16, not 4 + 8."),
    Mistake(lambda *a: _bytes(*a, table_bits=8), "BF16 has two bytes a number, also in embedding and head."),
    Mistake(lambda *a: _bytes(*a, table_bits=32), "BF16 has two bytes a number, not four."),
)


def checkpoint_bytes(function: Callable) -> Verdict:
    """checkpoint_bytes(shapes, vocabulary, hidden, tied) -> bytes, right to 0.1 %.

    shapes: (rows, columns) of each linear layer, in NVFP4; embedding and head, vocabulary x hidden, in BF16. Norms and
    tensor scales are too small to matter, and may be counted or not.
    """
    cases = [Case(c.args, _bytes(*c.args), c.name) for c in _CASES]
    return grade(
        "checkpoint_bytes", one_number(function), cases, mistakes=_MISTAKES, rel=1e-3,
        hint="sum rows * columns over the shapes, times (4 + 8/16) / 8 bytes; add vocabulary * hidden * 2 bytes for the embedding "
             "and, unless it is tied, the same again for the head.",
        done="tensor scales and norms would add less than a thousandth.")
