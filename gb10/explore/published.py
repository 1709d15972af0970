"""Published accuracy of quantized models, one row per figure, each with its source; and the picture of model size."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gb10.explore import figure

COLUMNS = ("model", "billions", "format", "method", "metric", "value", "baseline", "unit", "source", "url", "standing")
PRIMARY, SECONDARY = "primary", "secondary"


@dataclass(frozen=True)
class Published:
    """One published figure.

    model, billions: name and total parameters in billions, as the name says; format, method: what was quantized to and how;
    metric, value, unit: what was measured; baseline: the same before quantization (None where the unit is relative);
    source, url: paper id, issue or page; standing: PRIMARY, or SECONDARY where the course has it at second hand.
    """

    model: str
    billions: float
    format: str
    method: str
    metric: str
    value: float
    baseline: float | None
    unit: str
    source: str
    url: str
    standing: str

    @property
    def kept(self) -> float:
        """Per cent of the baseline's score that is left. ValueError for perplexity, which isn't a score."""
        if self.unit == "% of baseline":
            return self.value
        if self.unit != "score" or not self.baseline:
            raise ValueError(f"{self.metric} of {self.model} is no score, so no share of it is left")
        return 100 * self.value / self.baseline


def read(path: Path) -> list[Published]:
    """The rows of a CSV file with COLUMNS. ValueError, naming the line, for a row without source or with a bad field."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file)
        if tuple(lines.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{Path(path).name}: the columns must be {', '.join(COLUMNS)}")
        return [_row(line, f"{Path(path).name}, line {lines.line_num}") for line in lines]


def _row(line: dict, where: str) -> Published:
    if None in line or None in line.values():
        raise ValueError(f"{where}: has another number of fields than the header's {len(COLUMNS)}")
    for column in COLUMNS:
        if not line[column].strip() and column != "baseline":
            raise ValueError(f"{where}: '{column}' is empty; every figure needs it"
                             + (", or nobody can look it up" if column in ("source", "url") else ""))
    if not re.fullmatch(r"https://[\w.-]+\.\w+/\S+", line["url"]):
        raise ValueError(f"{where}: {line['url']!r} is no https address")
    if line["standing"] not in (PRIMARY, SECONDARY):
        raise ValueError(f"{where}: standing is {PRIMARY} or {SECONDARY}, not {line['standing']!r}")
    try:
        numbers = {c: float(line[c]) if line[c].strip() else None for c in ("billions", "value", "baseline")}
    except ValueError as e:
        raise ValueError(f"{where}: {e}") from None
    if numbers["baseline"] is None and line["unit"] != "% of baseline":
        raise ValueError(f"{where}: without a baseline a {line['unit']} says nothing")
    return Published(**{**line, **numbers})


def recovery(rows: Sequence[Published], format: str, method: str, family: str = "") -> list[Published]:
    """The relative rows (per cent of the baseline) of one format and method, smallest model first."""
    return sorted((r for r in rows if (r.unit, r.format, r.method) == ("% of baseline", format, method)
                   and r.model.startswith(family)), key=lambda r: r.billions)


SERIES = (("NVFP4", "Llama", figure.BLUE, "o", "-"), ("NVFP4", "Qwen3", figure.BLUE, "s", "--"),
          ("MXFP4", "Llama", figure.GREEN, "o", "-"), ("MXFP4", "Qwen3", figure.GREEN, "s", "--"))


def draw(rows: Sequence[Published]):
    """Figure: model size to the right (logarithmic), per cent of the benchmark score kept upwards, plain rounding."""
    fig, ax = figure.new(8.5, 4)
    ax.axhspan(99, 101, color="#e6f2ea", zorder=0)
    ax.text(1.02, 99.2, 'the "less than 1 % lost" zone', fontsize=9, color="#2e6b45")
    for format, family, colour, marker, line in SERIES:
        mine = recovery(rows, format, "RTN", family)
        ax.plot([r.billions for r in mine], [r.value for r in mine], line, color=colour, marker=marker, label=f"{format}, {family}")
    ax.set_xscale("log")
    sizes = sorted({r.billions for r in recovery(rows, "NVFP4", "RTN")})
    ax.set_xticks(sizes, [f"{s:g}" for s in sizes])
    ax.minorticks_off()
    ax.set(xlabel="parameters in billions", ylabel="% of the BF16 score kept", ylim=(65, 101))
    ax.grid(axis="y", color="#e4e4e4")
    ax.set_axisbelow(True)
    ax.legend(loc="lower right", frameon=False)
    return fig


def describe(rows: Sequence[Published]) -> str:
    """The figure in words."""
    said = [f"{format} {family}: " + ", ".join(f"{r.value:g} % at {r.billions:g}B" for r in recovery(rows, format, "RTN", family))
            for format, family, *_ in SERIES]
    return f"Benchmark score kept after plain rounding to four bits, by model size. {'; '.join(said)}."
