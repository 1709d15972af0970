"""An exercise of lesson 03 as its notebook has it."""

import math

from gb10 import notebooks
from gb10.formats.elements import E2M1

NAMES = {"E2M1": E2M1, "math": math}             # what the notebooks have imported by then


def from_notebook(name, kind):
    """The function `name` of whichever notebook defines it, as stub (notebooks.EXERCISE) or as solution."""
    cells = (c for s in notebooks.sources("03") for c in notebooks.derive(s, kind).cells if c.cell_type == "code")
    scope = dict(NAMES)
    exec(next(c for c in cells if c.source.startswith(f"def {name}(")).source, scope)  # noqa: S102 - our own notebook
    return scope[name]
