"""Every notebook and every solution under lessons/ runs to its end under nbval; none is left out.

Exercises run untouched and from a copy elsewhere, as a learner's copy in work/ does; solutions run where they are, and
assert their own verdicts.
"""

import shutil
import socket

import nbformat
import pytest
from nbval_run import faults, run

from gb10 import notebooks, paths
from gb10.engines import launch, state

LESSONS = sorted({p.relative_to(paths.LESSONS).parts[0] for p in notebooks.notebooks()})

# Lessons that only ask an engine, whichever is up: one is started for all their notebooks, on a port of its own, so that they
# can run beside those that start engines on the course's port. That they find or start one themselves, the browser tests show.
ASKING = {"05-sampling"}


@pytest.fixture
def engine(lesson, tmp_path, monkeypatch):
    """For a lesson that asks: an engine that its kernels are pointed to, and that no other test sees."""
    if lesson not in ASKING:
        yield None
        return
    monkeypatch.setattr(state, "FOLDER", tmp_path / "engines")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with launch.start(port=port, quiet=True, timeout=900) as server:
        monkeypatch.setenv("GB10_URL", server.url)
        yield server


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_notebook_runs(lesson, engine, tmp_path):
    there = notebooks.notebooks(paths.LESSONS / lesson)
    work = tmp_path / "work"
    copies = {}
    for path in there:
        if path.parent.name == "solutions":
            copies[path] = path
        else:
            copies[path] = work / path.relative_to(paths.LESSONS)
            copies[path].parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copies[path])
    records, text = run(copies.values(), tmp_path)
    problems = faults(records, copies.values())
    assert not problems, "\n".join(problems) + text[-3000:]
    assert len({r["notebook"] for r in records}) == len(copies) == 2 * len(notebooks.sources(lesson))


def test_no_notebook_is_left_out():
    on_disk = {p for p in paths.LESSONS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts}
    assert {p for lesson in LESSONS for p in notebooks.notebooks(paths.LESSONS / lesson)} == on_disk
    assert len(on_disk) == 2 * len(notebooks.sources())


def write(path, *cells, kept=None):
    nb = nbformat.v4.new_notebook(metadata=notebooks.METADATA, cells=[nbformat.v4.new_code_cell(c) for c in cells])
    if kept is not None:
        nb.cells[-1].metadata["tags"] = list(notebooks.KEPT)
        nb.cells[-1].outputs = [nbformat.v4.new_output("stream", text=kept)]
        nb.cells[-1].execution_count = len(cells)
    nbformat.write(nb, path)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Small notebooks that the gate must refuse, one that it must pass, and one that was never run."""
    folder = tmp_path_factory.mktemp("small")
    made = {
        "sound": write(folder / "sound.ipynb", "x = 6", "print(x * 7)", kept="42\n"),
        "raises": write(folder / "raises.ipynb", "x = 1", "1 / 0"),
        "other output": write(folder / "other.ipynb", "print('forty-two')", kept="42\n"),
        "dies": write(folder / "dies.ipynb", "import os; os._exit(1)", "x = 1"),
        "no code": write(folder / "nocode.ipynb"),
    }
    records, _ = run(made.values(), folder, cell_timeout=20)
    made["never run"] = write(folder / "extra.ipynb", "print('nobody ran me')")
    return made, records


def test_a_sound_notebook_passes(small):
    made, records = small
    mine = [r for r in records if r["notebook"] == str(made["sound"].resolve())]
    assert len(mine) == 2 and faults(mine, [made["sound"]]) == []


@pytest.mark.parametrize("name", ["raises", "other output", "dies", "no code", "never run"])
def test_the_gate_refuses(small, name):
    made, records = small
    mine = [r for r in records if r["notebook"] == str(made[name].resolve())]
    assert faults(mine, [made[name]])


def test_an_extra_notebook_on_disk_is_a_failure(small):
    made, records = small
    sound = [r for r in records if r["notebook"] == str(made["sound"].resolve())]
    assert faults(sound, [made["sound"], made["never run"]]) == [f"{made['never run']}: 0 of its 1 code cells ran"]


def test_half_a_run_is_a_failure(small):
    made, records = small
    sound = [r for r in records if r["notebook"] == str(made["sound"].resolve())]
    assert faults(sound[:1], [made["sound"]])
