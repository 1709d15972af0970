"""Which entries of a ModelOpt config need a backend."""

from __future__ import annotations

import copy
import re
from typing import Any

from gb10.quantize.backend.plug import ACTIVATION, BLOCK_ACTIVATION, BLOCK_WEIGHT, WEIGHT, register

NVFP4 = ((2, 1), (4, 3))


def on_cpu(config: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of a ModelOpt config in which every quantizer that ModelOpt simulates only on CUDA names a backend.

    Those are the ones with block scales taken from the tensor itself (block_sizes of type "dynamic" with scale_bits).
    Everything else stays as it is, as does an entry that names a backend already. Registers the backends.
    """
    register()
    config = copy.deepcopy(config)
    entries = config["quant_cfg"]
    if isinstance(entries, dict):                # the form of before 0.47: pattern -> attributes
        for pattern, cfg in entries.items():
            _name(cfg, pattern)
    else:
        for entry in entries:
            _name(entry.get("cfg"), entry["quantizer_name"])
    return config


def _name(cfg, pattern: str) -> None:
    for one in cfg if isinstance(cfg, list) else [cfg]:
        if isinstance(one, dict) and needs_backend(one):
            weight = "weight_quantizer" in pattern
            if (_bits(one["num_bits"]), _bits(one["block_sizes"]["scale_bits"])) == NVFP4:
                one["backend"] = WEIGHT if weight else ACTIVATION
            else:
                one["backend"] = BLOCK_WEIGHT if weight else BLOCK_ACTIVATION


def needs_backend(cfg: dict[str, Any]) -> bool:
    """Whether ModelOpt simulates a quantizer of these attributes on CUDA only (static blocks: see plug.register)."""
    sizes = cfg.get("block_sizes") or {}
    return sizes.get("type") == "dynamic" and bool(sizes.get("scale_bits")) and not cfg.get("backend")


def _bits(value):
    """(2, 1) of (2, 1), [2, 1] and "e2m1"; integers as they are."""
    if isinstance(value, str):
        found = re.fullmatch(r"e(\d+)m(\d+)", value.lower())
        return tuple(int(n) for n in found.groups()) if found else value
    return tuple(value) if isinstance(value, (list, tuple)) else value
