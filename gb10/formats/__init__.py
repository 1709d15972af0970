"""Number formats, one class each, all with the same few methods: `quantize`, `dequantize`, `bits_per_weight`.

Names are resolved when first used, so that what works on bytes alone (`gb10.formats.kernels`) doesn't wait for torch.
"""

from importlib import import_module

_HOME = {"NVFP4": "nvfp4", "MXFP4": "mx", "MXFP8": "mx", "FP8": "fp8", "INT4": "integer", "INT8": "integer",
         "NVINT4": "integer"}

__all__ = ["FORMATS", "FP8", "INT4", "INT8", "MXFP4", "MXFP8", "NVFP4", "NVINT4"]


def __getattr__(name: str):
    if name == "FORMATS":
        found = {name: __getattr__(name) for name in _HOME}
    elif name in _HOME:
        found = getattr(import_module(f"gb10.formats.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'gb10.formats' has no attribute {name!r}; it has: {', '.join(__all__)}")
    globals()[name] = found
    return found


def __dir__():
    return sorted(__all__)
