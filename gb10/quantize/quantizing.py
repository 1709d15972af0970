"""Quantize a Hugging Face model with ModelOpt, by one of the course's recipes or any ModelOpt config."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable

import torch

from gb10.errors import UserError, WorkFailed
from gb10.quantize import checks, cookbook
from gb10.quantize.backend import on_cpu
from gb10.quantize.library import modelopt, quiet


def nvfp4_config() -> dict:
    """The config of recipe "nvfp4": ModelOpt's NVFP4_DEFAULT_CFG with the course's backends, for CPU and any GPU.

    Weights and activations of the linear layers become NVFP4; embeddings, lm_head and norms stay as they are.
    """
    return cookbook.recipe("nvfp4").config()


def calibration_batches(tokenizer, text: str, *, tokens: int = 8192, window: int = 256,
                        batch: int = 4) -> list[torch.Tensor]:
    """The first `tokens` tokens of a text as int64 batches [batch, window]; the last one may have fewer rows."""
    # a token is rarely longer than 16 characters: no need to cut the whole text into tokens
    ids = torch.tensor(tokenizer(text[: 16 * tokens])["input_ids"][:tokens])
    rows = ids[: len(ids) // window * window].reshape(-1, window)
    if not len(rows):
        raise ValueError(f"the text has {len(ids)} tokens, fewer than one window of {window}")
    return list(rows.split(batch))


def quantize(model, batches: Iterable[torch.Tensor] = (), *, recipe: str | cookbook.Recipe = "nvfp4",
             kv: str | None = None, config: dict | None = None, progress: Callable[[int], None] | None = None):
    """Quantize `model` in place and return it: from now on it computes with the recipe's formats.

    batches: int64 token ids [B, T] on which the activations' ranges are measured (calibration); a recipe that doesn't
    calibrate needs none. recipe: a name (see `recipes()`) or a Recipe; kv: another format for the KV cache than the
    recipe's. config: any ModelOpt config instead of a recipe. progress: called with 1, 2, … after each batch;
    searches go over the batches more than once, and then count anew.

    Layers that an engine fuses (q/k/v, gate/up) get one shared tensor scale here, as ModelOpt's export gives them, so
    that the loss measured before the export is that of the exported checkpoint.
    Raises WorkFailed naming the layer when a weight or an activation range is unusable (NaN, infinite, all zero), and
    UserError for a model that is quantized already, for a recipe or KV format that doesn't exist, and for a recipe
    that can't take this model or finds no layer in it.
    """
    if is_quantized(model):
        raise UserError("this model is already quantized: load it anew to quantize it again.")
    mtq = modelopt()
    if config is None:
        chosen = cookbook.recipe(recipe)
        config, calibrates = chosen.config(kv), chosen.calibrates
    else:
        config, calibrates = on_cpu(config), mtq.config.need_calibration(config)
    if getattr(model.config, "tie_word_embeddings", False):
        # the head is the embedding matrix, which stays in BF16: an engine reads it from there
        config["quant_cfg"] = [*config["quant_cfg"], {"quantizer_name": "*lm_head*", "enable": False}]
    batches = list(batches) if calibrates else []
    if calibrates and not batches:
        raise WorkFailed("this recipe needs calibration, and there is no batch of tokens to calibrate with: give "
                         "quantize() some.")
    checks.refuse_before(model, config)
    if not model.config.architectures:
        model.config.architectures = [type(model).__name__]   # the export asks for it
    model.eval()
    forward_loop = _forward_loop(batches, progress) if batches else None
    try:
        with quiet(), torch.no_grad():
            mtq.quantize(model, config, forward_loop)
    except RuntimeError as error:
        if "no weight quantizer is enabled" not in str(error):
            raise
        raise UserError("this recipe found no layer in this model to quantize (a recipe for experts needs a mixture of "
                        "experts): choose another.") from None
    checks.refuse_uncalibrated(model, config)
    share_scales(model)
    return model


def is_quantized(model) -> bool:
    """Whether any layer of the model has a weight quantizer that is switched on."""
    return any(quantizer.is_enabled for module in model.modules() for quantizer in _weight_quantizers(module))


def _weight_quantizers(module) -> list:
    """A layer's weight quantizers: one, or one for each expert where the experts' weights are one tensor."""
    found = []
    for name, child in module.named_children():
        if name.endswith("weight_quantizer"):
            found.append(child)
        elif name.endswith("weight_quantizers"):
            found += list(child)
    return found


def _forward_loop(batches: list[torch.Tensor], progress: Callable[[int], None] | None) -> Callable:
    stdout, stderr = sys.stdout, sys.stderr

    def forward_loop(m):
        device = next(m.parameters()).device
        for i, ids in enumerate(batches, 1):
            m(input_ids=ids.to(device), use_cache=False)
            if progress:
                with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                    progress(i)

    return forward_loop


def share_scales(model) -> None:
    """Give layers that read the same input one amax, by ModelOpt's own export step (running it twice is harmless)."""
    from modelopt.torch.export.unified_export_hf import requantize_resmooth_fused_llm_layers

    try:
        with quiet(), torch.no_grad():
            requantize_resmooth_fused_llm_layers(model)
    except NotImplementedError as error:         # a format without a checkpoint, such as MXFP6: nothing to share
        if "Unsupported quantizer" not in str(error):
            raise
