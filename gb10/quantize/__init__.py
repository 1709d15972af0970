"""From a BF16 model to an NVFP4 checkpoint with ModelOpt, on any machine.

    from gb10 import quantize
    model = quantize.quantize(model, batches)          # calibrate; the model now computes as if in NVFP4
    quantize.loss(model, token_ids)                    # held-out loss, before or after
    quantize.export(model, tokenizer, folder)          # the checkpoint that vLLM, TensorRT-LLM and SGLang load
    quantize.inspect_tensors(folder)                   # what is in a checkpoint, read from its headers

Names are resolved when first used: `import gb10.quantize` pulls in neither torch nor ModelOpt.
"""

from importlib import import_module

_HOME = {
    "quantize": "recipe", "nvfp4_config": "recipe", "calibration_batches": "recipe",
    "is_quantized": "recipe",
    "export": "write",
    "inspect_tensors": "checkpoint", "TensorInfo": "checkpoint", "read_tensor": "checkpoint",
    "loss": "heldout", "Loss": "heldout",
    "register": "backend",
}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"gb10.quantize has no {name!r}; it has: {', '.join(sorted(_HOME))}")
    return getattr(import_module(f"gb10.quantize.{_HOME[name]}"), name)


def __dir__():
    return sorted(_HOME)
