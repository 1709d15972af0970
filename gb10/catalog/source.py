"""Where a number comes from. Every row of the catalogue carries one of these, and a row without is refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"
_DAY = re.compile(r"20\d\d-\d\d-\d\d\Z")


class Unsourced(ValueError):
    """A number of the catalogue whose source is missing or incomplete."""


@dataclass(frozen=True)
class Source:
    key: str            # its name in data/sources.json
    url: str            # a public address; for what was computed here, the file of this repository that says how
    what: str           # title and place, short
    accessed: str       # the day on which the figure was taken into the catalogue, YYYY-MM-DD
    quoted: str = ""    # by whom, where the page itself was not seen but quoted by somebody else

    def __str__(self) -> str:
        return f"{self.what} ({self.url}, {self.accessed}{'; quoted by ' + self.quoted if self.quoted else ''})"


def check(source: Source) -> Source:
    """The source itself if it is complete, else Unsourced."""
    if not re.match(r"https?://[\w.-]+\.\w+(/|\Z)", source.url) and not (DATA.parents[2] / source.url).is_file():
        raise Unsourced(f"source '{source.key}': '{source.url}' is neither a web address nor a file of the course")
    if len(source.what.strip()) < 8:
        raise Unsourced(f"source '{source.key}' doesn't say what it is")
    if not _DAY.match(source.accessed):
        raise Unsourced(f"source '{source.key}': accessed '{source.accessed}' is not a day (YYYY-MM-DD)")
    return source


def read_json(name: str):
    """One data file of the catalogue."""
    return json.loads((DATA / name).read_text(encoding="utf-8"))


@cache
def sources() -> dict[str, Source]:
    """All sources by key."""
    return {key: check(Source(key=key, **row)) for key, row in read_json("sources.json").items()}


def source(key: str | None, of: str) -> Source:
    """The source with this key; `of` names the number in the error."""
    if not key:
        raise Unsourced(f"{of} carries no source")
    if key not in sources():
        raise Unsourced(f"{of} names the source '{key}', which data/sources.json doesn't have")
    return sources()[key]
