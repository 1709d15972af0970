"""Whom the audit compares: two servers that are up and serve the same model, one from a GGUF file and one in NVFP4."""

from __future__ import annotations

import re
from dataclasses import dataclass

GGUF, NVFP4 = ("Ollama", "llama.cpp"), ("TensorRT-LLM", "vLLM", "SGLang")
# what in a model's name says how it is stored, or that it is the one to chat with, and not which model it is
_QUANT = re.compile(r"(?<![a-z0-9])(nvfp4|fp4|gguf|bf16|fp16|f16|i?q\d(_[a-z0-9]+)*)(?![a-z0-9])")
_USE = {"instruct", "it", "chat", "latest", "hf", "meta"}


@dataclass(frozen=True)
class Side:
    """One server in the audit."""

    engine: str
    url: str
    model: str
    format: str                  # "NVFP4", "Q4_K_M", "BF16"

    @property
    def title(self) -> str:
        return f"{self.format} in {self.engine}"


def side(server, format: str) -> Side:
    """The side that a server makes which this notebook started itself (gb10.engines.Server)."""
    return Side(server.title, server.url, server.model, format)


def base(name: str) -> frozenset[str]:
    """Which model a name means, whoever serves it: "qwen3:8b" and "nvidia/Qwen3-8B-NVFP4" mean the same."""
    bare = _QUANT.sub("", name.rpartition("/")[2].lower())
    return frozenset(re.findall(r"\d+(?:\.\d+)?[a-z]?|[a-z]+", bare)) - _USE


def is_nvfp4(name: str) -> bool:
    return bool(re.search(r"(?i)nvfp4|(?<![a-z])fp4", name))


def pick(found: list[dict]) -> tuple[Side, Side] | None:
    """(GGUF side, NVFP4 side) among what gb10.engines.find.running() gives; None where no two serve the same model.

    A server that doesn't say NVFP4 in the model's name is not taken for one, and Ollama's tags are Q4_K_M unless they
    name another format.
    """
    left = [(e, m) for kind in GGUF for e in found if e["engine"] == kind for m in e["models"]]
    right = [(e, m) for kind in NVFP4 for e in found if e["engine"] == kind for m in e["models"] if is_nvfp4(m)]
    for e, m in right:
        for f, n in left:
            if base(m) == base(n) and base(m):
                kind = re.search(r"(?i)(q\d\w*|iq\d\w*|bf16|f16|fp16)$", n)
                return (Side(f["engine"], f["url"], n, kind[1].upper() if kind else "Q4_K_M"), Side(e["engine"], e["url"], m, "NVFP4"))
    return None
