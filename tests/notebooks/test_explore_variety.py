"""The runs of lesson 5, notebook 2, and their explorer."""

import math

import pytest

from gb10.engines.talk import Answer
from gb10.explore import runs, variety
from gb10.explore.runs import Sample

SURE, UNSURE = math.log(0.9), math.log(0.01)


def one(text, *logprobs, finish="stop"):
    words = text.split()
    return Sample(text, tuple(zip(words, logprobs, strict=True)) if logprobs else (), len(words), finish)


RUNS = {"cold": [one("a a a a", *[SURE] * 4)] * 3,
        "hot": [one("a b c d", SURE, UNSURE, SURE, UNSURE), one("e f g h", *[UNSURE] * 4), one("i j k", *[UNSURE] * 3, finish="length")],
        "mute": [one("x y"), one("x z"), one("v w")]}


def answer(**more):
    given = {"text": "a b", "reasoning": "", "finish_reason": "stop", "usage": {"completion_tokens": 5}, "logprobs": [{"token": "a", "logprob": -1}],
             "request": {}, "url": "", "seconds": 0.1}
    return Answer(**given | more)


def test_an_answer_as_a_sample():
    s = runs.sample(answer())
    assert (s.text, s.length, s.finish, s.likelihood) == ("a b", 5, "stop", -1)
    bare = runs.sample(answer(logprobs=None, usage=None))
    assert (bare.length, bare.likelihood) == (2, None)


def test_the_figures_of_each_run():
    cold, hot, mute = runs.compute(RUNS)
    assert cold.overlap[0] == 1.0
    assert cold.distinct2[0] == pytest.approx(1 / 9)
    assert cold.likelihood == pytest.approx((SURE, SURE, SURE))
    assert hot.distinct1[0] == hot.distinct2[0] == 1.0
    assert hot.overlap == (0.0, 0.0, 0.0)
    assert hot.length[1] <= hot.length[0] <= hot.length[2]
    assert mute.likelihood is None
    assert (cold.cut, hot.cut) == (0, 1)
    assert runs.compute({"two": RUNS["hot"][:2]}) == []


def test_the_table_and_the_figure_say_it():
    rows = runs.compute(RUNS)
    text = runs.table(rows)
    assert len(text.splitlines()) == 4
    assert "not given" in text.splitlines()[3]
    assert "cold: distinct-2 0.11, overlap 1.00" in runs.show(rows).alt


@pytest.mark.parametrize(("run", "number"), [(name, i) for name, samples in RUNS.items() for i in range(len(samples))])
def test_every_answer_can_be_chosen(run, number):
    s = variety.compute(RUNS, run, number)
    assert s.sample is RUNS[run][number]
    assert len(s.points) == 9
    assert variety.describe(s).startswith(f"{run}, answer {number + 1}: {s.sample.length} tokens, ended by {s.sample.finish}")
    assert ("no logprobs" in variety.describe(s)) == (run == "mute")


def test_surprises():
    s = variety.compute(RUNS, "hot", 0)
    assert s.surprises == ("b", "d")
    assert "2 tokens had less than 5%, the first of them 'b'" in variety.describe(s)
    assert variety.compute(RUNS, "cold", 0).point.variety == pytest.approx(1 / 3)


@pytest.mark.parametrize(("run", "number"), [("warm", 0), ("hot", 3), ("hot", -1)])
def test_no_such_answer(run, number):
    with pytest.raises(ValueError, match="there is no answer"):
        variety.compute(RUNS, run, number)


def test_tokens_are_coloured_and_escaped():
    text = variety.colored(Sample("<b>", (("<b>", UNSURE),), 1, "stop"))
    assert "&lt;b&gt;" in text
    assert 'title="1.00%"' in text
    assert variety.colored(one("<i> x")) == "&lt;i&gt; x"


def test_the_widget_follows_its_controls():
    run, number, text, words, image = variety.explore(RUNS | {"none": []}).children
    assert run.options == ("cold", "hot", "mute")
    number.value = 3
    run.value = "hot"
    assert words.value.startswith("hot, answer 3: 3 tokens, ended by length")
    assert "ring" in image.value
    assert ">i</span>" in text.value
    assert "nothing to look at" in variety.explore({}).value


def test_fewer_answers_than_the_slider_stood_at():
    shorter = {"cold": RUNS["cold"], "one": RUNS["hot"][:1]}
    run, number, *_ = variety.explore(shorter).children
    number.value = 3
    run.value = "one"
    assert number.value == number.max == 1
