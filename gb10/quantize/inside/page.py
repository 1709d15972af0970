"""The report for people: at most 100 columns, every name from a file made harmless for the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from textwrap import wrap

from gb10.quantize.inside.kinds import TITLES
from gb10.quantize.inside.rows import Part, Row
from gb10.quantize.inside.scales import plain
from gb10.quantize.inside.sniff import show

WIDTH = 100
ROWS, KEPT = 40, 6                   # lines of a table before the rest is summed up
_LAYOUTS = {
    "plain": "plain tensors", "modelopt": "ModelOpt's layout", "compressed-tensors": "compressed-tensors",
    "gpt-oss": "MXFP4 as gpt-oss has it", "deepseek": "FP8 in blocks as DeepSeek has it", "gptq": "GPTQ", "awq": "AWQ",
    "gguf": "GGUF", "bitsandbytes": "bitsandbytes", "mlx": "MLX", "scaled": "weights with a scale", "fp8": "FP8 of Hugging Face",
}
_INPUTS = {"": "A16", "FP4": "A4", "FP6": "A6", "FP8": "A8", "INT8": "A8", "INT4": "A4"}
_WIDTHS = {"NVFP4": "W4", "MXFP4": "W4", "MXFP6": "W6", "FP8": "W8", "MXFP8": "W8", "INT8": "W8", "INT4": "W4"}


def page(r, colour: bool = False, tensors: bool = False) -> list[str]:
    """A Report as lines; with tensors a line for each weight instead of one for all layers."""
    kinds = {TITLES[k]: p for k, p in r.kinds.items()}
    out = [*_title(r), "", *_sums("format", r.formats), "", *_sums("part", kinds), ""]
    out += _each(r) if tensors else _table(r.rows)
    if r.kept:
        out += ["", *_kept(r)]
    if r.nvfp4_bytes is not None and r.total.bytes:
        out += ["", (f"Nothing is quantized. With its linear layers in NVFP4 it would take {size(r.nvfp4_bytes)}, "
                    f"{100 * r.nvfp4_bytes / r.total.bytes:.0f} % of this.")]
    if r.scales or r.explained:
        out += ["", *_scales(r)]
    out += ["", *_wrapped(f"KV cache: {show(r.kv_cache.explained, 300)}", "", "  ")]
    for note in r.notes:
        out += _wrapped(f"Note: {note}", "", "  ")
    if r.warnings:
        out.append("")
    for code, text in r.warnings:
        lines = _wrapped(f"Warning ({code}): {text}", "", "  ")
        out += [f"\033[33m{line}\033[0m" for line in lines] if colour else lines
    return out


def size(n: float) -> str:
    return f"{n / 1e9:.2f} GB" if n >= 5e7 else f"{n / 1e6:.2f} MB" if n >= 1e4 else f"{n:,.0f} bytes"


def count(n: int) -> str:
    return f"{n / 1e9:.2f} billion" if n >= 1e8 else f"{n / 1e6:.2f} million" if n >= 1e4 else f"{n:,}"


def format_of(format_: str, activations: str) -> str:
    """NVFP4 W4A4: what the weights are and what the input is rounded to."""
    return f"{format_} {_WIDTHS[format_]}{_INPUTS.get(activations, 'A16')}" if format_ in _WIDTHS else format_


def _title(r) -> Iterator[str]:
    made = ", ".join(filter(None, (show(r.architecture), show(r.made_by))))
    name = os.path.basename(os.path.normpath(r.path)) or r.path
    yield f"{show(name, 60)}" + (f": {made}" if made else "")
    files = f"{len(r.files)} {'GGUF' if r.container == 'gguf' else 'safetensors'} file{'s' if len(r.files) > 1 else ''}"
    layouts = ", ".join(_LAYOUTS.get(k, show(k, 30)) for k in r.layouts)
    t = r.total
    yield f"{count(t.parameters)} parameters in {size(t.bytes)}: {t.bits:.2f} bits per weight ({layouts}, {files})"


def _sums(title: str, parts: dict[str, Part]) -> Iterator[str]:
    yield f"  {title:<30}{'tensors':>9}{'parameters':>16}{'size':>13}{'share':>9}{'bits':>8}"
    for name, p in parts.items():
        yield (f"  {show(name, 29):<30}{p.weights:>9,}{count(p.parameters):>16}{size(p.bytes):>13}"
               f"{100 * p.share:>7.1f} %{p.bits:>8.2f}")


def _table(rows: list[Row]) -> Iterator[str]:
    by_size = sorted(range(len(rows)), key=lambda i: -rows[i].sum.bytes)
    most = len(rows) if len(rows) <= ROWS else ROWS - 1
    shown = [rows[i] for i in sorted(by_size[:most])]
    yield from _head()
    for row in shown:
        shape = f"{row.sum.weights:,} x {_shape(row.shape)}"
        yield _line(row.pattern, format_of(row.format, row.activations), shape, row.sum)
    if rest := [rows[i] for i in by_size[most:]]:
        yield f"  … and {len(rest)} smaller kinds, {size(sum(r.sum.bytes for r in rest))} (--tensors lists all)"


def _each(r) -> Iterator[str]:
    yield from _head()
    for w in r.weights:
        part = Part(1, w.parameters, w.bytes, 0.0)
        yield _line(w.name, format_of(w.format, w.activations), _shape(w.shape), part)


def _head() -> Iterator[str]:
    yield f"  {'weight':<44}{'format':<13}{'shape':<23}{'size':>9}{'bits':>7}"


def _line(name: str, what: str, shape: str, part: Part) -> str:
    return f"  {show(name, 43):<44}{what[:12]:<13}{show(shape, 22):<23}{_short(part.bytes):>9}{part.bits:>7.2f}"


def _short(n: int) -> str:
    return f"{n / 1e9:.2f} GB" if n >= 5e7 else f"{n / 1e6:.2f} MB" if n >= 1e4 else f"{n:,} B"


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _kept(r) -> Iterator[str]:
    total = sum(k.bytes for k in r.kept)
    yield f"Stayed in 16 or 32 bits: {size(total)}, {100 * total / (r.total.bytes or 1):.0f} % of the file"
    for k in r.kept[:KEPT]:
        if k.share < 0.001 and k is not r.kept[0]:
            break
        reads = "" if k.read_each_token else "; not read whole for a token"
        share = f"{size(k.bytes)} ({100 * k.share:.1f} %)"
        yield f"  {show(k.pattern, 50)}, {TITLES[k.kind]}: {k.tensors:,} in {k.format}, {share}"
        cost = f"; in NVFP4: {size(k.nvfp4_bytes)}" if k.share >= 0.01 else ""
        yield from _wrapped(f"{k.why}{cost}{reads}", "      ", "      ")


def _scales(r) -> Iterator[str]:
    yield "Scales"
    for s in sorted(r.scales, key=lambda s: (s.what != "weight", s.layout, s.tensor)):
        yield f"  {s.tensor} ({s.count:,} numbers from {plain(s.low)} to {plain(s.high)}), of the {s.what}"
        yield from _wrapped(f"{s.explained} (the number of {show(s.name, 70)})", "      ", "      ")
    for text in r.explained:
        yield from _wrapped(text, "  ", "      ")


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
