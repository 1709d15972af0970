"""Checkers of lesson 04, notebook 2: stubs, solutions, mistakes, odd answers, and their trials on a server with a prefix cache."""

import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from gb10 import notebooks
from gb10.bench.selftest import Truth
from gb10.check import lesson04, live
from gb10.check.lesson04 import choosing
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET, Verdict
from gb10.errors import WorkFailed

EXERCISES = {"choose": (choosing.choose, choosing._CHOOSE_MISTAKES), "people": (choosing.people, choosing._PEOPLE_MISTAKES),
             "cached_share": (choosing.cached_share, choosing._SHARE_MISTAKES)}


def from_notebook(name, kind):
    """The function of the notebook, as stub or as solution."""
    source = next(s for s in notebooks.sources("04") if s.name.startswith("02-"))
    cells = [c.source for c in notebooks.derive(source, kind).cells if c.cell_type == "code"]
    scope = {}
    exec(next(c for c in cells if c.startswith(f"def {name}(")), scope)  # noqa: S102 - our own notebook
    return scope[name]


class Caching(BaseHTTPRequestHandler):
    """Remembers prompts, and counts what it knew of them as vLLM does, in blocks of 16 words."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _send(self, kind, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        s = self.server
        if self.path == "/v1/models":
            self._send("application/json", json.dumps({"data": [{"id": "small", "owned_by": "vllm"}]}))
        elif s.tells and self.path == "/metrics":
            self._send("text/plain", f'vllm:prefix_cache_hits_total{{engine="0"}} {s.hits}\nvllm:prefix_cache_queries_total{{engine="0"}} {s.queries}\n')
        else:
            self.send_error(404)

    def do_POST(self):
        s, words = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"].split()
        blocks = [tuple(words[:end]) for end in range(16, len(words) + 1, 16)]
        s.hits += 16 * sum(b in s.seen for b in blocks)
        s.queries += len(words)
        s.seen.update(blocks)
        self._send("application/json", json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "small", "usage": {
            "prompt_tokens": len(words), "completion_tokens": 4, "total_tokens": len(words) + 4}, "choices": [
            {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "four words of it"}}]}))


@pytest.fixture
def caching():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Caching)
    server.seen, server.hits, server.queries, server.tells = set(), 1000, 9000, True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    from openai import OpenAI

    url = f"http://127.0.0.1:{server.server_port}/v1"
    client = OpenAI(base_url=url, api_key="none", max_retries=0)
    yield SimpleNamespace(url=url, model="small", engine="vLLM", client=client, server=server)
    client.close()
    server.shutdown()
    server.server_close()
    thread.join()


def test_they_are_found_under_the_lessons_name():
    assert all(getattr(lesson04, name) is check for name, (check, _) in EXERCISES.items())


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_and_solution(name):
    assert EXERCISES[name][0](from_notebook(name, notebooks.EXERCISE)).status == NOT_ATTEMPTED
    verdict = EXERCISES[name][0](from_notebook(name, notebooks.SOLUTION))
    assert verdict.status == CORRECT, verdict


@pytest.mark.parametrize(("name", "number"), [(n, i) for n in EXERCISES for i in range(len(EXERCISES[n][1]))])
def test_each_mistake_gets_its_own_hint(name, number):
    check, mistakes = EXERCISES[name]
    verdict = check(mistakes[number].function)
    assert verdict.status == NOT_YET and verdict.hint == mistakes[number].hint, verdict


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("wrong", [lambda *a: math.nan, lambda *a: "8", lambda *a: [[]], lambda *a: 1 / 0, lambda a: a, 8.0],
                         ids=["nan", "text", "nested", "raises", "one argument", "no function"])
def test_odd_answers_are_a_verdict(name, wrong):
    verdict = EXERCISES[name][0](wrong)
    assert verdict.status == NOT_YET and verdict.hint


def test_other_right_answers():
    def loop(needs, offers):
        out = []
        for name, has in offers:
            if all(n in has for n in needs):
                out.append(name)
        return tuple(out)

    assert choosing.choose(loop).status == CORRECT
    assert choosing.people(lambda x, n, r, z: [x / n * r + x / n * z]).status == CORRECT


def test_the_share_is_tried_on_the_engine(caching):
    verdict = choosing.cached_share(choosing._share, caching)
    told = dict(verdict.rows)[live.ROW]
    assert verdict.status == CORRECT and "sent twice" in told
    found, sent = caching.server.hits - 1000, (caching.server.queries - 9000) // 2
    assert f"a prompt of {sent} tokens" in told and f"found {found} of them" in told and 0.9 * sent < found <= sent


def test_an_engine_that_tells_nothing_is_no_fault_of_the_reader(caching):
    caching.server.tells = False
    verdict = choosing.cached_share(choosing._share, caching)
    assert verdict.status == CORRECT and "doesn't tell" in dict(verdict.rows)[live.ROW]


def test_a_function_that_raises_on_real_figures_is_not_correct_yet():
    def opens_a_file(_):
        raise FileNotFoundError("mine.txt")

    right = Verdict("x", CORRECT)
    found = live.confirm(right, object(), lambda: ("told", live.yours(opens_a_file, 1), 1.0), "a hint")
    assert found.status == NOT_YET and ("your code raised", "FileNotFoundError: mine.txt") in found.rows
    engine_s = live.confirm(right, object(), lambda: {}["usage"], "a hint")     # a page without what it should have
    assert engine_s.status == CORRECT and "not tried: KeyError" in dict(engine_s.rows)[live.ROW]


def test_an_engine_that_is_gone_is_no_fault_of_the_reader():
    from openai import OpenAI

    client = OpenAI(base_url="http://127.0.0.1:9/v1", api_key="x", max_retries=0)
    verdict = choosing.cached_share(choosing._share, SimpleNamespace(url="http://127.0.0.1:9/v1", model="m", engine="vLLM", client=client))
    assert verdict.status == CORRECT and "not tried" in dict(verdict.rows)[live.ROW]


def test_what_only_works_on_paper_is_found_on_the_engine(caching):
    def whole_numbers_only(before, after):
        return choosing._share(before, after) if isinstance(after["hits"], int) else -1.0

    verdict = choosing.cached_share(whole_numbers_only, caching)
    assert verdict.status == NOT_YET and "counters" in verdict.hint and dict(verdict.rows)["gave"] == "-1.0"


def test_people_is_tried_on_requests_in_flight():
    with Truth(ttft=20, itl=2, tokens=24, owner="vllm") as truth:
        verdict = choosing.people(choosing._people, SimpleNamespace(url=truth.url, model=None))
    told = dict(verdict.rows)[live.ROW]
    assert verdict.status == CORRECT and "4 requests in flight" in told
    assert 3 < float(told.rpartition("says ")[2].split()[0]) < 4.5


def test_without_an_engine_it_says_so():
    assert "second argument" in dict(choosing.people(choosing._people).rows)[live.ROW]


def test_confirm_passes_on_what_is_not_correct_and_never_blames_the_engines_faults():
    wrong = Verdict("x", NOT_YET, (), "hint")
    assert live.confirm(wrong, None, lambda: 1 / 0, "h") is wrong
    right = Verdict("x", CORRECT)

    def fails():
        raise WorkFailed("the engine is gone")

    assert dict(live.confirm(right, object(), fails, "h").rows)[live.ROW] == "not tried: the engine is gone"
    assert live.confirm(right, object(), lambda: ("told", 1.0, 2.0), "h").status == NOT_YET
    assert live.confirm(right, object(), lambda: ("told", 1.0, 1.01), "h").status == CORRECT
    assert live.confirm(right, object(), lambda: ("told", "?", 1.0), "h").status == NOT_YET
    assert live.confirm(right, object(), lambda: ("told", math.nan, 1.0), "h").status == NOT_YET


def test_long_prompts_begin_differently():
    assert live.long_prompt().split()[0] != live.long_prompt().split()[0] and len(live.long_prompt().split()) > 200
