"""What an engine takes of a machine's memory, and how many users of how long a context that leaves room for.

The figures are those of ./course fit (gb10.roofline.memory). On unified memory the pool is the system's, too: what would
leave it less than it needs is refused before anything is started, because over-committing a Spark doesn't fail, it
freezes (vllm-project/vllm #46307, NVIDIA/dgx-spark-playbooks #97, #116).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gb10.catalog import Machine, Model, kv_format
from gb10.errors import UserError
from gb10.roofline.memory import GIB, Memory, memory
from gb10.roofline.traffic import state_bytes

CONTEXT, USERS = 16384, 8
# Tried in this order where the reader didn't say: first fewer at once, then shorter.
LADDER = ((8, 16384), (4, 16384), (2, 16384), (1, 16384), (1, 8192), (1, 4096), (1, 2048), (1, 1024))
BLOCK, CHUNK = 64, 8192     # tokens: the largest cache block of these engines (TensorRT-LLM's 32, vLLM's 16), and a prefill chunk
STAGING = 4 * GIB       # of the system's memory, for a load: buffers, processes, tokenizers. An allowance, not measured


@dataclass(frozen=True)
class Budget:
    """Bytes on one machine."""

    users: int
    context: int
    memory: Memory
    available: float        # what is free for it: all that programs can see, or what this machine has left now
    total: float            # the whole pool, of which engines take their share
    unified: bool           # the pool is the system's, too

    @property
    def needed(self) -> float:
        return self.memory.needed

    @property
    def left(self) -> float:
        return self.available - self.needed

    @property
    def verdict(self) -> str:
        """"fits", "tight" (the system is left less than it likes) or "no"."""
        return "fits" if self.left >= self.memory.keep_free else "tight" if self.left >= self.memory.keep_least else "no"

    @property
    def ceiling(self) -> float:
        """The most that any setting may promise to the engine."""
        return self.available - self.memory.keep_least

    def share(self, of: str) -> float:
        """The engine's own memory setting, rounded up to a hundredth, never beyond the ceiling.

        "total": vLLM's --gpu-memory-utilization, everything it holds over the whole pool. "static": SGLang's
        --mem-fraction-static, weights and KV cache over the whole pool. "left": TensorRT-LLM's free_gpu_memory_fraction,
        of what is free once the weights are loaded. There it is the ceiling itself: page cache makes "free" look small, and the
        cache's size is said in tokens beside it.
        """
        m = self.memory
        part, most, whole = {"total": (m.needed, self.ceiling, self.total),
                             "static": (m.weights + m.kv, self.ceiling - m.overhead, self.total),
                             "left": (math.inf, self.ceiling - m.weights - m.overhead, self.available - m.weights - m.overhead)}[of]
        return max(0.01, min(math.ceil(100 * part / whole) / 100 if part < whole else 1, math.floor(100 * most / whole) / 100))

    @property
    def limit_gib(self) -> int:
        """For the container: all it should hold however the kernel counts a GPU's part of unified memory."""
        return max(1, min(math.ceil((self.needed * 1.05 + STAGING) / GIB), math.floor(self.ceiling / GIB)))

    def parts(self) -> dict[str, int]:
        return {"weights": round(self.memory.weights), "KV cache": round(self.memory.kv), "engine": round(self.memory.overhead)}

    def __str__(self) -> str:
        what = " + ".join(f"{name} {size / GIB:.1f}" for name, size in self.parts().items())
        return f"{self.needed / GIB:.1f} GiB ({what}) of {self.available / GIB:.1f} GiB"


def budget(model: Model, weights: str, kv: str, machine: Machine, engine: str, *, users: int | None = None,
           context: int | None = None, available: float | None = None, machines: int = 1) -> Budget:
    """The largest of the ladder that fits, else the largest that is tight; what the reader gave is kept.

    available: bytes free for it now; None: all that programs can see. machines: two Sparks hold half each.
    Raises UserError, with the figures, if not even the smallest can be had.
    """
    total = machine.memory
    free = total if available is None else available
    steps = tuple(dict.fromkeys((users or u, min(context or c, model.max_context or c)) for u, c in LADDER))
    tried = [Budget(u, c, _on_each(model, weights, kv, machine, c, u, engine, machines), free, total, machine.unified) for u, c in steps]
    for verdict in ("fits", "tight"):
        if found := next((b for b in tried if b.verdict == verdict), None):
            return found
    raise UserError(_too_large(model, weights, machine, tried[-1], available is not None, machines))


def cache_tokens(context: int) -> int:
    """What a sequence of this length takes of a cache that is handed out in blocks: whole ones, and one to spare."""
    return (math.ceil(context / BLOCK) + 1) * BLOCK


def cache_bytes(model: Model, kv: str, context: int, users: int) -> float:
    """The cache that an engine has to be given, or it refuses to start: whole blocks, and layers with a sliding window keep a
    prefill chunk beside the window (vllm/v1/kv_cache_interface.py, SlidingWindowSpec)."""
    length = cache_tokens(context)
    elements = sum(c.layers * c.elements * (length if c.window is None else min(c.window + CHUNK + BLOCK, length)) for c in model.caches)
    return users * (elements * kv_format(kv).bits / 8 + state_bytes(model))


def _on_each(model: Model, weights: str, kv: str, machine: Machine, context: int, users: int, engine: str, machines: int) -> Memory:
    """Tensor parallelism splits weights and KV cache; each machine runs an engine of its own."""
    m = memory(model, weights, kv, machine, context, users, engine)
    return replace(m, weights=m.weights / machines, kv=cache_bytes(model, kv, context, users) / machines)


def _too_large(model: Model, weights: str, machine: Machine, b: Budget, now: bool, machines: int) -> str:
    whose = "are free on this machine now" if now else f"are all that {machine.title} has for programs"
    each = " on each of two" if machines > 1 else ""
    over = (b.needed + b.memory.keep_least - b.available) / GIB
    smaller = {"bf16": " Fewer bits (--weights nvfp4) or"}.get(weights, "")
    cure = "./course down, and closing programs, frees some; or" if now else f"{smaller or ' Take'} a smaller model will do"
    what = " + ".join(f"{name} {size / GIB:.1f}" for name, size in b.parts().items())
    end = "starting it would wedge the machine" if machine.unified else "it would not start"
    return (f"{model.name} in {weights} would need {b.needed / GIB:.1f} GiB{each} even for {b.users} user{'s' * (b.users > 1)} of "
            f"{b.context} tokens ({what}); {b.available / GIB:.1f} GiB {whose}, of which the system keeps "
            f"{b.memory.keep_least / GIB:.1f}: {over:.1f} GiB too many, and {end}."
            + (f" {cure} take a smaller model." if now else f"{cure}: ./course fit {model.name} shows what fits."))
