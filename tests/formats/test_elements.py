"""E2M1 and powers of two, over every value that can matter: all bfloat16 and float16 numbers, all codes, all ties."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch

from gb10.formats.elements import (
    E2M1,
    E2M1_BOUNDS,
    decode_e2m1,
    decode_packed_e2m1,
    e8m0_values,
    encode_e2m1,
    pack_nibbles,
    power_of_two,
    round_to_grid,
    unpack_nibbles,
)


def every(dtype):
    """All finite numbers of a 16-bit float type, as FP32."""
    x = torch.arange(-2 ** 15, 2 ** 15).to(torch.int16).view(dtype).float()
    return x[torch.isfinite(x)]


def bits(x):
    return x.contiguous().view(torch.int32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_sixteen_bit_number_gets_the_code_that_ml_dtypes_gives(dtype):
    x = every(dtype)
    want = torch.from_numpy(x.numpy().astype(ml_dtypes.float4_e2m1fn).view(np.uint8))
    assert torch.equal(encode_e2m1(x, minus_zero=True), want)
    # without minus_zero the only difference is the code of -0.0
    plain = encode_e2m1(x)
    assert torch.equal(plain, torch.where((x == 0), 0, want))
    assert plain[x < 0].min() == 8


@pytest.mark.parametrize("sign", [1, -1])
def test_every_tie_goes_to_the_even_code_and_its_neighbours_to_the_nearer(sign):
    for below, bound in enumerate(E2M1_BOUNDS):
        assert Fraction(bound) == (Fraction(E2M1[below]) + Fraction(E2M1[below + 1])) / 2
        tie = torch.tensor(bound)
        x = torch.stack((torch.nextafter(tie, torch.tensor(0.0)), tie, torch.nextafter(tie, torch.tensor(9.0)))) * sign
        even = below if below % 2 == 0 else below + 1
        minus = 8 if sign < 0 else 0
        assert encode_e2m1(x).tolist() == [below + minus, even + minus, below + 1 + minus]
        value, _ = round_to_grid(x.abs())
        assert value.tolist() == [E2M1[below], E2M1[even], E2M1[below + 1]]


def test_decoding_is_the_inverse_and_tells_the_zeros_apart():
    codes = torch.arange(16, dtype=torch.uint8)
    want = torch.from_numpy(codes.numpy().view(ml_dtypes.float4_e2m1fn).astype(np.float32))
    assert torch.equal(bits(decode_e2m1(codes, minus_zero=True)), bits(want))
    assert torch.equal(encode_e2m1(decode_e2m1(codes, minus_zero=True), minus_zero=True), codes)
    assert bits(decode_e2m1(codes))[8] == 0 and torch.equal(decode_e2m1(codes), want)


def test_nibbles_even_element_low():
    assert pack_nibbles(torch.tensor([1, 2, 15, 8], dtype=torch.uint8)).tolist() == [0x21, 0x8F]
    every_byte = torch.arange(256, dtype=torch.uint8).reshape(2, 4, 32)
    assert torch.equal(pack_nibbles(unpack_nibbles(every_byte)), every_byte)


@pytest.mark.parametrize("minus_zero", [True, False])
def test_bytes_are_decoded_as_their_nibbles_are(minus_zero):
    packed = torch.arange(256, dtype=torch.uint8).reshape(2, 4, 32)
    for part in (packed, packed[:, :, ::2], packed[0, 0]):
        want = decode_e2m1(unpack_nibbles(part), minus_zero)
        assert torch.equal(bits(decode_packed_e2m1(part, minus_zero)), bits(want))


def test_powers_of_two_down_to_the_last_subnormal():
    exponents = torch.arange(-149, 128)
    assert power_of_two(exponents).tolist() == [math.ldexp(1, e) for e in exponents.tolist()]


def test_e8m0_values_are_those_of_ml_dtypes():
    byte = torch.arange(255, dtype=torch.uint8)                  # 255 is NaN
    want = byte.numpy().view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    assert e8m0_values(byte.view(torch.float8_e8m0fnu)).tolist() == want.tolist()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.int32])
def test_only_float32_is_rounded(dtype):
    with pytest.raises(ValueError, match=r"float32.*shape \(1,\).*\.float\(\)"):
        encode_e2m1(torch.tensor([2.5]).to(dtype))
