"""Responses taken apart: however the network splits them, the same comes out; nothing is invented, nothing crashes."""

import json
import random
from itertools import pairwise

import pytest

from gb10.bench import answer as answers
from gb10.bench.answer import Answer
from gb10.bench.flight import Flight, tokens
from gb10.bench.http1 import HEAD_LIMIT, NotHttp, Response, request
from gb10.bench.sse import EVENT_LIMIT, Events, EventTooLarge

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def event(delta, finish=None, usage=None, gap=",", colon=":", **more):
    """The JSON of one chunk, without its `data:`."""
    data = {"id": "c-1", "object": "chat.completion.chunk", "created": 1790000000, "model": "m",
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]} | more
    if usage is not None:
        data["usage"] = usage
    return json.dumps(data, separators=(gap, colon))


def counted(n, **more):
    return {"prompt_tokens": 7, "total_tokens": 7 + n, "completion_tokens": n} | more


def sse(*payloads, end="\n"):
    return [f"data: {p}{end}{end}".encode() for p in payloads]


def chunk(data, extension=b""):
    return b"%x%s\r\n%s\r\n" % (len(data), extension, data)


def chunked(parts, last=b"0\r\n\r\n", **how):
    return [*(chunk(p, **how) for p in parts), last]


WORDS = [event({"role": "assistant", "content": ""}), *(event({"content": f" w{i}"}) for i in range(4))]
ENDING = [event({}, "length"), json.dumps({"choices": [], "usage": counted(4)}), "[DONE]"]


def fly(reads, keep_text=True, at_once=True):
    """A flight that was given these reads (bytes; b"" for the end of the connection), and what Load does at its end."""
    flight = Flight(0, 0, 0, keep_text)
    flight.send = 1
    rows = [(data, None, 1000 * (i + 1)) for i, data in enumerate(reads)]
    for some in [rows] if at_once else [[row] for row in rows]:
        flight.reads = list(some)
        flight.take_in(0)
    if not flight.response.done and flight.closed and flight.response.head_done and flight.response.end():
        flight.answer.close(flight.closed, flight.closed)
    return flight


def told(flight):
    """All that was understood, times aside."""
    a, r = flight.answer, flight.response
    text = b"".join(p if isinstance(p, bytes) else p.encode("utf-8", "surrogatepass") for p in a.text)
    return {"status": r.status, "headers": r.headers, "done": r.done, "keep": r.keep_alive, "times": len(a.times),
            "events": a.events, "n": tokens(a), "n_source": a.n_source, "n_first": a.n_first, "finish": a.finish,
            "said_done": a.done, "error": a.error, "garbage": a.garbage, "prompt": a.prompt, "cached": a.cached,
            "text": text, "answered": bool(a.first_answer), "plain": a.plain, "verdict": flight.verdict(4)}


# ------------------------------------------------------------ every split

RESPONSES = {
    "chunked": CHUNKED + b"".join(chunked(sse(*WORDS, *ENDING))),
    "several events in a chunk": CHUNKED + b"".join(chunked([b"".join(sse(*WORDS)), b"".join(sse(*ENDING))])),
    "an event over several chunks": CHUNKED + b"".join(chunked(
        [bytes(part) for e in sse(*WORDS, *ENDING) for part in (e[:9], e[9:30], e[30:]) if part])),
    "extensions and trailers": CHUNKED + b"".join(chunked(
        sse(*WORDS, *ENDING), b"0;last=1\r\nX-Checksum: 12\r\nServer-Timing: a\r\n\r\n", extension=b' ;q="a;b"')),
    "capitals and zeros in sizes": CHUNKED + b"".join(b"00%X\r\n%s\r\n" % (len(e), e) for e in sse(*WORDS, *ENDING)) + b"000\r\n\r\n",
    "CR LF": CHUNKED + b"".join(chunked(sse(*WORDS, *ENDING, end="\r\n"))),
    "CR": CHUNKED + b"".join(chunked(sse(*WORDS, *ENDING, end="\r"))),
    "comments and other fields": CHUNKED + b"".join(chunked(
        [b": ping\n\n", b"event: message\nid: 7\nretry: 10\n", *sse(*WORDS), b":\n\n", *sse(*ENDING)])),
    "data in two lines": CHUNKED + b"".join(chunked([b'data: {"id":1,\ndata:"choices":[{"delta":{"content":" w0"}}]}\n\n', *sse(*ENDING)])),
    "data in two lines, CR LF": CHUNKED + b"".join(chunked(
        [b'data: {"id":1,\r\ndata:"choices":[{"delta":{"content":" w0"}}]}\r\n\r\n', *sse(*ENDING, end="\r\n")])),
    "length": OK + b"Content-Length: %d\r\n\r\n" % sum(map(len, sse(*WORDS, *ENDING))) + b"".join(sse(*WORDS, *ENDING)),
    "until the end": OK + b"\r\n" + b"".join(sse(*WORDS, *ENDING)),
    "HTTP/1.0": OK.replace(b"1.1", b"1.0") + b"\r\n" + b"".join(sse(*WORDS, *ENDING)),
    "after 1xx": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + CHUNKED + b"".join(
        chunked(sse(*WORDS, *ENDING))),
    "no content": b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n",
    "counting along": CHUNKED + b"".join(chunked(sse(
        *(event({"content": f" w{i}"}, usage=counted(i + 1)) for i in range(4)), *ENDING))),
    "escapes": CHUNKED + b"".join(chunked(sse(
        *(event({"content": t}) for t in ('"a"', "\\", "é\n", "\u2028", "\U0001f600", "b")), *ENDING))),
    "raw UTF-8": CHUNKED + b"".join(chunked([
        b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % t.encode() for t in ("é", "→", "😀", "ü")])),
    "an error inside": CHUNKED + b"".join(chunked(sse(*WORDS[:3], '{"error":{"message":"it  died","code":500}}', "[DONE]"))),
    "what is no JSON": CHUNKED + b"".join(chunked(sse(*WORDS[:3], "{oops", *ENDING))),
    "half an event": CHUNKED + b"".join(chunked([*sse(*WORDS[:3]), sse(*ENDING)[0][:30]])),
    "an event without its blank line at the end": CHUNKED + b"".join(chunked([*sse(*WORDS, ENDING[0]), f"data: {ENDING[1]}\n".encode()])),
    "no last blank line": CHUNKED + b"".join(chunked([*sse(*WORDS, *ENDING)[:-1], b"data: [DONE]"])),
    "503 in JSON": b'HTTP/1.1 503 X\r\nContent-Length: 33\r\n\r\n{"error":{"message":"too  many"}} and more',
    "500 in HTML": b"HTTP/1.1 500 X\r\nContent-Type: text/html\r\n\r\n<h1>Oh\nno</h1>",
    "429 without a body": b"HTTP/1.1 429 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "JSON with 200": b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 25\r\n\r\n{"error":{"message":"a"}}',
}
UNTIL_THE_END = ("until the end", "HTTP/1.0", "500 in HTML")


def closes(name):
    return [b""] if name in UNTIL_THE_END else []


@pytest.mark.parametrize("name", RESPONSES)
def test_every_split_in_two_and_every_byte_alone(name):
    raw, end = RESPONSES[name], closes(name)
    whole = told(fly([raw, *end]))
    assert whole["done"] and whole["status"] >= 200
    for cut in range(1, len(raw)):
        assert told(fly([raw[:cut], raw[cut:], *end])) == whole, f"split at {cut}: {raw[:cut][-20:]!r}"
    for at_once in (True, False):
        assert told(fly([*(raw[i:i + 1] for i in range(len(raw))), *end], at_once=at_once)) == whole


def test_random_splits():
    rng = random.Random(1)
    for name, raw in RESPONSES.items():
        whole = told(fly([raw, *closes(name)]))
        for _ in range(60):
            cuts = sorted({0, len(raw), *(rng.randrange(len(raw)) for _ in range(rng.randrange(1, 12)))})
            reads = [raw[a:b] for a, b in pairwise(cuts)]
            assert told(fly([*reads, *closes(name)], at_once=rng.random() < 0.5)) == whole, (name, cuts)


@pytest.mark.parametrize(("name", "expected"), [
    ("chunked", {"times": 4, "n": 4, "n_source": "usage", "finish": "length", "said_done": True, "events": 8, "prompt": 7,
                 "text": b" w0 w1 w2 w3", "verdict": ("", ""), "keep": True}),
    ("an event over several chunks", {"times": 4, "n": 4, "text": b" w0 w1 w2 w3", "verdict": ("", "")}),
    ("extensions and trailers", {"times": 4, "n": 4, "verdict": ("", ""), "keep": True}),
    ("comments and other fields", {"times": 4, "events": 8, "verdict": ("", "")}),
    ("data in two lines", {"times": 1, "n": 4, "text": b" w0"}),
    ("data in two lines, CR LF", {"times": 1, "n": 4, "text": b" w0"}),
    ("an event without its blank line at the end", {"times": 4, "n": 4, "n_source": "usage", "verdict": ("", "")}),
    ("until the end", {"times": 4, "verdict": ("", ""), "keep": False}),
    ("after 1xx", {"status": 200, "times": 4, "verdict": ("", "")}),
    ("no content", {"status": 204, "verdict": ("http_204", ""), "times": 0}),
    ("counting along", {"n": 4, "n_first": 1, "times": 4}),
    ("escapes", {"times": 6, "text": '"a"\\é\n\u2028\U0001f600b'.encode()}),
    ("raw UTF-8", {"times": 4, "text": "é→😀ü".encode(), "n": 4, "n_source": "", "verdict": ("truncated", "the stream ended without a finish_reason")}),
    ("an error inside", {"verdict": ("in_band", "it died"), "times": 2}),
    ("what is no JSON", {"verdict": ("protocol", "{oops"), "times": 2}),
    ("half an event", {"verdict": ("truncated", "the stream ended without a finish_reason"), "times": 2}),
    ("no last blank line", {"said_done": True, "verdict": ("", "")}),
    ("503 in JSON", {"verdict": ("http_503", "too many"), "keep": True}),
    ("500 in HTML", {"verdict": ("http_500", "<h1>Oh no</h1>"), "keep": False}),
    ("429 without a body", {"verdict": ("http_429", ""), "keep": False}),
    ("JSON with 200", {"verdict": ("in_band", "a")}),
])
def test_what_is_understood(name, expected):
    got = told(fly([RESPONSES[name], *closes(name)]))
    assert {k: got[k] for k in expected} == expected


@pytest.mark.parametrize("name", [n for n in RESPONSES if n not in UNTIL_THE_END])
def test_a_response_that_is_cut_off_is_never_complete(name):
    raw = RESPONSES[name]
    end = len(raw) - (len(" and more") if name == "503 in JSON" else 0)
    for cut in range(1, end, 7):
        assert not fly([raw[:cut], b""]).response.done, cut


# ------------------------------------------------------------ events and answers, one by one

def test_times_are_those_of_the_read_that_completes_an_event():
    a, b = sse(*WORDS[1:3])
    flight = fly([CHUNKED, chunk(a), chunk(b)[:30], chunk(b)[30:], *chunked(sse(*ENDING))])
    assert list(flight.answer.times) == [2000, 4000] and flight.answer.first == 2000


def test_the_end_is_when_the_last_byte_of_the_response_came():
    flight = fly([CHUNKED, *map(chunk, sse(*WORDS, *ENDING)), b"0\r\n", b"\r\n"])
    assert flight.response.done and flight.landed == 1000 * (1 + len(WORDS) + len(ENDING) + 2)


def test_reasoning_first():
    flight = fly([CHUNKED, *chunked(sse(event({"reasoning": "hm"}), event({"reasoning": "so"}), event({"content": "a"}), *ENDING))])
    a = flight.answer
    assert list(a.times) == [2000, 3000, 4000] and a.first_answer == 4000 and told(flight)["text"] == b"a"


def test_a_tool_call_is_an_answer():
    call = event({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]})
    a = fly([CHUNKED, *chunked(sse(event({"reasoning": "hm"}), call, event({"content": "a"})))]).answer
    assert len(a.times) == 3 and a.first_answer == 3000


def test_faults_in_utf8_are_passed_over():
    before, behind = sse(event({"content": "@@"}))[0].split(b"@@")
    reads = [CHUNKED, *(chunk(before + t + behind) for t in (b"\xff", b"a", b"\xc3", b"b"))]
    for keep_text in (False, True):
        a = fly(reads, keep_text).answer
        assert len(a.times) == 4 and not a.garbage
        assert b"".join(p if isinstance(p, bytes) else p.encode() for p in a.text) in (b"", b"\xef\xbf\xbda\xc3b")


def test_an_event_behind_half_of_another_is_part_of_it():
    word = chunk(sse(event({"content": "a"}))[0])
    a = fly([CHUNKED, word, word, chunk(b'data: {"half":'), word, word]).answer
    assert len(a.times) == 3 and a.garbage.startswith('{"half":data:')


@pytest.mark.parametrize(("delta", "more", "counts"), [
    ({"content": "a"}, {}, True), ({"content": ""}, {}, False), ({"role": "assistant"}, {}, False), ({"content": None}, {}, False),
    ({"reasoning_content": "a"}, {}, True), ({"reasoning": "a"}, {}, True), ({"refusal": None, "content": "a"}, {}, True),
    ({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, {}, True), ({"tool_calls": []}, {}, False),
    ({"content": 5}, {}, False), ({"content": ["a"]}, {}, False), (None, {}, False), ("a", {}, False),
    ({}, {"choices": [{"text": "a"}]}, True), ({}, {"choices": [{"text": ""}]}, False), ({}, {"choices": []}, False),
    ({}, {"choices": None}, False), ({}, {"choices": [None]}, False), ({}, {"choices": {"text": "a"}}, False),
])
def test_which_events_hold_a_token(delta, more, counts):
    flight = fly([CHUNKED, *chunked(sse(event(delta, **more), "[DONE]"))])
    assert len(flight.answer.times) == counts and not flight.answer.garbage


@pytest.mark.parametrize(("usage", "n", "prompt", "cached"), [
    (counted(3, prompt_tokens_details={"cached_tokens": 2}), 3, 7, 2), (counted(3, prompt_tokens_details=None), 3, 7, None),
    ({"completion_tokens": None, "prompt_tokens": 5}, None, 5, None), ({"completion_tokens": -1}, None, None, None),
    ({"completion_tokens": True}, None, None, None), ({"completion_tokens": "3"}, None, None, None), ([], None, None, None),
    ({"completion_tokens": 1 << 50}, None, None, None),
])
def test_usage_in_all_kinds(usage, n, prompt, cached):
    a = fly([CHUNKED, *chunked(sse(json.dumps({"choices": [], "usage": usage})))]).answer
    assert (a.n, a.prompt, a.cached) == (n, prompt, cached)


def test_timings_count_where_there_is_no_usage():
    timings = json.dumps({"choices": [], "timings": {"predicted_n": 9, "prompt_n": 4}})
    a = fly([CHUNKED, *chunked(sse(*WORDS, timings))]).answer
    assert (a.n, a.n_source, a.prompt) == (9, "timings", 4)
    a = fly([CHUNKED, *chunked(sse(*WORDS, json.dumps({"choices": [], "usage": counted(4)}), timings))]).answer
    assert (a.n, a.n_source) == (4, "usage")


@pytest.mark.parametrize(("body", "words"), [
    ('{"error":{"message":"a\\n b"}}', "a b"), ('{"error":"plain"}', "plain"), ('{"error":{"code":5}}', '{"code": 5}'),
    ('{"object":"error","message":"old vLLM"}', "old vLLM"), ('{"error":["a"]}', "['a']"), ('{"error":{"message":7}}', "7")])
def test_errors_in_their_own_words(body, words):
    flight = fly([CHUNKED, *chunked(sse(*WORDS[:2], body))])
    assert flight.verdict(None) == ("in_band", words)


@pytest.mark.parametrize(("finish", "n", "asked", "kind"), [
    ("length", 4, 4, ""), ("length", 3, 4, ""), ("stop", 4, 4, ""), ("stop", 3, 4, "short"), ("stop", 3, None, ""), (None, 4, 4, "")])
def test_short_answers(finish, n, asked, kind):
    last = json.dumps({"choices": [], "usage": counted(n)})
    flight = fly([CHUNKED, *chunked(sse(*WORDS, event({}, finish), last, "[DONE]"))])
    assert flight.verdict(asked)[0] == kind


def test_an_answer_without_a_token_is_empty():
    flight = fly([CHUNKED, *chunked(sse(WORDS[0], event({}, "stop"), "[DONE]"))])
    assert flight.verdict(None) == ("empty", "no token came")


@pytest.mark.parametrize(("raw", "says"), [
    (b"SSH-2.0-OpenSSH_9.6\r\n", "does not begin like HTTP"), (b"\x15\x03\x01\x00\x02\x02\x16", "does not begin like HTTP"),
    (b"HTTP/2 200\r\n\r\n", "does not begin like HTTP"), (b"HTTP/1.1 abc\r\n\r\n", "does not begin like HTTP"),
    (b"HTTP/1.1 \xb2\xb2\xb2\r\n\r\n", "does not begin like HTTP"), (b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n", "Content-Length"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", "Content-Length"),
    (CHUNKED + b"zz\r\n", "instead of its size"), (CHUNKED + b"-5\r\n", "instead of its size"), (CHUNKED + b"\r\n", "instead of its size"),
    (CHUNKED + b"1_0\r\n", "instead of its size"), (CHUNKED + b"5" * 5000, "does not end"),
    (CHUNKED + b"0\r\n" + b"a" * 70_000, "trailers"), (b"HTTP/1.1 200 OK\r\n" + b"a" * HEAD_LIMIT, "does not end")])
def test_what_is_no_http(raw, says):
    for reads in ([raw], [raw[i:i + 1000] for i in range(0, len(raw), 1000)]):
        with pytest.raises(NotHttp, match=says):
            fly(reads)


@pytest.mark.parametrize("data", [b"x" * 65_536, b"data: x\n" * 8_192, b"data:\n" * 10_923, b"data: " + b"x" * 65_530])
def test_an_event_without_an_end_is_refused(data):
    events = Events()
    with pytest.raises(EventTooLarge):
        for _ in range(EVENT_LIMIT // len(data) + 32):
            events.feed(data)


def test_many_events_of_any_size_below_the_limit():
    events, big = Events(), b"data: " + b"x" * (EVENT_LIMIT // 2) + b"\n\n"
    assert sum(len(events.feed(big)) for _ in range(4)) == 4 and events.clean


def test_requests_have_the_length_that_they_announce():
    body = '{"é":1}'.encode()
    head = request("POST", "h:1", "/v1/x", {"A": "b"}, len(body))
    assert head == b"POST /v1/x HTTP/1.1\r\nHost: h:1\r\nA: b\r\nContent-Length: 8\r\n\r\n"


# ------------------------------------------------------------ the short cut for events that are alike

TEXTS = (" word", "a", "  ", "é", "😀", "→ x", "data: {", '"', 'say "no"', "\\", "\\n", "tab\t", "line\nline", "\x00", "[DONE]", "usage",
         '"usage":{"completion_tokens":9}', "}}", "\u2028", "x" * 300)


def random_stream(rng):
    """Payloads such as servers send them, with one thing or another changing on the way."""
    gap, colon = rng.choice([(",", ":"), (", ", ": ")])
    ascii_only, counting, logs = rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.2
    details = rng.choice([{}, {"prompt_tokens_details": None}, {"prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": None}}])
    fields = rng.choice([["content"], ["reasoning_content"] * 3 + ["content"] * 3, ["reasoning", "content"], ["text"], ["content", "tool_calls"]])
    total, n, out = rng.randrange(1, 24), 0, []
    created = 1790000000
    for i in range(total):
        field = fields[i * len(fields) // total]
        text = rng.choice(TEXTS) if rng.random() < 0.4 else f" w{i}"
        created += rng.random() < 0.1
        n += 1 + (rng.random() < 0.1)
        delta = {field: [{"index": 0, "function": {"arguments": text}}] if field == "tool_calls" else text}
        if rng.random() < 0.05:
            delta = rng.choice([{}, {"content": ""}, {"role": "assistant", "content": ""}, {"content": "x", "reasoning": "y"}])
        finish = "stop" if rng.random() < 0.03 else None
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        if field == "text":
            choice = {"index": 0, "text": text, "finish_reason": finish}
        if logs:
            choice["logprobs"] = {"content": [{"token": text, "logprob": -0.5}]}
        data = {"id": f"c-{i if rng.random() < 0.05 else 1}", "created": created, "choices": [choice]}
        if rng.random() < 0.03:
            data["choices"].append({"index": 1, "delta": {"content": "other"}})
        if counting and rng.random() < 0.97:
            data["usage"] = counted(n, **details)
        if rng.random() < 0.02:
            data["error"] = rng.choice([None, {"message": "oh"}])
        out.append(json.dumps(data, ensure_ascii=ascii_only, separators=(gap, colon)))
    return [*out, *ENDING] if rng.random() < 0.8 else out


def everything(flight):
    a = flight.answer
    return told(flight) | {"all times": list(a.times), "nows": list(a.nows), "first": a.first, "first answer": a.first_answer}


def test_the_short_cut_says_the_same_as_parsing_everything(monkeypatch):
    rng, parsed = random.Random(7), [0]
    whole_json = answers._json

    def counting(payload):
        parsed[0] += 1
        return whole_json(payload)

    monkeypatch.setattr(answers, "_json", counting)
    events = quick = slow = 0
    for _ in range(1500):
        reads = [CHUNKED, *chunked(sse(*random_stream(rng)))]
        if rng.random() < 0.3:                       # some reads merge, some are cut
            at = rng.randrange(1, len(reads))
            reads[at:at + 2] = [b"".join(reads[at:at + 2])] if rng.random() < 0.5 else [reads[at][:20], reads[at][20:], *reads[at + 1:at + 2]]
        parsed[0] = 0
        fast = everything(fly(reads))
        quick += parsed[0]
        with monkeypatch.context() as m:
            m.setattr(Answer, "take_alike", lambda self, reads, at, offset_ns: at)
            parsed[0] = 0
            assert everything(fly(reads)) == fast, reads
        slow += parsed[0]
        events += fast["events"]
    assert quick < 0.8 * slow                        # or the test would compare the slow way with itself


def test_a_long_stream_of_one_kind_is_hardly_parsed(monkeypatch):
    for usage in (False, True):
        whole_json, parsed = answers._json, []
        monkeypatch.setattr(answers, "_json", lambda payload, j=whole_json, p=parsed: p.append(1) or j(payload))
        stream = [event({"content": f" w{i}"}, usage=counted(i + 1) if usage else None) for i in range(1000)]
        flight = fly([CHUNKED, *chunked(sse(*stream))])
        assert len(flight.answer.times) == 1000 and len(parsed) < 5
        assert flight.answer.n == (1000 if usage else None)


def test_reads_with_the_kernels_stamps_are_dated_by_them():
    from gb10.bench.clock import STAMP

    reads = [CHUNKED, *chunked(sse(*WORDS, *ENDING))]
    flight = Flight(0, 0, 0, False)
    flight.reads = [(data, [(1, 35, STAMP.pack(100 + i, 7))], 10**12) for i, data in enumerate(reads)]
    flight.take_in(90 * 10**9)
    assert list(flight.answer.times) == [(12 + i) * 10**9 + 7 for i in range(4)] and set(flight.answer.nows) == {10**12}


@pytest.mark.parametrize("text", [b"a\tb", b"a\x00b", b"a\nb", b"a\n\nb", b"a\rb", b"\x1f"])
def test_a_text_that_is_no_json_is_no_token_on_the_short_cut_either(text):
    before, behind = sse(event({"content": "@@"}))[0].split(b"@@")
    flight = fly([CHUNKED, *(chunk(before + t + behind) for t in (b"a", b"b", text))])
    assert len(flight.answer.times) == 2


# ------------------------------------------------------------ anything at all

def plain_reader(raw):
    """How many events with a token are in a response: written plainly, and rather too generous than too strict."""
    try:
        while True:
            head, _, raw = raw.partition(b"\r\n\r\n")
            if head.split(b" ", 1)[1][:1] != b"1":
                break
    except IndexError:
        return 0
    fields = [line.lower().partition(b":") for line in head.split(b"\r\n")[1:]]
    if any(name.strip() == b"transfer-encoding" and b"chunked" in value for name, _, value in fields):
        body = b""
        while b"\r\n" in raw:
            line, _, raw = raw.partition(b"\r\n")
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                break
            if size <= 0:
                break
            body, raw = body + raw[:size], raw[size + 2:]
    else:
        body = raw
    found = 0
    for block in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        data = b"\n".join(line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:"))
        try:
            choice = json.loads(data.decode("utf-8", "replace"))["choices"][0]
            delta = choice["delta"] if isinstance(choice.get("delta"), dict) else {}
            found += any(isinstance(v, str) and v for v in (*map(delta.get, answers.TEXTS), choice.get("text"))) or \
                bool(isinstance(delta.get("tool_calls"), list) and delta["tool_calls"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue
    return found


def survive(reads):
    """The flight, whether or not it ended in a refusal."""
    flight = Flight(0, 0, 0, True)
    flight.send = 1
    flight.reads = [(data, None, 1000 * (i + 1)) for i, data in enumerate(reads)]
    try:
        flight.take_in(0)
        if not flight.response.done and flight.response.head_done and flight.response.end():
            flight.answer.close(1, 1)
    except (NotHttp, EventTooLarge):
        pass
    if flight.response.head_done:
        flight.verdict(4)
    json.dumps(flight.line(0, 0, "", "", 10_000, "user"))
    return flight


def cut(rng, raw):
    cuts = sorted({0, len(raw), *(rng.randrange(len(raw) + 1) for _ in range(rng.randrange(0, 8)))})
    return [raw[a:b] for a, b in pairwise(cuts)]


def mutated(rng, raw):
    raw = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        at, how = rng.randrange(len(raw)), rng.randrange(5)
        if how == 0:
            raw[at] = rng.randrange(256)
        elif how == 1:
            del raw[at:at + rng.choice((1, 1, 2, 40))]
        elif how == 2:
            raw[at:at] = rng.choice((b"\n", b"\r\n", b"\n\n", b'"', b"\\", b"0\r\n\r\n", b"data: ", b"\x00", b"{", b"}", b"\xff", b"9"))
        elif how == 3:
            raw[at:at] = raw[at:at + 60]
        else:
            del raw[at:]
        if not raw:
            break
    return bytes(raw)


def test_streams_with_faults_never_crash_and_never_invent_a_token():
    rng = random.Random(11)
    found = 0
    for _ in range(5000):
        parts = [CHUNKED, *chunked(sse(*random_stream(rng)))] if rng.random() < 0.6 else [rng.choice(list(RESPONSES.values()))]
        if rng.random() < 0.5 and len(parts) > 2:    # the faults in one read, the others as they were: the short cut's case
            at = rng.randrange(1, len(parts))
            parts[at] = mutated(rng, parts[at])
            reads = [p for p in parts if p]
        else:
            reads = cut(rng, mutated(rng, b"".join(parts)))
        flight = survive(reads)
        raw = b"".join(reads)
        assert len(flight.answer.times) <= plain_reader(raw), reads
        assert len(flight.answer.times) <= flight.answer.events
        found += len(flight.answer.times)
    assert found > 15_000                            # the faults left something to be found


def test_noise_never_crashes():
    rng = random.Random(13)
    words = (b"HTTP/1.1 200 OK\r\n", b"\r\n", b"\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 40\r\n", b"data: ", b"\n\n",
             b"5\r\n", b"0\r\n\r\n", b'{"choices":[{"delta":{"content":"a"}}]}', b"[DONE]", b"{", b'"', b":", b"\xff\xfe", b"\x00")
    for _ in range(4000):
        raw = b"".join(rng.choice(words) if rng.random() < 0.8 else rng.randbytes(rng.randrange(9)) for _ in range(rng.randrange(1, 30)))
        if rng.random() < 0.7:
            raw = CHUNKED + raw
        assert len(survive(cut(rng, raw)).answer.times) <= plain_reader(raw), raw


def test_events_of_any_json_never_crash():
    rng = random.Random(17)

    def anything(depth=0):
        kinds = [None, True, 0, -1, 2.5, 1e400, 10**30, "", "a", "\ud800"]
        if depth < 4 and rng.random() < 0.5:
            return rng.choice([[anything(depth + 1) for _ in range(rng.randrange(3))],
                               {k: anything(depth + 1) for k in rng.sample(KEYS, rng.randrange(4))}])
        return rng.choice(kinds)

    for _ in range(4000):
        data = {k: anything() for k in rng.sample(KEYS, rng.randrange(5))}
        if rng.random() < 0.6:
            data["choices"] = [{"delta": {k: anything(3) for k in rng.sample(KEYS, 4)}, "finish_reason": anything(3)}]
        raw = CHUNKED + b"".join(chunked(sse(json.dumps(data), json.dumps(data), "[DONE]")))
        flight = survive([raw])
        assert len(flight.answer.times) <= plain_reader(raw), raw
        assert not flight.answer.garbage


KEYS = ["choices", "delta", "content", "reasoning", "reasoning_content", "tool_calls", "text", "usage", "completion_tokens", "prompt_tokens",
        "prompt_tokens_details", "cached_tokens", "timings", "predicted_n", "error", "message", "object", "finish_reason"]


def test_deep_nesting_is_no_json():
    deep = '{"choices":' + "[" * 100_000 + "]" * 100_000 + "}"
    flight = fly([CHUNKED, *chunked(sse(deep))])
    assert flight.verdict(None)[0] == "protocol"


def test_a_response_after_its_end_takes_nothing_more():
    response = Response()
    response.feed(RESPONSES["chunked"])
    assert response.done and response.feed(b"more") == b"" and response.keep_alive
