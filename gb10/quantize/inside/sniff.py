"""What a file is, by its first bytes and never by its name; whatever isn't a checkpoint is refused in one sentence.

Pickles (.bin, .pt, .pth, .ckpt of PyTorch) can run code when they are read: they are recognised, named and left shut.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gb10.errors import UserError

HEAD = 1024                      # bytes looked at
HEADER_LIMIT = 100_000_000       # longest header that the safetensors format allows, bytes
UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".aria2", ".tmp")

# first bytes -> what it is; a pickle is told apart below
_MAGIC = (
    (b"\x1f\x8b", "a gzip archive"), (b"BZh", "a bzip2 archive"), (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"), (b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (b"Rar!", "a RAR archive"),
    (b"\x89HDF", "an HDF5 file"), (b"\x93NUMPY", "a NumPy array"), (b"\x7fELF", "a program"), (b"%PDF", "a PDF"),
    (b"ggml", "a GGML file from before GGUF"), (b"lmgg", "a GGML file from before GGUF"),
    (b"tjgg", "a GGML file from before GGUF"), (b"ggjt", "a GGML file from before GGUF"), (b"\x89PNG", "a picture"),
)
# torch.save before 1.6, then the opcodes with which a pickle of protocol 0 or 1 starts
_PICKLE = re.compile(rb"\x80[\x02-\x05]|c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|\((?:dp|lp|i[\w.]+\n|c[\w.]+\n)|[}\]]q\x00")
_LFS = b"version https://git-lfs.github.com/spec"


def show(text: object, most: int = 120) -> str:
    """Text from a file or of a path, safe on a terminal: control and invisible characters escaped, cut to `most`."""
    text = str(text)
    if len(text) > 2 * most:
        text = text[:most] + text[-most:]
    out = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)
    return out if len(out) <= most else out[: most // 2 - 1] + "…" + out[-(most // 2):]


def refuse(path: Path, what: str) -> UserError:
    return UserError(f"{show(path, 300)} {what}")


def damaged(path: Path, why: str) -> UserError:
    return refuse(path, f"is damaged: {why}; fetch or export it again.")


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """(the file, its size in bytes); only a regular file is opened, and a FIFO is never waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | sum(getattr(os, f, 0) for f in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY")))
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
                raise refuse(path, f"is {what} and not a file: it isn't read.")
            with os.fdopen(fd, "rb", closefd=False) as file:
                yield file, status.st_size
        finally:
            os.close(fd)
    except OSError as e:                     # no right to, a loop of links, a disk that fails
        raise refuse(path, f"can't be read: {e.strerror or e}.") from None


def container(path: Path, head: bytes, size: int) -> str:
    """"safetensors" or "gguf"; anything else raises a UserError that says what it is."""
    if size == 0:
        raise refuse(path, "is empty: its download isn't finished.")
    if _looks_like_safetensors(head):        # before the pickles: a header of 640 bytes begins as a pickle does
        return "safetensors"
    if head[:4] == b"GGUF":
        return "gguf"
    raise refuse(path, _what_else(path, head, size))


def _looks_like_safetensors(head: bytes) -> bool:
    return len(head) >= 10 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= HEADER_LIMIT


def _what_else(path: Path, head: bytes, size: int) -> str:
    if head.startswith(_LFS):
        whole = re.search(rb"\nsize (\d{1,15})\n?", head)
        much = f" (of {int(whole[1]):,} bytes)" if whole else ""
        return f"is a git-lfs pointer, not the file itself{much}: fetch it with 'git lfs pull', or download it."
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        if b".pkl" in head or b"/version" in head or path.suffix in (".bin", ".pt", ".pth", ".ckpt"):
            return ("is a PyTorch pickle (in a zip), which can run code when read, and isn't read: convert it to "
                    "safetensors where you trust it.")
        return "is a zip archive: unpack it and give the folder."
    if _PICKLE.match(head):
        return ("is a pickle, which can run code when read, and isn't read: convert it to safetensors where you trust "
                "it.")
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return f"is {name}, not safetensors or GGUF."
    if path.name.endswith(UNFINISHED):
        return "is an unfinished download: fetch it again."
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] == b"<" and re.match(rb"<(!doctype|html|head|body|\?xml)", text, re.IGNORECASE):
        return "is a web page saved under a checkpoint's name (an error, or a log-in page): download the file again."
    if not head.strip(b"\0"):
        return "begins with zeros: its download isn't finished."
    if size <= 65536 and _is_text(head):
        return f"is a text that begins {show(head[:60].decode('utf-8', 'replace'), 60)!r}: download the file again."
    if len(head) < 10:
        return "is damaged: it ends before its header does; fetch or export it again."
    if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"):
        return "isn't safetensors or GGUF; such names usually hold pickles, and those aren't read."
    length = struct.unpack("<Q", head[:8])[0]
    if path.suffix == ".safetensors" and length > HEADER_LIMIT:
        return (f"is damaged or not a safetensors file: its header would be {length:,} bytes long; fetch or export it "
                f"again.")
    return "is damaged or not a safetensors or GGUF file: fetch or export it again."


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as e:
        if e.start < len(head) - 3:          # not just a character cut in two
            return False
        text = head[: e.start].decode("utf-8")
    return all(c.isprintable() or c in "\t\r\n" for c in text)
