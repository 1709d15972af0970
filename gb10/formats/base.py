"""What the formats have in common: elements in bytes, scales beside them, one scale for each block of the last axis."""

from __future__ import annotations

import torch

from gb10.formats.elements import unpack_nibbles


class BlockFormat:
    """A quantized tensor. Each subclass is one format and says how `quantize` fills these fields.

    packed  uint8: [..., K/2] for elements of 4 bits (the even one in the low nibble), [..., K] for those of 8
    scales  multipliers; one for each block along the last axis
    block   elements that share a scale; None where the scale spans more than a stretch of the last axis
    bits_per_weight  bits that a checkpoint spends on one weight, block scales included
    """

    name: str
    block: int | None
    bits_per_weight: float
    element_bits = 4

    def __init__(self, packed: torch.Tensor, scales: torch.Tensor):
        self.packed, self.scales = packed, scales

    @property
    def shape(self) -> torch.Size:
        """The shape of the tensor that was quantized."""
        last = self.packed.shape[-1] * 8 // self.element_bits
        return torch.Size((*self.packed.shape[:-1], last))

    def codes(self) -> torch.Tensor:
        """The elements' codes, uint8 [..., K]: each 0..15, or the whole byte for elements of 8 bits."""
        return unpack_nibbles(self.packed) if self.element_bits == 4 else self.packed

    @property
    def nbytes(self) -> int:
        """Bytes in a checkpoint: elements and scales."""
        return self.packed.numel() + self.scales.numel() * self.scales.element_size()

    def __repr__(self) -> str:
        return f"{self.name}(shape={tuple(self.shape)}, block={self.block}, nbytes={self.nbytes})"


def blocks_of(x: torch.Tensor, block: int) -> torch.Tensor:
    """x [..., K] as FP32 blocks [..., K/block, block]."""
    return x.detach().float().unflatten(-1, (-1, block))


def magnitude_of(blocks: torch.Tensor) -> torch.Tensor:
    """Largest magnitude along the last axis; NaN where there is one. No copy of the blocks is made."""
    low, high = torch.aminmax(blocks, dim=-1)
    return torch.maximum(low.neg_(), high)
