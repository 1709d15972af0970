"""Calibrate and quantize a Hugging Face model to NVFP4 (W4A4) with ModelOpt."""

from __future__ import annotations

import contextlib
import copy
import io
import sys
import warnings
from collections.abc import Callable, Iterable

import torch

from gb10.errors import UserError, WorkFailed
from gb10.quantize import backend


def nvfp4_config() -> dict:
    """ModelOpt's NVFP4_DEFAULT_CFG with the course's backends named in it; runs on CPU and on any GPU.

    Weights and activations of the linear layers become NVFP4; embeddings, lm_head and norms stay as they are.
    """
    mtq = _modelopt()
    backend.register()
    config = copy.deepcopy(mtq.NVFP4_DEFAULT_CFG)
    names = {"*weight_quantizer": backend.WEIGHT, "*input_quantizer": backend.ACTIVATION}
    for entry in config["quant_cfg"]:
        if entry["quantizer_name"] in names and "cfg" in entry:
            entry["cfg"]["backend"] = names[entry["quantizer_name"]]
    return config


def calibration_batches(tokenizer, text: str, *, tokens: int = 8192, window: int = 256,
                        batch: int = 4) -> list[torch.Tensor]:
    """The first `tokens` tokens of a text as int64 batches [batch, window]; the last one may have fewer rows."""
    # a token is rarely longer than 16 characters: no need to cut the whole text into tokens
    ids = torch.tensor(tokenizer(text[: 16 * tokens])["input_ids"][:tokens])
    rows = ids[: len(ids) // window * window].reshape(-1, window)
    if not len(rows):
        raise ValueError(f"the text has {len(ids)} tokens, fewer than one window of {window}")
    return list(rows.split(batch))


def quantize(model, batches: Iterable[torch.Tensor], *, config: dict | None = None,
             progress: Callable[[int], None] | None = None):
    """Quantize `model` in place and return it: from now on it computes with NVFP4 weights and activations.

    batches: int64 token ids [B, T] on which the activations' ranges are measured (calibration).
    config: a ModelOpt config, `nvfp4_config()` if left out. progress: called with 1, 2, … after each batch.

    Layers that an engine fuses (q/k/v, gate/up) get one shared tensor scale here, as ModelOpt's export gives them, so
    that the loss measured before the export is that of the exported checkpoint.
    Raises WorkFailed naming the layer when a weight or an activation range is unusable (NaN, infinite, all zero), and
    UserError for a model that is quantized already.
    """
    if is_quantized(model):
        raise UserError("this model is already quantized: load it anew to quantize it again.")
    mtq = _modelopt()
    config = config or nvfp4_config()
    _refuse_unusable(model)
    if not model.config.architectures:
        model.config.architectures = [type(model).__name__]   # the export asks for it

    stdout = sys.stdout

    def forward_loop(m):
        for i, ids in enumerate(batches, 1):
            m(input_ids=ids.to(m.device), use_cache=False)
            if progress:
                with contextlib.redirect_stdout(stdout):
                    progress(i)

    model.eval()
    with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        mtq.quantize(model, config, forward_loop)
    _refuse_uncalibrated(model)
    _share_scales(model)
    return model


def is_quantized(model) -> bool:
    """Whether any layer of the model has a weight quantizer that is switched on."""
    return any(getattr(module, "weight_quantizer", None) is not None and module.weight_quantizer.is_enabled
               for module in model.modules())


def _refuse_unusable(model) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            amax = module.weight.detach().abs().amax()
            if not torch.isfinite(amax) or amax == 0:
                raise WorkFailed(f"{name}.weight is {'all zero' if amax == 0 else 'not finite'}: NVFP4 has no scale "
                                 f"for it. Was the model trained and loaded whole?")


def _refuse_uncalibrated(model) -> None:
    for name, module in model.named_modules():
        quantizer = getattr(module, "input_quantizer", None)
        if quantizer is None or not quantizer.is_enabled or getattr(module, "weight", None) is None:
            continue
        amax = getattr(quantizer, "_amax", None)
        if amax is None or not torch.isfinite(amax).all() or (amax <= 0).any():
            raise WorkFailed(f"calibration saw nothing usable at the input of {name} (its largest magnitude is "
                             f"{'unknown' if amax is None else amax.max().item()}): give it other batches.")


def _share_scales(model) -> None:
    """Give layers that read the same input one amax, by ModelOpt's own export step (running it twice is harmless)."""
    from modelopt.torch.export.unified_export_hf import requantize_resmooth_fused_llm_layers

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        requantize_resmooth_fused_llm_layers(model)


def _modelopt():
    """ModelOpt's quantization package; its import takes some seconds and warns about what only a GPU needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import modelopt.torch.quantization as mtq
    return mtq
