"""Explorer: the bandwidth that was measured, over the size of the working set, with the caches drawn in."""

from __future__ import annotations

from collections.abc import Sequence

from gb10.bandwidth import Cache, Point
from gb10.explore import figure

KIB, MIB, GIB = 2**10, 2**20, 2**30
SHADES = ("#2a6fbb", "#d9822b", "#2e9e5b", "#9a6fb0", "#b5322d", "#5a5a5a")


def size_name(size: float) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit * 0.999:
            return f"{size / unit:.3g} {name}"
    return f"{size:g} B"


def compute(points: Sequence[Point], kernel: str) -> dict[int, list[tuple[int, float]]]:
    """threads -> [(bytes, bytes per second)] of one kernel, sorted by size. ValueError where it wasn't measured."""
    out: dict[int, list[tuple[int, float]]] = {}
    for p in points:
        if p.kernel == kernel:
            out.setdefault(p.threads, []).append((p.size, p.rate))
    if not out:
        raise ValueError(f"the kernel {kernel!r} was not measured")
    return {t: sorted(line) for t, line in sorted(out.items())}


def reach(cache: Cache, threads: int) -> int:
    """Bytes of this cache that so many threads have together, at one thread to a core: private caches add up."""
    return cache.size * min(threads, cache.count) if cache.count > 1 else cache.size


def describe(points: Sequence[Point], kernel: str) -> str:
    """The lines in words: each at its smallest set, its fastest and its largest."""
    said = []
    for threads, line in compute(points, kernel).items():
        (s0, r0), (s1, r1) = line[0], line[-1]
        said.append(f"{threads or 'GPU,'} thread{'s' if threads != 1 else ''}: {r0 / 1e9:.3g} GB/s at {size_name(s0)}, "
                    f"{r1 / 1e9:.3g} GB/s at {size_name(s1)}")
    return f"{kernel}: " + "; ".join(said)


def draw(points: Sequence[Point], kernel: str, caches: Sequence[Cache] = (), threads: int | None = None):
    """Figure: log-log, a line per thread count. threads: whose caches are drawn, and which line is bold."""
    lines = compute(points, kernel)
    threads = max(lines) if threads is None else threads
    fig, ax = figure.new(9, 4)
    top = max(rate for line in lines.values() for _, rate in line) / 1e9
    for (t, line), colour in zip(lines.items(), SHADES * 3, strict=False):
        name = f"{t} thread{'s' if t != 1 else ''}" if t else "GPU"
        ax.plot([s for s, _ in line], [r / 1e9 for _, r in line], marker="o", markersize=3.5, color=colour, label=name,
                linewidth=2.4 if t == threads else 1.1, alpha=1 if t == threads else 0.55)
    for cache in caches:
        at = reach(cache, threads)
        ax.axvline(at, color="#9a9a9a", linewidth=1, linestyle="--", zorder=0)
        ax.text(at, top * 1.45, f"L{cache.level} {size_name(at)}", ha="right", va="top", rotation=90, fontsize=8.5, color="#444444")
    sizes = sorted({s for line in lines.values() for s, _ in line})
    ticks = [16 * KIB * 4**i for i in range(10) if 0.8 * sizes[0] <= 16 * KIB * 4**i <= 1.05 * sizes[-1]]
    ax.set(xscale="log", yscale="log", xlabel="working set of all threads together", ylabel="GB/s")
    ax.set_xticks(ticks, [size_name(s) for s in ticks])
    ax.set_xticks([], minor=True)
    low = min(rate for line in lines.values() for _, rate in line) / 1e9
    marks = [m * 10**e for e in range(-1, 5) for m in (1, 2, 5) if low * 0.7 <= m * 10**e <= top * 1.5]
    ax.set_yticks(marks, [f"{m:g}" for m in marks])
    ax.set_yticks([], minor=True)
    ax.set_ylim(low * 0.75, top * 1.5)
    ax.grid(axis="y", color="#e8e8e8")
    ax.set_axisbelow(True)
    ax.legend(loc="lower left", frameon=False)
    return fig


def explore(points: Sequence[Point], caches: Sequence[Cache] = ()):
    """Widget: which loop, and how many threads."""
    import ipywidgets as w

    style = {"description_width": "60px"}
    kernels = list(dict.fromkeys(p.kernel for p in points))
    kernel = w.Dropdown(options=kernels, description="loop", style=style)
    threads = w.SelectionSlider(options=list(compute(points, kernels[0])), description="threads", style=style,
                                continuous_update=False)
    threads.value = threads.options[-1]
    image, words = w.HTML(), w.HTML()
    for part, hook in ((kernel, "kernel"), (threads, "threads"), (image, "image"), (words, "words")):
        part.add_class(f"gb10-bandwidth-{hook}")

    def update(_=None):
        says = describe(points, kernel.value)
        levels = ", ".join(f"L{c.level} of {size_name(reach(c, threads.value))}" for c in caches) or "none known"
        image.value = figure.show(draw(points, kernel.value, caches, threads.value),
                                  f"Measured bandwidth over the working set, falling in steps. {says}. Caches of "
                                  f"{threads.value} threads: {levels}.")._repr_html_()
        words.value = f"{says}.<br>Caches that {threads.value} thread(s) have: {levels}."

    for control in (kernel, threads):
        control.observe(update, "value")
    update()
    return w.VBox([w.HBox([kernel, threads]), image, words])
