"""NVFP4: four-bit floats (E2M1) in blocks of 16, an E4M3 scale per block, one FP32 scale per tensor.

A value is stored as  e2m1 * block_scale * tensor_scale.  The arithmetic below is that of ModelOpt's export
(`modelopt/torch/quantization/qtensor/nvfp4_tensor.py`, 0.47.0), operation by operation in FP32, because the order
of the roundings decides bits:

    g    = amax(tensor) / (6 * 448)          tensor scale; 6 and 448 are the largest E2M1 and E4M3 values
    r    = amax(block) / (6 * g)             what the block scale should be
    s    = e4m3(clip(r, 2^-9, 448))          block scale; r = 0 becomes 1
    y    = x / (s * g)                       what is rounded to the grid 0 .5 1 1.5 2 3 4 6, ties to the even code

Where ModelOpt has no defined answer this module decides: a tensor whose amax is zero (or so small that g underflows)
is stored with g = 1 and decodes to zeros; a NaN or an infinity is refused.
"""

from __future__ import annotations

import torch

from gb10.formats.elements import (
    E2M1_MAX,
    E4M3_MAX,
    E4M3_MIN,
    decode_e2m1,
    encode_e2m1,
    pack_nibbles,
    round_to_grid,
    unpack_nibbles,
)

BLOCK = 16


def tensor_scale_of(amax: torch.Tensor) -> torch.Tensor:
    """FP32 scalar g = amax / 2688; 1 where that is zero, so that an all-zero tensor decodes to zeros."""
    g = amax.float().amax() / (E2M1_MAX * E4M3_MAX)
    return torch.where(g == 0, torch.ones_like(g), g)


class NVFP4:
    """A tensor in NVFP4.

    packed        uint8 [..., K/2]; the even element of a pair is in the low nibble
    scales        float8_e4m3fn [..., K/16]
    tensor_scale  float32, shape (); a multiplier
    """

    block = BLOCK
    bits_per_weight = 4 + 8 / BLOCK                # 4.5; the 32 bits per tensor are left out

    def __init__(self, packed: torch.Tensor, scales: torch.Tensor, tensor_scale: torch.Tensor):
        self.packed, self.scales, self.tensor_scale = packed, scales, tensor_scale

    @property
    def shape(self) -> torch.Size:
        return torch.Size((*self.packed.shape[:-1], self.packed.shape[-1] * 2))

    def __repr__(self) -> str:
        return f"NVFP4(shape={tuple(self.shape)}, tensor_scale={self.tensor_scale.item():.6g})"

    @classmethod
    def quantize(cls, x: torch.Tensor, *, amax: torch.Tensor | None = None) -> NVFP4:
        """Quantize x [..., K], K % 16 == 0, any float dtype.

        amax: largest magnitude to assume for the tensor (a calibrated one, or one shared by fused layers); without
        it, that of x. Raises ValueError for a wrong shape or dtype and for NaN or infinity.
        """
        _check(x)
        blocks, s, g = _scaled(x, amax)
        if not torch.isfinite(blocks).all():
            raise ValueError("NVFP4.quantize: the tensor holds NaN or infinity, which have no code in E2M1")
        return cls(pack_nibbles(encode_e2m1(blocks).flatten(-2)), s, g)

    def codes(self) -> torch.Tensor:
        """The E2M1 codes, uint8 [..., K], each 0..15."""
        return unpack_nibbles(self.packed)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """[..., K] in `dtype`: e2m1 * (block scale * tensor scale), multiplied in FP32, rounded once at the end.

        Code 8, the format's minus zero, decodes to plus zero, as in ModelOpt.
        """
        values = decode_e2m1(self.codes()).unflatten(-1, (-1, BLOCK))
        return (values * (self.scales.float() * self.tensor_scale)[..., None]).reshape(self.shape).to(dtype)

    @property
    def nbytes(self) -> int:
        """Bytes in a checkpoint: codes, block scales and the tensor scale."""
        return self.packed.numel() + self.scales.numel() + 4


def round_trip(x: torch.Tensor, amax: torch.Tensor | None = None) -> torch.Tensor:
    """`NVFP4.quantize(x, amax=amax).dequantize(x.dtype)` without packing in between; NaN stays NaN."""
    _check(x)
    y, s, g = _scaled(x, amax)
    value, _ = round_to_grid(y.abs())
    # adding 0.0 turns -0.0 into 0.0, as the decoding table does
    value.copysign_(y).add_(0.0).mul_((s.float() * g)[..., None])
    return value.reshape(x.shape).to(x.dtype)


def _check(x: torch.Tensor) -> None:
    if not x.is_floating_point() or x.dtype.itemsize < 2:
        raise ValueError(f"NVFP4.quantize takes a float32, bfloat16 or float16 tensor, not {x.dtype}")
    if x.ndim == 0 or x.shape[-1] % BLOCK:
        raise ValueError(f"NVFP4 works on blocks of {BLOCK} along the last axis; {tuple(x.shape)} does not divide "
                         f"into them: pad it or leave it unquantized")


def _scaled(x: torch.Tensor, amax: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(y [..., K/16, 16] float32, s [..., K/16] float8_e4m3fn, g float32 scalar) of the module's docstring."""
    blocks = x.float().unflatten(-1, (-1, BLOCK))
    magnitude = blocks.abs().amax(-1) if x.numel() else blocks.new_zeros(blocks.shape[:-1])
    if amax is None:
        amax = magnitude.amax() if magnitude.numel() else magnitude.new_zeros(())
    g = tensor_scale_of(amax.to(x.device))
    r = magnitude / (E2M1_MAX * g)
    r = torch.where(r == 0, torch.ones_like(r), r)
    s = r.clamp(E4M3_MIN, E4M3_MAX).to(torch.float8_e4m3fn)
    return blocks / (s.float() * g)[..., None], s, g
