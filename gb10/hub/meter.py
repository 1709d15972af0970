"""How far a transfer is, how fast it goes and how long it still takes."""

from __future__ import annotations

import time

from gb10.progress import Progress


class Meter:
    """Shows `LABEL: 120/2400 MB, 41.0 MB/s, 56 s left`; `have` is what was there before it started, in bytes."""

    def __init__(self, label: str, total: int, have: int = 0, *, quiet: bool = False):
        self.line, self.total, self.before, self.have = Progress(label, quiet=quiet), total, have, have
        self.t0 = time.monotonic()

    def at(self, have: int) -> None:
        """So many bytes are there now, those of before included."""
        self.have = have
        self.line.update(self.text(time.monotonic() - self.t0))

    def text(self, seconds: float) -> str:
        rate = (self.have - self.before) / max(seconds, 0.1)
        words = [f"{self.have / 1e6:.0f}/{self.total / 1e6:.0f} MB"]
        if rate > 0:
            words += [f"{rate / 1e6:.1f} MB/s", f"{duration((self.total - self.have) / rate)} left"]
        return ", ".join(words)

    def say(self, sentence: str) -> None:
        self.line.clear()
        self.line.say(sentence)

    def done(self, sentence: str) -> None:
        self.line.done(sentence)

    def clear(self) -> None:
        self.line.clear()


def duration(seconds: float) -> str:
    """95 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
