"""What every format asks of a tensor before it quantizes it: float32, bfloat16 or float16, whole blocks, finite values.

A refusal is a ValueError of one sentence that names the format, the tensor's shape and the rule.
"""

from __future__ import annotations

import torch

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def check_input(x: torch.Tensor, name: str, block: int | None = None) -> None:
    """Refuse what format `name` cannot take: a wrong dtype, no values at all, a last axis that `block` does not divide.

    Cheap: it reads no value of x. check_finite is the other half.
    """
    shape, dtype = tuple(getattr(x, "shape", ())), getattr(x, "dtype", type(x).__name__)
    if dtype not in DTYPES:
        kind = str(dtype).removeprefix("torch.")
        raise ValueError(f"{name}.quantize takes a torch tensor of float32, bfloat16 or float16; this one, of shape "
                         f"{shape}, is {kind}: convert it first")
    if x.ndim == 0:
        raise ValueError(f"{name}.quantize works along the last axis, and a tensor of shape () has none: "
                         f"give it one, with x.reshape(1, -1)")
    if x.numel() == 0:
        raise ValueError(f"{name}.quantize: a tensor of shape {shape} holds no values, so there is no largest one "
                         f"to take a scale from")
    if block is not None and x.shape[-1] % block:
        raise ValueError(f"{name} works on blocks of {block} along the last axis; {shape} does not divide into "
                         f"them: pad it or leave it unquantized")


def check_finite(amax: torch.Tensor, name: str, shape: tuple[int, ...]) -> None:
    """Refuse a tensor that holds NaN or infinity. amax: its largest magnitude, or those of its blocks.

    The maximum of a block that holds NaN is NaN, so the few maxima tell what all the values would.
    """
    if not torch.isfinite(amax).all():
        raise ValueError(f"{name}.quantize: the tensor of shape {tuple(shape)} holds NaN or infinity, which have no "
                         f"place on its grid: replace them first")
