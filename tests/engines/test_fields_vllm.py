"""The field table of a real vLLM is what its documents say."""

import time

from gb10.engines import fields


def test_vllm_does_what_its_documents_say(bf16):
    t0 = time.monotonic()
    table = fields.table(bf16.url, bf16.model, engine="vLLM on the CPU", quiet=True)
    seconds = time.monotonic() - t0
    found = fields.compare(table, fields.expected("vLLM on the CPU"))
    print(f"\n{table}\n{found}\n{seconds:.1f} s")
    assert not found, found
    # pico's chat template has no switch for thinking: the one row that can't tell.
    assert set(found.left_out) == {"chat_template_kwargs"}
    assert seconds < 60
    assert bf16.client.completions.create(model=bf16.model, prompt="a", max_tokens=1).choices      # and it still answers
