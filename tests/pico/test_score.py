"""The scorer: right answers pass, and everything that only looks like an answer fails."""
import json

import pytest

from appendix.pico import questions, score, sources

from .conftest import PICO

QUESTIONS = score.read_questions()
BY_NAME = {q["function"]: q for q in QUESTIONS}


def verdict(name: str, answer: str) -> dict:
    return score.judge(BY_NAME[name], answer, QUESTIONS)


def test_a_hundred_questions_with_references_and_key_words():
    assert len(QUESTIONS) == len(BY_NAME) == 100
    counts = [q["calls"] for q in QUESTIONS]
    assert counts == sorted(counts, reverse=True) and min(counts) > 0
    for q in QUESTIONS:
        assert q["question"] == f"What does {q['function']} do?" and len(q["reference"]) >= 12
        assert not sources.held_out(q["document"]), q
        assert set(q["key_words"]) <= set(questions.words_of(q["reference"]))


def test_every_reference_itself_is_right():
    verdicts = {q["function"]: score.judge(q, q["reference"], QUESTIONS) for q in QUESTIONS}
    assert {name: v["why"] for name, v in verdicts.items() if not v["right"]} == {}


def test_small_differences_are_forgiven():
    assert verdict("sorted", "It returns a new sorted list made from the items in the iterable.")["right"]
    assert verdict("os.getcwd", "Returns a string that represents the current working directory.")["right"]


@pytest.mark.parametrize("answer", [
    "", " ", ".", "sorted", "What does sorted do?", "sorted does what sorted does.",
    "Return the length (the number of items) of an object.",
    "Return a string containing a printable representation of an object.",
    "I do not know. I have read nothing but Python's documentation.",
    "list", "Return return return return.",
])
def test_wrong_answers_to_sorted(answer):
    assert not verdict("sorted", answer)["right"]


def test_every_other_reference_is_refused():
    """No reference passes as the answer to another function's question, unless both references are the same."""
    wrong = [(q["function"], other["function"]) for q in QUESTIONS for other in QUESTIONS
             if q["reference"] != other["reference"] and score.judge(q, other["reference"], QUESTIONS)["right"]]
    assert wrong == []


def test_a_heap_of_all_words_is_refused():
    heap = " ".join(sorted({w for q in QUESTIONS for w in questions.words_of(q["reference"])}))
    assert not any(score.judge(q, heap, QUESTIONS)["right"] for q in QUESTIONS)


def test_every_reference_at_once_is_refused():
    everything = " ".join(q["reference"] for q in QUESTIONS)
    assert not any(score.judge(q, everything, QUESTIONS)["right"] for q in QUESTIONS)


def test_echo_of_each_question_is_refused():
    assert not any(score.judge(q, q["question"], QUESTIONS)["right"] for q in QUESTIONS)


def test_stored_verdicts_follow_from_stored_answers():
    stored = json.loads((PICO / "results.json").read_text(encoding="utf-8"))
    rows = score.score([r["answer"] for r in stored["results"]], QUESTIONS)
    assert rows == stored["results"]
    assert score.summary(rows) == {"right": stored["right"], "questions": stored["questions"]}
    assert stored["right"] >= 60
