"""Checkers of lesson 04, notebook 1: stubs, solutions, mistakes, odd answers, and their trials on engines of known behaviour."""

import http.server
import json
import math
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from gb10 import notebooks
from gb10.check import lesson04
from gb10.check.lesson04 import serving
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET

sys.path.append(str(Path(__file__).resolve().parents[1] / "engines"))
from scripted_engine import Scripted

EXERCISES = {"read_stream": (serving.read_stream, serving._STREAM_MISTAKES), "users_that_fit": (serving.users_that_fit, serving._CACHE_MISTAKES)}
ALL = [*EXERCISES, "request_for"]


def from_notebook(name, kind):
    """The function of the notebook, as stub or as solution."""
    source = next(s for s in notebooks.sources("04") if s.name.startswith("01-"))
    cells = [c.source for c in notebooks.derive(source, kind).cells if c.cell_type == "code"]
    scope = {"json": json}
    exec(next(c for c in cells if c.startswith(f"def {name}(")), scope)  # noqa: S102 - our own notebook
    return scope[name]


def place(engine, title="Toy"):
    return SimpleNamespace(url=engine.url, model=engine.model, engine=title)


@pytest.fixture(scope="module")
def toy():
    with Scripted() as engine:
        yield place(engine)


def test_they_are_found_under_the_lessons_name():
    assert all(getattr(lesson04, name) is getattr(serving, name) for name in ALL)


@pytest.mark.parametrize("name", ALL)
def test_the_untouched_stub(name, toy):
    assert getattr(serving, name)(from_notebook(name, notebooks.EXERCISE), toy).status == NOT_ATTEMPTED
    for nothing in (None, ...):
        assert getattr(serving, name)(nothing, toy).status == NOT_ATTEMPTED


@pytest.mark.parametrize("name", ALL)
def test_the_solution(name, toy):
    verdict = getattr(serving, name)(from_notebook(name, notebooks.SOLUTION), toy)
    assert verdict.status == CORRECT, verdict


@pytest.mark.parametrize(("name", "number"), [(n, i) for n, (_, m) in EXERCISES.items() for i in range(len(m))])
def test_each_mistake_gets_its_own_hint(name, number):
    check, mistakes = EXERCISES[name]
    verdict = check(mistakes[number].function)
    assert verdict.status == NOT_YET and verdict.hint == mistakes[number].hint, verdict


@pytest.mark.parametrize("name", EXERCISES)
def test_hints_differ(name):
    hints = [m.hint for m in EXERCISES[name][1]]
    assert len(set(hints)) == len(hints)


@pytest.mark.parametrize("name", ALL)
def test_other_wrong_answers(name, toy):
    def raises(*args):
        return args[0]["no"][0]["never"]

    def leaves(*args):
        raise SystemExit

    for wrong in (raises, leaves, lambda *a: 0, lambda *a: "x", lambda *a: [], lambda *a: math.nan, lambda *a: [math.nan] * 3, lambda: 1,
                  lambda *a: {"x": {1, 2}}, lambda *a: {"x": math.nan}, 7):
        verdict = getattr(serving, name)(wrong, toy)
        assert verdict.status == NOT_YET and verdict.hint, wrong


# ------------------------------------------------------------------------------------------- reading a stream

def test_a_right_answer_may_be_written_in_other_ways(toy):
    def with_sse_parser(lines):
        payloads, text, finish, usage = (x.removeprefix("data:").strip() for x in lines if x.startswith("data:")), [], None, None
        for payload in payloads:
            if payload != "[DONE]":
                event = json.loads(payload)
                if event.get("error"):
                    raise RuntimeError(event["error"]["message"])
                for c in event["choices"]:
                    text.append(c.get("delta", {}).get("content") or "")
                    finish = c.get("finish_reason") or finish
                usage = event.get("usage", usage)
        return ["".join(text), finish, usage]

    assert serving.read_stream(with_sse_parser, toy).status == CORRECT


def test_the_error_has_to_be_a_runtime_error():
    def other(lines):
        try:
            return serving._read(lines)
        except RuntimeError as e:
            raise ValueError(str(e)) from None

    assert serving.read_stream(other).status == NOT_YET


def test_a_stream_of_the_live_engine_decides_too(toy):
    """Right on every case that stands in the checker, wrong on what the engine really sends."""
    known = {json.dumps(c.args[0]) for c in serving._STREAMS}

    def learned_by_heart(lines):
        return serving._read(lines) if json.dumps(lines) in known else ("", None, None)

    assert serving.read_stream(learned_by_heart).status == CORRECT
    verdict = serving.read_stream(learned_by_heart, toy)
    assert verdict.status == NOT_YET and "engine that is up" in verdict.hint


def test_an_engine_that_is_gone_is_not_held_against_the_reader():
    gone = SimpleNamespace(url="http://127.0.0.1:9/v1", model="m", engine="Toy")
    for check, answer in ((serving.read_stream, serving._read), (serving.users_that_fit, serving._users)):
        verdict = check(answer, gone)
        assert verdict.status == CORRECT and "not tried" in dict(verdict.rows)["live"]
    verdict = serving.request_for(serving.right_request, gone)
    assert verdict.status == NOT_YET and "start an engine" in verdict.hint


# ------------------------------------------------------------------------------------------- users of the KV cache

@pytest.fixture
def metrics():
    class Page(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            body = serving._page(16, 1000, 'hash_block_size="3",').encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=s.serve_forever, args=(0.02,), daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{s.server_port}/v1", model="m", engine="vLLM")
    s.shutdown()
    s.server_close()


def test_the_page_of_the_live_engine_is_read(metrics):
    verdict = serving.users_that_fit(serving._users, metrics)
    assert verdict.status == CORRECT and "15 users of 1000 tokens" in dict(verdict.rows)["live"]
    known = {c.args[0] for c in serving._CACHES}
    assert serving.users_that_fit(lambda page, context: serving._users(page, context) if page in known else 14, metrics).status == NOT_YET


def test_an_engine_without_such_a_page_is_said_to_have_none(toy):
    verdict = serving.users_that_fit(serving._users, toy)
    assert verdict.status == CORRECT and "no such line" in dict(verdict.rows)["live"]


# ------------------------------------------------------------------------------------------- a request that decides

def changed(**changes):
    def request_for(model, question, n):
        body = serving.right_request(model, question, n) | {k: v(n) if callable(v) else v for k, v in changes.items()}
        return {k: v for k, v in body.items() if v is not None}
    return request_for


@pytest.mark.parametrize(("changes", "hint"), [
    ({"temperature": None}, "two answers"), ({"temperature": 1.5, "top_p": 0.99}, "two answers"),
    ({"ignore_eos": None}, "end-of-sequence"), ({"max_tokens": None}, "no limit"), ({"max_tokens": lambda n: n + 1}, "exactly n"),
    ({"max_tokens": lambda n: 50 * n}, "no limit"), ({"logprobs": None}, "log-probabilities are missing"),
    ({"messages": [{"role": "user", "content": "Hello there"}]}, "question is not among"), ({"model": "other"}, "refuses"),
])
def test_what_is_missing_gets_its_hint(changes, hint, toy):
    verdict = serving.request_for(changed(**changes), toy)
    assert verdict.status == NOT_YET and hint in verdict.hint, verdict


@pytest.mark.parametrize("changes", [
    {"temperature": None, "seed": 4}, {"temperature": 1.0, "top_k": 1}, {"ignore_eos": None, "min_tokens": lambda n: n},
    {"max_tokens": None, "max_completion_tokens": lambda n: n}, {"top_logprobs": 2}, {"stream": True}])
def test_other_right_answers(changes, toy):
    verdict = serving.request_for(changed(**changes), toy)
    assert verdict.status == CORRECT, verdict


def test_an_engine_that_can_do_less_is_asked_for_less():
    with Scripted(ignore={"ignore_eos", "min_tokens", "logprobs"}) as engine:
        verdict = serving.request_for(changed(), place(engine))
        assert verdict.status == CORRECT and "fewer tokens" in dict(verdict.rows)["note"]
        assert serving.request_for(changed(temperature=None), place(engine)).status == NOT_YET
    with Scripted(reject={"ignore_eos", "logprobs"}) as engine:
        verdict = serving.request_for(changed(ignore_eos=None, logprobs=None), place(engine))
        assert verdict.status == CORRECT, verdict


def test_without_an_engine_it_says_what_to_give():
    verdict = serving.request_for(serving.right_request)
    assert verdict.status == NOT_YET and "check.request_for(request_for, engine)" in verdict.hint


def test_what_has_no_limit_is_not_sent():
    with Scripted() as engine:
        serving.request_for(changed(max_tokens=None), place(engine))
        assert all("max_tokens" in b for b in engine.bodies)
