"""The machines of the catalogue: memory, bandwidth and peak rates, each figure with its source.

Figures that are in circulation but wrong stay in, marked doubtful with the reason; nothing computes with them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

from gb10.catalog.source import Source, Unsourced, read_json, source

GB, GIB = 1e9, 2**30
_UNITS = {"GB": GB, "GiB": GIB, "GB/s": GB, "TFLOPS": 1e12, "PFLOPS": 1e15}
MEASURED = "bandwidth.json"     # what lesson 1 writes into the course's state folder: {"read_gbs": …, "measured": …}


@dataclass(frozen=True)
class Figure:
    """One published (or measured) number."""

    name: str                # "bandwidth", "memory_nominal", "flops nvfp4", "other"
    value: float             # in `unit`
    unit: str                # GB, GiB, GB/s, TFLOPS, PFLOPS
    source: Source
    what: str = ""
    doubtful: str = ""       # why not to use it; empty = usable

    @property
    def base(self) -> float:
        """In bytes, bytes/s or FLOP/s."""
        return self.value * _UNITS[self.unit]


@dataclass(frozen=True)
class Machine:
    name: str
    title: str
    unified: bool                       # CPU and GPU share one pool
    figures: tuple[Figure, ...]
    compute_capability: str = ""
    aliases: tuple[str, ...] = ()

    def figure(self, name: str) -> Figure | None:
        return next((f for f in self.figures if f.name == name and not f.doubtful), None)

    @property
    def memory(self) -> float:
        """Bytes that programs can see: the visible memory where a source has it, else the nominal one."""
        return (self.figure("memory_visible") or self.figure("memory_nominal")).base

    @property
    def bandwidth(self) -> float:
        """Peak bytes per second."""
        return self.figure("bandwidth").base

    @property
    def source(self) -> Source:
        """Where the bandwidth comes from; every figure has its own."""
        return self.figure("bandwidth").source

    @property
    def circulating(self) -> tuple[Figure, ...]:
        """Figures that were published and are wrong, each with the reason in `doubtful`."""
        return tuple(f for f in self.figures if f.doubtful)

    @property
    def bandwidth_measured(self) -> float | None:
        figure = self.figure("bandwidth_measured")
        return figure.base if figure else None

    def flops(self, fmt: str) -> float | None:
        """Dense peak, FLOP/s, with operands of this format; None where no source has one."""
        figure = self.figure(f"flops {fmt}")
        return figure.base if figure else None

    @property
    def calibrated(self) -> bool:
        """Is the decode efficiency fitted to measurements on this machine?"""
        return self.name == "gb10"


def figure(name: str, row: dict, of: str) -> Figure:
    """One row of machines.json; refuses it without source, unit or a sensible value."""
    if not isinstance(row.get("value"), (int, float)) or row["value"] <= 0 or row.get("unit") not in _UNITS:
        raise Unsourced(f"{name} of {of} is no positive number with a known unit: {row!r}")
    return Figure(name, float(row["value"]), row["unit"], source(row.get("source"), f"{name} of {of}"),
                  row.get("what", ""), row.get("doubtful", ""))


def build(name: str, row: dict) -> Machine:
    figures = [figure(k, row[k], name) for k in ("memory_nominal", "memory_visible", "bandwidth", "bandwidth_measured")
               if k in row]
    figures += [figure(f"flops {fmt}", f, name) for fmt, f in row.get("flops", {}).items()]
    figures += [figure("other", f, name) for f in row.get("others", ())]
    return Machine(name, row["title"], row["unified"], tuple(figures), row.get("compute_capability", ""),
                   tuple(row.get("aliases", ())))


@cache
def machines() -> dict[str, Machine]:
    """All machines by name."""
    return {name: build(name, row) for name, row in read_json("machines.json").items()}


def this_machine(bandwidth_gbs: float | None = None, memory_bytes: float | None = None) -> Machine:
    """This machine as measured: bandwidth as a number, or as lesson 1 measured it and wrote it down.

    Raises ValueError when neither is there, or the number makes no sense.
    """
    from gb10 import machine, paths

    when, path = "", paths.STATE / MEASURED
    if bandwidth_gbs is None:
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            bandwidth_gbs, when = float(saved["read_gbs"]), str(saved.get("measured", ""))
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise ValueError("the memory bandwidth of this machine has not been measured yet: run lesson 1's second "
                             "notebook, or give it, as in --bandwidth 50 (GB/s).") from e
    if not 0.1 < bandwidth_gbs < 1e5:
        raise ValueError(f"a memory bandwidth of {bandwidth_gbs:g} GB/s makes no sense: give GB/s, 50 for instance.")
    m = machine.detect()
    here = Source("this-machine", "gb10/catalog/hardware.py", "measured on this machine", (when or "2026-11-21")[:10])
    memory = memory_bytes or m.memory_total_bytes
    return Machine("this", f"this machine ({m.describe()})", True, (
        Figure("memory_nominal", memory / GB, "GB", here), Figure("bandwidth", bandwidth_gbs, "GB/s", here, "measured"),
        Figure("bandwidth_measured", bandwidth_gbs, "GB/s", here, "measured")))
