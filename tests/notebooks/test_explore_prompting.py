"""What notebook 3 of lesson 5 shows beside its widget: prompts as text, prompt length and time, voices, predicted fields."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from gb10.engines import fields, raw
from gb10.engines.talk import Answer
from gb10.errors import UserError, WorkFailed
from gb10.explore import field_rows, prompt_length, prompt_text, voices
from gb10.explore.prompt_length import Point

sys.path.append(str(Path(__file__).resolve().parents[1] / "engines"))
from scripted_engine import Scripted

MESSAGES = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "What does os.path.join do?"}]


def place(engine, title="Toy"):
    from openai import OpenAI

    return SimpleNamespace(url=engine.url, model=engine.model, engine=title, client=OpenAI(base_url=engine.url, api_key="not-needed"))


# ------------------------------------------------------------------------------------------- prompts as text

def test_picos_template_and_tokens():
    seen = prompt_text.by_template(MESSAGES)
    assert seen.text == ("<|im_start|>system\nBe terse.<|im_end|>\n<|im_start|>user\nWhat does os.path.join do?<|im_end|>\n<|im_start|>assistant\n")
    assert "".join(seen.pieces) == seen.text and len(seen.pieces) == 26
    assert prompt_text.by_template(MESSAGES, enable_thinking=False) == seen      # no such switch in it


@pytest.fixture
def tokenizing():
    """A server with vLLM's two pages, whose template has the switch (or not)."""
    seen = {"switch": True, "bodies": []}

    class Page(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen["bodies"].append(body)
            if self.path == "/tokenize":
                on = body.get("chat_template_kwargs", {}).get("enable_thinking", True)
                out = {"count": 2, "tokens": [1, 2] if on or not seen["switch"] else [1, 2, 3], "token_strs": ["Hi", "Ġthere"]}
            else:
                out = {"prompt": "<a>assistant\n" + ("<think>\n\n</think>\n\n" if 3 in body["tokens"] else "")}
            raw_body = json.dumps(out).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw_body)))
            self.end_headers()
            self.wfile.write(raw_body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield seen, SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}/v1", model="m", engine="vLLM")
    server.shutdown()
    server.server_close()


def test_an_engine_that_shows_its_prompt(tokenizing):
    state, where = tokenizing
    seen = prompt_text.by_engine(where, MESSAGES)
    assert seen.text == "<a>assistant\n" and seen.pieces == ("Hi", " there") and "/tokenize" in seen.by
    assert state["bodies"][0]["messages"] == MESSAGES and "chat_template_kwargs" not in state["bodies"][0]


def test_the_switch_of_a_template(tokenizing):
    state, where = tokenizing
    assert prompt_text.switched(where, MESSAGES) == ("<think>\n\n</think>\n\n", "")
    state["switch"] = False
    assert prompt_text.switched(where, MESSAGES) == ("", "")


def test_an_engine_without_such_a_page():
    with Scripted() as engine:
        engine.url += "/nowhere"
        where = place(engine)
        where.url = engine.url.removesuffix("/nowhere")
        assert prompt_text.by_engine(where, MESSAGES) is None and prompt_text.switched(where, MESSAGES) is None


def test_nobody_there():
    with pytest.raises(WorkFailed, match="did not answer"):
        prompt_text.by_engine(SimpleNamespace(url="http://127.0.0.1:9/v1", model="m", engine="x"), MESSAGES)


# ------------------------------------------------------------------------------------------- requests as they stand

def test_raw_requests():
    with Scripted(reject={"n"}) as engine:
        ask = raw.asker(place(engine))
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3, "temperature": 0}
        status, answer = ask(body)
        assert status == 200 and answer["choices"][0]["message"]["content"] and "model" not in body
        assert engine.bodies[-1] == {"model": "toy"} | body
        assert ask(body | {"n": 2}) == (400, {"error": {"message": "field 'n' is not allowed", "type": "BadRequestError", "code": 400}})
        assert ask(body | {"model": "other"})[0] == 404
        with pytest.raises(TypeError, match="a dictionary"):
            ask("Hello")


# ------------------------------------------------------------------------------------------- prompt length

LINE = [Point(n, 20 + 0.3 * n + e, 25 + 0.01 * n + e) for n in (50, 300, 600, 1200, 1800) for e in (-3, 0, 1, 2)]


def test_a_line_that_is_known_is_found():
    new, again = prompt_length.fit(LINE), prompt_length.fit(LINE, again=True)
    assert new.slope == pytest.approx(300, rel=1e-6) and new.start_ms == pytest.approx(20, abs=0.1)
    assert again.slope == pytest.approx(10, rel=1e-6)
    assert new.low < 300 < new.high and new.high - new.low < 6
    assert prompt_length.fit(LINE) == new
    text = prompt_length.describe(LINE)
    assert "300.0 ms per 1,000 tokens" in text and "50 to 1800 tokens, 20 prompts" in text
    assert "300.0 ms" in prompt_length.show(LINE).alt


def test_more_scatter_gives_a_wider_interval():
    wild = [Point(p.tokens, p.first_ms + 60 * (i % 3 - 1), p.again_ms) for i, p in enumerate(LINE)]
    a, b = prompt_length.fit(LINE), prompt_length.fit(wild)
    assert b.high - b.low > 5 * (a.high - a.low)


@pytest.mark.parametrize("points", [[], LINE[:2], [Point(9, 5.0, 5.0)] * 8])
def test_no_line_where_lengths_do_not_differ(points):
    assert prompt_length.fit(points) is None


def test_an_engine_is_measured_with_prompts_that_are_never_repeated_but_once():
    with Scripted(counting=True) as engine:
        points = prompt_length.measure(place(engine), words=(20, 200), repeats=3, quiet=True)
        sent = [b["messages"][0]["content"] for b in engine.bodies][1:]
    assert len(points) == 6 and len(set(sent)) == 6 and sent[::2] == sent[1::2]
    assert len({t.split()[0] for t in sent}) == 6
    assert {p.tokens for p in points} == {25, 205} and all(p.first_ms > 0 and p.again_ms > 0 for p in points)


def test_a_model_that_thinks_has_a_first_token_too():
    with Scripted(counting=True, thinks=True) as engine:
        assert len(prompt_length.measure(place(engine), words=(20,), repeats=2, quiet=True)) == 2


def test_an_engine_that_counts_nothing_or_refuses_all():
    with Scripted(counts=False) as engine, pytest.raises(UserError, match="counts no prompt tokens"):
        prompt_length.measure(place(engine), words=(20,), repeats=1, quiet=True)
    with Scripted(reject={"stream"}) as engine, pytest.raises(UserError, match="'stream' is not allowed"):
        prompt_length.measure(place(engine), words=(20,), repeats=1, quiet=True)


# ------------------------------------------------------------------------------------------- voices

def answer(text, prompt=20):
    return Answer(text, "", "stop", {"prompt_tokens": prompt} if prompt else None, None, {}, "", 0.1)


def test_voices():
    found = voices.compute({"none": [answer("a b c"), answer("d e")], "again": [answer("a b c"), answer("d e")],
                            "pirate": [answer("Arr! a", 31), answer("d e", 31)], "refused": [UserError("it said no"), UserError("it said no")]},
                           lambda t: "Arr" in t)
    assert [v.changed for v in found] == [0, 0, 1, 0] and [v.formed for v in found] == [0, 0, 1, 0]
    assert [v.grown for v in found] == [0, 0, 11, None] and found[0].words[0] == 2.5
    text = voices.describe(found)
    assert "prompt   +11 tokens; of 2 answers 1 changed, 1 in the form" in text and "no answer: it said no" in text
    assert "pirate: 2 words, 1 of 2 changed" in voices.show(found).alt


def test_voices_of_an_engine_that_counts_nothing_or_says_nothing():
    assert "prompt not counted" in voices.describe(voices.compute({"none": [answer("a", None)]}))
    said = voices.show(voices.compute({"none": [UserError("no")], "x": [UserError("no")]}))
    assert isinstance(said, str) and "no answer: no" in said


# ------------------------------------------------------------------------------------------- predicted fields

def test_predictions_beside_the_table():
    with Scripted(ignore={"top_k"}, reject={"n"}) as engine:
        table = fields.table(engine.url, engine.model, engine="Toy", only=["top_k", "n", "seed"], quiet=True)
    shown = field_rows.Predicted(table, {"top_k": "ignored", "n": "honoured"})
    assert [shown.verdict(r) for r in table] == ["hit", "", "miss"] and shown.summary() == "1 hit, 1 miss"
    html = shown._repr_html_()
    assert html.count("<details>") == 3 and "&quot;top_k&quot;: 1" in html and "curl -s" in html
    assert repr(shown).startswith("1 hit, 1 miss; 1 honoured, 1 ignored, 1 rejected")


def test_a_row_that_could_not_be_decided_is_neither_hit_nor_miss():
    with Scripted(ignore={"temperature"}) as engine:
        table = fields.table(engine.url, engine.model, only=["top_k"], quiet=True)
    shown = field_rows.Predicted(table, {"top_k": "honoured"})
    assert shown.summary() == "0 hits, 0 misses, 1 undecided" and "# nothing was sent" in shown._repr_html_()
