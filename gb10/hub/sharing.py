"""Serve a bundle to other machines, read-only: the manifest and the files that it names, and nothing else.

HTTP without encryption and without a password, meant for one room: whoever reaches the port can read the files.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from gb10.errors import CourseError, UserError
from gb10.hub.manifest import NAME
from gb10.hub.sources import Folder, opened

PORT = 8090
AT_ONCE = 64            # transfers under way; more are asked to come again


class Share:
    """A bundle at `bind`:`port` (0: any free one). `serve()` blocks until `close()`; both may run in threads."""

    def __init__(self, bundle: str | Path, bind: str = "127.0.0.1", port: int = PORT):
        folder = Folder(bundle)
        self.manifest = folder.manifest()
        self.files = {f"/{NAME}": (folder.path / NAME, None, None)}
        for entry in self.manifest.models:
            folder.check(entry)
            for file in entry.files:
                self.files["/" + entry.path(file)] = folder.path / entry.path(file), file.size, file.sha256
        self.bind, self.slots = bind, threading.BoundedSemaphore(AT_ONCE)
        self.server = _server(bind, port, self)
        self.port = self.server.server_address[1]

    @property
    def urls(self) -> list[str]:
        """Where other machines find it: one for each address that it listens on."""
        return [f"http://{f'[{a}]' if ':' in a else a}:{self.port}" for a in addresses(self.bind)]

    def serve(self) -> None:
        self.server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def share(bundle: str | Path, bind: str = "127.0.0.1", port: int = PORT) -> Share:
    """Check a bundle and listen; raises UserError or WorkFailed. The caller runs `.serve()`."""
    return Share(bundle, bind, port)


def loopback(bind: str) -> bool:
    return bind in ("localhost", "::1") or bind.startswith("127.")


def addresses(bind: str) -> list[str]:
    """The addresses behind one to listen on: itself, or all of this machine where it stands for all."""
    if bind not in ("0.0.0.0", "::"):
        return [bind]
    return own_addresses() or ["127.0.0.1"]


def own_addresses() -> list[str]:
    """This machine's IPv4 addresses that others may reach, those of containers left out."""
    import psutil

    return [a.address for name, rows in sorted(psutil.net_if_addrs().items()) for a in rows
            if a.family == socket.AF_INET and not a.address.startswith("127.") and not re.match(r"docker|br-|veth", name)]


def _server(bind: str, port: int, share: Share) -> ThreadingHTTPServer:
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = os.name == "posix"
        request_queue_size = 128
        address_family = socket.AF_INET6 if ":" in bind else socket.AF_INET

        def server_bind(self):       # HTTPServer would ask the DNS for its own name
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1) if self.allow_reuse_address else None
            self.socket.bind(self.server_address)
            self.server_address = self.socket.getsockname()
            self.server_name, self.server_port = bind, self.server_address[1]

        def handle_error(self, request, client_address):
            """Learners close their laptops in the middle of a file: no traceback for that."""

    try:
        return Server((bind, port), type("Handler", (_Handler,), {"share": share}))
    except OverflowError:
        raise UserError(f"port {port} can't be used: take one from 1024 to 65535.") from None
    except OSError as e:
        if e.errno in (98, 48, 10048):
            raise UserError(f"port {port} at {bind} is taken: take another with --port.") from None
        if e.errno == 13:
            raise UserError(f"port {port} needs administrator's rights: take one from 1024 to 65535 with --port.") from None
        here = ", ".join(own_addresses())
        raise UserError(f"{bind} is no address of this machine{f' (it has {here})' if here else ''}.") from None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "gb10-share", ""
    timeout = 60                 # seconds without a byte, then the connection is closed
    share: Share

    def do_GET(self):
        self._answer(body=True)

    def do_HEAD(self):
        self._answer(body=False)

    def _refuse(self):
        self.close_connection = True
        self._head(405, {"Allow": "GET, HEAD", "Content-Length": "0"})

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _answer(self, *, body: bool) -> None:
        # A path is looked up whole, never joined to a folder: what the manifest doesn't name isn't there.
        found = self.share.files.get(unquote(self.path.partition("?")[0]))
        if not found:
            return self._head(404, {"Content-Length": "0"})
        if not self.share.slots.acquire(blocking=False):
            return self._head(503, {"Retry-After": "5", "Content-Length": "0"})
        try:
            return self._file(*found, body=body)
        except (OSError, CourseError):
            self.close_connection = True     # the learner went away, or the file did
        except Exception:
            self.close_connection = True
            raise
        finally:
            self.share.slots.release()

    def _file(self, path: Path, size: int | None, sha256: str | None, *, body: bool) -> None:
        with opened(path) as f:
            whole = os.fstat(f.fileno()).st_size
            if size not in (None, whole):            # changed since the share began
                return self._head(404, {"Content-Length": "0"})
            asked = byte_range(self.headers.get("Range"), whole)
            headers = {"Accept-Ranges": "bytes", "Content-Type": "application/json" if size is None else "application/octet-stream"}
            headers |= {"ETag": f'"{sha256}"'} if sha256 else {}
            if asked == ():
                return self._head(416, headers | {"Content-Range": f"bytes */{whole}", "Content-Length": "0"})
            first, last = asked or (0, whole - 1)
            if asked:
                headers["Content-Range"] = f"bytes {first}-{last}/{whole}"
            self._head(206 if asked else 200, headers | {"Content-Length": str(last - first + 1)})
            if body and last >= first:
                self.connection.sendfile(f, first, last - first + 1)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


def byte_range(header: str | None, size: int) -> tuple[int, int] | tuple[()] | None:
    """(first, last) of a Range header with one range; () where it can't be met; None where all is meant (RFC 9110, 14.2)."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", (header or "").strip())
    if not match or not any(match.groups()):
        return None
    if not match[1]:
        return (max(size - int(match[2]), 0), size - 1) if int(match[2]) and size else ()
    first, last = int(match[1]), min(int(match[2]) if match[2] else size - 1, size - 1)
    if match[2] and int(match[2]) < first:
        return None
    return (first, last) if first < size else ()
