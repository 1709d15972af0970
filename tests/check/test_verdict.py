"""The three verdicts, and what a learner's code may do to a checker."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from gb10.check.verdict import CORRECT, NOT_ATTEMPTED, NOT_YET, Case, Mistake, agree, grade, one_number

CASES = [Case((2, 3), 5, "small"), Case((10, -4), 6)]


def verdict(function, **kw):
    return grade("add", function, CASES, hint="add the two numbers", **kw)


def test_correct():
    v = verdict(lambda a, b: a + b, done="well done")
    assert v.status == CORRECT and v and "2 cases" in repr(v) and "well done" in repr(v)


@pytest.mark.parametrize("function", [None, ..., NotImplemented, lambda a, b: None, lambda a, b: ...,
                                      lambda a, b: NotImplemented])
def test_not_attempted(function):
    v = verdict(function)
    assert v.status == NOT_ATTEMPTED and not v and "not attempted" in repr(v)


def test_the_stub_is_not_attempted():
    def add(a, b):
        raise NotImplementedError

    assert verdict(add).status == NOT_ATTEMPTED


def test_not_yet_shows_call_answer_expectation_and_one_hint():
    def add(a, b):
        return a * b

    text = repr(verdict(add))
    assert [line.split(":")[0].strip() for line in text.splitlines()] == ["◐ add", "call", "gave", "expected", "hint"]
    assert "add(2, 3)   (small)" in text and "gave: 6" in text and "expected: 5" in text and "add the two" in text


def test_the_second_case_counts():
    v = verdict(lambda a, b: a + abs(b))
    assert v.status == NOT_YET and ("gave", "14") in v.rows


def test_a_known_mistake_gets_its_own_hint():
    mistakes = [Mistake(lambda a, b: 1 / 0, "never"), Mistake(lambda a, b: a - b, "that is the difference")]
    assert verdict(lambda a, b: a - b, mistakes=mistakes).hint == "that is the difference"
    assert verdict(lambda a, b: 77, mistakes=mistakes).hint == "add the two numbers"


def test_of_two_mistakes_that_fit_the_one_that_fits_more_answers_is_named():
    cases = [Case((1, 1), 1), Case((2, 0), 2), Case((3, 2), 9)]        # what is asked for is a ** b
    mistakes = [Mistake(lambda a, b: a * b, "a product"), Mistake(lambda a, b: a if b else 0, "the first"),
                Mistake(lambda a, b: 1 / 0, "never")]

    def hint(function):
        return grade("power", function, cases, hint="none of these", mistakes=mistakes).hint

    assert hint(mistakes[0].function) == "a product" and hint(mistakes[1].function) == "the first"
    assert hint(lambda a, b: a if b == 1 else 0 if b == 0 else a / 0) == "a product"      # a tie, and one that raises
    assert hint(lambda a, b: -1) == "none of these"


def test_an_exception_is_one_line_and_not_a_traceback():
    def add(a, b):
        return a / 0

    v = verdict(add)
    row = dict(v.rows)["your code raised"]
    assert v.status == NOT_YET and row.startswith("ZeroDivisionError: division by zero   at: return a / 0")
    assert "\n" not in row and "Traceback" not in repr(v)


def raising(error):
    def add(a, b):
        raise error

    return add


@pytest.mark.parametrize("error", [SystemExit(3), RecursionError("deep"), KeyError(), UnicodeDecodeError("a", b"", 0, 1, "x"),
                                   Exception("two\nlines"), AssertionError()])
def test_whatever_is_raised_becomes_a_verdict(error):
    v = verdict(raising(error))
    assert v.status == NOT_YET and type(error).__name__ in repr(v) and "\n" not in dict(v.rows)["your code raised"]


def test_ctrl_c_is_the_learners():
    with pytest.raises(KeyboardInterrupt):
        verdict(raising(KeyboardInterrupt()))


class Hostile:
    def __repr__(self):
        raise RuntimeError("no repr")

    def __eq__(self, other):
        raise RuntimeError("no eq")

    def tolist(self):
        raise RuntimeError("no list")


@pytest.mark.parametrize("answer", [math.nan, math.inf, "5", [5], True, Hostile(), object(), b"5", {5: 5}, np.array([5, 5]),
                                    lambda: 5], ids=lambda a: type(a).__name__)
def test_an_answer_of_another_kind_is_not_yet(answer):
    assert verdict(lambda a, b: answer).status == NOT_YET


@pytest.mark.parametrize("answer", [5, 5.0, np.float32(5), np.int64(5), torch.tensor(5.0)])
def test_numbers_of_any_make_count(answer):
    assert agree(answer, 5)


@pytest.mark.parametrize("answer", [[1, 2], (1.0, 2.0), np.array([1, 2]), torch.tensor([1.0, 2.0])])
def test_sequences_of_any_make_count(answer):
    assert agree(answer, [1, 2]) and not agree(answer, [1, 3]) and not agree(answer, [1, 2, 3]) and not agree(answer, 1)


def test_a_function_that_changes_its_arguments_does_not_spoil_the_next_case():
    def total(values):
        out = sum(values)
        values.clear()
        return out

    given = [1, 2]
    assert grade("total", total, [Case((given,), 3), Case((given,), 3)], hint="").status == CORRECT


def test_what_is_not_a_function():
    v = verdict(5)
    assert v.status == NOT_YET and "parentheses" in v.hint


def test_html_is_escaped_and_leaves_the_themes_colours():
    html = verdict(lambda a, b: "<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert "var(--jp-ui-font-color1" in html and "background:white" not in html


def test_long_answers_are_cut():
    assert len(repr(verdict(lambda a, b: "x" * 10_000))) < 800


# ---------------------------------------------------------------- answers that are nearly of the right kind

def test_a_function_without_return_is_told_so(capsys):
    def add(a, b):
        print(a + b)

    v = verdict(add)
    assert v.status == NOT_YET and "return" in v.hint and ("gave", "nothing (None)") in v.rows

    def later(a, b):
        if a == 2:
            return a + b

    v = verdict(later)
    assert v.status == NOT_YET and "return" in v.hint


def test_an_empty_body_is_not_attempted():
    def documented(a, b):
        """The sum."""

    def passed(a, b):
        pass

    assert verdict(documented).status == verdict(passed).status == NOT_ATTEMPTED


def test_a_wrapper_that_hides_its_function_is_not_blamed():
    def wrap(function):
        return lambda *a: function(*a)

    assert verdict(wrap(lambda a, b: None)).status == NOT_ATTEMPTED


@pytest.mark.parametrize("answer", [Fraction(5), Decimal("5.0")])
def test_fractions_and_decimals_are_numbers(answer):
    assert agree(answer, 5) and not agree(answer, 6)


def test_what_yields_its_answer_is_a_list():
    cases = [Case((n,), list(range(n))) for n in (3, 4)]
    for function in (lambda n: (i for i in range(n)), range, lambda n: map(int, range(n)), lambda n: dict.fromkeys(range(n)).keys()):
        assert grade("count", function, cases, hint="").status == CORRECT
    v = grade("count", lambda n: (i + 1 for i in range(n)), cases, hint="from zero")
    assert ("gave", "[1, 2, 3]") in v.rows and v.hint == "from zero"


@pytest.mark.parametrize("shape", [(2, 3), (6, 1), (1, 6)])
def test_right_numbers_in_another_shape_are_told_so(shape):
    def count(n):
        return np.arange(n).reshape(shape)

    v = grade("count", count, [Case((6,), list(range(6)))], hint="general")
    assert v.status == NOT_YET and "flat row of 6" in v.hint
    v = grade("count", lambda n: count(n).T + 1, [Case((6,), list(range(6)))], hint="general")
    assert v.hint == "general"


@pytest.mark.parametrize("answer", [[5], (5.0,), np.array([5]), torch.tensor([[5.0]]), [torch.tensor(5)]])
def test_one_number_in_a_list_counts_where_a_number_is_asked(answer):
    assert one_number(lambda: answer)() == 5
    assert grade("five", one_number(lambda: answer), [Case((), 5)], hint="").status == CORRECT
    assert one_number(lambda: [5, 6])() == [5, 6] and one_number(None) is None


def test_a_mistake_that_fits_by_chance_is_not_named():
    cases = [Case((n,), n * n) for n in range(1, 8)]
    mistakes = [Mistake(lambda n: 2 * n, "you doubled it")]

    def nearly(n):
        return 6 if n == 3 else n * n

    assert grade("square", nearly, cases, hint="n times n", mistakes=mistakes).hint == "n times n"
    assert grade("square", lambda n: 2 * n, cases, hint="n times n", mistakes=mistakes).hint == "you doubled it"
