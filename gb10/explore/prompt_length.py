"""Prompt length against the time to the first token: measured with prompts that no cache knows, and with the same ones again."""

from __future__ import annotations

import contextlib
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from gb10.errors import CourseError, UserError
from gb10.explore import figure
from gb10.progress import Progress

WORDS = (20, 150, 300, 600, 900)
REPEATS = 4


@dataclass(frozen=True)
class Point:
    """tokens: of the prompt, as the engine counted; first_ms, again_ms: time to the first token of a new prompt, and of the same once more."""

    tokens: int
    first_ms: float
    again_ms: float


@dataclass(frozen=True)
class Line:
    """A straight line through the points: start_ms + slope · tokens/1000. low, high: interval of 95 % for the slope, in ms per 1,000 tokens."""

    slope: float
    low: float
    high: float
    start_ms: float


def unique(words: int) -> str:
    """A text of about so many words whose first word was never there before."""
    return " ".join([uuid.uuid4().hex[:8], *(f"Item {i} of the list." for i in range(max(1, words // 5)))])


def first_token(where, prompt: str, **fields) -> tuple[float, int]:
    """(ms to the first text or reasoning, prompt tokens). Raises CourseError (no answer, refused, not counted)."""
    from gb10.engines.talk import ThoughtItAll, chat

    stream = chat(where, prompt, stream=True, **{"max_tokens": 2} | fields)
    usage = None
    try:
        usage = stream.answer.usage
    except ThoughtItAll as e:            # the first token of a thought counts as well
        usage = e.usage
    tokens = (usage or {}).get("prompt_tokens")
    if not tokens or not stream.pieces:
        raise UserError(f"{where.engine} at {where.url} counts no prompt tokens, or sent no text.")
    return 1e3 * stream.pieces[0].at_s, tokens


def measure(where, words: Sequence[int] = WORDS, repeats: int = REPEATS, quiet: bool = False, **fields) -> list[Point]:
    """Each length `repeats` times, in a random order in each round, so that a machine that grows slower doesn't look like a slope.

    where: what connect() or start() returned. A length that the engine refuses (its context is shorter) is left out; if it refuses
    all of them, what it said is raised.
    """
    draw, points, refused, said = random.Random(0), [], set(), None
    with contextlib.suppress(CourseError):
        first_token(where, unique(words[0]), **fields)      # whatever is only done for the first request
    progress = Progress("prompt lengths", quiet=quiet)
    try:
        for number in range(repeats):
            for n in draw.sample(list(words), len(words)):
                if n in refused:
                    continue
                progress.update(f"round {number + 1} of {repeats}")
                prompt = unique(n)
                try:
                    (first, tokens), (again, _) = first_token(where, prompt, **fields), first_token(where, prompt, **fields)
                    points.append(Point(tokens, first, again))
                except CourseError as e:
                    refused.add(n)
                    said = e
    finally:
        progress.clear()
    if not points and said:
        raise said
    return points


def fit(points: Sequence[Point], again: bool = False, seed: int = 0, times: int = 2000) -> Line | None:
    """Least squares, with a percentile bootstrap over the points; None if all prompts had one length (or the engine doesn't really count)."""
    import numpy as np

    x = np.array([p.tokens for p in points], dtype=float) / 1000
    y = np.array([p.again_ms if again else p.first_ms for p in points], dtype=float)
    if len(points) < 3 or np.ptp(x) == 0:
        return None

    def slopes(x, y):
        dx = x - x.mean(axis=-1, keepdims=True)
        return (dx * y).sum(axis=-1) / np.maximum((dx * dx).sum(axis=-1), 1e-12)

    slope = float(slopes(x, y))
    drawn = np.random.default_rng(seed).integers(0, len(x), (times, len(x)))
    drawn = drawn[np.ptp(x[drawn], axis=1) > 0]
    low, high = np.quantile(slopes(x[drawn], y[drawn]), [0.025, 0.975])
    return Line(slope, float(low), float(high), float(y.mean() - slope * x.mean()))


def describe(points: Sequence[Point]) -> str:
    """Two lines of figures."""
    new, again = fit(points), fit(points, again=True)
    if new is None:
        return "all prompts were counted alike, so there is no line to fit: this engine doesn't count what a prompt really has"
    span = f"{min(p.tokens for p in points)} to {max(p.tokens for p in points)} tokens, {len(points)} prompts"
    return "\n".join(f"{what:<17}{line.slope:7.1f} ms per 1,000 tokens ({line.low:.1f} to {line.high:.1f}), {line.start_ms:.0f} ms at length 0; {span}"
                     for what, line in (("never seen:", new), ("the same again:", again)))


def draw(points: Sequence[Point]):
    """Figure: time to the first token over the prompt's length, first and second time."""
    fig, ax = figure.new(8.5, 3.4)
    for again, colour, marker, label in ((False, figure.BLUE, "o", "never seen"), (True, figure.ORANGE, "s", "the same prompt again")):
        times = [p.again_ms if again else p.first_ms for p in points]
        ax.scatter([p.tokens for p in points], times, color=colour, marker=marker, s=26, label=label)
        if line := fit(points, again):
            ends = [min(p.tokens for p in points), max(p.tokens for p in points)]
            ax.plot(ends, [line.start_ms + line.slope * t / 1000 for t in ends], color=colour, linestyle="--" if again else "-")
    ax.set(xlabel="tokens of the prompt", ylabel="ms to the first token", ylim=(0, None), xlim=(0, None))
    ax.legend(frameon=False)
    return fig


def show(points: Sequence[Point]):
    return figure.show(draw(points), "Time to the first token over prompt length. " + describe(points).replace("\n", ". ") + ".")
