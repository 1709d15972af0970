"""Checkers of lesson 02, NVFP4 math: one module per notebook, and all of them under one name.

    from gb10.check import lesson02 as check
    check.encode(encode)

Names are resolved when first used: notebook 1 needs no torch for its checkers.
"""

from importlib import import_module

_HOME = {
    **dict.fromkeys(("decode", "magnitudes", "encode"), "sixteen"),
    **dict.fromkeys(("block_scale", "quantize_block", "pack", "unpack", "dequantize", "scale_offset", "checkpoint_bytes"),
                    "blocks"),
    **dict.fromkeys(("snr_db", "relative_error", "combined_db", "better_scale", "through_rotation"), "quality"),
}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"lesson 02 has no checker {name!r}; it has: {', '.join(sorted(_HOME))}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted(_HOME)
