"""Where a bundle is read from: a folder (a stick), or a machine on the network that shares one."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from gb10.errors import UserError, WorkFailed
from gb10.hub.manifest import LARGEST, MODELS, NAME, Entry, File, Manifest, read_manifest
from gb10.hub.receive import CHUNK, Incomplete

PATIENCE = 30           # seconds without a byte


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file, opened for reading; a link, a folder or a pipe is refused (WorkFailed)."""
    flags = os.O_RDONLY | sum(getattr(os, f, 0) for f in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    if path.is_symlink():
        raise WorkFailed(f"{path} is a link: a bundle holds the files themselves. Make it anew.")
    with os.fdopen(os.open(path, flags), "rb") as f:
        if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):
            raise WorkFailed(f"{path} is no file: a bundle holds files. Make it anew.")
        yield f


@contextlib.contextmanager
def chunks(path: Path, start: int) -> Iterator[tuple[int, Iterable[bytes]]]:
    """(start, the bytes of a file of this machine from there on)."""
    with open(path, "rb") as f:
        f.seek(start)
        yield start, iter(lambda: f.read(CHUNK), b"")


class Folder:
    """A bundle on a disk or a stick."""

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser().absolute()
        self.name = str(self.path)

    def manifest(self) -> Manifest:
        if not self.path.is_dir():
            raise UserError(f"there is no folder {self.path}: give a bundle's folder, or http://ADDRESS:PORT of a share.")
        if not os.path.lexists(self.path / NAME):
            raise UserError(f"{self.path} is no bundle, or one that was not finished (it has no {NAME}): './course models "
                            f"bundle' makes one, and goes on with an unfinished one.")
        with opened(self.path / NAME) as f:
            return read_manifest(_bounded(f.read(LARGEST + 1), self.name), self.name)

    def check(self, entry: Entry) -> None:
        """Are all files of a model there, with their sizes, none of them a link? Raises WorkFailed."""
        for part in (self.path / MODELS, (self.path / entry.path(entry.files[0])).parent):
            if part.is_symlink() or not part.is_dir():
                raise WorkFailed(f"{part} is missing or a link: the bundle is damaged. Copy it again.")
        for file in entry.files:
            self._there(entry, file)

    def _there(self, entry: Entry, file: File) -> Path:
        path = self.path / entry.path(file)
        try:
            with opened(path) as f:
                size = os.fstat(f.fileno()).st_size
        except OSError as e:
            raise WorkFailed(f"{path} is missing or can't be read ({e.strerror}): the bundle is damaged. Copy it again.") from None
        if size != file.size:
            raise WorkFailed(f"{path} has {size:,} bytes and not {file.size:,}: the bundle is damaged. Copy it again.")
        return path

    @contextlib.contextmanager
    def open(self, entry: Entry, file: File, start: int) -> Iterator[tuple[int, Iterable[bytes]]]:
        with opened(self._there(entry, file)) as f:
            f.seek(start)
            yield start, iter(lambda: f.read(CHUNK), b"")


class Lan:
    """A bundle that `./course models share` serves. Asked directly, never through a proxy; no redirect is followed."""

    def __init__(self, url: str):
        try:
            parts = urlsplit(url)
            self.host, self.port = parts.hostname, parts.port or 80
        except ValueError:
            parts, self.host = None, None
        if not parts or parts.scheme != "http" or not self.host or parts.username is not None or parts.query \
                or parts.path not in ("", "/"):
            raise UserError(f"{re.sub(r'//[^/@]*@', '//…@', url)!r} is no address of a share: it has the form "
                            f"http://ADDRESS:PORT, as './course models share' prints it.")
        self.name = f"http://{parts.netloc}"

    def manifest(self) -> Manifest:
        with self._get(f"/{NAME}") as answer:
            if answer.status != 200:
                raise UserError(f"{self.name} shares no bundle (HTTP {answer.status}).")
            raw = b""
            for chunk in self._bytes(answer):
                raw = _bounded(raw + chunk, self.name)
            return read_manifest(raw, self.name)

    def check(self, entry: Entry) -> None:
        """The sharing machine checked its files when it started."""

    @contextlib.contextmanager
    def open(self, entry: Entry, file: File, start: int) -> Iterator[tuple[int, Iterable[bytes]]]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._get("/" + quote(entry.path(file)), headers) as answer:
            if answer.status == 503:
                raise Incomplete("incomplete: busy")
            if answer.status not in (200, 206):
                raise WorkFailed(f"{self.name} doesn't hand out {file.name} of {entry.repo} (HTTP {answer.status}): is the "
                                 f"bundle there still whole?")
            begins = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", "")) if answer.status == 206 else None
            yield int(begins[1]) if begins else 0, self._bytes(answer)

    def _bytes(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while chunk := answer.read1(CHUNK):
                yield chunk
        except (OSError, http.client.HTTPException) as e:
            raise Incomplete(f"incomplete: {self.name} fell silent ({type(e).__name__})") from None

    @contextlib.contextmanager
    def _get(self, path: str, headers: dict | None = None) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            try:
                connection.request("GET", path, headers={"Accept-Encoding": "identity", **(headers or {})})
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as e:
                raise Unreachable(f"{self.name} doesn't answer ({getattr(e, 'strerror', None) or type(e).__name__})") from None
            yield answer
        finally:
            connection.close()


class Unreachable(ConnectionError):
    """Nobody answers at the address of a share."""


def source(where: str | Path) -> Folder | Lan:
    """The bundle behind a folder's name or http://ADDRESS:PORT. Raises UserError."""
    text = str(where)
    return Lan(text) if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text) else Folder(text)


def _bounded(raw: bytes, where: str) -> bytes:
    if len(raw) > LARGEST:
        raise UserError(f"the manifest of {where} is larger than {LARGEST / 1e6:.0f} MB: that is none of this course.")
    return raw
