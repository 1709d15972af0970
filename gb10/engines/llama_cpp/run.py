"""Runs a program that knows nothing of notebooks, and ends it when its notebook ends: `python -m gb10.engines.llama_cpp.run PROGRAM …`."""

import signal
import subprocess
import sys

from gb10.engines.owner import end_with_owner


def main() -> None:
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: child.terminate())
    end_with_owner()                     # sends SIGTERM to this process when the owner is gone
    while True:
        try:
            code = child.wait(0.5)       # a timeout, so that a signal's handler gets its turn
            break
        except subprocess.TimeoutExpired:
            continue
    if code < 0:                         # say how it ended: the starter tells a kill from an exit
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        signal.raise_signal(-code)
    sys.exit(code)


if __name__ == "__main__":
    main()
