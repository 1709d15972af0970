"""Figures for notebooks: opaque, so that they can be read on a dark theme, and with alt text.

No pyplot: a Figure object is rendered to PNG bytes, so nothing is shared between widget callbacks.
"""

from __future__ import annotations

import base64
import io
from html import escape

BLUE, ORANGE, GREY, GREEN, RED = "#2a6fbb", "#d9822b", "#8a8a8a", "#2e9e5b", "#b5322d"


def new(width: float = 8, height: float = 3.2, columns: int = 1, rows: int = 1):
    """A matplotlib Figure on white, and its axes (one, or a list)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns)
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes if rows * columns == 1 else list(axes.flat)


def png(figure, dpi: int = 110) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


class Picture:
    """A rendered figure; the last expression of a cell shows it. The alt text says what the picture shows."""

    def __init__(self, figure, alt: str):
        if not alt.strip():
            raise ValueError("a figure needs an alt text: one or two sentences saying what it shows")
        self.alt, self.png = " ".join(alt.split()), png(figure)

    def __repr__(self) -> str:
        return f"[figure: {self.alt}]"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.png).decode()
        return f'<img alt="{escape(self.alt, quote=True)}" style="max-width:100%" src="data:image/png;base64,{data}">'


def show(figure, alt: str) -> Picture:
    return Picture(figure, alt)
