"""llama.cpp's source: fetched, checked against its hash, unpacked. Each step is whole or is done again."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath

from gb10.errors import WorkFailed
from gb10.progress import Progress

VERSION = "0.3.36"                       # of llama-cpp-python, which carries the whole tree of llama.cpp
URL = ("https://files.pythonhosted.org/packages/ec/e9/e7de2b0463ea3ffbf0ede6cb21b58c1258a8f6521aae45ca773a59fe7cf3/"
       f"llama_cpp_python-{VERSION}.tar.gz")
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"        # as the package index states it
SIZE = 76_589_250
INSIDE = f"llama_cpp_python-{VERSION}/vendor/llama.cpp"
UNPACKED = 400_000_000                   # bytes; more than twice what it is: a bomb stops there


def fetch(folder: Path, quiet: bool = False) -> Path:
    """The archive, in `folder`. An interrupted download is gone on with. Raises WorkFailed, in a sentence."""
    archive = folder / URL.rpartition("/")[2]
    if archive.exists() and digest(archive) == SHA256:
        return archive
    partial = archive.with_name(archive.name + ".part")
    progress = Progress("llama.cpp", quiet=quiet)
    have = partial.stat().st_size if partial.exists() else 0
    if have >= SIZE:
        have = 0
    try:
        request = urllib.request.Request(URL, headers={"Range": f"bytes={have}-"} if have else {})
        with urllib.request.urlopen(request, timeout=60) as answer:
            more = have and answer.status == 206
            with open(partial, "ab" if more else "wb") as out:
                while data := answer.read(1 << 18):
                    out.write(data)
                    progress.update(f"fetching the source, {out.tell() / 1e6:.0f} of {SIZE / 1e6:.0f} MB")
    except (OSError, urllib.error.URLError) as e:
        raise WorkFailed(f"llama.cpp's source can't be fetched from {URL.split('/')[2]} ({getattr(e, 'reason', None) or e}): check the "
                         f"network and run this again; what has arrived is kept.") from None
    finally:
        progress.clear()
    size = partial.stat().st_size
    if size < SIZE:
        raise WorkFailed(f"the connection ended after {size / 1e6:.0f} of {SIZE / 1e6:.0f} MB of llama.cpp's source: run this again, it "
                         f"goes on from there.")
    if digest(partial) != SHA256:
        partial.unlink()
        raise WorkFailed("what came as llama.cpp's source is not the file that the course knows (its SHA-256 differs); it was deleted. "
                         "Run this again, and if it happens twice, ask who changes downloads on your network.")
    os.replace(partial, archive)
    return archive


def digest(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def unpack(archive: Path, target: Path) -> Path:
    """The archive's llama.cpp tree as folder `target`, whole or not at all. Raises WorkFailed for a member that is no plain file
    or folder, or that would land elsewhere."""
    if target.is_dir():
        return target
    partial = target.with_name(target.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            left = UNPACKED
            for member in tar:
                left -= member.size
                if left < 0:
                    raise WorkFailed(f"{archive.name} holds more than {UNPACKED / 1e6:.0f} MB: that is not llama.cpp's source.")
                where = PurePosixPath(member.name)
                if where.is_absolute() or ".." in where.parts or not (member.isreg() or member.isdir()):
                    raise WorkFailed(f"{archive.name} holds {member.name!r}, which is no plain file inside its folder: it was not unpacked.")
                if not where.is_relative_to(INSIDE):
                    continue
                path = partial / where.relative_to(INSIDE)
                if member.isdir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, "wb") as out:
                    shutil.copyfileobj(tar.extractfile(member), out)
                os.utime(path, (member.mtime, member.mtime))       # else an interrupted build would start from nothing
        if not (partial / "CMakeLists.txt").exists():
            raise WorkFailed(f"{archive.name} has no {INSIDE}: it was not unpacked.")
        os.replace(partial, target)
    except (tarfile.TarError, EOFError, OSError) as e:
        raise WorkFailed(f"{archive.name} can't be unpacked ({e}).") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
