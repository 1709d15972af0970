"""The checkpoint that the stream writes, in a real vLLM: it is read, and answers as its decoded weights would."""

import pytest
import torch
from conftest import free_port
from reference import Reference

from gb10 import quantize
from gb10.engines import launch


@pytest.fixture(scope="module")
def folder(pico, tmp_path_factory):
    return quantize.stream(pico, tmp_path_factory.mktemp("w4a16") / "pico-w4a16").folder


@pytest.fixture(scope="module")
def server(vllm_python, folder):
    running = launch.start(folder, engine="vllm", port=free_port(), name="w4a16", quiet=True, timeout=900)
    yield running
    running.stop()


def test_it_answers_as_its_weights_say(server, folder, pico):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pico)
    text = (pico.parent / "heldout.txt").read_text(encoding="utf-8")[5000:7000]
    ids = tokenizer(text)["input_ids"][:300]
    done = server.client.completions.create(model=server.model, prompt=ids, max_tokens=1, temperature=0,
                                            extra_body={"prompt_logprobs": 0})
    rows = done.choices[0].model_extra["prompt_logprobs"]
    got = torch.tensor([row[str(i)]["logprob"] for row, i in zip(rows[1:], ids[1:], strict=True)])

    def off(reference):
        return (got - reference.logprobs(ids)[range(len(ids) - 1), ids[1:]]).abs().mean().item()

    assert off(Reference(folder, quantize_inputs=False)) < 0.001, "the decoded weights, and inputs as they are"
    assert off(Reference(pico)) > 0.02, "which are not the original's"
