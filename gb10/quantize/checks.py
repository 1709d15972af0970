"""What is refused before ModelOpt starts, and what after it has calibrated: one sentence each, naming the layer."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

import torch

from gb10.errors import UserError, WorkFailed

# algorithms that scale the inputs of experts, which ModelOpt 0.47 does one expert's layer at a time
PER_EXPERT = ("awq_lite", "awq_full", "svdquant")


def refuse_before(model, config: dict) -> None:
    """Raises WorkFailed for a weight that the config would quantize and that has no scale (NaN, infinite, all zero).

    UserError where its last axis has a partial block, or where the algorithm can't take the model's experts apart.
    """
    for name, weight, cfg in _targets(model, config):
        amax = weight.detach().abs().amax() if weight.numel() else weight.new_tensor(1.0)
        if weight.is_meta or (torch.isfinite(amax) and amax > 0):
            _refuse_partial_blocks(name, weight, cfg)
        else:
            raise WorkFailed(f"{name} is {'all zero' if amax == 0 else 'not finite'}: there is no scale for it. Was "
                             f"the model trained and loaded whole?")
        if weight.ndim == 3 and _takes_experts_apart(config, cfg):
            raise UserError(f"{name} holds the weights of all experts in one tensor, which ModelOpt 0.47 can't take "
                            f"apart for this recipe: choose nvfp4-experts or nvfp4-mse.")


def refuse_uncalibrated(model, config: dict) -> None:
    """Raises WorkFailed naming the layer whose activation range calibration could not tell."""
    if config.get("algorithm") is None:
        return                                   # nothing was calibrated: ranges are taken from what comes
    for name, module in model.named_modules():
        quantizer = getattr(module, "input_quantizer", None)
        if quantizer is None or not quantizer.is_enabled or getattr(module, "weight", None) is None:
            continue
        if quantizer.is_mx_format or quantizer._dynamic or quantizer._use_constant_amax:
            continue
        amax = getattr(quantizer, "_amax", None)
        if amax is None or not torch.isfinite(amax).all() or (amax <= 0).any():
            raise WorkFailed(f"calibration saw nothing usable at the input of {name} (its largest magnitude is "
                             f"{'unknown' if amax is None else amax.max().item()}): give it other batches.")


def _targets(model, config: dict) -> Iterator[tuple[str, torch.Tensor, dict]]:
    """(name, weight, quantizer attributes) of the linear layers and experts whose weights the config would quantize.

    The rules are ModelOpt's (`set_quantizer_by_cfg`): the last entry whose pattern matches the quantizer's name counts.
    """
    for name, module in model.named_modules():
        for parameter, weight in module.named_parameters(recurse=False):
            linear = isinstance(module, torch.nn.Linear) and parameter == "weight"
            if not linear and weight.ndim != 3:
                continue
            quantizer = f"{name}.weight_quantizer" if linear else f"{name}.{parameter}_weight_quantizer"
            cfg = _attributes(config, quantizer)
            if cfg is not None:
                yield f"{name}.{parameter}", weight, cfg


def _attributes(config: dict, quantizer: str) -> dict | None:
    found, enabled = {}, False
    for entry in config["quant_cfg"]:
        if entry.get("parent_class") or not fnmatch.fnmatch(quantizer, entry["quantizer_name"]):
            continue
        if entry.get("cfg"):
            cfg = entry["cfg"]
            found = cfg[0] if isinstance(cfg, list) else cfg
        enabled = entry.get("enable")
        enabled = True if enabled is None else enabled
    return found if enabled else None


def _refuse_partial_blocks(name: str, weight: torch.Tensor, cfg: dict) -> None:
    sizes = cfg.get("block_sizes") or {}
    block = sizes.get(-1)
    if block and sizes.get("scale_bits") and weight.shape[-1] % block:
        raise UserError(f"{name} has {weight.shape[-1]} input features, which blocks of {block} don't divide: leave "
                        f"the layer out or choose a recipe in FP8.")


def _takes_experts_apart(config: dict, cfg: dict) -> bool:
    algorithm = config.get("algorithm")
    method = algorithm.get("method") if isinstance(algorithm, dict) else algorithm
    return method in PER_EXPERT or cfg.get("num_bits") == 4     # INT4 is exported as AWQ's, whatever the algorithm
