"""The main table: what each load gave, as plain cells that HTML and Markdown draw in their way."""

from __future__ import annotations

from dataclasses import dataclass, field

from gb10.bench.figures import Figures
from gb10.bench.report.words import decimals, engines, failures, load, number, tail


@dataclass
class Column:
    """over: the heading that it shares with its neighbours; cells: (text, a remark such as "max" or "")."""

    over: str
    name: str
    cells: list[tuple[str, str]] = field(default_factory=list)
    left: bool = False               # words, not numbers

    @property
    def heading(self) -> str:
        return f"{self.over} {self.name}".strip()


def columns(meta: dict, groups: list[Figures]) -> list[Column]:
    """One column a figure, one cell a group. Times in ms."""
    names = engines(meta)
    out = []
    if len({g.endpoint for g in groups}) > 1:
        out.append(Column("", "Engine", [(names[g.endpoint], "") for g in groups], left=True))
    out.append(Column("", "Load", [(load(g), "") for g in groups], left=True))
    out.append(Column("Requests", "sent", [(f"{g.requests:,}", "") for g in groups]))
    out.append(Column("Requests", "ok", [(f"{g.ok:,}", "") for g in groups]))
    out.append(Column("Requests", "errors", [(f"{failures(g.errors):,}", "") for g in groups]))
    if any(g.errors.get("short") for g in groups):
        out.append(Column("Requests", "short", [(f"{g.errors.get('short', 0):,}", "") for g in groups]))
    ttft, tpot = [g.ttft for g in groups], [g.tpot for g in groups]
    out += [_percentile("TTFT, ms", p, ttft, 1e3) for p in (50, 90)] + [_tail("TTFT, ms", ttft, 1e3)]
    out += [_percentile("TPOT, ms", 50, tpot, 1e6), _tail("TPOT, ms", tpot, 1e6)]
    out.append(_gaps(groups))
    out.append(_numbers("Tokens/s", "one user", [g.user_tps for g in groups]))
    # without a steady window the whole run had to do
    out.append(_numbers("Tokens/s", "system", [g.system_tps for g in groups],
                        ["whole run" if g.system_tps is not None and not g.steady_s else "" for g in groups]))
    out.append(_tail("Client lag, ms", [g.lag for g in groups], 1e3))
    return out


def footnotes(shown: list[Column], groups: list[Figures]) -> list[str]:
    """A sentence for each remark in the table, and for what a reader would take for granted."""
    remarks = {remark for c in shown for _, remark in c.cells} | {c.name for c in shown}
    out = []
    if any("max" in remark for remark in remarks):
        out.append("max: the largest value, because there are fewer than 100 and a p99 would be a guess.")
    if "whole run" in remarks:
        out.append("whole run: there was no steady window, so ramp-up and the last stragglers are in it.")
    if "short" in remarks:
        out.append("short: answers that ended by themselves before the length asked for; they are in no "
                   "latency.")
    if any(g.estimated for g in groups):
        out.append("Estimated: the server did not count its tokens, so events with text were counted.")
    several = [g.tokens_per_event for g in groups if (g.tokens_per_event or 0) > 1.05]
    if several:
        out.append(f"An event brought up to {max(several):.2g} tokens on average, so a gap is not an "
                   "inter-token latency.")
    return out


def _numbers(over: str, name: str, values: list, remarks: list[str] | None = None) -> Column:
    digits = decimals(values)
    return Column(over, name, [(number(v, digits), r) for v, r in
                               zip(values, remarks or [""] * len(values), strict=True)])


def _percentile(over: str, p: int, spreads: list, scale: float) -> Column:
    values = [s.percentile(p) for s in spreads]
    return _numbers(over, f"p{p}", [None if v is None else v / scale for v in values])


def _tail(over: str, spreads: list, scale: float) -> Column:
    """p99. Where no group has enough values for one, the column is the maximum's; else the cell says so."""
    ends = [tail(s) for s in spreads]
    kinds = {kind for kind, value in ends if value is not None}
    name = "max" if kinds == {"max"} else "p99"
    return _numbers(over, name, [None if v is None else v / scale for _, v in ends],
                    ["max" if kind == "max" and name == "p99" and v is not None else "" for kind, v in ends])


def _gaps(groups: list[Figures]) -> Column:
    """Called ITL only where every arrival brought one token."""
    single = [g.one_by_one for g in groups if g.gap.n]
    all_single = bool(single) and all(single)
    column = _tail("ITL, ms" if all_single else "Gap, ms", [g.gap for g in groups], 1e3)
    if not all_single:
        column.cells = [(text, " ".join(filter(None, (remark, "ITL" if g.one_by_one and g.gap.n else ""))))
                        for (text, remark), g in zip(column.cells, groups, strict=True)]
    return column
