"""What a reader should take home, in sentences: what was reached, what is doubtful, what went wrong."""

from __future__ import annotations

from gb10.bench.figures import Figures
from gb10.bench.report.about import limits
from gb10.bench.report.words import about, counted, engines, load, name_of, plain
from gb10.bench.say import late

ERRORS = {
    "connect": "no connection was made",
    "in_band": "the stream began well and then held an error",
    "protocol": "the answer was not the stream that was asked for",
    "truncated": "the answer broke off before its end",
    "stall": "nothing came for too long",
    "timeout": "the answer took too long",
    "empty": "the answer held no token",
    "short": "the answer ended by itself before the length asked for: not a failure, but not comparable",
}


def verdicts(meta: dict, groups: list[Figures], also=()) -> list[str]:
    """Sentences, the most important first: what each engine reached, the roofline, the limits, and `also`."""
    out, names = [], engines(meta)
    for endpoint in sorted({g.endpoint for g in groups}):
        out += _reached(names[endpoint], [g for g in groups if g.endpoint == endpoint and g.ok])
    rooflines = [row for row in meta.get("roofline") or () if isinstance(row, dict) and row.get("text")]
    out += [plain(row["text"]) for row in rooflines]
    out += _goodput(meta, groups)
    out += [plain(text, 500) for text in also]
    if not any(g.requests for g in groups):
        return ["No request has been sent yet: there are no figures."]
    if not any(g.ok for g in groups):
        out.insert(0, "No request was answered as it should be: there are no times to report.")
    return out


def compared(row: dict) -> str:
    """One line of a comparison as a sentence."""
    what = plain(row.get("metric"), 60)
    at = f" ({where})" if (where := level(row)) else ""
    return f"{what[:1].upper()}{what[1:]}{at}: {plain(row.get('verdict'), 200)}."


def level(row: dict) -> str:
    """The load of a line of a comparison."""
    if row.get("rate"):
        return f"{row['rate']:g} requests/s"
    return f"{row['concurrency']:,} at once" if isinstance(row.get("concurrency"), int) else ""


def _reached(engine: str, groups: list[Figures]) -> list[str]:
    out = []
    fastest = max((g for g in groups if g.user_tps), key=lambda g: g.user_tps, default=None)
    busiest = max((g for g in groups if g.system_tps), key=lambda g: g.system_tps, default=None)
    if fastest:
        alone = fastest.concurrency == 1 and not fastest.rate
        who, whom = ("a single user", "this user") if alone else (load(fastest), "each user")
        out.append(f"{engine}, {who}: {about(fastest.user_tps)} tok/s for {whom}, first token after "
                   f"{about(fastest.ttft.percentile(50) / 1e3)} ms (median).")
    if busiest and busiest is not fastest:
        each = f", {about(busiest.user_tps)} for each user" if busiest.user_tps else ""
        out.append(f"{engine} at its busiest, {load(busiest)}: {about(busiest.system_tps)} tok/s "
                   f"together{each}.")
    return out


def _goodput(meta: dict, groups: list[Figures]) -> list[str]:
    kept, names = limits(meta.get("slo")), engines(meta)
    if not kept:
        return []
    each = [f"{g.good:,} of {counted(g.requests, 'request')} with {name_of(groups, names, g)}" +
            (f" ({about(g.good / g.whole_s)} per second)" if g.whole_s else "") for g in groups if g.requests]
    return [f"Within the limits ({kept}): {'; '.join(each)}."] if each else []


def alarms(meta: dict, groups: list[Figures], warnings=()) -> list[str]:
    """What makes figures doubtful: a client that read late, and the warnings given."""
    names = engines(meta)
    out = [late(g, name_of(groups, names, g)) for g in groups if g.client_late]
    return list(dict.fromkeys(out + [plain(w, 500) for w in warnings if w]))


def notes(meta: dict, shown=()) -> list[str]:
    """The sentences that the run wants shown, without those in `shown`; and whether it came to its end."""
    given = [plain(n, 500) for n in meta.get("notes") or () if n]
    if "ended" in meta and not meta["ended"]:
        given.append("The run has not come to its end: the figures are those of the requests that had.")
    return [n for n in dict.fromkeys(given) if n not in shown]


def errors(meta: dict, groups: list[Figures]) -> list[tuple[str, int, str, str, str]]:
    """(class, how many, where, what it means, an example in the server's words), the most frequent first."""
    names = engines(meta)
    kinds: dict[str, list[Figures]] = {}
    for g in groups:
        for kind in g.errors:
            kinds.setdefault(kind, []).append(g)
    rows = []
    for kind, of in kinds.items():
        where = "; ".join(f"{g.errors[kind]:,} with {name_of(groups, names, g)}" for g in of)
        example = next((plain(g.why[kind]) for g in of if g.why.get(kind)), "")
        rows.append((plain(kind, 40), sum(g.errors[kind] for g in of), where, meaning(kind), example))
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def meaning(kind: str) -> str:
    if kind.startswith("http_"):
        return f"the server answered with HTTP status {plain(kind[5:], 10)}"
    return ERRORS.get(kind, "")
