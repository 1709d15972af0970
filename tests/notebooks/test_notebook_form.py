"""Form and texture of every notebook; each fault is shown to be found."""

import copy

import nbformat
import pytest
from form import file_faults, texture_faults, words

from gb10 import notebooks, paths

ALL = notebooks.notebooks()
IDS = [str(p.relative_to(paths.LESSONS)) for p in ALL]


def test_there_are_notebooks():
    assert len(ALL) >= 2


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_form(path):
    assert file_faults(path) == []


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_texture(path):
    assert texture_faults(path) == []


def spoil(nb, how):
    """Damage a notebook in one way; returns the text of the file."""
    code = [c for c in nb.cells if c.cell_type == "code"]
    plain = next(c for c in code if not notebooks.is_kept(c))
    kept = next(c for c in code if notebooks.is_kept(c))
    stream = nbformat.v4.new_output("stream", text="42\n")
    if how == "stray output":
        plain.outputs = [stream]
    elif how == "lost output":
        kept.outputs = []
    elif how == "error":
        kept.outputs = [nbformat.v4.new_output("error", ename="E", evalue="e", traceback=[])]
    elif how == "same id":
        return notebooks.dumps(nb).replace(code[1]["id"], code[0]["id"])    # nbformat would mend it when writing
    elif how == "odd id":
        code[1]["id"] = "my-cell"
    elif how == "one tag":
        kept.metadata["tags"] = ["keep_output"]
    elif how == "picture":
        kept.outputs = [nbformat.v4.new_output("display_data", data={"image/png": "AA=="})]
    elif how == "machine path":
        kept.outputs = [nbformat.v4.new_output("stream", text="/home/ada/course\n")]
    elif how == "kernel":
        nb.metadata["kernelspec"]["name"] = "my-venv"
    elif how == "empty cell":
        plain.source = ""
    elif how == "old format":
        nb.nbformat_minor = 4
        for c in nb.cells:
            c.pop("id")
    elif how == "indent":
        return notebooks.dumps(nb).replace("\n ", "\n  ")
    elif how == "not json":
        return notebooks.dumps(nb)[:-20]
    return notebooks.dumps(nb)


@pytest.mark.parametrize("how", ["stray output", "lost output", "error", "same id", "odd id", "one tag", "picture",
                                 "machine path", "kernel", "empty cell", "old format", "indent", "not json"])
@pytest.mark.filterwarnings("ignore")
def test_each_fault_of_form_is_found(tmp_path, how):
    nb = nbformat.read(ALL[0], as_version=4)
    sound = tmp_path / "sound.ipynb"
    sound.write_text(notebooks.dumps(nb), encoding="utf-8")
    assert file_faults(sound) == []
    path = tmp_path / "x.ipynb"
    path.write_text(spoil(copy.deepcopy(nb), how), encoding="utf-8")
    assert file_faults(path), how


def spoil_texture(nb, how):
    code = [c for c in nb.cells if c.cell_type == "code"]
    prose = [c for c in nb.cells if c.cell_type == "markdown"]
    if how == "few cells":
        nb.cells = prose + code[:9]
    elif how == "long cells":
        for c in code[::4]:
            c.source += "\nx = 1" * 25
    elif how == "a script":
        for c in code:
            c.source += "\nx = 1" * 7
    elif how == "no prose":
        for c in prose[1:-1]:
            c.source = c.source[:40]
    elif how == "too much prose":
        prose[1].source += " word" * 1500
    elif how == "header":
        prose[0].source = prose[0].source.replace("Afterwards", "After")
    elif how == "banner":
        code[0].source = "import torch"
    elif how == "ending":
        prose[-1].source = prose[-1].source.replace("Next step", "The end")
    elif how == "pyplot":
        code[3].source += "\nimport matplotlib.pyplot as plt"
    elif how == "relative path":
        code[3].source += "\nx = open('data.txt')"
    elif how == "wide":
        code[3].source += "\n# " + "x" * 140
    elif how == "no guess":
        for c in prose:
            c.source = c.source.replace("**Predict", "**Note")


@pytest.mark.parametrize("how", ["few cells", "long cells", "a script", "no prose", "too much prose", "header", "banner",
                                 "ending", "pyplot", "relative path", "wide", "no guess"])
def test_each_fault_of_texture_is_found(tmp_path, how):
    nb = nbformat.read(ALL[0], as_version=4)
    spoil_texture(nb, how)
    path = tmp_path / "x.ipynb"
    path.write_text(notebooks.dumps(nb), encoding="utf-8")
    assert texture_faults(path), how


def test_words():
    assert words("# A [link](http://x.y/z) and `code`\n\n| a | b |\n|---|---|\n$$x \\cdot y$$ <b>bold</b>") == 7
