"""A vLLM plugin: serve NVFP4 checkpoints on a CPU.

vLLM has a linear layer for NVFP4 that needs no FP4 hardware (it rounds the activations to NVFP4, turns the weights
back into numbers and multiplies), but offers it to CUDA and ROCm only. Registering it for the CPU is all it takes.
It is internal API of vLLM 0.32.0, which is why the course pins that version. Such a server is right, not fast:
about ten times slower than BF16 on the same CPU. On a Spark vLLM picks its FP4 tensor-core kernel instead.

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
