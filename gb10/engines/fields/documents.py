"""What the engines' documents say of each field, and where the running engine does something else."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path

from gb10.endpoints import STANDIN
from gb10.engines.fields.rows import HONOURED, UNKNOWN

FILE = Path(__file__).with_name("documents.toml")
DEPENDS = "depends"


@dataclass(frozen=True)
class Documented:
    """What a document says of one field. outcome: honoured, ignored, rejected or "depends"."""

    field: str
    outcome: str
    note: str
    source: str


@dataclass(frozen=True)
class Difference:
    """A field with which the running engine does not do what its documents say."""

    field: str
    documents: str
    behaviour: str
    evidence: str
    source: str

    def __str__(self) -> str:
        return f"{self.field}: documents {self.documents}, behaviour {self.behaviour}: {self.evidence} ({self.source})"


class Documents(dict):
    """field -> Documented. Empty for an engine on which the course has read nothing."""

    def __init__(self, rows=(), *, key: str | None = None, title: str = ""):
        super().__init__(rows)
        self.key, self.title = key, title

    def __repr__(self) -> str:
        return "\n".join([f"{self.title or 'no engine that the course has read about'}: {len(self)} fields documented",
                          *(f"{d.field:<30}{d.outcome:<12}{d.note}" for d in self.values())])

    def _repr_html_(self) -> str:
        from gb10.engines.fields.asking import html

        return html(f"What is written about {self.title}", ("field", "outcome", "note", "source"),
                    ([f"<code>{escape(d.field)}</code>", escape(d.outcome), escape(d.note), link(d.source)] for d in self.values()))


class Differences(list):
    """The rows that differ. compared: how many could be compared; left_out: field -> why it could not."""

    def __init__(self, rows=(), *, title: str = "", compared: int = 0, left_out: dict[str, str] | None = None):
        super().__init__(rows)
        self.title, self.compared, self.left_out = title, compared, left_out or {}

    def summary(self) -> str:
        if not self.compared:
            return "nothing to compare: the course has read no documents about this engine"
        return f"{self.compared} fields compared with what is written about {self.title}: {len(self) or 'none'} differ"

    def __repr__(self) -> str:
        return "\n".join([self.summary(), *map(str, self), *(f"not compared: {f} ({why})" for f, why in self.left_out.items())])

    def _repr_html_(self) -> str:
        from gb10.engines.fields.asking import html

        return html(self.summary(), ("field", "documents", "behaviour", "what was seen", "source"),
                    [[f"<code>{escape(d.field)}</code>", escape(d.documents), escape(d.behaviour), escape(d.evidence), link(d.source)]
                     for d in self]
                    + [[f"<code>{escape(f)}</code>", "–", "–", escape(f"not compared: {why}"), ""] for f, why in self.left_out.items()])


def link(source: str) -> str:
    if not source.startswith("https://"):
        return f"<code>{escape(source)}</code>"
    return f'<a href="{escape(source, quote=True)}">{escape(source.split("/")[2])}</a>'


@functools.cache
def _read() -> dict:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def engine_key(engine: str) -> str | None:
    """"vLLM on the CPU" -> "vllm"; None for an engine that the data file does not know."""
    if engine == STANDIN or "stand-in" in engine.lower() or engine == "standin":
        return "standin"              # its title names vLLM, too
    plain = "".join(c for c in engine.lower() if c.isalnum())
    for key in _read():
        if key in plain or (key == "trtllm" and "tensorrtllm" in plain):
            return key
    return None


def expected(engine: str) -> Documents:
    """What is documented for an engine, by its name or title ("vLLM", "vLLM on the CPU", "trtllm", "Ollama", …)."""
    key = engine_key(engine)
    if key is None:
        return Documents()
    block = _read()[key]
    rows = [Documented(f, row["outcome"], row["note"], row["source"]) for row in block["rows"] for f in row["fields"]]
    return Documents({d.field: d for d in rows}, key=key, title=block["title"])


def compare(table, documents: Documents) -> Differences:
    """The rows of a table (fields.table) in which the engine does not do what its documents say."""
    out = Differences(title=documents.title)
    for row in table:
        told = documents.get(row.field)
        if told is None:
            out.left_out[row.field] = "the documents don't mention it"
        elif told.outcome == DEPENDS:
            out.left_out[row.field] = f"the documents say that it depends: {told.note}; here it is {row.outcome}"
        elif row.outcome == UNKNOWN:
            out.left_out[row.field] = f"documents {told.outcome}, and the engine can't tell: {row.evidence}"
        else:
            out.compared += 1
            if row.outcome != told.outcome:
                out.append(Difference(row.field, told.outcome, row.outcome, row.evidence, told.source))
    return out


def accepted(engine: str) -> frozenset[str] | None:
    """Fields that an engine's documents say it honours, or may honour; None for an engine nobody has read about."""
    documents = expected(engine)
    if not documents:
        return None
    return frozenset(f.split()[0].split(".")[0] for f, d in documents.items() if d.outcome in (HONOURED, DEPENDS))
