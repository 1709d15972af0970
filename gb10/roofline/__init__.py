"""What fits in memory, how fast it can decode and prefill, and how sure we are.

    p = roofline.fit("Qwen3-8B", weights="nvfp4", machine="gb10", context=8192, batch=1, engine="vllm")
    p.fits, p.weight_bytes, p.decode_tps, p.decode_tps_low, p.decode_tps_high, p.decode_tps_limit, p.notes

traffic: bytes; memory: what fits; decode and prefill: speeds; calibrate: the fit of the constants; validate: how wrong
they are on measurements that they were not fitted to (python -m gb10.roofline.validate).
"""

from __future__ import annotations

from gb10.roofline.calibration import CEILING
from gb10.roofline.engines import ENGINES
from gb10.roofline.predict import CONTEXT, Fit, fit, ridge
from gb10.roofline.traffic import (
    kv_bytes,
    kv_bytes_per_token,
    read_weights,
    state_bytes,
    step_bytes,
    weight_bytes,
    weight_bytes_by_kind,
)

__all__ = ["CEILING", "CONTEXT", "ENGINES", "Fit", "fit", "kv_bytes", "kv_bytes_per_token", "read_weights", "ridge",
           "state_bytes", "step_bytes", "weight_bytes", "weight_bytes_by_kind"]
