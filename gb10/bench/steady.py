"""The steady window of a closed loop: from the first to the last moment with all C requests in flight. In flat memory."""

from __future__ import annotations

from heapq import heappush, heappushpop


class Window:
    """Takes in the start and end of every request of a segment, in any order; `bounds()` is the window.

    While requests are left, a slot that ends one starts the next at once, so C are in flight from the C-th start on, and
    until the first end after the last start. At most C requests end after the last start: the C latest ends are enough.
    """

    def __init__(self, concurrency: int):
        self._c = concurrency
        self._starts: list[int] = []     # the C earliest, negated: a heap whose top is the C-th
        self._ends: list[int] = []       # the C latest: a heap whose top is the earliest of them
        self.first: int | None = None    # start of the first request
        self.last: int | None = None     # end of the last
        self._last_start: int | None = None

    def add(self, start: int, end: int) -> None:
        self.first = start if self.first is None else min(self.first, start)
        self.last = end if self.last is None else max(self.last, end)
        self._last_start = start if self._last_start is None else max(self._last_start, start)
        for heap, value in ((self._starts, -start), (self._ends, end)):
            if len(heap) < self._c:
                heappush(heap, value)
            else:
                heappushpop(heap, value)

    def bounds(self) -> tuple[int, int] | None:
        """(from, to), or None where there was no moment with C in flight."""
        if len(self._starts) < self._c:
            return None
        after = [e for e in self._ends if e > self._last_start]
        begin = -self._starts[0]
        return (begin, min(after)) if after and min(after) > begin else None
