"""Checkers of lesson 03, quantizing with ModelOpt: one module per notebook, and all of them under one name.

    from gb10.check import lesson03 as check
    check.decode_block(decode_block)

Names are resolved when first used.
"""

from importlib import import_module

_HOME = {
    **dict.fromkeys(("decode_block", "decode_rate"), "first"),
    **dict.fromkeys(("running_max", "block_fate", "choose_samples"), "calibration"),
    **dict.fromkeys(("checkpoint_bytes", "pareto", "my_recipe"), "recipes"),
    **dict.fromkeys(("same_work", "paired_interval", "manifest_has_arm64"), "audit"),
}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"lesson 03 has no checker {name!r}; it has: {', '.join(sorted(_HOME))}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted(_HOME)
