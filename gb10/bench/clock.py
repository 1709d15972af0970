"""One clock for sending and receiving: nanoseconds of the monotonic clock, also for what the kernel dated.

The kernel stamps a segment with CLOCK_REALTIME when the network layer takes it in (SO_TIMESTAMPNS, socket(7)), however
late the program reads it. Everything else here is CLOCK_MONOTONIC (time.monotonic_ns, the same clock in every process).
`Offset` turns one into the other and notices when the wall clock was set in between.
"""

from __future__ import annotations

import struct
from time import monotonic_ns, time_ns

SO_TIMESTAMPNS = 35              # x86-64 and aarch64, include/uapi/asm-generic/socket.h; Python's socket has no name for it
SCM_SPACE = 64                   # bytes of ancillary data: a header and two 64-bit integers fit
STEP_NS = 50_000                 # an offset that moves by more was a clock being set, not the clock being disciplined

STAMP = struct.Struct("qq")      # struct timespec with 64-bit members


def stamp_ns(data: bytes) -> int:
    """Nanoseconds of CLOCK_REALTIME from the payload of an SCM_TIMESTAMPNS message (struct timespec)."""
    seconds, ns = STAMP.unpack_from(data)
    return seconds * 1_000_000_000 + ns


def realtime_minus_monotonic(tries: int = 20) -> int:
    """The difference of the two clocks in ns; of several readings the one in the narrowest bracket."""
    best_width, best = 1 << 62, 0
    for _ in range(tries):
        a, r, b = monotonic_ns(), time_ns(), monotonic_ns()
        if b - a < best_width:
            best_width, best = b - a, r - (a + b) // 2
    return best


class Offset:
    """CLOCK_REALTIME - CLOCK_MONOTONIC, kept up to date; `epoch` counts the steps seen so far."""

    __slots__ = ("_read", "epoch", "ns")

    def __init__(self, read=realtime_minus_monotonic):
        self._read = read
        self.ns = read()
        self.epoch = 0

    def refresh(self) -> None:
        """Look again. A step means: stamps taken across it can't be placed on the monotonic clock."""
        now = self._read()
        if abs(now - self.ns) > STEP_NS:
            self.epoch += 1
        self.ns = now
