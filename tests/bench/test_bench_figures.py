"""Figures against computations by other ways: percentiles, the steady window, TPOT, comparisons, calibration."""

import random

import numpy as np
import pytest

from gb10.bench import calibrate, compare, fields
from gb10.bench.buckets import bucket, middle
from gb10.bench.figures import Figures, Segment, Timeline, tpot_us
from gb10.bench.spread import Spread
from gb10.bench.steady import Window
from gb10.errors import UserError, WorkFailed

# ---------------------------------------------------------------- percentiles


@pytest.mark.parametrize("n", [1, 2, 3, 10, 101, 5000])
def test_percentiles_are_numpys(n):
    values = [random.Random(n).randrange(10**6) for _ in range(n)]
    s = Spread()
    for i in range(0, n, 7):
        s.extend(values[i:i + 7])
    for p in (0, 1, 25, 50, 90, 99, 100):
        assert s.percentile(p) == pytest.approx(np.percentile(values, p), abs=1e-6)
    assert (s.n, s.low, s.high, s.mean) == (n, min(values), max(values), pytest.approx(np.mean(values)))
    assert s.above(500_000) == sum(v > 500_000 for v in values)


def test_beyond_its_limit_a_spread_is_right_to_a_thousandth_and_stays_small():
    rng = np.random.default_rng(0)
    values = (50_000 * rng.lognormal(0, 0.8, 300_000)).astype(int).tolist()
    s = Spread(exact=2000)
    for i in range(0, len(values), 1000):
        s.extend(values[i:i + 1000])
    for p in (0, 1, 50, 90, 99, 99.9, 100):
        assert s.percentile(p) == pytest.approx(np.percentile(values, p), rel=1e-3)
    assert s.n == len(values) and len(s._counts) < 20_000


def test_an_empty_spread_says_nothing():
    s = Spread()
    assert s.percentile(50) is None and s.summary() is None and s.mean is None and s.curve() == [] and not len(s)


@pytest.mark.parametrize("bits", [4, 11])
def test_a_bucket_is_as_narrow_as_it_says(bits):
    for value in [*range(5000), *(3**k for k in range(8, 30))]:
        assert abs(middle(bucket(value, bits), bits) - value) <= value / 2**bits
    numbers = [bucket(v, bits) for v in range(20_000)]
    assert numbers == sorted(numbers)


def test_buckets_are_taken_in_with_their_counts():
    s = Spread()
    s.add_buckets({str(bucket(40, 4)): 3, str(bucket(900, 4)): 1}, 4)
    assert s.n == 4 and s.percentile(50) == pytest.approx(40, rel=0.07) and s.high == pytest.approx(900, rel=0.07)


# ---------------------------------------------------------------- the steady window


def brute_force(intervals, c):
    """First and last moment with c in flight, by looking at every moment at which something changes."""
    moments = sorted({t for pair in intervals for t in pair})
    full = [t for t in moments if sum(a <= t < b for a, b in intervals) >= c]
    return (full[0], min(b for a, b in intervals if b > full[-1])) if full else None


@pytest.mark.parametrize("seed", range(30))
def test_the_steady_window_of_a_closed_loop(seed):
    """A loop that starts the next request when one ends; the window found in flat memory is that of brute force."""
    rng = random.Random(seed)
    c, left = rng.randrange(1, 9), rng.randrange(1, 60)
    free, requests = [(rng.randrange(60), slot) for slot in range(c)], []
    for _ in range(left):
        free.sort()
        start, slot = free.pop(0)
        end = start + rng.randrange(2, 9) * 50           # several end at the same moment
        requests.append((start, end, slot))
        free.append((end, slot))
    w = Window(c)
    for request in rng.sample(requests, left):
        w.add(*request)
    assert w.bounds() == (brute_force([r[:2] for r in requests], c) if left >= c else None)


def test_without_enough_requests_there_is_no_steady_window():
    w = Window(4)
    for slot in range(3):
        w.add(slot, 100, slot)
    assert w.bounds() is None and Window(1).bounds() is None


# ---------------------------------------------------------------- figures of requests


def row(ttft=50_000, gaps=(5000,) * 9, n=10, send=0, **more):
    e2e = ttft + sum(gaps)
    return {"k": "req", "cell": 0, "i": 0, "send": send, "end": e2e, "ttft": ttft, "e2e": e2e, "n": n, "n_src": "usage",
            "events": len(gaps) + 1, "reads": len(gaps) + 1, "gaps": list(gaps), "lag": {"40": len(gaps) + 1}, **more}


def group(rows, concurrency=1, rate=None, slo=None):
    g = Figures(0, concurrency, rate, slo)
    g.segments.append(Segment(concurrency, 1000.0))
    for r in rows:
        g.add(r, g.segments[0])
    g.settle()
    for r in rows:
        g.count(r, g.segments[0])
    return g


def test_tpot_takes_out_the_tokens_of_the_first_event():
    # four tokens an event, every 20 ms: 620 ms for 124 tokens, or for 127 where the first event's count isn't told
    gaps = (20_000,) * 31
    assert tpot_us(row(gaps=gaps, n=128, n_first=4)) == pytest.approx(5000)
    assert tpot_us(row(gaps=gaps, n=128)) == pytest.approx(620_000 / 127)
    assert tpot_us(row(gaps=(), n=1)) is None and tpot_us(row(gaps=(), n=16)) is None


def test_errors_are_counted_and_in_no_latency():
    g = group([row(), {"k": "req", "cell": 0, "i": 1, "send": 0, "end": 900_000, "err": "in_band", "why": "boom"},
               row(ttft=10**9, err="short")])
    assert (g.requests, g.ok, g.errors, g.why) == (3, 1, {"in_band": 1, "short": 1}, {"in_band": "boom"})
    assert g.ttft.n == g.tpot.n == g.e2e.n == 1 and g.ttft.high == 50_000 and g.gap.n == 9


def test_tokens_per_second_come_from_the_steady_window():
    # two slots, 100 ms a request of ten tokens at 50, 55, … ms; the last request runs alone and is outside
    rows = [row(send=100_000 * (i // 2), end=100_000, slot=i % 2) for i in range(10)] + [row(send=500_000, end=100_000, slot=0)]
    g = group(rows, concurrency=2)
    assert g.steady_s == pytest.approx(0.5) and g.system_tps == pytest.approx(100 / 0.5)
    assert g.system_tps_whole == pytest.approx(110 / 0.6)


def test_answers_that_ended_early_are_work_of_the_server_all_the_same():
    short = row(n=5, gaps=(5000,) * 4) | {"err": "short"}
    g = group([row(), short | {"send": 95_000}])
    assert g.timeline.total == 15 and g.output == 10 and g.ok == 1
    assert group([row(), row() | {"err": "truncated"}]).timeline.total == 10


def test_tokens_are_placed_in_their_second():
    g = group([row(send=1_000_000 - 52_000)])          # two arrivals before the second ends, eight after
    assert g.timeline.items() == [(1000, 1), (1001, 9)]
    g = group([row(send=900_000, gaps=(30_000,) * 9, n=28, n_first=1)])      # 950, 980 | 1010 … ms; 3 tokens each
    assert g.timeline.items() == [(1000, 4), (1001, 24)]


def test_a_long_timeline_gets_coarser_and_loses_nothing():
    t = Timeline(bins=100)
    for second in range(5000):
        t.add(second, 2)
    assert t.total == 10_000 and sum(v for _, v in t.items()) == 10_000 and len(t.items()) <= 100
    assert t.items()[0][0] == 0 and t.width == 64


def test_goodput_asks_for_every_limit():
    rows = [row(), row(ttft=90_000), row(gaps=(9000,) * 9)]
    assert group(rows, slo={"ttft": 60, "tpot": 6}).good == 1
    assert group(rows, slo={"ttft": 60}).good == 2
    assert group(rows).to_dict()["goodput_per_s"] is None


def test_a_gap_is_called_itl_only_when_every_arrival_brought_one_token():
    assert group([row()]).one_by_one
    assert not group([row(n=20)]).one_by_one                                    # two tokens an event
    assert not group([row() | {"events": 20}]).one_by_one                       # two events a read


def test_stalls_are_gaps_far_above_the_median():
    assert group([row(gaps=(5000,) * 8 + (26_000,))]).stalls() == {"count": 1, "longest_ms": 26.0}
    assert group([row(gaps=(5000,) * 8 + (24_000,))]).stalls()["count"] == 0


def test_a_late_client_is_told_and_whether_its_times_hold():
    calm, late = row(), row() | {"lag": {str(bucket(2000, 4)): 10}}
    assert not group([calm]).client_late
    assert group([late]).client_late and not group([late]).times_doubtful       # the kernel dated what came
    assert group([late | {"stamps": "user"}]).times_doubtful
    assert group([late | {"events": 20}]).times_doubtful                        # reads merged


# ---------------------------------------------------------------- comparisons


def blocks(rng, engine, drift, noise, requests=8):
    """Journal lines of six blocks of an engine whose TPOT (µs) is `engine`, on a machine that drifts."""
    g = Figures(0, 1, None, None)
    segment = Segment(1, 0.0)
    for cell in range(6):
        here = engine * (1 + drift * cell / 6) * rng.lognormvariate(0, noise)
        for _ in range(requests):
            step = int(here * rng.lognormvariate(0, 0.02))
            g.add(row(gaps=(step,) * 9, ttft=step * 10) | {"cell": cell}, segment)
    return g


@pytest.mark.parametrize(("ratio", "noise"), [(1.0, 0.0), (1.0, 0.03), (1.1, 0.01)])
def test_95_per_cent_intervals_hold_the_truth_in_95_per_cent_of_cases(ratio, noise, monkeypatch):
    monkeypatch.setattr(compare, "DRAWS", 600)           # enough here, and quicker
    rng, covered, called_equal, cases = random.Random(5), 0, 0, 200
    for case in range(cases):
        a, b = blocks(rng, 5000, 0.3, noise), blocks(rng, 5000 * ratio, 0.3, noise)
        line = compare.compare(a, b, ("A", "B"), paired=True, seed=case)[0]
        covered += line["low"] <= ratio <= line["high"]
        called_equal += "no difference" in line["verdict"]
    assert covered >= 0.91 * cases
    if ratio == 1:
        assert called_equal >= 0.91 * cases
    else:
        assert called_equal <= 0.1 * cases               # 10 % are found where blocks scatter by 1 %


def test_a_block_in_which_all_failed_costs_its_pair_and_no_other():
    """Pairs are those of one moment: on a machine that halves its speed all the time, A1 with B2 would say anything."""
    a, b = Figures(0, 1, None, None), Figures(0, 1, None, None)
    segment = Segment(1, 0.0)
    for cell in range(6):
        step = 1000 * 2**cell
        for g, factor in ((a, 1), (b, 1.25)):
            gaps = (int(step * factor),) * 9
            failed = {"err": "http_503"} if (g is a and cell == 2) else {}
            g.add(row(gaps=gaps, ttft=gaps[0]) | {"cell": cell} | failed, segment)
    line = compare.compare(a, b, ("A", "B"), paired=True)[0]
    assert line["basis"] == "5 pairs of blocks" and line["ratio"] == pytest.approx(1.25, rel=0.01)
    assert 1.2 < line["low"] <= line["high"] < 1.3


def test_verdicts_in_words():
    base = {"a": "vLLM", "b": "Ollama"}
    assert compare.verdict(base | {"ratio": 1.31, "low": 1.27, "high": 1.36}) == "vLLM 1.31× (95 %: 1.27–1.36)"
    assert compare.verdict(base | {"ratio": 0.5, "low": 0.4, "high": 0.8}) == "Ollama 2.00× (95 %: 1.25–2.50)"
    assert compare.verdict(base | {"ratio": 1.01, "low": 0.97, "high": 1.05}) == "no difference shown (95 %: 0.97–1.05)"


def test_shorter_times_are_better_and_more_tokens_are_better():
    rng = random.Random(0)
    fast, slow = blocks(rng, 4000, 0, 0.01), blocks(rng, 8000, 0, 0.01)
    lines = compare.compare(fast, slow, ("fast", "slow"), paired=True)
    assert [line["verdict"].split()[0] for line in lines] == ["fast"] * 3
    assert all(1.8 < line["ratio"] < 2.2 for line in lines)
    lines = compare.compare(slow, fast, ("slow", "fast"), paired=False)
    assert [line["verdict"].split()[0] for line in lines] == ["fast"] * 3 and "two runs" in lines[0]["basis"]


def test_nothing_to_compare_gives_no_line():
    assert compare.compare(Figures(0, 1, None, None), blocks(random.Random(0), 5000, 0, 0.01), ("a", "b"), paired=True) == []


# ---------------------------------------------------------------- prompts of a length, fields that are refused


@pytest.mark.parametrize("tokenizer", [
    lambda words, short: 30 + words + short, lambda words, short: 30 + 2 * words + short,
    lambda words, short: 12 + words * 9 // 4 + short, lambda words, short: 41 + words + words // 7 + short,
    lambda words, short: 30 + 3 * words + short - short // 2])                         # two short words are sometimes one token
@pytest.mark.parametrize("wish", [50, 200, 513, 4096])
def test_a_prompt_gets_exactly_the_tokens_asked_for(tokenizer, wish):
    asked = []

    def count(words, short):
        asked.append(words)
        return tokenizer(words, short)

    words, short, reached = calibrate.words_for(wish, count)
    assert reached == wish == tokenizer(words, short) and len(asked) <= calibrate.TRIES + calibrate.PADS


def test_a_prompt_that_can_only_be_met_nearly_is_met_nearly():
    words, short, reached = calibrate.words_for(1000, lambda words, short: 20 + 7 * words + 5 * short)
    assert abs(reached - 1000) <= 3 and reached == 20 + 7 * words + 5 * short


def test_wishes_that_can_not_be_met_are_refused():
    with pytest.raises(UserError, match="too short"):
        calibrate.words_for(10, lambda words, short: 30 + words + short)
    with pytest.raises(WorkFailed, match="does not say how long"):
        calibrate.words_for(100, lambda words, short: None)


def server(forbidden, names_it=True):
    """ask() of a server that refuses these fields."""
    def ask(without):
        body = fields.body("m", max_tokens=8, without=without)
        sent = set(body) | set(body.get("stream_options", ()))
        wrong = next((f for f in forbidden if f in sent), None)
        if wrong:
            return {"err": "http_400", "status": 400, "why": f"{wrong}: extra inputs are not permitted" if names_it else "bad request"}
        return {"n": 8}
    return ask


@pytest.mark.parametrize("forbidden", [[], ["min_tokens"], ["ignore_eos", "seed"], list(fields.OPTIONAL)])
def test_refused_fields_are_found_and_only_those_left_out(forbidden):
    found, refused = fields.settle(server(forbidden), "")
    assert found == {"n": 8} and sorted(refused) == sorted(forbidden)


def test_a_server_that_does_not_name_the_field_is_tried_in_order():
    _, refused = fields.settle(server(["ignore_eos"], names_it=False), "")
    assert refused == ["continuous_usage_stats", "min_tokens", "ignore_eos"]


def test_a_server_that_refuses_everything_is_quoted():
    with pytest.raises(WorkFailed, match="HTTP 400.*model: extra"):
        fields.settle(server(["model"]), "")


def test_engines_are_sent_what_they_know():
    assert "ignore_eos" not in fields.body("m", engine="Ollama", max_tokens=8)
    assert "min_tokens" not in fields.body("m", engine="llama.cpp", max_tokens=8)
    assert fields.body("m", engine="vLLM", max_tokens=8)["min_tokens"] == 8
    assert {"ignore_eos", "min_tokens"}.isdisjoint(fields.body("m", max_tokens=8, fixed=False))
    assert fields.body("m", max_tokens=8, extra={"top_k": 5})["top_k"] == 5
