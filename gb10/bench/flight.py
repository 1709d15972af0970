"""One request on its way, and the line that is written about it.

Times in the line are whole microseconds: `send` from the start of the cell, all others from `send`.
"""

from __future__ import annotations

from itertools import pairwise

from gb10.bench.answer import Answer
from gb10.bench.buckets import bucket
from gb10.bench.clock import stamp_ns
from gb10.bench.http1 import Response

PORTION = 32                     # reads that are taken apart in one go, at least
LAG_BITS = 4                     # lags are kept in buckets of 6 % width


class Flight:
    """A request between its first byte and its end. Times are monotonic ns."""

    __slots__ = ("answer", "body", "closed", "connect", "conversation", "epoch", "heard", "index", "landed", "portion", "reads",
                 "response", "retried", "scheduled", "send", "sent", "slot", "turn", "wire")

    def __init__(self, index: int, slot: int, scheduled: int, keep_text: bool):
        self.index, self.slot, self.scheduled = index, slot, scheduled
        self.turn, self.conversation = 0, None
        self.answer, self.response = Answer(keep_text), Response()
        self.reads: list = []        # (data, ancillary data, read at), not yet taken apart
        self.portion = PORTION + (slot * 7) % PORTION    # so many are taken apart at once; not all streams at the same time
        self.landed = self.closed = 0    # when the response was complete, when the peer closed
        self.wire = None
        self.connect = 0             # what opening its connection took, where it is the first on it
        self.body = b""              # the whole request
        self.sent = 0                # bytes of it that are out
        self.send = 0                # just before its first byte was written
        self.heard = 0               # when anything came last
        self.epoch = 0               # of the clock offset at the start
        self.retried = False

    def again(self) -> None:
        """Start over on another connection: nothing had come on the old one."""
        self.answer, self.response = Answer(self.answer.asks_text), Response()
        self.sent, self.retried, self.reads, self.closed = 0, True, [], 0

    def take_in(self, offset_ns: int) -> None:
        """Take apart what has been read. Raises NotHttp and EventTooLarge; what came before those counts.

        offset_ns: CLOCK_REALTIME - CLOCK_MONOTONIC, for the kernel's stamps.
        """
        reads, self.reads = self.reads, []
        if not reads:
            return
        self.heard = reads[-1][2]
        at, answer = 0, self.answer
        while at < len(reads):
            data, stamp, now = reads[at]
            # a read without a stamp happens while the kernel has only just been asked for them
            t = stamp_ns(stamp[0][2]) - offset_ns if stamp else now
            if not data:
                self.closed = t
                return
            self._hear(data, t, now)
            at += 1
            if self.response.between_chunks and answer.between_events:
                at = answer.take_alike(reads, at, offset_ns)

    def _hear(self, data: bytes, t: int, now: int) -> None:
        response, answer = self.response, self.answer
        body = response.feed(data)
        if body:
            if not answer.first and answer.plain is None and not streams(response):
                answer.plain = bytearray()
            answer.read(body, t, now)
        if response.done:
            self.landed = t
            answer.close(t, now)

    def verdict(self, asked: int | None) -> tuple[str, str]:
        """(error class, detail) of a response that is over; ("", "") when it counts."""
        answer, response = self.answer, self.response
        if response.status and response.status != 200:
            return f"http_{response.status}", answer.error or answer.garbage
        if answer.error:
            return "in_band", answer.error
        if answer.garbage:
            return "protocol", answer.garbage
        if not answer.done and answer.finish is None:
            return "truncated", "the stream ended without a finish_reason"
        if not answer.times:
            return "empty", "no token came"
        n = tokens(answer)
        if asked and answer.finish != "length" and n < asked:
            return "short", f"{n} of {asked} tokens, finish_reason {answer.finish}"
        return "", ""

    def line(self, zero: int, cell: int, error: str, detail: str, end: int, stamps: str) -> dict:
        """What the journal keeps. zero: start of the cell; end: when the response was over (monotonic ns).

        stamps: "kernel", "user", "tls", or "stepped" when the wall clock was set meanwhile and reading times must do.
        """
        answer, send = self.answer, self.send
        stepped = stamps == "stepped"
        times = answer.nows if stepped else answer.times
        row = {"k": "req", "cell": cell, "i": self.index, "slot": self.slot, "send": (send - zero) // 1000 if send else None}
        if self.scheduled:
            row["sched"] = (self.scheduled - zero) // 1000
        if self.conversation is not None:
            row["turn"] = self.turn
        if self.connect:
            row["connect"] = us(self.connect)
        row["end"] = us(end - (send or zero))
        if error:
            row["err"] = error
            if detail:
                row["why"] = detail
        if self.response.status and (self.response.status != 200 or error):
            row["status"] = self.response.status
        if answer.first and send and not stepped:
            row["ttfr"] = us(answer.first - send)
            if answer.first_answer and answer.first_answer != times[0]:
                row["ttfa"] = us(answer.first_answer - send)
        if times and send:
            row |= _timing(answer, times, send)
        for name, value in (("isl", answer.prompt), ("cached", answer.cached), ("finish", answer.finish)):
            if value is not None:
                row[name] = value
        if stamps != "kernel":
            row["stamps"] = stamps
        return row


def streams(response: Response) -> bool:
    """Is the body meant as an event stream? Only what says that it is JSON, or reports an HTTP error, is taken for no stream."""
    return response.status == 200 and "json" not in response.headers.get("content-type", "").lower()


def tokens(answer: Answer) -> int:
    """N: the server's count, else the events with text."""
    return answer.n if answer.n is not None and answer.n >= 1 else len(answer.times)


def us(ns: int) -> int:
    return (ns + 500) // 1000


def _timing(answer: Answer, times, send: int) -> dict:
    """Everything that follows from the arrivals of the content events."""
    first, last = times[0], times[-1]
    arrivals = [us(t - send) for t in dict.fromkeys(times)]       # reads that brought content
    row = {"ttft": us(first - send), "e2e": us(last - send), "n": tokens(answer),
           "n_src": answer.n_source if answer.n else "events", "events": len(times), "reads": len(arrivals)}
    if answer.n_first and answer.n_first <= row["n"]:
        row["n_first"] = answer.n_first
    row["gaps"] = [b - a for a, b in pairwise(arrivals)]
    lags: dict[int, int] = {}
    for t, now in zip(answer.times, answer.nows, strict=True):
        b = bucket((now - t) // 1000 if now > t else 0, LAG_BITS)
        lags[b] = lags.get(b, 0) + 1
    row["lag"] = lags
    return row
