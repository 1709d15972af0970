"""Where engines listen, and what they call themselves: one list for the notebooks, the commands and the
benchmark.

`owned_by` is what a server writes beside each model of its GET /v1/models. The values stand in the servers'
sources: vllm/entrypoints/openai/.../protocol.py "vllm"; sglang/srt/entrypoints/openai/protocol.py "sglang";
TensorRT-LLM tensorrt_llm/serve/openai_protocol.py "tensorrt_llm"; llama.cpp tools/server/server-context.cpp
"llamacpp". Ollama writes the namespace of the model (openai.go, ToListCompletion): "library" for its own, a
user's name for others.
"""

# In the order in which the notebooks prefer them.
KNOWN = (
    ("TensorRT-LLM", "http://127.0.0.1:8001/v1"),
    ("vLLM", "http://127.0.0.1:8002/v1"),
    ("Ollama", "http://127.0.0.1:11434/v1"),
    ("own", "http://127.0.0.1:8000/v1"),
    ("SGLang", "http://127.0.0.1:30000/v1"),
    ("NIM", "http://127.0.0.1:8003/v1"),
)
MENU = ("Ollama", "TensorRT-LLM", "vLLM")     # 1, 2, 3 of the benchmark's menu

OWNERS = {"vllm": "vLLM", "library": "Ollama", "sglang": "SGLang", "tensorrt_llm": "TensorRT-LLM",
          "llamacpp": "llama.cpp"}
STANDIN_OWNER = "gb10 stand-in"               # begins the owner that the course's stand-in gives
STANDIN = "the stand-in over transformers (not vLLM)"
UNKNOWN = "an OpenAI-compatible server"


def engine_of(owner: str, server: str = "") -> str:
    """The engine that gives this `owned_by`, else the one that sends this Server header (llama.cpp sends its
    name, the others that of their web framework); UNKNOWN if neither tells."""
    if owner.startswith(STANDIN_OWNER):
        return STANDIN
    return OWNERS.get(owner) or ("llama.cpp" if server.strip().lower() == "llama.cpp" else UNKNOWN)
