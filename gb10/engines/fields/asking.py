"""The table: every experiment, one after the other, on the engine that runs."""

from __future__ import annotations

from dataclasses import replace
from html import escape

from gb10.engines.fields import decoding, extent, shape, wire
from gb10.engines.fields.lab import Lab
from gb10.engines.fields.rows import HONOURED, IGNORED, REJECTED, UNKNOWN, Rejected, Row, Undecided
from gb10.engines.fields.shape import STRANGER
from gb10.errors import UserError, WorkFailed
from gb10.progress import Progress

# In the order in which they are made: later ones rest on earlier ones.
EXPERIMENTS = extent.FIRST + decoding.ROWS + extent.THEN + shape.ROWS
SIGN = {HONOURED: "●", IGNORED: "○", REJECTED: "✕", UNKNOWN: "?"}


def names() -> list[str]:
    """All fields that there are experiments for."""
    return [name for name, _, _ in EXPERIMENTS]


class Table(list):
    """Rows, and whom they are about. Shows itself as a table in a notebook and as lines elsewhere."""

    def __init__(self, rows=(), *, url: str = "", model: str = "", engine: str = ""):
        super().__init__(rows)
        self.url, self.model, self.engine = url, model, engine

    def __getitem__(self, key):
        """By number, or by the name of a field."""
        if isinstance(key, str):
            found = next((row for row in self if row.field == key), None)
            if found is None:
                raise KeyError(key)
            return found
        return super().__getitem__(key)

    def count(self, outcome: str) -> int:
        return sum(row.outcome == outcome for row in self)

    def summary(self) -> str:
        return ", ".join(f"{self.count(o)} {o}" for o in (HONOURED, IGNORED, REJECTED, UNKNOWN) if self.count(o))

    def __repr__(self) -> str:
        return "\n".join([f"{self.engine or 'engine'} at {self.url}: {self.summary()}", *map(str, self)])

    def _repr_html_(self) -> str:
        rows = ([f"<code>{escape(r.field)}</code>", escape(r.sent), f"{SIGN[r.outcome]} {escape(r.outcome)}", escape(r.evidence),
                 str(r.status or "–")] for r in self)
        caption = f"{self.engine or 'The engine'} at {self.url}, model {self.model}: {self.summary()}"
        return html(caption, ("field", "sent", "outcome", "what was seen", "HTTP"), rows)


def html(caption: str, head, rows) -> str:
    """A table in the theme's own colours; cells are HTML already."""
    cell = "padding:3px 10px 3px 0;text-align:left;vertical-align:top;border-bottom:1px solid rgba(128,128,128,.35)"
    top = "".join(f'<th scope="col" style="{cell}">{escape(h)}</th>' for h in head)
    body = "".join("<tr>" + "".join(f'<td style="{cell}">{c}</td>' for c in row) + "</tr>" for row in rows)
    return (f'<table style="border-collapse:collapse;color:var(--jp-ui-font-color1, inherit);background:transparent">'
            f'<caption style="text-align:left;padding-bottom:4px">{escape(caption)}</caption>'
            f'<thead><tr style="background:transparent">{top}</tr></thead><tbody>{body}</tbody></table>')


def table(url: str, model: str, *, engine: str = "", only=None, timeout: float = 120.0, quiet: bool = False) -> Table:
    """Ask the engine at `url` (OpenAI base URL, ends in /v1) about each field.

    engine: what to call it. only: names of fields, to ask about no more than these (and what they rest on).
    timeout: seconds for one answer; one that takes longer is a row that can't tell.
    About 70 requests of 2 to 48 tokens each, one at a time. GB10_API_KEY is sent if it is set.
    Raises UserError (no such field) or WorkFailed (nobody answers, the key is refused, the engine died).
    """
    if only is not None and (strange := set(only) - set(names())):
        raise UserError(f"there is no experiment for {', '.join(sorted(strange))}; there are: {', '.join(names())}.")
    lab, found = Lab(url.rstrip("/"), model, timeout), Table(url=url, model=model, engine=engine)
    wanted = [e for e in EXPERIMENTS if only is None or e[0] in only or e[0] in _BASIS]
    progress = Progress("request fields", quiet=quiet, every=3.0)
    name = "nothing yet"
    try:
        lab.prepare()
        for number, (name, sent, experiment) in enumerate(wanted, 1):
            progress.update(f"{number} of {len(wanted)}, {name}")
            before = len(lab.sent)
            try:
                row = Row(name, sent, *experiment(lab))
            except Rejected as e:
                row = Row(name, sent, REJECTED, f"refused: {e.message or 'without a word'}", e.status)
            except Undecided as e:
                row = Row(name, sent, UNKNOWN, e.why, e.status)
            row = replace(row, request=_deciding(name, lab.sent[before:]))
            lab.outcomes[name] = row.outcome
            if only is None or name in only:
                found.append(row)
    except wire.Silent as e:
        raise WorkFailed(_gone(url, name, found, len(wanted), e)) from None
    finally:
        progress.clear()
    return found


def _deciding(name: str, sent: list[dict]) -> dict | None:
    """Of the bodies of one experiment, the last that has its field: what came back for that one settled it."""
    key = STRANGER if name == "(unknown field)" else name.split()[0].split(".")[0]
    return next((body for body in reversed(sent) if key in body), sent[-1] if sent else None)


_BASIS = ("max_tokens", "max_completion_tokens", "stream", "temperature", "logprobs")   # what other experiments rest on


def _gone(url: str, name: str, found: Table, wanted: int, e: wire.Silent) -> str:
    if name == "nothing yet":
        return f"nothing answers at {url} ({e}): start an engine with ./course up, or look at ./course status."
    return (f"the engine at {url} stopped answering at {name} ({e}), after {len(found)} of {wanted} rows: its log says why "
            f"(./course logs), ./course up starts it again.")
