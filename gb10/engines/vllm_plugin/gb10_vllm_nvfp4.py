"""A vLLM plugin: serve NVFP4 checkpoints on a CPU.

vLLM computes NVFP4 on NVIDIA GPUs with Blackwell's FP4 tensor cores, and has no kernel for it that a CPU can use at a
bearable speed: the one that would run there (`EmulationNvFp4LinearKernel`, offered to CUDA and ROCm only) decodes the whole
weight anew for every token. The kernel here decodes each weight once, when the model is loaded. What remains per token is
to round the activations to NVFP4, as W4A4 demands, and a plain matrix product: vLLM's own for the CPU, the one that a BF16
model gets. Weight-only checkpoints (W4A16) take the same kernel without the rounding; vLLM would send them to Marlin's,
which only GPUs have.

The result is that of W4A4 to the last bit of the activations' rounding; time and memory are those of a BF16 model, and a
little more. GB10_NVFP4_KERNEL=emulation takes vLLM's emulation for W4A4 instead, to compare.

All of it is internal API of vLLM 0.32.0, which is why the course pins that version:
vllm/model_executor/kernels/linear/__init__.py (which kernel), .../layers/quantization/modelopt.py (what a layer holds),
.../layers/utils.py (the CPU's matrix product).
Installed into .venv-vllm by gb10/engines/vllm_env.py, with an entry point in the group `vllm.general_plugins`.
"""

import math
import os

import torch

BLOCK = 16
_E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
_E2M1 += [-v for v in _E2M1]
# Byte -> the two values that it holds; the even element is in the low nibble.
PAIRS = torch.tensor([[_E2M1[byte & 15], _E2M1[byte >> 4]] for byte in range(256)])


def decode(packed: torch.Tensor, scales: torch.Tensor, tensor_scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """uint8 [N, K/2], float8_e4m3fn [N, K/16], float32 [] -> [N, K]: e2m1 * (block scale * tensor scale), rounded once."""
    blocks = PAIRS[packed.int()].view(*scales.shape, BLOCK)
    return blocks.mul_((scales.float() * tensor_scale)[..., None]).view(len(packed), -1).to(dtype)


def round_to_nvfp4(x: torch.Tensor, tensor_scale: float) -> torch.Tensor:
    """x [..., K], contiguous, K a multiple of 16 -> the values that NVFP4 makes of it, in x's dtype.

    The arithmetic of gb10/formats/nvfp4.py (ModelOpt's), bit by bit, with the tensor scale that calibration found: each
    line rounds in FP32 as it does there. NaN stays NaN, an infinity saturates. A dozen small operations: every one costs
    some microseconds of a token's time, whatever its size, so they are few and work in place.
    """
    blocks = x.float().view(-1, BLOCK)
    ratio = blocks.abs().amax(-1, keepdim=True).div_(6 * tensor_scale)
    scale = ratio.clamp_(2**-9, 448).to(torch.float8_e4m3fn).float().mul_(tensor_scale)
    y = (blocks / scale).clamp_(-6, 6)
    # E2M1's step is half the power of two below the value (0.5 under 2, 1 under 4, 2 above), and that power is the value's
    # exponent bits alone. FP32 numbers near 1.5 * 2^23 steps lie one step apart: adding that many rounds to whole steps,
    # ties to the even one, which is the even code, and taking them away leaves the value.
    steps = (y.view(torch.int32) & 0x7F800000).view(torch.float32).clamp_(1, 4).mul_(1.5 * 2**22)
    return y.add_(steps).sub_(steps).mul_(scale).view(x.shape).to(x.dtype)


def register() -> None:
    end_with_owner()
    from vllm.platforms import PlatformEnum, current_platform

    if not current_platform.is_cpu():
        return
    from vllm.model_executor.kernels import linear

    # vLLM loads plugins once per process, but says that a plugin must stand being called twice.
    if PlatformEnum.CPU in linear._POSSIBLE_NVFP4_KERNELS:
        return
    ours = _kernel()
    if os.environ.get("GB10_NVFP4_KERNEL") != "emulation":
        linear.register_linear_kernel(ours, PlatformEnum.CPU, "nvfp4")
    linear.register_linear_kernel(linear.EmulationNvFp4LinearKernel, PlatformEnum.CPU, "nvfp4")
    linear.MarlinNvFp4LinearKernel = ours
    _refuse_mixed_scales()
    _allow_float32()


def _kernel() -> type:
    from vllm.model_executor.kernels.linear.nvfp4.base import NvFp4LinearKernel
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    class DecodedNvFp4LinearKernel(NvFp4LinearKernel):
        @classmethod
        def is_supported(cls, compute_capability=None):
            return True, None

        @classmethod
        def can_implement(cls, config):
            return True, None

        def process_weights_after_loading(self, layer) -> None:
            check(layer)
            # While it loads a model, vLLM has the dtype to compute in as torch's default.
            weight = decode(layer.weight, layer.weight_scale, layer.weight_global_scale, torch.get_default_dtype())
            layer.weight = torch.nn.Parameter(weight, requires_grad=False)
            del layer.weight_scale
            layer.round_inputs_with = layer.input_global_scale.item() if hasattr(layer, "input_global_scale") else None
            dispatch_cpu_unquantized_gemm(layer, remove_weight=True)

        def apply_weights(self, layer, x, bias=None):
            if layer.round_inputs_with is not None:
                x = round_to_nvfp4(x.contiguous(), layer.round_inputs_with)
            return layer.cpu_linear(x, layer.weight, bias)

    return DecodedNvFp4LinearKernel


def check(layer) -> None:
    """Refuse what could only be computed wrongly."""
    (rows, half), scales = layer.weight.shape, layer.weight_scale.shape
    if half % 8 or tuple(scales) != (rows, half // 8):
        raise ValueError(f"NVFP4 has blocks of 16 along K: {rows} x {2 * half} codes with scales {tuple(scales)} are none")
    g = layer.input_global_scale.item() if hasattr(layer, "input_global_scale") else 1.0
    if not torch.finfo(torch.float32).tiny <= g < math.inf:
        raise ValueError(f"an NVFP4 layer has the input_scale {g:g}, and can't round its activations with that: calibrate the "
                         f"model with text that reaches every layer, and export it again")


def _refuse_mixed_scales() -> None:
    """Layers that vLLM fuses (q, k and v; gate and up) have to share the weights' tensor scale, as ModelOpt exports them.

    vLLM warns, takes the largest for all of them and so multiplies the others' weights by a wrong number.
    """
    from vllm.model_executor.layers.quantization import modelopt
    from vllm.model_executor.layers.quantization.compressed_tensors.schemes import CompressedTensorsW4A4Fp4

    def guard(owner, method, scale):
        original = getattr(owner, method)

        def guarded(self, layer, *rest):
            found = getattr(layer, scale).unique()
            if found.numel() != 1:
                raise ValueError(f"fused NVFP4 layers have different tensor scales ({scale}: {found.tolist()}), and vLLM would "
                                 f"use one for all: export the checkpoint with one scale for q, k and v, and for gate and up")
            return original(self, layer, *rest)

        setattr(owner, method, guarded)

    guard(modelopt.KNvfp4Static, "process", "weight_scale_2")
    guard(CompressedTensorsW4A4Fp4, "process_weights_after_loading", "weight_global_scale")


def _allow_float32() -> None:
    """Let NVFP4 checkpoints compute in float32 too: the kernel can, only the list of dtypes (made for GPUs) says no.

    It matters for W4A4: bfloat16's rounding moves activations across the boundaries of the 4-bit grid, and each one that
    crosses changes by a whole step.
    """
    from vllm.model_executor.layers.quantization.modelopt import ModelOptNvFp4Config

    original = ModelOptNvFp4Config.get_supported_act_dtypes

    def get_supported_act_dtypes(self):
        return [*original(self), torch.float32]

    ModelOptNvFp4Config.get_supported_act_dtypes = get_supported_act_dtypes


def end_with_owner() -> None:
    """As in gb10/engines/owner.py: end when the notebook that started this engine is gone."""
    import signal
    import threading

    fd = os.environ.pop("GB10_OWNER_FD", "")
    if not fd.isdigit():
        return

    def watch():
        try:
            os.read(int(fd), 1)
        except OSError:
            return
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="gb10-owner", daemon=True).start()
