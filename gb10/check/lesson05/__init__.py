"""Checkers of lesson 05, sampling and prompting: one module per notebook, and all of them under one name.

    from gb10.check import lesson05 as check
    check.keep_top_p(keep_top_p, engine)

Names are resolved when first used.
"""

from importlib import import_module

_HOME = {
    # name of a checker: the module that has it
    "with_temperature": "one_token", "keep_top_k": "one_token", "keep_top_p": "one_token", "keep_min_p": "one_token", "penalized": "one_token",
    "distinct_share": "many_tokens", "settings_for": "many_tokens", "majority": "many_tokens",
    "few_shot": "prompting", "verdict_on_schema": "prompting", "prefill_of": "prompting",
}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"lesson 05 has no checker {name!r}; it has: {', '.join(sorted(_HOME))}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted(_HOME)
