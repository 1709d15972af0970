"""Where the words of config.json and hf_quant_config.json and the tensors themselves don't agree."""

from __future__ import annotations

from gb10.quantize.inside.declared import Declared, Ignored
from gb10.quantize.inside.kinds import LINEAR
from gb10.quantize.inside.layouts import SIXTEEN, Weight
from gb10.quantize.inside.sniff import show


def agree(weights: list[Weight], config: Declared, separate: Declared,
          ignored: Ignored) -> list[tuple[str, str]]:
    """Warnings (code, sentence); at most one of each code."""
    said = config or separate
    quantized = [w for w in weights if w.format not in SIXTEEN and w.layout not in ("plain", "gguf")]
    if not said:
        return [_undeclared(quantized)] if quantized else []
    out = _two_files(config, separate) if config and separate else []
    if said.formats and not quantized and not any(w.format in said.formats for w in weights):
        label = show(said.label or said.method)
        return [*out, ("not-quantized", f"the metadata says {label}, and no tensor is quantized.")]
    by_layer = {**config.layers, **separate.layers}
    whole = not by_layer and said.everything and said.method in ("modelopt", "compressed-tensors")
    checks = (
        ("format", [w for w in quantized if not _as_said(w, said, by_layer)],
         lambda w: f"is {w.format}, and the metadata says {' or '.join(sorted(_expected(w, said, by_layer)))}"),
        ("ignored-but-quantized", [w for w in quantized if not by_layer and ignored(w.name) is True],
         lambda w: f"is {w.format}, and the metadata lists it among what is left alone"),
        ("listed-but-kept", [w for w in weights if _linear16(w) and (
            w.name in by_layer or (whole and ignored(w.name) is False))],
         lambda w: f"stayed in {w.format}, and the metadata doesn't list it among what is left alone: an engine will "
                   f"look for its scales"),
        ("not-listed", [w for w in quantized if by_layer and w.name not in by_layer and w.kind in LINEAR],
         lambda w: f"is {w.format}, and the metadata's list of quantized layers doesn't name it"),
        ("activations", [w for w in quantized if _input_differs(w, said, by_layer)],
         lambda w: f"has {'an' if w.activations else 'no'} input scale, and the metadata says "
                   f"{'16-bit' if w.activations else 'quantized'} activations"),
        ("group-size", [w for w in quantized if said.block and not by_layer and w.block.isdigit()
                        and int(w.block) != said.block],
         lambda w: f"has one scale for {w.block} weights, and the metadata says {said.block}"),
    )
    for code, odd, text in checks:
        if odd:
            more = f" (and {len(odd) - 1:,} more like it)" if len(odd) > 1 else ""
            out.append((f"metadata-{code}", f"{show(odd[0].name)} {text(odd[0])}{more}."))
    return out


def _undeclared(quantized: list[Weight]) -> tuple[str, str]:
    first = quantized[0]
    return "undeclared", (f"{len(quantized):,} weights are quantized ({show(first.name)} is {first.format}), and no "
                          f"config.json beside them says so: an engine would take the codes for numbers.")


def _as_said(weight: Weight, said: Declared, by_layer: dict) -> bool:
    expected = _expected(weight, said, by_layer)
    return not expected or weight.format in expected


def _expected(weight: Weight, said: Declared, by_layer: dict) -> set[str]:
    if by_layer:
        return {by_layer[weight.name][0]} if weight.name in by_layer else set()
    return set(said.formats)


def _linear16(weight: Weight) -> bool:
    return weight.format in SIXTEEN and len(weight.shape) >= 2 and weight.kind in LINEAR - {"mixer"}


def _input_differs(weight: Weight, said: Declared, by_layer: dict) -> bool:
    """Only ModelOpt's NVFP4 always stores the scale of inputs that it quantizes."""
    if said.method != "modelopt" or weight.format != "NVFP4":
        return False
    whole = ("NVFP4", said.formats.get("NVFP4"))
    weights, expected = by_layer.get(weight.name, ("", None)) if by_layer else whole
    return weights == "NVFP4" and expected is not None and bool(expected) != bool(weight.activations)


def _two_files(config: Declared, separate: Declared) -> list[tuple[str, str]]:
    out = []
    if config.label and separate.label and config.method == "modelopt" and config.label != separate.label:
        out.append(f"quantized as {show(config.label)} in the one and {show(separate.label)} in the other")
    if config.kv_cache != separate.kv_cache:
        out.append(f"the KV cache is {show(config.kv_cache) or 'not mentioned'} in the one and "
                   f"{show(separate.kv_cache) or 'not mentioned'} in the other")
    if config.method == "modelopt" and set(config.ignored) != set(separate.ignored):
        odd = sorted(set(config.ignored) ^ set(separate.ignored))
        out.append(f"only one of them leaves {show(odd[0])} alone")
    if config.method not in ("modelopt", ""):
        out.append(f"config.json says {show(config.method)}, and hf_quant_config.json is ModelOpt's")
    if not out:
        return []
    return [("metadata-two-files", f"config.json and hf_quant_config.json don't agree: {'; '.join(out)}.")]
