"""./course logs: what the engine has written."""

from __future__ import annotations

import sys
import time
from collections import deque

HELP = "What the engine has written; also after it ended."
EXAMPLES = """\
  ./course logs              the last 40 lines
  ./course logs -f           and what follows, until Ctrl-C or until the engine ends
  ./course logs -n 200 --port 8003
"""


def add_arguments(parser) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="go on showing what is written")
    parser.add_argument("-n", "--lines", type=int, default=40, metavar="N", help="how many lines back (default: 40)")
    parser.add_argument("--port", type=int, metavar="P", help="whose log (default: the engine that is up, else the last)")


def run(args) -> int:
    from gb10.engines import containers, state
    from gb10.errors import UserError

    if args.lines < 0:
        raise UserError(f"-n {args.lines} is not a number of lines.")
    containers.adopt()
    running, _ = state.sweep()
    port = args.port or (running[0].port if running else None)
    if port is None:
        logs = [f for f in state.FOLDER.glob("*.log") if f.stem.isdigit()]
        port = int(max(logs, key=lambda f: f.stat().st_mtime).stem) if logs else 8000
    container = next((e.container for e in running if e.port == port and e.container), "")
    if container:
        return _of_container(container, args)
    log = state.log_file(port)
    if not log.exists():
        raise UserError(f"there is no log for port {port}: no engine has been started on it. ./course up starts one.")
    print(f"{log}", file=sys.stderr)
    with open(log, errors="replace") as f:
        for line in deque(f, maxlen=args.lines):
            print(line, end="")
        while args.follow:
            sys.stdout.flush()
            new = f.read()
            print(new, end="")
            if not new:
                if not any(e.port == port for e in state.sweep()[0]):
                    print("(the engine has ended)", file=sys.stderr)
                    break
                time.sleep(0.5)
    return 0


def _of_container(project: str, args) -> int:
    """A container's words are kept by Docker while it is there."""
    from gb10.engines.containers import docker

    found = docker.find(project)
    if found is None:
        print("(its container is gone)", file=sys.stderr)
        return 1
    print(f"docker logs {found.name}", file=sys.stderr)
    if not args.follow:
        print("\n".join(docker.log(found.id, args.lines)))
        return 0
    for line in docker.lines(["docker", "logs", "--follow", "--tail", str(args.lines), found.id], {}):
        print(line, flush=True)
    print("(the engine has ended)", file=sys.stderr)
    return 0
