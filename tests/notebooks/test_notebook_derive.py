"""One source, two notebooks: the derivation, its refusals, and the check that nobody edited what is derived."""

import json
import shutil
import subprocess
import sys

import nbformat
import pytest

from gb10 import notebooks, paths
from gb10.errors import UserError, WorkFailed

SOURCE = '''\
# %% [markdown]
# # A title

# %% tags=["keep_output", "nbval-check-output"]
print(6 * 7)

# %%
def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    return 2 * x
    ### STUB
    # y = ...            # what goes here?
    #
    # raise NotImplementedError
    ### END SOLUTION

# %%
def triple(x):
    if x:
        ### BEGIN SOLUTION
        return 3 * x
        ### END SOLUTION
    return 0

# %% tags=["solution-only"]
assert double(2) == 4

# %% tags=["exercise-only"]
print("your turn")
'''


def lay(folder):
    """A lessons folder with one lesson of one notebook, not yet derived."""
    (folder / "lessons" / "03-test" / "solutions").mkdir(parents=True)
    (folder / "lessons" / "03-test" / "solutions" / "01-first.py").write_text(SOURCE)
    return folder / "lessons"


@pytest.fixture
def root(tmp_path):
    return lay(tmp_path)


@pytest.fixture(scope="module")
def refreshed(tmp_path_factory):
    folder = lay(tmp_path_factory.mktemp("refreshed"))
    assert len(notebooks.refresh(root=folder, say=lambda line: None)) == 2
    return folder


def cells(root, kind):
    return [c.source for c in notebooks.derive(notebooks.sources(root=root)[0], kind).cells]


def test_solution(root):
    got = cells(root, notebooks.SOLUTION)
    assert got == ["# A title", "print(6 * 7)", 'def double(x):\n    """Twice x."""\n    return 2 * x',
                   "def triple(x):\n    if x:\n        return 3 * x\n    return 0", "assert double(2) == 4"]


def test_exercise(root):
    got = cells(root, notebooks.EXERCISE)
    assert got[2] == ('def double(x):\n    """Twice x."""\n    y = ...            # what goes here?\n    \n'
                      "    raise NotImplementedError")
    assert got[3] == "def triple(x):\n    if x:\n        raise NotImplementedError\n    return 0"
    assert got[4] == 'print("your turn")' and len(got) == 5


def test_ids_and_form_are_deterministic(root):
    source = notebooks.sources(root=root)[0]
    first, second = (notebooks.dumps(notebooks.derive(source, notebooks.EXERCISE)) for _ in range(2))
    assert first == second
    nb = nbformat.reads(first, as_version=4)
    nbformat.validate(nb)
    assert nb.metadata == notebooks.METADATA and (nb.nbformat, nb.nbformat_minor) == (4, 5)


def test_an_inserted_cell_leaves_the_other_ids_alone(root):
    source = notebooks.sources(root=root)[0]
    before = [c.id for c in notebooks.derive(source, notebooks.SOLUTION).cells]
    source.write_text(SOURCE.replace("# %%\ndef triple", "# %%\nprint(1)\n\n# %%\nprint(1)\n\n# %%\ndef triple"))
    after = [c.id for c in notebooks.derive(source, notebooks.SOLUTION).cells]
    assert [i for i in after if i in before] == before and len(set(after)) == len(after) == len(before) + 2


@pytest.mark.parametrize("broken", [
    "### BEGIN SOLUTION\nx = 1", "### END SOLUTION", "### STUB\n# x\n### END SOLUTION",
    "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
    "### BEGIN SOLUTION\nx = 1\n### STUB\nx = 2\n### END SOLUTION"])
def test_a_marker_out_of_place_is_refused(root, broken):
    notebooks.sources(root=root)[0].write_text(f"# %%\n{broken}\n")
    with pytest.raises(UserError, match=r"01-first\.py"):
        cells(root, notebooks.SOLUTION)


def test_lessons_are_found_by_number_and_name(root):
    (root / "04-other" / "solutions").mkdir(parents=True)
    for name in ("3", "03", "03-test", "03-t", "lessons/03-test/"):
        assert [p.name for p in notebooks.sources(name, root)] == ["01-first.py"], name
    assert notebooks.sources("4", root) == []
    for name in ("5", "test", "0"):
        with pytest.raises(UserError, match="03-test"):
            notebooks.sources(name, root)


@pytest.fixture
def fresh(refreshed, tmp_path):
    """A copy of the lesson with its notebooks derived and run."""
    return shutil.copytree(refreshed, tmp_path / "lessons")


def test_refresh_keeps_the_outputs_that_are_declared_and_no_others(fresh):
    exercise = nbformat.read(fresh / "03-test" / "01-first.ipynb", as_version=4)
    kept = [c for c in exercise.cells if c.get("outputs")]
    assert [(c.source, c.outputs[0].text, c.execution_count) for c in kept] == [("print(6 * 7)", "42\n", 1)]
    assert notebooks.stale(root=fresh) == []
    assert notebooks.refresh(root=fresh, say=lambda line: None) == []
    assert not list(fresh.rglob(".*"))


def runs(monkeypatch, root, **kw):
    """How many notebooks a refresh runs."""
    ran = []
    monkeypatch.setattr(notebooks, "run_kept", lambda notebook: ran.append(1))
    monkeypatch.setattr(notebooks, "_write", lambda path, text: None)
    notebooks.refresh(root=root, say=lambda line: None, **kw)
    return len(ran)


def test_outputs_are_reused_only_while_the_code_before_them_is_the_same(fresh, monkeypatch):
    source = notebooks.sources(root=fresh)[0]
    assert runs(monkeypatch, fresh) == 0
    assert runs(monkeypatch, fresh, run=True) == 2
    source.write_text(SOURCE.replace("# A title", "# Another").replace("return 3 * x", "return x * 3"))
    assert runs(monkeypatch, fresh) == 0
    source.write_text(SOURCE.replace("6 * 7", "7 * 6"))
    assert runs(monkeypatch, fresh) == 2
    source.write_text(SOURCE)
    lose_output(fresh)
    assert runs(monkeypatch, fresh) == 1


def edit_source(root):
    path = root / "03-test" / "01-first.ipynb"
    path.write_text(path.read_text().replace("print(6 * 7)", "print(42)"))


def edit_id(root):
    path = root / "03-test" / "solutions" / "01-first.ipynb"
    nb = json.loads(path.read_text())
    nb["cells"][1]["id"] = "00000000"
    path.write_text(json.dumps(nb))


def edit_tag(root):
    path = root / "03-test" / "01-first.ipynb"
    path.write_text(path.read_text().replace('"keep_output",', ""))


def drop(root):
    (root / "03-test" / "01-first.ipynb").unlink()


def orphan(root):
    shutil.copy(root / "03-test" / "01-first.ipynb", root / "03-test" / "02-second.ipynb")


def lose_output(root):
    path = root / "03-test" / "01-first.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.cells[1].outputs = []
    path.write_text(notebooks.dumps(nb))


def garbage(root):
    (root / "03-test" / "01-first.ipynb").write_text("{}")


def source_moved_on(root):
    path = root / "03-test" / "solutions" / "01-first.py"
    path.write_text(path.read_text() + "\n# %%\nprint(1)\n")


@pytest.mark.parametrize("damage", [edit_source, edit_id, edit_tag, drop, orphan, lose_output, garbage, source_moved_on])
def test_a_notebook_that_its_source_does_not_give_is_refused(fresh, damage):
    damage(fresh)
    assert notebooks.stale(root=fresh)


def test_a_failing_cell_changes_nothing(fresh):
    source = notebooks.sources(root=fresh)[0]
    before = {p: p.read_bytes() for p in notebooks.notebooks(fresh)}
    source.write_text(SOURCE.replace("6 * 7", "6 * seven"))
    with pytest.raises(WorkFailed, match="seven"):
        notebooks.refresh(root=fresh, say=lambda line: None)
    assert {p: p.read_bytes() for p in notebooks.notebooks(fresh)} == before


def test_the_courses_notebooks_are_what_their_sources_give():
    assert notebooks.stale() == []


def test_command_line(monkeypatch, capsys, fresh):
    from gb10.cli import main

    monkeypatch.setattr(paths, "LESSONS", fresh)
    assert main(["refresh", "--check"]) == 0 and "2 notebooks are" in capsys.readouterr().out
    edit_source(fresh)
    assert main(["refresh", "03", "--check"]) == 1 and "is not what its source gives" in capsys.readouterr().out
    assert main(["refresh", "99"]) == 2 and "03-test" in capsys.readouterr().err
    assert main(["refresh"]) == 0 and "1 notebook rewritten" in capsys.readouterr().out
    assert notebooks.stale(root=fresh) == []


def test_help_teaches():
    out = subprocess.run([sys.executable, "-m", "gb10", "refresh", "--help"], capture_output=True, text=True, check=True)
    assert "Examples" in out.stdout and "--check" in out.stdout
