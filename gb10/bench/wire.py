"""One connection of the load process: opened beforehand, never waited for, every read dated.

Three ways of reading, told by `stamps`:
    kernel   plain TCP on Linux: each read comes with the time at which the kernel took the segment in
    user     plain TCP elsewhere: the time at which the read returned
    tls      the same, behind ssl (what is decrypted has no stamp of its own)
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from time import monotonic_ns

from gb10.bench.clock import SCM_SPACE, SO_TIMESTAMPNS

READ_BYTES = 16_384
KERNEL_STAMPS = sys.platform == "linux"


class Wire:
    """A connection. `read` and `write` return None when they would have to wait, and raise OSError when it broke."""

    __slots__ = ("_clean", "_handshaking", "_recv", "_send", "addresses", "connect_ns", "fd", "open", "sock", "stamps", "used",
                 "wants_to_write")

    def __init__(self, family: int, address: tuple, stamps: str, tls=None):
        """tls: (ssl context, host name) or None. Starts connecting."""
        self._clean = (BlockingIOError, InterruptedError)
        self._handshaking = self.wants_to_write = False
        self.stamps, self.open, self.used = stamps, False, 0
        self.addresses: list = []    # this one, and those to try if it fails
        self.connect_ns = monotonic_ns()
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if stamps == "kernel":
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            sock.close()
            raise OSError(code, errno.errorcode.get(code, "?"))
        self.fd = sock.fileno()
        if tls:
            import ssl

            context, name = tls
            sock = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False, suppress_ragged_eofs=True)
            self._clean = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
            self._handshaking = True
        self.sock = sock
        self._recv = sock.recvmsg if stamps == "kernel" else sock.recv
        self._send = sock.send

    def progress(self) -> bool:
        """Connecting: has it come about? Raises OSError (ssl.SSLError is one) when it failed."""
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, errno.errorcode.get(code, "?"))
        if self._handshaking:
            try:
                self.sock.do_handshake()
            except self._clean as e:
                self.wants_to_write = type(e).__name__ == "SSLWantWriteError"
                return False
            self._handshaking = False
        self.open = True
        self.connect_ns = monotonic_ns() - self.connect_ns
        return True

    def read(self):
        """(bytes, ancillary data, read at in monotonic ns); b"" for the end; None if there is nothing."""
        try:
            if self.stamps == "kernel":
                data, ancillary, _, _ = self._recv(READ_BYTES, SCM_SPACE)
                return data, ancillary, monotonic_ns()
            data = self._recv(READ_BYTES)
        except self._clean:
            return None
        now = monotonic_ns()
        if self.stamps == "tls":
            data = self._decrypted(data)
        return data, None, now

    def _decrypted(self, data: bytes) -> bytes:
        """The rest of what ssl has read already: the socket won't announce it again."""
        parts = [data]
        while data and self.sock.pending():
            try:
                data = self._recv(READ_BYTES)
            except self._clean:
                break
            parts.append(data)
        return b"".join(parts)

    def write(self, data) -> int | None:
        try:
            return self._send(data)
        except self._clean:
            return None

    def close(self) -> None:
        self.sock.close()


def way(tls: bool, wanted: str = "auto") -> str:
    """Which of the three: "kernel" wherever it can be had."""
    if tls:
        return "tls"
    return "user" if wanted == "user" or not KERNEL_STAMPS else "kernel"


def reason(e: OSError) -> str:
    """What went wrong on a connection, in the system's words."""
    if e.errno is not None and e.errno > 0 and type(e).__module__ != "ssl":
        return os.strerror(e.errno)
    return " ".join(str(e).split())[:200]
