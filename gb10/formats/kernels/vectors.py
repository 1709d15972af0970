"""The steps of the loops that work on whole blocks, in LLVM's own vector types.

Written as a loop over 16 elements, LLVM doesn't find that a block is a vector: encoding took some twenty times as long
(numba 0.68 on AVX-512). Here it is told so; what becomes of it (AVX-512, AVX2, NEON) is LLVM's choice.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

BLOCK = 16
BOUNDS = 7                                       # boundaries between the 8 magnitudes of E2M1
INDEX, LANE, HALF, BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(16), ir.IntType(8)


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
def largest(typing, x, block):
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


def step(n, to_codes):
    """An intrinsic for n blocks at once: each element's magnitude against the seven thresholds of its block.

    What the last threshold passed stands for is kept: its number (to_codes: two codes go into a byte), or the value
    that this code has in this block, as a pattern like x's. Rows of `thresholds` and `values`: see `tables` in loops.py.
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
                code = builder.trunc(code, ir.VectorType(HALF, lanes))
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


def decoder(narrow):
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


def to_bf16(builder, v):
    """For decoder. Upper half of the FP32 pattern, nearest even. LLVM's own instruction for it takes subnormals for zero."""
    wide = ir.VectorType(LANE, BLOCK)

    def everywhere(pattern):
        return ir.Constant(wide, [pattern] * BLOCK)

    bits = builder.bitcast(v, wide)
    odd = builder.and_(builder.lshr(bits, everywhere(16)), everywhere(1))
    near = builder.lshr(builder.add(builder.add(bits, everywhere(0x7FFF)), odd), everywhere(16))
    near = builder.select(builder.fcmp_unordered("uno", v, v), everywhere(0x7FC0), near)
    return builder.trunc(near, ir.VectorType(HALF, BLOCK))


def to_fp16(builder, v):
    """For decoder."""
    half = builder.fptrunc(v, ir.VectorType(ir.HalfType(), BLOCK))
    return builder.bitcast(half, ir.VectorType(HALF, BLOCK))
