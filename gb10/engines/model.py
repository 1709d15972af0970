"""Look at a model folder before an engine does: is it whole, how large, which number format, how much KV cache.

Reads config.json and the headers of the safetensors files (a few kB), never a tensor. Everything that an engine
would stumble over after twenty seconds is refused here at once, in one sentence.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from gb10.errors import UserError

HUB_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_BYTES = {"F64": 8, "F32": 4, "I64": 8, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1,
          "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True)
class Model:
    """What an engine needs to know. Sizes in bytes, `kv_bytes_per_token` for 2-byte keys and values."""

    path: Path
    architecture: str
    weight_bytes: int
    parameters: int                 # elements that are weights; packed 4-bit ones counted as two per byte
    quantization: str | None        # "nvfp4", another method's name, or None
    max_length: int
    kv_bytes_per_token: int
    config: dict = field(repr=False, default_factory=dict)

    @property
    def is_nvfp4(self) -> bool:
        return self.quantization == "nvfp4"


def look(folder: str | Path) -> Model:
    """Describe a model folder. Raises UserError with one sentence where no engine could serve it."""
    path = Path(folder).expanduser()
    if not path.exists():
        raise UserError(f"there is no model folder {path}.")
    if not path.is_dir():
        kind = "a GGUF file, which llama.cpp and Ollama serve" if path.suffix == ".gguf" else "a file"
        raise UserError(f"{path} is {kind}: give the folder that holds config.json and *.safetensors.")
    path = path.resolve()
    config = _config(path)
    shapes = {}
    for file in _weight_files(path):
        shapes |= header(file)
    if not shapes:
        raise UserError(f"{path}: its safetensors files hold no tensor.")
    _tokenizer(path)
    quantization = _quantization(path, config)
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    return Model(
        path=path,
        architecture=(config.get("architectures") or [config.get("model_type", "unknown")])[0],
        weight_bytes=sum(_BYTES.get(dtype, 1) * math.prod(shape) for dtype, shape in shapes.values()),
        parameters=_parameters(shapes),
        quantization=quantization,
        max_length=_int(text, "max_position_embeddings", 2048),
        kv_bytes_per_token=_kv_bytes(text),
        config=config,
    )


def _config(path: Path) -> dict:
    file = path / "config.json"
    if not file.exists():
        inner = next((p.parent for p in sorted(path.glob("*/config.json"))), None)
        hint = f" Did you mean {inner}?" if inner else ""
        raise UserError(f"{path} is not a model folder: it has no config.json.{hint}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as e:
        raise UserError(f"{file} can't be read as JSON ({e}): fetch or export the model again.") from None
    if not isinstance(config, dict) or not (config.get("model_type") or config.get("architectures")):
        raise UserError(f"{file} does not describe a model: it names neither model_type nor architectures.")
    return config


def _weight_files(path: Path) -> list[Path]:
    index = path / "model.safetensors.index.json"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            files = [path / Path(n).name for n in names]
        except (ValueError, KeyError, AttributeError, TypeError):
            raise UserError(f"{index} can't be read: fetch or export the model again.") from None
        if missing := [f.name for f in files if not f.exists()]:
            raise UserError(f"{path}: {missing[0]} is missing ({len(files) - len(missing)} of {len(files)} weight files "
                            f"are there): the download or export was not finished.")
        return files
    if files := sorted(path.glob("*.safetensors")):
        return files
    if pickles := sorted(p.name for p in path.iterdir() if p.suffix in _PICKLES):
        raise UserError(f"{path} holds pickled weights ({pickles[0]}), which can run code when they are loaded: the "
                        f"course loads safetensors only. Convert them on a machine where you trust their source.")
    raise UserError(f"{path} is not a model folder: config.json is there, the weights (*.safetensors) are not.")


def header(file: Path) -> dict[str, tuple[str, list[int]]]:
    """tensor name -> (dtype, shape) from a safetensors header, the file's length checked against it."""
    size = file.stat().st_size
    try:
        with open(file, "rb") as f:
            start = f.read(8)
            if (start + f.read(32)).startswith(b"version https://git-lfs"):
                raise UserError(f"{file} is a Git LFS pointer, not the weights: run `git lfs pull` there.")
            f.seek(8)
            length = int.from_bytes(start, "little")
            if size < 8 or length > size - 8:
                raise ValueError
            entries = json.loads(f.read(length))
        entries.pop("__metadata__", None)
        end = max((e["data_offsets"][1] for e in entries.values()), default=0)
        shapes = {name: (e["dtype"], e["shape"]) for name, e in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise UserError(f"{file} is not a whole safetensors file ({size} bytes): fetch or export it again.") from None
    if size != 8 + length + end:
        what = "truncated" if size < 8 + length + end else "longer than its header says"
        raise UserError(f"{file} is {what}: {size} bytes instead of {8 + length + end}. Fetch or export it again.")
    return shapes


def _tokenizer(path: Path) -> None:
    if not any((path / n).exists() for n in ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")):
        raise UserError(f"{path} has no tokenizer (tokenizer.json): save it beside the model with "
                        f"tokenizer.save_pretrained(folder).")


def _quantization(path: Path, config: dict) -> str | None:
    """"nvfp4" for ModelOpt's and compressed-tensors' NVFP4, else the method named in the checkpoint, else None."""
    found = config.get("quantization_config")
    file = path / "hf_quant_config.json"
    if not found and file.exists():
        try:
            found = json.loads(file.read_text()).get("quantization")
        except (ValueError, OSError, AttributeError):
            raise UserError(f"{file} can't be read as JSON: export the checkpoint again.") from None
    if not isinstance(found, dict):
        return None
    text = json.dumps(found).lower()
    if "nvfp4" in text:
        return "nvfp4"
    return str(found.get("quant_method") or found.get("quant_algo") or "unknown").lower()


def _parameters(shapes: dict) -> int:
    total = 0
    for name, (dtype, shape) in shapes.items():
        if name.endswith(("_scale", "_scale_2", "_global_scale", "scales", "scale_inv")):
            continue
        total += math.prod(shape) * (2 if dtype == "U8" else 1)
    return total


def _int(config: dict, name: str, default: int) -> int:
    value = config.get(name)
    return value if isinstance(value, int) and value > 0 else default


def _kv_bytes(text: dict) -> int:
    """Keys and values of one token over all layers, 2 bytes each: 2 * layers * kv_heads * head_dim * 2."""
    heads = _int(text, "num_attention_heads", 1)
    head_dim = _int(text, "head_dim", _int(text, "hidden_size", heads) // heads)
    return 2 * _int(text, "num_hidden_layers", 1) * _int(text, "num_key_value_heads", heads) * head_dim * 2
