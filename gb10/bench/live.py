"""What is seen while a run goes on: a live table in a terminal (with rich), plain lines elsewhere. Outside the load process."""

from __future__ import annotations

import sys
from time import monotonic

PLAIN_EVERY = 10.0               # seconds between plain lines
SPARKS = "▁▂▃▄▅▆▇█"


class Silent:
    """No progress; notes are kept back too."""

    def note(self, text: str) -> None: ...

    def cell(self, cell: dict, endpoint) -> None: ...

    def progress(self, row: dict, sample: dict | None) -> None: ...

    def cell_done(self, cell: dict, done: dict) -> None: ...

    def close(self) -> None: ...


class Plain(Silent):
    """A line at the start of each cell, every ten seconds, and at its end."""

    def __init__(self, out=None):
        self._out = out or sys.stderr
        self._title, self._last = "", 0.0

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def note(self, text: str) -> None:
        self._say(text)

    def cell(self, cell: dict, endpoint) -> None:
        self._title, self._last = title(cell, endpoint), monotonic()

    def progress(self, row: dict, sample: dict | None) -> None:
        if monotonic() - self._last >= PLAIN_EVERY:
            self._last = monotonic()
            self._say(f"  {self._title}: {row['done']} done, {row['in_flight']} in flight, {row['t']:.0f} s")

    def cell_done(self, cell: dict, done: dict) -> None:
        said = f"  {self._title}: {done['done']} requests in {done['seconds']:.1f} s"
        self._say(said + (f", {done['errors']} failed" if done["errors"] else "") + (", stopped" if done["cancelled"] else ""))


class Rich(Plain):
    """Redrawn four times a second from counters; the load process knows nothing of it."""

    def __init__(self, out=None):
        super().__init__(out)
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=self._out)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._rates: list[float] = []
        self._before = (0.0, 0)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def cell(self, cell: dict, endpoint) -> None:
        super().cell(cell, endpoint)
        self._rates, self._before, self._cell = [], (0.0, 0), cell

    def progress(self, row: dict, sample: dict | None) -> None:
        from rich.table import Table

        t, pieces = self._before
        if row["t"] - t >= 0.2:
            self._rates = [*self._rates[-39:], (row["pieces"] - pieces) / (row["t"] - t)]
            self._before = (row["t"], row["pieces"])
        table = Table(title=self._title, title_justify="left", show_header=False, box=None, pad_edge=False)
        for name, value in lines(row, sample, self._rates, self._cell):
            table.add_row(f"  {name}", value)
        self._live.update(table, refresh=True)

    def close(self) -> None:
        self._live.stop()


def title(cell: dict, endpoint) -> str:
    load = f"{cell['rate']:g} requests/s" if cell["rate"] else f"{cell['concurrency']} at once"
    return f"{endpoint.engine}, {load}" + (f", block {cell['block'] + 1} of {cell['blocks']}" if cell["blocks"] > 1 else "")


def lines(row: dict, sample: dict | None, rates: list[float], cell: dict) -> list[tuple[str, str]]:
    """(name, value) of each line of the live table: a plain function, tested as one."""
    of = f" of {cell['requests']}" if cell.get("requests") else ""
    seconds = f" of {cell['seconds']:.0f}" if cell.get("seconds") else ""
    out = [("requests", f"{row['done']}{of} done, {row['in_flight']} in flight, {row['errors']} failed"),
           ("time", f"{row['t']:.0f}{seconds} s"),
           ("reads/s", f"{spark(rates)}  {rates[-1]:.0f}" if rates else "–")]
    if row["recent"]:
        for name, i, scale in (("TTFT", 0, 1000), ("TPOT", 1, 1000)):
            values = sorted(pair[i] for pair in row["recent"])
            out.append((name, f"{values[len(values) // 2] / scale:.1f} ms median, {values[-1] / scale:.1f} ms longest, last {len(values)}"))
    if sample:
        if None not in (known := [sample.get(k) for k in ("mem_total", "mem_available", "swap_used")]):
            total, available, swap = (n / 2**30 for n in known)
            out.append(("memory", f"{total - available:.1f} of {total:.1f} GiB in use, swap {swap:.1f} GiB"))
        for gpu in sample.get("gpus", ()):
            facts = [f"{gpu[k]:.0f}{unit}" for k, unit in (("w", " W"), ("sm_mhz", " MHz"), ("temp_c", " °C")) if gpu.get(k) is not None]
            out.append(("GPU", ", ".join(facts + list(gpu.get("throttle", ())))))
    return out


def spark(values: list[float]) -> str:
    """A line of bars, the highest at full height."""
    top = max(values, default=0) or 1
    return "".join(SPARKS[min(7, int(8 * v / top))] for v in values)


def view(quiet: bool = False, out=None) -> Silent:
    """Which of them: the live table only in a terminal, and only where rich is installed."""
    out = out or sys.stderr
    if quiet:
        return Silent()
    if out.isatty():
        try:
            return Rich(out)
        except ImportError:
            pass
    return Plain(out)
