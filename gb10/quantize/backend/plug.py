"""The arithmetic tied to ModelOpt: four quant backends, and three functions of its that then take CPU tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from gb10.formats.rotation import hadamard
from gb10.quantize.backend import mx, nvfp4, static

WEIGHT = "gb10_nvfp4_weight"
ACTIVATION = "gb10_nvfp4_activation"
BLOCK_WEIGHT = "gb10_block_weight"
BLOCK_ACTIVATION = "gb10_block_activation"


def register() -> None:
    """Make the backends known to ModelOpt, and static blocks and rotations run on CPU; doing it again is harmless."""
    from modelopt.torch.quantization import tensor_quant
    from modelopt.torch.quantization.nn.modules import tensor_quantizer as tq

    for name, entrypoint in ((WEIGHT, _nvfp4_weight), (ACTIVATION, _nvfp4_activation),
                             (BLOCK_WEIGHT, _block_weight), (BLOCK_ACTIVATION, _block_activation)):
        if not tq.is_registered_quant_backend(name):
            tq.register_quant_backend(name, entrypoint)
    _also_on_cpu(tensor_quant.StaticBlockwiseFP4FakeQuantFunction, "forward", 1, _static_forward)
    _also_on_cpu(tensor_quant.FP4CastSTEFunction, "forward", 1, _cast_forward)
    _also_on_cpu(tq, "normalized_hadamard_transform", 0, _hadamard)


class _StraightThrough(torch.autograd.Function):
    """compute(inputs) with the gradient that ModelOpt's own fake quantizers have.

    Straight through; without `pass_through` only where |x| <= amax.
    """

    @staticmethod
    def forward(ctx, inputs, amax, pass_through, compute):
        if not pass_through and amax is not None:
            ctx.save_for_backward(inputs, amax)
        return compute(inputs)

    @staticmethod
    def backward(ctx, gradient):
        if ctx.saved_tensors:
            inputs, amax = ctx.saved_tensors
            gradient = torch.where(inputs.abs() <= amax, gradient, torch.zeros_like(gradient))
        return gradient, None, None, None


def _nvfp4_weight(inputs: torch.Tensor, quantizer) -> torch.Tensor:
    block = _nvfp4_block(inputs, quantizer)
    amax = quantizer._get_amax(inputs)
    return _apply(inputs, amax, quantizer, lambda x: nvfp4.fake_quantize_weight(x, amax, block))


def _nvfp4_activation(inputs: torch.Tensor, quantizer) -> torch.Tensor:
    block = _nvfp4_block(inputs, quantizer)
    # AWQ's search calls before there is a calibrated amax: the input's own serves then.
    amax = quantizer._get_amax(inputs)
    if inputs.is_cuda:
        return _modelopt(inputs, amax, quantizer, block)
    return _apply(inputs, amax, quantizer, lambda x: nvfp4.fake_quantize_activation(x, amax, block))


def _block_weight(inputs: torch.Tensor, quantizer) -> torch.Tensor:
    amax, arguments = _block_arguments(inputs, quantizer)
    return _apply(inputs, amax, quantizer, lambda x: mx.fake_quantize_block_weight(x, *arguments, amax))


def _block_activation(inputs: torch.Tensor, quantizer) -> torch.Tensor:
    amax, arguments = _block_arguments(inputs, quantizer)
    if inputs.is_cuda:
        return _modelopt(inputs, amax, quantizer, arguments[2])
    return _apply(inputs, amax, quantizer, lambda x: mx.fake_quantize_block(x, *arguments, amax))


def _apply(inputs, amax, quantizer, compute: Callable) -> torch.Tensor:
    return _StraightThrough.apply(inputs, amax, quantizer._pass_through_bwd, compute)


def _modelopt(inputs, amax, quantizer, block) -> torch.Tensor:
    """ModelOpt's own kernel: on a GPU there is nothing to stand in for."""
    from modelopt.torch.quantization.tensor_quant import dynamic_block_quant

    return dynamic_block_quant(inputs, block, amax, None, quantizer.num_bits, quantizer.block_sizes["scale_bits"],
                               None, None, quantizer._pass_through_bwd)


def _nvfp4_block(inputs, quantizer) -> int:
    sizes = quantizer.block_sizes or {}
    block = _block_size(inputs, sizes)
    if quantizer.num_bits != (2, 1) or not block or sizes.get("scale_bits") != (4, 3):
        raise NotImplementedError(f"this backend of the course knows NVFP4 (E2M1 in blocks, E4M3 scales); this "
                                  f"quantizer asks for num_bits={quantizer.num_bits}, block_sizes={sizes}")
    return block


def _block_arguments(inputs, quantizer) -> tuple[torch.Tensor | None, tuple]:
    sizes = quantizer.block_sizes or {}
    element, scale, block = quantizer.num_bits, sizes.get("scale_bits"), _block_size(inputs, sizes)
    if element not in mx.ELEMENTS or scale not in (mx.E8M0, *mx.ELEMENTS) or not block:
        raise NotImplementedError(f"this backend of the course knows blocks of {_known()} with one scale each; this "
                                  f"quantizer asks for num_bits={element}, block_sizes={sizes}")
    amax = None if quantizer.is_mx_format else quantizer._get_amax(inputs)
    return amax, (element, scale, block)


def _block_size(inputs, sizes) -> int | None:
    return sizes.get(-1) or sizes.get(inputs.dim() - 1)


def _known() -> str:
    return ", ".join(f"INT{e}" if isinstance(e, int) else f"E{e[0]}M{e[1]}" for e in mx.ELEMENTS)


def _also_on_cpu(owner, name: str, position: int, on_cpu: Callable) -> None:
    """Have the function `name` of a class or module of ModelOpt compute by `on_cpu` where its tensor isn't on a GPU.

    position: of that tensor among the arguments. A class is a torch.autograd.Function: its backward stays ModelOpt's.
    There is no backend to be named here: ModelOpt's quantizer for static blocks doesn't look for one, its searches
    refuse quantizers that name one, and a rotation comes before any.
    """
    original = getattr(owner, name)
    if hasattr(original, "on_cpu"):
        return

    @functools.wraps(original)
    def either(*args, **kwargs):
        return (original if args[position].is_cuda else on_cpu)(*args, **kwargs)

    either.on_cpu = True
    setattr(owner, name, staticmethod(either) if isinstance(owner, type) else either)


def _static_forward(ctx, x, amax, global_amax=None, quantize_block_scales=True, fp8_max_for_normalization=448.0,
                    out_dtype=None, pass_through_bwd=False):
    if not pass_through_bwd:
        # one amax per block: laid out as x is, so that ModelOpt's backward can compare
        per_element = amax.reshape(-1, 1).expand(-1, x.numel() // amax.numel()).reshape(x.shape)
        ctx.save_for_backward(x, per_element)
    return static.fake_quantize_static(x, amax, global_amax, quantize_block_scales, fp8_max_for_normalization,
                                       out_dtype)


def _cast_forward(ctx, x, out_dtype=None):
    ctx.save_for_backward(x)
    return static.cast(x, out_dtype)


def _hadamard(inputs, rotate_fp32=False, block_size=None):
    """ModelOpt's normalized_hadamard_transform, which needs a CUDA package: the same but for rounding in FP32."""
    size = block_size or inputs.shape[-1] & -inputs.shape[-1]        # the largest power of two that divides it
    return hadamard(inputs, size).to(inputs.dtype)
