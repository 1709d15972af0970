"""Explorer: what a model needs (weights, KV cache, engine) against what several machines have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gb10 import catalog, roofline
from gb10.explore import figure
from gb10.roofline import memory as fit_memory

GB, GIB = 1e9, 2**30
MACHINES = ("rtx-5090", "rtx-pro-6000", "strix-halo", "gb10", "h200")
CONTEXTS = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
RED, PALE = "#b5322d", "#e8c1be"
COLOURS = {"linear layers": figure.BLUE, "table and head": "#7fb0e0", "KV cache": figure.ORANGE, "engine": "#9a6fb0"}
WORDS = {"fits": "fits", "tight": "tight", "no": "does not fit"}


def card(gigabytes: int) -> catalog.Machine:
    """A discrete card with this much memory of its own. What is sold as GB is GiB there: 32,607 MiB of an RTX 5090's 32."""
    here = catalog.Source("by-name", "gb10/explore/fit_bars.py", f"a card sold as one of {gigabytes} GB", "2026-11-21")
    return catalog.Machine(f"card-{gigabytes}", f"a {gigabytes} GB card", False,
                           (catalog.Figure("memory_nominal", gigabytes, "GiB", here),))


def here(total: int) -> catalog.Machine:
    """This machine, with `total` bytes of memory for programs and system together."""
    source = catalog.Source("this-machine", "gb10/machine.py", "MemTotal, or the container's limit", "2026-11-21")
    return catalog.Machine("this", "this machine", True, (catalog.Figure("memory_nominal", total / GB, "GB", source),))


def default_machines(total: int | None = None) -> list[catalog.Machine]:
    """This machine (where `total` says its bytes), a card of 24 GB and MACHINES, smallest memory first."""
    out = [card(24), *(catalog.machine(name) for name in MACHINES)] + ([here(total)] if total else [])
    return sorted(out, key=lambda m: m.memory)


@dataclass(frozen=True)
class Need:
    """Bytes that a model with its users takes, and how that goes on each machine."""

    parts: tuple[tuple[str, float], ...]
    verdicts: tuple[tuple[catalog.Machine, fit_memory.Memory], ...]

    @property
    def total(self) -> float:
        return sum(size for _, size in self.parts)


def compute(model: str, weights: str, kv: str, context: int, users: int, machines: Sequence[catalog.Machine],
            engine: str | None = None) -> Need:
    """Raises ValueError with one sentence for what the predictor refuses."""
    m, fmt = catalog.model(model, hub=False), catalog.weight_format(weights)
    name = engine or roofline.engines.default_engine(fmt)
    kinds = roofline.weight_bytes_by_kind(m, fmt)
    tables = kinds.get("embedding", 0) + kinds.get("head", 0)
    answers = tuple((hw, fit_memory.memory(m, fmt.name, kv, hw, context, users, name)) for hw in machines)
    one = answers[0][1]
    return Need((("linear layers", one.weights - tables), ("table and head", tables), ("KV cache", one.kv),
                 ("engine", one.overhead)), answers)


def describe(need: Need) -> str:
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in need.parts)
    return (f"{need.total / GIB:.1f} GiB ({need.total / GB:.1f} GB): {parts}. "
            + "; ".join(f"{hw.title} {WORDS[a.verdict]} ({_left(a)})" for hw, a in need.verdicts))


def _left(a: fit_memory.Memory) -> str:
    return f"{a.left / GIB:.1f} GiB left" if a.left >= 0 else f"{-a.left / GIB:.1f} GiB over"


def draw(need: Need, title: str):
    """Figure: a row per machine. Frame: its memory; hatched: what must stay free; red: over the edge."""
    fig, ax = figure.new(9.5, 0.95 + 0.5 * len(need.verdicts))
    right = max(150.0, 1.02 * need.total / GIB)
    for row, (hw, a) in enumerate(need.verdicts):
        left, have = 0.0, a.available / GIB
        for name, size in need.parts:
            inside = max(0.0, min(size / GIB, have - left))
            ax.barh(row, inside, left=left, color=COLOURS[name], height=0.56, label=name if not row else None)
            left += size / GIB
        if left > have:
            ax.barh(row, left - have, left=have, color=PALE, height=0.56)
        keep = a.keep_free / GIB
        ax.barh(row, keep, left=have - keep, facecolor="none", edgecolor="#555555", hatch="////", height=0.74, linewidth=0)
        ax.barh(row, have, facecolor="none", edgecolor="#333333", height=0.74, linewidth=1.3)
        ax.text(right * 1.01, row, f"{WORDS[a.verdict]}, {_left(a)}", va="center", fontsize=9,
                color=RED if a.verdict == "no" else "black")
    ax.set(yticks=range(len(need.verdicts)), yticklabels=[f"{hw.title}, {a.available / GIB:.0f}" for hw, a in need.verdicts],
           xlim=(0, right), xlabel="GiB; frame: the machine's memory, hatched: to be left free, pale red: over")
    ax.set_title(title, fontsize=11, loc="left", pad=22)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 0.99), ncols=4, frameon=False, fontsize=9)
    return fig


def explore(total: int | None = None):
    """Widget: model, format, KV format, context, users. total: this machine's memory in bytes, to have it in the picture."""
    import ipywidgets as w

    machines, style = default_machines(total), {"description_width": "66px"}
    model = w.Dropdown(options=list(catalog.models()), value="Qwen3-8B", description="model", style=style)
    fmt = w.Dropdown(options=catalog.formats_of(catalog.model("Qwen3-8B")), value="nvfp4", description="weights", style=style)
    kv = w.Dropdown(options=("bf16", "fp8"), value="bf16", description="KV", style=style, layout=w.Layout(width="160px"))
    context = w.SelectionSlider(options=CONTEXTS, value=8192, description="context", style=style, continuous_update=False)
    users = w.IntSlider(1, 1, 64, description="users", style=style, continuous_update=False)
    image, words = w.HTML(), w.HTML()
    for part, hook in ((model, "model"), (fmt, "weights"), (kv, "kv"), (context, "context"), (users, "users"),
                       (image, "image"), (words, "words")):
        part.add_class(f"gb10-fit-{hook}")

    def update(_=None):
        try:
            need = compute(model.value, fmt.value, kv.value, context.value, users.value, machines)
        except ValueError as e:
            image.value, words.value = "", str(e)
            return
        title = f"{model.value} in {fmt.value}, {users.value} × {context.value} tokens, KV in {kv.value}"
        says = describe(need)
        image.value = figure.show(draw(need, title), f"Bars of the memory needed by {title}, a row per machine. {says}")._repr_html_()
        words.value = f"<b>{title}</b>: {says}."

    def other_model(_):
        offered = catalog.formats_of(catalog.model(model.value))
        keep = fmt.value if fmt.value in offered else offered[0]
        fmt.unobserve(update, "value")
        fmt.options, fmt.value = offered, keep
        fmt.observe(update, "value")
        update()

    model.observe(other_model, "value")
    for control in (fmt, kv, context, users):
        control.observe(update, "value")
    update()
    return w.VBox([w.HBox([model, fmt, kv]), w.HBox([context, users]), image, words])
