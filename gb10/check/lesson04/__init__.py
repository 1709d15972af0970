"""Checkers of lesson 04, serving: one module per notebook, and all of them under one name.

    from gb10.check import lesson04 as check
    check.read_stream(read_stream)

Names are resolved when first used.
"""

from importlib import import_module

_HOME = {
    # name of a checker: the module that has it
    "read_stream": "serving", "users_that_fit": "serving", "request_for": "requesting",
    "choose": "choosing", "people": "choosing", "cached_share": "choosing",
    "percentile": "measuring", "tpot": "measuring", "limit": "measuring",
}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"lesson 04 has no checker {name!r}; it has: {', '.join(sorted(_HOME))}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted(_HOME)
