"""What the lines of a report sum up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """Sums over some weights."""

    weights: int
    parameters: int
    bytes: int
    share: float                     # of all bytes of the checkpoint

    @property
    def bits(self) -> float:
        return 8 * self.bytes / self.parameters if self.parameters else 0.0


@dataclass(frozen=True)
class Row:
    """Weights that differ only in the number of their layer or expert."""

    pattern: str
    kind: str
    format: str
    layout: str
    shape: tuple[int, ...]
    block: str
    activations: str
    sum: Part
