"""What a stream of events says, and when: tokens, reasoning, usage, the end, an error in the middle.

    answer = Answer()
    answer.read(body, t, now)       for each read: its body bytes, when they arrived, when they were read (monotonic ns)
    answer.close()                  at the end of the body

`times` has one entry per content event: an event with non-empty content, reasoning_content, reasoning, tool_calls or
text. Events of one read share its time, because nothing finer is known about them.

Most events of a stream are alike but for their text. Once one has been parsed as JSON, another with the same bytes before
and after a text without quotes and backslashes must say the same, so it isn't parsed again.
"""

from __future__ import annotations

import json
import re
from array import array

from gb10.bench.clock import STAMP
from gb10.bench.sse import Events

TEXTS = ("content", "reasoning_content", "reasoning")     # of a delta; "text" of a choice is the completions API's
REASONING = ("reasoning_content", "reasoning")
PLAIN_LIMIT = 65_536             # bytes kept of a body that is no event stream
# a usage at the very end of an event, and of its chunk: whole numbers, null, and objects of those
_NUMBER = rb"(?:0|[1-9]\d{0,11})"
_PLAIN_PAIR = rb'"[a-z_]+": ?(?:' + _NUMBER + rb"|null)"
_PAIR = rb"(?:" + _PLAIN_PAIR + rb'|"[a-z_]+": ?\{(?:' + _PLAIN_PAIR + rb"(?:, ?" + _PLAIN_PAIR + rb")*)?\})"
_COUNTED = re.compile(rb'"usage": ?\{(?:' + _PAIR + rb', ?)*?"completion_tokens": ?(' + _NUMBER + rb")(?:, ?" + _PAIR + rb")*\}\}"
                      rb"\n\n\r\n")
_PLAIN_TEXT = re.compile(rb'[^"\\\x00-\x1f]+')
_NOT_PLAIN = re.compile(rb'["\\\x00-\x1f]')      # what may not stand as it is in a text, or could mean something else


class Answer:
    """The events of one response. All times are monotonic ns, 0 where there was none."""

    __slots__ = ("_before", "_behind", "_events", "_reasoning_only", "_with_usage", "asks_text", "cached", "done",
                 "error", "events", "finish", "first", "first_answer", "garbage", "n", "n_first", "n_source", "nows",
                 "plain", "prompt", "text", "times")

    def __init__(self, keep_text: bool = False):
        self._events = Events()
        self._before = self._behind = b""         # the template: bytes before and behind the text
        self._reasoning_only = self._with_usage = False
        self.asks_text = keep_text
        self.text: list[str | bytes] = []         # pieces of the answer without its reasoning, where asked for
        self.first = 0                            # first `data:` event of any kind
        self.first_answer = 0                     # first text that is not reasoning
        self.times = array("q")                   # arrival of each content event
        self.nows = array("q")                    # when it was read
        self.events = 0                           # `data:` events of any kind
        self.n = None                             # completion tokens as the server counts them
        self.n_source = ""                        # "usage" or "timings"
        self.n_first = None                       # tokens in the first content event, where the server counts along
        self.prompt = self.cached = None          # prompt tokens, and how many of them came out of the prefix cache
        self.finish = None                        # finish_reason
        self.done = False                         # [DONE] was seen
        self.error = ""                           # an error inside the stream, in the server's words
        self.garbage = ""                         # what was no event of this kind
        self.plain = None                         # the body, where it is no event stream

    def read(self, body: bytes, t: int, now: int) -> None:
        if self.plain is not None:
            if len(self.plain) < PLAIN_LIMIT:
                self.plain += body
            return
        for payload in self._events.feed(body):
            self._event(payload, t, now)

    def close(self, t: int, now: int) -> None:
        """The body has ended. A last event without its blank line counts, if it is whole."""
        if self.plain is not None:
            self._plain()
        elif rest := self._events.rest():
            if rest.strip() == b"[DONE]":
                self.done = True
            elif isinstance(_json(rest), dict):
                self._event(rest, t, now)

    # ------------------------------------------------------------ one event

    def _event(self, payload: bytes, t: int, now: int) -> None:
        self.events += 1
        if not self.first:
            self.first = t
        if payload.strip() == b"[DONE]":
            self.done = True
            return
        data = _json(payload)
        if not isinstance(data, dict):
            self.garbage = self.garbage or payload[:80].decode("utf-8", "replace") or "an empty event"
            return
        if data.get("error") or data.get("object") == "error":
            self.error = self.error or _message(data)
            return
        kind = self._choice(data.get("choices"), t, now)
        counted = self._usage(data)
        if kind == "content" and counted is not None and len(self.times) == 1:
            self.n_first = counted
        if kind:
            self._learn(payload, data, counted is not None)

    def _choice(self, choices, t: int, now: int) -> str:
        """Take in the first choice; "content" if it holds any, else ""."""
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return ""
        if isinstance(choice.get("finish_reason"), str):
            self.finish = choice["finish_reason"]
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        said = {k: delta[k] for k in TEXTS if isinstance(delta.get(k), str) and delta[k]}
        if isinstance(choice.get("text"), str) and choice["text"]:
            said["text"] = choice["text"]
        tools = bool(delta.get("tool_calls")) and isinstance(delta["tool_calls"], list)
        if not said and not tools:
            return ""
        self.times.append(t)
        self.nows.append(now)
        answers = [v for k, v in said.items() if k not in REASONING]
        if (answers or tools) and not self.first_answer:
            self.first_answer = t
        if self.asks_text:
            self.text += answers
        return "content"

    def _usage(self, data: dict) -> int | None:
        """Token counts in the event; returns the completion tokens so far, where it tells."""
        usage, timings = data.get("usage"), data.get("timings")
        counted = None
        if isinstance(usage, dict):
            counted = _count(usage.get("completion_tokens"))
            if counted is not None:
                self.n, self.n_source = counted, "usage"
            self.prompt = _first(_count(usage.get("prompt_tokens")), self.prompt)
            details = usage.get("prompt_tokens_details")
            if isinstance(details, dict):
                self.cached = _first(_count(details.get("cached_tokens")), self.cached)
        if isinstance(timings, dict) and self.n_source != "usage":       # llama.cpp
            n = _count(timings.get("predicted_n"))
            if n is not None:
                self.n, self.n_source = n, "timings"
                self.prompt = _first(_count(timings.get("prompt_n")), self.prompt)
        return counted

    # ------------------------------------------------------------ events like the last one

    def _learn(self, payload: bytes, data: dict, counted: bool) -> None:
        """Keep what stands before and behind the text of an event that held one text and no more."""
        self._before = b""
        choice = data["choices"][0]
        delta = choice.get("delta")
        fields = delta if isinstance(delta, dict) else choice
        said = [k for k in (*TEXTS, "text") if isinstance(fields.get(k), str) and fields[k]]
        if len(said) != 1 or choice.get("finish_reason") or len(data["choices"]) > 1 or fields.get("tool_calls") \
                or (fields is delta and choice.get("text")):
            return
        start = re.search(rb'"' + said[0].encode() + rb'":\s?"', payload)
        text = start and _PLAIN_TEXT.match(payload, start.end())
        if not text or text[0] != fields[said[0]].encode("utf-8", "surrogatepass"):
            return
        behind = payload[text.end():]
        usage = behind.rfind(b'"usage"')
        if counted:
            if usage < 0 or not _COUNTED.fullmatch(behind[usage:] + b"\n\n\r\n"):
                return
            behind = behind[:usage]
        self._before, self._behind = payload[:start.end()], behind
        self._with_usage, self._reasoning_only = counted, said[0] in REASONING

    def take_alike(self, reads: list, at: int, offset_ns: int) -> int:
        """Take in reads[at:] as long as each is one chunk holding one event that differs from the last in its text (and in
        its count of tokens) only; returns the number of the first that is not.

        A read is (data, ancillary data, read at). Nearly all of a token stream passes through this loop, so it does
        nothing twice: framing, event and JSON are checked by the bytes around the text.
        """
        before, behind = b"\r\ndata: " + self._before, self._behind + (b"" if self._with_usage else b"\n\n\r\n")
        skip, drop = len(before), len(behind)
        times, nows, unpack, not_plain, start_at = self.times, self.nows, STAMP.unpack_from, _NOT_PLAIN.search, at
        counted, t = None, 0
        for data, stamp, now in reads[at:] if at else reads:
            start, end = data.find(before, 1, skip + 10), len(data)
            if self._with_usage:
                end = data.rfind(b'"usage"')
                counted = end > 0 and _COUNTED.fullmatch(data, end)
                if not counted:
                    break
            stop = end - drop
            begin = start + skip
            if start < 0 or stop <= begin or not data.endswith(behind, begin, end) or not_plain(data, begin, stop):
                break
            try:
                if int(data[:start], 16) != len(data) - start - 4:
                    break
            except ValueError:
                break
            if stamp:
                seconds, ns = unpack(stamp[0][2])
                t = seconds * 1_000_000_000 + ns - offset_ns
            else:
                t = now
            times.append(t)
            nows.append(now)
            if self.asks_text and not self._reasoning_only:
                self.text.append(data[begin:stop])
            if counted:
                self.n = int(counted[1])
            if not self.first_answer and not self._reasoning_only:
                self.first_answer = t
            at += 1
        self.events += at - start_at
        return at

    @property
    def between_events(self) -> bool:
        """Has everything so far been whole events, and is the next expected to be like the last?"""
        return bool(self._before) and self._events.clean

    # ------------------------------------------------------------ bodies that are no event stream

    def _plain(self) -> None:
        data = _json(bytes(self.plain))
        if isinstance(data, dict) and (data.get("error") or data.get("object") == "error"):
            self.error = _message(data)
        elif isinstance(data, dict) and isinstance(data.get("choices"), list):
            self.garbage = "one JSON object instead of a stream: the server ignores \"stream\": true"
        else:
            self.garbage = " ".join(bytes(self.plain[:80]).decode("utf-8", "replace").split()) or "an empty body"


def _json(payload: bytes):
    """The value, or None for whatever is no JSON (too deep included). An event stream is UTF-8, faults in it are passed over."""
    try:
        return json.loads(payload.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _count(value) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else None


def _first(*values):
    return next((v for v in values if v is not None), None)


def _message(data: dict) -> str:
    error = data.get("error") or data
    text = error.get("message") or json.dumps(error) if isinstance(error, dict) else str(error)
    return " ".join(str(text).split())[:300]
