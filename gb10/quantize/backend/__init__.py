"""The quant backends that let ModelOpt's block formats run without a GPU.

ModelOpt simulates its block formats by CUDA kernels; on a CPU a quantized model can be calibrated but not run. Its
extension point is `register_quant_backend(name, entrypoint)`: a quantizer whose config names a backend calls the
entrypoint instead of the kernel. `on_cpu(config)` names the backends below wherever a config needs one, `register()`
makes them known; calibration, evaluation and export then work on any machine.

    WEIGHT         NVFP4, for weights: bit for bit what ModelOpt's own NVFP4QTensor gives (quantize, then dequantize)
                   for the quantizer's amax, so that a simulated weight is the weight that the checkpoint holds
    ACTIVATION     NVFP4, for activations and the KV cache: the arithmetic of ModelOpt's CUDA kernel
    BLOCK_WEIGHT, BLOCK_ACTIVATION   the same two for every other block format: MXFP4, MXFP6, MXFP8, MXINT8 …

Static block scales (which the searches for better scales use) and rotations don't ask for a backend: `register` lets
the three functions of ModelOpt that need triton or a CUDA package there take CPU tensors too. What each is held against
stands in its module: `nvfp4`, `static` and `mx` hold the arithmetic, `plug` and `config` tie it to ModelOpt 0.47.0.
"""

from gb10.quantize.backend.config import on_cpu
from gb10.quantize.backend.nvfp4 import fake_quantize_activation, fake_quantize_weight
from gb10.quantize.backend.plug import ACTIVATION, BLOCK_ACTIVATION, BLOCK_WEIGHT, WEIGHT, register

__all__ = ["ACTIVATION", "BLOCK_ACTIVATION", "BLOCK_WEIGHT", "WEIGHT", "fake_quantize_activation",
           "fake_quantize_weight", "on_cpu", "register"]
