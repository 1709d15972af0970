"""What each containerised engine is: its place, its variables in compose/, and what it can and can't do."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from gb10.errors import UserError


@dataclass(frozen=True)
class Spec:
    name: str
    title: str
    port: int                       # on this machine; inside, every container listens on 8000
    counts_as: str                  # the engine of gb10.roofline whose runtime is reckoned with
    ready_in: str
    memory: str = ""                # what ENGINE_MEMORY is a share of: "total", "static", "left", or "" for none
    has_key: bool = False           # does it enforce an API key? Only then may it listen beyond this machine
    two_sparks: bool = False        # is there a compose file for two machines?
    kv: dict = field(default_factory=lambda: {"bf16": "auto", "fp8": "fp8"})     # KV cache format: what ENGINE_KV calls it

    @property
    def prefix(self) -> str:
        return self.name.upper()

    @property
    def project(self) -> str:
        return f"gb10-{self.name}"

    @property
    def health(self) -> str:
        return {"ollama": "/api/version", "nim": "/v1/health/ready"}.get(self.name, "/health")

    def file(self, two_sparks: bool = False) -> str:
        """The compose file, from the course's folder."""
        return f"compose/two-sparks/{self.name}.yml" if two_sparks else f"compose/{self.name}.yml"

    def host_port(self, port: int | None = None) -> int:
        """Where it listens on this machine: asked for, else from the environment as compose reads it, else the usual."""
        if port is None:
            text = os.environ.get(f"{self.prefix}_PORT") or str(self.port)
            if not text.isdigit():
                raise UserError(f"{self.prefix}_PORT is {text!r}: it has to be a port's number, {self.port} for instance.")
            port = int(text)
        if not 1024 <= port <= 65535:
            raise UserError(f"port {port} can't be used: take one from 1024 to 65535 ({self.port} is {self.title}'s own).")
        return port


# Ready-in: first load of an 8B and of a 100B-class model as NVIDIA's playbooks have it; compiled kernels are kept after that.
SPECS = {s.name: s for s in (
    Spec("trtllm", "TensorRT-LLM", 8001, "trtllm", "2 to 15 minutes", memory="left"),
    Spec("vllm", "vLLM", 8002, "vllm", "2 to 15 minutes", memory="total", has_key=True, two_sparks=True),
    Spec("ollama", "Ollama", 11434, "ollama", "seconds, and the model's download", kv={"bf16": "f16", "q8_0": "q8_0"}),
    # SGLang takes a key only on its command line, where ps and its log show it (sgl-project/sglang #37457): so none.
    Spec("sglang", "SGLang", 30000, "sglang", "2 to 15 minutes", memory="static", two_sparks=True,
         kv={"bf16": "auto", "fp8": "fp8_e4m3"}),
    Spec("nim", "NIM", 8003, "vllm", "5 to 20 minutes", memory="total", kv={"bf16": ""}),
)}

# Families whose models think, and the parser that takes that out of an answer, by engine; vllm/reasoning/__init__.py (0.32.0),
# tensorrt_llm/llmapi/reasoning_parser.py, sglang/srt/parser/reasoning_parser.py. Of Qwen3 some tunings don't.
_THINKS = {
    "qwen3": {"vllm": "qwen3", "trtllm": "qwen3", "sglang": "qwen3"},
    "deepseek-r1": {"vllm": "deepseek_r1", "trtllm": "deepseek-r1", "sglang": "deepseek-r1"},
    "deepseek-v3": {"vllm": "deepseek_r1", "trtllm": "deepseek-r1", "sglang": "deepseek-r1"},
    "nemotron-3": {"vllm": "nemotron_v3", "trtllm": "nano-v3", "sglang": "nano_v3"},
    "gpt-oss": {"vllm": "openai_gptoss", "sglang": "gpt-oss"},
}
_DOES_NOT = re.compile(r"qwen3.*(instruct|coder|next)")


def spec(engine: str) -> Spec:
    """The engine of this name. Raises UserError."""
    if engine not in SPECS:
        raise UserError(f"there is no engine '{engine}': take one of {', '.join(SPECS)}.")
    return SPECS[engine]


def reasoning_parser(names: tuple[str, ...], engine: str) -> str:
    """The engine's parser for a model's thinking; "" (none) where it doesn't think. names: the most telling one first."""
    for name in map(str.lower, names):
        if family := next((f for f in _THINKS if f in name), None):
            return "" if _DOES_NOT.search(name) else _THINKS[family].get(engine, "")
    return ""
