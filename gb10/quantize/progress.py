"""One line on stderr that says how far long work is, how long it still takes and how much memory it holds."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from pathlib import Path

TERMINAL, LOG = 0.2, 10.0              # seconds between two lines


class Line:
    """`line.update(done, total)` from any thread; on a terminal the line is written over, in a log one comes every 10 s."""

    def __init__(self, what: str, *, unit: str = "GB", per_unit: float = 1e9, quiet: bool = False, stream=None):
        self.what, self.unit, self.per_unit = what, unit, per_unit
        self.stream = stream or sys.stderr
        self.quiet = quiet or self.stream is None                # stderr closed
        self.terminal = self.stream is not None and self.stream.isatty()
        self.started: tuple[float, float] | None = None       # when, and how much was done by then
        self.last, self.width = 0.0, 0
        self.lock = threading.Lock()

    def update(self, done: float, total: float) -> None:
        now = time.monotonic()
        if self.quiet or now - self.last < (TERMINAL if self.terminal else LOG) and done < total:
            return
        with self.lock:
            if self.started is None:
                self.started = (now, done)
                self.last = now if not self.terminal else 0.0
                if not self.terminal:
                    return
            self.last = now
            self._write(self.text(done, total, now))

    def text(self, done: float, total: float, now: float) -> str:
        """quantizing  43 %   6.9 of 16.4 GB   3.2 GB/s   3 s left   memory 0.2 GB"""
        since, before = self.started or (now, done)
        rate = (done - before) / (now - since) if now > since else 0.0
        share = done / total if total else 1.0
        words = [f"{self.what} {share:4.0%}", f"{done / self.per_unit:.3g} of {total / self.per_unit:.3g} {self.unit}"]
        if rate:
            words += [f"{rate / self.per_unit:.2g} {self.unit}/s", f"{duration((total - done) / rate)} left"]
        used = memory()[0]
        if used:
            words.append(f"memory {used / 1e9:.2f} GB")
        return "   ".join(words)

    def say(self, sentence: str) -> None:
        """A line of its own."""
        if not self.quiet:
            with self.lock:
                self._clear()
                print(sentence, file=self.stream, flush=True)

    def end(self) -> None:
        with self.lock:
            self._clear()

    def _write(self, text: str) -> None:
        if self.terminal:
            text = text[:max(20, shutil.get_terminal_size((100, 20)).columns - 1)]
            self.stream.write("\r" + text.ljust(self.width))
            self.width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def _clear(self) -> None:
        if self.terminal and self.width:
            self.stream.write("\r" + " " * self.width + "\r")
            self.stream.flush()
            self.width = 0


def duration(seconds: float) -> str:
    """95 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def memory() -> tuple[int, int]:
    """(resident bytes of this process now, the most so far); zeros where nobody says."""
    try:
        found = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(found["VmRSS"].split()[0]) * 1024, int(found["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        try:
            import resource

            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            return most, most
        except (ImportError, OSError):
            return 0, 0


