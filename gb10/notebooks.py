"""One source per notebook, and what is derived from it.

The source is a jupytext percent script, lessons/NN-name/solutions/NN-title.py. It holds the solution; from it come

    lessons/NN-name/NN-title.ipynb             the exercise: solutions replaced by stubs
    lessons/NN-name/solutions/NN-title.ipynb   the same notebook, solved

In a code cell of the source

    ### BEGIN SOLUTION
    return 6 * scale
    ### STUB
    # raise NotImplementedError      # your code here
    ### END SOLUTION

the solution shows the lines before STUB; the exercise shows those after it, without their "# ". Without a STUB part it
is the single line `raise NotImplementedError`. A cell tagged `exercise-only` or `solution-only` occurs in one of the two.

Outputs are kept in git for cells tagged both `keep_output` and `nbval-check-output`, and for no other: they must come out
the same on every machine, and the tests compare them.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat

from gb10 import paths
from gb10.errors import UserError, WorkFailed

KEPT = ("keep_output", "nbval-check-output")
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
EXERCISE, SOLUTION = "exercise", "solution"
BEGIN, STUB, END = "### BEGIN SOLUTION", "### STUB", "### END SOLUTION"


# ---------------------------------------------------------------- where things are

def sources(lesson: str | None = None, root: Path | None = None) -> list[Path]:
    """The notebook sources of all lessons, or of the one whose folder name starts with `lesson` (3, 03, 03-quant…)."""
    root = root or paths.LESSONS
    folders = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    if lesson is not None:
        wanted = lesson.rstrip("/").rsplit("/", 1)[-1]
        wanted = wanted.zfill(2) if wanted.isdigit() else wanted
        folders = [p for p in folders if p.name == wanted or p.name.startswith(wanted if "-" in wanted else wanted + "-")]
        if len(folders) != 1:
            have = ", ".join(p.name for p in root.iterdir() if p.is_dir())
            raise UserError(f"no lesson is called {lesson!r}; there are: {have or 'none'}.")
    return [path for folder in folders for path in sorted((folder / "solutions").glob("*.py"))]


def targets(source: Path) -> dict[str, Path]:
    """kind -> notebook derived from a source."""
    return {EXERCISE: source.parent.parent / f"{source.stem}.ipynb", SOLUTION: source.with_suffix(".ipynb")}


def notebooks(root: Path | None = None) -> list[Path]:
    """Every notebook under lessons/, exercise or solution, derived or not."""
    return sorted(p for p in (root or paths.LESSONS).rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


# ---------------------------------------------------------------- derivation

def derive(source: Path, kind: str) -> nbformat.NotebookNode:
    """The notebook of one kind, without outputs. Raises UserError naming the line of a marker out of place."""
    import jupytext

    script = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    cells, seen = [], {}
    for cell in script.cells:
        tags = list(cell.metadata.get("tags", []))
        other = SOLUTION if kind == EXERCISE else EXERCISE
        if f"{other}-only" in tags:
            continue
        text = cell.source
        if cell.cell_type == "code":
            text = _choose(text, kind, source)
        # Ids follow from the text, so that an inserted cell leaves the others' alone.
        digest = hashlib.sha256(f"{cell.cell_type}\n{text}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        make = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        metadata = {k: v for k, v in cell.metadata.items() if k != "tags" and not k.startswith("lines_to")}
        tags = [t for t in tags if t != f"{kind}-only"]
        cells.append(make(text, id=digest if seen[digest] == 1 else f"{digest}-{seen[digest]}",
                          metadata={**metadata, **({"tags": tags} if tags else {})}))
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA)


def _choose(text: str, kind: str, source: Path) -> str:
    """A code cell's text with each marked part replaced by what `kind` shows."""
    out, solution, stub, part, indent = [], [], [], None, ""
    for line in text.splitlines():
        mark = line.strip()
        expected = {BEGIN: (None,), STUB: (BEGIN,), END: (BEGIN, STUB)}.get(mark)
        if expected is not None and part not in expected:
            raise UserError(f"{source.name}: '{mark}' where {part or 'nothing'} is open, near: {text.splitlines()[0]}")
        if mark == BEGIN:
            part, solution, stub, indent = BEGIN, [], [], line[: len(line) - len(line.lstrip())]
        elif mark == STUB:
            part = STUB
        elif mark == END:
            out += solution if kind == SOLUTION else (stub or [f"{indent}raise NotImplementedError"])
            part = None
        elif part == BEGIN:
            solution.append(line)
        elif part == STUB:
            if not re.match(r"\s*# ?", line):
                raise UserError(f"{source.name}: a line of a STUB must be a comment: {line.strip()!r}")
            stub.append(re.sub(r"^(\s*)# ?", r"\1", line))
        else:
            out.append(line)
    if part is not None:
        raise UserError(f"{source.name}: '{BEGIN}' is never closed by '{END}', near: {text.splitlines()[0]}")
    return "\n".join(out)


def is_kept(cell) -> bool:
    return set(KEPT) <= set(cell.metadata.get("tags", []))


def dumps(notebook: nbformat.NotebookNode) -> str:
    """Canonical JSON: nbformat 4.5, sorted keys, one space, one newline at the end."""
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


# ---------------------------------------------------------------- outputs

def _kept(notebook: nbformat.NotebookNode) -> list[int]:
    return [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and is_kept(cell)]


def reuse_kept(notebook: nbformat.NotebookNode, earlier: Path) -> bool:
    """Take the kept outputs from an earlier derivation if no code up to the last kept cell has changed since."""
    last = (_kept(notebook) or [-1])[-1]
    try:
        there = nbformat.read(earlier, as_version=4).cells
    except (OSError, ValueError, KeyError, AttributeError, nbformat.ValidationError):
        return False
    old, new = ([c for c in cells if c.cell_type == "code"] for cells in (there, notebook.cells[: last + 1]))
    if [c.source for c in old[: len(new)]] != [c.source for c in new]:
        return False
    for before, now in zip(old, new, strict=False):
        if is_kept(now):
            if not before.outputs or before.execution_count is None:
                return False
            now.outputs, now.execution_count = before.outputs, before.execution_count
    return True


def run_kept(notebook: nbformat.NotebookNode, timeout: int = 600) -> None:
    """Run a notebook up to its last kept cell, in an empty folder, and keep the outputs of the kept cells alone.

    Raises WorkFailed with the cell and its error when one fails.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    kept = _kept(notebook)
    if not kept:
        return
    part = nbformat.v4.new_notebook(cells=notebook.cells[: kept[-1] + 1], metadata=dict(METADATA))
    with tempfile.TemporaryDirectory(prefix="gb10-refresh-") as folder:
        client = NotebookClient(part, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": folder}})
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as e:
            raise WorkFailed(f"a cell failed while the outputs were made:\n{e}") from None
    number = 0
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        number += 1
        cell.outputs = [_plain(o) for o in part.cells[i].outputs] if i in kept else []
        # nbval takes an output without a count for a cell that never ran; the position is the same on every run
        cell.execution_count = number if i in kept else None
        cell.metadata.pop("execution", None)     # times of day, which nbclient notes


def _plain(output):
    output = nbformat.NotebookNode(output)
    if "execution_count" in output:
        output["execution_count"] = None
    return output


# ---------------------------------------------------------------- refresh and check

def refresh(lesson: str | None = None, root: Path | None = None, say: Callable[[str], None] = print,
            run: bool = False) -> list[Path]:
    """Derive the notebooks, run what has to be run, write them; returns those that changed.

    Kept outputs are taken over where the code that leads to them is the same as before, unless `run` asks for new ones
    (after a change in gb10 or in the shipped model; nbval tells). Each notebook is written whole or not at all.
    """
    changed = []
    for source in sources(lesson, root):
        for kind, target in targets(source).items():
            notebook = derive(source, kind)
            what = f"{target.parent.name}/{target.name}: {kind}, {len(notebook.cells)} cells"
            if run or not reuse_kept(notebook, target):
                say(f"{what}, running it for {len(_kept(notebook))} kept outputs …")
                run_kept(notebook)
            else:
                say(what)
            text = dumps(notebook)
            if not target.exists() or target.read_text(encoding="utf-8") != text:
                _write(target, text)
                changed.append(target)
    return changed


def stale(lesson: str | None = None, root: Path | None = None) -> list[str]:
    """What differs between sources and notebooks on disk, one sentence each; outputs are left to nbval."""
    out, derived = [], set()
    for source in sources(lesson, root):
        for kind, target in targets(source).items():
            derived.add(target)
            where = f"{target.parent.parent.name}/{target.parent.name}/{target.name}"
            if not target.exists():
                out.append(f"{where} is missing: ./course refresh makes it.")
                continue
            try:
                there = nbformat.read(target, as_version=nbformat.NO_CONVERT)
                # compared as text after blanking the kept outputs: ids, tags, metadata and order count as well
                for cell in there.cells:
                    if cell.cell_type == "code" and is_kept(cell):
                        if not cell.outputs or cell.execution_count is None:
                            out.append(f"{where}: cell {cell.get('id')} has lost its kept output: ./course refresh.")
                        cell.outputs, cell.execution_count = [], None
                same = dumps(there) == dumps(derive(source, kind))
            except (ValueError, KeyError, AttributeError, nbformat.ValidationError):
                same = False
            if not same:
                out.append(f"{where} is not what its source gives: edit solutions/{source.name}, then ./course refresh.")
    if lesson is None:
        out += [f"{p.relative_to(root or paths.LESSONS)} has no source: solutions/{p.stem}.py makes one."
                for p in notebooks(root) if p not in derived]
    return out


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
