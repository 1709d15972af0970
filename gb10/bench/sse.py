"""Server-sent events: from body bytes to the payloads of `data:` (WHATWG HTML, section 9.2.6).

Only what an OpenAI-compatible stream uses: `data` fields, several joined by a newline, dispatched by a blank line; lines
end in LF, CRLF or CR; comments and other fields are skipped.
"""

from __future__ import annotations

EVENT_LIMIT = 4 << 20            # bytes of one event


class EventTooLarge(Exception):
    """An event that does not end."""


class Events:
    """`feed(body)` returns the payloads that are complete with these bytes; `rest()` what is left at the end."""

    __slots__ = ("_data", "_line", "_skip_lf")

    def __init__(self):
        self._line = b""         # an unfinished line
        self._data = []          # `data` lines of the unfinished event
        self._skip_lf = False    # the last line ended in CR: an LF that follows belongs to it

    def feed(self, body: bytes) -> list[bytes]:
        if not (self._line or self._data or self._skip_lf) and body.startswith(b"data: ") and body.find(b"\n") == len(body) - 2 \
                and body.endswith(b"\n\n") and b"\r" not in body:
            return [body[6:-2]]                               # nearly every read of a token stream is one whole event
        return self._lines(body)

    def _lines(self, body: bytes) -> list[bytes]:
        if self._skip_lf and body:
            body = body.removeprefix(b"\n")
            self._skip_lf = False
        text = self._line + body
        if b"\r" in text:
            self._skip_lf = text.endswith(b"\r")
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._line = text.split(b"\n")
        if len(self._line) + sum(map(len, self._data)) > EVENT_LIMIT:
            raise EventTooLarge(f"an event of more than {EVENT_LIMIT >> 20} MiB")
        out = []
        for line in lines:
            if not line:
                if self._data:
                    out.append(b"\n".join(self._data))
                    self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        return out

    def rest(self) -> bytes:
        """The unfinished event at the end of the body: servers are known to leave out the last blank line."""
        lines = list(self._data)
        if self._line.startswith(b"data:"):
            lines.append(self._line[5:].removeprefix(b" "))
        return b"\n".join(lines)
