"""The loops of the NVFP4 codec, compiled by numba. Only build.py imports this, on the first use on a machine.

Every argument is a pointer or a count, so that the finished code can be called as C would be: see `EXPORTS`.
Elements come in as their bit patterns (uint16 for BF16 and FP16, uint32 for FP32). Without the sign bit, patterns of
finite floats are ordered like their magnitudes, so that comparing and taking a maximum need no arithmetic at all.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import types

from gb10.formats.kernels.vectors import BOUNDS, decoder, largest, step, to_bf16, to_fp16

FP32, BF16, FP16 = 0, 1, 2                       # `kind` of the elements

_encode_two, _encode_one = step(2, to_codes=True), step(1, to_codes=True)
_snap_two, _snap_one = step(2, to_codes=False), step(1, to_codes=False)
_decode_fp32, _decode_bf16, _decode_fp16 = decoder(lambda builder, v: v), decoder(to_bf16), decoder(to_fp16)
_inner = numba.njit(error_model="numpy")


@_inner
def _value(pattern, kind):
    """FP32 value of a magnitude pattern."""
    if kind == BF16:
        return np.uint32(pattern << 16).view(np.float32)
    if kind == FP16:
        if pattern < 0x400:                      # a subnormal, steps of 2^-24
            return np.float32(pattern) * np.float32(2.0 ** -24)
        return np.uint32((pattern << 13) + (112 << 23)).view(np.float32)
    return np.uint32(pattern).view(np.float32)


@_inner
def _pattern(value, kind):
    """Magnitude pattern of an FP32 value, rounded toward zero where the format is narrower."""
    bits = np.int64(np.float32(value).view(np.uint32))
    if kind == BF16:
        return bits >> 16
    if kind == FP16:
        if value < np.float32(2.0 ** -14):
            return np.int64(value * np.float32(2.0 ** 24))
        return (bits - (112 << 23)) >> 13
    return bits


def block_amax(x, kind, amax, blocks):
    """amax[block], FP32, of the patterns x; returns the largest pattern of all (a NaN's or an infinity's shows)."""
    top = np.int64(0)
    for block in range(blocks):
        pattern = np.int64(largest(x, block))
        top = max(top, pattern)
        amax[block] = _value(pattern, kind)
    return top


def block_scales(amax, d6, scales, blocks):
    """E4M3 bytes of clip(amax / d6, 2^-9, 448), 0 -> 1, nearest even."""
    for block in range(blocks):
        ratio = np.float32(amax[block] / d6[0])
        ratio = np.float32(1.0) if ratio == 0 else ratio
        r = np.float32(min(max(ratio, np.float32(2.0 ** -9)), np.float32(448.0)))
        # From 2^-6 on, three bits of mantissa: round them off the FP32 pattern, then exponent bias 7 instead of 127.
        # Below, steps of 2^-9: those are the last bits of an FP32 number in [2^14, 2^15).
        bits = r.view(np.uint32)
        normal = ((bits + np.uint32(0x7FFFF) + ((bits >> np.uint32(20)) & np.uint32(1))) >> np.uint32(20)) - (120 << 3)
        small = np.float32(r + np.float32(2.0 ** 14)).view(np.uint32) & np.uint32(15)
        scales[block] = np.uint8(small if r < np.float32(2.0 ** -6) else normal)
    return 0


@_inner
def _passes(pattern, c, bound, k, kind):
    if c == 0:
        return True                              # x / 0 is infinite; 0 / 0, not a number, gets code 7 as well
    y = np.float32(_value(pattern, kind) / c)
    if k == BOUNDS:
        return y > 0
    return y >= bound if k % 2 else y > bound


def tables(c, bounds, kind, infinity, thresholds, rows):
    """thresholds[byte][k]: the smallest pattern x for which fl32(x / c[byte]) passes bounds[k].

    A tie goes to the even code: reaching boundary k is enough where k is odd. Column 7, with the sign bit, says from
    which pattern on a negative element is negative after the division too (a subnormal quotient may round to zero).
    The quotient grows with x, so one threshold decides; the division itself finds it, starting beside bounds * c.
    """
    sign = np.int64(1) << (31 if kind == FP32 else 15)
    for byte in range(rows):
        for k in range(BOUNDS + 1):
            guess = np.float32(bounds[k] * np.float64(c[byte]))
            at = min(max(_pattern(guess, kind) - 1, np.int64(0)), infinity)
            while at > 0 and _passes(at - 1, c[byte], bounds[k], k, kind):
                at -= 1
            while at < infinity and not _passes(at, c[byte], bounds[k], k, kind):
                at += 1
            thresholds[8 * byte + k] = at if k < BOUNDS else max(at, np.int64(1)) | sign
    return 0


def encode(x, scales, thresholds, packed, blocks):
    """Two codes to a byte."""
    for i in range(blocks // 2):
        _encode_two(x, 2 * i, scales, thresholds, thresholds, packed)
    if blocks % 2:
        _encode_one(x, blocks - 1, scales, thresholds, thresholds, packed)
    return 0


def snap(x, scales, thresholds, values, out, blocks):
    """The values that the codes stand for, as patterns like x's; rows of values as of thresholds."""
    for i in range(blocks // 2):
        _snap_two(x, 2 * i, scales, thresholds, values, out)
    if blocks % 2:
        _snap_one(x, blocks - 1, scales, thresholds, values, out)
    return 0


def decode_fp32(packed, scales, c, pairs, out, blocks):
    """FP32 values: the pair of each byte times c[scale byte]."""
    for block in range(blocks):
        _decode_fp32(packed, block, pairs, c[scales[block]], out)
    return 0


def decode_bf16(packed, scales, c, pairs, out, blocks):
    """The same, rounded once more; out: patterns."""
    for block in range(blocks):
        _decode_bf16(packed, block, pairs, c[scales[block]], out)
    return 0


def decode_fp16(packed, scales, c, pairs, out, blocks):
    """The same, rounded once more; out: patterns."""
    for block in range(blocks):
        _decode_fp16(packed, block, pairs, c[scales[block]], out)
    return 0


def flushes(x):
    """Does this thread take subnormal numbers for zero? x: one small normal number."""
    return np.int64(x[0] * np.float32(0.5) == 0)


# --- what a caller finds -------------------------------------------------------------------------------------------

_byte, _fp32, _fp64, _count = (types.CPointer(types.uint8), types.CPointer(types.float32),
                               types.CPointer(types.float64), types.int64)


def _exports():
    decoders = (("decode_fp32", decode_fp32, types.CPointer(types.float32)),
                ("decode_bf16", decode_bf16, types.CPointer(types.uint16)),
                ("decode_fp16", decode_fp16, types.CPointer(types.uint16)))
    yield "flushes", flushes, (_fp32,)
    yield "block_scales", block_scales, (_fp32, _fp32, _byte, _count)
    for name, loop, out in decoders:
        yield name, loop, (_byte, _byte, _fp32, _fp32, out, _count)
    for bits, element in ((16, types.CPointer(types.uint16)), (32, types.CPointer(types.uint32))):
        yield f"block_amax_{bits}", block_amax, (element, _count, _fp32, _count)
        yield f"tables_{bits}", tables, (_fp32, _fp64, _count, _count, element, _count)
        yield f"encode_{bits}", encode, (element, _byte, element, _byte, _count)
        yield f"snap_{bits}", snap, (element, _byte, element, element, element, _count)


EXPORTS = {name: (loop, arguments) for name, loop, arguments in _exports()}   # each returns an int64
