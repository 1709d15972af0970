"""A run as CSV: one row a group, for a spreadsheet or a data frame."""

from __future__ import annotations

import csv
import io

from gb10.bench.figures import P99_NEEDS, Figures
from gb10.bench.journal import Run
from gb10.bench.report.words import failures, finite, plain

TIMES = {"ttft": "ttft_ms", "tpot": "tpot_ms", "gap": "gap_ms", "e2e": "e2e_ms", "ttfr": "ttfr_ms",
         "ttfa": "ttfa_ms", "response": "response_ms", "connect": "connect_ms", "client_lag": "client_lag_ms"}
STATISTICS = ("mean", "min", "p50", "p90", "p99", "max")
SINGLE = ("output_tokens", "cached_tokens", "system_tps", "system_tps_whole_run", "user_tps",
          "requests_per_s", "goodput_per_s", "steady_s", "seconds", "tokens_per_event", "events_per_read",
          "gap_is_itl", "estimated", "client_late", "times_doubtful", "stamps")
COLUMNS = ("run", "created", "label", "engine", "engine_version", "model", "prompt_tokens", "max_tokens",
           "fixed_length", "cold", "concurrency", "rate_per_s", "requests", "ok", "errors", "short",
           "error_kinds",
           *(f"{name}_{s}" if s == "n" else f"{name}_{s}_ms" for name in TIMES for s in ("n", *STATISTICS)),
           "input_tokens_p50", "stalls", "longest_stall_ms", *SINGLE)


def text(run: Run, groups: list[Figures]) -> str:
    """A row of column names, and a row for each group.

    What isn't known is empty, and so is a p99 of fewer than 100 values.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for g in groups:
        writer.writerow({name: _cell(value) for name, value in _row(run.meta, g).items()})
    return out.getvalue()


def _row(meta: dict, g: Figures) -> dict:
    endpoint, workload, d = meta["endpoints"][g.endpoint], meta.get("workload") or {}, g.to_dict()
    row = {"run": meta.get("id"), "created": meta.get("created"), "label": meta.get("label"),
           "engine": endpoint.get("engine"), "engine_version": endpoint.get("version"),
           "model": endpoint.get("model")}
    row |= {k: workload.get(k) for k in ("prompt_tokens", "max_tokens", "fixed_length", "cold")}
    row |= {"concurrency": g.concurrency, "rate_per_s": g.rate, "requests": g.requests, "ok": g.ok,
            "errors": failures(g.errors), "short": g.errors.get("short", 0),
            "error_kinds": " ".join(f"{kind}:{n}" for kind, n in sorted(g.errors.items()))}
    for name, key in TIMES.items():
        times = d[key] or {"n": 0}
        row[f"{name}_n"] = times["n"]
        row |= {f"{name}_{s}_ms": times.get(s) for s in STATISTICS}
        if times["n"] < P99_NEEDS:
            row[f"{name}_p99_ms"] = None
    row |= {"input_tokens_p50": (d["input_tokens"] or {}).get("p50"), "stalls": d["stalls"]["count"],
            "longest_stall_ms": d["stalls"]["longest_ms"]}
    return row | {k: d[k] for k in SINGLE}


def _cell(value) -> str | int | float:
    """Numbers as they are. Words that a spreadsheet would take for a formula get a quote before them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "" if finite(value) is None else value
    words = plain(value)
    return f"'{words}" if words[:1] in ("=", "+", "-", "@") else words
