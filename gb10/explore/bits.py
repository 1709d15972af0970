"""Explorer: four bits to switch, and the number that they make: E2M1."""

from __future__ import annotations

from gb10.explore import figure
from gb10.explore.minifloat import E2M1, Anatomy, anatomy

FIELDS = ("sign", "exponent", "exponent", "mantissa")    # of bit 3, 2, 1, 0
BAND = "#f6d9b8"                                         # the orange of the marker, pale


def number(v: float) -> str:
    """0.5, −3, and −0 for minus zero, with a real minus sign."""
    return f"{v:g}".replace("-", "−")


def formula(a: Anatomy) -> str:
    """How the value comes out of the bits, as plain text."""
    leading = "0" if a.subnormal else "1"
    power = "2^0" if a.subnormal else f"2^({a.exponent} − 1)"
    return f"(−1)^{a.sign} × {power} × ({leading} + {a.mantissa}/2) = {number(a.value)}"


def remark(a: Anatomy) -> str:
    """What is special about this code; empty for most."""
    if a.code == 8:
        return "minus zero: a code of its own for a value that equals 0"
    if a.code == 0:
        return "exponent bits 00 (subnormal): no leading one, so that there is a zero"
    if a.subnormal:
        return "exponent bits 00 (subnormal): no leading one, and the exponent stays at 0. The only such value"
    if a.code & 7 == 7:
        return "the largest magnitude: whatever lies beyond is rounded to it"
    return ""


def neighbours(a: Anatomy) -> str:
    below = "none below" if a.below is None else f"{number(a.below)} below"
    above = "none above" if a.above is None else f"{number(a.above)} above"
    return f"{below}, {above}"


def describe(a: Anatomy) -> str:
    """The code in words."""
    return (f"code {a.code}, bits {a.bits}: {formula(a)}; neighbours {neighbours(a)}; "
            f"numbers that are rounded to it: {a.bin}" + (f"; {remark(a)}" if remark(a) else ""))


def draw(a: Anatomy):
    """Figure: the fifteen values on the number line, this one marked, and what is rounded to it."""
    fig, ax = figure.new(9, 1.25)
    low, high = max(a.bin.low, -7), min(a.bin.high, 7)
    ax.axvspan(low, high, ymin=0.25, ymax=0.75, color=BAND, zorder=0)
    ax.axhline(0, color="#666666", linewidth=1, zorder=1)
    line = [*(-v for v in E2M1[:0:-1]), *E2M1]
    ax.scatter(line, [0] * len(line), s=30, color=figure.GREY, zorder=2)
    ax.scatter(a.value, 0, s=110, color=figure.ORANGE, zorder=3)
    for x, inside in ((a.bin.low, a.bin.low_in), (a.bin.high, a.bin.high_in)):
        if abs(x) <= 7:
            ax.scatter(x, 0, s=34, marker="o", zorder=4, linewidths=1.3, edgecolors="#8a4b08",
                       facecolors="#8a4b08" if inside else "white")
    ax.set(xlim=(-7, 7), ylim=(-1, 1), yticks=[], xticks=line, xticklabels=[number(v) for v in line])
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(length=0, labelsize=9)
    return fig


def table(a: Anatomy) -> str:
    """The words below the buttons, as HTML."""
    rows = (("code", f"{a.code} = 0b{a.bits}"), ("value", f"<b>{number(a.value)}</b>"),
            ("how", formula(a)), ("neighbours", neighbours(a)),
            ("rounded to it", str(a.bin)), ("remark", remark(a) or "–"))
    cells = "".join(f'<tr><td style="padding:1px 14px 1px 0;opacity:.75">{label}</td><td style="padding:1px 0">{text}</td></tr>'
                    for label, text in rows)
    return f'<table style="font-family:var(--jp-code-font-family, monospace);line-height:1.5">{cells}</table>'


def toggler(code: int = 5):
    """Widget: four buttons, one for each bit, and two that step to the previous and the next code."""
    import ipywidgets as w

    anatomy(code)                # a wrong code is refused before anything is shown
    switches, columns = [], []
    for place, field in zip((3, 2, 1, 0), FIELDS, strict=True):
        switch = w.ToggleButton(bool(code >> place & 1), tooltip=f"{field} bit, worth {1 << place} in the code",
                                layout=w.Layout(width="76px", height="44px"))
        switch.add_class("gb10-bit")
        switches.append(switch)
        label = w.HTML(f'<div style="text-align:center;width:76px">{field}</div>')
        columns.append(w.VBox([label, switch]))
    step = {-1: w.Button(description="◀ code", tooltip="previous code"), 1: w.Button(description="code ▶", tooltip="next code")}
    for button, name in ((step[-1], "previous"), (step[1], "next")):
        button.layout = w.Layout(width="84px", height="44px", margin="auto 2px 2px 12px")
        button.add_class(f"gb10-bits-{name}")
    image, words = w.HTML(), w.HTML()
    image.add_class("gb10-bits-image")
    words.add_class("gb10-bits-words")

    def read() -> int:
        return sum(switch.value << place for place, switch in zip((3, 2, 1, 0), switches, strict=True))

    def write(code: int) -> None:
        # four observers fire one after the other; each shows a true code, the last one the one that is meant
        for place, switch in zip((3, 2, 1, 0), switches, strict=True):
            switch.value = bool(code >> place & 1)

    def update(_=None):
        for switch in switches:
            switch.description = str(int(switch.value))
        a = anatomy(read())
        words.value = table(a)
        image.value = figure.show(draw(a), f"Number line of the E2M1 values from −6 to 6. Marked: {describe(a)}.")._repr_html_()

    for switch in switches:
        switch.observe(update, "value")
    for by, button in step.items():
        button.on_click(lambda _, by=by: write((read() + by) % 16))
    update()
    return w.VBox([w.HBox([*columns, step[-1], step[1]]), words, image])
