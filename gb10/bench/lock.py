"""A lock on an open file, given back when the process ends, however it ends."""

from __future__ import annotations

import fcntl


def lock(fd: int) -> bool:
    """Take the lock on an open file; False when somebody else has it. File systems without locks let everybody."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
