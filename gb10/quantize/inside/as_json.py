"""The report for a machine. Keys are kept as they are; new ones may come beside them.

A number that isn't finite becomes null. Sizes are bytes, shares are of all bytes of the tensors, bits are per weight
with its scales.
"""

from __future__ import annotations

import math


def as_dict(r, tensors: bool) -> dict:
    d = r.declared
    out = {
        "path": r.path, "container": r.container, "layouts": r.layouts, "quantized": r.quantized,
        "architecture": r.architecture or None, "made_by": r.made_by or None,
        "files": [{"name": name, "bytes": size} for name, size in r.files.items()],
        "file_bytes": sum(r.files.values()), "tensor_bytes": r.total.bytes, "parameters": r.total.parameters,
        "bits_per_weight": _n(r.total.bits),
        "formats": [{"format": k, **_part(p)} for k, p in r.formats.items()],
        "kinds": [{"kind": k, **_part(p)} for k, p in r.kinds.items()],
        "groups": [{"pattern": g.pattern, "kind": g.kind, "format": g.format, "layout": g.layout, "shape": list(g.shape),
                    "block": g.block or None, "activations": g.activations or None, **_part(g.sum)} for g in r.rows],
        "kept": [{"pattern": k.pattern, "kind": k.kind, "format": k.format, "weights": k.tensors, "parameters": k.parameters,
                  "bytes": k.bytes, "share": _n(k.share), "nvfp4_bytes": k.nvfp4_bytes, "read_each_token": k.read_each_token,
                  "why": k.why} for k in r.kept],
        "nvfp4_bytes": r.nvfp4_bytes,
        "scales": [{"layout": s.layout, "tensor": s.tensor, "of": s.what, "rule": s.rule, "count": s.count, "low": _n(s.low),
                    "high": _n(s.high), "example": {"name": s.name, "value": _n(s.value), "amax": _n(s.amax)},
                    "explained": s.explained} for s in r.scales],
        "explained": r.explained,
        "kv_cache": {"format": r.kv_cache.format or None, "scales": r.kv_cache.scales, "explained": r.kv_cache.explained},
        "declared": {"method": d.method, "label": d.label or None, "formats": [
            {"weights": w, "activations": a or None} for w, a in d.formats.items()], "ignored": d.ignored,
            "mixed": bool(d.layers)} if d else None,
        "warnings": [{"code": code, "text": text} for code, text in r.warnings], "notes": r.notes,
    }
    if tensors:
        out["weights"] = [{"name": w.name, "kind": w.kind, "format": w.format, "layout": w.layout, "shape": list(w.shape),
                           "parameters": w.parameters, "bytes": w.bytes, "bits_per_weight": _n(w.bits), "block": w.block or None,
                           "activations": w.activations or None, "tensors": [
                               {"name": t.name, "dtype": t.dtype, "shape": list(t.shape), "bytes": t.bytes, "file": t.file}
                               for t in w.tensors]} for w in r.weights]
    return out


def _part(p) -> dict:
    return {"weights": p.weights, "parameters": p.parameters, "bytes": p.bytes, "bits_per_weight": _n(p.bits), "share": _n(p.share)}


def _n(x: float) -> float | None:
    return x if math.isfinite(x) else None
