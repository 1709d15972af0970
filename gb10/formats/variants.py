"""NVFP4 with other choices of scale or rounding. Each returns an NVFP4 that NVFP4.dequantize decodes as any other.

The layout is fixed: E2M1 codes, an E4M3 scale per 16, one FP32 scale. How the scales are chosen, and how a value
between two codes is rounded, is left to whoever quantizes; that is all that differs below.
"""

from __future__ import annotations

import torch

from gb10.formats.base import blocks_of, magnitude_of
from gb10.formats.checks import check_finite, check_input
from gb10.formats.elements import E2M1_MAX, E4M3_MAX, E4M3_MIN, encode_e2m1, pack_nibbles, round_to_grid
from gb10.formats.nvfp4 import BLOCK, NVFP4
from gb10.formats.rotation import hadamard, inverse_hadamard, random_signs

__all__ = ["MULTIPLIERS", "exact_scales", "four_over_six", "hadamard", "inverse_hadamard", "random_signs", "scale_search",
           "single_level", "stochastic", "tiles", "with_block"]

TILE = 16                       # rows of a 2-D tile: square with BLOCK, so that the transpose has the same scales
MAP_TO_FOUR = 6.0 / 4.0         # a scale this much larger puts the block's maximum on 4 instead of 6
ROOMY_MAX = 256.0               # largest block scale before it is enlarged, instead of 448: 1.5 * 256 = 384 still fits
PART = 1024                     # blocks searched at a time: what is computed on the way then fits in cache
MULTIPLIERS = tuple(round(0.75 + 0.05 * i, 2) for i in range(18))     # 0.75 .. 1.60


def tiles(x: torch.Tensor) -> NVFP4:
    """Scales per 16 x 16 tile instead of per 16: x [..., N, K], N and K multiples of 16.

    For training (arXiv 2509.25149, weights): the transposed matrix, which the backward pass multiplies, has then the
    same scales and the same codes. Each tile's scale is stored 16 times, so that the layout stays the same.
    """
    blocks, amax = _blocks(x, "NVFP4 tiles")
    if x.ndim < 2 or x.shape[-2] % TILE:
        raise ValueError(f"NVFP4 tiles are {TILE} rows by {BLOCK} columns; {tuple(x.shape)} does not divide into them: "
                         f"pad it")
    g = _tensor_scale(amax)
    amax = amax.unflatten(-2, (-1, TILE)).amax(-2).repeat_interleave(TILE, dim=-2)
    return _encode(blocks, _block_scale(amax / (E2M1_MAX * g)), g)


def four_over_six(x: torch.Tensor) -> NVFP4:
    """Per block, the scale that puts the maximum on 6 or the one that puts it on 4, whichever errs less (squared).

    "Four Over Six", arXiv 2512.02010: between 4 and 6 the grid has nothing, so values at 0.7 to 0.9 of the maximum
    err most; with the maximum on 4, they fall on 3. The tensor scale is amax / (6 * 256), since the larger scale must
    fit E4M3 as well: as in ModelOpt's preset nvfp4_four_over_six. A tie keeps 6.
    """
    return scale_search(x, (1.0, MAP_TO_FOUR))


def scale_search(x: torch.Tensor, multipliers: tuple[float, ...] = MULTIPLIERS) -> NVFP4:
    """Per block, amax / 6 times the multiplier that gives the least squared error; of equals the first.

    Below 1 the maximum is clipped and the rest gets a finer grid; above 1 the grid's upper end stays empty. As in
    four_over_six the tensor scale is amax / (6 * 256): it leaves room for multipliers up to 1.75.
    """
    if not multipliers or min(multipliers) <= 0:
        raise ValueError(f"NVFP4 scale search: multipliers are positive numbers, not {multipliers!r}")
    blocks, amax = _blocks(x, "NVFP4 scale search")
    g = _tensor_scale(amax, ROOMY_MAX)
    r = amax / (E2M1_MAX * g)
    parts = zip(blocks.reshape(-1, BLOCK).split(PART), r.reshape(-1).split(PART), strict=True)
    best = torch.cat([_least_error(part, wanted, g, multipliers) for part, wanted in parts])
    return _encode(blocks, best.view(amax.shape).to(torch.float8_e4m3fn), g)


def _least_error(blocks: torch.Tensor, r: torch.Tensor, g: torch.Tensor, multipliers: tuple) -> torch.Tensor:
    """Of the block scales r * multiplier, as E4M3, that of the least squared error; FP32 [blocks]."""
    best, least = None, None
    for multiplier in multipliers:
        s = _block_scale(r * multiplier).float()
        step = (s * g)[:, None]
        y = blocks / step
        value, _ = round_to_grid(y.abs())
        error = value.copysign_(y).mul_(step).sub_(blocks).square_().sum(-1)
        if best is None:
            best, least = s, error
        else:
            best = torch.where(error < least, s, best)
            least = torch.minimum(error, least)
    return best


def stochastic(x: torch.Tensor, generator: torch.Generator | None = None) -> NVFP4:
    """NVFP4's scales, but a value between two codes goes up or down by chance, up the more often the nearer it is.

    The expectation is then the value itself, where rounding to nearest always errs to the same side: what gradients
    need in training (arXiv 2509.25149). A single tensor gets noisier. Values above 6 scales still saturate.
    """
    blocks, amax = _blocks(x, "NVFP4 stochastic rounding")
    g = _tensor_scale(amax)
    s = _block_scale(amax / (E2M1_MAX * g))
    y = blocks / (s.float() * g)[..., None]
    magnitude = y.abs()
    _, step = round_to_grid(magnitude)
    steps = magnitude / step
    below = steps.floor()
    chance = torch.rand(y.shape, generator=generator, dtype=y.dtype, device=y.device)
    value = (below + (chance < steps - below)) * step
    return NVFP4(pack_nibbles(encode_e2m1(value.copysign(y)).flatten(-2)), s, g)


def single_level(x: torch.Tensor) -> NVFP4:
    """NVFP4 without its tensor scale (it is 1): what a small tensor loses to E4M3's range.

    Block scales are amax / 6 in E4M3, kept within 2^-9 .. 448 as ModelOpt keeps them: below amax = 6 * 2^-9 = 0.012
    the grid is too coarse for the block, above amax = 6 * 448 = 2688 it saturates.
    """
    blocks, amax = _blocks(x, "NVFP4 single level")
    return _encode(blocks, _block_scale(_sixth(amax)), amax.new_ones(()))


def exact_scales(x: torch.Tensor, block: int = BLOCK, two_level: bool = False) -> torch.Tensor:
    """x rounded to E2M1 under unrounded FP32 block scales amax / 6, decoded: an FP32 tensor of x's shape.

    Not a format (6 bits a weight at block 16): it tells the error of the sixteen values from that of the scale's
    rounding. With two_level the scales are divided by a tensor scale and multiplied back, as in NVFP4 but for E4M3:
    it cancels.
    """
    blocks, amax = _blocks(x, "exact scales", block)
    scale = _sixth(amax)
    if two_level:
        g = _tensor_scale(amax)
        scale = amax / (E2M1_MAX * g) * g
    return _round_trip(blocks, torch.where(scale == 0, torch.ones_like(scale), scale))


def with_block(x: torch.Tensor, block: int) -> torch.Tensor:
    """NVFP4's arithmetic with another block size, decoded: an FP32 tensor. 32 makes 4.25 bits, 8 makes 5."""
    blocks, amax = _blocks(x, f"NVFP4 with blocks of {block}", block)
    g = _tensor_scale(amax)
    return _round_trip(blocks, _block_scale(amax / (E2M1_MAX * g)).float() * g)


def _blocks(x: torch.Tensor, name: str, block: int = BLOCK) -> tuple[torch.Tensor, torch.Tensor]:
    """(FP32 blocks [..., K/block, block], their largest magnitudes [..., K/block]) of a tensor that was checked."""
    check_input(x, name, block)
    blocks = blocks_of(x, block)
    amax = magnitude_of(blocks)
    check_finite(amax, name, x.shape)
    return blocks, amax


def _sixth(amax: torch.Tensor) -> torch.Tensor:
    """amax / 6. By a tensor, not by a number: CUDA multiplies by the rounded inverse of a number."""
    return amax / amax.new_tensor(E2M1_MAX)


def _tensor_scale(amax: torch.Tensor, top: float = E4M3_MAX) -> torch.Tensor:
    """amax / (6 * top), 1 for an all-zero tensor: the largest block's scale is `top`."""
    g = amax.amax() / amax.new_tensor(E2M1_MAX * top)
    return torch.where(g == 0, torch.ones_like(g), g)


def _block_scale(r: torch.Tensor) -> torch.Tensor:
    """The block scale wanted, r, as E4M3: within 2^-9 .. 448, and 1 for a block of zeros, as ModelOpt has it."""
    r = torch.where(r == 0, torch.ones_like(r), r)
    return r.clamp(E4M3_MIN, E4M3_MAX).to(torch.float8_e4m3fn)


def _encode(blocks: torch.Tensor, s: torch.Tensor, g: torch.Tensor) -> NVFP4:
    return NVFP4(pack_nibbles(encode_e2m1(blocks / (s.float() * g)[..., None]).flatten(-2)), s, g)


def _round_trip(blocks: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    y = blocks / scale[..., None]
    value, _ = round_to_grid(y.abs())
    return value.copysign_(y).mul_(scale[..., None]).flatten(-2)
