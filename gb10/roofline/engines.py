"""Which engine reads which files, and what that means for a request."""

from __future__ import annotations

from gb10.catalog import Machine, NotPublished, WeightFormat, weight_format

ENGINES = {"vllm": "vLLM", "trtllm": "TensorRT-LLM", "llama.cpp": "llama.cpp", "ollama": "Ollama", "sglang": "SGLang"}
_ALIASES = {"tensorrt-llm": "trtllm", "trt-llm": "trtllm", "trt": "trtllm", "llamacpp": "llama.cpp",
            "llama-cpp": "llama.cpp", "llama_cpp": "llama.cpp"}
_GGUF = {"q4_k_m", "q4_0", "q6_k", "q8_0", "gguf-mxfp4", "bf16"}


def engine(name: str) -> str:
    """The engine's name as used here. Raises ValueError with one sentence."""
    wanted = str(name).strip().lower()
    wanted = _ALIASES.get(wanted, wanted)
    if wanted not in ENGINES:
        raise ValueError(f"there is no engine '{name}': take one of {', '.join(ENGINES)}.")
    return wanted


def default_engine(fmt: WeightFormat, machine: Machine | None = None) -> str:
    return "llama.cpp" if fmt.file == "gguf" or (machine and not _nvidia(machine)) else "vllm"


def _nvidia(machine: Machine) -> bool:
    return bool(machine.compute_capability) or machine.name == "this"


def check(fmt: WeightFormat, name: str, kv: str, machine: Machine) -> list[str]:
    """What there is to say about this engine on this machine with this KV cache. Raises NotPublished for what doesn't exist."""
    notes = []
    if not _nvidia(machine) and (name == "trtllm" or (machine.name.startswith("mac") and name not in ("llama.cpp", "ollama"))):
        raise NotPublished(f"{ENGINES[name]} doesn't run on {machine.title}: take llama.cpp or ollama, and a GGUF format.")
    if not _nvidia(machine) and name in ("vllm", "sglang"):
        if fmt.name.startswith("nvfp4"):
            raise NotPublished(f"{ENGINES[name]} has no NVFP4 kernels for {machine.title}: take a machine with an NVIDIA GPU, or GGUF.")
        notes.append(f"{ENGINES[name]} on {machine.title} needs its ROCm build; nothing was measured with it")
    if kv in ("q8_0", "q4_0") and name not in ("llama.cpp", "ollama"):
        raise NotPublished(f"{ENGINES[name]} has no KV cache in {kv}, which is a GGUF type: take fp8 or bf16.")
    if kv in ("fp8", "nvfp4") and name in ("llama.cpp", "ollama"):
        notes.append(f"{ENGINES[name]} has no KV cache in {kv}: q8_0 comes nearest")
    return notes


def settle(fmt: WeightFormat, name: str) -> tuple[WeightFormat, list[str]]:
    """The format that this engine really loads when asked for this one, and what there is to say about it.

    Raises NotPublished where the engine has no way to load it.
    """
    if name == "llama.cpp" and fmt.name == "mxfp4":
        return weight_format("gguf-mxfp4"), [
            "llama.cpp loads GGUF files, where attention and head of gpt-oss are Q8_0: counted as gguf-mxfp4"]
    if name == "llama.cpp" and fmt.name == "nvfp4":
        return fmt, ["NVFP4 in llama.cpp is recent (ggml-org/llama.cpp #19769); no measurement of it is in the catalogue"]
    if name in ("llama.cpp", "ollama") and fmt.name not in _GGUF | {"mxfp4"}:
        raise NotPublished(f"{ENGINES[name]} loads GGUF files, and none has {fmt.name}: take q4_k_m or q8_0, or an engine "
                           "that loads safetensors (vllm, trtllm, sglang).")
    if name == "trtllm" and fmt.file == "gguf":
        raise NotPublished(f"TensorRT-LLM loads no GGUF file: take nvfp4, fp8 or bf16, or llama.cpp for {fmt.name}.")
    if name in ("vllm", "sglang") and fmt.file == "gguf":
        return fmt, [f"GGUF in {ENGINES[name]} is experimental and was not measured: read the figure with care"]
    return fmt, []
