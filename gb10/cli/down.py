"""./course down: stop what the course started."""

from __future__ import annotations

import json
import sys

HELP = "Stop the engines that the course started, containers of its compose files too (and nothing else), and free their ports."
EXAMPLES = """\
  ./course down                 all of them
  ./course down --port 8003     that one
"""


def add_arguments(parser) -> None:
    parser.add_argument("--port", type=int, metavar="P", help="only the engine on this port")
    parser.add_argument("--json", action="store_true", help="print one line of JSON: the engines stopped")


def run(args) -> int:
    from gb10.engines import containers, launch, process, state
    from gb10.errors import UserError, WorkFailed

    containers.adopt()
    own, said = state.sweep()
    for sentence in said:
        print(sentence, file=sys.stderr)
    chosen = [e for e in own if args.port in (None, e.port)]
    if args.port is not None and not chosen and not process.port_free(args.port):
        raise UserError(f"port {args.port} is held by {process.holder(args.port) or 'a program of another user'}, which the "
                        f"course did not start: left alone.")
    stuck = []
    for e in chosen:
        if not launch.stop(e):
            stuck.append(e)
        elif not args.json:
            print(f"{e.engine} with {e.model} is stopped; port {e.port} is free.")
    if args.json:
        print(json.dumps({"stopped": [e.contract() for e in chosen if e not in stuck]}))
    elif not chosen:
        print("Nothing to stop" + (f" on port {args.port}." if args.port else ": no engine of the course's is up."))
    if stuck:
        raise WorkFailed(f"{stuck[0].engine} ({stuck[0].where}) could not be ended, or port {stuck[0].port} is still held "
                         f"by {process.holder(stuck[0].port) or 'someone'}.")
    return 0
