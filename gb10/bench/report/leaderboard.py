"""The leaderboard of a class: runs of one model and one workload side by side, without names of machines.

Only like is ranked with like: another model, length, load or state of the prefix cache is another race. The
engine and the format may differ. A run with failed requests, or with times that a late client is part of, stands below
the ranking with the reason.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from gb10.bench import journal, summary
from gb10.bench.report.html import column, document, scroll, section, text
from gb10.bench.report.words import decimals, failures, finite, number, plain, short
from gb10.errors import UserError

WORKLOAD = ("prompt_tokens", "max_tokens", "fixed_length", "cold", "turns", "api")
_FORMAT = re.compile(r"nvfp4|nvfp4a16|mxfp4|mxfp8|fp8|fp4|bf16|fp16|f16|int4|int8|w4a16|w8a8|w8a16|awq|gptq|"
                     r"gguf|dynamic|i?q\d(_[0-9a-z]+)*", re.IGNORECASE)
_KIND = re.compile(r"[a-z0-9_]{1,32}")
_PLACE = re.compile(r"://|localhost|\d+\.\d+\.\d+\.\d+|:\d{2,5}\b")     # what would tell where a server is
_BAD = (KeyError, TypeError, ValueError, AttributeError, IndexError)    # what a foreign file causes


@dataclass(frozen=True)
class Entry:
    """One load of one run. race: what must be alike to be ranked together; reason: why it isn't ranked."""

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
    """The entries of run folders and of files that --json wrote, each once however often it was given.

    Raises UserError with a sentence that names the file for whatever is neither; nothing is changed.
    """
    found: dict[tuple, Entry] = {}
    names: dict[str, str] = {}           # name -> the run that has it
    for path in map(Path, paths):
        meta, rows = _read(path)
        try:
            run = sha256(json.dumps([meta, rows], sort_keys=True).encode()).hexdigest()
            name = name_of(meta, run, names)
            for number, row in enumerate(rows):
                if row["requests"]:
                    found.setdefault((run, number), _entry(name, meta, row))
        except _BAD as e:
            raise _foreign(path) from e
    return list(found.values())


def races(of: list[Entry]) -> list[tuple[list[Entry], list[Entry]]]:
    """(the ranking, the fastest system first; who isn't ranked) of each race, the largest race first."""
    grouped: dict[tuple, list[Entry]] = {}
    for e in of:
        grouped.setdefault(e.race, []).append(e)
    out = []
    for members in sorted(grouped.values(), key=lambda m: (-len(m), m[0].model.lower(), m[0].workload)):
        ranked = sorted((e for e in members if not e.reason), key=lambda e: (-e.system_tps, e.name))
        out.append((ranked, sorted((e for e in members if e.reason), key=lambda e: e.name)))
    return out


# ---------------------------------------------------------------- reading

def _read(path: Path) -> tuple[dict, list[dict]]:
    if os.path.isdir(path) or path.name in (journal.META, journal.JOURNAL, journal.TELEMETRY):
        run = journal.Run.open(path)
        try:
            return run.meta, summary.result(run)["runs"]
        except _BAD as e:
            raise _foreign(run.folder / journal.META) from e
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not there: name run folders, or files that './course bench --json' "
                        "wrote.") from None
    except OSError as e:
        raise UserError(f"{path} can't be read ({e.strerror or type(e).__name__}).") from e
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON: name run folders, or files that './course bench --json' wrote; "
                        "it was left as it is.") from None
    meta, rows = (data.get("meta"), data.get("runs")) if isinstance(data, dict) else (None, None)
    if not isinstance(meta, dict) or meta.get("format") != journal.FORMAT or not isinstance(rows, list):
        raise _foreign(path)
    if meta.get("version") != journal.VERSION:
        raise UserError(f"{path} is of version {plain(meta.get('version'), 20)} of the format, and this "
                        f"program reads version {journal.VERSION}; it was left as it is.")
    return meta, rows


def _foreign(path: Path) -> UserError:
    return UserError(f"{path} does not hold what this benchmark writes; it was left as it is.")


def _entry(name: str, meta: dict, row: dict) -> Entry:
    """Raises one of _BAD for a row that this benchmark doesn't write."""
    endpoint, given = meta["endpoints"][row["endpoint"]], meta["workload"]
    model, kind = split(endpoint["model"])
    load = (_count(row["concurrency"]), _positive(row.get("rate")))
    # "qwen3:8b" and "Qwen3-8B" are one model
    race = (re.sub(r"[^a-z0-9.]+", "-", model.lower()), *(json.dumps(given.get(k)) for k in WORKLOAD), load)
    engine = plain(endpoint["engine"], 30)
    errors = {str(k): _count(v) for k, v in row["errors"].items()}
    system = _positive(row["system_tps"])
    return Entry(
        name=name, model=model, race=race, workload=_workload(given, load),
        engine="not named" if not engine or _PLACE.search(engine) else engine, format=kind or "not named",
        requests=_count(row["requests"]), system_tps=system, user_tps=_positive(row["user_tps"]),
        ttft_p50_ms=_positive((row["ttft_ms"] or {}).get("p50")), shorts=errors.get("short", 0),
        reason=_reason(errors, bool(row.get("times_doubtful")), system, _count(row["requests"])))


def _count(value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise ValueError(value)
    return value


def _positive(value) -> float | None:
    """None for nothing and for 0, which is no speed."""
    if value is None:
        return None
    if finite(value) is None or value < 0:
        raise ValueError(value)
    return float(value) or None


def name_of(meta: dict, run: str, taken: dict[str, str]) -> str:
    """The label that the seat gave itself, else a name that follows from the run's id and tells no machine.

    taken: name -> the run that has it. Two seats that began in the same second have the same id: the
    second one gets a number.
    """
    given = plain(meta.get("label"), 40)
    if given and not _PLACE.search(given):
        return given
    name = wanted = f"seat {sha256(str(meta['id']).encode('utf-8', 'replace')).hexdigest()[:4]}"
    n = 1
    while taken.setdefault(name, run) != run:
        n += 1
        name = f"{wanted} ({n})"
    return name


def split(model: str) -> tuple[str, str]:
    """("Qwen3-8B", "NVFP4") from nvidia/Qwen3-8B-NVFP4; ("qwen3:8b", "") where the name tells no format."""
    if not isinstance(model, str):
        raise TypeError(model)
    whole = short(model).removesuffix(".gguf").removesuffix(":latest")
    base, formats = "", []
    for joint, part in re.findall(r"([-:]?)([^-:]+)", whole):
        if _FORMAT.fullmatch(part):
            formats.append(part.upper())
        else:
            base += joint + part
    return base.strip("-:") or whole, " ".join(formats)


def _workload(given: dict, load: tuple) -> str:
    prompt, most, turns = (finite(given.get(k)) for k in ("prompt_tokens", "max_tokens", "turns"))
    parts = [f"{prompt:,} prompt tokens" if prompt else "prompts of the benchmark's length",
             f"{most:,} answer tokens" if most else "answers of any length",
             f"{load[1]:g} requests/s" if load[1] else f"{load[0]:,} at once"]
    parts += [f"{turns:g} turns"] if turns and turns > 1 else []
    parts += ["warm prefix cache"] if given.get("cold") is False else []
    parts += ["lengths not fixed"] if given.get("fixed_length") is False else []
    return ", ".join(parts)


def _reason(errors: dict[str, int], slow: bool, system: float | None, requests: int) -> str:
    said = []
    if failed := failures(errors):
        kinds = ", ".join(f"{kind if _KIND.fullmatch(kind) else 'other'} {n}"
                          for kind, n in sorted(errors.items()) if n and kind != "short")
        said.append(f"{failed:,} of {requests:,} requests failed ({kinds})")
    if slow:
        said.append("the client read late, and that is part of its times")
    if system is None and not said:
        said.append("no speed was measured")
    return "; ".join(said)


# ---------------------------------------------------------------- showing

NO_RUNS = "No run with requests was given."
HEADS = ("#", "seat", "system tok/s", "user tok/s", "TTFT p50, ms", "requests", "engine", "format")
LEFT = {1, 6, 7}                 # columns with words


def _cells(ranked: list[Entry]) -> list[tuple[str, ...]]:
    columns = []
    for key in ("system_tps", "user_tps", "ttft_p50_ms"):
        values = [getattr(e, key) for e in ranked]
        columns.append([number(v, decimals(values)) for v in values])
    return [(str(i + 1), e.name, *(c[i] for c in columns),
             f"{e.requests:,}" + (f" ({e.shorts:,} short)" if e.shorts else ""), e.engine, e.format)
            for i, e in enumerate(ranked)]


def _left_out(others: list[Entry]) -> list[str]:
    return [f"{e.name} ({e.engine}, {e.format}): {e.reason}" for e in others]


def table(of: list[Entry]) -> str:
    """For a terminal."""
    out = []
    for ranked, others in races(of):
        first = (ranked + others)[0]
        out += [f"{first.model}: {first.workload}", ""]
        rows = [HEADS, *_cells(ranked)] if ranked else []
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        for row in rows:
            cells = [c.ljust(widths[i]) if i in LEFT else c.rjust(widths[i]) for i, c in enumerate(row)]
            out.append(f"  {'  '.join(cells)}".rstrip())
        if others:
            out += [""] if ranked else []
            out += ["  Not ranked:", *(f"  {said}" for said in _left_out(others))]
        out.append("")
    return "\n".join(out).rstrip() + "\n" if out else NO_RUNS + "\n"


def page(of: list[Entry]) -> str:
    """The same as one HTML file."""
    lead = "Runs of the same model under the same load; the most tokens per second of the whole system first."
    heads = "".join(column(h, i in LEFT) for i, h in enumerate(HEADS))
    head = '<header><p class="kicker">Blackwell at Your Desk</p><h1>Leaderboard</h1>'
    body = [f'{head}<p class="lead">{lead}</p></header>']
    for ranked, others in races(of):
        first = (ranked + others)[0]
        rows = "".join(map(_row, _cells(ranked)))
        ranking = scroll(f"Ranking of {first.model}", f"<tr>{heads}</tr>", rows) if ranked else ""
        points = "".join(f"<li>{text(said)}</li>" for said in _left_out(others))
        left_out = f'<h3 class="under">Not ranked</h3><ul class="said">{points}</ul>' if others else ""
        body.append(section(first.model, f'<p class="small">{text(first.workload)}</p>', ranking, left_out))
    return document("Leaderboard", body if len(body) > 1 else [*body, f"<p>{NO_RUNS}</p>"])


def _row(cells: tuple[str, ...]) -> str:
    number, seat, *others = map(text, cells)
    kinds = (' class="left"' if i in LEFT else "" for i in range(2, len(cells)))
    rest = "".join(f"<td{kind}>{c}</td>" for kind, c in zip(kinds, others, strict=True))
    return f'<tr><td>{number}</td><th scope="row" class="stick">{seat}</th>{rest}</tr>'
