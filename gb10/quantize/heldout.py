"""Held-out loss: how surprised a model is by text that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gb10.errors import WorkFailed
from gb10.quantize.logits import Source, pieces, scoring


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


@dataclass(frozen=True, eq=False)
class Scores:
    """What one model made of each scored token."""

    nll: np.ndarray         # float64 [N - 1], nats: -log(probability of the token that came)
    top1: np.ndarray        # int64 [N - 1]: the most probable token; of several with the same logit the lowest id
    window: int             # predictions in a window; the last window may have fewer

    def loss(self, n_bytes: int | None = None) -> Loss:
        total, tokens = float(self.nll.sum()), len(self.nll)
        return Loss(total / tokens, total / math.log(2) / n_bytes if n_bytes else None, tokens)


def spread(token_ids, *, windows: int, window: int = 256) -> torch.Tensor:
    """int64 [windows, window + 1]: windows taken at even distances from the whole of token_ids [N].

    The first windows of a text are its first documents; what holds for them needn't hold for the rest. Give the result
    to `loss`, `score`, `compare` in place of the ids. Raises ValueError where the text is too short.
    """
    ids = torch.as_tensor(token_ids, dtype=torch.long).flatten().cpu()
    whole = (len(ids) - 1) // window
    if not 1 <= windows <= whole:
        raise ValueError(f"{windows} windows of {window} tokens asked for; this text of {len(ids):,} tokens has "
                         f"{max(0, whole):,}")
    # the middle one of each of `windows` equal parts
    chosen = ((torch.arange(windows) + 0.5) * whole / windows).long()
    return ids[: whole * window + 1].unfold(0, window + 1, window)[chosen].contiguous()


def cut(token_ids, *, window: int, batch: int) -> list[torch.Tensor]:
    """token_ids [N] as int64 batches [B, L + 1] in the order of the text: L inputs and, one further, L targets each.

    Windows overlap by one token, so every token but the very first is a target exactly once. The last, shorter window
    comes by itself: padding would need a mask and change nothing. token_ids [n, L + 1] are windows already (`spread`).
    """
    ids = torch.as_tensor(token_ids, dtype=torch.long).cpu()
    if ids.ndim == 2 and ids.shape[1] > 1 and len(ids):
        return list(ids.split(batch))
    ids = ids.flatten()
    scored = len(ids) - 1
    if scored < 1:
        raise ValueError(f"a loss needs at least two tokens, got {len(ids)}")
    window = min(window, scored)
    whole = ids[:scored // window * window + 1].unfold(0, window + 1, window)
    rest = ids[scored // window * window:]
    return list(whole.split(batch)) + ([rest[None]] if len(rest) > 1 else [])


def score(model, token_ids, *, window: int = 256, batch: int = 8,
          progress: Callable[[int, int], None] | None = None) -> Scores:
    """Every token of token_ids [N] but the first, predicted with up to window - 1 tokens of context before it.

    token_ids may also be windows [n, L + 1] that are cut already (`spread`); of each all but the first are scored.

    progress: called with (windows done, of). Memory beyond the model: some hundred MB, whatever the vocabulary.
    """
    source, groups = Source(model), cut(token_ids, window=window, batch=batch)
    done, of = 0, sum(len(g) for g in groups)
    nll, top1 = [], []
    with scoring(model):
        for rows in groups:
            ran, parts = source.run(rows[:, :-1]), []
            for positions in pieces(rows.shape[1] - 1, len(rows), vocabulary(model)):
                logits = source.logits(ran, positions)
                parts.append((surprise(torch.log_softmax(logits, -1), rows[:, 1:], positions), logits.argmax(-1).cpu()))
            nll.append(torch.cat([p[0] for p in parts], 1).flatten())
            top1.append(torch.cat([p[1] for p in parts], 1).flatten())
            done += len(rows)
            if progress:
                progress(done, of)
    return Scores(finite(torch.cat(nll).numpy(), "the model"), torch.cat(top1).numpy(), groups[0].shape[1] - 1)


def loss(model, token_ids, *, n_bytes: int | None = None, window: int = 256, batch: int = 8) -> Loss:
    """Score token_ids [N], or windows [n, L + 1], in windows of `window` predictions; see `score`.

    n_bytes: UTF-8 bytes of the scored text, token_ids[1:] or that of each window; gives bits per byte = nats / ln 2 / n_bytes, which compares
    across tokenizers.
    """
    return score(model, token_ids, window=window, batch=batch).loss(n_bytes)


def surprise(log_p: torch.Tensor, targets: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """-log p of the targets [B, T] at positions; log_p [B, len(positions), V]. float64 on the CPU."""
    index = targets[:, positions].to(log_p.device)
    return -log_p.gather(-1, index[..., None])[..., 0].double().cpu()


def vocabulary(model) -> int:
    return model.config.get_text_config().vocab_size


def finite(values: np.ndarray, whose: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise WorkFailed(f"{whose} gave no finite probability for {np.count_nonzero(~np.isfinite(values)):,} of "
                         f"{values.size:,} tokens: look for NaN or infinite weights and scales in it.")
    return values
