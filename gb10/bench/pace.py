"""Which request is sent when: the next one as soon as a slot is free (closed loop), or by the clock (open loop)."""

from __future__ import annotations

import math

from gb10.bench.prompts import mixed


class Closed:
    """C slots, each sending its next request when the last has ended, until the numbers or the seconds are used up."""

    scheduled = False

    def __init__(self, todo: list[tuple[int, int]], seconds: float | None = None, least: int = 0):
        """todo: ranges [from, to) of request numbers. With `seconds`, no request starts later, but `least` do."""
        self._numbers = (i for a, b in todo for i in range(a, b))
        self._seconds, self._least = seconds, least
        self.started = 0

    def next(self) -> int | None:
        """The number of the next request to be built, None when none is left."""
        return next(self._numbers, None)

    def start(self, since_start_ns: int) -> bool:
        """May a request start now? If so it counts as started."""
        if self._seconds is not None and self.started >= self._least and since_start_ns > self._seconds * 1e9:
            return False
        self.started += 1
        return True


class Open:
    """Requests at planned times, whatever the server does: a constant rate, or a Poisson process."""

    scheduled = True

    def __init__(self, todo: list[tuple[int, int]], rate: float, poisson: bool, seed: int, seconds: float | None = None):
        """rate: requests per second. The times of a Poisson process follow from the seed."""
        self._numbers = (i for a, b in todo for i in range(a, b))
        self._seconds = seconds
        self._gap, self._poisson, self._seed = 1e9 / rate, poisson, seed
        self._at = 0.0
        self._peek()

    def _peek(self) -> None:
        self._next = next(self._numbers, None)
        if self._seconds is not None and self._at > self._seconds * 1e9:
            self._next = None

    def due(self) -> int | None:
        """When the next request is planned, in ns from the start; None when none is left."""
        return None if self._next is None else int(self._at)

    def take(self) -> int:
        """The number of the request that is due."""
        number = self._next
        step = self._gap
        if self._poisson:
            step *= -math.log((mixed(self._seed, number) + 1) / (1 << 64))
        self._at += step
        self._peek()
        return number
