"""What does the running engine do with each field of a request: honour it, ignore it, or reject it?

    from gb10.engines import fields
    live = fields.table(url, model)                  # asks the engine; each row is an experiment
    told = fields.expected("vLLM")                   # what the engine's documents say, each row with its source
    fields.compare(live, told)                       # the rows where behaviour and documents differ

Names are resolved when first used.
"""

from importlib import import_module

_HOME = {
    **dict.fromkeys(("table", "Table", "EXPERIMENTS", "names"), "asking"),
    **dict.fromkeys(("Row", "HONOURED", "IGNORED", "REJECTED", "UNKNOWN"), "rows"),
    **dict.fromkeys(("expected", "compare", "Documented", "Difference", "Differences", "Documents", "engine_key"), "documents"),
}
__all__ = [
    "EXPERIMENTS",
    "HONOURED",
    "IGNORED",
    "REJECTED",
    "UNKNOWN",
    "Difference",
    "Differences",
    "Documented",
    "Documents",
    "Row",
    "Table",
    "compare",
    "engine_key",
    "expected",
    "names",
    "table",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"gb10.engines.fields has no {name!r}; it has: {', '.join(__all__)}")
    return getattr(import_module(f"gb10.engines.fields.{_HOME[name]}"), name)


def __dir__():
    return __all__
