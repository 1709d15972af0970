"""Reports of made-up runs: HTML, Markdown, CSV and the leaderboard, on much, little, nothing, and on bad words."""

import csv as csv_module
import io
import json
import math
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gb10.bench import journal
from gb10.bench.buckets import bucket
from gb10.bench.figures import P99_NEEDS
from gb10.bench.flight import LAG_BITS
from gb10.bench.report import axes, csv, html, leaderboard, markdown, pictures, style, svg, table, timeline, verdicts, words
from gb10.bench.summary import figures, result
from gb10.errors import UserError

GIB = 2**30
EVIL = '<script>alert("x")</script>'


# ---------------------------------------------------------------- a generator of runs

def make(under, cells=((0, 1, 20), (0, 4, 60), (0, 16, 160)), *, engines=("vLLM",), models=None, tokens=128, errors=(),
         telemetry=True, seed=0, lag_us=40, per_event=1, speed=(1.0, 0.8), rate=None, pause=0.0, **meta):
    """A run on disk. cells: (endpoint, concurrency, requests); errors: (class, why), each spread over the requests."""
    rng = random.Random(seed)
    models = models or ["nvidia/Qwen3-8B-NVFP4"] * len(engines)
    given = {
        "id": "20261127-101500-vllm-qwen3-8b", "created": "2026-11-27T10:15:00+00:00", "label": None,
        "ended": "2026-11-27T10:20:00+00:00",
        "endpoints": [{"engine": e, "url": f"http://127.0.0.1:{8002 + n}/v1", "model": m, "version": "0.28.0", "image": None,
                       "fields": ["max_tokens", "ignore_eos", "stream_options.include_usage"], "rejected": ["min_tokens"]}
                      for n, (e, m) in enumerate(zip(engines, models, strict=True))],
        "workload": {"prompt_tokens": 512, "max_tokens": tokens, "fixed_length": True, "cold": True, "temperature": 0,
                     "api": "chat", "turns": 1, "extra": {}},
        "slo": None, "seed": 0,
        "machine": {"rung": "spark", "gpus": [{"name": "NVIDIA GB10"}], "memory_total_bytes": 128_500_000_000, "cores": 20,
                    "system": "Linux", "arch": "aarch64", "python": "3.11.7"},
        "client": {"gb10": "0.1.0", "python": "3.11.7", "stamps": "kernel"},
        "cells": [{"cell": n, "endpoint": e, "concurrency": c, "rate": rate, "requests": r, "seconds": None, "block": 0}
                  for n, (e, c, r) in enumerate(cells)],
        "notes": [], "roofline": None} | meta
    run = journal.Run.create(given, Path(under))
    unix, number, lines = 1_795_774_500.0, 0, []
    for cell, (endpoint, concurrency, requests) in enumerate(cells):
        lines.append({"k": "start", "cell": cell, "unix": unix})
        free, end = [0.0] * concurrency, 0.0
        for i in range(requests):
            slot = min(range(concurrency), key=free.__getitem__)
            row = answer(rng, cell, i, slot, free[slot], concurrency, tokens, speed[endpoint], lag_us, per_event)
            if rate:
                row["sched"] = row["send"]
            number += 1
            if errors and number % 17 == 0:
                kind, why = errors[number // 17 % len(errors)]
                row = {k: row[k] for k in ("k", "cell", "i", "slot", "send", "end")} | {"err": kind, "why": why}
            lines.append(row)
            free[slot] += row["end"] / 1e6 + 0.0004
            end = max(end, free[slot])
        lines.append({"k": "end", "cell": cell})
        if telemetry:
            power(run, rng, unix, end, concurrency)
        unix += end + 3 + (pause if cell == 0 else 0)
    run.journal.write_text("".join(json.dumps(row) + "\n" for row in lines))
    return journal.Run.open(run.folder)


def answer(rng, cell, i, slot, start, concurrency, tokens, speed, lag_us, per_event):
    """The line of one request that went well."""
    crowd = concurrency ** 0.42
    ttft = int((55 + 6 * concurrency) * 1000 * rng.lognormvariate(0, 0.22) / speed)
    step = 11_800 * (0.78 + 0.22 * crowd) / speed * rng.lognormvariate(0, 0.02) * per_event
    gaps = [int(step * rng.lognormvariate(0, 0.05)) for _ in range(tokens // per_event - 1)]
    if rng.random() < 0.15 and gaps:
        gaps[rng.randrange(len(gaps))] *= rng.choice((3, 6, 9))
    e2e = ttft + sum(gaps)
    events = len(gaps) + 1
    lag: dict[str, int] = {}
    for _ in range(events):
        b = str(bucket(int(lag_us * rng.lognormvariate(0, 0.4)), LAG_BITS))
        lag[b] = lag.get(b, 0) + 1
    row = {"k": "req", "cell": cell, "i": i, "slot": slot, "send": int(start * 1e6), "end": e2e + 900, "ttfr": ttft - 300,
           "ttft": ttft, "e2e": e2e, "n": tokens, "n_src": "usage", "events": events, "reads": events, "gaps": gaps, "lag": lag,
           "isl": 512, "cached": 0, "finish": "length"}
    return row | ({"n_first": per_event} if per_event > 1 else {})


def power(run, rng, unix, seconds, concurrency):
    with open(run.telemetry, "a") as f:
        for n in range(int((seconds + 3) * 2)):
            t = unix + n / 2
            busy = t < unix + seconds
            watts = (24 + 9 * math.log2(concurrency + 1) + rng.gauss(0, 1.2)) if busy else 20 + rng.gauss(0, 0.6)
            used = (58 + 1.6 * math.log2(concurrency + 1) + rng.gauss(0, 0.05)) * GIB
            f.write(json.dumps({"unix": t, "mem_total": 119.7 * GIB, "mem_available": 119.7 * GIB - used, "swap_used": 0,
                                "page_cache": 9 * GIB, "gpus": [
                                    {"w": round(watts, 1), "sm_mhz": 2400, "temp_c": 61, "util": 95,
                                     "throttle": ["power_cap"] if watts > 61 else [], "energy_mj": None,
                                     "mem_procs": used - 12 * GIB}]}) + "\n")
