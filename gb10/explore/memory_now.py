"""Where this machine's memory is right now, from /proc/meminfo; drawn as one bar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gb10.explore import figure

MIB, GIB = 2**20, 2**30
LIGHT = "#cfd8e3"


@dataclass(frozen=True)
class Memory:
    """Bytes. programs + cache + free = total; `available` is what a new program can get: free, and most of the cache."""

    total: int
    free: int
    cache: int                   # page cache and other caches that the kernel gives back when asked
    available: int
    swap: int = 0                # size of the swap space

    @property
    def programs(self) -> int:
        """What nothing gives back: programs, the kernel, shared memory, and on a Spark whatever the GPU holds."""
        return max(0, self.total - self.free - self.cache)

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        return ("programs and kernel", self.programs), ("page cache", self.cache), ("free", self.free)


def parse(text: str) -> Memory:
    """Memory from the text of /proc/meminfo, whose "kB" are 1024 bytes. ValueError for a text that isn't one."""
    kib = {k: int(v) for k, v in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    if not {"MemTotal", "MemFree"} <= kib.keys():
        raise ValueError("this is no /proc/meminfo: it lacks MemTotal or MemFree")
    # Shmem is counted in Cached, but a file in memory can't be dropped
    cache = sum(kib.get(k, 0) for k in ("Cached", "Buffers", "SReclaimable")) - kib.get("Shmem", 0)
    cache = min(max(0, cache), kib["MemTotal"] - kib["MemFree"])
    available = kib.get("MemAvailable", kib["MemFree"] + cache)
    return Memory(kib["MemTotal"] * 1024, kib["MemFree"] * 1024, cache * 1024, available * 1024,
                  kib.get("SwapTotal", 0) * 1024)


def now(proc: Path | str = "/proc") -> Memory:
    """This machine, now. Where there is no /proc/meminfo (macOS), psutil's figures, the cache among "free"."""
    try:
        return parse((Path(proc) / "meminfo").read_text())
    except OSError:
        import psutil

        v = psutil.virtual_memory()
        return Memory(v.total, min(v.free, v.total), 0, v.available, psutil.swap_memory().total)


def describe(m: Memory) -> str:
    parts = ", ".join(f"{name} {size / GIB:.2f} GiB" for name, size in m.parts)
    return f"{m.total / GIB:.2f} GiB in all: {parts}; available to a new program {m.available / GIB:.2f} GiB"


def draw(states: Sequence[tuple[str, Memory]]):
    """Figure: one bar per state; the mark shows MemAvailable, counted from the right, where "free" ends."""
    fig, ax = figure.new(9, 1.15 + 0.62 * len(states))
    colours = {"programs and kernel": figure.BLUE, "page cache": figure.ORANGE, "free": LIGHT}
    for row, (_, m) in enumerate(reversed(states)):
        left = 0.0
        for name, size in m.parts:
            ax.barh(row, size / GIB, left=left, color=colours[name], height=0.6, label=name if not row else None)
            left += size / GIB
        at = (m.total - m.available) / GIB
        ax.plot([at, at], [row - 0.42, row + 0.42], color="black", linewidth=2, label="MemAvailable: all to the right" if not row else None)
    ax.set(yticks=range(len(states)), yticklabels=[name for name, _ in reversed(states)], xlabel="GiB",
           xlim=(0, max(m.total for _, m in states) / GIB * 1.01))
    fig.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return fig


def show(*states: tuple[str, Memory]) -> figure.Picture:
    """The bars with their alt text."""
    return figure.show(draw(states), "Stacked bars of memory. " + ". ".join(f"{name}: {describe(m)}" for name, m in states) + ".")
