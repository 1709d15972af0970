"""./course status: what is up, where, and with which model."""

from __future__ import annotations

import json
import sys

HELP = "What is up, where, and with which model: the course's own engines and others on the usual ports."
EXAMPLES = """\
  ./course status            a line for each engine
  ./course status --json     {"engine", "url", "model", "pid" or "container", "ready_s", "engines": [...]}; the
                             first five are the first engine's, null if nothing is up
"""


def add_arguments(parser) -> None:
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def run(args) -> int:
    from gb10.engines import containers, find, state

    containers.adopt()
    own, said = state.sweep()
    for sentence in said:
        print(sentence, file=sys.stderr)
    answering = {e["url"]: e for e in find.running()}
    rows = []
    for e in own:
        rows.append(e.contract() | {"own": True, "answers": e.url in answering, "log": e.log, "owner": e.owner, "where": e.where, "title": e.title})
        answering.pop(e.url, None)
    for e in answering.values():
        rows.append({"engine": e["engine"], "url": e["url"], "model": e["models"][0], "pid": None, "ready_s": None,
                     "own": False, "answers": True})
    if args.json:
        first = rows[0] if rows else {}
        place = "container" if first.get("container") else "pid"
        print(json.dumps({k: first.get(k) for k in ("engine", "url", "model", place, "ready_s")} | {"engines": rows}))
        return 0
    if not rows:
        print("No engine is up. Start one: ./course up")
    for r in rows:
        print(_line(r))
    return 0


def _line(r: dict) -> str:
    line = f"{r.get('title', r['engine'])}  {r['url']}  {r['model']}"
    if not r["own"]:
        return line + "  (not started by the course)"
    if r["ready_s"] is None:
        return line + f"  {r['where']}, " + ("answers" if r["answers"] else "starting")
    note = "" if r["answers"] else "; it does not answer: ./course logs shows why"
    mine = ", ends with its notebook" if r["owner"] == "notebook" else ""
    return line + f"  {r['where']}, was ready in {r['ready_s']} s{mine}{note}"
