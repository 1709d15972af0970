"""A report as Markdown, for an issue or a chat."""

from __future__ import annotations

from gb10.bench.figures import Figures
from gb10.bench.journal import Run
from gb10.bench.report import about, table, verdicts
from gb10.bench.report.words import NOTHING


def text(run: Run, groups: list[Figures], comparison=None, warnings=(), also=()) -> str:
    """Headline, warnings, verdicts, table, errors, how it was measured. Arguments as for `html.page`."""
    meta = run.meta
    alarms = verdicts.alarms(meta, groups, warnings)
    parts = [f"## {line(about.title(meta))}", line(about.workload(meta)), _facts(meta),
             _list("**Read these figures with care:**", alarms),
             _list("**Notes:**", verdicts.notes(meta, alarms)),
             _list("**In short:**", verdicts.verdicts(meta, groups, also)),
             _list("**Is one faster?**", [verdicts.compared(row) for row in comparison or ()]),
             _table(meta, groups), _errors(meta, groups), _method(meta)]
    return "\n\n".join(filter(None, parts)) + "\n"


def line(value: str) -> str:
    """Words from outside as words: nothing in them becomes HTML, a link, emphasis or a new line."""
    out = " ".join(str(value).split())
    for sign, instead in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        out = out.replace(sign, instead)
    for sign in "*`[]|~":
        out = out.replace(sign, "\\" + sign)
    return f"\\{out}" if out[:1] in ("#", "-", "+") else out


def code(value: str) -> str:
    """Words of a server, as they are, in a cell of a table."""
    words = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return f"`{words}`" if words else NOTHING


def _facts(meta: dict) -> str:
    return "  \n".join(f"{name}: {line(value)}" for name, value in about.facts(meta))


def _list(title: str, sentences: list[str]) -> str:
    points = "\n".join(f"- {line(s)}" for s in sentences)
    return f"{title}\n\n{points}" if points else ""


def _table(meta: dict, groups: list[Figures]) -> str:
    if not any(g.requests for g in groups):
        return ""
    columns = table.columns(meta, groups)
    cells = [[line(f"{said} ({remark})" if remark else said) for said, remark in c.cells] for c in columns]
    rows = [[_heading(c) for c in columns], ["---" if c.left else "---:" for c in columns],
            *zip(*cells, strict=True)]
    below = "\n\n" + line(" ".join(notes)) if (notes := table.footnotes(columns, groups)) else ""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + below


def _heading(c: table.Column) -> str:
    """"TTFT p50, ms": one row of headings has to do."""
    over, _, unit = c.over.partition(", ")
    return {"Requests": c.name, "Tokens/s": f"{c.name} tok/s"}.get(
        over, " ".join(filter(None, (over, c.name))) + (f", {unit}" if unit else ""))


def _errors(meta: dict, groups: list[Figures]) -> str:
    rows = verdicts.errors(meta, groups)
    if not rows:
        return ""
    body = "\n".join(f"| {line(kind)} | {n:,} | {line(where)} | {code(example)} |"
                     for kind, n, where, _, example in rows)
    return f"| error | requests | where | an example |\n| --- | ---: | --- | --- |\n{body}"


def _method(meta: dict) -> str:
    return _list("**How it was measured:**", [f"{name}: {value}" for name, value in about.method(meta)])
