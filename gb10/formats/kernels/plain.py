"""NVFP4 on plain bytes: the compiled loops without torch, one stretch of memory after another.

For whoever takes weights from a file in pieces that fit into the processor's cache. The bits are those of
`gb10.formats.NVFP4.quantize(x, amax=…)`; both are held against each other in tests/formats.
"""

from __future__ import annotations

import functools

import numpy as np

from gb10.formats.kernels import load

BLOCK = 16
# safetensors' name -> (bytes of an element, its number in loops.py, pattern of infinity)
KINDS = {"F32": (4, 0, 0x7F800000), "BF16": (2, 1, 0x7F80), "F16": (2, 2, 0x7C00)}
BOUNDS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)   # between E2M1's values (elements.py)
_LAST = 2.0 ** -150                                # what is above rounds to an FP32 number, this and below to zero


def available() -> bool:
    """Whether this machine has the compiled loops; without them `Plain` can't be made."""
    return load.loops() is not None


def tensor_scale(amax: float) -> np.float32:
    """g = amax / 2688 in FP32; 1 where that is zero (as `nvfp4.tensor_scale_of`)."""
    g = np.float32(amax) / np.float32(6 * 448)
    return g if g > 0 else np.float32(1)


@functools.cache
def _e4m3() -> np.ndarray:
    """The 127 finite E4M3 values of sign 0, FP32, by byte."""
    byte = np.arange(127)
    exponent, mantissa = byte >> 3, byte & 7
    return np.where(exponent == 0, mantissa / 8 * 2.0 ** -6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0)).astype(np.float32)


class Plain:
    """Room for stretches of up to `blocks` blocks of `kind` elements, and what is done with them.

    One thread uses one of these at a time. Addresses are those of elements that lie side by side, each at a multiple of
    its size.
    """

    def __init__(self, kind: str, blocks: int):
        self.itemsize, self.number, self.infinity = KINDS[kind]
        loops, bits = load.loops(), 8 * self.itemsize
        self._amax, self._encode, self._tables = (loops[f"{n}_{bits}"] for n in ("block_amax", "encode", "tables"))
        self._block_scales = loops["block_scales"]
        self.kind, self.pattern = kind, {2: np.uint16, 4: np.uint32}[self.itemsize]
        self.magnitudes = np.empty(blocks, np.float32)
        self.packed = np.empty(blocks * BLOCK // 2, np.uint8)

    def largest(self, at: int, blocks: int, magnitudes: int | None = None) -> int:
        """The largest magnitude pattern of so many blocks at the address `at`; one of at least `infinity` is not finite.

        magnitudes: the address at which the largest magnitude of each block, FP32, is to be left.
        """
        return self._amax(at, self.number, magnitudes or self.magnitudes.ctypes.data, blocks)

    def value(self, pattern: int) -> float:
        """The number that a magnitude pattern stands for."""
        if self.kind == "BF16":
            return float(np.uint32(pattern << 16).view(np.float32))
        return float(self.pattern(pattern).view({2: np.float16, 4: np.float32}[self.itemsize]))

    def set_scale(self, g: np.float32) -> None:
        """The tensor scale of what `encode` is called for from now on."""
        c = _e4m3() * g
        bounds = np.array((*BOUNDS, _LAST), np.float64)
        self.d6 = np.array([np.float32(6) * g], np.float32)
        self.thresholds = np.empty((127, 8), self.pattern)
        self._tables(c.ctypes.data, bounds.ctypes.data, self.number, self.infinity, self.thresholds.ctypes.data, 127)

    def encode(self, at: int, blocks: int, scales: int, magnitudes: int | None = None) -> memoryview:
        """Codes of so many blocks at the address `at`: a view that the next call writes over. Their block scales go to the
        address `scales`. magnitudes: where `largest` left those of these blocks; without it they are found anew.
        """
        if magnitudes is None:
            magnitudes = self.magnitudes.ctypes.data
            self._amax(at, self.number, magnitudes, blocks)
        self._block_scales(magnitudes, self.d6.ctypes.data, scales, blocks)
        self._encode(at, scales, self.thresholds.ctypes.data, self.packed.ctypes.data, blocks)
        return self.packed[:blocks * BLOCK // 2].data
