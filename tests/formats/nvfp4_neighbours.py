"""NVFP4 as four independent implementations do it, behind one face: what our codec is compared with, in bits and time.

quantize(x [N, K]) -> Parts; dequantize(Parts) -> float32 [N, K]. All on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

BOUNDS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)


@dataclass
class Parts:
    packed: torch.Tensor           # uint8 [N, K/2]
    scales: torch.Tensor           # float8_e4m3fn [N, K/16]
    g: torch.Tensor                # float32 scalar, a multiplier
    own: object = None             # what its own dequantize wants besides

    def codes(self) -> torch.Tensor:
        return torch.stack((self.packed & 15, self.packed >> 4), dim=-1).flatten(-2)


class ModelOpt:
    """NVFP4QTensor, what its export writes."""

    name = "ModelOpt"

    @staticmethod
    def quantize(x, g=None):
        from modelopt.torch.quantization.qtensor import NVFP4QTensor

        tensor, scales, g = NVFP4QTensor.quantize(x, 16, weights_scaling_factor_2=g)
        return Parts(tensor._quantized_data, scales, g, tensor)

    @staticmethod
    def dequantize(p, dtype=torch.float32):
        return p.own.dequantize(dtype, scale=p.scales, double_scale=p.g, block_sizes={-1: 16})


class TorchAO:
    """nvfp4_quantize with a tensor scale. Its smallest block scale is 2^-6, and it multiplies by reciprocals."""

    name = "torchao"

    @staticmethod
    def quantize(x):
        from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize, per_tensor_amax_to_scale

        g = per_tensor_amax_to_scale(x.abs().amax())
        scales, packed = nvfp4_quantize(x, per_tensor_scale=g)
        return Parts(packed, scales, g, x.dtype)

    @staticmethod
    def dequantize(p):
        from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor

        return NVFP4Tensor(p.packed, p.scales, 16, torch.float32, per_tensor_scale=p.g).dequantize(torch.float32)


class CompressedTensors:
    """The compressor of llm-compressor's checkpoints; its tensor scale is the reciprocal."""

    name = "compressed-tensors"

    @staticmethod
    def _scheme():
        from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

        weights = QuantizationArgs(num_bits=4, type="float", strategy="tensor_group", group_size=16, symmetric=True,
                                   scale_dtype=torch.float8_e4m3fn)
        return QuantizationScheme(targets=["Linear"], weights=weights)

    @classmethod
    def quantize(cls, x):
        from compressed_tensors.compressors.nvfp4 import NVFP4PackedCompressor
        from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

        scheme = cls._scheme()
        low, high = x.aminmax()
        scale = generate_gparam(low, high)
        blocks = x.unflatten(-1, (-1, 16))
        scales, _ = calculate_qparams(blocks.amin(-1), blocks.amax(-1), scheme.weights, global_scale=scale)
        state = {"weight": x, "weight_scale": scales.to(x.dtype), "weight_global_scale": scale.to(x.dtype)}
        state = NVFP4PackedCompressor.compress(state, scheme)
        return Parts(state["weight_packed"], state["weight_scale"], 1 / scale.float().squeeze(), (state, scheme))

    @staticmethod
    def dequantize(p):
        from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
        from compressed_tensors.quantization.lifecycle.forward import dequantize

        state, scheme = p.own                    # as its decompress does, which has no choice of dtype but BF16
        n, k = p.packed.shape
        values = unpack_fp4_from_uint8(p.packed, n, 2 * k, dtype=torch.float32)
        return dequantize(values, state["weight_scale"].float(), args=scheme.weights, dtype=torch.float32,
                          global_scale=state["weight_global_scale"].float())


class MlDtypes:
    """A true division and ml_dtypes' casts, in numpy, with ModelOpt's rules for clamp, empty blocks and signs."""

    name = "ml_dtypes + numpy"

    @staticmethod
    def quantize(x, g=None):
        import ml_dtypes

        a = x.view(torch.uint16).numpy().view(ml_dtypes.bfloat16) if x.dtype == torch.bfloat16 else x.numpy()
        a = a.astype(np.float32).reshape(*a.shape[:-1], -1, 16)
        amax = np.abs(a).max(-1)
        g = np.float32(amax.max() / np.float32(2688)) if g is None else np.float32(g)
        r = amax / (np.float32(6) * g)
        r[r == 0] = 1
        s = np.clip(r, np.float32(2 ** -9), np.float32(448)).astype(ml_dtypes.float8_e4m3fn)
        y = a / (s.astype(np.float32) * g)[..., None]
        codes = np.clip(y, -6, 6).astype(ml_dtypes.float4_e2m1fn).view(np.uint8) & 15
        codes = np.where(y < 0, codes | 8, codes & 7).reshape(*a.shape[:-2], -1)   # -0.0 is code 0 there
        packed = (codes[..., 1::2] << 4 | codes[..., 0::2]).astype(np.uint8)
        return Parts(torch.from_numpy(packed), torch.from_numpy(s.view(np.uint8)).view(torch.float8_e4m3fn),
                     torch.tensor(g))

    @staticmethod
    def dequantize(p):
        import ml_dtypes

        codes = np.empty((*p.packed.shape, 2), np.uint8)
        packed = p.packed.numpy()
        codes[..., 0], codes[..., 1] = packed & 15, packed >> 4
        values = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32).reshape(*p.scales.shape, 16)
        s = p.scales.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn).astype(np.float32)
        return torch.from_numpy((values * (s * p.g.numpy())[..., None]).reshape(*packed.shape[:-1], -1))


ALL = (ModelOpt, TorchAO, CompressedTensors, MlDtypes)
