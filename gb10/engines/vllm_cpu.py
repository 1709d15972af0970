"""How vLLM is run on a CPU: its command, its environment, and the memory that takes.

Each setting that differs from vLLM's default is here for a reason, given beside it. Tried with vLLM 0.32.0.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from gb10.engines.model import Model
from gb10.engines.vllm_env import python
from gb10.paths import VENV_VLLM

GIB = 2**30
NAME = "vllm"
READY_IN = "about 15 to 25 s"
RUNTIME_BYTES = int(2.0e9)      # vLLM itself: two processes with Python, torch and its kernels, without KV cache
CONTEXT = 2048
SEQUENCES = 8
SMALL = 50_000_000              # parameters up to which one thread and float32 are the faster choice


def dtype(model: Model) -> str:
    """float32 for a small model: the text is then that of plain float32 arithmetic, token for token, with BF16 weights,
    and near it with NVFP4, where bfloat16 between the layers would blur the 4-bit rounding (see the plugin). bfloat16 for
    a large one: half the bytes to read per token."""
    return "float32" if model.quantization in (None, "nvfp4") and model.parameters <= SMALL else "bfloat16"


def context(model: Model, wanted: int | None) -> int:
    return min(wanted or CONTEXT, model.max_length)


def kv_gib(model: Model, length: int, kind: str) -> int:
    """KV cache in whole GiB (vLLM takes no fraction): SEQUENCES requests at full length, but 1 to 8 GiB, and never
    less than one request needs."""
    one = model.kv_bytes_per_token * (2 if kind == "float32" else 1) * length
    return max(1, min(8, math.ceil(SEQUENCES * one / GIB)), math.ceil(one / GIB))


def needs(model: Model, length: int, kind: str) -> dict[str, int]:
    """Bytes by purpose. NVFP4 weights lie in memory decoded (see the plugin): as many bytes as those of a BF16 model."""
    weights = model.parameters * (4 if kind == "float32" else 2) if model.quantization in (None, "nvfp4") else model.weight_bytes
    return {"weights": weights, "KV cache": kv_gib(model, length, kind) * GIB, "vLLM itself": RUNTIME_BYTES}


def command(model: Model, name: str, port: int, length: int, kind: str) -> list[str]:
    return [
        str(python()), "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(model.path), "--served-model-name", name,
        "--host", "127.0.0.1", "--port", str(port),
        "--dtype", kind,
        "--max-model-len", str(length), "--max-num-seqs", str(SEQUENCES),
        "--enforce-eager",                  # compiling would take 50 s of the start
        "--generation-config", "vllm",      # the checkpoint's generation_config.json must not change defaults unseen
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
        # A weak model could else fill a JSON answer with blanks.
        "--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}',
    ]


def environment(model: Model, length: int, kind: str) -> dict[str, str]:
    threads = 1 if model.parameters <= SMALL else max(1, len(os.sched_getaffinity(0)))
    return {
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",         # the model is on disk: ask nobody
        "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "VLLM_TARGET_DEVICE": "cpu",                                # also on a machine with a GPU
        "VLLM_CPU_KVCACHE_SPACE": str(kv_gib(model, length, kind)),
        # Threads pinned to cores stall as soon as something else wants those cores.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads),
        "TORCHDYNAMO_DISABLE": "1",                                 # else the first logprobs take 19 s
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",                      # one process less
        "VLLM_CACHE_ROOT": str(VENV_VLLM / "cache"), "VLLM_CONFIG_ROOT": str(VENV_VLLM / "config"),
    }


# What the log says -> where the start has got to.
PHASES = (
    (re.compile(r"Initializing a V1 LLM engine"), "loading the weights"),
    (re.compile(r"KV cache size"), "warming up"),
    (re.compile(r"Starting vLLM server"), "opening the port"),
    (re.compile(r"version \d"), "reading the model's configuration"),
)

CAUSES = {
    r"[Aa]ddress already in use": "another program took the port meanwhile.",
    r"Model architectures \[?'?(\w+)'?\]? .*not supported": "vLLM does not know the architecture {0}.",
    r"(No module named '[^']+')": "its installation is not whole ({0}): ./course up --repair mends it.",
    r"[Oo]ut of memory|Cannot allocate memory|MemoryError|std::bad_alloc":
        "memory ran out: close other programs, or serve a smaller model.",
}


def cause(log: Path) -> str | None:
    """Why it ended, from its log: a known cause as a sentence, else the last exception's line, else None."""
    text = log.read_text(errors="replace") if log.exists() else ""
    for pattern, sentence in CAUSES.items():
        if m := re.search(pattern, text):
            return sentence.format(*m.groups())
    # The root cause comes first: what follows are processes that failed because of it.
    # (A warning about the limit on open files names an OSError too, and ends nothing.)
    errors = [e for e in re.findall(r"((?:[\w.]+\.)?\w*(?:Error|Exception)\b: .+)", text) if "[Errno 24]" not in e]
    return errors[0].strip()[:400] if errors else None
