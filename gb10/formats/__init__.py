"""Number formats, one class each, all with the same few methods: `quantize`, `dequantize`, `bits_per_weight`."""

from gb10.formats.fp8 import FP8
from gb10.formats.integer import INT4, INT8, NVINT4
from gb10.formats.mx import MXFP4, MXFP8
from gb10.formats.nvfp4 import NVFP4

FORMATS = {"NVFP4": NVFP4, "MXFP4": MXFP4, "MXFP8": MXFP8, "FP8": FP8, "INT4": INT4, "INT8": INT8, "NVINT4": NVINT4}

__all__ = ["FORMATS", "FP8", "INT4", "INT8", "MXFP4", "MXFP8", "NVFP4", "NVINT4"]
