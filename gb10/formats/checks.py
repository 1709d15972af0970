"""What every format asks of a tensor before it quantizes it: float32, bfloat16 or float16, whole blocks, finite values.

A refusal is a ValueError of one sentence that names the format, the tensor's shape and the rule.
"""

from __future__ import annotations

import torch

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def check_input(x: torch.Tensor, name: str, block: int | None = None) -> None:
    """Refuse what format `name` cannot take: anything but a dense tensor with values, a wrong dtype, no values at all,
    a last axis that `block` does not divide.

    Cheap: it reads no value of x. check_finite is the other half.
    """
    takes = f"{name}.quantize takes a torch tensor of float32, bfloat16 or float16"
    if not isinstance(x, torch.Tensor):
        kind = type(x).__name__
        if hasattr(x, "shape") and hasattr(x, "dtype"):
            kind = f"{kind} of shape {tuple(x.shape)} and {x.dtype}"
        raise ValueError(  # noqa: TRY004 - one kind of error for every refusal
            f"{takes}, not a {kind}: convert it first, with torch.as_tensor for instance")
    if x.is_nested or x.layout != torch.strided:
        # a nested tensor has no shape to name
        kind = "a nested one" if x.is_nested else f"one of shape {tuple(x.shape)} and layout {x.layout}"
        raise ValueError(f"{takes} that lies in memory value by value, not {kind}: make it dense first")
    shape = tuple(x.shape)
    if x.dtype not in DTYPES:
        raise ValueError(f"{takes}; this one, of shape {shape}, is {str(x.dtype).removeprefix('torch.')}: "
                         f"convert it first")
    if x.is_meta:
        raise ValueError(f"{name}.quantize: the tensor of shape {shape} is on the meta device, where tensors have no "
                         f"values: load it first")
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


def check_output(dtype: torch.dtype, name: str) -> None:
    """Refuse to decode into anything but floating-point numbers: a cast to integers would cut the values off."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"{name}.dequantize gives floating-point numbers, of torch.float32 or torch.bfloat16 for "
                         f"instance, not {dtype!r}")
