"""Sub-commands that show what ./course handed over."""

import json
import os
import sys
import time


def commands():
    return {"lab": (), "test": (), "show": (), "fail": (), "sleep": ()}


def main(argv):
    name = argv[0] if argv else "--help"
    if name == "--help" or argv[1:2] == ["--help"]:
        print("Usage: ./course SUB-COMMAND")
        return 0
    if name not in commands():
        print(f"there is no sub-command '{name}'", file=sys.stderr)
        return 2
    if name == "fail":
        return int(argv[1])
    import tinydep

    if name == "sleep":
        print("up", flush=True)
        time.sleep(60)
    print(json.dumps({"argv": argv, "pid": os.getpid(), "cwd": os.getcwd(), "gb10": __file__,
                      "python": sys.executable, "tinydep": tinydep.VERSION}))
    return 0
