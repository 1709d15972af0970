"""Held-out loss: how surprised a model is by text that it has not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Loss:
    """Mean negative log-likelihood of the scored tokens."""

    nats_per_token: float
    bits_per_byte: float | None      # None where the text's bytes weren't given
    tokens: int                      # scored: all but the first

    def __str__(self) -> str:
        per_byte = "" if self.bits_per_byte is None else f", {self.bits_per_byte:.4f} bits per byte"
        return f"{self.nats_per_token:.4f} nats per token{per_byte} (over {self.tokens:,} tokens)"

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats_per_token)


@torch.no_grad()
def loss(model, token_ids, *, n_bytes: int | None = None, window: int = 256, batch: int = 8) -> Loss:
    """Score token_ids [N] in windows of `window` predictions.

    Windows overlap by one token, so every token but the very first is predicted exactly once, with up to window - 1
    tokens of context before it. n_bytes: UTF-8 bytes of the scored text, token_ids[1:]; gives
    bits per byte = nats / ln 2 / n_bytes, which compares across tokenizers.
    """
    ids = torch.as_tensor(token_ids, dtype=torch.long).flatten()
    scored = len(ids) - 1
    if scored < 1:
        raise ValueError(f"loss needs at least two tokens, got {len(ids)}")
    window = min(window, scored)
    was_training = model.training
    model.eval()
    total = 0.0
    starts = list(range(0, scored, window))
    # the last, shorter window runs by itself: padding would need a mask and change nothing
    full = [s for s in starts if s + window <= scored]
    groups = [(full[i:i + batch], window) for i in range(0, len(full), batch)]
    groups += [([s], scored - s) for s in starts if s + window > scored]
    try:
        for group, length in groups:
            rows = torch.stack([ids[s:s + length + 1] for s in group]).to(model.device)
            logits = model(input_ids=rows[:, :-1], use_cache=False).logits.float()
            total += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum").double().item()
    finally:
        model.train(was_training)
    return Loss(total / scored, total / math.log(2) / n_bytes if n_bytes else None, scored)
