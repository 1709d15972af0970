"""The filters: pure functions from logits to logits, of one token position. What is removed gets the logit -inf.

All take a row of V logits (any float type) and give a new row of V float64; the argument is left as it is. The formulas are those of
vLLM 0.32: vllm/v1/sample/sampler.py, ops/topk_topp_sampler.py, logits_processor/builtin.py and, for penalties,
model_executor/layers/utils.py (https://github.com/vllm-project/vllm/tree/v0.32.0/vllm).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GREEDY = 1e-5                    # temperatures below count as 0 (vLLM's _SAMPLING_EPS)


def _row(logits) -> np.ndarray:
    row = np.array(logits, dtype=np.float64)
    if row.ndim != 1 or not row.size:
        raise ValueError(f"one row of logits is wanted, shape [V]; got shape {row.shape}")
    return row


def softmax(logits) -> np.ndarray:
    """exp(x) / sum(exp(x)), [V] -> [V]; -inf becomes 0."""
    row = _row(logits)
    raised = np.exp(row - row.max())
    return raised / raised.sum()


def entropy(probs) -> float:
    """-sum(p log2 p) in bits: 0 for a certain token, log2(n) for n equally likely ones."""
    p = np.asarray(probs, dtype=np.float64)
    p = p[p > 0]
    return max(0.0, float(-(p * np.log2(p)).sum()))


def temperature(logits, t: float) -> np.ndarray:
    """logits / t. Below 1e-5: greedy, only the largest stays (the first of several)."""
    row = _row(logits)
    if t < 0:
        raise ValueError(f"a temperature is at least 0; got {t}")
    if t >= GREEDY:
        return row / t
    return np.where(np.arange(row.size) == row.argmax(), row, -np.inf)


def top_k(logits, k: int) -> np.ndarray:
    """Only the k largest stay, and what equals the k-th. k below 1 or from V on: all stay."""
    row = _row(logits)
    if k < 1 or k >= row.size:
        return row
    return np.where(row < np.partition(row, -k)[-k], -np.inf, row)


def top_p(logits, p: float) -> np.ndarray:
    """The smallest set of the likeliest tokens whose probability reaches p stays: at least one; all with p = 1."""
    row = _row(logits)
    if p >= 1:
        return row
    order = np.argsort(-row, kind="stable")
    likely = softmax(row)[order]
    before = np.cumsum(likely) - likely          # what the likelier ones have together
    keep = before < p
    keep[0] = True
    out = np.full(row.size, -np.inf)
    out[order[keep]] = row[order[keep]]
    return out


def min_p(logits, p: float) -> np.ndarray:
    """Tokens stay that have at least p times the probability of the likeliest."""
    row = _row(logits)
    likely = softmax(row)
    return np.where(likely < p * likely.max(), -np.inf, row)


def penalize(logits, prompt: Sequence[int] = (), output: Sequence[int] = (), repetition: float = 1.0, presence: float = 0.0,
             frequency: float = 0.0) -> np.ndarray:
    """Logits after the penalties for what has been said. prompt, output: token ids so far.

    repetition: a positive logit is divided by it, a negative one multiplied, for every token of prompt or output
    (https://arxiv.org/abs/1909.05858, section 4.1). Then, for the output alone, frequency times the count is taken off, and presence once
    (https://platform.openai.com/docs/api-reference/chat/create).
    """
    row = _row(logits)
    said = np.zeros(row.size, dtype=np.int64)
    np.add.at(said, np.asarray(output, dtype=np.int64), 1)
    seen = said > 0
    seen[np.asarray(prompt, dtype=np.int64)] = True
    row[seen] = np.where(row[seen] > 0, row[seen] / repetition, row[seen] * repetition)
    return row - frequency * said - presence * (said > 0)
