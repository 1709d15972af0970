"""The efficiency audit: a claim that can fail, whether two runs did the same work, and what the figures say about the claim.

A claim names who shall be faster, in what, and by how much at least. It is judged by the 95 % interval of the benchmark's
comparison (gb10.bench.compare: interleaved blocks, paired bootstrap): confirmed when the whole interval lies beyond that
least effect, refuted when all of it lies below, not shown when the least effect lies inside. Where the two sides did not do
the same work, nothing is judged.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from math import exp, log
from statistics import fmean, median

from gb10.explore import figure

CONFIRMED, REFUTED, NOT_SHOWN, NOT_COMPARABLE = "confirmed", "refuted", "not shown", "not comparable"
TTFT, SPEED, WHOLE = "time to first token", "tokens per second of one user", "time of a whole answer"     # as compare.METRICS has them
TOLERANCE = 0.05                 # of a prompt: chat templates differ by some tokens, and their first ones come from any cache
COLOUR = {CONFIRMED: figure.GREEN, REFUTED: figure.RED, NOT_SHOWN: figure.GREY, NOT_COMPARABLE: figure.GREY}


@dataclass(frozen=True)
class Claim:
    """`faster` is at least `least` times as fast as `slower` in `metric`: places of the endpoints in the run, 0, 1, …"""

    faster: int
    slower: int
    metric: str = TTFT
    least: float = 1.10

    def __post_init__(self):
        if not self.least >= 1 or self.faster == self.slower:
            raise ValueError("a claim names two different sides, and a factor of 1 or more")


@dataclass(frozen=True)
class Finding:
    """The outcome, and a sentence. low, ratio, high: how many times as fast the claimed side was; 0 where nothing was judged."""

    outcome: str
    text: str
    low: float = 0.0
    ratio: float = 0.0
    high: float = 0.0

    def __str__(self) -> str:
        return f"{self.outcome}: {self.text}"


# ---------------------------------------------------------------- the same work?

def work(row: dict) -> dict:
    """What one row of a bench.Result did, for each request: tokens read, read from a cache, written; requests in flight, failed."""
    ok, prompt = row["ok"] or 0, row["input_tokens"] or {}
    failed = sum(n for kind, n in row["errors"].items() if kind != "short")
    return {"prompt_tokens": prompt.get("p50"), "cached_tokens": row["cached_tokens"] / ok if ok else 0.0,
            "output_tokens": row["output_tokens"] / ok if ok else 0.0, "in_flight": row["concurrency"], "failed": failed,
            "short": row["errors"].get("short", 0), "ok": ok}


def differences(a: dict, b: dict) -> list[str]:
    """Why two rows can't be held against each other, a sentence each; [] where they did the same work."""
    one, two, out = work(a), work(b), []
    for side, w in (("first", one), ("second", two)):
        if not w["ok"]:
            out.append(f"no request of the {side} came to its end")
        elif w["failed"] or w["short"]:
            out.append(f"{w['failed'] + w['short']} requests of the {side} failed or ended early")
    if out and not (one["ok"] and two["ok"]):
        return out
    p, q = one["prompt_tokens"], two["prompt_tokens"]
    if p is None or q is None:
        out.append("a server doesn't say how many tokens its prompts had")
    elif abs(p - q) > TOLERANCE * max(p, q):
        out.append(f"the prompts had {p:.0f} and {q:.0f} tokens")
    if max(one["cached_tokens"], two["cached_tokens"]) > TOLERANCE * max(p or 0, q or 0):
        out.append(f"{one['cached_tokens']:.0f} and {two['cached_tokens']:.0f} tokens of each prompt came from a cache")
    if abs(one["output_tokens"] - two["output_tokens"]) >= 0.5:
        out.append(f"the answers had {one['output_tokens']:.1f} and {two['output_tokens']:.1f} tokens")
    if one["in_flight"] != two["in_flight"]:
        out.append(f"{one['in_flight']} and {two['in_flight']} requests were in flight")
    return out


# ---------------------------------------------------------------- the claim

def verdict(result, claim: Claim, concurrency: int | None = None) -> Finding:
    """What a bench.Result of several endpoints says about a claim, at one concurrency (None: the lowest)."""
    level = min(r["concurrency"] for r in result.rows) if concurrency is None else concurrency
    sides = {r["endpoint"]: r for r in result.rows if r["concurrency"] == level and r["rate"] is None}
    if claim.faster not in sides or claim.slower not in sides:
        return Finding(NOT_COMPARABLE, "the run has no figures of both sides.")
    a, b = sides[claim.faster], sides[claim.slower]
    if apart := differences(a, b):
        return Finding(NOT_COMPARABLE, "; ".join(apart) + ".")
    row, turned = _row(result, claim, level)
    if row is None:
        return Finding(NOT_COMPARABLE, f"the run has no {claim.metric} of both sides.")
    low, ratio, high = (1 / row["high"], 1 / row["ratio"], 1 / row["low"]) if turned else (row["low"], row["ratio"], row["high"])
    found = judge(claim, low, ratio, high)
    if a["times_doubtful"] or b["times_doubtful"]:      # noise on both sides, not another work: the interval has grown by it
        found = replace(found, text=found.text + " The client was late in reading, which is part of these times: the machine is busy.")
    return found


def judge(claim: Claim, low: float, ratio: float, high: float) -> Finding:
    """The claim against a 95 % interval of how many times as fast its side was."""
    short = [f"{v:.2f}" if v >= 0.1 else f"{v:.2g}" for v in (ratio, low, high)]
    said = f"{short[0]} times as fast in {claim.metric} (95 %: {short[1]} to {short[2]}), asked was {claim.least:.2f} at least"
    if low >= claim.least:
        return Finding(CONFIRMED, f"{said}.", low, ratio, high)
    if high < claim.least:
        more = ". It is slower" if high < 1 else ". It is faster, by less than that" if low > 1 else ""
        return Finding(REFUTED, f"{said}{more}.", low, ratio, high)
    return Finding(NOT_SHOWN, f"{said}. That lies inside the interval: more blocks, or a quieter machine, would tell.", low, ratio, high)


def _row(result, claim: Claim, level: int) -> tuple[dict | None, bool]:
    """The comparison of the two sides, and whether it is told the other way round (the claimed side second).

    The rows of a comparison come pair by pair, (0, 1), (0, 2), (1, 2), a row for each metric; names need not differ.
    """
    present = sorted({r["endpoint"] for r in result.rows if r["concurrency"] == level and r["rate"] is None})
    rows = [r for r in result.comparison if r["concurrency"] == level and r["rate"] is None and r["metric"] == claim.metric]
    pairs = [(i, j) for n, i in enumerate(present) for j in present[n + 1:]]
    if len(rows) != len(pairs):
        return None, False
    wanted = tuple(sorted((claim.faster, claim.slower)))
    return next((row, claim.faster > claim.slower) for pair, row in zip(pairs, rows, strict=True) if pair == wanted)


# ---------------------------------------------------------------- one after the other, or in turns

def drifting(order: str, *, slower: float = 0.0, warmer: float = 0.02, noise: float = 0.01, seed: int = 0) -> dict[str, list[float]]:
    """Made-up times of engines A and B, measured block by block in this order, on a machine that gets slower all the while.

    Every block of either takes 1, plus `warmer` for each block before it; B's take `slower` more. Returns engine -> times.
    """
    if not order or set(order) - {"A", "B"}:
        raise ValueError("an order is made of the letters A and B")
    rng, out = random.Random(seed), {"A": [], "B": []}
    for n, engine in enumerate(order):
        out[engine].append((1 + warmer * n) * (1 + (slower if engine == "B" else 0)) * (1 + rng.gauss(0, noise)))
    return out


def median_ratio(times: dict[str, list[float]]) -> float:
    """Median of B's times over the median of A's: how much slower B looks."""
    return median(times["B"]) / median(times["A"])


def paired_ratio(times: dict[str, list[float]]) -> float:
    """The same from pairs: the geometric mean of B over A, block by block in the order of the measurement."""
    return exp(fmean(log(b / a) for a, b in zip(times["A"], times["B"], strict=True)))


# ---------------------------------------------------------------- how many bits a weight takes

def bits_per_weight(stored_bytes: int, parameters: int) -> float:
    """Bits for each of a model's parameters, everything that is stored counted: scales, and what was left in BF16."""
    return 8 * stored_bytes / parameters


# ---------------------------------------------------------------- pictures

def draw(findings: dict[str, Finding], least: float):
    """Figure: for each claim the interval, no difference at 1, and the least effect that was asked."""
    judged = {name: f for name, f in findings.items() if f.ratio}
    fig, ax = figure.new(8, 1.3 + 0.45 * max(1, len(judged)))
    for n, f in enumerate(judged.values()):
        ax.plot([f.low, f.high], [n, n], color=COLOUR[f.outcome], linewidth=3)
        ax.plot([f.ratio], [n], marker="o", color=COLOUR[f.outcome])
    ax.axvline(1, color=figure.GREY)
    ax.axvline(least, color=figure.ORANGE, linestyle="--")
    ax.set_xscale("log")
    ends = [v for f in judged.values() for v in (f.low, f.high)] + [0.8, 1.25]
    low, high = min(ends) / 1.1, max(ends) * 1.1
    ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 0.8, 1, 1.25, 2, 5, 10, 20) if low <= t <= high]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.set(xlim=(low, high), ylim=(len(judged) - 0.5, -0.5), xlabel="times as fast, with 95 % interval; dashed: asked")
    ax.set_yticks(range(len(judged)), judged)
    return fig


def show(findings: dict[str, Finding], least: float):
    """The picture of several findings; a sentence where none of them has an interval."""
    if not any(f.ratio for f in findings.values()):
        return "Nothing was judged: " + " ".join(f"{name}: {f}" for name, f in findings.items())
    said = " ".join(f"{name}: {f}" for name, f in findings.items())
    return figure.show(draw(findings, least), f"Intervals of how many times as fast. {said}")
