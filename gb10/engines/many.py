"""Several requests at once, as several users would send them; answers in the order of the requests.

    answers = many(engine, [{"messages": "Hello", "temperature": 1, "seed": s} for s in range(100)])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from gb10.engines.talk import Answer, chat
from gb10.errors import CourseError
from gb10.progress import Progress


def many(where, requests: Sequence[dict], at_once: int = 8, *, force: bool = False, quiet: bool = False) -> list[Answer | CourseError]:
    """Ask all of them, `at_once` at a time. Each request is what chat() takes: {"messages": …, field: value, …}.

    What an engine did wrong takes the answer's place, as the error that chat() raised (UserError, WorkFailed, ThoughtItAll): one that was refused
    doesn't cost the others. An interrupt (Ctrl-C, or the notebook's stop button) gives up those that have not begun.
    """
    def one(request: dict) -> Answer | CourseError:
        given = dict(request)
        try:
            return chat(where, given.pop("messages"), force=force, **given)
        except CourseError as e:
            return e

    return each(one, requests, at_once, quiet=quiet)


def each(do: Callable, items: Sequence, at_once: int = 8, *, what: str = "answers", quiet: bool = False) -> list:
    """[do(item) for item in items], `at_once` at a time; a line says how far it is if it takes long."""
    # Imported for the first time by several threads at once, it can be seen half made.
    import httpx  # noqa: F401
    import openai  # noqa: F401

    out, progress = [], Progress(what, quiet=quiet)
    pool = ThreadPoolExecutor(max(1, at_once))
    try:
        for result in pool.map(do, items):
            out.append(result)
            progress.update(f"{len(out)} of {len(items)}")
    finally:
        progress.clear()
        pool.shutdown(wait=True, cancel_futures=True)
    return out
