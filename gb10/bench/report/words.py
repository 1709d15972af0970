"""Numbers and names as the reports print them."""

from __future__ import annotations

import math
import unicodedata
from datetime import datetime

from gb10.bench.figures import P99_NEEDS, Figures
from gb10.bench.spread import Spread

NOTHING = "–"                    # a figure that isn't there
GIB = 2**30
# categories of Unicode: control characters, turned writing, halves of characters
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def plain(value, most: int = 300) -> str:
    """Text from outside in one line: without control characters, and not endless; "" for None.

    A terminal obeys control characters, a browser turns the writing round for others, and a half of a
    character can't be written to a file.
    """
    if value is None:
        return ""
    text = "".join(" " if unicodedata.category(c) in _HIDDEN else c for c in str(value)[:4 * most])
    text = " ".join(text.split())
    return text if len(text) <= most else text[:most - 1] + "…"


def finite(value) -> float | None:
    """The value if it is a number that can be shown, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:        # a whole number beyond all floats
        return None


def decimals(values) -> int:
    """How many decimals a column needs so that its largest value has about four figures."""
    top = max((abs(v) for v in map(finite, values) if v is not None), default=0)
    return 0 if top >= 10_000 else 1 if top >= 100 else 2 if top >= 1 else 3


def number(value, digits: int | None = None) -> str:
    """"1,234.5"; a dash where there is nothing to show."""
    value = finite(value)
    return NOTHING if value is None else f"{value:,.{decimals([value]) if digits is None else digits}f}"


def about(value) -> str:
    """At least three figures, for a sentence: "84.3", "1,835"."""
    value = finite(value)
    if value is None:
        return NOTHING
    return number(value, 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2)


def counted(n: int, one: str, many: str = "") -> str:
    """"1 request", "20 requests"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def tail(spread: Spread) -> tuple[str, float | None]:
    """("p99", its value), or ("max", the largest) where a p99 would be a guess."""
    return ("p99", spread.percentile(99)) if spread.n >= P99_NEEDS else ("max", spread.high)


def load(group: Figures) -> str:
    """"16 at once" or "2.5 requests/s"."""
    return f"{group.rate:g} requests/s" if group.rate else f"{group.concurrency:,} at once"


def failures(errors: dict[str, int]) -> int:
    """Requests that failed. Those that ended by themselves before the length asked for didn't."""
    return sum(n for kind, n in errors.items() if kind != "short")


def size(n) -> str:
    """Bytes as GiB."""
    n = finite(n)
    return NOTHING if n is None else f"{n / GIB:.1f} GiB"


def when(text) -> str:
    """"27 November 2026, 10:15 UTC" from an ISO time; whatever else it is, as it is."""
    try:
        t = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return plain(text, 40)
    zone = t.strftime("%z")
    zone = "" if not zone else " UTC" if zone == "+0000" else f" UTC{zone[:3]}:{zone[3:5]}"
    return f"{t.day} {_MONTHS[t.month - 1]} {t.year}, {t:%H:%M}{zone}"


_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")


def engines(meta: dict) -> list[str]:
    """How to call each endpoint: its engine, with the model or a number where that isn't enough."""
    rows = meta.get("endpoints") or []
    names = [plain(e.get("engine"), 40) or "server" for e in rows]
    if len(set(names)) < len(names):
        names = [f"{name} ({short(e.get('model'))})" for name, e in zip(names, rows, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{name}, {n}" for n, name in enumerate(names, 1)]
    return names


def short(model) -> str:
    """A model's name without its organisation or folder."""
    text = plain(model, 400).replace("\\", "/").rstrip("/")
    return plain(text.rpartition("/")[2], 80) or "a model without a name"


def name_of(groups: list[Figures], names: list[str], group: Figures) -> str:
    """A group in a sentence: its load, and the engine where there are several."""
    return f"{names[group.endpoint]}, {load(group)}" if len({g.endpoint for g in groups}) > 1 else load(group)
