"""The steady window of a closed loop: from the first to the last moment with all C requests in flight. In flat memory."""

from __future__ import annotations


class Window:
    """Takes in the start and end of every request of a segment with its slot, in any order; `bounds()` is the window.

    A slot that ends a request starts the next at once while any are left, so it is busy from its first start to its last
    end; all C are from the latest first start to the earliest last end. (The microseconds between two requests of a slot
    count as busy.)
    """

    def __init__(self, concurrency: int):
        self._c = concurrency
        self._slots: dict[int, tuple[int, int]] = {}     # first start, last end
        self.first: int | None = None    # start of the first request
        self.last: int | None = None     # end of the last

    def add(self, start: int, end: int, slot: int = 0) -> None:
        self.first = start if self.first is None else min(self.first, start)
        self.last = end if self.last is None else max(self.last, end)
        a, b = self._slots.get(slot, (start, end))
        self._slots[slot] = (min(a, start), max(b, end))

    def bounds(self) -> tuple[int, int] | None:
        """(from, to), or None where there was no moment with C in flight."""
        if len(self._slots) < self._c:
            return None
        begin, end = max(a for a, _ in self._slots.values()), min(b for _, b in self._slots.values())
        return (begin, end) if end > begin else None
