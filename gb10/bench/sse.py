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

    __slots__ = ("_data", "_held", "_line", "_size", "_skip_lf")

    def __init__(self):
        self._line = []          # an unfinished line, in pieces
        self._held = 0           # bytes of the unfinished event
        self._data = []          # `data` lines of the unfinished event
        self._size = 0           # their bytes
        self._skip_lf = False    # the last line ended in CR: an LF that follows belongs to it

    @property
    def clean(self) -> bool:
        """Nothing of an unfinished event is kept."""
        return not (self._line or self._data or self._skip_lf)

    def feed(self, body: bytes) -> list[bytes]:
        if self._skip_lf and body:
            body = body.removeprefix(b"\n")
            self._skip_lf = False
        self._held += len(body)
        if self._held > EVENT_LIMIT:
            raise EventTooLarge(f"an event of more than {EVENT_LIMIT >> 20} MiB")
        if b"\r" in body:
            self._skip_lf = body.endswith(b"\r")
            body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in body:
            self._line.append(body)
            return []
        *lines, rest = (b"".join(self._line) + body).split(b"\n")
        self._line = [rest] if rest else []
        out = []
        for line in lines:
            if not line:
                if self._data:
                    out.append(b"\n".join(self._data))
                    self._data, self._size = [], 0
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._size += len(line)
        self._held = len(rest) + self._size
        return out

    def rest(self) -> bytes:
        """The unfinished event at the end of the body: servers are known to leave out the last blank line."""
        lines, line = list(self._data), b"".join(self._line)
        if line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" "))
        return b"\n".join(lines)
