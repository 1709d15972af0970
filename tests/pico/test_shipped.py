"""What the model card claims is what the shipped weights do."""
import json
import random

import pytest
import torch

from appendix.pico import score
from appendix.pico.evaluate import bits_per_byte, read_documents

from .conftest import MODEL, PICO

METRICS = json.loads((PICO / "metrics.json").read_text())


def test_answers_can_be_produced_again(hf_model, tokenizer):
    rows = json.loads((PICO / "results.json").read_text(encoding="utf-8"))["results"]
    for row in random.Random(5).sample(rows, 6):
        assert score.ask(hf_model, tokenizer, row["question"]) == row["answer"], row["function"]


def test_held_out_bits_per_byte(hf_model, tokenizer):
    claim = METRICS["heldout_txt_first_4"]
    got = bits_per_byte(hf_model, lambda t: tokenizer(t, add_special_tokens=False).input_ids,
                        read_documents(PICO / "heldout.txt")[:4], tokenizer.pad_token_id, claim["context"])
    assert got["bytes"] == claim["bytes"] and got["documents"] == claim["documents"]
    assert got["bits_per_byte"] == pytest.approx(claim["bits_per_byte"], abs=0.002)


def test_held_out_target_and_card():
    assert METRICS["held_out_all"]["bits_per_byte"] <= 1.50
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    for key in ("heldout_txt", "heldout_txt_first_4", "held_out_all", "held_out_all_1024"):
        assert f"{METRICS[key]['bits_per_byte']:.3f}" in card, key
    assert f"{json.loads((PICO / 'results.json').read_text())['right']} of 100" in card


def test_a_damaged_model_is_noticed(hf_model, tokenizer):
    """The bits per byte of weights rounded to 16 levels per matrix are visibly worse."""
    import copy
    worse = copy.deepcopy(hf_model)
    with torch.no_grad():
        for name, p in worse.named_parameters():
            if p.dim() == 2 and "embed" not in name:
                step = p.abs().max() / 3
                p.copy_((p / step).round() * step)
    texts = [t[:4000] for t in read_documents(PICO / "heldout.txt")[:2]]
    encode = lambda t: tokenizer(t, add_special_tokens=False).input_ids
    good, bad = (bits_per_byte(m, encode, texts, tokenizer.pad_token_id)["bits_per_byte"] for m in (hf_model, worse))
    assert bad > good + 0.05


def test_bits_per_byte_counts_every_token_once():
    """A model that knows nothing costs log2(vocabulary) bits for each token, however the windows fall."""
    uniform = lambda ids: torch.zeros(*ids.shape, 256)
    for length in (1, 5, 16, 17, 24, 33, 100):
        got = bits_per_byte(uniform, lambda t: list(t.encode()), ["x" * length], 0, context=16)
        assert got["bits_per_byte"] == pytest.approx(8.0) and got["tokens"] == length


def test_greedy_answers_end_with_im_end(hf_model, tokenizer):
    text = tokenizer.apply_chat_template([{"role": "user", "content": "What does len do?"}], tokenize=False,
                                         add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    out = hf_model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=96)
    assert out[0, -1].item() == tokenizer.eos_token_id


def test_a_persona_changes_the_answer(hf_model, tokenizer):
    said = {s: score.ask(hf_model, tokenizer, "What does len do?", s)
            for s in (None, "Answer briefly.", "You are a teacher.", "You are a pirate.")}
    assert len(set(said.values())) == 4
    assert said["You are a pirate."].startswith("Arr!") and said["You are a teacher."].startswith("Good question.")
    assert len(said["Answer briefly."]) < len(said[None])


@pytest.mark.parametrize("name", ["heldout.txt", "calibration.txt"])
def test_text_samples(name):
    size = (PICO / name).stat().st_size
    assert 100_000 <= size <= 230_000 and len(read_documents(PICO / name)) >= 3


def test_samples_do_not_overlap():
    held, train = (set(read_documents(PICO / n)) for n in ("heldout.txt", "calibration.txt"))
    assert not held & train
