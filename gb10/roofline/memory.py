"""Does it fit? Weights, KV cache and what the engine itself needs, against what the machine can give.

On a machine with unified memory the pool is shared with the system: taking all of it freezes the machine instead of
failing, so a part is kept free. NVIDIA's Spark recipes and the threads about wedged hosts (vllm-project/vllm #46307,
NVIDIA/dgx-spark-playbooks #97 and #116) come to 8 to 10 GiB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gb10.catalog import Machine, Model
from gb10.roofline.traffic import kv_bytes, weight_bytes

GIB = 2**30
# CUDA context, libraries, CUDA graphs and workspaces, in GiB. Assumptions of this course, not published figures; that
# Qwen3-8B in NVFP4 leaves over 30 of 42.6 GiB for the KV cache in vLLM bounds them from above.
RUNTIME_GIB = {"vllm": 2.5, "sglang": 2.5, "trtllm": 3.0, "llama.cpp": 0.7, "ollama": 0.7}
# Tokens of a prompt that are computed at once: vLLM's --max-num-batched-tokens in NVIDIA's Spark recipes; llama.cpp -ub
CHUNK = {"vllm": 8192, "sglang": 8192, "trtllm": 8192, "llama.cpp": 2048, "ollama": 512}
KEEP_FREE = 0.10         # of the pool, for system and headroom: 12.2 GiB on a Spark
KEEP_LEAST = 0.0658      # below this it doesn't fit: 8.0 GiB on a Spark
KEEP_DISCRETE = (0.05, 0.02)      # a card's own memory has no system in it, only the driver


@dataclass(frozen=True)
class Memory:
    """Where the memory goes, in bytes."""

    weights: float
    kv: float
    overhead: float          # engine: runtime, graphs, activations
    available: float         # all that programs can see
    keep_free: float         # what "fits" leaves to the system and as headroom
    keep_least: float        # what it must leave, or it does not fit

    @property
    def needed(self) -> float:
        return self.weights + self.kv + self.overhead

    @property
    def left(self) -> float:
        """What remains for the system, its caches and everybody else; negative when it is over."""
        return self.available - self.needed

    @property
    def verdict(self) -> str:
        """"fits", "tight" or "no"."""
        return "fits" if self.left >= self.keep_free else "tight" if self.left >= self.keep_least else "no"


def activation_bytes(model: Model, engine: str, context: int, batch: int) -> float:
    """Scratch of one forward pass: a chunk of prompt tokens in 16 bit, and the logits of the batch in FP32."""
    tokens = min(CHUNK[engine], max(context * batch, batch, 1))
    return tokens * (8 * model.hidden + model.width) * 2 + batch * model.vocab * 4


def overhead_bytes(model: Model, engine: str, context: int, batch: int) -> float:
    return RUNTIME_GIB[engine] * GIB + activation_bytes(model, engine, context, batch)


def loaded_bytes(model: Model, weights: str) -> float:
    """What the weights take in memory: the files themselves where they are at hand in this format (they hold vision
    towers too), else what the format's rule gives."""
    computed = weight_bytes(model, weights)
    if model.file_bytes and weights == (model.declared or "bf16") and 0.97 < model.file_bytes / computed < 1.5:
        return float(model.file_bytes)
    return computed


def memory(model: Model, weights: str, kv: str, machine: Machine, context: int, batch: int, engine: str) -> Memory:
    keep = KEEP_FREE, KEEP_LEAST
    if not machine.unified:
        keep = KEEP_DISCRETE
    available = machine.memory
    keep_free, keep_least = (min(share * available, share * 121.6 * GIB) for share in keep)
    return Memory(loaded_bytes(model, weights), kv_bytes(model, kv, context, batch),
                  overhead_bytes(model, engine, context, batch), available, keep_free, keep_least)


def _largest(fits: Callable[[int], bool], top: int) -> int:
    """The largest n in 0..top for which fits(n), which is monotone; 0 if not even 1."""
    if not fits(1):
        return 0
    low, high = 1, 2
    while high <= top and fits(high):
        low, high = high, high * 2
    high = min(high, top + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def largest_context(model: Model, weights: str, kv: str, machine: Machine, batch: int, engine: str) -> int:
    """The longest context that still fits (not just tightly) at this batch, at most what the model was made for."""
    return _largest(lambda n: memory(model, weights, kv, machine, n, batch, engine).verdict == "fits",
                    model.max_context or 2**20)


def largest_batch(model: Model, weights: str, kv: str, machine: Machine, context: int, engine: str) -> int:
    """The most sequences of this context that still fit, at most 4096."""
    return _largest(lambda n: memory(model, weights, kv, machine, context, n, engine).verdict == "fits", 4096)
