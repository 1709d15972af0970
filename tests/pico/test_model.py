"""The shipped model: its size and files, its tokenizer, and that transformers computes what our own code computes."""
import json

import pytest
import torch
from safetensors import safe_open

from appendix.pico import model as pico
from appendix.pico import tokenizer as bpe

from .conftest import MODEL

CONFIG = json.loads((MODEL / "config.json").read_text())


def test_size_limits():
    model = pico.load(MODEL)
    assert 4e6 <= pico.parameters_of(model) <= 8e6
    assert CONFIG["hidden_size"] % 256 == 0 and CONFIG["intermediate_size"] % 256 == 0
    assert sum(f.stat().st_size for f in MODEL.iterdir() if f.suffix == ".safetensors") <= 16 * 2**20


def test_weights_are_bf16_and_named_as_qwen3():
    with safe_open(MODEL / "model.safetensors", "pt") as f:
        tensors = {name: f.get_tensor(name) for name in f.keys()}       # noqa: SIM118 - not a dict
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16}
    assert "model.layers.0.self_attn.q_norm.weight" in tensors and "lm_head.weight" not in tensors
    assert all(bool(torch.isfinite(t).all()) for t in tensors.values())


def test_config_serves_older_loaders_too():
    assert CONFIG["architectures"] == ["Qwen3ForCausalLM"] and CONFIG["model_type"] == "qwen3"
    assert CONFIG["rope_theta"] == CONFIG["rope_parameters"]["rope_theta"]
    assert CONFIG["max_position_embeddings"] == 2048 and CONFIG["tie_word_embeddings"] is True


def test_generation_is_greedy_and_ends(tokenizer):
    generation = json.loads((MODEL / "generation_config.json").read_text())
    assert generation["do_sample"] is False
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in generation["eos_token_id"]


def test_logits_equal_transformers(hf_model):
    ids = torch.randint(0, CONFIG["vocab_size"], (2, 200), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = pico.load(MODEL)(ids), hf_model(ids).logits
    assert torch.allclose(ours, theirs, atol=2e-3), (ours - theirs).abs().max()


def test_a_wrong_rotation_would_be_noticed(hf_model):
    ids = torch.randint(0, CONFIG["vocab_size"], (1, 64), generator=torch.Generator().manual_seed(1))
    ours = pico.load(MODEL)
    ours.sin.neg_()
    with torch.no_grad():
        assert not torch.allclose(ours(ids), hf_model(ids).logits, atol=2e-3)


def test_export_and_load_round_trip(tmp_path):
    torch.manual_seed(3)
    model = pico.Pico(pico.Config(vocab_size=300, hidden=64, layers=2, ffn=64))
    pico.export(model, tmp_path, {"<|endoftext|>": 297, "<|im_end|>": 299})
    again = pico.load(tmp_path)
    for name, p in model.state_dict().items():
        assert torch.equal(p.to(torch.bfloat16).float(), again.state_dict()[name]), name
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "generation_config.json", "model.safetensors"]


# -- tokenizer ------------------------------------------------------------------------------------------------

def test_vocabulary(tokenizer):
    assert len(tokenizer) == CONFIG["vocab_size"] == 4096
    assert [tokenizer.convert_tokens_to_ids(t) for t in bpe.SPECIAL] == [4093, 4094, 4095]
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|endoftext|>"


@pytest.mark.parametrize("text", ["textwrap.wrap(text, width=70)", "def f(x):\n    return x  # so\n\n\n", "naïve – 漢字 🙂\t.",
                                  "", " ", "  two  spaces ", "1234 'll don't"])
def test_round_trip(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert ids == bpe.load(MODEL).encode(text).ids


def test_chat_template(tokenizer):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What does len do?"}]
    shown = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat does len do?<|im_end|>\n"
    render = lambda c, add: tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=add)
    assert render(chat, True) == shown + "<|im_start|>assistant\n"
    assert render(chat[1:], False) == shown[shown.index("<|im_start|>user"):]


def test_training_sees_chats_as_the_template_writes_them(tokenizer):
    chat = [{"role": "user", "content": "What does len do?"}, {"role": "assistant", "content": "Return the length."}]
    ids, answer = bpe.chat_ids(bpe.load(MODEL), chat)
    assert ids == tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), add_special_tokens=False).input_ids
    counted = [i for i, a in zip(ids, answer) if a]
    assert tokenizer.decode(counted) == "Return the length.<|im_end|>"
