"""From a run on disk to its figures: a pure function of the files, in flat memory however long they are."""

from __future__ import annotations

from gb10.bench.figures import Figures, Segment
from gb10.bench.journal import Run
from gb10.errors import UserError

BROKEN = (KeyError, TypeError, AttributeError, ValueError, ArithmeticError)      # what lines of another kind bring about


def broken(run: Run, e: Exception) -> UserError:
    return UserError(f"{run.journal} holds lines that this benchmark does not write ({type(e).__name__}: {e}); it was left as it is.")


def figures(run: Run) -> list[Figures]:
    """The groups of a run: one for each endpoint and concurrency (or rate), in the order in which they were planned.

    Raises UserError for lines that this benchmark doesn't write.
    """
    groups: dict[tuple, Figures] = {}
    of_cell: dict[int, Figures] = {}
    for cell in run.meta["cells"]:
        key = (cell["endpoint"], cell["concurrency"], cell.get("rate"))
        if key not in groups:
            groups[key] = Figures(*key, run.meta.get("slo"))
        of_cell[cell["cell"]] = groups[key]
    try:
        for row, segment in _placed(run, of_cell, first=True):
            of_cell[row["cell"]].add(row, segment)
        for group in groups.values():
            group.settle()
        for row, segment in _placed(run, of_cell, first=False):
            of_cell[row["cell"]].count(row, segment)
    except BROKEN as e:
        raise broken(run, e) from e
    return list(groups.values())


def _placed(run: Run, of_cell: dict[int, Figures], first: bool):
    """(request line, its segment). The second pass meets the same segments in the same order."""
    current: dict[int, Segment] = {}
    seen: dict[int, int] = {}            # id of the group -> segments met so far
    for row in run.rows():
        kind = row.get("k")
        group = of_cell.get(row.get("cell"))
        if group is None:
            continue
        if kind == "start":
            if first:
                group.segments.append(Segment(group.concurrency, row["unix"]))
                current[row["cell"]] = group.segments[-1]
            else:
                n = seen.get(id(group), 0)
                current[row["cell"]] = group.segments[n]
                seen[id(group)] = n + 1
        elif kind == "end" and first:
            group.ends.append(row)
        elif kind == "req":
            yield row, current[row["cell"]]


def result(run: Run, groups: list[Figures] | None = None) -> dict:
    """What --json writes: {"runs": […], "meta": {…}}."""
    groups = figures(run) if groups is None else groups
    rows = []
    for g in groups:
        if g.requests:
            endpoint = run.meta["endpoints"][g.endpoint]
            rows.append({"engine": endpoint["engine"], "model": endpoint["model"]} | g.to_dict())
    return {"runs": rows, "meta": run.meta}
