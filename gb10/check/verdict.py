"""What a checker answers, and how it comes to it."""
# ruff: noqa: BLE001 - whatever a learner's code raises becomes a verdict

from __future__ import annotations

import copy
import dis
import functools
import inspect
import math
import numbers
import os
import traceback
from collections.abc import Callable, Iterator, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
NOT_ATTEMPTED, NOT_YET, CORRECT = "not attempted", "not yet", "correct"

# Coloured bar, words in the theme's own colours: readable on light and dark alike.
_BAR = {NOT_ATTEMPTED: "#8a8a8a", NOT_YET: "#d9822b", CORRECT: "#2e9e5b"}
_SIGN = {NOT_ATTEMPTED: "○", NOT_YET: "◐", CORRECT: "●"}


@dataclass(frozen=True)
class Verdict:
    """status is one of NOT_ATTEMPTED, NOT_YET, CORRECT; rows are (label, text) pairs shown below it."""

    exercise: str
    status: str
    rows: tuple[tuple[str, str], ...] = ()
    hint: str = ""

    def __bool__(self) -> bool:
        return self.status == CORRECT

    def _lines(self) -> tuple[tuple[str, str], ...]:
        return self.rows + ((("hint", self.hint),) if self.hint else ())

    def __repr__(self) -> str:
        head = f"{_SIGN[self.status]} {self.exercise}: {self.status}"
        return "\n".join([head, *(f"    {label}: {text}" for label, text in self._lines())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<div style="margin-top:4px"><span style="opacity:.75">{escape(label)}:</span> '
            f'<code style="white-space:pre-wrap;background:transparent;color:inherit">{escape(text)}</code></div>'
            if label != "hint" else f'<div style="margin-top:4px"><b>hint:</b> {escape(text)}</div>'
            for label, text in self._lines())
        return (f'<div role="status" style="border-left:4px solid {_BAR[self.status]};padding:6px 12px;'
                f'color:var(--jp-ui-font-color1, inherit)"><b>{_SIGN[self.status]} {escape(self.exercise)}: '
                f'{escape(self.status)}</b>{rows}</div>')


@dataclass(frozen=True)
class Case:
    """One call: its arguments and the right answer."""

    args: tuple
    expected: Any
    name: str = ""               # says what is special about it


@dataclass(frozen=True)
class Mistake:
    """A plausible wrong solution: whoever returns what it returns gets its hint."""

    function: Callable
    hint: str


def grade(exercise: str, function: Callable, cases: Sequence[Case], *, hint: str, mistakes: Sequence[Mistake] = (),
          rel: float = 1e-9, absolute: float = 0.0, done: str = "") -> Verdict:
    """Call `function` on each case and compare; the first case that fails decides.

    Numbers agree within rel or absolute; lists, tuples, arrays and tensors element by element; an iterator counts as what
    it yields. hint is given for an answer that no mistake explains, done is said with a correct one.
    """
    if function is None or function is NotImplemented or function is ...:
        return _unattempted(exercise)
    if not callable(function):
        return Verdict(exercise, NOT_YET, (("got", _short(function)),),
                       "give the function itself: its name, without parentheses behind it.")
    for number, case in enumerate(cases):
        call = f"{getattr(function, '__name__', 'your function')}({', '.join(_short(a) for a in case.args)})"
        rows = (("call", call + (f"   ({case.name})" if case.name else "")),)
        try:
            got = _gathered(function(*copy.deepcopy(case.args)))
        except (Exception, SystemExit) as e:
            # a stub raises it bare; torch says "not implemented for 'Float8_e4m3fn'" of an attempt
            if isinstance(e, NotImplementedError) and "not implemented for" not in str(e):
                return _unattempted(exercise)
            rows += (("your code raised", _raised(e)), ("expected", _short(case.expected)))
            return Verdict(exercise, NOT_YET, rows, hint)
        if got is None and not _empty(function):
            rows += (("gave", "nothing (None)"), ("expected", _short(case.expected)))
            return Verdict(exercise, NOT_YET, rows, "your function ends without giving anything back: it needs a return "
                                                    "with the answer behind it. What is printed, only you can see.")
        if number == 0 and (got is None or got is NotImplemented or got is ...):
            return _unattempted(exercise)
        if not agree(got, case.expected, rel, absolute):
            rows += (("gave", _short(got)), ("expected", _short(case.expected)))
            if _right_but_for_shape(got, case.expected, rel, absolute):
                return Verdict(exercise, NOT_YET, rows, f"the numbers are right, their arrangement isn't: asked is one flat row "
                                                        f"of {len(case.expected)} (.flatten() makes one of a tensor or array).")
            return Verdict(exercise, NOT_YET, rows, _diagnose(function, got, number, cases, mistakes, hint, rel, absolute))
    return Verdict(exercise, CORRECT, (("checked", f"{len(cases)} cases"),) + ((("so", done),) if done else ()))


def one_number(function: Callable) -> Callable:
    """The function, with [2] or an array of one element taken for 2: whoever thinks in arrays answers so."""
    if not callable(function):
        return function

    @functools.wraps(function)
    def unwrapped(*args):
        got = function(*args)
        plain = _plain(got)
        while isinstance(plain, list) and len(plain) == 1:
            got = plain = _plain(plain[0])
        return got

    return unwrapped


def agree(got: Any, expected: Any, rel: float = 1e-9, absolute: float = 0.0) -> bool:
    """Whether an answer is the expected one; an answer of another kind is a no, never an exception."""
    try:
        got, expected = _plain(got), _plain(expected)
        if isinstance(expected, list):
            return (isinstance(got, list) and len(got) == len(expected)
                    and all(agree(g, e, rel, absolute) for g, e in zip(got, expected, strict=True)))
        if isinstance(expected, (int, float)) and not isinstance(expected, bool):
            return (isinstance(got, (int, float)) and not isinstance(got, bool)
                    and math.isclose(got, expected, rel_tol=rel, abs_tol=absolute))
        return type(got) is type(expected) and bool(got == expected)
    except Exception:
        return False


def _plain(value: Any) -> Any:
    """Arrays and tensors as lists and numbers, tuples and bytes as lists, fractions and decimals as floats."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (numbers.Rational, Decimal)) and not isinstance(value, int):
        return float(value)
    return list(value) if isinstance(value, (tuple, bytes, bytearray)) else value


def _gathered(value: Any) -> Any:
    """A generator, map, set or view of a dict as a list; everything else as it is."""
    return list(value) if isinstance(value, (Iterator, AbstractSet, ValuesView, range)) else value


def _flat(value: Any) -> list:
    value = _plain(value)
    return [v for part in value for v in _flat(part)] if isinstance(value, list) else [value]


def _right_but_for_shape(got: Any, expected: Any, rel: float, absolute: float) -> bool:
    try:
        nested = isinstance(_plain(got), list) and any(isinstance(_plain(v), list) for v in _plain(got))
        return nested and isinstance(_plain(expected), list) and agree(_flat(got), expected, rel, absolute)
    except Exception:
        return False


def _empty(function: Callable) -> bool:
    """Whether a function's None is no answer: its body is no more than pass, ... or a docstring, or can't be looked into
    (a wrapper that a checker put around it and that doesn't say what it wraps)."""
    function = inspect.unwrap(function)
    if getattr(function, "__closure__", None) or not hasattr(function, "__code__"):
        return True
    nothing = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "POP_TOP"}
    return all(step.opname in nothing for step in dis.get_instructions(function))


def _diagnose(function, got, number: int, cases: Sequence[Case], mistakes: Sequence[Mistake], hint: str,
              rel: float, absolute: float) -> str:
    """The hint of the mistake that gives what was given here; of several, the one that goes with the answers to most of
    the other cases, too: one answer is seldom enough to tell ties away from zero from truncation.

    A mistake that would spoil more of the right answers than it explains of the wrong ones fits by chance: a wrong hint
    is worse than a general one."""
    def same(answer, mistake, case):
        try:
            return agree(answer, mistake.function(*copy.deepcopy(case.args)), rel, absolute)
        except Exception:
            return False

    fitting = [m for m in mistakes if same(got, m, cases[number])]
    if not fitting:
        return hint
    fits, explains, spoils = ([0] * len(fitting) for _ in range(3))
    for case in cases:
        try:
            answer = _gathered(function(*copy.deepcopy(case.args)))
        except (Exception, SystemExit):
            answer = None        # agrees with nothing
        right = agree(answer, case.expected, rel, absolute)
        for n, mistake in enumerate(fitting):
            match = same(answer, mistake, case)
            fits[n] += match
            explains[n] += match and not right
            spoils[n] += right and not match
    best = max(range(len(fitting)), key=fits.__getitem__)
    return fitting[best].hint if explains[best] > spoils[best] else hint


def _unattempted(exercise: str) -> Verdict:
    todo = "write the body of the function, run its cell, then this one; the notebook goes on without it."
    return Verdict(exercise, NOT_ATTEMPTED, (("next", todo),))


def _raised(error: BaseException) -> str:
    """One line: the error, and the line of the learner's own code that it came from."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_HERE)]   # not a checker's
    return _cut(text.splitlines()[0]) + (f"   at: {_cut(frames[0].line)}" if frames and frames[0].line else "")


def _short(value: Any) -> str:
    try:
        value = _plain(value)
        if isinstance(value, float):
            return f"{value:.6g}"
        if isinstance(value, list):
            return _cut("[" + ", ".join(_short(v) for v in value) + "]", 160)
        return _cut(repr(value), 160)
    except Exception as e:
        return f"something whose repr raised {type(e).__name__}"


def _cut(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
