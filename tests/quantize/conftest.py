"""A tiny Qwen3 of random weights, quantized once for all tests of this folder."""

import copy

import pytest
import torch


@pytest.fixture(scope="session")
def tiny():
    """BF16 Qwen3: hidden 64, 2 layers, vocabulary 256, tied embeddings; layers have clearly different ranges."""
    from transformers import AutoModelForCausalLM, Qwen3Config

    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=64, num_hidden_layers=2, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, vocab_size=256, tie_word_embeddings=True, max_position_embeddings=256)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        for i, module in enumerate(m for m in model.modules() if isinstance(m, torch.nn.Linear)):
            if module is not model.lm_head:
                module.weight.mul_(1 + 0.37 * i)
    model.generation_config.temperature = 0.7
    model.generation_config.do_sample = True
    return model


@pytest.fixture(scope="session")
def batches():
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (2, 64), generator=generator) for _ in range(3)]


@pytest.fixture(scope="session")
def quantized(tiny, batches):
    from gb10 import quantize

    return quantize.quantize(copy.deepcopy(tiny), batches)


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level tokenizer with a chat template, made here: no file, no hub."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template="{% for m in messages %}{{ m.content }}"
                                                                        "{% endfor %}")


@pytest.fixture(scope="session")
def checkpoint(quantized, tokenizer, tmp_path_factory):
    from gb10 import quantize

    return quantize.export(quantized, tokenizer, tmp_path_factory.mktemp("export") / "tiny-nvfp4")
