"""What the tests of lesson 5's checkers share."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openai

from gb10 import notebooks, sampling

sys.path.append(str(Path(__file__).resolve().parents[1] / "engines"))


def from_notebook(number, name, kind):
    """The function of a notebook, as stub or as solution."""
    import json

    source = next(s for s in notebooks.sources("05") if s.name.startswith(number))
    cells = [c.source for c in notebooks.derive(source, kind).cells if c.cell_type == "code"]
    scope = {"np": np, "sampling": sampling, "json": json}
    exec(next(c for c in cells if c.startswith(f"def {name}(")), scope)  # noqa: S102 - our own notebook
    return scope[name]


def place(engine, title="vLLM"):
    """An engine by script as connect() would give it."""
    client = openai.OpenAI(base_url=engine.url, api_key="none", max_retries=0)
    return SimpleNamespace(url=engine.url, model=engine.model, engine=title, client=client)
