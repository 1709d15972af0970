"""The result as lines for a terminal."""

from __future__ import annotations

from gb10.bench.figures import MERGED, P99_NEEDS, Figures

COLUMNS = (("at once", 7), ("requests", 8), ("errors", 6), ("TTFT p50", 8), ("p90", 8), ("p99", 9), ("TPOT p50", 8), ("p99", 8), ("gap p99", 9),
           ("tok/s user", 10), ("tok/s all", 9), ("lag p99", 8))


def ms(spread, p: float, scale: float = 1000.0) -> str:
    value = spread.percentile(p)
    return "–" if value is None else number(value / scale)


def number(value: float | None) -> str:
    """Four figures at the most, never as a power of ten."""
    if value is None:
        return "–"
    for limit, digits in ((100, 1), (10, 2)):
        if abs(value) >= limit:
            return f"{value:.{digits}f}"
    return f"{value:.3f}"


def top(spread, scale: float = 1000.0) -> str:
    """The p99, or below 100 values the maximum, marked."""
    if not spread.n:
        return "–"
    return number(spread.high / scale) + "m" if spread.n < P99_NEEDS else ms(spread, 99, scale)


def table(groups: list[Figures], names: list[str]) -> list[str]:
    """One line for each group, times in ms. names: of the endpoints; shown when there are several."""
    measured = [g for g in groups if g.requests]
    widest = max(map(len, names)) if len(names) > 1 else 0
    if not measured:
        return ["Nothing was measured."]
    by_rate = any(g.rate for g in measured)
    head = (("req/s", 7), *COLUMNS[1:]) if by_rate else COLUMNS
    out = [" " * (widest and widest + 2) + "  ".join(f"{name:>{width}}" for name, width in head)]
    for g in measured:
        cells = (f"{g.rate:g}" if g.rate else str(g.concurrency), str(g.requests), str(g.requests - g.ok), ms(g.ttft, 50), ms(g.ttft, 90), top(g.ttft),
                 ms(g.tpot, 50, 1e6), top(g.tpot, 1e6), top(g.gap), number(g.user_tps), number(g.system_tps), ms(g.lag, 99))
        before = f"{names[g.endpoint]:<{widest}}  " if widest else ""
        out.append(before + "  ".join(f"{text:>{width}}" for text, (_, width) in zip(cells, head, strict=True)))
    out.append("Times in ms; all: tokens per second in the steady window; lag: how late this client read.")
    if any(0 < s.n < P99_NEEDS for g in measured for s in (g.ttft, g.tpot, g.gap)):
        out[-1] += f" m: fewer than {P99_NEEDS} values, the maximum is shown."
    return out


def remarks(groups: list[Figures], workload: dict, names: list[str]) -> list[str]:
    """What a reader must know about these figures: sentences, the gravest first. names: of the endpoints."""
    out = []
    for g in groups:
        if not g.requests:
            continue
        where = load(g, names)
        say = out.append
        if g.client_late:
            say(late(g, where))
        for kind, n in sorted(g.errors.items()):
            example = f": {g.why[kind]}" if kind in g.why else ""
            if kind == "short":
                say(f"{where}: {n} of {g.requests} answers ended before the length asked for and are left out of all times{example}. "
                    "--any-length counts them.")
            else:
                say(f"{where}: {n} of {g.requests} failed ({kind}){example}.")
        if not g.ok:
            continue
        if g.estimated:
            say(f"{where}: the server does not count its tokens; N is estimated from the events.")
        if (g.tokens_per_event or 1) > 1.05:
            say(f"{where}: {g.tokens_per_event:.1f} tokens/event, so a gap is no inter-token latency" +
                ("." if g.n_first_known else ", and TPOT takes the first event for one token."))
        if (g.events_per_read or 1) > MERGED:
            say(f"{where}: {g.events_per_read:.1f} events/read: they arrive in groups; gaps are those between arrivals.")
        if g.cached and workload.get("cold", True):
            say(f"{where}: {100 * g.cached / max(1, g.input):.1f} % of the prompt tokens came out of the server's prefix cache, although every prompt "
                "begins with a nonce: switch the cache off for cold figures, or measure warm on purpose with --warm.")
        if g.rate is None and not g.steady_s:
            say(f"{where}: there was no moment with all requests in flight; tok/s are those of the whole run.")
        stalls = g.stalls()
        if stalls["count"]:
            say(f"{where}: {stalls['count']} gaps above five times the median, the longest {number(stalls['longest_ms'])} ms.")
        foreign = {k: n for k, n in g.stamps.items() if k != "kernel"}
        if foreign:
            how = {"user": "by this program (the kernel's stamps can't be had here)", "tls": "by this program behind TLS",
                   "stepped": "by this program, because the wall clock was set meanwhile"}
            say(f"{where}: arrivals of {sum(foreign.values())} requests were dated " + ", ".join(how[k] for k in foreign) + ": expect some 0.1 ms more.")
        for end in g.ends:
            if end.get("gave_up"):
                say(f"{where}: given up, {end['gave_up']}.")
    return out


def late(g: Figures, where: str) -> str:
    """The banner of a client that reads late."""
    said = f"{where}: THIS CLIENT READS LATE, by {ms(g.lag, 99)} ms (p99), above 10 % of TPOT. "
    if g.times_doubtful:
        said += "That is part of the times, so take them as upper limits: idle cores or fewer streams help."
    else:
        said += f"The kernel dated what came and reads did not merge ({g.events_per_read:.2f} events/read), so the times hold."
    return said


def load(group: Figures, names: list[str]) -> str:
    """"16 at once" or "2 requests/s", with the endpoint's name where there are several."""
    how = f"{group.rate:g} requests/s" if group.rate else f"{group.concurrency} at once"
    return f"{names[group.endpoint]}, {how}" if len(names) > 1 else how


def level(row: dict) -> str:
    return f"{row['rate']:g} requests/s" if row.get("rate") else f"{row['concurrency']} at once"
