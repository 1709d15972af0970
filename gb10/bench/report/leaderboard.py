"""The leaderboard of a class: runs of one model and one workload side by side, without names of machines.

Only like is ranked with like: another model, length, load or state of the prefix cache is another race. A run with failed
requests or with a client that was too slow stands below the ranking, with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from gb10.bench import journal, summary
from gb10.bench.report.html import document, scroll, text
from gb10.bench.report.words import decimals, finite, number, plain, short
from gb10.errors import UserError

_FORMAT = re.compile(r"(nvfp4|mxfp4|mxfp8|nvfp4a16|fp8|fp4|bf16|fp16|f16|int4|int8|w4a16|w8a8|w8a16|awq|gptq|gguf|dynamic|"
                     r"u?d?q\d(_[0-9a-z]+)*|iq\d(_[0-9a-z]+)*)", re.IGNORECASE)
_KIND = re.compile(r"[a-z0-9_]{1,32}")
WORKLOAD = ("prompt_tokens", "max_tokens", "fixed_length", "cold", "turns", "api")


@dataclass(frozen=True)
class Entry:
    """One load of one run. race: what must be the same to be ranked together; reason: why it isn't ranked, or ""."""

    name: str
    model: str
    race: tuple
    workload: str
    engine: str
    format: str
    requests: int
    system_tps: float | None
    user_tps: float | None
    ttft_p50_ms: float | None
    shorts: int
    reason: str


def entries(paths: Iterable[Path | str]) -> list[Entry]:
    """The entries of run folders and of files that --json wrote, each load once however often it was given.

    Raises UserError with a sentence that names the file for whatever is neither; nothing is changed.
    """
    found: dict[tuple, Entry] = {}
    for path in map(Path, paths):
        meta, rows = _read(path)
        try:
            for row in rows:
                if row["requests"]:
                    key = (meta["id"], row["endpoint"], row["concurrency"], row.get("rate"))
                    found.setdefault(key, _entry(meta, row))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
            raise _foreign(path) from e
    return list(found.values())


def races(of: list[Entry]) -> list[tuple[str, str, list[Entry], list[Entry]]]:
    """(model, workload, the ranking with the most tokens per second first, who isn't ranked), the largest race first."""
    grouped: dict[tuple, list[Entry]] = {}
    for e in of:
        grouped.setdefault(e.race, []).append(e)
    out = []
    for members in sorted(grouped.values(), key=lambda m: (-len(m), m[0].model.lower(), m[0].workload)):
        ranked = sorted((e for e in members if not e.reason), key=lambda e: (-e.system_tps, e.name))
        out.append((members[0].model, members[0].workload, ranked, sorted((e for e in members if e.reason),
                                                                          key=lambda e: e.name)))
    return out


# ---------------------------------------------------------------- reading

def _read(path: Path) -> tuple[dict, list[dict]]:
    if path.is_dir() or path.name in (journal.META, journal.JOURNAL, journal.TELEMETRY):
        run = journal.Run.open(path)
        try:
            return run.meta, summary.result(run)["runs"]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
            raise _foreign(run.folder / journal.META) from e
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not there: name run folders, or files that ./course bench --json wrote.") from None
    except OSError as e:
        raise UserError(f"{path} can't be read ({e.strerror or type(e).__name__}).") from e
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON: name run folders, or files that ./course bench --json wrote. It was left "
                        "as it is.") from None
    meta, rows = (data.get("meta"), data.get("runs")) if isinstance(data, dict) else (None, None)
    if not isinstance(meta, dict) or meta.get("format") != journal.FORMAT or not isinstance(rows, list):
        raise _foreign(path)
    if meta.get("version") != journal.VERSION:
        raise UserError(f"{path} is of version {plain(meta.get('version'), 20)} of the format, and this program reads version "
                        f"{journal.VERSION}; it was left as it is.")
    return meta, rows


def _foreign(path: Path) -> UserError:
    return UserError(f"{path} does not hold what this benchmark writes; it was left as it is.")


def _entry(meta: dict, row: dict) -> Entry:
    """Raises ValueError and its like for a row that this benchmark doesn't write."""
    endpoint, given = meta["endpoints"][row["endpoint"]], meta["workload"]
    model, fmt = split(endpoint["model"])
    requests = _count(row["requests"])
    errors = {kind if _KIND.fullmatch(kind) else "other": _count(n) for kind, n in row["errors"].items()}
    shorts = errors.pop("short", 0)
    system, user, ttft = (_speed(v) for v in (row["system_tps"], row["user_tps"], (row["ttft_ms"] or {}).get("p50")))
    load = (_count(row["concurrency"]), _speed(row.get("rate")))
    race = (re.sub(r"[^a-z0-9.]+", "-", model.lower()), *(json.dumps(given.get(k)) for k in WORKLOAD), load)
    return Entry(name(meta), model, race, _workload(given, load), plain(endpoint["engine"], 30), fmt, requests, system, user,
                 ttft, shorts, _reason(errors, bool(row.get("client_too_slow")), system, requests))


def _count(value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value


def _speed(value) -> float | None:
    if value is None:
        return None
    if finite(value) is None or value <= 0:
        raise ValueError(value)
    return float(value)


def name(meta: dict) -> str:
    """The label that the seat gave itself, else one that follows from the run's id and tells nothing about the machine."""
    given = plain(meta.get("label"), 40)
    return given or f"seat {sha256(str(meta['id']).encode('utf-8', 'replace')).hexdigest()[:4]}"


def split(model) -> tuple[str, str]:
    """("Qwen3-8B", "NVFP4") from nvidia/Qwen3-8B-NVFP4; ("qwen3:8b", "") where the name tells no format."""
    if not isinstance(model, str):
        raise TypeError(model)
    parts = re.split(r"([-:])", short(model).removesuffix(".gguf").removesuffix(":latest"))
    formats = [p for p in parts if _FORMAT.fullmatch(p)]
    base = "".join(p for i, p in enumerate(parts) if p not in formats and not
                   (p in "-:" and i + 1 < len(parts) and parts[i + 1] in formats)).strip("-:")
    return base or short(model), " ".join(f.upper() for f in formats)


def _workload(given: dict, load: tuple) -> str:
    prompt, most = given.get("prompt_tokens"), given.get("max_tokens")
    parts = [f"{prompt:,} prompt tokens" if finite(prompt) else "prompts of the benchmark's length",
             f"{most:,} answer tokens" if finite(most) else "answers of any length",
             f"{load[1]:g} requests/s" if load[1] else f"{load[0]:,} at once"]
    parts += [f"{given['turns']} turns"] if finite(given.get("turns")) and given["turns"] > 1 else []
    parts += ["warm prefix cache"] if given.get("cold") is False else []
    parts += ["lengths not fixed"] if given.get("fixed_length") is False else []
    return ", ".join(parts)


def _reason(errors: dict[str, int], slow: bool, system: float | None, requests: int) -> str:
    said = []
    if failed := sum(errors.values()):
        kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(errors.items()) if n)
        said.append(f"{failed:,} of {requests:,} requests failed ({kinds})")
    if slow:
        said.append("the client was too slow for the load")
    if system is None and not said:
        said.append("no speed was measured")
    return "; ".join(said)


# ---------------------------------------------------------------- showing

NO_RUNS = "No runs with requests were given."
HEADS = ("#", "seat", "system tok/s", "user tok/s", "TTFT p50, ms", "requests", "engine", "format")
LEFT = {1, 6, 7}                 # columns with words


def _cells(ranked: list[Entry]) -> list[tuple[str, ...]]:
    columns = [[getattr(e, key) for e in ranked] for key in ("system_tps", "user_tps", "ttft_p50_ms")]
    shown = [[number(v, decimals(c)) for v in c] for c in columns]
    return [(str(i + 1), e.name, *(c[i] for c in shown), f"{e.requests:,}" + (f" ({e.shorts:,} short)" if e.shorts else ""),
             e.engine, e.format or "not named") for i, e in enumerate(ranked)]


def table(of: list[Entry]) -> str:
    """For a terminal."""
    out = []
    for model, workload, ranked, others in races(of):
        out += [f"{model}: {workload}", ""]
        rows = [HEADS, *_cells(ranked)] if ranked else []
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        out += ["  " + "  ".join(c.ljust(w) if i in LEFT else c.rjust(w) for i, (c, w) in
                                 enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
        if others:
            out += ["", "  Not ranked:"] if ranked else ["  Not ranked:"]
            out += [f"  {e.name} ({e.engine}): {e.reason}" for e in others]
        out.append("")
    return "\n".join(out).rstrip() + "\n" if out else NO_RUNS + "\n"


def page(of: list[Entry]) -> str:
    """The same as one HTML file."""
    body = ['<header><p class="kicker">Blackwell at Your Desk</p><h1>Leaderboard</h1><p class="lead">Runs of the same model '
            "under the same load, the most tokens per second of the whole system first.</p></header>"]
    for model, workload, ranked, others in races(of):
        inside = ""
        if ranked:
            heads = "".join(f'<th scope="col"{_left(i)}>{text(h)}</th>' for i, h in enumerate(HEADS))
            rows = "".join("<tr>" + "".join(
                f'<th scope="row" class="stick">{text(c)}</th>' if i == 1 else f"<td{_left(i)}>{text(c)}</td>"
                for i, c in enumerate(row)) + "</tr>" for row in _cells(ranked))
            inside = scroll(model, f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>")
        if others:
            inside += '<h3 class="under">Not ranked</h3><ul class="said">' + "".join(
                f"<li>{text(e.name)} ({text(e.engine)}): {text(e.reason)}</li>" for e in others) + "</ul>"
        body.append(f'<section><h2>{text(model)}</h2><p class="small">{text(workload)}</p>{inside}</section>')
    if len(body) == 1:
        body.append(f"<p>{NO_RUNS}</p>")
    return document("Leaderboard", body)


def _left(i: int) -> str:
    return ' class="left"' if i in LEFT else ""
