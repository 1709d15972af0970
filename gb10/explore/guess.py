"""A reader's guess beside the answer."""

from __future__ import annotations


def beside(what: str, guess: float, answer: float, unit: str = "") -> str:
    """One line with both, and how far apart they are; a guess that is no number is shown as it is.

    >>> beside("checkpoint", 4, 5, "MB")
    'checkpoint: you said 4 MB, it is 5 MB (off by 20 %)'
    """
    unit = unit and f" {unit}"
    try:
        guess, answer = float(guess), float(answer)
    except (TypeError, ValueError):
        return f"{what}: you said {guess!r}, it is {answer:.4g}{unit}"
    ratio = guess / answer if answer else 0
    if guess == answer:
        verdict = "exactly"
    elif ratio >= 2:
        verdict = f"{ratio:.1f} times the answer"
    elif 0 < ratio <= 0.5:
        verdict = f"the answer is {1 / ratio:.1f} times your guess"
    elif ratio > 0:
        verdict = f"off by {100 * abs(ratio - 1):.0f} %"
    else:
        verdict = f"off by {abs(guess - answer):.4g}{unit}"
    return f"{what}: you said {guess:.4g}{unit}, it is {answer:.4g}{unit} ({verdict})"
