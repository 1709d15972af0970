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

Names are resolved when first used: `import gb10.quantize` pulls in neither torch nor ModelOpt. (No module here has the
name of a function: it would take its place in the package once it is imported.)
"""

from importlib import import_module

_HOME = {
    "recipes": "cookbook", "recipe": "cookbook", "Recipe": "cookbook",
    "quantize": "quantizing", "nvfp4_config": "quantizing", "calibration_batches": "quantizing",
    "is_quantized": "quantizing",
    "export": "write",
    "stream": "streaming.run",
    "inspect_tensors": "checkpoint", "TensorInfo": "checkpoint", "read_tensor": "checkpoint",
    "inspect": "inside.report", "Report": "inside.report",
    "loss": "heldout", "Loss": "heldout", "score": "heldout", "Scores": "heldout", "spread": "heldout",
    "compare": "comparing", "compare_many": "comparing", "Comparison": "comparison",
    "Difference": "comparison", "Interval": "bootstrap", "ratio_interval": "bootstrap",
    "layer_errors": "layers", "LayerError": "layers", "sensitivity": "leave_out", "Sensitivity": "leave_out",
    "auto_quantize": "algorithms", "Mixed": "algorithms", "refusals": "algorithms", "Refusal": "algorithms",
    "register": "backend", "on_cpu": "backend",
}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"gb10.quantize has no {name!r}; it has: {', '.join(sorted(_HOME))}")
    return getattr(import_module(f"gb10.quantize.{_HOME[name]}"), name)


def __dir__():
    return sorted(_HOME)
