"""What config.json and hf_quant_config.json say about the weights, to hold it against the tensors themselves."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from fnmatch import translate

PATIENCE = 1.0                       # seconds spent on matching names against patterns; then no more is said
_WORDS = 200                         # longest pattern that is looked at
# ModelOpt's quant_algo -> (format of the weights, format of the input); "" = 16 bit
ALGORITHMS = {
    "NVFP4": ("NVFP4", "FP4"), "NVFP4_AWQ": ("NVFP4", "FP4"), "NVFP4_SVD": ("NVFP4", "FP4"),
    "W4A16_NVFP4": ("NVFP4", ""),
    "W4A8_NVFP4_FP8": ("NVFP4", "FP8"), "FP8": ("FP8", "FP8"), "FP8_PER_CHANNEL_PER_TOKEN": ("FP8", "FP8"),
    "FP8_PB_WO": ("FP8", ""), "FP8_PB_REAL": ("FP8", "FP8"), "MXFP8": ("MXFP8", "FP8"), "MXFP4": ("MXFP4", ""),
    "W4A8_MXFP4_FP8": ("MXFP4", "FP8"), "W4A16_AWQ": ("INT4", ""), "W4A8_AWQ": ("INT4", "FP8"), "W8A16": ("INT8", ""),
    "W8A8_SQ_PER_CHANNEL": ("INT8", "INT8"),
}


@dataclass
class Declared:
    """One statement about a checkpoint; empty where a file makes none."""

    method: str = ""                 # modelopt, compressed-tensors, fp8, mxfp4, gptq, awq, bitsandbytes, mlx, …
    label: str = ""                  # as the file words it: NVFP4, MIXED_PRECISION, nvfp4-pack-quantized …
    formats: dict[str, str] = field(default_factory=dict)    # weight format -> format of the input ("" = 16 bit)
    layers: dict[str, tuple[str, str]] = field(default_factory=dict)     # module -> (weights, input), mixed precision
    ignored: list[str] = field(default_factory=list)
    everything: bool = True          # are all linear layers meant that `ignored` doesn't name?
    block: int | None = None
    kv_cache: str = ""               # FP8, NVFP4, INT8 …; "" where it says nothing
    producer: str = ""

    def __bool__(self) -> bool:
        return bool(self.method or self.label)


def declared(configs: dict[str, dict]) -> tuple[Declared, Declared]:
    """(what config.json says, what hf_quant_config.json says)."""
    config = configs.get("config.json", {})
    said = config.get("quantization_config") or config.get("compression_config") or _inner(config)
    if not said and isinstance(config.get("quantization"), dict):        # MLX
        said = {"quant_method": "mlx", **config["quantization"]}
    if not said and configs.get("quantize_config.json"):                 # GPTQ and AWQ of 2023
        said = {"quant_method": "gptq", **configs["quantize_config.json"]}
    separate = configs.get("hf_quant_config.json", {})
    body = separate.get("quantization")
    other = {"quant_method": "modelopt", **body, "producer": separate.get("producer")} if isinstance(body, dict) else {}
    return _read(said if isinstance(said, dict) else {}), _read(other)


def _inner(config: dict):
    for key in ("text_config", "llm_config", "language_config"):
        if isinstance(config.get(key), dict) and config[key].get("quantization_config"):
            return config[key]["quantization_config"]
    return None


def _read(q: dict) -> Declared:
    if not q:
        return Declared()
    method = _word(q.get("quant_method")).lower() or ("modelopt" if q.get("quant_algo") else "")
    out = Declared(method=method, label=_word(q.get("quant_algo") or q.get("format")))
    for key in ("ignore", "exclude_modules", "modules_to_not_convert", "ignored_layers"):
        if isinstance(q.get(key), list):
            out.ignored += [p for p in q[key] if isinstance(p, str)]
    producer = q.get("producer")
    if isinstance(producer, dict):
        out.producer = " ".join(filter(None, (_word(producer.get("name")), _word(producer.get("version")))))
    out.kv_cache = _kv(q.get("kv_cache_quant_algo") or q.get("kv_cache_scheme"))
    block = q.get("group_size")
    out.block = block if type(block) is int and block > 0 else None
    layers = q.get("quantized_layers")
    if isinstance(layers, dict):
        for name, how in layers.items():
            algorithm = _word(how.get("quant_algo") if isinstance(how, dict) else how).upper()
            if algorithm in ALGORITHMS:
                out.layers[name] = ALGORITHMS[algorithm]
        out.formats = {w: a for w, a in out.layers.values()}
        return out
    out.formats = _formats(method, q)
    groups = q.get("config_groups")
    targets = [g.get("targets") for g in groups.values() if isinstance(g, dict)] if isinstance(groups, dict) else []
    out.everything = not targets or any(t is None or (isinstance(t, list) and "Linear" in t) for t in targets)
    return out


def _formats(method: str, q: dict) -> dict[str, str]:
    algorithm = _word(q.get("quant_algo")).upper()
    if algorithm in ALGORITHMS:
        return dict([ALGORITHMS[algorithm]])
    bits = q.get("bits") if type(q.get("bits")) is int else 4
    if method == "fp8" or method == "fbgemm_fp8":
        return {"FP8": "FP8"}
    if method == "mxfp4":
        return {"MXFP4": ""}
    if method in ("gptq", "awq", "auto-round", "mlx", "intel/auto-round"):
        return {{"nvfp4": "NVFP4", "mxfp4": "MXFP4"}.get(_word(q.get("mode")), f"INT{bits}"): ""}
    if method == "bitsandbytes":
        kind = _word(q.get("bnb_4bit_quant_type")).upper() or "FP4"
        return {kind: ""} if q.get("load_in_4bit") else {"INT8": "INT8"}
    out: dict[str, str] = {}
    groups = q.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        if isinstance(group, dict) and (name := _args(group.get("weights"))):
            out[name] = _args(group.get("input_activations"), activations=True)
    return out


def _args(args, activations: bool = False) -> str:
    """The format that compressed-tensors' num_bits, type and group_size spell."""
    if not isinstance(args, dict):
        return ""
    kind = args.get("type")
    bits, group = (n if type(n) is int else None for n in (args.get("num_bits"), args.get("group_size")))
    if kind == "int" and bits:
        return f"INT{bits}"
    if kind != "float":
        return ""
    if activations:
        return {4: "FP4", 6: "FP6", 8: "FP8"}.get(bits, "")
    in_blocks = {(4, 32): "MXFP4", (6, 32): "MXFP6", (8, 32): "MXFP8"}.get((bits, group))
    return in_blocks or {4: "NVFP4", 8: "FP8"}.get(bits, "")


def _kv(scheme) -> str:
    if isinstance(scheme, dict):
        return _args(scheme, activations=True)
    word = _word(scheme).upper()
    return "" if word in ("NONE", "AUTO") else word


def _word(value) -> str:
    return value[:60] if isinstance(value, str) else ""


class Ignored:
    """A list of names, globs and re:… patterns, as a question: is this module left alone?

    A file's regular expressions can be made to run for hours: only plain ones are used, on names of usual length
    (`skipped` counts the others), and after `PATIENCE` seconds the answer is None, not known.
    """

    def __init__(self, patterns: list[str]):
        self.exact: set[str] = set()
        self.skipped, self.spent, self.pattern = 0, 0.0, None
        globs: list[str] = []
        expressions = 0
        for pattern in dict.fromkeys(patterns):
            if pattern.startswith("re:"):
                expressions += 1
                if expressions <= 100 and _harmless(pattern[3:]):
                    globs.append(f"(?:{pattern[3:]})")
                else:
                    self.skipped += 1
            elif not re.search(r"[*?\[]", pattern):
                self.exact.add(_short(pattern))
            elif len(pattern) > _WORDS or len(globs) > 2000:
                self.skipped += 1
            else:
                short = _short(pattern)
                globs += [translate(p) for p in ([short, short[:-2]] if short.endswith(".*") else [short])]
        if globs:
            try:
                self.pattern = re.compile("|".join(globs))
            except (re.error, RecursionError, OverflowError):
                self.skipped += len(globs)

    def __call__(self, module: str) -> bool | None:
        """True or False; None where a pattern was skipped or time has run out."""
        short = _short(module)
        if len(short) > _WORDS:
            return None
        parts = short.split(".")
        if parts[-1] in self.exact or any(".".join(parts[:i + 1]) in self.exact for i in range(len(parts))):
            return True
        if self.pattern is not None:
            if self.spent > PATIENCE:
                return None
            start = time.perf_counter()
            hit = self.pattern.match(short) or self.pattern.match(module[-_WORDS:])
            self.spent += time.perf_counter() - start
            if hit:
                return True
        return None if self.skipped else False


def _short(name: str) -> str:
    """Without what engines and exporters put before or leave out: model., language_model."""
    return re.sub(r"\A(?:model\.|language_model\.)+", "", name)


def _harmless(pattern: str) -> bool:
    """A regular expression that can't take long on a short name, and that compiles."""
    plain = re.sub(r"\\[.$^*+?()\[\]{}|/_-]", "", pattern)              # escaped signs are only signs
    if len(pattern) > _WORDS or re.search(r"\)[*+{?]|\\[0-9]|\(\?(?!:)", plain) or len(re.findall(r"[*+{]", plain)) > 3:
        return False
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True
