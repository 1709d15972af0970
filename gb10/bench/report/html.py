"""A report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from html import escape

from gb10.bench.explain import DEFINITIONS
from gb10.bench.figures import Figures
from gb10.bench.journal import Run
from gb10.bench.report import about, pictures, table, verdicts
from gb10.bench.report.style import CSS
from gb10.bench.report.words import NOTHING, finite, number, plain

# Widths of a picture by how many stand in a row, on wide, middling and narrow screens: drawn as wide as it is
# shown, its type has its own size.
WIDTHS = {1: {"on-wide": 1030, "on-middle": 640, "on-narrow": 330}, 2: {"on-wide": 484, "on-narrow": 330},
          3: {"on-all": 310}}
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(run: Run, groups: list[Figures], comparison=None, warnings=(), also=()) -> str:
    """The whole file.

    groups: `summary.figures(run)`; comparison: lines of `compare.compare`, or None; warnings: sentences for
    the banner; also: more sentences for the beginning.
    """
    meta = run.meta
    title, alarms = about.title(meta), verdicts.alarms(meta, groups, warnings)
    run_id = text(plain(meta.get("id"), 120))
    return document(title, [
        _head(meta, title),
        _box("alarm", "Read these figures with care", alarms),
        _box("note", "", verdicts.notes(meta, alarms)),
        section("In short", _sentences(verdicts.verdicts(meta, groups, also))),
        _faster(comparison),
        _figures(meta, groups),
        _errors(meta, groups),
        section("Pictures", *map(_row, pictures.rows(run, groups))),
        section("What the numbers mean", _details("Definitions", pairs(list(DEFINITIONS.items())))),
        _method(meta),
        f"<footer>Made from the files of the run {run_id}: the same files give the same page.</footer>",
    ])


def document(title: str, body: list[str]) -> str:
    """A page in the style of the reports. The policy keeps a browser from loading or running anything."""
    inside = "\n".join(filter(None, body))
    return ('<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            f"<title>{text(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n{inside}\n"
            "</main>\n</body>\n</html>\n")


def text(value) -> str:
    """For HTML: as text, or in an attribute between quotes."""
    return escape(str(value))


def section(title: str, *content: str) -> str:
    """A part of the page under a heading; "" without content."""
    inside = "\n".join(filter(None, content))
    return f"<section>\n<h2>{text(title)}</h2>\n{inside}\n</section>" if inside else ""


def pairs(rows: list[tuple[str, str]], kind: str = "rows") -> str:
    """Names and values below ("rows") or beside each other ("facts")."""
    each = "<div>{}</div>" if kind == "facts" else "{}"
    inside = "".join(each.format(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>") for name, value in rows)
    return f'<dl class="{kind}">{inside}</dl>' if rows else ""


def scroll(name: str, head: str, body: str) -> str:
    """A table that may be wider than the screen: it scrolls by itself, also with the keyboard."""
    return (f'<div class="scroll" role="region" tabindex="0" aria-label="{text(name)}"><table>'
            f"<thead>{head}</thead><tbody>{body}</tbody></table></div>")


def column(name: str, left: bool = False) -> str:
    """A heading of a column."""
    return f'<th scope="col"{_LEFT if left else ""}>{text(name)}</th>'


def small(words: str) -> str:
    return f'<p class="small under">{text(words)}</p>' if words else ""


_LEFT, _WRAP = ' class="left"', ' class="left wrap"'


# ---------------------------------------------------------------- words

def _head(meta: dict, title: str) -> str:
    return (f'<header>\n<p class="kicker">Benchmark of a model server</p>\n<h1>{text(title)}</h1>\n'
            f'<p class="lead">{text(about.workload(meta))}</p>\n'
            f'{pairs(about.facts(meta), "facts")}\n</header>')


def _box(kind: str, title: str, sentences: list[str]) -> str:
    if not sentences:
        return ""
    heading = f"<h2>{text(title)}</h2>" if title else ""
    return (f'<section class="{kind}" aria-label="{text(title or "Notes")}">{heading}{_sentences(sentences)}'
            "</section>")


def _sentences(of: list[str]) -> str:
    if len(of) == 1:
        return f"<p>{text(of[0])}</p>"
    return '<ul class="said">' + "".join(f"<li>{text(s)}</li>" for s in of) + "</ul>" if of else ""


def _method(meta: dict) -> str:
    rows = "".join(f'<tr><th scope="row">{text(k)}</th><td>{text(v)}</td></tr>' for k, v in flat(meta))
    noted = f'<table class="meta"><tbody>{rows}</tbody></table>'
    return section("How it was measured", f'<div class="card">{pairs(about.method(meta))}</div>',
                   _details("Everything that was noted (meta.json)", noted))


def _details(title: str, inside: str) -> str:
    return f'<details><summary>{text(title)}</summary><div class="inside">{inside}</div></details>'


def flat(value, name: str = "") -> list[tuple[str, str]]:
    """Nested data as (name with dots, value in words); a list of plain values is one line."""
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
        return NOTHING if finite(value) is None else f"{value:.10g}"
    return plain(value, 500) or NOTHING


# ---------------------------------------------------------------- tables

def _faster(comparison) -> str:
    """The comparison: a table of the verdicts, and a picture of the intervals."""
    if not comparison:
        return ""
    sides = [{plain(r.get(side), 40) for r in comparison} for side in "ab"]
    names = [min(side) if len(side) == 1 else letter for side, letter in zip(sides, "AB", strict=True)]
    head = "".join([column("Figure", True), column("Load", True), *map(column, names),
                    column("Verdict", True)])
    body = "".join(
        f'<tr><th scope="row" class="wrap">{text(plain(r.get("metric"), 60))}</th>'
        f"<td{_LEFT}>{text(verdicts.level(r))}</td><td>{_value(r, 'a')}</td><td>{_value(r, 'b')}</td>"
        f"<td{_LEFT}>{text(plain(r.get('verdict'), 200))}</td></tr>" for r in comparison)
    basis = "; ".join(dict.fromkeys(plain(r["basis"], 200) for r in comparison if r.get("basis")))
    picture = pictures.intervals(comparison)
    return section("Is one faster?", scroll("Comparison", f"<tr>{head}</tr>", body),
                   small(f"Intervals from {basis}." if basis else ""), _row([picture]) if picture else "")


def _value(row: dict, side: str) -> str:
    value = number(row.get(f"{side}_value"))
    return value if value == NOTHING else f"{value} <small>{text(plain(row.get('unit'), 20))}</small>"


def _figures(meta: dict, groups: list[Figures]) -> str:
    """The main table: two rows of headings, a row for each group."""
    if not any(g.requests for g in groups):
        return ""
    columns = table.columns(meta, groups)
    kinds = [_kind(columns, i) for i in range(len(columns))]
    above, below = "", ""
    for i, c in enumerate(columns):
        if not c.over:
            above += f'<th scope="col" rowspan="2"{kinds[i]}>{text(c.name)}</th>'
            continue
        if not i or columns[i - 1].over != c.over:
            wide = sum(other.over == c.over for other in columns)
            above += f'<th scope="colgroup" colspan="{wide}"{kinds[i]}>{text(c.over)}</th>'
        below += f'<th scope="col"{kinds[i]}>{text(c.name)}</th>'
    body = ""
    for row in range(len(groups)):
        cells = ""
        for c, kind in zip(columns, kinds, strict=True):
            said, remark = c.cells[row]
            inside = (f"<small>{text(remark)}</small> " if remark else "") + text(said)
            cells += f'<th scope="row"{kind}>{inside}</th>' if c.left else f"<td{kind}>{inside}</td>"
        body += f"<tr>{cells}</tr>"
    name = "Figures of each load"
    return section(name, scroll(name, f"<tr>{above}</tr><tr>{below}</tr>", body),
                   small(" ".join(table.footnotes(columns, groups))))


def _kind(columns: list[table.Column], i: int) -> str:
    """The class of a column's cells: words stay in sight while numbers scroll; a line begins each set."""
    if columns[i].left:
        words = sum(c.left for c in columns)
        return ' class="left stick' + ("" if words == 1 else " second" if i else " first") + '"'
    return ' class="edge"' if i and columns[i].over != columns[i - 1].over else ""


def _errors(meta: dict, groups: list[Figures]) -> str:
    rows = verdicts.errors(meta, groups)
    if not rows:
        return ""
    head = "".join([column("Class", True), column("Requests"), column("Where", True), column("Meaning", True),
                    column("An example, in the server's words", True)])
    body = ""
    for kind, n, where, means, example in rows:
        said = f"<code>{text(example)}</code>" if example else NOTHING
        body += (f'<tr><th scope="row">{text(kind)}</th><td>{n:,}</td><td{_WRAP}>{text(where)}</td>'
                 f"<td{_WRAP}>{text(means)}</td><td{_WRAP}>{said}</td></tr>")
    return section("Errors", scroll("Errors", f"<tr>{head}</tr>", body))


# ---------------------------------------------------------------- pictures

def _row(row: list[pictures.Picture]) -> str:
    """Pictures side by side. Those that are too wide for some screens are drawn again for them."""
    out = ""
    for p in row:
        widths = WIDTHS.get(len(row), WIDTHS[2])
        inside = "".join(f'<div class="{screen}">{p.draw(width)}</div>' for screen, width in widths.items())
        out += (f'<figure class="card"><figcaption><h3>{text(p.title)}</h3><p>{text(p.text)}</p></figcaption>'
                f"{inside}</figure>")
    return f'<div class="pictures of{min(len(row), 4)}">{out}</div>'
