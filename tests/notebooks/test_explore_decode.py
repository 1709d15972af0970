"""Timing decode steps: that it times the real thing, counts the right bytes, and ends."""

from pathlib import Path

import pytest
import torch

from gb10 import paths
from gb10.explore import decode

SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 128,
         "num_hidden_layers": 2}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_random_model_computes_finite_numbers_and_the_same_ones_again(dtype):
    ids = torch.arange(12)[None]
    with torch.inference_mode():
        a, b = (decode.random_model(dtype, **SMALL)(ids).logits for _ in range(2))
        other = decode.random_model(dtype, seed=1, **SMALL)(ids).logits
    assert torch.equal(a, b) and torch.isfinite(a).all() and not torch.equal(a, other) and a.dtype == dtype


def test_positions_count():
    """The rotary frequencies of a model made without memory must be real ones: the same token at two places differs."""
    with torch.inference_mode():
        logits = decode.random_model(torch.float32, **SMALL)(torch.tensor([[5, 6, 5, 7, 5]])).logits[0]
    assert not torch.allclose(logits[0], logits[2]) and not torch.allclose(logits[2], logits[4])


def test_the_mid_size_model_is_as_large_as_it_says():
    model = decode.random_model(torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == 209_734_656 == decode.read_bytes(model) / 2
    assert "210 million" in Path(decode.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("tied", [True, False])
def test_bytes_read(tied):
    model = decode.random_model(torch.bfloat16, **SMALL, tie_word_embeddings=tied)
    everything = sum(p.numel() for p in model.parameters()) * 2
    assert decode.read_bytes(model) == everything - (0 if tied else 128 * 64 * 2)


def test_bytes_read_of_pico():
    from transformers import AutoModelForCausalLM

    decode.quiet()
    pico = AutoModelForCausalLM.from_pretrained(paths.PICO, dtype=torch.bfloat16)
    stored = sum(f.stat().st_size for f in paths.PICO.glob("*.safetensors"))
    assert decode.read_bytes(pico) == pytest.approx(stored, rel=0.01)
    assert decode.empty_like(pico).config.num_hidden_layers == pico.config.num_hidden_layers


@pytest.mark.parametrize(("batch", "count"), [(1, 4), (3, 2)])
def test_steps_are_timed_one_by_one(batch, count):
    model, calls = decode.random_model(torch.float32, **SMALL), []
    forward = model.forward

    def listen(ids, **kwargs):
        calls.append(tuple(ids.shape))
        return forward(ids, **kwargs)

    model.forward = listen
    s = decode.steps(model, batch, count, prompt=7)
    assert calls == [(batch, 7)] + [(batch, 1)] * (count + 2), "one prefill, then one token each for everybody"
    assert len(s.seconds) == count and min(s.seconds) == s.best > 0
    assert s.tokens_per_second == batch / s.best


def test_the_budget_ends_it():
    s = decode.steps(decode.random_model(torch.float32, **SMALL), count=10**6, budget=0.0)
    assert len(s.seconds) == 3


def test_the_better_thread_count_wins_and_the_old_one_is_restored(monkeypatch):
    seen, before = [], torch.get_num_threads()

    def timed(model, batch, count, budget):
        seen.append(torch.get_num_threads())
        return decode.Steps(batch, (0.5 if len(seen) == 1 else 0.2, 0.9))

    monkeypatch.setattr(decode, "steps", timed)
    torch.set_num_threads(2)
    try:
        assert decode.best_steps(decode.random_model(torch.float32, **SMALL), 3).best == 0.2
        assert seen == [1, 2] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_matvec_gives_a_rate():
    assert decode.matvec(torch.float32, megabytes=1, repeats=1) > 0
