"""What checkers do with the engine that is up: send it requests and hand what came of them to the reader's function."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from gb10.check.verdict import CORRECT, NOT_YET, Verdict
from gb10.errors import UserError, WorkFailed

ROW = "live"


class Raised(Exception):
    """What the reader's function raised, told apart from what the engine did."""


def yours(function: Callable, *args):
    """Call the reader's function within a trial."""
    try:
        return function(*args)
    except (Exception, SystemExit) as e:
        raise Raised(f"{type(e).__name__}: {e}") from e


def confirm(verdict: Verdict, engine, trial: Callable[[], tuple[str, float | None, float | None]], hint: str, rel: float = 0.02) -> Verdict:
    """A correct verdict, tried on the engine as well; any other is passed on.

    engine: what connect() or start() returned; None leaves the trial out and says so. trial() sends the requests and gives
    (what happened, what the reader's function made of it, called by yours(), what it should be); the last two are None where this engine doesn't
    show it. Whatever the engine does wrong is told and never held against the reader.
    """
    if verdict.status != CORRECT:
        return verdict
    if engine is None:
        return _with(verdict, "not tried: give the engine as second argument, and this checker sends it requests")
    try:
        told, got, expected = trial()
    except Raised as e:
        return Verdict(verdict.exercise, NOT_YET, ((ROW, "on what this engine really gave"), ("your code raised", str(e)[:120])), hint)
    except (UserError, WorkFailed) as e:
        return _with(verdict, f"not tried: {e.message}")
    except Exception as e:  # noqa: BLE001 - an engine that went away, or said something that nobody expects
        return _with(verdict, f"not tried: {type(e).__name__}: {e}")
    if got is not None and expected is not None and not _near(got, expected, rel):
        return Verdict(verdict.exercise, NOT_YET, ((ROW, told), ("gave", f"{got!r}"[:120]), ("expected", f"{expected:.6g}")), hint)
    return _with(verdict, told)


def long_prompt(words: int = 300) -> str:
    """A text that no cache has seen before: its first word is new each time."""
    return f"{uuid.uuid4().hex[:12]} " + " ".join(f"item {i} of the list" for i in range(words // 5))


def _near(got, expected: float, rel: float) -> bool:
    try:
        return abs(float(got) - expected) <= max(rel * abs(expected), 1e-9)
    except (TypeError, ValueError):
        return False


def _with(verdict: Verdict, text: str) -> Verdict:
    return replace(verdict, rows=(*verdict.rows, (ROW, text)))
