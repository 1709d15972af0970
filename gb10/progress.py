"""A line that says how far long work has come: rewritten in place on a terminal, one line now and then elsewhere."""

from __future__ import annotations

import sys
import time


class Progress:
    """Shows `LABEL  TEXT  1:23`. On a terminal the line is rewritten; in a log or a notebook a new line appears at
    most every `every` seconds. It writes to standard error, so that `--json` on standard output stays clean.
    """

    def __init__(self, label: str, *, stream=None, every: float = 10.0, quiet: bool = False):
        self.label, self.every, self.quiet = label, every, quiet
        self.stream = stream or sys.stderr
        self.tty = bool(getattr(self.stream, "isatty", lambda: False)())
        self.t0 = self._last = time.monotonic()
        self._width = 0

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.t0

    def _clock(self) -> str:
        s = int(self.elapsed)
        return f"{s // 60}:{s % 60:02d}"

    def update(self, text: str) -> None:
        if self.quiet:
            return
        line = f"  {self.label}: {text}  [{self._clock()}]"
        if self.tty:
            self.stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
            self.stream.flush()
        elif time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            self.say(line)

    def done(self, text: str) -> None:
        """The last word: stays on the screen."""
        self.clear()
        self.say(f"  {self.label}: {text}  [{self._clock()}]")

    def clear(self) -> None:
        if self.tty and self._width and not self.quiet:
            self.stream.write("\r" + " " * self._width + "\r")
            self.stream.flush()
        self._width = 0

    def say(self, line: str) -> None:
        if not self.quiet:
            self.stream.write(line + "\n")
            self.stream.flush()
