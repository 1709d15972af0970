"""What an experiment ends with."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

HONOURED, IGNORED, REJECTED, UNKNOWN = "honoured", "ignored", "rejected", "can't tell"


@dataclass(frozen=True)
class Row:
    """A field, what was sent, what came of it. status: HTTP status of the deciding answer, 0 if there was none."""

    field: str
    sent: str
    outcome: str                 # HONOURED, IGNORED, REJECTED or UNKNOWN
    evidence: str                # one sentence: what was seen
    status: int
    request: dict | None = dataclasses.field(default=None, repr=False, compare=False)     # the body that decided; None: none was sent

    def curl(self, url: str) -> str:
        """The deciding request for a terminal, made from the body that was sent; a comment where none was."""
        from gb10.engines.talk_paste import curl

        return curl(url, self.request) if self.request else f"# nothing was sent: {self.evidence}"

    def __str__(self) -> str:
        return f"{self.field:<31}{self.outcome:<12}{self.evidence}"


class Undecided(Exception):
    """The experiment can't tell; the message says why."""

    def __init__(self, why: str, status: int = 0):
        super().__init__(why)
        self.why, self.status = why, status


class Rejected(Exception):
    """The engine refused the request because of the field."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message
