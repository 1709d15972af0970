"""Explorer: where a number lands on three grids of four bits: E2M1, integers, powers of two."""

from __future__ import annotations

from gb10.explore import figure
from gb10.explore.bits import number
from gb10.explore.minifloat import E2M1, INTEGERS, POWERS, Landing, bin_of, land

GRIDS = {"E2M1": E2M1, "integers": INTEGERS, "powers of 2": POWERS}
LIMIT = 7.0                      # the slider goes from -7 to 7
STEP = 0.125                     # a power of two, so that every boundary between 0.25 and 5 is met exactly


def compute(x: float) -> dict[str, Landing]:
    """Where x lands: grid name -> Landing. Raises ValueError for NaN and infinity."""
    return {name: land(x, grid) for name, grid in GRIDS.items()}


def sentence(name: str, at: Landing) -> str:
    """One grid's answer in words."""
    code = f" (code {at.code}, bits {at.code:04b})" if name == "E2M1" else ""
    why = "; beyond the largest value, saturates" if at.saturated else "; a tie, the even code wins" if at.tie else ""
    return f"{name}: {number(at.x)} → {number(at.value)}{code}, error {number(at.error)}{why}"


def describe(landings: dict[str, Landing]) -> str:
    return "; ".join(sentence(name, at) for name, at in landings.items())


def draw(landings: dict[str, Landing]):
    """Figure: one number line for each grid, its bins in alternating shades, and the way from x to its value."""
    fig, axes = figure.new(10, 3.5, rows=len(landings))
    for ax, (name, at) in zip(axes, landings.items(), strict=True):
        grid = GRIDS[name]
        for code in (c for c in range(16) if c != 8):
            # plus and minus zero share one bin on the line, from -low of code 8 to high of code 0
            b = bin_of(code, grid)
            low = bin_of(8, grid).low if code == 0 else max(b.low, -8.5)
            ax.axvspan(low, min(b.high, 8.5), color="#dbe7f4" if code & 1 else "#f3f3f3", linewidth=0, zorder=0)
        line = sorted({s * v for v in grid for s in (1, -1) if v <= 8.5})
        ax.scatter(line, [0] * len(line), s=30, color=figure.BLUE, zorder=2)
        ax.axvline(at.x, color=figure.RED, linewidth=1.2, zorder=1)
        ax.scatter(at.x, 0.55, s=34, marker="v", color=figure.RED, zorder=3)
        ax.scatter(at.value, 0, s=120, facecolors="none", edgecolors=figure.ORANGE, linewidths=2.5, zorder=4)
        if at.error:
            ax.annotate("", (at.value, 0.55), (at.x, 0.55), arrowprops={"arrowstyle": "->", "color": figure.RED, "lw": 1.5})
        shown = [v for v in line if name != "powers of 2" or abs(v) >= 1 or v == 0]      # the others would overlap
        ax.set(xlim=(-8.5, 8.5), ylim=(-0.9, 1.05), yticks=[], xticks=shown, xticklabels=[number(v) for v in shown])
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.tick_params(length=0, labelsize=8)
    return fig


def table(landings: dict[str, Landing]) -> str:
    """The words below the slider, as HTML."""
    rows = "".join(f"<li>{sentence(name, at)}</li>" for name, at in landings.items())
    at = landings["E2M1"]
    return (f'<ul style="margin:4px 0;padding-left:20px">{rows}</ul>'
            f"E2M1 rounds everything in {at.bin} to code {at.code}.")


def explore(x: float = 2.25):
    """Widget: one slider from -7 to 7 in eighths."""
    import ipywidgets as w

    slider = w.FloatSlider(x, min=-LIMIT, max=LIMIT, step=STEP, description="a number", readout_format=".3f",
                           layout=w.Layout(width="80%"), style={"description_width": "80px"}, continuous_update=False)
    image, words = w.HTML(), w.HTML()
    for part, name in ((slider, "slider"), (image, "image"), (words, "words")):
        part.add_class(f"gb10-rounding-{name}")

    def update(_=None):
        # what a slider reports may be off in the last digit; the eighth that is meant is not
        landings = compute(round(slider.value / STEP) * STEP)
        words.value = table(landings)
        image.value = figure.show(draw(landings), "Three number lines with their rounding bins; a marker shows where the "
                                                  f"number lands. {describe(landings)}.")._repr_html_()

    slider.observe(update, "value")
    update()
    return w.VBox([slider, words, image])
