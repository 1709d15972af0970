"""Checkers of lesson 05, notebook 3: stubs, solutions, mistakes, odd answers, and their trials on engines of known behaviour."""

import json
import math
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gb10 import notebooks
from gb10.check import lesson05
from gb10.check.lesson05 import prompting, schema_verdict
from gb10.check.lesson05 import schema_engines as small
from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET

sys.path.append(str(Path(__file__).resolve().parents[1] / "engines"))
from scripted_engine import Scripted

EXERCISES = {"few_shot": (prompting.few_shot, prompting._SHOT_MISTAKES, prompting._few),
             "prefill_of": (prompting.prefill_of, prompting._PREFILL_MISTAKES, prompting._prefill)}
ALL = [*EXERCISES, "verdict_on_schema"]


def from_notebook(name, kind):
    """The function of the notebook, as stub or as solution."""
    source = next(s for s in notebooks.sources("05") if s.name.startswith("03-"))
    cells = [c.source for c in notebooks.derive(source, kind).cells if c.cell_type == "code"]
    scope = {}
    exec(next(c for c in cells if c.startswith(f"def {name}(")), scope)  # noqa: S102 - our own notebook
    return scope[name]


def place(engine, title="Toy"):
    from openai import OpenAI

    return SimpleNamespace(url=engine.url, model=engine.model, engine=title, client=OpenAI(base_url=engine.url, api_key="not-needed"))


@pytest.fixture(scope="module")
def toy():
    with Scripted(counting=True) as engine:
        yield place(engine)


def live(verdict):
    return dict(verdict.rows)["live"]


def test_they_are_found_under_the_lessons_name():
    assert all(getattr(lesson05, name) is getattr(prompting, name) for name in ALL)


@pytest.mark.parametrize("name", ALL)
def test_the_untouched_stub(name, toy):
    check = getattr(prompting, name)
    assert check(from_notebook(name, notebooks.EXERCISE), toy).status == NOT_ATTEMPTED
    for nothing in (None, ..., lambda *a: None):
        assert check(nothing, toy).status == NOT_ATTEMPTED


@pytest.mark.parametrize("name", ALL)
def test_the_solution_and_the_engine_that_confirms_it(name, toy):
    verdict = getattr(prompting, name)(from_notebook(name, notebooks.SOLUTION), toy)
    assert verdict.status == CORRECT, verdict
    assert "your" in live(verdict) and "not tried" not in live(verdict)
    assert "give the engine as second argument" in live(getattr(prompting, name)(from_notebook(name, notebooks.SOLUTION)))


@pytest.mark.parametrize(("name", "number"), [(n, i) for n, (_, m, _) in EXERCISES.items() for i in range(len(m))])
def test_each_mistake_gets_its_own_hint(name, number):
    check, mistakes, _ = EXERCISES[name]
    verdict = check(mistakes[number].function)
    assert verdict.status == NOT_YET and verdict.hint == mistakes[number].hint, verdict


@pytest.mark.parametrize("name", EXERCISES)
def test_hints_differ(name):
    hints = [m.hint for m in EXERCISES[name][1]]
    assert len(set(hints)) == len(hints)


@pytest.mark.parametrize("name", ALL)
def test_other_wrong_answers(name, toy):
    def raises(*args):
        raise KeyError("choices")

    def leaves(*args):
        raise SystemExit

    for wrong in (raises, leaves, lambda *a: 0, lambda *a: "x", lambda *a: [], lambda *a: math.nan, lambda *a: [math.nan] * 3, lambda: 1,
                  lambda *a: {"x": {1, 2}}, 7, "honoured"):
        verdict = getattr(prompting, name)(wrong, toy)
        assert verdict.status == NOT_YET and verdict.hint, wrong


@pytest.mark.parametrize("name", ALL)
def test_an_engine_that_is_gone_is_not_held_against_the_reader(name):
    right = schema_verdict.right if name == "verdict_on_schema" else EXERCISES[name][2]
    with Scripted() as engine:
        gone = place(engine)
    verdict = getattr(prompting, name)(right, gone)
    assert verdict.status == CORRECT and "not tried" in live(verdict)


# ------------------------------------------------------------------------------------------- few-shot

def test_messages_may_be_made_in_other_ways(toy):
    def by_generator(examples, question):
        for asked, answered in examples:
            yield {"role": "user", "content": asked}
            yield {"role": "assistant", "content": answered}
        yield {"role": "user", "content": question}

    assert prompting.few_shot(by_generator).status == CORRECT
    assert prompting.few_shot(lambda e, q: tuple(prompting._few(e, q)), toy).status == CORRECT


def test_a_list_that_grows_from_call_to_call_is_found():
    kept = []

    def grows(examples, question):
        if len(kept) > 40 or question != "again":
            kept.clear()
        kept.extend(prompting._few(examples, question))
        return kept

    def uses_them_up(examples, question):
        out = []
        while examples:
            asked, answered = examples.pop(0)
            out += prompting._few([(asked, answered)], "")[:2]
        return [*out, {"role": "user", "content": question}]

    for wrong in (grows, uses_them_up):
        verdict = prompting.few_shot(wrong)
        assert verdict.status == NOT_YET and "second call" in verdict.hint


def test_the_live_engine_decides_on_examples_that_it_has_not_seen(toy):
    known = [c.args for c in prompting._SHOTS] + [(prompting._TWO, "again")]

    def by_heart(examples, question):
        return prompting._few(examples, question) if (examples, question) in known else [{"role": "user", "content": question}]

    assert prompting.few_shot(by_heart).status == CORRECT
    verdict = prompting.few_shot(by_heart, toy)
    assert verdict.status == NOT_YET and "counts another number" in verdict.hint


def test_an_engine_that_does_not_count():
    with Scripted(counts=False) as engine:
        for check, right in ((prompting.few_shot, prompting._few), (prompting.prefill_of, prompting._prefill)):
            verdict = check(right, place(engine))
            assert verdict.status == CORRECT and "doesn't count" in live(verdict)


def test_a_model_that_thinks_is_no_obstacle():
    with Scripted(thinks=True, counting=True) as engine:
        assert prompting.few_shot(prompting._few, place(engine)).status == CORRECT
        assert prompting.prefill_of(prompting._prefill, place(engine)).status == CORRECT


# ------------------------------------------------------------------------------------------- prefill

def test_prefill_by_formula():
    """The closed form for n equal turns: n·s + u·n(n+1)/2 + a·n(n−1)/2 without a cache, s + n·u with one."""
    for n, u, a, s in ((1, 5, 7, 3), (10, 20, 150, 500), (40, 1, 1, 0)):
        assert prompting._prefill([(u, a)] * n, s, False) == n * s + u * n * (n + 1) // 2 + a * n * (n - 1) // 2
        assert prompting._prefill([(u, a)] * n, s, True) == s + n * u


def test_the_checker_and_the_course_count_alike():
    from gb10.explore import conversation

    draw = random.Random(1)
    for _ in range(50):
        turns = [(draw.randrange(1, 99), draw.randrange(1, 99)) for _ in range(draw.randrange(1, 9))]
        for cached in (False, True):
            assert conversation.prefill_of(turns, 17, cached) == prompting._prefill(turns, 17, cached)


def test_the_tokens_of_a_real_conversation_decide(toy):
    def by_heart(turns, system, cached):
        return prompting._prefill(turns, system, cached) if (turns, system, cached) in [c.args for c in prompting._TALKS] else 0

    assert prompting.prefill_of(by_heart).status == CORRECT
    assert prompting.prefill_of(by_heart, toy).status == NOT_YET


def test_prompts_that_do_not_grow_are_told():
    with Scripted() as engine:           # nine tokens, whatever is sent
        verdict = prompting.prefill_of(prompting._prefill, place(engine))
    assert verdict.status == CORRECT and "don't come back whole" in live(verdict)


# ------------------------------------------------------------------------------------------- verdict on a schema

SCHEMA = {"type": "object", "properties": {"zq_41": {"enum": ["vellum-7319"]}}, "required": ["zq_41"], "additionalProperties": False}


def probe(schema=SCHEMA, wanted=("zq_41", "vellum-7319"), text="Hello", tokens=1000, status=lambda s: s != 200, read=None, form=None, **more):
    """A reader's function, of which one part can be made wrong."""
    def verdict(ask):
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens,
                "response_format": form or {"type": "json_schema", "json_schema": {"name": "p", "schema": schema}}} | more
        body = {k: v for k, v in body.items() if v is not None}
        code, answer = ask(body)
        if status(code):
            return "rejected"
        content = answer["choices"][0]["message"].get("content")
        return "honoured" if (read or exact)(content, dict([wanted])) else "ignored"

    return verdict


def exact(content, wanted):
    try:
        return json.loads(content or "") == wanted
    except ValueError:
        return False


def loose(content, wanted):
    """Finds JSON wherever it stands."""
    content = content or ""
    return exact(content[content.find("{"): content.rfind("}") + 1], wanted)


def unfenced(content, wanted):
    return exact((content or "").removeprefix("```json").removesuffix("```"), wanted)


def valid(content, wanted):
    try:
        return isinstance(json.loads(content or ""), dict)
    except ValueError:
        return False


def keys(content, wanted):
    return valid(content, wanted) and set(json.loads(content)) == set(wanted)


AGE = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name", "age"]}
WRONG = {
    "always honoured": (lambda ask: ask({"messages": [{"role": "user", "content": "x"}]}) and "honoured", "ignores it"),
    "by the status": (lambda ask: "honoured" if probe(read=lambda c, w: True)(ask) == "honoured" else "rejected", "ignores it"),
    "400 alone": (probe(status=lambda s: s == 400), "refuses it with 422"),
    "text against text": (probe(read=lambda c, w: c == json.dumps(w)), "honours it, with blanks and line ends"),
    "any object": (probe(read=valid), "honours json_object only"),
    "a schema that anybody fills": (probe(AGE, read=lambda c, w: valid(c, w) and set(json.loads(c)) == {"name", "age"}),
                                    "ignores it, and its model likes JSON"),
    "the answer in the question": (probe(text="Answer as JSON with the key zq_41 and the value vellum-7319."), "ignores it, and its model likes JSON"),
    "a boolean that a coin fits": (probe({"type": "object", "properties": {"ok": {"type": "boolean"}}}, read=lambda c, w: valid(c, w) and "ok" in json.loads(c)),
                                   "ignores it, and its model likes JSON"),
    "the keys alone": (probe(read=keys), "has the keys right and the values not"),
    "JSON somewhere": (probe(read=loose), "puts prose around the JSON"),
    "fences taken off": (probe(read=unfenced), "puts a Markdown fence around the JSON"),
    "no limit": (probe(tokens=None), "honours it, and gives four tokens unless you ask for more"),
    "no room to think": (probe(tokens=64), "thinks, then honours it"),
    "None is not expected": (probe(tokens=64, read=lambda c, w: c.strip() == json.dumps(w)), "honours it, with blanks and line ends"),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_probe_is_told_by_the_engine_that_it_misjudges(name):
    function, engine = WRONG[name]
    verdict = schema_verdict.verdict_on_schema(function)
    assert verdict.status == NOT_YET, verdict
    assert dict(verdict.rows)["engine"] == f"one that {engine}", verdict
    assert verdict.hint


def test_every_engine_but_the_plain_ones_is_needed_and_has_a_hint_of_its_own():
    assert set(schema_verdict.HINTS) == set(small.TRUTH) and len(set(schema_verdict.HINTS.values())) == len(small.TRUTH)
    assert {truth for truth, _ in small.TRUTH.values()} == set(schema_verdict.WORDS)


@pytest.mark.parametrize(("function", "word"), [
    (probe(tokens=5000), "beyond its context"),
    (probe(form={"type": "json_object"}), "not of the form"),
    (probe(form={"type": "json_schema", "schema": SCHEMA}), "not of the form"),
    (probe(messages=None), "no messages"),
    (lambda ask: "ignored", "nothing was sent"),
    (lambda ask: (ask({"messages": [{"role": "user", "content": "x"}]}), "ignored")[1], "no response_format"),
    (lambda ask: probe()(ask).upper(), "three words"),
    (lambda ask: probe()(ask) == "honoured", "three words"),
])
def test_what_is_wrong_with_the_request_itself_is_said(function, word):
    verdict = schema_verdict.verdict_on_schema(function)
    assert verdict.status == NOT_YET and word in verdict.hint, verdict


def test_a_loop_that_never_ends_is_ended():
    def insists(ask):
        while ask({"messages": [{"role": "user", "content": "x"}]})[0]:
            pass

    verdict = schema_verdict.verdict_on_schema(insists)
    assert verdict.status == NOT_YET and "more than 20 requests" in dict(verdict.rows)["your code raised"]


def several(ask):
    """Right, in another way: two probes, one with numbers; retries with more room; checks without the field first."""
    schema = {"type": "object", "properties": {"qx": {"type": "array", "items": {"const": 71077345}, "minItems": 2, "maxItems": 2}},
              "required": ["qx"], "additionalProperties": False}
    plain = {"model": "other", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Tell me of the sea."}],
             "max_completion_tokens": 40}
    if ask(plain)[0] != 200:
        raise RuntimeError("it doesn't answer at all")
    for room in (40, 1500):
        status, answer = ask(plain | {"max_completion_tokens": room,
                                      "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}})
        if status >= 400:
            return "rejected"
        if answer["choices"][0]["finish_reason"] != "length":
            break
    try:
        return "honoured" if json.loads(answer["choices"][0]["message"]["content"]) == {"qx": [71077345] * 2} else "ignored"
    except (TypeError, ValueError):
        return "ignored"


def test_other_right_probes():
    for right in (several, schema_verdict.right, probe()):
        verdict = schema_verdict.verdict_on_schema(right)
        # an array of two needs two: fill() gives as many as minItems asks for
        assert verdict.status == CORRECT, verdict


def test_the_body_that_a_reader_changes_afterwards_is_not_what_was_sent():
    def reuses(ask):
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1000,
                "response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}}}
        status, answer = ask(body)
        body.clear()
        if status != 200:
            return "rejected"
        return "honoured" if exact(answer["choices"][0]["message"]["content"], {"zq_41": "vellum-7319"}) else "ignored"

    assert schema_verdict.verdict_on_schema(reuses).status == CORRECT


@pytest.mark.parametrize(("how", "outcome"), [({}, "honoured"), ({"ignore": {"response_format json_schema"}}, "ignored"),
                                              ({"reject": {"response_format json_schema"}}, "rejected")])
def test_the_live_verdict_is_compared_with_the_courses_own(how, outcome):
    with Scripted(**how) as engine:
        verdict = schema_verdict.verdict_on_schema(schema_verdict.right, place(engine))
    assert verdict.status == CORRECT and live(verdict).count(f"'{outcome}'") == 2


def test_a_model_that_thinks_beyond_the_limit_is_not_held_against_the_reader():
    with Scripted(thinks=True) as engine:        # nothing but reasoning for this question, whatever the limit
        verdict = schema_verdict.verdict_on_schema(schema_verdict.right, place(engine))
        assert verdict.status == CORRECT and "spent 1000 tokens on reasoning" in live(verdict)
        verdict = schema_verdict.verdict_on_schema(probe(text="What does os.path.join do?"), place(engine))
    assert verdict.status == CORRECT and live(verdict).count("'honoured'") == 2


def test_a_verdict_that_is_right_on_the_small_engines_alone():
    def by_heart(ask):
        status, answer = ask({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2})
        if "id" in answer or answer.get("usage", {}).get("prompt_tokens") != 20 and status == 200:
            return "rejected"
        return schema_verdict.right(ask)

    assert schema_verdict.verdict_on_schema(by_heart).status == CORRECT
    with Scripted() as engine:
        verdict = schema_verdict.verdict_on_schema(by_heart, place(engine))
    assert verdict.status == NOT_YET and "'rejected'" in live(verdict) and "another verdict" in verdict.hint
    assert "gave" not in dict(verdict.rows)


def test_an_engine_that_fails_live_is_told():
    with Scripted(faults={"response_format json_schema": "fail"}) as engine:
        verdict = schema_verdict.verdict_on_schema(schema_verdict.right, place(engine))
    assert verdict.status == CORRECT and "can't tell" in live(verdict)


# ------------------------------------------------------------------------------------------- the small engines themselves

@pytest.mark.parametrize("schema", [
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 5}, "b": {"type": "array", "items": {"type": "null"}}}},
    {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "b": {"type": "string", "minLength": 30}}},
    {"properties": {"x": {"const": None}, "y": {"enum": [1, 2]}, "z": {"type": ["number", "null"]}}},
    {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "boolean"}}}}},
])
def test_fill_fits_the_schema(schema):
    jsonschema = pytest.importorskip("jsonschema")
    for seed in range(10):
        jsonschema.validate(small.fill(schema, random.Random(seed)), schema)


def test_without_the_field_no_engine_refuses():
    for name in small.TRUTH:
        status, answer = small.serve(name)({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20})
        assert status == 200 and answer["choices"][0]["message"]["content"], name
