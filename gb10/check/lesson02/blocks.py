"""Checkers of lesson 02, notebook 2 (A block and its scale): `from gb10.check.lesson02 import blocks as check`."""

from gb10.check.lesson02.packing import dequantize, pack, scale_offset, unpack
from gb10.check.lesson02.scaling import block_scale, quantize_block
from gb10.check.lesson02.sizes import checkpoint_bytes

__all__ = ["block_scale", "checkpoint_bytes", "dequantize", "pack", "quantize_block", "scale_offset", "unpack"]
