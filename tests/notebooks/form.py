"""What every notebook of the course must look like; each function returns the faults it finds, as sentences."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

import nbformat

from gb10 import notebooks

CELL_ID = re.compile(r"[0-9a-f]{8}(-\d+)?")
MACHINE_PATH = re.compile(r"/(home|Users|root|tmp|opt|mnt)/|[A-Z]:\\\\|\.venv/|localhost:\d|token=", re.IGNORECASE)


def words(markdown: str) -> int:
    """Words of prose: without links' targets, HTML, formulas and table rules."""
    text = re.sub(r"\]\([^)]*\)|<[^>]*>|\$\$.*?\$\$|^\s*\|[-| :]*\|\s*$", " ", markdown, flags=re.DOTALL | re.MULTILINE)
    return len(re.findall(r"[A-Za-z0-9][\w'’.-]*", text))


def lines(code: str) -> int:
    return sum(1 for line in code.splitlines() if line.strip())


def file_faults(path: Path) -> list[str]:
    """Form on disk: valid, canonical, stable."""
    text = path.read_text(encoding="utf-8")
    try:
        nb = nbformat.reads(text, as_version=nbformat.NO_CONVERT)
        nbformat.validate(nb)
    except (ValueError, KeyError, AttributeError, nbformat.ValidationError) as e:
        return [f"not a valid notebook: {str(e).splitlines()[0]}"]
    faults = []
    if (nb.nbformat, nb.nbformat_minor) != (4, 5):
        faults.append(f"nbformat {nb.nbformat}.{nb.nbformat_minor}, not 4.5")
    if notebooks.dumps(nb) != text:
        faults.append("not in canonical form (sorted keys, one space of indentation)")
    if json.loads(json.dumps(nb.metadata)) != notebooks.METADATA:
        faults.append("metadata differ from the course's: kernel or machine specific")
    ids = [cell.get("id", "") for cell in json.loads(text)["cells"]]    # as they are: nbformat mends what it reads
    if len(set(ids)) != len(ids) or not all(CELL_ID.fullmatch(i) for i in ids):
        faults.append("cell ids missing, repeated or not derived")
    for n, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        if any(o.output_type == "error" for o in cell.outputs):
            faults.append(f"cell {n} holds an error")
        tags = set(cell.metadata.get("tags", []))
        if len(tags & set(notebooks.KEPT)) == 1:
            faults.append(f"cell {n} has one of the two tags {notebooks.KEPT}: it needs both or none")
        if bool(cell.outputs) != notebooks.is_kept(cell):
            faults.append(f"cell {n}: an output without the tags, or the tags without an output")
        if any(o.output_type != "stream" and set(o.data) - {"text/plain", "text/html"} for o in cell.outputs
               if o.output_type != "error"):
            faults.append(f"cell {n} keeps a picture: those are never compared")
        if MACHINE_PATH.search(json.dumps(cell.outputs)) or MACHINE_PATH.search(cell.source):
            faults.append(f"cell {n} names a path or address of one machine")
        if not cell.source.strip():
            faults.append(f"cell {n} is empty")
    return faults


def texture_faults(path: Path) -> list[str]:
    """How it reads: number and length of cells, prose per cell, header and ending."""
    nb = nbformat.read(path, as_version=4)
    code = [c.source for c in nb.cells if c.cell_type == "code"]
    prose = [c.source for c in nb.cells if c.cell_type == "markdown"]
    faults = []
    if not 10 <= len(code) <= 40:
        return [f"{len(code)} code cells, not 10 to 40"]
    lengths = sorted(lines(c) for c in code)
    if not 3 <= statistics.median(lengths) <= 6:
        faults.append(f"median cell of {statistics.median(lengths)} lines, not 3 to 6")
    if lengths[int(len(lengths) * 0.9)] >= 20:
        faults.append(f"one cell in ten has {lengths[int(len(lengths) * 0.9)]} lines or more; keep it under 20")
    each = sum(map(words, prose)) / len(code)
    if not 55 <= each <= 90:
        faults.append(f"{each:.0f} words of prose for each code cell, not 55 to 90")
    wide = [line for c in code for line in c.splitlines() if len(line) > 130]
    if wide:
        faults.append(f"a line of {len(wide[0])} characters: {wide[0][:40]}…")
    head = prose[0] if prose else ""
    if not (head.startswith("# ") and "**Afterwards you can**" in head and re.search(r"\*\*Time:\*\* \d+ minutes", head)
            and all(f"| {rung} |" in head for rung in ("laptop", "spark", "rack"))):
        faults.append("the header lacks title, what you can do afterwards, minutes, or the rungs")
    if code and "machine.banner(" not in code[0]:
        faults.append("the first code cell prints no version and machine line")
    if not prose or "## Three things to remember" not in prose[-1] or "**Next step.**" not in prose[-1]:
        faults.append("it doesn't end with three things to remember and the next step")
    if "**Predict" not in "\n".join(prose):
        faults.append("nowhere does the reader commit to a guess")
    if any("savefig" in c or "plt." in c or "pyplot" in c for c in code):
        faults.append("pyplot: use gb10.explore.figure, which keeps the alt text")
    if re.search(r"""open\(|['"]\.\.?/""", "\n".join(code)):
        faults.append("a path relative to where the notebook lies: use gb10.paths")
    return faults
