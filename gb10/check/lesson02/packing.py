"""Checkers of lesson 02, notebook 2: bytes and their order."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gb10.check.verdict import Case, Mistake, Verdict, grade, one_number
from gb10.formats.elements import E2M1
from gb10.formats.layouts import scale_offset as _offset

# ---------------------------------------------------------------- two codes to a byte


def _ints(values) -> list[int]:
    return [int(v) for v in values]


def _pairs(codes):
    codes = _ints(codes)
    return list(zip(codes[0::2], codes[1::2], strict=True))


def _halves(codes, block=16):
    """(element i, element i + half) of every block, as ggml pairs them."""
    codes = _ints(codes)
    half = min(block, len(codes)) // 2
    return [(codes[i + j], codes[i + j + half]) for i in range(0, len(codes), 2 * half) for j in range(half)]


def _pack(codes):
    return [low | high << 4 for low, high in _pairs(codes)]


_SOME = (10, 1, 12, 3, 13, 4, 14, 6, 14, 6, 15, 7, 8, 0, 0, 0, 9, 1, 3, 2, 4, 12, 13, 5, 6, 5, 6, 14, 7, 6, 15, 7)
_PACKED = (
    Case((torch.arange(16, dtype=torch.uint8),), None, "the sixteen codes in order"),
    Case((torch.tensor(_SOME, dtype=torch.uint8),), None, "two blocks"),
)

_PACK_MISTAKES = (
    Mistake(lambda c: [high | low << 4 for low, high in _pairs(c)],
            "the pairs are swapped: the even element (0, 2, 4 …) goes into the low four bits, the odd one is shifted up."),
    Mistake(lambda c: [low | high << 4 for low, high in _halves(c)],
            "you pair element i with element i + 8: that is ggml's layout. Here neighbours share a byte: 0 with 1, 2 with 3."),
    Mistake(lambda c: [low | high << 4 for low, high in _halves(c, len(c))],
            "you pair the first half with the second half. Neighbours share a byte: element 0 with 1, 2 with 3."),
    Mistake(lambda c: [high | low << 4 for low, high in _halves(c)],
            "you pair element i with element i + 8, and the wrong way round. Neighbours share a byte, the even one low."),
    Mistake(_ints, "that is one byte for each code: eight bits for four. Two codes go into a byte."),
    Mistake(lambda c: [low + high for low, high in _pairs(c)],
            "you added the two codes; shift the odd one up by four bits first (<< 4, or * 16)."),
    Mistake(lambda c: [low | high for low, high in _pairs(c)],
            "the two codes lie on top of each other: shift the odd one up by four bits first (<< 4)."),
    Mistake(lambda c: [(low + high) << 4 & 255 for low, high in _pairs(c)],
            "Python reads a + b << 4 as (a + b) << 4: write a + (b << 4), or a | b << 4."),
    Mistake(lambda c: [low | high << 3 for low, high in _pairs(c)], "a code has four bits, sign included: shift by 4, not by 3."),
    Mistake(lambda c: [10 * high + low for low, high in _pairs(c)],
            "ten is for decimal digits; a half-byte has sixteen values: odd * 16 + even."),
    Mistake(lambda c: [low + 15 * high for low, high in _pairs(c)], "sixteen values fit into four bits: multiply by 16, not 15."),
)


def pack(function: Callable) -> Verdict:
    """pack(codes) -> bytes; codes: uint8 tensor [K], each 0..15; K/2 numbers from 0 to 255."""
    cases = [Case(c.args, _pack(*c.args), c.name) for c in _PACKED]
    return grade("pack", function, cases, mistakes=_PACK_MISTAKES,
                 hint="codes[0::2] are the even elements, codes[1::2] the odd ones; byte = even | odd << 4.",
                 done="half a byte for a weight: these are the bytes of `weight` in a checkpoint.")


_UNPACKED = (
    Case((torch.tensor([0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE], dtype=torch.uint8),), None, "the sixteen codes in order"),
    Case((torch.tensor(_pack(_SOME), dtype=torch.uint8),), None, "two blocks"),
)


def _unpack(data):
    return [code for byte in _ints(data) for code in (byte & 15, byte >> 4)]


def _unpack_halves(data, half=8):
    data = _ints(data)
    return [code for i in range(0, len(data), half) for part in (0, 4) for code in
            (byte >> part & 15 for byte in data[i:i + half])]


_UNPACK_MISTAKES = (
    Mistake(lambda d: [code for byte in _ints(d) for code in (byte >> 4, byte & 15)],
            "the pairs are swapped: the low four bits (byte & 15) hold the even element, and it comes first."),
    Mistake(_unpack_halves,
            "you return all low halves, then all high halves: that is ggml's layout. Here each byte holds two neighbours."),
    Mistake(lambda d: _unpack_halves(d, len(d)),
            "you return all low halves, then all high halves; each byte holds two neighbours: interleave them."),
    Mistake(lambda d: [byte & 15 for byte in _ints(d)], "each byte holds two codes; the high four bits (byte >> 4) are missing."),
    Mistake(lambda d: [byte >> 4 for byte in _ints(d)], "each byte holds two codes; the low four bits (byte & 15) are missing."),
    Mistake(lambda d: [code for byte in _ints(d) for code in (byte, byte >> 4)],
            "the low code still has the high one above it: byte & 15 keeps the low four bits."),
    Mistake(lambda d: [code for byte in _ints(d) for code in (byte & 15, byte & 240)],
            "the high code is still in the upper half of its byte: shift it down, byte >> 4."),
    Mistake(lambda d: [code for byte in _ints(d) for code in (byte & 7, byte >> 4 & 7)],
            "a code has four bits, the sign is the fourth: keep it, byte & 15."),
    Mistake(lambda d: [(-1 if c & 8 else 1) * E2M1[c & 7] for c in _unpack(d)],
            "those are values already; asked are the codes, 0 to 15."),
)


def unpack(function: Callable) -> Verdict:
    """unpack(packed) -> codes; packed: uint8 tensor [K/2]; K numbers from 0 to 15, in the order of the elements."""
    cases = [Case(c.args, _unpack(*c.args), c.name) for c in _UNPACKED]
    return grade("unpack", function, cases, mistakes=_UNPACK_MISTAKES,
                 hint="byte & 15 is the even element, byte >> 4 the odd one; they alternate in the result.",
                 done="it undoes pack, byte for byte.")


# ---------------------------------------------------------------- from bytes to weights

def _decode(packed, scales, g, *, codes=_unpack, value=None, scale=None, combine=lambda v, s, g: v * s * g, block=16):
    value = value or (lambda c: (-1 if c & 8 else 1) * E2M1[c & 7])
    scale = scale or (lambda i, s: s[i // block])
    s = [float(v) for v in scales.float()]
    return [combine(value(c), scale(i, s), float(g)) for i, c in enumerate(codes(packed))]


_FILE = torch.tensor(_pack(_SOME + tuple(reversed(_SOME[:16]))), dtype=torch.uint8)
_DEQUANTIZED = (
    Case((_FILE, torch.tensor([448.0, 12.0, 88.0]).to(torch.float8_e4m3fn), 0.003), None, "three blocks"),
    Case((_FILE[:8], torch.tensor([0.5]).to(torch.float8_e4m3fn), 2.0), None, "one block"),
)

_DEQUANTIZE_MISTAKES = (
    Mistake(lambda *a: _decode(*a, combine=lambda v, s, g: v * s / g),
            "you divided by the tensor scale. Here it is a multiplier (ModelOpt's weight_scale_2); compressed-tensors stores "
            "the inverse and divides."),
    Mistake(lambda *a: _decode(*a, combine=lambda v, s, g: v / s / g), "decoding multiplies by both scales; you divided by them."),
    Mistake(lambda *a: _decode(*a, combine=lambda v, s, g: v * g / s), "decoding multiplies by the block scale; you divided by it."),
    Mistake(lambda *a: _decode(*a, combine=lambda v, s, g: v * s), "the tensor scale is missing: value * scale * tensor_scale."),
    Mistake(lambda *a: _decode(*a, combine=lambda v, s, g: v * g), "the block scales are missing: value * scale * tensor_scale."),
    Mistake(lambda *a: _decode(*a, combine=lambda v, s, g: v), "both scales are missing: value * scale * tensor_scale."),
    Mistake(lambda *a: _decode(*a, codes=lambda d: [c for b in _ints(d) for c in (b >> 4, b & 15)]),
            "the pairs are swapped: the even element of a pair lies in the low nibble (byte & 15)."),
    Mistake(lambda *a: _decode(*a, codes=_unpack_halves),
            "you read ggml's layout, low halves first. Here each byte holds two neighbours."),
    Mistake(lambda *a: _decode(*a, codes=lambda d: _unpack_halves(d, len(d))),
            "you return all low halves, then all high ones; each byte holds two neighbours: interleave them."),
    Mistake(lambda *a: _decode(*a, scale=lambda i, s: s[0]), "every block of 16 has its own scale; you used the first for all."),
    Mistake(lambda *a: _decode(*a, scale=lambda i, s: s[i % len(s)]),
            "the scales are dealt out in turn (repeat); each belongs to 16 neighbours in a row (repeat_interleave)."),
    Mistake(lambda *a: _decode(*a, scale=lambda i, s: float(torch.tensor(s[i // 16]).to(torch.float8_e4m3fn).view(torch.uint8))),
            "you used the scales' bytes as numbers (.view); .float() gives what they stand for."),
    Mistake(lambda *a: _decode(*a, value=lambda c: E2M1[c & 7]), "the signs are gone: bit 3 of a code marks a negative weight."),
    Mistake(lambda *a: _decode(*a, value=lambda c: c - 16 if c > 7 else c),
            "the codes are not two's-complement integers: look them up in E2M1."),
    Mistake(lambda *a: _decode(*a, value=lambda c: (-1 if c & 8 else 1) * (c & 7)),
            "a code is a position on the grid, not the value itself: code 7 means 6.0."),
    Mistake(lambda *a: _decode(*a)[0::2], "every byte holds two weights; you returned one of each pair."),
)


def dequantize(function: Callable) -> Verdict:
    """dequantize(packed, scales, tensor_scale) -> K weights; packed: uint8 [K/2], scales: float8_e4m3fn [K/16]."""
    cases = [Case(c.args, _decode(*c.args), c.name) for c in _DEQUANTIZED]
    return grade(
        "dequantize", function, cases, mistakes=_DEQUANTIZE_MISTAKES, rel=1e-5, absolute=1e-12,
        hint="unpack the codes, look them up in E2M1 (bit 3 is the sign), multiply each by the scale of its block of 16 "
             "(scales.float(): torch doesn't calculate in float8) and by the tensor scale.",
        done="you can read any NVFP4 checkpoint of ModelOpt's.")


# ---------------------------------------------------------------- the tensor cores' order

_OFFSETS = tuple(Case(args, _offset(*args), name) for args, name in (
    ((0, 0, 8), "the first"), ((0, 3, 8), "the fourth of its row"), ((1, 0, 8), "the next row"),
    ((32, 0, 8), "32 rows further"), ((101, 2, 8), "inside the first tile"), ((0, 4, 8), "the next tile of the row"),
    ((128, 0, 8), "the first row of the next tiles"), ((200, 6, 10), "10 scales to a row: padded to 3 tiles"),
    ((300, 17, 18), "a larger one")))


def _wrong_offset(tiles=lambda per_row: -(-per_row // 4), within=None, tile_bytes=512):
    within = within or (lambda m, k: m % 32 * 16 + m % 128 // 32 * 4 + k % 4)
    return lambda m, k, n: (m // 128 * tiles(n) + k // 4) * tile_bytes + within(m, k)


_OFFSET_MISTAKES = (
    Mistake(lambda m, k, n: m * n + k, "that is the linear order, row by row: what a checkpoint holds, before it is rearranged."),
    Mistake(_wrong_offset(within=lambda m, k: m % 128 * 4 + k % 4),
            "your tile is in plain row order. In it rows 0, 32, 64 and 96 lie side by side: row m starts at 16 * (m % 32), plus "
            "4 for every 32 rows before it."),
    Mistake(_wrong_offset(tiles=lambda n: n // 4), "a row that doesn't fill its last tile is padded: round the tiles per row up."),
    Mistake(_wrong_offset(within=lambda m, k: m % 32 * 16 + m // 32 * 4 + k % 4),
            "m // 32 goes on growing after the first tile: count the groups of 32 inside the tile, m % 128 // 32."),
    Mistake(_wrong_offset(tile_bytes=128), "a tile holds 128 rows × 4 scales = 512 bytes."),
    Mistake(lambda m, k, n: m % 32 * 16 + m % 128 // 32 * 4 + k % 4, "that is the place inside the tile; the tiles before it count."),
    Mistake(_wrong_offset(within=lambda m, k: m % 32 * 16 + m % 128 // 32 + k % 4 * 4),
            "inside 16 bytes the four scales of one row stay together: the row group counts 4, the scale counts 1."),
)


def scale_offset(function: Callable) -> Verdict:
    """scale_offset(m, k, per_row) -> byte offset of the scale of row m, block k; per_row: scales in a row."""
    return grade(
        "scale_offset", one_number(function), _OFFSETS, mistakes=_OFFSET_MISTAKES,
        hint="tile = m // 128 * (tiles per row, rounded up) + k // 4, of 512 bytes; inside it 16 * (m % 32), plus 4 for each "
             "32 rows above it in the tile, plus k % 4.",
        done="that is where tensor cores look for it; torchao's to_blocked and vLLM put it there.")

