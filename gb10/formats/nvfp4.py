"""NVFP4: four-bit floats (E2M1) in blocks of 16, an E4M3 scale per block, one FP32 scale per tensor.

A value is stored as  e2m1 * block_scale * tensor_scale.  The arithmetic is that of ModelOpt's export
(`modelopt/torch/quantization/qtensor/nvfp4_tensor.py`, 0.47.0), operation by operation in FP32, because the order
of the roundings decides bits:

    g    = amax(tensor) / (6 * 448)          tensor scale; 6 and 448 are the largest E2M1 and E4M3 values
    r    = amax(block) / (6 * g)             what the block scale should be
    s    = e4m3(clip(r, 2^-9, 448))          block scale; r = 0 becomes 1
    y    = x / (s * g)                       what is rounded to the grid 0 .5 1 1.5 2 3 4 6, ties to the even code

Where ModelOpt has no defined answer this module decides: a tensor whose amax is zero (or so small that g underflows)
is stored with g = 1 and decodes to zeros, where ModelOpt gives NaN; a NaN or an infinity is refused.

This file says it in torch, for any device. A tensor in this machine's memory takes the compiled loops of
`gb10.formats.kernels`: the same bits, many times faster. There subnormal numbers always count, also under
`torch.set_flush_denormal(True)`; torch's own path follows that setting.
"""

from __future__ import annotations

import math

import torch

from gb10.formats.base import BlockFormat
from gb10.formats.checks import check_finite, check_input, check_output
from gb10.formats.elements import (
    E2M1_MAX,
    E4M3_MAX,
    E4M3_MIN,
    decode_e2m1,
    encode_e2m1,
    pack_nibbles,
    round_to_grid,
)
from gb10.formats.kernels import nvfp4 as fast

BLOCK = 16


def tensor_scale_of(amax: torch.Tensor) -> torch.Tensor:
    """FP32 scalar g = amax / 2688; 1 where that is zero, so that an all-zero tensor decodes to zeros.

    Divided by a tensor: CUDA multiplies by the rounded reciprocal of a number, which may end in another last bit.
    """
    amax = amax.float().amax()
    g = amax / amax.new_tensor(E2M1_MAX * E4M3_MAX)
    return torch.where(g == 0, torch.ones_like(g), g)


class NVFP4(BlockFormat):
    """A tensor in NVFP4.

    packed        uint8 [..., K/2]; the even element of a pair is in the low nibble
    scales        float8_e4m3fn [..., K/16]
    tensor_scale  float32, shape (); a multiplier

    `NVFP4(packed, scales, tensor_scale)` takes the parts as a checkpoint holds them; ValueError if they don't fit.
    """

    name = "NVFP4"
    block = BLOCK
    bits_per_weight = 4 + 8 / BLOCK                # 4.5; the 32 bits per tensor are left out

    def __init__(self, packed: torch.Tensor, scales: torch.Tensor, tensor_scale: torch.Tensor | float):
        self.packed, self.scales, self.tensor_scale = packed, scales, _number(tensor_scale)
        self._check_parts()
        self.tensor_scale = self.tensor_scale.detach().to(packed.device, torch.float32).reshape(())

    def _check_parts(self) -> None:
        packed, scales, g = self.packed, self.scales, self.tensor_scale
        if packed.dtype != torch.uint8 or scales.dtype != torch.float8_e4m3fn or not g.is_floating_point():
            raise ValueError(f"NVFP4 is made of uint8 codes, float8_e4m3fn scales and a float32 tensor scale, not of "
                             f"{packed.dtype}, {scales.dtype} and {g.dtype}")
        if packed.ndim == 0 or (*scales.shape[:-1], scales.shape[-1:].numel() * 8) != tuple(packed.shape):
            raise ValueError(f"NVFP4 has one block scale for 8 bytes of codes: packed [..., K/2] and scales [..., K/16], "
                             f"not {tuple(packed.shape)} and {tuple(scales.shape)}")
        if packed.device != scales.device:
            raise ValueError(f"NVFP4 has its codes and scales on one device, not on {packed.device} and {scales.device}")
        if g.numel() != 1:
            raise ValueError(f"NVFP4 has one tensor scale, not one of shape {tuple(g.shape)}")

    def __repr__(self) -> str:
        return f"NVFP4(shape={tuple(self.shape)}, tensor_scale={self.tensor_scale.item():.6g})"

    @classmethod
    def quantize(cls, x: torch.Tensor, *, amax: torch.Tensor | float | None = None) -> NVFP4:
        """Quantize x [..., K], float32, bfloat16 or float16, K a multiple of 16.

        amax: largest magnitude to assume for the tensor (a calibrated one, or one shared by fused layers); without
        it, that of x. What exceeds it saturates. Raises ValueError for a wrong shape or dtype (float64 too: round it
        yourself), for a tensor without values, for NaN or infinity in x, and for an amax that isn't one finite number above zero (zero will do for
        zeros). Gradients stop here.
        """
        check_input(x, cls.name, BLOCK)
        x, given = x.detach(), _given(amax, x)
        if given is not None and not (math.isfinite(given) and given >= 0):
            raise ValueError(f"NVFP4.quantize of a tensor of shape {tuple(x.shape)}: amax is the largest magnitude to "
                             f"assume, a finite number above zero, not {given:g}")
        loops = fast.loops_for(x.dtype, x)
        if loops is None:
            magnitude = _magnitudes(x)
            g = _finite_scale(x, magnitude.amax(), given)
            blocks, s = _scaled(x, magnitude, g)
            return cls(pack_nibbles(encode_e2m1(blocks).flatten(-2)), s, g)
        with fast.subnormals(loops):
            blocks = fast.Blocks(loops, x)
            g = _finite_scale(x, blocks.amax(), given)
            return cls(*blocks.quantize(g), g)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """[..., K] in `dtype`: e2m1 * (block scale * tensor scale), multiplied in FP32, rounded once at the end.

        Code 8, the format's minus zero, decodes to plus zero, as in ModelOpt.
        """
        check_output(dtype, self.name)
        self._check_parts()                      # they may have been replaced; the loops trust them
        loops = fast.loops_for(dtype, self.packed, self.scales, self.tensor_scale)
        if loops is None:
            values = decode_e2m1(self.codes()).unflatten(-1, (-1, BLOCK))
            return (values * (self.scales.float() * self.tensor_scale)[..., None]).reshape(self.shape).to(dtype)
        with fast.subnormals(loops):
            return fast.dequantize(loops, self.packed, self.scales, self.tensor_scale, dtype)

    @property
    def nbytes(self) -> int:
        """Bytes in a checkpoint: codes, block scales and the tensor scale."""
        return super().nbytes + 4


def round_trip(x: torch.Tensor, amax: torch.Tensor | float | None = None) -> torch.Tensor:
    """`NVFP4.quantize(x, amax=amax).dequantize(x.dtype)` without packing in between: a model's weights as they will be.

    It stands within a model's own computation and so refuses no value: NaN stays NaN, and a tensor without values (an
    expert that no token was sent to) comes back as it is.
    """
    if isinstance(x, torch.Tensor) and x.numel() == 0:
        return x.detach().clone()
    check_input(x, NVFP4.name, BLOCK)
    x, given = x.detach(), _given(amax, x)
    loops = fast.loops_for(x.dtype, x)
    if loops is not None and (given is None or math.isfinite(given)):
        with fast.subnormals(loops):
            blocks = fast.Blocks(loops, x)
            if blocks.finite:
                return blocks.round_trip(tensor_scale_of(blocks.amax() if given is None else _number(given)))
    magnitude = _magnitudes(x)
    g = tensor_scale_of(magnitude if given is None else _number(given).to(x.device))
    y, s = _scaled(x, magnitude, g)
    value, _ = round_to_grid(y.abs())
    # adding 0.0 turns -0.0 into 0.0, as the decoding table does
    value.copysign_(y).add_(0.0).mul_((s.float() * g)[..., None])
    return value.reshape(x.shape).to(x.dtype)


def _number(x: torch.Tensor | float) -> torch.Tensor:
    """x as a tensor; a Python number in FP32, whatever torch's default dtype and device are."""
    if isinstance(x, torch.Tensor):
        return x
    return torch.as_tensor(x, dtype=torch.float32 if isinstance(x, float) else None, device="cpu")


def _given(amax: torch.Tensor | float | None, x: torch.Tensor) -> float | None:
    """The caller's amax as an FP32 number."""
    if amax is None:
        return None
    amax = _number(amax)
    if amax.numel() != 1:
        raise ValueError(f"NVFP4 has one amax for the whole tensor of shape {tuple(x.shape)}, not one of shape "
                         f"{tuple(amax.shape)}")
    return amax.detach().float().item()


def _finite_scale(x: torch.Tensor, top: torch.Tensor, given: float | None) -> torch.Tensor:
    """The tensor scale, from the largest magnitude in x or the one that was given; ValueError where there is none."""
    check_finite(top, NVFP4.name, x.shape)
    if given == 0 and top > 0:
        raise ValueError(f"NVFP4.quantize of a tensor of shape {tuple(x.shape)}: amax is 0, but the tensor holds other "
                         f"values than zero")
    return tensor_scale_of(top if given is None else _number(given).to(x.device))


def _magnitudes(x: torch.Tensor) -> torch.Tensor:
    """Largest magnitude of each block, FP32 [..., K/16]."""
    return x.unflatten(-1, (-1, BLOCK)).abs().amax(-1).float()


def _scaled(x: torch.Tensor, magnitude: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(y [..., K/16, 16] float32, s [..., K/16] float8_e4m3fn) of the module's docstring."""
    r = magnitude / (E2M1_MAX * g)
    r = torch.where(r == 0, torch.ones_like(r), r)
    s = r.clamp(E4M3_MIN, E4M3_MAX).to(torch.float8_e4m3fn)
    y = x.float().unflatten(-1, (-1, BLOCK)) / (s.float() * g)[..., None]
    # s * g may underflow. ModelOpt then has x / 0 and, for zeros, 0 / 0: both end up at code 7, which decodes to 0.
    zero = (s.float() * g == 0)[..., None] & (magnitude < math.inf)[..., None]
    return torch.where(zero & y.isnan(), torch.full_like(y, math.inf), y), s
