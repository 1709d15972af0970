"""Held-out loss: every token but the first is scored once."""

import copy
import math

import numpy as np
import pytest
import torch

from gb10 import quantize
from gb10.errors import WorkFailed
from gb10.quantize import heldout, logits


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


@torch.no_grad()
def test_scores_token_by_token(tiny):
    model = copy.deepcopy(tiny).float()
    ids = torch.randint(0, 256, (50,), generator=torch.Generator().manual_seed(0))
    seen = []
    got = heldout.score(model, ids, window=16, batch=2, progress=lambda done, of: seen.append((done, of)))
    expected = torch.cat([model(input_ids=ids[None, s:s + 16][:, :49 - s]).logits[0] for s in range(0, 49, 16)])
    assert np.array_equal(got.top1, expected.argmax(-1).numpy())
    nll = torch.nn.functional.cross_entropy(expected.double(), ids[1:], reduction="none")
    assert got.nll == pytest.approx(nll.numpy(), rel=1e-5)
    assert seen == [(2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("length, window, shapes", [
    (50, 16, [(2, 17), (1, 17), (1, 2)]), (49, 16, [(2, 17), (1, 17)]), (5, 16, [(1, 5)]), (2, 1, [(1, 2)])])
def test_cut_keeps_the_order_and_every_target(length, window, shapes):
    groups = heldout.cut(range(length), window=window, batch=2)
    assert [tuple(g.shape) for g in groups] == shapes
    assert [t for g in groups for row in g for t in row[1:].tolist()] == list(range(1, length))


def test_spread_takes_windows_from_the_whole_text(tiny):
    ids = torch.randint(0, 256, (1003,), generator=torch.Generator().manual_seed(1))
    rows = heldout.spread(ids, windows=5, window=10)
    assert rows.shape == (5, 11) and rows.tolist() == [ids[s:s + 11].tolist() for s in (100, 300, 500, 700, 900)]
    assert torch.equal(heldout.spread(ids, windows=100, window=10), torch.cat(heldout.cut(ids[:1001], window=10, batch=8)))
    each = [quantize.loss(tiny, row).nats_per_token for row in rows]
    got = quantize.loss(tiny, rows, window=3, batch=2)
    assert got.nats_per_token == pytest.approx(sum(each) / 5, rel=1e-3) and got.tokens == 50
    with pytest.raises(ValueError, match="has 100"):
        heldout.spread(ids, windows=101, window=10)


def test_of_tied_tokens_the_lowest_id_counts(tiny):
    model = copy.deepcopy(tiny)
    torch.nn.init.zeros_(model.model.embed_tokens.weight)
    assert not heldout.score(model, torch.arange(40)).top1.any()


def test_pieces_change_nothing_and_stay_small(tiny, monkeypatch):
    ids = torch.randint(0, 256, (100,), generator=torch.Generator().manual_seed(1))
    whole = heldout.score(tiny, ids, window=32, batch=3)
    sizes = []
    handle = tiny.lm_head.register_forward_hook(lambda module, args, output: sizes.append(output.numel()))
    monkeypatch.setattr(logits, "PIECE", 3 * 5 * 256)
    try:
        cut = heldout.score(tiny, ids, window=32, batch=3)
    finally:
        handle.remove()
    assert cut.nll == pytest.approx(whole.nll, rel=1e-3) and max(sizes) == logits.PIECE and len(sizes) > 6


def test_the_model_is_left_as_it_was(tiny):
    model = copy.deepcopy(tiny).train()
    model.model.layers[0].self_attn.q_proj.weight.data.fill_(float("nan"))
    with pytest.raises(WorkFailed, match="no finite probability for 19 of 19 tokens"):
        quantize.loss(model, torch.arange(20))
    assert model.training and "forward" not in model.model.__dict__


def test_a_model_that_changes_its_logits_afterwards_is_heard_out():
    """Gemma2 caps its logits after the output matrix: hidden states times matrix would be wrong."""
    from transformers import AutoModelForCausalLM, Gemma2Config

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(Gemma2Config(
        hidden_size=32, num_hidden_layers=1, intermediate_size=32, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, vocab_size=64, final_logit_softcapping=0.01), dtype=torch.float32).eval()
    ids = torch.arange(30)
    expected = torch.nn.functional.cross_entropy(model(input_ids=ids[None, :-1]).logits[0], ids[1:]).item()
    assert quantize.loss(model, ids).nats_per_token == pytest.approx(expected, rel=1e-6)
    body = copy.deepcopy(model)
    type(body).base_model = property(lambda self: self)          # one that can't be taken apart
    try:
        assert quantize.loss(body, ids).nats_per_token == pytest.approx(expected, rel=1e-6)
    finally:
        del type(body).base_model


def test_too_short(tiny):
    with pytest.raises(ValueError):
        quantize.loss(tiny, [1])


def test_calibration_batches(tokenizer):
    rows = quantize.calibration_batches(tokenizer, "abcd" * 100, tokens=350, window=32, batch=4)
    assert [tuple(r.shape) for r in rows] == [(4, 32), (4, 32), (2, 32)]
    with pytest.raises(ValueError, match="fewer"):
        quantize.calibration_batches(tokenizer, "short", window=32)
