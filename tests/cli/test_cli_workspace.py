"""Work copies: nothing that a learner wrote is ever lost, and nothing that he didn't touch stays old."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gb10 import lessons, syllabus, workspace
from gb10.cli.lab import report_lines
from gb10.errors import UserError
from gb10.paths import LESSONS, ROOT

LESSON = "03-quantize-with-modelopt"
NB = f"{LESSON}/01-first.ipynb"


def notebook(*sources, output=None, title="First steps"):
    """Bytes of a notebook: a title and code cells; `output` makes it one that was run."""
    cells = [{"cell_type": "markdown", "id": "t", "metadata": {}, "source": [f"# {title}\n", "Some words."]}]
    for i, s in enumerate(sources):
        outputs = [{"output_type": "stream", "name": "stdout", "text": [output]}] if output else []
        cells.append({"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": [s],
                      "execution_count": i + 1 if output else None, "outputs": outputs})
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


@pytest.fixture
def place(tmp_path):
    """Folders (lessons, work) with one lesson in it."""
    root, work = tmp_path / "lessons", tmp_path / "work"
    put(root / NB, notebook("x = 1"))
    put(root / LESSON / "solutions/01-first.ipynb", notebook("x = 2"))
    put(root / LESSON / "solutions/notes.txt", b"not for learners")
    put(root / LESSON / "01-first.py", b"# source of the notebook")
    put(root / LESSON / "helper.py", b"y = 1\n")
    put(root / LESSON / "README.md", b"# Quantize with ModelOpt\n\nFrom [BF16](../x) to\nNVFP4.\n\n- one\n")
    put(root / LESSON / ".ipynb_checkpoints/01-first.ipynb", b"{}")
    (root / "04-empty").mkdir()
    return root, work


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def everything(work):
    return {p.relative_to(work).as_posix(): p.read_bytes() for p in work.rglob("*")
            if p.is_file() and not p.name.startswith(".course")}


def lay(place):
    return workspace.lay_out(place[1], place[0])


def test_first_layout(place):
    root, work = place
    report = lay(place)
    assert set(everything(work)) == {NB, f"{LESSON}/solutions/01-first.ipynb", f"{LESSON}/helper.py",
                                     f"{LESSON}/README.md", "Syllabus.md"}
    assert len(report.added) == 5 and not report.kept
    assert (work / NB).read_bytes() == (root / NB).read_bytes()
    assert (work / NB).stat().st_mode & 0o777 == 0o666 & ~workspace._umask()
    again = lay(place)
    assert again == workspace.Report() and report_lines(again) == []


def test_upstream_moves_on_under_an_untouched_file(place):
    lay(place)
    put(place[0] / NB, notebook("x = 10"))
    put(place[0] / LESSON / "02-new.ipynb", notebook("z = 1", title="Second"))
    report = lay(place)
    assert report.updated == [NB, "Syllabus.md"] and report.added == [f"{LESSON}/02-new.ipynb"]
    assert (place[1] / NB).read_bytes() == notebook("x = 10")
    assert "[Second](03-quantize-with-modelopt/02-new.ipynb)" in (place[1] / "Syllabus.md").read_text()


@pytest.mark.parametrize("mine", [
    notebook("x = 1  # my note"), notebook("x = 1", "extra = 1"), notebook(), b"not json any more", b""])
def test_what_the_learner_changed_is_never_overwritten(place, mine):
    root, work = place
    lay(place)
    put(work / NB, mine)
    assert lay(place).kept == [NB]
    put(root / NB, notebook("x = 10"))
    for _ in range(2):      # said every time, not only once
        report = lay(place)
        assert report.newer == [NB] and not report.updated and (work / NB).read_bytes() == mine
    assert any(f"newer upstream: {NB}" in line and f"./course reset {LESSON}" in line for line in report_lines(report))


def test_a_notebook_that_was_merely_run_is_updated_and_the_run_is_kept(place):
    root, work = place
    lay(place)
    run = notebook("x = 1", output="42")
    put(work / NB, run)
    assert lay(place) == workspace.Report() and (work / NB).read_bytes() == run     # nothing new: left alone
    put(root / NB, notebook("x = 10"))
    report = lay(place)
    assert report.updated == [NB] and len(report.backups) == 1
    assert (work / NB).read_bytes() == notebook("x = 10")
    assert (work / report.backups[0]).read_bytes() == run
    assert ".before-" in report.backups[0] and report.backups[0].endswith(".ipynb")


def test_an_empty_cell_that_jupyterlab_adds_is_no_change(place):
    lay(place)
    put(place[1] / NB, notebook("x = 1", "", output="42"))
    assert lay(place).kept == []
    assert workspace.changed(place[1]) == (5, 0)


def test_only_outputs_changed_upstream(place):
    lay(place)
    put(place[1] / NB, notebook("x = 1", output="mine"))
    put(place[0] / NB, notebook("x = 1", output="theirs"))
    assert lay(place) == workspace.Report() and (place[1] / NB).read_bytes() == notebook("x = 1", output="mine")


def test_a_change_that_upstream_made_too(place):
    lay(place)
    for folder in place:
        put(folder / NB, notebook("x = 3"))
    assert lay(place) == workspace.Report()
    put(place[0] / NB, notebook("x = 4"))
    assert lay(place).updated == [NB]


def test_deleted_files_stay_deleted_until_reset(place):
    root, work = place
    lay(place)
    (work / NB).unlink()
    put(root / NB, notebook("x = 10"))
    report = lay(place)
    assert report.deleted == [NB] and not (work / NB).exists()
    assert any("not put back" in line and f"./course reset {LESSON}" in line for line in report_lines(report))
    workspace.reset(LESSON, work, root)
    assert (work / NB).read_bytes() == notebook("x = 10") and lay(place).deleted == []


def test_the_syllabus_comes_back(place):
    lay(place)
    (place[1] / "Syllabus.md").unlink()
    assert lay(place).added == ["Syllabus.md"]


def test_files_that_the_course_drops(place):
    root, work = place
    lay(place)
    put(work / LESSON / "helper.py", b"y = 2\n")
    for name in (f"{LESSON}/helper.py", f"{LESSON}/solutions/01-first.ipynb"):
        (root / name).unlink()
    report = lay(place)
    assert report.removed == [f"{LESSON}/solutions/01-first.ipynb"]
    assert not (work / LESSON / "solutions").exists()
    assert (work / LESSON / "helper.py").read_bytes() == b"y = 2\n" and "yours is kept" in report.notes[0]
    assert lay(place).notes == []


def test_a_file_of_the_learner_with_a_name_that_the_course_brings_later(place):
    root, work = place
    lay(place)
    put(work / LESSON / "02-new.ipynb", notebook("mine"))
    put(root / LESSON / "02-new.ipynb", notebook("theirs"))
    for _ in range(2):
        assert lay(place).kept == [f"{LESSON}/02-new.ipynb"]
    assert (work / LESSON / "02-new.ipynb").read_bytes() == notebook("mine")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"version": 9, "files": {}}', b'{"version": 1, "files": {"a": 3}}',
                                  b'{"version": 1}', b"\xff\xfe"])
def test_a_broken_manifest_makes_every_difference_the_learners(place, text):
    root, work = place
    lay(place)
    put(work / NB, notebook("mine"))
    put(root / LESSON / "helper.py", b"y = 3\n")
    put(work / workspace.MANIFEST, text)
    report = lay(place)
    assert set(report.kept) == {NB, f"{LESSON}/helper.py"} and "could not be read" in report.notes[0]
    assert (work / NB).read_bytes() == notebook("mine") and (work / LESSON / "helper.py").read_bytes() == b"y = 1\n"
    kept = [p for p in work.iterdir() if ".broken-" in p.name]
    assert len(kept) == 1 and kept[0].read_bytes() == text
    assert lay(place).notes == []


def test_links_and_folders_of_the_learner_are_left_alone(place, tmp_path):
    root, work = place
    lay(place)
    precious = tmp_path / "precious.py"
    precious.write_bytes(b"precious")
    (work / LESSON / "helper.py").unlink()
    (work / LESSON / "helper.py").symlink_to(precious)
    (work / NB).unlink()
    (work / NB).mkdir()
    put(root / LESSON / "helper.py", b"y = 3\n")
    put(root / NB, notebook("x = 10"))
    report = lay(place)
    assert set(report.newer) == {NB, f"{LESSON}/helper.py"}
    assert precious.read_bytes() == b"precious" and (work / NB).is_dir()


def test_a_file_where_a_lesson_folder_would_be(place):
    put(place[1] / LESSON, b"mine")
    assert len(lay(place).kept) == 4 and (place[1] / LESSON).read_bytes() == b"mine"


def test_work_is_a_file(place):
    put(place[1], b"mine")
    with pytest.raises(UserError, match="not a folder"):
        lay(place)


@pytest.mark.parametrize("survivors", range(5))
def test_an_interrupted_layout_is_continued(place, monkeypatch, survivors):
    """Killed after any number of files, before the manifest was written: the next run ends as an undisturbed one."""
    root, work = place
    real, count = workspace.write_atomically, 0

    class Killed(BaseException):
        pass

    def write(path, data):
        nonlocal count
        count += 1
        if count > survivors or path.name == workspace.MANIFEST:
            (work / ".laying-left").write_bytes(b"half")
            raise Killed
        real(path, data)

    monkeypatch.setattr(workspace, "write_atomically", write)
    with pytest.raises(Killed):
        lay(place)
    monkeypatch.undo()
    put(root / NB, notebook("x = 1"))
    lay(place)
    assert lay(place) == workspace.Report() and len(everything(work)) == 5
    put(root / NB, notebook("x = 10"))
    assert lay(place).updated == [NB]       # what the first run laid is known to be untouched


def test_property_nothing_of_the_learner_is_ever_lost(tmp_path):
    """Random histories of learner and course: every text that the learner wrote is somewhere below work/ at the end,
    and every file that he didn't touch since it was laid is the course's newest."""
    for seed in range(60):
        rng = random.Random(seed)
        root, work = tmp_path / f"l{seed}", tmp_path / f"w{seed}"
        names = [f"{LESSON}/{i:02}-n.ipynb" for i in range(3)] + [f"{LESSON}/a.py", f"{LESSON}/solutions/00-n.ipynb"]
        precious, tick = set(), 0

        def fresh(name, tag, output=None):
            return notebook(tag, output=output) if name.endswith("ipynb") else f"{tag}\n".encode()

        for name in names:
            put(root / name, fresh(name, "start"))
        for _ in range(25):
            name, act, tick = rng.choice(names), rng.randrange(8), tick + 1
            path = work / name
            if act == 0:                                            # the learner writes
                data = fresh(name, f"mine {tick}")
                put(path, data)
                precious = {(n, d) for n, d in precious if n != name} | {(name, data)}   # he overwrote his own
            elif act == 1 and path.exists() and name.endswith("ipynb"):      # he runs
                cells = json.loads(path.read_bytes())
                data = json.dumps(cells | {"metadata": {"run": tick}}).encode()
                put(path, data)
                precious = {(n, d) for n, d in precious if n != name} | {(name, data)}
            elif act == 2 and path.exists() and rng.random() < 0.3:           # he deletes
                path.unlink()
                precious = {(n, d) for n, d in precious if n != name}
            elif act == 3:                                          # the course moves on
                put(root / name, fresh(name, f"course {tick}"))
            elif act == 4 and len([n for n in names if (root / n).exists()]) > 2:
                (root / name).unlink(missing_ok=True)
            elif act == 5 and (root / LESSON).exists() and rng.random() < 0.4:
                workspace.reset(LESSON, work, root)
            elif act == 6 and rng.random() < 0.3 and work.exists():
                put(work / workspace.MANIFEST, b"broken")
            else:
                workspace.lay_out(work, root)
            there = set(everything(work).values()) if work.exists() else set()
            assert {d for _, d in precious} <= there, f"seed {seed}: something of the learner's is gone"
        workspace.reset(LESSON, work, root)
        workspace.lay_out(work, root)
        assert workspace.lay_out(work, root) == workspace.Report(), f"seed {seed}"
        for name in names:
            assert (root / name).exists() == (work / name).exists()
            if (root / name).exists():
                assert (work / name).read_bytes() == (root / name).read_bytes()


# ---------------------------------------------------------------- reset

def test_reset_keeps_the_old_copy(place):
    root, work = place
    lay(place)
    put(work / NB, notebook("mine"))
    put(work / LESSON / "own.txt", b"own")
    backup = workspace.reset(LESSON, work, root)
    assert backup.name.startswith(f"{LESSON}.before-20")
    assert (backup / "01-first.ipynb").read_bytes() == notebook("mine") and (backup / "own.txt").read_bytes() == b"own"
    assert (work / NB).read_bytes() == notebook("x = 1") and not (work / LESSON / "own.txt").exists()
    assert lay(place) == workspace.Report()
    put(work / NB, notebook("mine again"))
    assert workspace.reset(LESSON, work, root) != backup        # within the same second, too
    assert workspace.reset(LESSON, work, root) is workspace.ALREADY_CLEAN


def test_reset_before_anything_was_laid(place):
    assert workspace.reset(LESSON, place[1], place[0]) is None
    assert (place[1] / NB).exists() and lay(place).added == ["Syllabus.md"]


def test_reset_that_fails_leaves_the_old_copy_in_place(place, monkeypatch):
    root, work = place
    lay(place)
    put(work / NB, notebook("mine"))
    before = everything(work)
    real = os.rename

    def rename(a, b):
        if Path(a).name.startswith(".laying-"):
            raise OSError(28, "No space left on device")
        real(a, b)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="No space left"):
        workspace.reset(LESSON, work, root)
    assert everything(work) == before and not list(work.glob(".laying-*"))


@pytest.mark.parametrize("word", ["3", "03", "03-q", "03-quantize-with-modelopt", "work/03-quantize-with-modelopt/",
                                  "quantize", "03-QUANT"])
def test_names_of_lessons(place, word):
    assert lessons.find_lesson(word, place[0]) == LESSON


@pytest.mark.parametrize("word", ["4", "04-empty", "33", "", "..", "/", "-1", "nope"])
def test_wrong_names_list_the_lessons(place, word):
    with pytest.raises(UserError, match=f"the lessons are: {LESSON}"):
        lessons.find_lesson(word, place[0])


def test_ambiguous_names(place):
    put(place[0] / "05-quantize-more/README.md", b"# Q\n")
    with pytest.raises(UserError, match=f"could be {LESSON} or 05-quantize-more"):
        lessons.find_lesson("quant", place[0])


# ---------------------------------------------------------------- the syllabus

def test_syllabus(place):
    text = syllabus.syllabus(place[0])
    assert "## Quantize with ModelOpt\n\nFrom BF16 to NVFP4.\n" in text
    (place[0] / LESSON / "README.md").unlink()
    assert "## Quantize with modelopt\n" in syllabus.syllabus(place[0])
    assert f"- [First steps]({NB}) ([solution]({LESSON}/solutions/01-first.ipynb))" in text


def test_links_of_the_real_syllabus_resolve(tmp_path):
    import re
    from urllib.parse import unquote

    workspace.lay_out(tmp_path, LESSONS)
    links = re.findall(r"\]\(([^)#]+)\)", (tmp_path / "Syllabus.md").read_text())
    assert all((tmp_path / unquote(target)).is_file() for target in links)
    assert len([n for n in links if n.endswith(".ipynb")]) == len(list(tmp_path.rglob("*.ipynb")))


def test_links_inside_the_real_lessons_work_from_a_copy(tmp_path):
    """A relative link of a card or a notebook must lead to something that is laid out too."""
    import re
    from urllib.parse import unquote

    workspace.lay_out(tmp_path, LESSONS)
    texts = [(p, p.read_text()) for p in tmp_path.rglob("*.md")]
    for p in tmp_path.rglob("*.ipynb"):
        cells = json.loads(p.read_bytes())["cells"]
        texts += [(p, "".join(c["source"])) for c in cells if c["cell_type"] == "markdown"]
    broken = [f"{p.relative_to(tmp_path)}: {target}" for p, text in texts
              for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
              if not re.match(r"[a-z]+:", target) and not (p.parent / unquote(target)).exists()]
    assert not broken, f"links that lead nowhere in work/: {broken}"


# ---------------------------------------------------------------- as a user calls it

def test_reset_from_the_command_line(course, tmp_path):
    names = lessons.lessons()
    if not names:
        pytest.skip("no lesson is shipped yet")
    assert course("reset", names[0][:2]).returncode == 0
    assert sorted(p.name for p in (tmp_path / "work").iterdir() if not p.name.startswith(".")) == [names[0]]
    p = course("reset", names[0])
    assert p.returncode == 0 and "clean copy already" in p.stdout
    target = next((tmp_path / "work" / names[0]).rglob("*.ipynb"))
    target.write_text("mine")
    p = course("reset", str(int(names[0][:2])))
    assert p.returncode == 0 and "Yours is kept in work/" in p.stdout
    kept = tmp_path / "work" / p.stdout.split("kept in work/")[1].strip()
    assert (kept / target.relative_to(tmp_path / "work" / names[0])).read_text() == "mine"


@pytest.mark.parametrize("argv", [(), ("99",)])
def test_reset_of_what_is_none(course, argv, tmp_path):
    p = course("reset", *argv)
    assert p.returncode == 2 and p.stderr.count("\n") == 1 and not (tmp_path / "work").exists()


def git(*argv, cwd):
    return subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *argv], cwd=cwd, check=True,
                          capture_output=True, text=True).stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_pull_in_the_middle_of_a_workshop(tmp_path):
    """Clone, lay out, work, pull, lay out again: no conflict, nothing of the learner's touched, the rest is new."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    shutil.copytree(ROOT / "gb10", origin / "gb10", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", origin)
    put(origin / "lessons" / NB, notebook("x = 1"))
    put(origin / f"lessons/{LESSON}/02-second.ipynb", notebook("y = 1"))
    git("init", "-q", "-b", "main", cwd=origin)
    git("add", "-A", cwd=origin)
    git("commit", "-qm", "one", cwd=origin)
    git("clone", "-q", str(origin), str(clone), cwd=tmp_path)
    script = "from gb10 import workspace as w; r = w.lay_out(); print(r.updated, r.newer, r.added)"

    def lay_out():
        env = {k: v for k, v in os.environ.items() if not k.startswith("GB10_")}
        return subprocess.run([sys.executable, "-P", "-c", script], cwd=clone, env=env | {"PYTHONPATH": str(clone)},
                              check=True, capture_output=True, text=True).stdout

    lay_out()
    mine = notebook("x = 'my own work'")
    put(clone / "work" / NB, mine)
    put(origin / "lessons" / NB, notebook("x = 100"))
    put(origin / f"lessons/{LESSON}/02-second.ipynb", notebook("y = 100"))
    put(origin / f"lessons/{LESSON}/03-third.ipynb", notebook("z = 100"))
    git("add", "-A", cwd=origin)
    git("commit", "-qm", "two", cwd=origin)
    assert git("status", "--porcelain", cwd=clone) == ""        # work/ is git's blind spot
    git("pull", "-q", "--ff-only", cwd=clone)
    said = lay_out()
    assert (clone / "work" / NB).read_bytes() == mine and f"['{NB}']" in said
    assert (clone / "work" / LESSON / "02-second.ipynb").read_bytes() == notebook("y = 100")
    assert (clone / "work" / LESSON / "03-third.ipynb").read_bytes() == notebook("z = 100")
    assert git("status", "--porcelain", cwd=clone) == ""
