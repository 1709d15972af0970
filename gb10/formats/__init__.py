"""Number formats, one class each, all with the same few methods: `quantize`, `dequantize`, `bits_per_weight`."""

from gb10.formats.nvfp4 import NVFP4

__all__ = ["NVFP4"]
