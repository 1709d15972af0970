"""Buckets of equal relative width, as in HdrHistogram: whole numbers counted with a known error in flat memory."""

from __future__ import annotations


def bucket(value: int, bits: int) -> int:
    """The bucket of a whole number >= 0; buckets are at most 2^-bits of the value wide, below 2^bits exact."""
    shift = value.bit_length() - bits - 1
    return value if shift <= 0 else (shift << bits) + (value >> shift)


def middle(number: int, bits: int) -> float:
    """The middle of a bucket."""
    shift = (number >> bits) - 1
    if shift <= 0:
        return float(number)
    low = (number - (shift << bits)) << shift
    return low + ((1 << shift) - 1) / 2
