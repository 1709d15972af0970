"""Going on with a run that was interrupted: what is left of its cells, and the settings that it was started with."""

from __future__ import annotations

import json

from gb10.bench import options
from gb10.bench.journal import Run
from gb10.bench.summary import BROKEN, broken, figures
from gb10.errors import UserError

ENDLESS = 1 << 40                # requests, where seconds are the limit
SETTINGS = ("prompt_tokens", "max_tokens", "temperature", "api", "turns")       # of the workload, under their flags' names


def left_to_do(cell: dict, done: set[int], ended: bool, spent: float, turns: int = 1) -> dict | None:
    """What a resumed cell still has to send: {"todo", "seconds"}, None when nothing.

    done: numbers of the requests in the journal; ended: was its end written; spent: seconds it has run.
    """
    if ended:
        return None
    begun = {i // turns for i in done}
    if cell["seconds"] is not None and not cell["requests"]:
        seconds = cell["seconds"] - spent
        return {"todo": [[max(begun, default=-1) + 1, ENDLESS]], "seconds": seconds} if seconds > 0 else None
    todo: list[list[int]] = []
    for i in range(cell["requests"]):
        if i in begun:
            continue
        if todo and todo[-1][1] == i:
            todo[-1][1] = i + 1
        else:
            todo.append([i, i + 1])
    return {"todo": todo, "seconds": cell["seconds"]} if todo else None


def left(run: Run) -> dict:
    """Cells of a run that was interrupted -> what they still have to do. Changes nothing; raises UserError."""
    figures(run)                                      # refuses what was not written by this benchmark
    done: dict[int, set[int]] = {}
    ended, started, spent = set(), {}, {}
    try:
        for row in run.rows():
            cell, kind = row.get("cell"), row.get("k")
            if kind == "req":
                done.setdefault(cell, set()).add(row["i"])
                started[cell] = max(started.get(cell, 0), row["send"] + row["end"] if row.get("send") is not None else 0)
            elif kind == "start":
                spent[cell] = spent.get(cell, 0) + started.pop(cell, 0)
            elif kind == "end" and not row.get("gave_up"):
                ended.add(cell)
    except BROKEN as e:
        raise broken(run, e) from e
    out = {}
    for c in run.meta["cells"]:
        used = (spent.get(c["cell"], 0) + started.get(c["cell"], 0)) / 1e6
        work = left_to_do(c, done.get(c["cell"], set()), c["cell"] in ended, used, run.meta["workload"]["turns"])
        if work:
            out[c["cell"]] = work
    if not out:
        raise UserError(f"{run.id} is complete: nothing is left to do. './course bench --report' shows it.")
    return out


def settings(run: Run, given):
    """The options of a run that is resumed: those of its meta file, with the key, files and expectations of this call.

    Raises UserError for a meta file that does not say all that it takes to go on.
    """
    try:
        return _settings(run.meta, given)
    except (KeyError, TypeError, ValueError) as e:
        raise UserError(f"{run.id} can't be taken up again: its meta.json does not say all that it takes ({e}); it was left as it is.") from e


def _settings(meta: dict, given):
    o = options.defaults()
    int(meta["salt"])
    for cell in meta["cells"]:
        for name in ("requests", "seconds", "rate", "poisson", "blocks"):
            cell[name]
    o.url = [e["url"] for e in meta["endpoints"]]
    o.model = [e["model"] for e in meta["endpoints"]]
    for name in SETTINGS:
        setattr(o, name, meta["workload"][name])
    o.extra = json.dumps(meta["workload"]["extra"])
    o.prompt_text, o.any_length, o.warm = meta["workload"]["prompt"], not meta["workload"]["fixed_length"], not meta["workload"]["cold"]
    o.seed, o.stall, o.timeout, o.warmup, o.weights, o.label = (meta[k] for k in ("seed", "stall_s", "timeout_s", "warmup", "weights", "label"))
    o.requests = 1                                        # the cells are planned already
    for name in ("key", "key_env", "json", "html", "md", "csv", "quiet", "results", "expect", "machine", "roofline_model"):
        setattr(o, name, getattr(given, name))
    return o
