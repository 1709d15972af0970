"""A real vLLM on the CPU answers the openai client, with BF16 pico and with NVFP4 pico."""

import json
import urllib.request

import openai
import pytest
import torch
from conftest import corpus
from reference import Reference

from gb10.engines import vllm_cpu

QUESTION = [{"role": "user", "content": "What does os.path.join do?"}]
PROMPT = "The textwrap module provides"


@pytest.fixture(scope="module", params=["bf16", "nvfp4"])
def server(request, servers):
    return getattr(servers, request.param)


def complete(server, prompt=PROMPT, n=24, **more):
    extra = {k: more.pop(k) for k in ("top_k", "ignore_eos", "min_p", "prompt_logprobs") if k in more}
    return server.client.completions.create(model=server.model, prompt=prompt, max_tokens=n, extra_body=extra, **more)


def ask(server, **more):
    more = {"max_tokens": 24, "messages": QUESTION} | more
    return server.client.chat.completions.create(model=server.model, **more)


def test_it_is_vllm(server):
    listed = server.client.models.list().data
    assert [(m.id, m.owned_by) for m in listed] == [(server.model, "vllm")]
    with urllib.request.urlopen(server.url.removesuffix("/v1") + "/version") as r:
        assert json.load(r)["version"].startswith("0.32.0")
    assert server.ready_s > 0


def test_temperature_0_gives_the_same_twice(server):
    a, b = (ask(server, temperature=0).choices[0].message.content for _ in range(2))
    assert a == b and a


def test_a_seed_is_repeatable_and_matters(server):
    first, again, other = (complete(server, temperature=1.0, seed=s).choices[0].text for s in (1, 1, 2))
    assert first == again != other


def test_top_k_1_is_greedy(server):
    assert complete(server, temperature=1.0, top_k=1, seed=7).choices[0].text == complete(server, temperature=0).choices[0].text


def test_a_stop_string_is_cut_off(server):
    whole = complete(server, temperature=0).choices[0].text
    stop = whole[len(whole) // 2 :][:3]
    choice = complete(server, temperature=0, stop=[stop]).choices[0]
    assert choice.finish_reason == "stop"
    assert choice.text == whole[: whole.index(stop)]


def test_logprobs(server):
    choice = complete(server, n=6, temperature=0, logprobs=3).choices[0]
    lp = choice.logprobs
    assert len(lp.tokens) == len(lp.token_logprobs) == 6
    for token, p, top in zip(lp.tokens, lp.token_logprobs, lp.top_logprobs, strict=True):
        assert p <= 0 and len(top) >= 3
        assert top[token] == pytest.approx(p) == pytest.approx(max(top.values()))     # greedy takes the best
    content = ask(server, temperature=0, max_tokens=4, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert content and all(len(t.top_logprobs) == 2 for t in content)


def test_streaming_equals_not_streaming_and_counts(server):
    whole = ask(server, temperature=0)
    parts, usage = [], None
    for chunk in ask(server, temperature=0, stream=True, stream_options={"include_usage": True}):
        parts += [c.delta.content or "" for c in chunk.choices]
        usage = chunk.usage or usage
    assert "".join(parts) == whole.choices[0].message.content
    assert len(parts) > 3
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, whole.usage.completion_tokens)


@pytest.mark.parametrize(("fields", "error"), [
    ({"model": "another"}, openai.NotFoundError),
    ({"temperature": -1}, openai.BadRequestError),
    ({"top_p": 2}, openai.BadRequestError),
    ({"max_tokens": 0}, openai.BadRequestError),
    ({"prompt": "word " * 3000}, openai.BadRequestError),
])
def test_bad_requests_are_refused(bf16, fields, error):
    request = {"model": bf16.model, "prompt": PROMPT, "max_tokens": 4} | fields
    with pytest.raises(error):
        bf16.client.completions.create(**request)
    assert complete(bf16, n=2).choices[0].text is not None      # and it still answers


def test_bf16_pico_says_what_transformers_says(bf16, pico):
    """Greedy text of vLLM (float32) against transformers' own generation in float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pico)
    net = AutoModelForCausalLM.from_pretrained(pico, dtype=torch.float32).eval()
    ids = tokenizer(PROMPT, return_tensors="pt")
    out = net.generate(**ids, max_new_tokens=24, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert complete(bf16, temperature=0).choices[0].text == tokenizer.decode(out, skip_special_tokens=True)


def test_json_schema_is_honoured(bf16):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
    answer = ask(bf16, max_tokens=40, temperature=0,
                 response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
    assert json.loads(answer.choices[0].message.content)["ok"] in (True, False)


def prompt_logprobs(server, ids: list[int]) -> list[float]:
    """vLLM's log p of each token of a prompt after the first, given those before it."""
    rows = complete(server, prompt=ids, n=1, temperature=0, prompt_logprobs=0).choices[0].model_extra["prompt_logprobs"]
    return [row[str(i)]["logprob"] for row, i in zip(rows[1:], ids[1:], strict=True)]


@pytest.fixture(scope="module")
def passages(pico):
    """20 passages of 32 tokens of Python's documentation: 620 predictions."""
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(pico)(corpus()[200_000:240_000])["input_ids"]
    step = len(ids) // 20
    return [ids[i * step : i * step + 32] for i in range(20)]


def measured(server, passages) -> list[torch.Tensor]:
    return [torch.tensor(prompt_logprobs(server, ids)) for ids in passages]


def mean_difference(got: list[torch.Tensor], reference: Reference, passages) -> float:
    differences = [(g - reference.logprobs(ids)[range(len(ids) - 1), ids[1:]]).abs()
                   for g, ids in zip(got, passages, strict=True)]
    return torch.cat(differences).mean().item()


def test_bf16_logprobs_are_those_of_the_reference(servers, pico, passages):
    assert mean_difference(measured(servers.bf16, passages), Reference(pico), passages) < 0.005


QUESTIONS = ("textwrap.wrap", "os.path.join", "json.dumps", "re.sub", "math.sqrt", "shutil.copyfile", "random.choice",
             "itertools.chain", "sorted", "str.split", "list.append", "dict.get", "os.listdir", "time.sleep", "open",
             "math.floor", "json.loads", "os.remove", "random.shuffle", "enumerate")


def test_nvfp4_answers_stay_near_the_w4a4_reference(servers, nvfp4, pico, record_property):
    """log p of every token of vLLM's own greedy answers to 20 questions, against the reference reading the same tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(nvfp4)
    answers = []
    for q in QUESTIONS:
        text = tokenizer.apply_chat_template([{"role": "user", "content": f"What does {q} do?"}], tokenize=False,
                                             add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        choice = servers.nvfp4.client.completions.create(
            model=servers.nvfp4.model, prompt=ids, max_tokens=24, temperature=0, logprobs=0,
            extra_body={"return_token_ids": True}).choices[0]
        answers.append((ids, choice.model_extra["token_ids"], torch.tensor(choice.logprobs.token_logprobs)))

    def difference(folder, some=20, **how):
        reference = Reference(folder, **how)
        parts = []
        for ids, answer, got in answers[:some]:
            expected = reference.logprobs(ids + answer)
            parts.append((got - expected[range(len(ids) - 1, len(ids) + len(answer) - 1), answer]).abs())
        return torch.cat(parts).mean().item()

    count = sum(len(a) for _, a, _ in answers)
    w4a4, w4a16, bf16 = difference(nvfp4), difference(nvfp4, 6, quantize_inputs=False), difference(pico, 6)
    record_property("mean_abs_dlogprob", {"W4A4": w4a4, "W4A16": w4a16, "BF16": bf16, "tokens": count})
    print(f"\nmean |delta logprob| of vLLM's NVFP4 pico over {count} tokens: {w4a4:.4f} to W4A4, {w4a16:.4f} to W4A16, "
          f"{bf16:.4f} to the BF16 model")
    assert count > 100
    assert w4a4 <= 0.02
    # The gate can tell: without the rounding of activations, or of anything, the answers are far from these.
    assert 5 * w4a4 < min(w4a16, bf16)


def test_only_loopback_listens(server):
    import psutil

    group = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    ips = {c.laddr.ip for p in group for c in p.net_connections("inet") if c.status == "LISTEN"}
    assert ips == {"127.0.0.1"}


def test_memory_stays_within_what_was_reckoned(server):
    import psutil

    from gb10.engines import model

    found = model.look(server.note.path)
    reckoned = sum(vllm_cpu.needs(found, 2048, vllm_cpu.dtype(found)).values())
    group = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    used = sum(p.memory_full_info().pss for p in group)
    print(f"\n{server.model}: {used / 1e9:.2f} GB of the {reckoned / 1e9:.2f} GB reckoned with")
    assert used < reckoned
