"""From a BF16 model to a quantized checkpoint with ModelOpt, on any machine.

    from gb10 import quantize
    quantize.recipes()                                 # the recipes by name: formats, what for, what stays
    model = quantize.quantize(model, batches, recipe="nvfp4")    # calibrate; the model now computes as if in NVFP4
    quantize.export(model, tokenizer, folder)          # the checkpoint that vLLM, TensorRT-LLM and SGLang load
    quantize.stream(model_folder, folder)              # weight-only NVFP4 without loading the model
    quantize.inspect(folder)                           # what is in a checkpoint, read from its headers
    quantize.loss(model, token_ids)                    # held-out loss
    quantize.compare(reference, model, token_ids)      # loss, KL and agreement, with paired intervals
    quantize.sensitivity(model, token_ids)             # which layers hurt

Names are resolved when first used: `import gb10.quantize` pulls in neither torch nor ModelOpt.
"""

from importlib import import_module

_HOME = {
    "recipes": "recipes", "recipe": "recipes", "Recipe": "recipes",
    "quantize": "recipe", "nvfp4_config": "recipe", "calibration_batches": "recipe",
    "is_quantized": "recipe",
    "export": "write",
    "stream": "stream.run",
    "inspect_tensors": "checkpoint", "TensorInfo": "checkpoint", "read_tensor": "checkpoint",
    "inspect": "inside", "Report": "inside",
    "loss": "heldout", "Loss": "heldout", "score": "heldout",
    "compare": "compare", "compare_many": "compare", "Comparison": "comparison", "Interval": "bootstrap",
    "ratio_interval": "bootstrap",
    "layer_errors": "layers", "sensitivity": "sensitivity",
    "auto_quantize": "algorithms", "refusals": "algorithms",
    "register": "backend",
}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"gb10.quantize has no {name!r}; it has: {', '.join(sorted(_HOME))}")
    found = getattr(import_module(f"gb10.quantize.{_HOME[name]}"), name)
    globals()[name] = found              # a sub-module of that name would otherwise take its place once it is imported
    return found


def __dir__():
    return sorted(_HOME)
