"""The loops of the NVFP4 codec, compiled by numba. Only build.py imports this, on the first use on a machine.

Every argument is a pointer or a count, so that the finished code can be called as C would be: see `EXPORTS`.
Elements come in as their bit patterns (uint16 for BF16 and FP16, uint32 for FP32). Without the sign bit, patterns of
finite floats are ordered like their magnitudes, so that comparing and taking a maximum need no arithmetic at all.

The one thing that LLVM doesn't find by itself is that a block of 16 is a vector. `_blocks` and `_largest` say so, in
LLVM's own vector types; what becomes of them (AVX-512, AVX2, NEON) is LLVM's choice.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

BLOCK = 16
BOUNDS = 7                                       # boundaries between the 8 magnitudes of E2M1
INDEX, LANE, BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(8)


# --- vectors -------------------------------------------------------------------------------------------------------

def _at(builder, pointer, index):
    return builder.gep(pointer, [index])


def _load(builder, pointer, element, n):
    # Only the alignment of one element is promised.
    return builder.load(builder.bitcast(pointer, ir.VectorType(element, n).as_pointer()), align=element.width // 8)


def _store(builder, vector, pointer, align):
    builder.store(vector, builder.bitcast(pointer, vector.type.as_pointer()), align=align)


def _pick(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(LANE, len(lanes)), list(lanes)))


@intrinsic
def _largest(typing, x, block):
    """The largest magnitude pattern of x[16 * block:][:16]."""
    def generate(context, builder, signature, args):
        element = ir.IntType(signature.args[0].dtype.bitwidth)
        vector = ir.VectorType(element, BLOCK)
        at = builder.mul(args[1], INDEX(BLOCK))
        v = _load(builder, _at(builder, args[0], at), element, BLOCK)
        v = builder.and_(v, ir.Constant(vector, [(1 << element.width - 1) - 1] * BLOCK))
        name = f"llvm.vector.reduce.umax.v{BLOCK}i{element.width}"
        reduce = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(element, [vector]))
        return builder.call(reduce, [v])

    return x.dtype(x, types.intp), generate


def _blocks(n, to_codes):
    """An intrinsic for n blocks at once: each element's magnitude against the seven thresholds of its block.

    What the last threshold passed stands for is kept: its number (to_codes: two codes go into a byte), or the value
    that this code has in this block, as a pattern like x's. Rows of `thresholds` and `values`: see `tables`.
    """
    def generate(context, builder, signature, args):
        x, block, scales, thresholds, values, out = args
        element, lanes = ir.IntType(signature.args[0].dtype.bitwidth), BLOCK * n
        vector = ir.VectorType(element, lanes)
        first = builder.mul(block, INDEX(BLOCK))

        def everywhere(pattern):
            return ir.Constant(vector, [pattern] * lanes)

        def rows(table):
            """The row of each block's scale byte: the eight numbers of block 0, then those of block 1."""
            found = []
            for i in range(n):
                byte = builder.load(_at(builder, scales, builder.add(block, INDEX(i))))
                at = builder.mul(builder.zext(byte, INDEX), INDEX(8))
                found.append(_load(builder, _at(builder, table, at), element, 8))
            return found[0] if n == 1 else _pick(builder, *found, range(16))

        def column(row, k):
            return _pick(builder, row, row, [k + 8 * (lane // BLOCK) for lane in range(lanes)])

        u = _load(builder, _at(builder, x, first), element, lanes)
        sign = 1 << element.width - 1
        magnitude = builder.and_(u, everywhere(sign - 1))
        limits = rows(thresholds)
        kept = everywhere(0)
        levels = None if to_codes else rows(values)
        for k in range(BOUNDS):
            passed = builder.icmp_unsigned(">=", magnitude, column(limits, k))
            stands_for = everywhere(k + 1) if to_codes else column(levels, k + 1)
            kept = builder.select(passed, stands_for, kept)
        # The eighth number has the sign bit: at or above it are the negative elements that count as negative.
        minus = builder.icmp_unsigned(">=", u, column(limits, BOUNDS))
        if to_codes:
            code = builder.select(minus, builder.or_(kept, everywhere(8)), kept)
            if element.width == 32:
                code = builder.trunc(code, ir.VectorType(ir.IntType(16), lanes))
            # Two 16-bit lanes are one of 32, the even element in its lower half (both x86-64 and aarch64 store so).
            pair = builder.bitcast(code, ir.VectorType(LANE, lanes // 2))
            pair = builder.or_(pair, builder.lshr(pair, ir.Constant(pair.type, [12] * (lanes // 2))))
            result = builder.trunc(pair, ir.VectorType(BYTE, lanes // 2))
            at, align = builder.mul(block, INDEX(BLOCK // 2)), 1
        else:
            # Code 8 stands for plus zero: only what passed the first threshold may become negative.
            minus = builder.and_(minus, builder.icmp_unsigned(">=", magnitude, column(limits, 0)))
            result = builder.select(minus, builder.or_(kept, everywhere(sign)), kept)
            at, align = first, element.width // 8
        _store(builder, result, _at(builder, out, at), align)
        return context.get_dummy_value()

    def typing(typing, x, block, scales, thresholds, values, out):
        return types.void(x, types.intp, scales, thresholds, values, out), generate

    return intrinsic(typing)


def _decoder(narrow):
    """An intrinsic: out[16 * block:][:16] = the two values of each of the block's eight bytes, times c, `narrow`ed."""
    def generate(context, builder, signature, args):
        real, parts = ir.FloatType(), []
        for i in range(BLOCK // 2):
            at = builder.add(builder.mul(args[1], INDEX(BLOCK // 2)), INDEX(i))
            byte = builder.load(_at(builder, args[0], at))
            at = builder.mul(builder.zext(byte, INDEX), INDEX(2))
            two = builder.bitcast(_at(builder, args[2], at), ir.VectorType(real, 2).as_pointer())
            parts.append(builder.load(two, align=4))
        while len(parts) > 1:
            wide = range(2 * parts[0].type.count)
            parts = [_pick(builder, a, b, wide) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        one = builder.insert_element(ir.Constant(ir.VectorType(real, 1), ir.Undefined), args[3], LANE(0))
        product = narrow(builder, builder.fmul(parts[0], _pick(builder, one, one, [0] * BLOCK)))
        out = _at(builder, args[4], builder.mul(args[1], INDEX(BLOCK)))
        _store(builder, product, out, signature.args[4].dtype.bitwidth // 8)
        return context.get_dummy_value()

    def typing(typing, packed, block, pairs, c, out):
        return types.void(packed, types.intp, pairs, types.float32, out), generate

    return intrinsic(typing)


def _to_bf16(builder, v):
    """Upper half of the FP32 pattern, nearest even. LLVM's own instruction for it takes subnormals for zero."""
    wide = ir.VectorType(LANE, BLOCK)

    def everywhere(pattern):
        return ir.Constant(wide, [pattern] * BLOCK)

    bits = builder.bitcast(v, wide)
    odd = builder.and_(builder.lshr(bits, everywhere(16)), everywhere(1))
    near = builder.lshr(builder.add(builder.add(bits, everywhere(0x7FFF)), odd), everywhere(16))
    near = builder.select(builder.fcmp_unordered("uno", v, v), everywhere(0x7FC0), near)
    return builder.trunc(near, ir.VectorType(ir.IntType(16), BLOCK))


def _to_fp16(builder, v):
    half = builder.fptrunc(v, ir.VectorType(ir.HalfType(), BLOCK))
    return builder.bitcast(half, ir.VectorType(ir.IntType(16), BLOCK))


_encode_two, _encode_one = _blocks(2, True), _blocks(1, True)
_snap_two, _snap_one = _blocks(2, False), _blocks(1, False)
_decode_fp32, _decode_bf16, _decode_fp16 = _decoder(lambda builder, v: v), _decoder(_to_bf16), _decoder(_to_fp16)

# --- loops ---------------------------------------------------------------------------------------------------------
# Each works on one stretch of blocks.

FP32, BF16, FP16 = 0, 1, 2


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
        pattern = np.int64(_largest(x, block))
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
