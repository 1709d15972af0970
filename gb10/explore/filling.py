"""Watch an engine fill: requests running and waiting, and the share of the KV cache, while some work goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from gb10.engines import gauges
from gb10.explore import figure


@dataclass(frozen=True)
class Sample:
    """seconds since the work began, and what the engine said then (None: it doesn't say)."""

    seconds: float
    running: float | None
    waiting: float | None
    kv_used: float | None


@dataclass(frozen=True)
class Watched:
    """What the work gave back, the samples taken meanwhile, and the engine's counters as differences over it."""

    result: object
    samples: tuple[Sample, ...]
    change: gauges.Gauges | None

    def most(self, what: str) -> float | None:
        """The largest value of running, waiting or kv_used that was seen."""
        return max((v for s in self.samples if (v := getattr(s, what)) is not None), default=None)


def watch(url: str, work: Callable[[], object], every: float = 0.1) -> Watched:
    """Run `work` and read the engine's gauges every so many seconds meanwhile. An engine without gauges gives no samples."""
    before, samples, done = gauges.read(url), [], threading.Event()
    start = time.perf_counter()

    def look():
        while not done.wait(every):
            if g := gauges.read(url):
                samples.append(Sample(time.perf_counter() - start, g.running, g.waiting, g.kv_used))

    watcher = threading.Thread(target=look, daemon=True)
    if before:
        watcher.start()
    try:
        result = work()
    finally:
        done.set()
        if before:
            watcher.join()
    after = gauges.read(url) if before else None
    return Watched(result, tuple(samples), after.since(before) if after else None)


def describe(w: Watched, capacity: float | None = None) -> str:
    """One sentence."""
    if not w.samples:
        return "this engine has no metrics page that could be read, so its queue and its cache can't be seen from outside"
    told = [f"{w.most(what):.0f} {what}" for what in ("running", "waiting") if w.most(what) is not None]
    text = "at most " + " and ".join(told) if told else "requests are not told"
    share = w.most("kv_used")
    if share is not None:
        of = f" of {capacity:,.0f} tokens" if capacity else ""
        text += f"; the KV cache at most {100 * share:.1f} % full{of}"
    return text


def draw(w: Watched):
    """Figure: running and waiting over time, the KV cache below."""
    fig, (top, bottom) = figure.new(8.5, 4, rows=2)
    when = [s.seconds for s in w.samples]
    for what, colour, style in (("running", figure.BLUE, "-"), ("waiting", figure.ORANGE, "--")):
        if w.most(what) is not None:
            top.step(when, [getattr(s, what) for s in w.samples], where="post", color=colour, linestyle=style, label=what)
    top.set(ylabel="requests", ylim=(0, None))
    top.legend(loc="upper right")
    if w.most("kv_used") is not None:
        bottom.fill_between(when, [100 * (s.kv_used or 0) for s in w.samples], step="post", color=figure.GREEN, alpha=0.5)
    bottom.set(xlabel="seconds", ylabel="KV cache, % full", ylim=(0, None))
    return fig


def show(w: Watched, capacity: float | None = None):
    """The picture; or, of an engine that tells nothing, the sentence that says so."""
    said = describe(w, capacity)
    return figure.show(draw(w), f"An engine filling and emptying: {said}.") if w.samples else said[0].upper() + said[1:] + "."
