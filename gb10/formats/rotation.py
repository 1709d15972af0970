"""Rotation before quantization: a Hadamard transform along the last axis, which spreads an outlier over its block.

Orthonormal, so that lengths and dot products stay: rotating weights and activations alike leaves a layer's result as
it was. Used with MXFP4 and INT4 (QuaRot, arXiv 2404.00456), in NVFP4 training on 16 points (arXiv 2509.25149).
"""

from __future__ import annotations

import torch

SIZE = 16                                          # NVFP4's block


def hadamard(x: torch.Tensor, size: int = SIZE, signs: torch.Tensor | None = None) -> torch.Tensor:
    """Each `size` neighbours along the last axis of x [..., K], times signs, times the Hadamard matrix; FP32.

    size: a power of two that divides K. signs: +1 and -1, [size] (see random_signs); without them outliers that
    alternate in step with a row of the matrix would be gathered instead of spread.
    """
    blocks = _blocks(x, size)
    if signs is not None:
        blocks = blocks * _signs(signs, blocks)
    return (blocks @ matrix(size, x.device)).flatten(-2)


def inverse_hadamard(y: torch.Tensor, size: int = SIZE, signs: torch.Tensor | None = None) -> torch.Tensor:
    """The inverse of hadamard with the same size and signs; FP32, exact but for rounding."""
    blocks = _blocks(y, size) @ matrix(size, y.device)         # the matrix is symmetric: it is its own inverse
    if signs is not None:
        blocks = blocks * _signs(signs, blocks)
    return blocks.flatten(-2)


def matrix(size: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """The orthonormal Hadamard matrix of a power of two, FP32 [size, size], in Sylvester's order: entries +-size^-1/2."""
    h = torch.ones(1, 1, dtype=torch.float64, device="cpu")
    while h.shape[0] < size:
        h = torch.cat((torch.cat((h, h), 1), torch.cat((h, -h), 1)))
    return (h / size ** 0.5).float().to(device)


def random_signs(size: int = SIZE, seed: int = 0) -> torch.Tensor:
    """`size` seeded random signs, FP32 [size], +1 or -1."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randint(0, 2, (size,), generator=generator, device="cpu").mul(2).sub(1).float()


def _blocks(x: torch.Tensor, size: int) -> torch.Tensor:
    if size < 1 or size & (size - 1):
        raise ValueError(f"hadamard: size is a power of two, not {size}")
    if x.ndim == 0 or x.shape[-1] % size:
        raise ValueError(f"hadamard works on blocks of {size} along the last axis; {tuple(x.shape)} does not divide "
                         f"into them")
    return x.float().unflatten(-1, (-1, size))


def _signs(signs: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    if signs.shape != blocks.shape[-1:]:
        raise ValueError(f"hadamard: signs is one sign for each of the {blocks.shape[-1]} elements, not a tensor of "
                         f"shape {tuple(signs.shape)}")
    return signs.to(blocks)
