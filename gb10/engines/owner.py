"""An engine that was started by a notebook ends with it, however that ends.

The notebook's process holds the other end of a pipe; when it goes, even killed, reading from the pipe returns.
Standard library only: vLLM's plugin carries a copy of this function (its environment does not have gb10).
"""

import os
import signal
import threading


def end_with_owner() -> None:
    fd = os.environ.pop("GB10_OWNER_FD", "")
    if not fd.isdigit():
        return

    def watch():
        try:
            os.read(int(fd), 1)
        except OSError:
            return
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="gb10-owner", daemon=True).start()
