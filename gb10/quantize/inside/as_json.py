"""The report for a machine. Keys are kept as they are; new ones may come beside them.

path, container (safetensors, gguf), files [name, bytes], file_bytes, tensor_bytes, parameters, bits_per_weight
layouts, quantized, architecture, made_by, declared (what the metadata says, or null)
formats, kinds, groups    sums: weights, parameters, bytes, bits_per_weight, share; a group is all layers' one weight
kept                      what stayed in 16 bits, with nvfp4_bytes (in NVFP4), read_each_token and why
nvfp4_bytes               of a checkpoint that isn't quantized: with its linear layers in NVFP4; else null
scales, explained         rule multiply or divide, range, an example with the amax that it implies; how others decode
kv_cache                  format (null: not said), scales, explained
warnings [code, text], notes; weights (only when asked for): each weight and its tensors

Sizes are bytes, shares are of tensor_bytes, bits are per weight with its scales; a number that isn't finite is null.
"""

from __future__ import annotations

import math


def as_dict(r, tensors: bool) -> dict:
    out = {
        "path": r.path, "container": r.container, "layouts": r.layouts, "quantized": r.quantized,
        "architecture": r.architecture or None, "made_by": r.made_by or None,
        "files": [{"name": name, "bytes": size} for name, size in r.files.items()],
        "file_bytes": sum(r.files.values()), "tensor_bytes": r.total.bytes, "parameters": r.total.parameters,
        "bits_per_weight": _n(r.total.bits),
        "formats": [{"format": k, **_part(p)} for k, p in r.formats.items()],
        "kinds": [{"kind": k, **_part(p)} for k, p in r.kinds.items()],
        "groups": [{"pattern": g.pattern, **_what(g), **_part(g.sum)} for g in r.rows],
        "kept": [_kept(k) for k in r.kept],
        "nvfp4_bytes": r.nvfp4_bytes,
        "scales": [_scale(s) for s in r.scales],
        "explained": r.explained,
        "kv_cache": {"format": r.kv_cache.format or None, "scales": r.kv_cache.scales,
                     "explained": r.kv_cache.explained},
        "declared": _declared(r.declared) if r.declared else None,
        "warnings": [{"code": code, "text": text} for code, text in r.warnings], "notes": r.notes,
    }
    if tensors:
        out["weights"] = [_weight(w) for w in r.weights]
    return out


def _what(x) -> dict:
    """What a weight, or a group of them, is."""
    return {"kind": x.kind, "format": x.format, "layout": x.layout, "shape": list(x.shape), "block": x.block or None,
            "activations": x.activations or None}


def _part(p) -> dict:
    return {"weights": p.weights, "parameters": p.parameters, "bytes": p.bytes, "bits_per_weight": _n(p.bits),
            "share": _n(p.share)}


def _kept(k) -> dict:
    return {"pattern": k.pattern, "kind": k.kind, "format": k.format, "weights": k.tensors, "parameters": k.parameters,
            "bytes": k.bytes, "share": _n(k.share), "nvfp4_bytes": k.nvfp4_bytes,
            "read_each_token": k.read_each_token, "why": k.why}


def _scale(s) -> dict:
    return {"layout": s.layout, "tensor": s.tensor, "of": s.what, "rule": s.rule, "count": s.count, "low": _n(s.low),
            "high": _n(s.high), "example": {"name": s.name, "value": _n(s.value), "amax": _n(s.amax)},
            "explained": s.explained}


def _declared(d) -> dict:
    return {"method": d.method, "label": d.label or None, "ignored": d.ignored, "mixed": bool(d.layers),
            "formats": [{"weights": w, "activations": a or None} for w, a in d.formats.items()]}


def _weight(w) -> dict:
    parts = [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape), "bytes": t.bytes, "file": t.file}
             for t in w.tensors]
    return {"name": w.name, **_what(w), "parameters": w.parameters, "bytes": w.bytes, "bits_per_weight": _n(w.bits),
            "tensors": parts}


def _n(x: float) -> float | None:
    return x if math.isfinite(x) else None
