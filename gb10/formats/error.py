"""How far a quantized tensor is from the original, as one number: signal-to-noise ratio and relative RMS error."""

from __future__ import annotations

import math

import torch

PART = 1 << 14                                     # numbers widened to FP64 at a time: they fit in cache, and in one thread


def relative_rmse(x: torch.Tensor, y: torch.Tensor) -> float:
    """sqrt(sum (x - y)^2 / sum x^2), y an approximation of x; differences and sums in FP64.

    0.0 where the two are equal (all zero included); infinite where x is all zero and y is not.
    """
    if x.shape != y.shape:
        raise ValueError(f"two tensors of one shape are compared, not {tuple(x.shape)} with {tuple(y.shape)}")
    signal = noise = 0.0
    for part, approximation in zip(x.detach().reshape(-1).split(PART), y.detach().reshape(-1).split(PART), strict=True):
        part = part.double()
        signal += part.square().sum().item()
        noise += part.sub_(approximation).square_().sum().item()
    if noise == 0:
        return 0.0
    return math.sqrt(noise / signal) if signal else math.inf


def snr_db(x: torch.Tensor, y: torch.Tensor) -> float:
    """Signal-to-noise ratio in dB, 10 log10(sum x^2 / sum (x - y)^2): 6.02 dB is one bit, higher is better.

    Infinite where the two are equal, minus infinity where x is all zero and y is not.
    """
    error = relative_rmse(x, y)
    if error == 0:
        return math.inf
    return -20 * math.log10(error)
