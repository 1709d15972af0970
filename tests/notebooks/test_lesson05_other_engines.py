"""Lesson 5's notebooks on engines that ignore, refuse or hide what they are asked for: every cell goes on and says what happened.

The source's own cells are run, with the reader's work still to do, in a Python of their own that is pointed to an engine by script.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gb10 import notebooks, paths

sys.path.append(str(Path(__file__).resolve().parents[1] / "engines"))
from scripted_engine import Scripted

SOURCES = notebooks.sources("05")
SCHEMA, OBJECT = "response_format json_schema", "response_format json_object"
ENGINES = {
    "ignores": {"ignore": {SCHEMA, OBJECT, "n", "top_k", "min_p", "seed", "stop", "presence_penalty"}, "counting": True},
    "refuses": {"reject": {SCHEMA, OBJECT, "n", "top_k", "min_p", "logprobs", "top_logprobs", "chat_template_kwargs", "logit_bias", "stop",
                           "stream_options.include_usage", "presence_penalty", "frequency_penalty", "(unknown field)"}},
    "thinks": {"thinks": True, "counting": True},
    "doesn't count": {"counts": False},
    "fails at times": {"faults": {SCHEMA: "fail", "logprobs": "fail", "n": "fail"}, "counting": True},
}
# The first notebook asks for single tokens: no counts, and without log-probabilities it is the same whether they are refused or fail.
LEFT_OUT = {("01-one-token", "doesn't count"), ("01-one-token", "fails at times")}
CASES = [(source, how) for source in SOURCES for how in ENGINES if (source.stem, how) not in LEFT_OUT]
# Runs the cells as a kernel would, as far as a reader can tell: the last expression is shown, the first exception ends it.
RUN = """
import ast, json, sys
from IPython.display import display
scope = {"__name__": "__main__", "display": display}
for number, cell in enumerate(json.load(sys.stdin), 1):
    tree = ast.parse(cell)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    try:
        exec(compile(tree, f"cell {number}", "exec"), scope)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), scope)
            if value is not None:
                print(repr(value))
    except BaseException as e:
        print(f"CELL {number} RAISED {type(e).__name__}: {e}")
        print(cell)
        sys.exit(1)
"""


def run(source, engine):
    """(exit code, all that the cells said)."""
    import json

    cells = [c.source for c in notebooks.derive(source, notebooks.EXERCISE).cells if c.cell_type == "code"]
    environment = os.environ | {"GB10_URL": engine.url, "PYTHONPATH": str(paths.ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", RUN], check=False, input=json.dumps(cells), capture_output=True, text=True, env=environment, timeout=240)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("source", "how"), CASES, ids=[f"{source.stem}, {how}" for source, how in CASES])
def test_it_goes_to_its_end(source, how):
    with Scripted(**ENGINES[how]) as engine:
        code, said = run(source, engine)
    assert code == 0, said[-3000:]
    assert said.count(": not attempted") >= 3, "the reader's work is judged as not begun, whatever the engine did"
    assert ": not yet" not in said
    if how == "refuses":
        assert "refuse" in said, "what the engine refused is said"


def test_a_cell_that_raises_is_found():
    with Scripted() as engine:
        cells = '["x = 1", "x / 0"]'
        done = subprocess.run([sys.executable, "-c", RUN], check=False, input=cells, capture_output=True, text=True, env=os.environ | {"GB10_URL": engine.url})
    assert done.returncode == 1 and "CELL 2 RAISED ZeroDivisionError" in done.stdout
