"""One token: what a real vLLM shows and draws is what the filters predict; engines that show nothing are told so."""

import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import openai
import pytest
from scripted_engine import Scripted

from gb10 import paths, sampling
from gb10.engines import next_token
from gb10.engines.many import each, many
from gb10.errors import UserError, WorkFailed

QUESTION = "Tell me about strings."


def place(engine, name="toy"):
    return SimpleNamespace(url=engine.url, model=engine.model, engine=name, client=openai.OpenAI(base_url=engine.url, api_key="none"))


def test_the_engine_shows_what_transformers_computes(bf16):
    seen, whole = next_token.look(bf16, QUESTION), next_token.whole(QUESTION)
    assert len(seen.tokens) == 20
    assert seen.rest < 0.3
    expected = whole.by_text(sampling.softmax(whole.logits))
    assert sum(expected.values()) == pytest.approx(1)
    assert max(abs(np.log(expected[t]) - p) for t, p in zip(seen.tokens, seen.logprobs, strict=True)) < 1e-3
    assert seen.picked == seen.tokens[0]


SETTINGS = [
    sampling.Settings(temperature=1.0),
    sampling.Settings(temperature=1.7, top_k=6),
    sampling.Settings(temperature=1.5, top_p=0.85),
    sampling.Settings(temperature=2.0, min_p=0.05),
    sampling.Settings(temperature=1.5, top_k=12, top_p=0.9, min_p=0.02),
    sampling.Settings(temperature=1.3, repetition_penalty=2.5),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=[" ".join(f"{k}={v}" for k, v in s.request().items()) for s in SETTINGS])
def test_vllm_draws_what_the_filters_predict(bf16, settings):
    question = "Return the strings that begin with Return."       # the likeliest first token stands in the prompt
    whole = next_token.whole(question)
    counts = next_token.draws(bf16, question, range(1000, 1400), quiet=True, **settings.request())
    predicted = whole.by_text(sampling.distribution(whole.logits, settings, prompt=whole.prompt))
    found = sampling.chi_square(counts, predicted)
    assert found.agrees(), found
    # and the test can say no: the same draws are not those of the untouched distribution
    if settings != SETTINGS[0]:
        assert not sampling.chi_square(counts, whole.by_text(sampling.softmax(whole.logits))).agrees()


def test_one_temperature_above_0_is_greedy_in_vllm(bf16):
    seen = next_token.look(bf16, QUESTION)
    assert next_token.draws(bf16, QUESTION, range(40), quiet=True, temperature=0.01) == {seen.tokens[0]: 40}
    assert next_token.draws(bf16, QUESTION, range(40), quiet=True, temperature=2.0, top_k=1) == {seen.tokens[0]: 40}


def test_a_scripted_engine_is_read_alike():
    with Scripted() as engine:
        seen = next_token.look(place(engine), "Hello", top=5)
        assert len(seen.tokens) == 5
        assert seen.rest == pytest.approx(1 - seen.probs.sum())
        counts = next_token.draws(place(engine), "Hello", range(300), temperature=1.0, top_k=5, force=True)
        predicted = dict(zip(seen.tokens, sampling.softmax(seen.logprobs), strict=True))
        assert sampling.chi_square(counts, predicted).agrees()
        assert sum(counts.values()) == 300


def test_an_engine_without_logprobs_is_told():
    with Scripted(ignore={"logprobs", "top_logprobs"}) as engine:
        for ask in (lambda: next_token.look(place(engine), "Hello"), lambda: next_token.draws(place(engine), "Hello", range(3))):
            with pytest.raises(WorkFailed, match="gave no log-probabilities"):
                ask()
    with Scripted(reject={"logprobs"}) as engine, pytest.raises(UserError, match="refuses the request"):
        next_token.look(place(engine), "Hello")


def test_thinking_without_content_is_a_first_token_all_the_same():
    with Scripted(thinks=True) as engine:
        assert next_token.look(place(engine), "Hello", top=5).picked


def test_many_keeps_the_order_and_what_failed():
    with Scripted(reject={"n"}) as engine:
        asked = [{"messages": "Hello", "max_tokens": k, **({"n": 2} if k == 3 else {})} for k in (5, 1, 3, 2)]
        answers = many(place(engine), asked, at_once=4)
        assert [a.usage["completion_tokens"] if not isinstance(a, Exception) else str(a)[:30] for a in answers][:2] == [5, 1]
        assert isinstance(answers[2], UserError)
        assert answers[3].usage["completion_tokens"] == 2
        assert all("messages" in request for request in asked)


def test_many_asks_at_once():
    with Scripted(faults={"seed": "slow"}) as engine:
        t0 = time.monotonic()
        many(place(engine), [{"messages": "Hello", "max_tokens": 1, "seed": k} for k in range(6)], at_once=6)
        assert time.monotonic() - t0 < 4          # one second each


def test_an_interrupt_gives_up_what_has_not_begun():
    begun = []

    def do(k):
        begun.append(k)
        if k == 1:
            raise KeyboardInterrupt
        time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt):
        each(do, range(100), at_once=2)
    assert len(begun) < 20


def test_only_pico_is_pico():
    assert next_token.is_pico(SimpleNamespace(model="pico"))
    assert not next_token.is_pico(SimpleNamespace(model="model"))
    assert not next_token.is_pico(SimpleNamespace(model="/models/pico-nvfp4"))


@pytest.mark.parametrize(("title", "sent"), [("vLLM", True), ("vLLM on the CPU", True), ("TensorRT-LLM", True), ("Ollama", False),
                                             ("the stand-in over transformers (not vLLM)", False), ("some server", False)])
def test_the_switch_for_thinking_goes_where_it_is_taken(title, sent):
    assert bool(next_token.plain(SimpleNamespace(engine=title))) == sent
    with Scripted(reject=set() if sent else {"chat_template_kwargs"}) as engine:
        where = place(engine, title)
        assert next_token.look(where, "Hello", top=5, force=True, **next_token.plain(where)).picked


def test_the_stand_in_draws_alike(standin):
    """The draws of the stand-in, whose order is vLLM's."""
    seen = next_token.look(standin, QUESTION, **next_token.plain(standin))
    settings = sampling.Settings(temperature=1.4, top_k=10)
    counts = next_token.draws(standin, QUESTION, range(100), quiet=True, **settings.request())
    assert sampling.chi_square(counts, seen.by_text(sampling.distribution(seen.logits, settings))).agrees()


def test_a_tie_is_no_place_to_cut():
    """16-bit logits have few values: top_k at a tie would let in a token that isn't shown."""
    def seen(*logprobs):
        return next_token.Candidates(tuple("abcdef"[: len(logprobs)]), np.array(logprobs), 0.1, "a", {})

    assert seen(-1.0, -2.0, -3.0, -3.5).clear == 3
    assert type(seen(-1.0, -2.0).clear) is int        # it goes into a request, and a request is JSON
    assert seen(-1.0, -2.0, -3.0, -3.0).clear == 2
    assert seen(-1.0, -1.0, -1.0).clear == 3          # nothing else to be had
    kept = seen(-1.0, -2.0, -3.0, -3.0).first(2)
    assert kept.tokens == ("a", "b")
    assert kept.rest == pytest.approx(1 - np.exp(-1) - np.exp(-2))


def test_a_first_use_by_many_at_once():
    """In a fresh Python nothing is imported yet, and eight threads meet an error at the same moment."""
    with Scripted(reject={"n"}) as engine:
        code = ("from types import SimpleNamespace\nimport openai\nfrom gb10.engines.many import many\n"
                f"where = SimpleNamespace(url={engine.url!r}, model='toy', engine='vLLM', client=openai.OpenAI(base_url={engine.url!r}, api_key='none'))\n"
                "print({type(a).__name__ for a in many(where, [{'messages': 'Hello', 'n': 2}] * 16, at_once=16)})")
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=paths.ROOT)
    assert done.stdout.strip() == "{'UserError'}", done.stderr[-800:]
