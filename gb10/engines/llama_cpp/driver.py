"""Runs llama.cpp's own Python: `driver.py convert FOLDER …` and `driver.py dequantize FILE.gguf OUT.safetensors`.

Started by converter.py with llama.cpp's tree on the path; it imports nothing of the course. Two things differ from calling
convert_hf_to_gguf.py directly. A tokenizer that it doesn't know is taken for Qwen2's where it cuts text with Qwen2's pattern:
the script knows tokenizers by a hash of what they give, so that every newly trained vocabulary is unknown to it. And code that
a model brings along is never run.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

# Qwen2's pattern, as in its tokenizer.json and in llama.cpp's src/llama-vocab.cpp
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

# llama.cpp's names for the tensors of a Qwen3, and those of transformers
NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
         "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj",
         "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def pattern(folder: Path) -> str | None:
    """The regular expression by which a tokenizer cuts text first; None where tokenizer.json has none."""
    try:
        first = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["pre_tokenizer"]
        steps = first.get("pretokenizers", [first])
        return next(s["pattern"]["Regex"] for s in steps if s.get("type") == "Split")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None


def renamed(name: str) -> str:
    """transformers' name of a tensor of a Qwen3 GGUF. Raises ValueError for one that it hasn't."""
    stem, _, part = name.rpartition(".")
    if part == "weight" and stem in NAMES:
        return f"{NAMES[stem]}.weight"
    m = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
    if part == "weight" and m and m[2] in LAYER:
        return f"model.layers.{m[1]}.{LAYER[m[2]]}.weight"
    raise ValueError(f"no tensor of a Qwen3 is called {name}")


def convert(arguments: list[str]) -> None:
    from transformers import AutoTokenizer

    load = AutoTokenizer.from_pretrained
    AutoTokenizer.from_pretrained = lambda *a, **k: load(*a, **k | {"trust_remote_code": False})
    _without_sentencepiece()
    import convert_hf_to_gguf
    from conversion.base import TextModel

    ask = TextModel.get_vocab_base_pre

    def known(self, tokenizer):
        if pattern(Path(self.dir_model)) == QWEN2:
            return "qwen2"
        return ask(self, tokenizer)

    TextModel.get_vocab_base_pre = known
    sys.argv = ["convert_hf_to_gguf.py", *arguments]
    convert_hf_to_gguf.main()


def _without_sentencepiece() -> None:
    """The script imports sentencepiece before it looks whether the tokenizer is of that kind; the course doesn't install it."""
    try:
        import sentencepiece  # noqa: F401
    except ImportError:
        from types import ModuleType

        class SentencePieceProcessor:
            def __init__(self, *_, **__):
                sys.exit("this model's tokenizer is a SentencePiece model: install sentencepiece to convert it")

        module = ModuleType("sentencepiece")
        module.SentencePieceProcessor = SentencePieceProcessor
        sys.modules["sentencepiece"] = module


def dequantize(source: str, target: str) -> None:
    import numpy as np
    from gguf import GGUFReader
    from gguf.quants import dequantize as numbers
    from safetensors.numpy import save_file

    reader = GGUFReader(source)
    architecture = reader.get_field("general.architecture").contents()
    if architecture != "qwen3":
        sys.exit(f"this reads GGUF files of Qwen3 models, and this one is {architecture}")
    tensors, kinds = {}, {}
    for t in reader.tensors:
        shape = [int(n) for n in reversed(t.shape)]                 # GGUF lists the fastest dimension first
        tensors[renamed(t.name)] = np.ascontiguousarray(numbers(t.data, t.tensor_type).astype(np.float32).reshape(shape))
        kinds[renamed(t.name)] = t.tensor_type.name
    save_file(tensors, target, metadata={"kinds": json.dumps(kinds)})


if __name__ == "__main__":
    {"convert": lambda a: convert(a), "dequantize": lambda a: dequantize(*a)}[sys.argv[1]](sys.argv[2:])
