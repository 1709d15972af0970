"""HTTP/1.1 as far as a benchmark needs it: a request in bytes, and a response decoded as it arrives.

`Response.feed(data)` takes what one read returned and gives back the body bytes in it. Chunked, Content-Length and
until-the-end bodies; no compression (we never ask for it), no trailers kept. Nothing is waited for here.
"""

from __future__ import annotations

HEAD_LIMIT = 65_536              # bytes of status line and headers
CHUNK_LINE_LIMIT = 4_096         # bytes of a chunk's size line


class NotHttp(Exception):
    """What came can't be read as an HTTP/1.1 response; the message says why."""


class Response:
    """One response. `status` and `headers` (names in lower case) once `head_done`; `done` when the body is complete."""

    __slots__ = ("_body", "_buffer", "_left", "done", "head_done", "headers", "status")

    def __init__(self):
        self.status = 0
        self.headers: dict[str, str] = {}
        self.head_done = self.done = False
        self._buffer = b""       # undecoded bytes
        self._left = 0           # of the chunk or of the Content-Length
        self._body = ""          # "chunked", "length", "close"

    @property
    def keep_alive(self) -> bool:
        """May the connection be used again after this response?"""
        return self.done and self._body != "close" and "close" not in self.headers.get("connection", "").lower()

    @property
    def between_chunks(self) -> bool:
        """Is the body chunked, and has it been whole chunks so far?"""
        return self._body == "chunked" and not self._left and not self._buffer and not self.done

    def feed(self, data: bytes) -> bytes:
        """Body bytes in what one read returned. Raises NotHttp."""
        if not self.head_done:
            data = self._head(data)
            if not self.head_done:
                return b""
        if self.done:
            return b""
        if self._body == "close":
            return data
        if self._body == "length":
            data = data[:self._left]
            self._left -= len(data)
            self.done = not self._left
            return data
        return self._chunks(data)

    def end(self) -> bool:
        """The peer closed. True if the body is complete with that, False if something is missing."""
        if self._body == "close":
            self.done = True
        return self.done

    def _head(self, data: bytes) -> bytes:
        self._buffer += data
        while True:
            head, sep, rest = self._buffer.partition(b"\r\n\r\n")
            if not sep:
                if len(self._buffer) > HEAD_LIMIT:
                    raise NotHttp("the head of the response does not end")
                if not b"HTTP/1.".startswith(self._buffer[:7]):
                    raise NotHttp(f"the answer does not begin like HTTP: {self._buffer[:40]!r}")
                return b""
            self._parse_head(head)
            self._buffer = rest
            if self.status >= 200:            # 1xx are followed by the real one
                break
        self.head_done = True
        data, self._buffer = self._buffer, b""
        coding = self.headers.get("transfer-encoding", "").lower()
        if self.status in (204, 304):
            self._body, self.done = "length", True
        elif "chunked" in coding:
            self._body = "chunked"
        elif "content-length" in self.headers:
            self._body, self._left = "length", self._natural(self.headers["content-length"])
            self.done = not self._left
        else:
            self._body = "close"
        return data

    def _parse_head(self, head: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/1.") or not (rest[:3].isdigit() and rest[:3].isascii()):
            raise NotHttp(f"the answer does not begin like HTTP: {lines[0][:40]!r}")
        self.status, self.headers = int(rest[:3]), {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()

    @staticmethod
    def _natural(text: str) -> int:
        if not (text.isdigit() and text.isascii() and len(text) < 20):
            raise NotHttp(f"Content-Length is {text[:40]!r}")
        return int(text)

    def _chunks(self, data: bytes) -> bytes:
        """Decode as many chunks as are there. `_left` counts a chunk's bytes with the CRLF behind them."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        at, out = 0, []
        while at < len(data):
            if self._left:
                take = min(self._left, len(data) - at)
                text = min(take, max(0, self._left - 2))      # without the CRLF
                out.append(data[at:at + text])
                self._left -= take
                at += take
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                if len(data) - at > CHUNK_LINE_LIMIT:
                    raise NotHttp("the size line of a chunk does not end")
                self._buffer = data[at:]
                break
            line = data[at:end].partition(b";")[0].strip()
            try:
                if not line or line[:1] in b"+-" or b"_" in line:
                    raise ValueError
                size = int(line, 16)
            except ValueError:
                raise NotHttp(f"a chunk begins with {data[at:at + 20]!r} instead of its size") from None
            if size:
                at, self._left = end + 2, size + 2
            elif data.startswith(b"\r\n", end + 2):
                self.done = True
                break
            else:
                done = data.find(b"\r\n\r\n", end)            # trailers
                self.done = done >= 0
                if not self.done:
                    if len(data) - at > HEAD_LIMIT:
                        raise NotHttp("the trailers of the response do not end")
                    self._buffer = data[at:]
                break
        return b"".join(out)


def request(method: str, host: str, path: str, headers: dict[str, str], body_length: int = 0) -> bytes:
    """The head of a request, ready for its body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{k}: {v}" for k, v in headers.items())]
    if method == "POST":
        lines.append(f"Content-Length: {body_length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
