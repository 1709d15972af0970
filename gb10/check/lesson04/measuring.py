"""Checkers of lesson 04, notebook 3: measure it."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean, median

from gb10.check import live
from gb10.check.verdict import Case, Mistake, Verdict, grade, one_number

# ---------------------------------------------------------------- exercise 7: percentiles


def _percentile(values, q):
    ordered = sorted(values)
    at = (len(ordered) - 1) * q / 100
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def _nearest(values, q):
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * q / 100) - 1)]


def _by_count(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q / 100))]


_VALUES = (
    Case(([20.0, 21.0, 19.0, 22.0, 500.0], 50), 21.0, "one pause among five: the median doesn't move"),
    Case(([20.0, 21.0, 19.0, 22.0, 500.0], 90), 308.8, "between the fourth and the fifth"),
    Case(([10.0, 20.0, 30.0, 40.0], 50), 25.0, "an even number of values"),
    Case(([7.0], 99), 7.0, "one value"),
    Case(([3.0, 1.0, 2.0], 0), 1.0, "0: the smallest"),
    Case(([3.0, 1.0, 2.0], 100), 3.0, "100: the largest"),
    Case((list(range(101)), 99), 99.0, "0 to 100"),
)
_PERCENTILE_MISTAKES = (
    Mistake(lambda v, q: _percentile_unsorted(v, q), "the values are in the order in which they came: sort them first."),
    Mistake(_nearest, "that is the nearest rank. Between two ranks take the share of the way: 2.5 lies half way from the third to the fourth value."),
    Mistake(_by_count, "the first value has rank 0 and the last n - 1: the place is (n - 1) * q / 100, and between two ranks take the share of the way."),
    Mistake(lambda v, q: fmean(v), "that is the mean, and one pause moves it far."),
    Mistake(lambda v, q: median(v), "q is not always 50."),
    Mistake(lambda v, q: _percentile(v, min(100, 100 * q)), "q is in per cent: 50 is the middle."),
)


def _percentile_unsorted(values, q):
    at = (len(values) - 1) * q / 100
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


def percentile(function: Callable) -> Verdict:
    """percentile(values, q) -> the value at or below which q per cent lie, interpolated between the nearest ranks."""
    return grade("percentile", one_number(function), _VALUES, mistakes=_PERCENTILE_MISTAKES, rel=1e-6, absolute=1e-9,
                 hint="sort; the place is (n - 1) * q / 100; between two ranks go the share of the way from the lower to the upper value.",
                 done="it is the benchmark's definition, and numpy's default.")


# ---------------------------------------------------------------- exercise 8: TPOT

def _tpot(ttft, e2e, tokens):
    return (e2e - ttft) / (tokens - 1) if tokens > 1 else 0.0


_ANSWERS = (
    Case((80.0, 1080.0, 101), 10.0, "80 ms to the first, then 100 tokens in 1000 ms"),
    Case((400.0, 716.0, 80), 4.0, "a long prompt, quick tokens"),
    Case((50.0, 90.0, 2), 40.0, "two tokens, one interval"),
    Case((50.0, 50.0, 1), 0.0, "one token has no interval: say 0"),
    Case((1500.0, 4500.0, 31), 100.0, "slow"),
)
_TPOT_MISTAKES = (
    Mistake(lambda f, e, n: (e - f) / n, "after the first token there are n - 1 intervals."),
    Mistake(lambda f, e, n: e / n, "that spreads the wait for the first token over all of them: subtract TTFT, and count n - 1."),
    Mistake(lambda f, e, n: e / (n - 1) if n > 1 else 0.0, "the clock of TPOT starts at the first token: subtract TTFT."),
    Mistake(lambda f, e, n: 1000 * (n - 1) / (e - f) if e > f else 0.0, "that is its inverse, tokens per second; asked are milliseconds per token."),
    Mistake(lambda f, e, n: (n - 1) / (e - f) if e > f else 0.0, "upside down: time over intervals."),
    Mistake(lambda f, e, n: (e - f) / (n - 1) / 1000 if n > 1 else 0.0, "right, in seconds; asked are milliseconds."),
)


def tpot(function: Callable, engine=None) -> Verdict:
    """tpot(ttft_ms, e2e_ms, tokens) -> milliseconds per token after the first."""
    verdict = grade("tpot", one_number(function), _ANSWERS, mistakes=_TPOT_MISTAKES, rel=1e-6, absolute=1e-9,
                    hint="the time from the first token to the last, divided by the intervals between them; 0 for a single token.",
                    done="1000 / TPOT is the rate that one user sees.")

    def trial():
        from gb10 import bench

        result = bench.measure(engine.url, model=engine.model, requests=5, max_tokens=24, warmup=0)
        answers = [r for block in result.groups[0].blocks.values() for r in block if r["tpot"]]
        if not answers:
            return "5 requests were sent, and none brought several tokens one after the other", None, None
        mine = [live.yours(function, r["ttft"] / 1000, r["e2e"] / 1000, r["n"]) for r in answers]
        got, row = median(map(float, mine)), result.rows[0]
        told = (f"{len(answers)} answers of {row['output_tokens'] / row['ok']:.0f} tokens: the median of your TPOT is {got:.4g} ms, the "
                f"benchmark's {row['tpot_ms']['p50']:.4g} ms")
        if row["tokens_per_event"] and row["tokens_per_event"] > 1.05:       # then its first event may have held several
            return told + f" ({row['tokens_per_event']:.1f} tokens an event: they count from different ones)", None, None
        return told, got, row["tpot_ms"]["p50"]

    # a tenth: one first event with two tokens in it moves the benchmark's figure by one interval
    return live.confirm(verdict, engine, trial, "right on paper, yet not on answers that the engine gave: does it work for any numbers?", rel=0.1)


# ---------------------------------------------------------------- exercise 9: the limit

def _limit(gbs, weights, kv, context, users):
    return users * gbs * 1e9 / (weights + users * context * kv)


_LIMITS = (
    Case((273.0, 5.15e9, 147456, 1024, 1), None, "about Qwen3-8B in NVFP4 on a Spark, one user"),
    Case((273.0, 5.15e9, 147456, 1024, 8), None, "eight users"),
    Case((273.0, 5.15e9, 147456, 32768, 8), None, "eight users with long conversations"),
    Case((273.0, 15.1e9, 147456, 0, 1), 273 / 15.1, "BF16, nothing in the cache yet"),
    Case((20.0, 27.3e6, 6144, 256, 4), None, "a small model on a laptop"),
)
_LIMIT_MISTAKES = (
    Mistake(lambda g, w, k, c, u: g * 1e9 / (w + u * c * k), "that is steps per second. A step gives each user a token: multiply by users."),
    Mistake(lambda g, w, k, c, u: g * 1e9 / (w + c * k),
            "that is what one user gets alone. In a batch the weights are read once for all; each user adds a KV cache, and gets a token."),
    Mistake(lambda g, w, k, c, u: u * g * 1e9 / (w + c * k), "the weights are shared, the KV caches are not: users * context * kv_per_token."),
    Mistake(lambda g, w, k, c, u: u * g * 1e9 / w, "the KV cache is read in every step, too."),
    Mistake(lambda g, w, k, c, u: u * g / (w + u * c * k), "GB/s are 1e9 bytes per second."),
    Mistake(lambda g, w, k, c, u: u * g * 2**30 / (w + u * c * k), "GB/s count 1e9 bytes; 2**30 would be GiB."),
    Mistake(lambda g, w, k, c, u: u * g * 1e9 / (w + u * k), "kv_per_token is for one token of the context; a conversation has `context` of them."),
    Mistake(lambda g, w, k, c, u: (w + u * c * k) / (g * 1e9), "those are seconds per step; asked are tokens per second."),
    Mistake(lambda g, w, k, c, u: u * g * 1e9 / (w + u * c * k) / 8, "the bytes are bytes: nothing to divide by 8."),
)


def limit(function: Callable, engine=None, bandwidth_gbs: float | None = None) -> Verdict:
    """limit(bandwidth_gbs, weight_bytes, kv_per_token, context, users) -> tokens per second of all users, at most.

    bandwidth_gbs: of the memory that the engine reads, for the live trial.
    """
    cases = [Case(c.args, _limit(*c.args) if c.expected is None else c.expected, c.name) for c in _LIMITS]
    verdict = grade("limit", one_number(function), cases, mistakes=_LIMIT_MISTAKES, rel=1e-6,
                    hint="bytes of a step: weight_bytes + users * context * kv_per_token; steps per second: bandwidth / bytes; each step gives "
                         "`users` tokens.", done="no engine can be above it, and how far below is what a benchmark tells.")

    def trial():
        from gb10 import bench, roofline
        from gb10.bench import roof

        if not bandwidth_gbs:
            return "not tried: no bandwidth was given", None, None
        try:
            shape, weights = roof.find_model(engine.model)
        except ValueError as e:
            return f"not tried: {e}", None, None
        row = bench.measure(engine.url, model=engine.model, requests=5, max_tokens=24, warmup=0).rows[0]
        if not row["user_tps"]:
            return "5 requests were sent, and none brought several tokens one after the other", None, None
        fmt = weights or roofline.fit(shape, machine="gb10").weights
        figures = (bandwidth_gbs, roofline.read_weights(shape, fmt), roofline.kv_bytes_per_token(shape), 32, 1)
        got = live.yours(lambda *given: float(function(*given)), *figures)
        told = (f"{engine.model} as {fmt}: {row['user_tps']:.4g} tokens/s measured, {got:.4g} by your limit: {row['user_tps'] / got:.0%}"
                + (", so something is not as assumed" if row["user_tps"] > got else ""))
        return told, got, _limit(*figures)

    return live.confirm(verdict, engine, trial, "right on paper, yet not on the model that is served: does it work for any numbers?")
