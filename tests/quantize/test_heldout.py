"""Held-out loss: every token but the first is scored once."""

import copy
import math

import pytest
import torch

from gb10 import quantize


def brute_force(model, ids, window):
    """Score token by token, each with the context that its window gives it."""
    total = 0.0
    for t in range(1, len(ids)):
        start = (t - 1) // window * window
        logits = model(input_ids=ids[None, start:t]).logits[0, -1].float()
        total -= torch.log_softmax(logits, -1)[ids[t]].item()
    return total / (len(ids) - 1)


@torch.no_grad()
def test_windows_score_each_token_once(tiny):
    model = copy.deepcopy(tiny).float()
    ids = torch.randint(0, 256, (50,), generator=torch.Generator().manual_seed(0))
    got = quantize.loss(model, ids, window=16, batch=2, n_bytes=70)
    assert got.tokens == 49
    assert got.nats_per_token == pytest.approx(brute_force(model, ids, 16), rel=1e-5)
    assert got.bits_per_byte == pytest.approx(got.nats_per_token * 49 / math.log(2) / 70)
    assert got.perplexity == pytest.approx(math.exp(got.nats_per_token))


def test_a_model_that_knows_nothing_scores_the_vocabulary(tiny):
    model = copy.deepcopy(tiny)
    torch.nn.init.zeros_(model.model.embed_tokens.weight)     # tied: all logits are equal
    assert quantize.loss(model, torch.arange(100)).nats_per_token == pytest.approx(math.log(256), rel=1e-6)


def test_quantization_moves_the_loss_and_no_further_than_a_little(tiny, quantized):
    ids = torch.randint(0, 256, (300,), generator=torch.Generator().manual_seed(4))
    before, after = (quantize.loss(m, ids).nats_per_token for m in (tiny, quantized))
    assert 0 < abs(after - before) < 0.2


def test_too_short(tiny):
    with pytest.raises(ValueError):
        quantize.loss(tiny, [1])


def test_calibration_batches(tokenizer):
    rows = quantize.calibration_batches(tokenizer, "abcd" * 100, tokens=350, window=32, batch=4)
    assert [tuple(r.shape) for r in rows] == [(4, 32), (4, 32), (2, 32)]
    with pytest.raises(ValueError, match="fewer"):
        quantize.calibration_batches(tokenizer, "short", window=32)
