"""What is done already, so that an interrupted run goes on where it stopped.

The output grows in a hidden folder beside its place, under names that no loader looks for; a line in its journal says
that a group's bytes were all handed to the system. They are then safe from whatever happens to the process, but not from
a machine that loses power: after a restart of the machine nothing is trusted, and the run begins anew.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

from gb10.errors import UserError

NAME = "journal.jsonl"
MARK = ".gb10-quantize"                # in a hidden folder that is ours, and in what it replaces
_HERE, _SWAP = -100, 2                # AT_FDCWD, RENAME_EXCHANGE


class Journal:
    """The hidden folder of a run for `out`, locked; `done` are the numbers of the groups that need no further work."""

    def __init__(self, out: Path, identity: dict):
        self.out, self.folder = out, hidden(out)
        self.identity = {**identity, "boot": _boot()}
        self._file: int | None = None
        self._lock: int | None = locked(self.folder)
        if self._lock is None:
            raise UserError(f"another run is writing {out}: wait for it, or name another folder.")
        self.zero: dict[int, list[str]] = {}         # group -> its weights that are all zero
        self.done = self._read()

    def _read(self) -> set[int]:
        try:
            lines = (self.folder / NAME).read_text(encoding="utf-8").split("\n")[:-1]       # whole lines only
            first, rest = json.loads(lines[0]), lines[1:]
        except (OSError, ValueError, IndexError):
            return set()
        if first != self.identity:
            return set()
        done = set()
        for line in rest:
            try:
                group, zero = json.loads(line)
            except (ValueError, TypeError):
                break
            done.add(group)
            self.zero |= {group: zero} if zero else {}
        return done

    def start(self, sizes: dict[str, int], headers: dict[str, bytes]) -> None:
        """Make the folder and its files, or take up those of the run before."""
        whole = all((self.folder / partial(name)).is_file() and (self.folder / partial(name)).stat().st_size == size
                    for name, size in sizes.items())
        if not (self.done and whole):
            self.done, self.zero = set(), {}
            empty(self.folder)
            for name, size in sizes.items():
                with open(self.folder / partial(name), "wb") as f:
                    f.write(headers[name])
                    f.truncate(size)
                    f.flush()
                    _allocate(f.fileno(), size)
            (self.folder / NAME).write_text(json.dumps(self.identity) + "\n", encoding="utf-8")
        self._file = os.open(self.folder / NAME, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        os.ftruncate(self._file, len(json.dumps(self.identity)) + 1)     # without a cut-off line, if there was one
        for group in sorted(self.done):
            self.note(group, self.zero.get(group, []))

    def note(self, group: int, zero: list[str] | None = None) -> None:
        """A group is done; zero: its weights that are all zero."""
        if zero:
            self.zero[group] = zero
        os.write(self._file, f"{json.dumps([group, zero or []])}\n".encode())

    def finish(self, sizes: dict[str, int]) -> None:
        """Give the files their names and put the folder in its place; what stood there goes last."""
        for name in sizes:
            if (self.folder / partial(name)).exists():
                (self.folder / partial(name)).rename(self.folder / name)
        os.close(self._file)
        self._file = None
        for name in (NAME, MARK):
            (self.folder / name).unlink()
        put_in_place(self.folder, self.out)

    def close(self, keep: bool = True) -> None:
        """Let go of the folder; keep=False removes it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._lock is not None:
            if not keep:
                shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def locked(folder: Path) -> int | None:
    """A descriptor of the hidden folder, made if need be, that holds a lock on it; None if another process has it.

    Raises UserError where something else stands there: nothing that this command didn't make is ever removed.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        except OSError as e:
            raise UserError(f"{folder} can't be made ({e.strerror}): it is where the checkpoint grows; name another folder "
                            f"for it.") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        try:
            if os.path.samestat(os.fstat(fd), os.stat(folder)):
                if not (folder / MARK).exists():
                    if any(folder.iterdir()):
                        os.close(fd)
                        raise UserError(f"{folder} is in the way, and nothing that this command made: move it, or name "
                                        f"another folder.")
                    (folder / MARK).touch()
                return fd
        except FileNotFoundError:
            pass
        os.close(fd)                             # its owner has just put it in its place: this is another folder now


def empty(folder: Path, keep: tuple[str, ...] = ()) -> None:
    """Remove everything in a hidden folder but the mark and what is named."""
    for entry in list(folder.iterdir()):
        if entry.name not in (MARK, *keep):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _allocate(fd: int, size: int) -> None:
    """Reserve the room on the disk at once, where the file system can: writing is faster then, and can't run out of it.

    By fallocate(2) itself: os.posix_fallocate writes zeros where the file system can't, which takes as long as the work.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    except (OSError, AttributeError):            # not Linux
        return
    if libc.fallocate(fd, 0, 0, size) and ctypes.get_errno() == errno.ENOSPC:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def hidden(out: Path) -> Path:
    """Where what will be `out` grows."""
    return out.with_name(f".{out.name}.partial")


def put_in_place(folder: Path, out: Path) -> None:
    """Rename a finished folder to `out`; an earlier checkpoint there changes places with it, and is then removed."""
    if not out.exists():
        folder.rename(out)
        return
    (out / MARK).touch()                         # whoever is killed before it is removed: the next run may do it
    if not _exchange(folder, out):
        away = out.with_name(f".{out.name}.replaced-{os.getpid()}")      # not at once, where the system can't
        out.rename(away)
        folder.rename(out)
        folder = away
    shutil.rmtree(folder)


def _exchange(a: Path, b: Path) -> bool:
    """Let two folders change places in one step (Linux, renameat2); False where that can't be done."""
    try:
        return ctypes.CDLL(None).renameat2(_HERE, os.fsencode(a), _HERE, os.fsencode(b), _SWAP) == 0
    except (OSError, AttributeError):
        return False


def partial(name: str) -> str:
    return f"{name}.partial"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:                              # not Linux: nobody says whether the machine was restarted
        return os.urandom(8).hex()
