"""The stand-in over transformers: what it promises, and that it refuses the rest."""

import json
import subprocess
import threading
import urllib.error
import urllib.request

import openai
import pytest
import torch

from gb10.engines.standin import Text
from gb10.engines.standin_fields import Refused, Request, parse
from gb10.engines.standin_model import sample

QUESTION = [{"role": "user", "content": "What does os.path.join do?"}]
PROMPT = "The textwrap module provides"


def complete(server, prompt=PROMPT, n=16, **more):
    extra = {k: more.pop(k) for k in ("top_k", "ignore_eos", "min_p") if k in more}
    return server.client.completions.create(model="pico", prompt=prompt, max_tokens=n, extra_body=extra, **more)


def post(server, path, body: bytes):
    request = urllib.request.Request(server.url + path, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as r:
            return r.status, json.load(r), r.headers
    except urllib.error.HTTPError as e:
        return e.code, json.load(e), e.headers


def test_it_says_that_it_is_a_stand_in(standin):
    assert "not vLLM" in standin.client.models.list().data[0].owned_by
    assert "this is not vLLM" in standin.log.read_text()
    for path in ("/health", "/v1/models"):
        with urllib.request.urlopen(standin.url.removesuffix("/v1") + path) as r:
            assert r.headers["X-GB10-Engine"] == "standin"


def test_greedy_is_transformers_greedy(standin, pico):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pico)
    net = AutoModelForCausalLM.from_pretrained(pico, dtype=torch.float32).eval()
    ids = tokenizer(PROMPT, return_tensors="pt")
    out = net.generate(**ids, max_new_tokens=16, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert complete(standin, temperature=0).choices[0].text == tokenizer.decode(out, skip_special_tokens=True)


def test_seed_and_top_k(standin):
    first, again, other = (complete(standin, seed=s).choices[0].text for s in (1, 1, 2))
    assert first == again != other
    assert complete(standin, top_k=1).choices[0].text == complete(standin, temperature=0).choices[0].text


def test_a_seed_holds_under_load(standin):
    expected = complete(standin, seed=5).choices[0].text
    got = []
    threads = [threading.Thread(target=lambda: got.append(complete(standin, seed=5).choices[0].text)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == [expected] * 4


def test_stop_strings_are_cut_off_streamed_or_not(standin):
    whole = complete(standin, temperature=0).choices[0].text
    stop = whole[len(whole) // 2 :][:4]
    expected = whole[: whole.index(stop)]
    choice = complete(standin, temperature=0, stop=[stop]).choices[0]
    assert (choice.text, choice.finish_reason) == (expected, "stop")
    chunks = list(complete(standin, temperature=0, stop=[stop], stream=True))
    assert "".join(c.choices[0].text for c in chunks) == expected
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_chat_streaming_equals_not_streaming_and_counts(standin):
    ask = {"model": "pico", "messages": QUESTION, "max_tokens": 16, "temperature": 0}
    whole = standin.client.chat.completions.create(**ask)
    parts, usage = [], None
    for c in standin.client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
        parts += [d.delta.content or "" for d in c.choices]
        usage = c.usage or usage
    assert "".join(parts) == whole.choices[0].message.content
    assert usage == whole.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_logprobs(standin):
    lp = complete(standin, n=4, temperature=0, logprobs=3).choices[0].logprobs
    for token, p, top in zip(lp.tokens, lp.token_logprobs, lp.top_logprobs, strict=True):
        assert len(top) == 3 and top[token] == pytest.approx(p) == pytest.approx(max(top.values()))
    answer = standin.client.chat.completions.create(model="pico", messages=QUESTION, max_tokens=3, logprobs=True, top_logprobs=2)
    assert [len(t.top_logprobs) for t in answer.choices[0].logprobs.content] == [2] * answer.usage.completion_tokens


@pytest.mark.parametrize(("fields", "error"), [
    ({"model": "another"}, openai.NotFoundError),
    ({"temperature": -1}, openai.BadRequestError),
    ({"prompt": "word " * 3000}, openai.BadRequestError),
    ({"n": 2}, openai.BadRequestError),
    ({"presence_penalty": 0.5}, openai.BadRequestError),
    ({"extra_body": {"repetition_penalty": 1.2}}, openai.BadRequestError),
])
def test_bad_requests_are_refused_on_the_wire(standin, fields, error):
    with pytest.raises(error):
        standin.client.completions.create(**{"model": "pico", "prompt": PROMPT, "max_tokens": 4} | fields)


def test_a_body_that_is_no_json(standin):
    for body in (b"{", b"[]", b"\xff"):
        status, answer, headers = post(standin, "/completions", body)
        assert status == 400 and answer["error"]["message"] and headers["X-GB10-Engine"] == "standin"


def test_a_client_that_goes_away_frees_the_server(standin):
    chunks = standin.client.completions.create(model="pico", prompt=PROMPT, max_tokens=1500, stream=True,
                                               extra_body={"ignore_eos": True})
    next(iter(chunks))
    chunks.close()
    assert standin.client.with_options(timeout=20).completions.create(model="pico", prompt=PROMPT, max_tokens=1).choices


def test_nvfp4_is_served_too(nvfp4, port):
    from gb10.engines import launch

    with launch.start(nvfp4, engine="standin", port=port, name="pico", quiet=True) as server:
        assert complete(server, temperature=0, n=4).usage.completion_tokens >= 1


@pytest.mark.parametrize(("field", "value"), [
    ("tools", [{"type": "function"}]), ("response_format", {"type": "json_object"}), ("n", 3), ("logit_bias", {"5": 1}),
    ("frequency_penalty", 1), ("guided_json", {}), ("user", "me"), ("temperature", "hot"), ("temperature", float("nan")),
    ("top_p", 0), ("top_p", 1.5), ("top_k", 2.5), ("seed", "x"), ("max_tokens", 0), ("max_tokens", True), ("stop", [""]),
    ("stop", 5), ("stream", "yes"), ("stream_options", {"include_usage": True}), ("top_logprobs", 3), ("messages", []),
    ("messages", [{"role": "user", "content": [{"type": "image_url"}]}]), ("messages", [{"role": "user"}]),
    ("messages", [{"role": "assistant", "content": "x", "tool_calls": []}]),
])
def test_every_field_that_is_not_honoured_is_refused(field, value):
    good = {"model": "m", "messages": QUESTION}
    parse(good, "m", True)
    with pytest.raises(Refused) as e:
        parse(good | {field: value}, "m", True)
    assert e.value.status == 400 and e.value.param in (field, None)


@pytest.mark.parametrize("fields", [{"n": 1}, {"presence_penalty": 0}, {"tools": None}, {"response_format": {"type": "text"}},
                                    {"logit_bias": {}}, {"top_k": -1}, {"stop": None}])
def test_fields_that_ask_for_nothing_are_let_through(fields):
    parse({"model": "m", "messages": QUESTION} | fields, "m", True)


def test_sampling_rules():
    logits = torch.tensor([0.1, 0.2, 0.6, 0.1]).log()

    def drawn(n=300, **fields):
        r = Request(False, "", 1, **fields)
        g = torch.Generator().manual_seed(0)
        return {sample(logits, r, g) for _ in range(n)}

    assert drawn() == {0, 1, 2, 3}
    assert drawn(temperature=0) == {2}
    assert drawn(top_k=2) == {1, 2}
    assert drawn(top_p=0.7) == {1, 2}       # 0.6 alone does not reach 0.7
    assert drawn(top_p=0.5) == {2}
    assert drawn(min_p=0.3) == {1, 2}       # at least 0.3 of the best


class Bytes:
    """A tokenizer whose tokens are single bytes: characters of several bytes come in pieces."""

    def decode(self, ids, skip_special_tokens=True):
        return bytes(ids).decode("utf-8", errors="replace")


@pytest.mark.parametrize(("text", "stop", "shown", "stopped"), [
    ("abc", (), "abc", False),
    ("aé€😀b", (), "aé€😀b", False),
    ("one STOP two", ("STOP",), "one ", True),
    ("one STO", ("STOP",), "one STO", False),       # only looked like it
    ("xaab", ("aab", "aaa"), "x", True),
    ("STOP", ("STOP",), "", True),
])
def test_text_is_shown_in_whole_characters_and_never_beyond_a_stop(text, stop, shown, stopped):
    t, parts = Text(Bytes(), stop), []
    for b in text.encode():
        parts.append(t.add(b))
        if t.stopped:
            break
    parts.append(t.rest())
    assert ("".join(parts), t.stopped) == (shown, stopped)
    assert not any("\ufffd" in p for p in parts)


def test_curl_can_stream_it(standin):
    body = json.dumps({"model": "pico", "prompt": "a", "max_tokens": 3, "stream": True})
    out = subprocess.run(["curl", "-sN", standin.url + "/completions", "-H", "Content-Type: application/json", "-d", body],
                         capture_output=True, text=True, check=True).stdout
    assert out.startswith("data: {") and out.endswith("data: [DONE]\n\n")
