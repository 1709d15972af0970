"""chat(): what it sends, what it gives back, and the name of each way in which an answer fails."""

import json
import subprocess
import sys

import pytest
from scripted_engine import Scripted

from gb10.engines import talk
from gb10.errors import UserError, WorkFailed

ASK = "What does os.path.join do?"


def test_an_answer_and_what_was_sent():
    with Scripted() as engine:
        answer = talk.chat(engine.url, ASK, max_tokens=5, logprobs=True, top_logprobs=2)
        assert engine.bodies == [answer.request]
    assert answer.text == str(answer) and answer.finish_reason == "length"
    assert answer.usage["completion_tokens"] == 5 == len(answer.logprobs) and len(answer.logprobs[0]["top_logprobs"]) == 2
    assert answer.request["model"] == "toy" and answer.request["messages"] == [{"role": "user", "content": ASK}]
    assert answer.seconds > 0 and answer.ttft_s is None


def test_sampling_fields_are_sent_even_if_nobody_gave_them():
    body = talk.request("m", ASK, engine="vLLM on the CPU")
    assert {k: body[k] for k in talk.NEUTRAL} == {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    assert talk.request("m", ASK, engine="SGLang")["top_k"] == -1            # 0 is refused there
    assert set(talk.request("m", ASK, engine="Ollama")) == {"model", "messages", "max_tokens", "temperature", "top_p"}
    assert talk.request("m", ASK, engine="vllm", temperature=0.7)["temperature"] == 0.7
    assert "max_tokens" not in talk.request("m", ASK, engine="vllm", max_completion_tokens=3)


@pytest.mark.parametrize(("engine", "field", "says"), [
    ("vLLM on the CPU", "guided_choice", "vLLM on the CPU ignores it"), ("Ollama", "top_k", "Ollama ignores it"),
    ("TensorRT-LLM", "structured_outputs", "TensorRT-LLM rejects it"), ("the stand-in over transformers (not vLLM)", "n", "rejects it"),
    ("an OpenAI-compatible server", "top_k", "not known to take it"), ("vLLM", "topk", "not known to take it")])
def test_a_field_that_the_engine_does_not_take_is_refused_here(engine, field, says):
    with pytest.raises(UserError, match=f"^{field}: .*force=True") as e:
        talk.request("m", ASK, engine=engine, **{field: 1})
    assert says in e.value.message
    assert talk.request("m", ASK, engine=engine, force=True, **{field: 1})[field] == 1


def test_nothing_is_sent_when_a_field_is_refused():
    with Scripted() as engine:
        with pytest.raises(UserError):
            talk.chat(engine.url, ASK, mirostat=2)
        assert not engine.bodies
        talk.chat(engine.url, ASK, max_tokens=2, mirostat=2, force=True)
        assert engine.bodies[0]["mirostat"] == 2


def test_a_connection_and_a_server_are_places_too():
    from types import SimpleNamespace

    from openai import OpenAI

    with Scripted() as engine:
        place = SimpleNamespace(url=engine.url, client=OpenAI(base_url=engine.url, api_key="x"), engine="vLLM", model="toy")
        assert talk.chat(place, [{"role": "user", "content": "Hello"}], max_tokens=2, top_k=1).usage["completion_tokens"] == 2
        assert engine.bodies[-1]["top_k"] == 1
    for odd in (None, 5, "127.0.0.1:8000"):
        with pytest.raises(UserError):
            talk.chat(odd, ASK)


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_is_read_under_both_names(field):
    message = {"content": "4", field: "two and two"}
    answer = talk.read({"choices": [{"message": message, "finish_reason": "stop"}]})
    assert (answer.text, answer.reasoning) == ("4", "two and two")


def test_reasoning_that_uses_up_the_tokens_has_a_name():
    with Scripted(thinks=True) as engine:
        with pytest.raises(talk.ThoughtItAll, match="limit of 7 tokens .*max_tokens=28.*enable_thinking") as e:
            talk.chat(engine.url, ASK, max_tokens=7)
        assert e.value.reasoning.startswith("Let me think.") and e.value.usage["completion_tokens"] == 7
        assert isinstance(e.value, WorkFailed) and "\n" not in e.value.message
        with pytest.raises(talk.ThoughtItAll):
            _ = talk.chat(engine.url, ASK, max_tokens=7, stream=True).answer
        answer = talk.chat(engine.url, ASK, max_tokens=50)
    assert answer.text and answer.reasoning


def test_empty_content_at_the_limit_without_any_reasoning_shown():
    with Scripted(empty=True) as engine, pytest.raises(talk.ThoughtItAll, match="shows nowhere"):
        talk.chat(engine.url, ASK, max_tokens=7)


def test_a_stream():
    with Scripted() as engine:
        whole = talk.chat(engine.url, ASK, max_tokens=9)
        stream = talk.chat(engine.url, ASK, max_tokens=9, stream=True, logprobs=True)
        pieces = list(stream)
        assert engine.bodies[-1] == stream.request and stream.request["stream_options"] == {"include_usage": True}
    assert len(pieces) == 9 and "".join(p.text for p in pieces).strip() == whole.text
    times = [p.at_s for p in pieces]
    assert times == sorted(times) and stream.answer.ttft_s == times[0]
    assert stream.answer.usage["completion_tokens"] == 9 == len(stream.answer.logprobs) and stream.answer.finish_reason == "length"
    with pytest.raises(UserError, match="has been read"):
        list(stream)


@pytest.mark.parametrize(("end", "says"), [("cut", "broke off after 3 pieces"), ("error", "the engine core has died"),
                                           ("no finish", "without a finish_reason")])
def test_a_stream_that_breaks_off_keeps_what_came(end, says):
    with Scripted() as engine:
        start = talk.chat(engine.url, ASK, max_tokens=3).text
    with Scripted(stream_end=end) as engine:
        stream, seen = talk.chat(engine.url, ASK, max_tokens=12, stream=True), []
        with pytest.raises(talk.BrokenOff, match=says) as e:
            for piece in stream:
                seen.append(piece.text)
    assert e.value.text == "".join(seen) and e.value.text.strip().startswith(start)
    assert "\n" not in e.value.message


def test_an_answer_in_one_piece_where_a_stream_was_asked_for():
    with Scripted(ignore={"stream"}) as engine, pytest.raises(WorkFailed):
        list(talk.chat(engine.url, ASK, max_tokens=4, stream=True))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("script", "fields", "error", "says"), [
    ({"reject": {"n"}}, {"n": 2}, UserError, r"refuses the request \(400\): field 'n' is not allowed"),
    ({}, {"model": "other"}, UserError, "The model `other` does not exist"),
    ({"faults": {"n": "fail"}}, {"n": 2}, WorkFailed, r"failed \(500\): CUDA error"),
    ({"faults": {"n": "drop"}}, {"n": 2}, WorkFailed, "can't be reached, or went away"),
    ({"faults": {"n": "slow"}}, {"n": 2, "timeout": 0.3}, WorkFailed, "no answer in the time allowed"),
])
def test_each_failure_is_one_sentence(script, fields, error, says, stream):
    with Scripted(**script) as engine, pytest.raises(error, match=says) as e:
        answer = talk.chat(engine.url, ASK, max_tokens=4, stream=stream, **fields)
        list(answer)
    assert "\n" not in e.value.message and engine.url in e.value.message


def test_nobody_there():
    with pytest.raises(WorkFailed, match="can't be reached"):
        talk.chat("http://127.0.0.1:9/v1", ASK)


def test_a_key_goes_to_the_server_and_into_no_text(monkeypatch):
    with Scripted(key="s3cret-key") as engine:
        with pytest.raises(UserError, match="export GB10_API_KEY"):
            talk.chat(engine.url, ASK, model="toy")
        monkeypatch.setenv("GB10_API_KEY", "s3cret-key")
        answer = talk.chat(engine.url, ASK, max_tokens=2)
        assert engine.keys[-1] == "Bearer s3cret-key"
        seen = subprocess.run(["bash", "-c", "curl() { printf '%s|' \"$@\"; }; " + answer.curl()], capture_output=True, text=True, check=True).stdout
        assert "-H|@-|" in seen and "s3cret" not in seen            # arguments are for everybody to see (ps)
        subprocess.run(["bash", "-c", answer.curl()], capture_output=True, check=True)
        assert engine.keys[-1] == "Bearer s3cret-key"               # and it arrives
    assert '"Authorization: Bearer $GB10_API_KEY"' in answer.curl() and 'os.environ.get("GB10_API_KEY"' in answer.snippet()
    assert "s3cret" not in answer.curl() + answer.snippet() + repr(answer)


TRICKY = "It's \"quoted\", `ticked`, $HOME, \\n and é"


@pytest.mark.parametrize("body", [
    talk.request("toy", TRICKY, engine="vLLM", max_tokens=3),
    talk.request("toy", TRICKY, engine="vLLM", max_tokens=3, stop=["'x'"], chat_template_kwargs={"enable_thinking": False}) | {"stream": True},
])
@pytest.mark.parametrize("how", ["curl", "python"])
def test_what_is_pasted_sends_the_same_request(body, how):
    with Scripted() as engine:
        if how == "curl":
            done = subprocess.run(["bash", "-c", talk.curl(engine.url, body)], capture_output=True, text=True, timeout=20, check=True)
            assert '"choices"' in done.stdout
        else:
            done = subprocess.run([sys.executable, "-c", talk.snippet(engine.url, body)], capture_output=True, text=True, timeout=30, check=True)
            assert done.stdout.strip()
        assert engine.bodies == [body]


def test_a_prompt_goes_to_completions():
    body = {"model": "m", "prompt": "Once", "max_tokens": 3}
    assert "/v1/completions " in talk.curl("http://127.0.0.1:8000/v1", body)
    assert "client.completions.create" in talk.snippet("http://127.0.0.1:8000/v1", body)
    assert "choices[0].text" in talk.snippet("http://127.0.0.1:8000/v1", body)


def test_pasting_needs_no_client():
    code = ("import sys\nfrom gb10.engines import talk\n"
            "talk.curl('http://127.0.0.1:1/v1', {'messages': []}); talk.snippet('http://127.0.0.1:1/v1', {'messages': []})\n"
            "print([m for m in ('openai', 'httpx', 'torch') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


def test_a_real_answer(standin):
    answer = talk.chat(standin, ASK, max_tokens=8, min_p=0.1)
    assert answer.text and answer.usage["completion_tokens"] == 8
    assert talk.chat(standin, ASK, max_tokens=8, stream=True).answer.text == talk.chat(standin, ASK, max_tokens=8).text
