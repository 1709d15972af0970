"""A reader's guess beside the answer."""

from __future__ import annotations


def beside(what: str, guess: float, answer: float, unit: str = "") -> str:
    """One line with both, and how far apart they are; a guess that is no number is shown as it is.

    >>> beside("checkpoint", 4, 5, "MB")
    'checkpoint: you said 4 MB, it is 5 MB (off by 20 % of the answer)'
    """
    unit = unit and f" {unit}"
    try:
        off = abs(float(guess) - answer)
    except (TypeError, ValueError):
        return f"{what}: you said {guess!r}, it is {answer:.4g}{unit}"
    if off == 0:
        verdict = "exactly"
    elif answer:
        verdict = f"off by {100 * off / abs(answer):.0f} % of the answer"
    else:
        verdict = f"off by {off:.4g}{unit}"
    return f"{what}: you said {float(guess):.4g}{unit}, it is {answer:.4g}{unit} ({verdict})"
