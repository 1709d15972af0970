"""The field table with the reader's predictions beside it, and the request that decided each row."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from gb10.engines.fields import UNKNOWN
from gb10.engines.fields.asking import SIGN, html


class Predicted:
    """A Table (gb10.engines.fields) and guesses, field -> outcome. Shows itself as a table in a notebook and as lines elsewhere."""

    def __init__(self, table, guesses: Mapping[str, str]):
        self.table, self.guesses = table, {field: str(guess) for field, guess in guesses.items()}

    def verdict(self, row) -> str:
        """"hit", "miss", "open" (the engine couldn't tell) or "" (no guess)."""
        if row.field not in self.guesses:
            return ""
        return "open" if row.outcome == UNKNOWN else "hit" if self.guesses[row.field] == row.outcome else "miss"

    def summary(self) -> str:
        told = [self.verdict(row) for row in self.table]
        hits, misses = told.count("hit"), told.count("miss")
        return f"{hits} {'hit' if hits == 1 else 'hits'}, {misses} {'miss' if misses == 1 else 'misses'}" + (f", {told.count('open')} undecided" if "open" in told else "")

    def __repr__(self) -> str:
        return "\n".join([f"{self.summary()}; {self.table.summary()}",
                          *(f"{self.verdict(r):<6}you said {self.guesses.get(r.field, 'nothing'):<11}{r}" for r in self.table)])

    def _repr_html_(self) -> str:
        def request(row) -> str:
            style = "white-space:pre-wrap;color:inherit;background:transparent"
            return f'<details><summary>its request</summary><pre style="{style}">{escape(row.curl(self.table.url))}</pre></details>'

        rows = ([f"<code>{escape(r.field)}</code>", escape(self.guesses.get(r.field, "–")), f"{SIGN[r.outcome]} {escape(r.outcome)}",
                 escape(self.verdict(r)), escape(r.evidence) + request(r)] for r in self.table)
        caption = f"{self.table.engine or 'The engine'}, model {self.table.model}: {self.summary()}; {self.table.summary()}"
        return html(caption, ("field", "you said", "outcome", "", "what was seen"), rows)
