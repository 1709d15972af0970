"""The caches between cores and memory, as Linux lists them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True)
class Cache:
    level: int
    size: int            # bytes of one of them
    count: int           # how many of them the usable cores have together

    @property
    def total(self) -> int:
        return self.size * self.count

    def __str__(self) -> str:
        times = f"{self.count} × " if self.count > 1 else ""
        return f"L{self.level} {times}{_short(self.size)}"


def _short(size: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} B"


def caches(root: Path | str = "/sys/devices/system/cpu", cores: set[int] | None = None) -> tuple[Cache, ...]:
    """Data and unified caches of the cores that this process may use, smallest level first; () where nothing says.

    Where cores differ (GB10 has two kinds), the size is that of the larger one's.
    """
    if cores is None:
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    found: dict[int, dict[str, int]] = {}
    for core in sorted(cores):
        for index in sorted(Path(root).glob(f"cpu{core}/cache/index*")):
            try:
                kind, level, size, shared = ((index / f).read_text().strip()
                                             for f in ("type", "level", "size", "shared_cpu_list"))
                number, unit = re.fullmatch(r"(\d+)([KMG]?)", size).groups()
            except (OSError, AttributeError):
                continue
            if kind in ("Data", "Unified") and level.isdigit():
                found.setdefault(int(level), {})[shared] = int(number) * _UNITS[unit]
    return tuple(Cache(level, max(each.values()), len(each)) for level, each in sorted(found.items()))
