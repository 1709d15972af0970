"""A vLLM plugin: serve NVFP4 checkpoints on a CPU.

vLLM has a linear layer for NVFP4 that needs no FP4 hardware (it rounds the activations to NVFP4, turns the weights
back into numbers and multiplies), but offers it to CUDA and ROCm only. Registering it for the CPU is all it takes.
It is internal API of vLLM 0.32.0, which is why the course pins that version. Such a server is right, not fast:
about ten times slower than BF16 on the same CPU. On a Spark vLLM picks its FP4 tensor-core kernel instead.

Weight-only checkpoints (W4A16) go to a Marlin kernel, which only NVIDIA GPUs have. On the CPU another takes its place: it
decodes the weights once, when they are loaded, and then computes as for a BF16 model, as fast and with as much memory.

Installed into .venv-vllm by gb10/engines/vllm_env.py, with an entry point in the group `vllm.general_plugins`.
"""


def register() -> None:
    end_with_owner()
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.model_executor.kernels.linear import (
        _POSSIBLE_NVFP4_KERNELS,
        EmulationNvFp4LinearKernel,
        register_linear_kernel,
    )
    from vllm.platforms import PlatformEnum

    # vLLM loads plugins once per process, but says that a plugin must stand being called twice.
    if EmulationNvFp4LinearKernel not in _POSSIBLE_NVFP4_KERNELS.get(PlatformEnum.CPU, []):
        register_linear_kernel(EmulationNvFp4LinearKernel, PlatformEnum.CPU, "nvfp4")
    _weights_only()
    _allow_float32()


def _weights_only() -> None:
    """Put a kernel that a CPU has where vLLM looks for Marlin's."""
    import torch
    from vllm.model_executor.kernels import linear
    from vllm.model_executor.kernels.linear.nvfp4.base import NvFp4LinearKernel
    from vllm.model_executor.layers.quantization.utils.nvfp4_emulation_utils import dequantize_to_dtype

    if hasattr(linear.MarlinNvFp4LinearKernel, "decodes_once"):
        return

    class DecodedNvFp4LinearKernel(NvFp4LinearKernel):
        decodes_once = True

        @classmethod
        def is_supported(cls, compute_capability=None):
            return True, None

        @classmethod
        def can_implement(cls, config):
            return True, None

        def process_weights_after_loading(self, layer) -> None:
            layer.decoded = None

        def apply_weights(self, layer, x, bias=None):
            if layer.decoded is None:
                layer.decoded = dequantize_to_dtype(layer.weight, layer.weight_scale, layer.weight_global_scale, x.dtype,
                                                    swizzle=False)
            return torch.nn.functional.linear(x, layer.decoded, bias)

    linear.MarlinNvFp4LinearKernel = DecodedNvFp4LinearKernel


def _allow_float32() -> None:
    """Let NVFP4 checkpoints compute in float32 too: the kernel can, only the list of dtypes (made for GPUs) says no.

    It matters for W4A4: bfloat16's rounding moves activations across the boundaries of the 4-bit grid, and each one that
    crosses changes by a whole step.
    """
    import torch
    from vllm.model_executor.layers.quantization.modelopt import ModelOptNvFp4Config

    original = ModelOptNvFp4Config.get_supported_act_dtypes
    if not hasattr(original, "with_float32"):

        def get_supported_act_dtypes(self):
            return [*original(self), torch.float32]

        get_supported_act_dtypes.with_float32 = True
        ModelOptNvFp4Config.get_supported_act_dtypes = get_supported_act_dtypes


def end_with_owner() -> None:
    """As in gb10/engines/owner.py: end when the notebook that started this engine is gone."""
    import os
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
