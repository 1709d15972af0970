"""The same questions under several prompts: how long the prompts became, how many answers changed, how long they are, how many have a form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gb10 import sampling
from gb10.engines.talk import Answer
from gb10.errors import CourseError
from gb10.explore import figure


@dataclass(frozen=True)
class Voice:
    """What came of one prompt. grown: tokens that the prompts gained over those of the first, on average (None: not counted); changed: answers
    with another text than under the first; words: mean length with its interval (None without answers); formed: answers in the form."""

    name: str
    answered: int
    grown: float | None
    changed: int
    words: tuple[float, float, float] | None
    formed: int | None
    example: str
    failed: str


def compute(answers: Mapping[str, Sequence[Answer | CourseError]], form: Callable[[str], bool] | None = None) -> list[Voice]:
    """answers: name -> answers to the same questions in the same order, errors in their place. The first is what the others are compared with."""
    first = next(iter(answers.values()))
    out = []
    for name, given in answers.items():
        good = [a for a in given if isinstance(a, Answer)]
        pairs = [(a, b) for a, b in zip(first, given, strict=True) if isinstance(a, Answer) and isinstance(b, Answer)]
        grown = [_count(b) - _count(a) for a, b in pairs if _count(a) and _count(b)]
        out.append(Voice(
            name, len(good), sum(grown) / len(grown) if grown else None, sum(a.text != b.text for a, b in pairs),
            sampling.interval([len(sampling.words(a.text)) for a in good]) if good else None,
            sum(bool(form(a.text)) for a in good) if form else None, good[0].text if good else "",
            next((a.message for a in given if isinstance(a, CourseError)), "")))
    return out


def _count(answer: Answer) -> int:
    return (answer.usage or {}).get("prompt_tokens") or 0


def describe(found: Sequence[Voice], width: int = 90) -> str:
    """Two lines for each: the figures, and the first answer."""
    lines = []
    for v in found:
        if v.words is None:
            lines.append(f"{v.name:<18}no answer: {v.failed}")
            continue
        grown = "prompt not counted" if v.grown is None else f"prompt {v.grown:+5.0f} tokens"
        formed = "" if v.formed is None else f", {v.formed} in the form"
        text = " ".join(v.example.split())
        lines += [f"{v.name:<18}{grown}; of {v.answered} answers {v.changed} changed{formed}; {v.words[0]:.0f} words ({v.words[1]:.0f} to {v.words[2]:.0f})",
                  f"{'':<18}{text if len(text) <= width else text[: width - 1] + '…'}"]
    return "\n".join(lines)


def draw(found: Sequence[Voice]):
    """Figure: words of an answer with their interval, and the share that changed."""
    rows = [v for v in found if v.words]
    fig, (left, right) = figure.new(9, 0.9 + 0.42 * len(rows), columns=2)
    places = range(len(rows))
    left.errorbar([v.words[0] for v in rows], places, xerr=[[v.words[0] - v.words[1] for v in rows], [v.words[2] - v.words[0] for v in rows]],
                  fmt="o", color=figure.BLUE, capsize=3)
    left.set(xlabel="words of an answer, mean and interval of 95 %", xlim=(0, None))
    right.barh(places, [v.changed / v.answered for v in rows], color=figure.ORANGE, height=0.55)
    right.set(xlabel=f"share of answers that differ from “{found[0].name}”", xlim=(0, 1))
    left.set_yticks(places, [v.name for v in rows])
    right.set_yticks(places, [])
    for ax in (left, right):
        ax.set_ylim(len(rows) - 0.5, -0.5)
    return fig


def show(found: Sequence[Voice]):
    """The picture; or, if nothing was answered, the sentence that says why."""
    if not any(v.words for v in found):
        return describe(found)
    return figure.show(draw(found), "Answers under several prompts. " + ". ".join(
        f"{v.name}: {v.words[0]:.0f} words, {v.changed} of {v.answered} changed" for v in found if v.words) + ".")
