"""A report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from html import escape

from gb10.bench.explain import DEFINITIONS
from gb10.bench.figures import Figures
from gb10.bench.journal import Run
from gb10.bench.report import about, pictures, table, verdicts
from gb10.bench.report.style import CSS
from gb10.bench.report.words import NOTHING, number, plain


def page(run: Run, groups: list[Figures], comparison=None, warnings=()) -> str:
    """The whole file. groups: `summary.figures(run)`; comparison: lines of `compare.compare`, or None; warnings:
    sentences for the banner."""
    meta, alarms = run.meta, verdicts.alarms(run.meta, groups, warnings)
    title = about.title(meta)
    body = [_head(meta, title), _box("alarm", "Read these figures with care", alarms),
            _box("note", "", verdicts.notes(meta, alarms)), _verdicts(meta, groups, comparison), _main(meta, groups),
            _errors(meta, groups), _pictures(run, groups), _definitions(), _method(meta),
            f"<footer>Made from the files of the run {text(plain(meta.get('id'), 120))}: the same files give the same "
            "page.</footer>"]
    return document(title, body)


def document(title: str, body: list[str]) -> str:
    """A page in the style of the reports. The policy keeps a browser from loading or running anything."""
    return ('<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
            f"<title>{text(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n" +
            "\n".join(filter(None, body)) + "\n</main>\n</body>\n</html>\n")


def text(value) -> str:
    """For HTML: as text or in an attribute between quotes."""
    return escape(str(value))


def section(title: str, *content: str) -> str:
    inside = "\n".join(filter(None, content))
    return f"<section>\n<h2>{text(title)}</h2>\n{inside}\n</section>" if inside else ""


def items(sentences: list[str], kind: str = "said") -> str:
    return f'<ul class="{kind}">' + "".join(f"<li>{text(s)}</li>" for s in sentences) + "</ul>" if sentences else ""


def pairs(rows: list[tuple[str, str]], kind: str = "rows") -> str:
    inside = "".join(f"<dt>{text(n)}</dt><dd>{text(v)}</dd>" if kind == "rows" else
                     f"<div><dt>{text(n)}</dt><dd>{text(v)}</dd></div>" for n, v in rows)
    return f'<dl class="{kind}">{inside}</dl>' if rows else ""


def scroll(name: str, inside: str) -> str:
    """A table that may be wider than the screen: it scrolls by itself, also with the keyboard."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{text(name)}">{inside}</div>'


# ---------------------------------------------------------------- sections

def _head(meta: dict, title: str) -> str:
    return (f'<header>\n<p class="kicker">Benchmark of a model server</p>\n<h1>{text(title)}</h1>\n'
            f'<p class="lead">{text(about.workload(meta))}</p>\n{pairs(about.facts(meta), "facts")}\n</header>')


def _box(kind: str, title: str, sentences: list[str]) -> str:
    heading = f"<h2>{text(title)}</h2>" if title else ""
    label = text(title or "Notes")
    inside = items(sentences) if len(sentences) > 1 else "".join(f"<p>{text(s)}</p>" for s in sentences)
    return f'<section class="{kind}" aria-label="{label}">{heading}{inside}</section>' if sentences else ""


def _verdicts(meta: dict, groups: list[Figures], comparison) -> str:
    said = verdicts.verdicts(meta, groups)
    if not said and not comparison:
        n = sum(g.requests for g in groups)
        said = ["No request has been answered: there is nothing to measure." if n else
                "No request has been sent yet: there are no figures."]
    picture = pictures.intervals(comparison)
    faster = section("Is one faster?", _comparison(comparison), _row([picture]) if picture else "") if comparison else ""
    return section("In short", items(said) if len(said) > 1 else f"<p>{text(''.join(said))}</p>") + ("\n" + faster if faster else "")


def _comparison(rows) -> str:
    body = "".join(
        f'<tr><th scope="row" class="wrap">{text(plain(r.get("metric"), 60))}</th>'
        f'<td class="left">{text(verdicts.level(r))}</td>'
        f"<td>{_value(r, 'a')}</td><td>{_value(r, 'b')}</td>"
        f'<td class="left wrap">{text(plain(r.get("verdict"), 200))}</td></tr>' for r in rows)
    names = [text(plain(rows[0].get(k), 40)) if len({r.get(k) for r in rows}) == 1 else k.upper() for k in "ab"]
    basis = list(dict.fromkeys(plain(r["basis"], 200) for r in rows if r.get("basis")))
    return scroll("Comparison", '<table><thead><tr><th scope="col" class="left">Figure</th><th scope="col" class="left">Load</th>' +
                  "".join(f'<th scope="col">{n}</th>' for n in names) +
                  f'<th scope="col" class="left">Verdict</th></tr></thead><tbody>{body}</tbody></table>') + \
        (f'<p class="small under">Intervals from {text("; ".join(basis))}.</p>' if basis else "")


def _value(row: dict, side: str) -> str:
    value = number(row.get(f"{side}_value"))
    return value if value == NOTHING else f"{value} <small>{text(plain(row.get('unit'), 20))}</small>"


def _main(meta: dict, groups: list[Figures]) -> str:
    if not any(g.requests for g in groups):
        return ""
    columns = table.columns(meta, groups)
    edges = {i for i in range(1, len(columns)) if columns[i].over != columns[i - 1].over and columns[i].over}
    above, below, i = [], [], 0
    while i < len(columns):
        over, wide = columns[i].over, 1
        while i + wide < len(columns) and columns[i + wide].over == over and over:
            wide += 1
        edge = " edge" if i in edges else ""
        if not over:
            above.append(f'<th scope="col" rowspan="2" class="left{_stick(columns, i)}">{text(columns[i].name)}</th>')
        else:
            above.append(f'<th scope="colgroup" colspan="{wide}" class="{edge.strip()}">{text(over)}</th>')
            below += [f'<th scope="col"{_class(j, edges)}>{text(columns[j].name)}</th>' for j in range(i, i + wide)]
        i += wide
    rows = []
    for n in range(len(groups)):
        cells = []
        for j, c in enumerate(columns):
            said, remark = c.cells[n]
            inside = (f"<small>{text(remark)}</small> " if remark else "") + text(said)
            cells.append(f'<th scope="row" class="left{_stick(columns, j)}">{inside}</th>' if c.left else
                         f"<td{_class(j, edges)}>{inside}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return section("Figures of each load", scroll(
        "Figures of each load", f"<table><thead><tr>{''.join(above)}</tr><tr>{''.join(below)}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"), _under(columns))


def _stick(columns: list[table.Column], i: int) -> str:
    """The columns with words stay in sight on a narrow screen while the others scroll."""
    words = sum(c.left for c in columns)
    return "" if i >= words else " stick" if words == 1 else " stick first" if i == 0 else " stick second"


def _class(i: int, edges: set[int]) -> str:
    return ' class="edge"' if i in edges else ""


def _under(columns: list[table.Column]) -> str:
    out = []
    if any(c.name == "max" or any("max" in remark for _, remark in c.cells) for c in columns):
        out.append("max: the largest value, because there are fewer than 100 and a p99 would be a guess.")
    if any(remark == "whole run" for c in columns for _, remark in c.cells):
        out.append("whole run: there was no steady window, so ramp-up and the last stragglers are in it.")
    if any(c.name == "short" for c in columns):
        out.append("short: answers that ended by themselves before the length asked for; they are in no latency.")
    return f'<p class="small under">{text(" ".join(out))}</p>' if out else ""


def _errors(meta: dict, groups: list[Figures]) -> str:
    rows = verdicts.errors(meta, groups)
    if not rows:
        return ""
    body = "".join(f'<tr><th scope="row">{text(kind)}</th><td>{n:,}</td><td class="left wrap">{text(where)}</td>'
                   f'<td class="left wrap">{text(means)}</td>'
                   f'<td class="left wrap">{f"<code>{text(example)}</code>" if example else NOTHING}</td></tr>'
                   for kind, n, where, means, example in rows)
    return section("Errors", scroll("Errors", '<table><thead><tr><th scope="col" class="left">Class</th>'
                   '<th scope="col">Requests</th><th scope="col" class="left">Where</th><th scope="col" class="left">'
                   'Meaning</th><th scope="col" class="left">An example, in the server\'s words</th></tr></thead>'
                   f"<tbody>{body}</tbody></table>"))


def _pictures(run: Run, groups: list[Figures]) -> str:
    return section("Pictures", *map(_row, pictures.rows(run, groups)))


_WIDTHS = {1: 1030, 2: 484, 3: 310}      # of a picture by how many stand in a row: then its type has its own size
_NARROW = 330


def _row(row: list[pictures.Picture]) -> str:
    """Pictures side by side. Those too wide for a telephone are drawn again for it."""
    width = _WIDTHS.get(len(row), _WIDTHS[2])
    out = []
    for p in row:
        inside = p.draw(width) if width < 400 else \
            f'<div class="on-wide">{p.draw(width)}</div><div class="on-narrow">{p.draw(_NARROW)}</div>'
        out.append(f'<figure class="card"><figcaption><h3>{text(p.title)}</h3><p>{text(p.text)}</p></figcaption>'
                   f"{inside}</figure>")
    return f'<div class="pictures of{min(len(row), 4)}">{"".join(out)}</div>'


def _definitions() -> str:
    return section("What the numbers mean", _details("Definitions", pairs(list(DEFINITIONS.items()))))


def _method(meta: dict) -> str:
    rows = "".join(f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in flat(meta))
    return section("How it was measured", f'<div class="card">{pairs(about.method(meta))}</div>',
                   _details("Everything that was noted (meta.json)", f'<table class="meta"><tbody>{rows}</tbody></table>'))


def _details(title: str, inside: str) -> str:
    return f'<details><summary>{text(title)}</summary><div class="inside">{inside}</div></details>'


def flat(value, name: str = "") -> list[tuple[str, str]]:
    """Nested data as (name with dots, value in words); lists of plain values, and dicts in a list, each in one line."""
    if isinstance(value, dict) and value:
        return [row for k, v in value.items() for row in flat(v, f"{name}.{plain(k, 60)}".lstrip("."))]
    if isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        return [(f"{name} {i}", _inline(v)) for i, v in enumerate(value)]
    return [(name or "meta", _inline(value))]


def _inline(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{plain(k, 60)}: {_inline(v)}" for k, v in value.items()) or NOTHING
    if isinstance(value, list):
        return ", ".join(map(_inline, value)) or NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value) if value != value or abs(value) == float("inf") else f"{value:.10g}"
    return plain(value, 500) or NOTHING
