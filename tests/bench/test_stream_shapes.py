"""What servers send, in every shape that is known, through the real load process: the right figures for each.

The server of known truth (gb10.bench.truth) writes down when it sent what; figures are held against its notes, not
against a clock of our own, so a busy machine changes both alike.
"""

from itertools import pairwise
from statistics import median

import pytest
from bench_helpers import Guarded

from gb10.bench.figures import Figures, Segment
from gb10.bench.selftest import Truth

TTFT, ITL, TOKENS, REQUESTS = 20.0, 4.0, 48, 4
LATE_MS = 10.0       # how late an arrival may be dated (median): a hundred times what is usual with kernel stamps


@pytest.fixture(scope="module")
def worker():
    with Guarded() as w:
        yield w


class Measured:
    """The lines, the notes and the figures of one cell against one server."""

    def __init__(self, worker, shape, *, counting=False, requests=REQUESTS, tokens=TOKENS, ttft=TTFT, itl=ITL, **spec):
        options = {"include_usage": True} | ({"continuous_usage_stats": True} if counting else {})
        body = {"model": "truth", "stream": True, "max_tokens": tokens, "stream_options": options}
        with Truth(shape=shape, ttft=ttft, itl=itl, tokens=tokens) as truth:
            self.done = worker.run(truth.spec(body=body, asked=tokens, concurrency=2, todo=[(0, requests)], **spec))
            notes = truth.notes()
        self.rows = sorted(self.done["rows"], key=lambda r: r["i"])
        self.good = [r for r in self.rows if not r.get("err")]
        figures = Figures(0, 2, None, None)
        figures.segments.append(Segment(2, self.done["started"]))
        for row in self.rows:
            figures.add(row, figures.segments[0])
        figures.settle()
        for row in self.rows:
            figures.count(row, figures.segments[0])
        self.figures, self.result = figures, figures.to_dict()
        self.writes = {r["i"]: notes[f"bench-{r['cell']}-{r['i']}"][1:] for r in self.good}

    def sent(self, row):
        return self.done["zero_ns"] + row["send"] * 1000

    def true(self, row, write):
        """When this write happened, in ms from the request."""
        return (self.writes[row["i"]][write] - self.sent(row)) / 1e6

    def late(self):
        """How much later than its write the first and the last arrival of each request were dated, in ms."""
        return [row[name] / 1000 - self.true(row, write) for row in self.good for name, write in (("ttft", 0), ("e2e", -1))]


def measured(worker, shape, events_per_read=1.0, **how):
    """Measure; again where a starved client met many segments two in a read, which it says itself."""
    for _ in range(3):
        m = Measured(worker, shape, **how)
        if m.good and m.figures.events <= 1.02 * events_per_read * m.figures.reads:
            break
    return m


# shape: (content events, tokens in the first, events/read, writes noted, counts along?)
SHAPES = {
    "plain": (48, None, 1, 48, False),
    "plain, counting": (48, 1, 1, 48, True),
    "role_first": (48, None, 1, 48, False),
    "reasoning_content": (48, None, 1, 48, False),
    "reasoning": (48, None, 1, 48, False),
    "reasoning, counting": (48, 1, 1, 48, True),
    "four_tokens": (12, None, 1, 12, False),
    "four_tokens, counting": (12, 4, 1, 12, True),
    "four_events": (48, None, 4, 12, False),
    "four_events, counting": (48, 1, 4, 12, True),
    "no_usage": (48, None, 1, 48, False),
    "no_usage, counting": (48, None, 1, 48, True),
    "comment": (48, None, 1, 48, False),
    "split": (48, None, 1, 48, False),
    "empty_text": (42, None, 1, 42, False),
    "empty_text, counting": (42, 1, 1, 42, True),
    "usage_beside_text": (48, None, 1, 48, False),
    "crlf": (48, None, 1, 48, False),
    "crlf, counting": (48, 1, 1, 48, True),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_right_figures(worker, name):
    shape, _, _ = name.partition(",")
    events, n_first, per_read, writes, counting = SHAPES[name]
    m = measured(worker, shape, per_read, counting=counting)
    assert (m.done["done"], m.done["errors"], m.done["stamps"]) == (REQUESTS, 0, "kernel")
    assert m.done["tokens"] == REQUESTS * TOKENS == m.result["output_tokens"]
    assert [r["i"] for r in m.rows] == list(range(REQUESTS)) and m.result["ok"] == REQUESTS and m.result["errors"] == {}
    for row in m.good:
        assert (row["n"], row["events"], row.get("n_first"), len(m.writes[row["i"]])) == (TOKENS, events, n_first, writes)
        assert row["n_src"] == ("events" if shape == "no_usage" else "usage")
        assert row["reads"] == len(row["gaps"]) + 1 and sum(row["lag"].values()) == events
        assert row["ttft"] + sum(row["gaps"]) == row["e2e"]
    assert m.result["estimated"] is (shape == "no_usage") and m.result["finish"] == {"length": REQUESTS}
    assert m.result["tokens_per_event"] == (None if shape == "no_usage" else pytest.approx(TOKENS / events, abs=0.001))
    assert per_read <= m.result["events_per_read"] < 2 * per_read           # 1 on a machine with time
    assert m.result["gap_is_itl"] is (events == TOKENS and shape != "no_usage" and m.figures.events < 1.005 * m.figures.reads)
    # against the server's notes: when the first token came, and how much time was between first and last
    late = m.late()
    assert median(late) < LATE_MS and min(late) > -0.1
    spans = {row["i"]: (m.writes[row["i"]][-1] - m.writes[row["i"]][0]) / 1e6 for row in m.good}
    true_tpot = median(spans.values()) / (TOKENS - (n_first or 1))
    assert m.result["tpot_ms"]["p50"] == pytest.approx(true_tpot, rel=0.06)
    assert m.result["user_tps"] == pytest.approx(1000 / true_tpot, rel=0.06)
    if m.figures.events <= 1.02 * per_read * m.figures.reads:        # reads that merge have other gaps than the writes
        assert m.result["gap_ms"]["p50"] == pytest.approx(median(b - a for w in m.writes.values() for a, b in pairwise(w)) / 1e6, rel=0.4)
    # beside the text: nothing that comes earlier is a token, nothing that comes later is the end
    assert all(row["e2e"] <= row["end"] for row in m.good)
    firsts = [row["ttft"] - row["ttfr"] for row in m.good]
    if shape == "role_first":
        assert median(firsts) > 0.5 * 0.8 * TTFT * 1000 and m.result["ttfr_ms"]["p50"] < m.result["ttft_ms"]["p50"]
    else:
        assert set(firsts) == {0}
    if "reasoning" in shape:
        assert median(row["ttfa"] / 1000 - m.true(row, TOKENS // 2) for row in m.good) == pytest.approx(0, abs=40)       # 24 tokens later than the first
        assert m.result["ttfa_ms"]["p50"] > m.result["ttft_ms"]["p50"]
    else:
        assert m.result["ttfa_ms"] is None


def test_the_divisor_of_tpot():
    """5.00 or 4.88: section 4 of the benchmark's reference, for 128 tokens and 5 ms."""
    from gb10.bench.figures import tpot_us

    row = {"ttft": 50_000, "e2e": 50_000 + 124 * 5000, "n": 128, "gaps": [20_000] * 31}
    assert tpot_us(row | {"n_first": 4}) == 5000 and tpot_us(row) == pytest.approx(4881.9, abs=0.1)


def test_a_split_event_counts_when_it_is_whole(worker):
    m = measured(worker, "split")
    whole = [row for row in m.good if len(row["gaps"]) == TOKENS - 1]
    if not whole:
        pytest.skip("this machine is so busy that reads merged in every request")
    longer = [row["gaps"][k - 1] for row in whole for k in range(7, TOKENS, 8)]
    shorter = [row["gaps"][k] for row in whole for k in range(7, TOKENS - 1, 8)]
    assert median(longer) - median(shorter) == pytest.approx(4000, abs=1500)       # 2 ms later, and 2 ms nearer to the next


def test_an_answer_of_one_token_has_no_tpot(worker):
    m = measured(worker, "plain", tokens=1)
    assert m.result["ok"] == REQUESTS and m.result["tpot_ms"] is None and m.result["gap_ms"] is None and m.result["user_tps"] is None
    assert all(row["ttft"] == row["e2e"] and row["gaps"] == [] for row in m.good) and m.result["output_tokens"] == REQUESTS


# ------------------------------------------------------------ what fails

@pytest.mark.parametrize(("shape", "kind", "why"), [
    ("error_inside", "in_band", "the engine has died"),
    ("dropped", "truncated", "the server closed the connection"),
    ("half_event", "truncated", "the stream ended without a finish_reason"),
    ("garbage", "protocol", "{oops"),
    ("nothing", "empty", "no token came"),
    ("endless", "protocol", "an event of more than 4 MiB"),
    ("stall", "stall", "nothing came for 0.4 s"),
])
def test_what_fails_is_an_error_and_in_no_latency(worker, shape, kind, why):
    m = Measured(worker, shape, requests=4, itl=1.0, stall_s=0.4)
    assert (m.done["done"], m.done["errors"], m.done["tokens"]) == (4, 4, 0)
    assert m.result["errors"] == {kind: 4} and m.result["error_examples"] == {kind: why} and m.result["ok"] == 0
    for name in ("ttft_ms", "tpot_ms", "gap_ms", "e2e_ms", "ttfr_ms", "ttfa_ms", "response_ms", "client_lag_ms", "user_tps"):
        assert m.result[name] is None, name
    assert m.result["output_tokens"] == 0 and m.result["requests"] == 4 and not m.result["system_tps"]


def test_every_fifth_is_turned_away(worker):
    m = measured(worker, "busy", requests=10)
    assert m.result["errors"] == {"http_503": 2} and m.result["ok"] == 8 and m.done["errors"] == 2
    assert m.result["error_examples"] == {"http_503": "too many requests at once"}
    assert m.result["ttft_ms"]["n"] == 8 and m.result["ttft_ms"]["min"] > TTFT       # the refusals were quicker than any answer
    assert all(row["status"] == 503 for row in m.rows if row.get("err"))


def test_the_whole_time_limit(worker):
    m = Measured(worker, "plain", requests=2, ttft=10, itl=100.0, timeout_s=0.5)
    assert m.result["errors"] == {"timeout": 2} and m.result["error_examples"] == {"timeout": "not finished after 0.5 s"}


def test_an_answer_that_ends_by_itself_is_short_and_no_failure(worker):
    with Truth(ttft=5, itl=1, tokens=20) as truth:
        done = worker.run(truth.spec(asked=TOKENS, todo=[(0, 3)]))
        anyhow = worker.run(truth.spec(asked=None, todo=[(0, 3)]))
    assert [r["err"] for r in done["rows"]] == ["short"] * 3 and done["errors"] == 0
    assert done["rows"][0]["why"] == f"20 of {TOKENS} tokens, finish_reason stop"
    assert not any(r.get("err") for r in anyhow["rows"]) and anyhow["tokens"] == 60


# ------------------------------------------------------------ odd sizes

def test_a_huge_event_among_the_others(worker):
    m = Measured(worker, "huge", requests=2)
    assert m.done["errors"] == 0 and all((r["n"], r["events"]) == (TOKENS, TOKENS) for r in m.good)


def test_byte_by_byte(worker):
    m = Measured(worker, "drip", requests=2, tokens=3)
    assert m.done["errors"] == 0 and all((r["n"], r["events"], r["reads"]) == (3, 3, 3) for r in m.good)
    assert all(gap > 20_000 for r in m.good for gap in r["gaps"])                    # 160 bytes and more, 0.5 ms each


@pytest.mark.parametrize("stamps", ["user", "auto"])
def test_times_of_reading_say_so(worker, stamps):
    m = measured(worker, "plain", stamps=stamps)
    assert m.done["stamps"] == m.result["stamps"] == ("user" if stamps == "user" else "kernel") and m.done["errors"] == 0
    late = m.late()
    assert median(late) < LATE_MS and min(late) > -0.1
