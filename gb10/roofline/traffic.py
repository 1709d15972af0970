"""Bytes: what a checkpoint weighs, what its KV cache weighs, and what one decode step reads.

A decode step reads every weight that its tokens are multiplied with, once for the whole batch, and each sequence's own
KV cache. The input table is not read (one row per token), unless it is the head too.
"""

from __future__ import annotations

from gb10.catalog import KvFormat, Model, WeightFormat, kv_format, weight_format

STATE_BYTES = 4          # state-space and linear-attention layers carry their state in FP32 (mamba_ssm_cache_dtype)


def _weights(fmt: str | WeightFormat) -> WeightFormat:
    return fmt if isinstance(fmt, WeightFormat) else weight_format(fmt)


def _kv(fmt: str | KvFormat) -> KvFormat:
    return fmt if isinstance(fmt, KvFormat) else kv_format(fmt)


def weight_bytes(model: Model, weights: str | WeightFormat) -> float:
    """Bytes of the whole checkpoint in this format, by what each class of tensors is kept in."""
    fmt = _weights(weights)
    return sum(p.params * fmt.bits_of(p.kind, model) / 8 for p in model.parts)


def weight_bytes_by_kind(model: Model, weights: str | WeightFormat) -> dict[str, float]:
    """The same by class of tensors: {"embedding": …, "attention": …, "experts": …}."""
    fmt, out = _weights(weights), {}
    for p in model.parts:
        out[p.kind] = out.get(p.kind, 0.0) + p.params * fmt.bits_of(p.kind, model) / 8
    return out


def kv_bytes_per_token(model: Model, kv: str | KvFormat = "bf16", context: int | None = None) -> float:
    """Bytes that one token adds to the KV cache of one sequence that is `context` tokens long; layers whose sliding
    window is full add nothing. Without a context: the layers that see everything, for which it is the same everywhere."""
    elements = sum(c.layers * c.elements for c in model.caches
                   if c.window is None or (context is not None and context < c.window))
    return elements * _kv(kv).bits / 8


def kv_bytes(model: Model, kv: str | KvFormat, context: int, batch: int = 1) -> float:
    """Bytes of the KV cache of `batch` sequences of `context` tokens; the state of hybrid models is counted too."""
    per_sequence = sum(c.layers * c.elements * c.tokens(context) for c in model.caches) * _kv(kv).bits / 8
    return batch * (per_sequence + state_bytes(model))


def state_bytes(model: Model) -> float:
    """Bytes per sequence that do not grow with the context (Mamba, DeltaNet)."""
    return model.state_elements * STATE_BYTES


def read_weights(model: Model, weights: str | WeightFormat, batch: int = 1) -> float:
    """Bytes of weights that one decode step with `batch` sequences reads."""
    fmt = _weights(weights)
    total = sum(p.touched(batch) * fmt.bits_of(p.kind, model) / 8 for p in model.parts)
    if model.tied:
        total += model.count("embedding") * fmt.bits_of("head", model) / 8
    return total


def step_bytes(model: Model, weights: str | WeightFormat, kv: str | KvFormat, context: int, batch: int = 1) -> float:
    """Bytes that one decode step moves: weights once, every sequence's KV cache once, every state in and out."""
    return read_weights(model, weights, batch) + kv_bytes(model, kv, context, batch) + batch * state_bytes(model)
