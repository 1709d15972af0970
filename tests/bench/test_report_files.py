"""Reports of made-up runs: HTML, Markdown, CSV, leaderboard; of much, little, nothing, and bad words."""

import csv as csv_module
import io
import json
import math
import random
import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gb10.bench import journal
from gb10.bench.buckets import bucket
from gb10.bench.explain import DEFINITIONS
from gb10.bench.figures import P99_NEEDS
from gb10.bench.flight import LAG_BITS
from gb10.bench.report import axes, csv, html, leaderboard, markdown, style, svg, table, timeline, words
from gb10.bench.summary import figures, result
from gb10.errors import UserError

GIB = 2**30
EVIL = '<script>alert("x")</script>'


# ---------------------------------------------------------------- a generator of runs

def make(under, cells=((0, 1, 20), (0, 4, 60), (0, 16, 160)), *, engines=("vLLM",), models=None, tokens=128,
         errors=(), telemetry=True, seed=0, lag_us=40, per_event=1, speed=(1.0, 0.8), rate=None, pause=0.0,
         stamps=None, **meta):
    """A run on disk. cells: (endpoint, concurrency, requests); errors: (class, why), spread over requests."""
    rng = random.Random(seed)
    models = models or ["nvidia/Qwen3-8B-NVFP4"] * len(engines)
    fields = ["max_tokens", "ignore_eos", "stream_options.include_usage"]
    given = {
        "id": "20261127-101500-vllm-qwen3-8b", "label": None,
        "created": "2026-11-27T10:15:00+00:00", "ended": "2026-11-27T10:20:00+00:00",
        "endpoints": [{"engine": e, "url": f"http://127.0.0.1:{8002 + n}/v1", "model": m, "version": "0.28.0",
                       "image": None, "fields": fields, "rejected": ["min_tokens"]}
                      for n, (e, m) in enumerate(zip(engines, models, strict=True))],
        "workload": {"prompt_tokens": 512, "max_tokens": tokens, "fixed_length": True, "cold": True,
                     "temperature": 0, "api": "chat", "turns": 1, "extra": {}},
        "slo": None, "seed": 0,
        "machine": {"rung": "spark", "gpus": [{"name": "NVIDIA GB10"}], "memory_total_bytes": 128_500_000_000,
                    "cores": 20, "system": "Linux", "arch": "aarch64", "python": "3.11.7"},
        "client": {"gb10": "0.1.0", "python": "3.11.7", "stamps": "kernel"},
        "cells": [{"cell": n, "endpoint": e, "concurrency": c, "rate": rate, "requests": r, "seconds": None,
                   "block": 0} for n, (e, c, r) in enumerate(cells)],
        "notes": [], "roofline": None} | meta
    run = journal.Run.create(given, Path(under))
    unix, number, lines = 1_795_774_500.0, 0, []
    for cell, (endpoint, concurrency, requests) in enumerate(cells):
        lines.append({"k": "start", "cell": cell, "unix": unix})
        free, end = [0.0] * concurrency, 0.0
        for i in range(requests):
            slot = min(range(concurrency), key=free.__getitem__)
            start = free[slot]
            row = answer(rng, start, concurrency, tokens, speed[endpoint], lag_us, per_event)
            row |= {"stamps": stamps} if stamps else {}
            row |= {"cell": cell, "i": i, "slot": slot}
            if rate:
                row["sched"] = row["send"]
            number += 1
            if errors and number % 17 == 0:
                kind, why = errors[number // 17 % len(errors)]
                row = {k: row[k] for k in ("k", "cell", "i", "slot", "send", "end")}
                row |= {"err": kind, "why": why}
            lines.append(row)
            free[slot] += row["end"] / 1e6 + 0.0004
            end = max(end, free[slot])
        lines.append({"k": "end", "cell": cell})
        if telemetry:
            power(run, rng, unix, end, concurrency)
        unix += end + 3 + (pause if cell == 0 else 0)
    run.journal.write_text("".join(json.dumps(row) + "\n" for row in lines))
    return journal.Run.open(run.folder)


def answer(rng, start, concurrency, tokens, speed, lag_us, per_event):
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
    row = {"k": "req", "send": int(start * 1e6), "end": e2e + 900, "ttfr": ttft - 300, "ttft": ttft,
           "e2e": e2e, "n": tokens, "n_src": "usage", "events": events, "reads": events, "gaps": gaps,
           "lag": lag, "isl": 512, "cached": 0, "finish": "length"}
    return row | ({"n_first": per_event} if per_event > 1 else {})


def power(run, rng, unix, seconds, concurrency):
    """Telemetry of a cell and of the rest after it."""
    crowd, rows = math.log2(concurrency + 1), []
    for n in range(int((seconds + 3) * 2)):
        busy = n / 2 < seconds
        watts = 24 + 9 * crowd + rng.gauss(0, 1.2) if busy else 20 + rng.gauss(0, 0.6)
        used = (58 + 1.6 * crowd + rng.gauss(0, 0.05)) * GIB
        gpu = {"w": round(watts, 1), "sm_mhz": 2400, "temp_c": 61, "util": 95, "energy_mj": None,
               "throttle": ["power_cap"] if watts > 61 else [], "mem_procs": used - 12 * GIB}
        rows.append({"unix": unix + n / 2, "mem_total": 119.7 * GIB, "mem_available": 119.7 * GIB - used,
                     "swap_used": 0, "page_cache": 9 * GIB, "gpus": [gpu]})
    with open(run.telemetry, "a") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)


ERRORS = (("http_503", "Service Unavailable"), ("truncated", "the server closed the connection"),
          ("short", "7 of 128 tokens, finish_reason stop"))


def comparison():
    row = {"metric": "tokens per second of one user", "unit": "tok/s", "a": "vLLM", "b": "Ollama",
           "concurrency": 4, "a_value": 84.6, "b_value": 64.6, "ratio": 1.31, "low": 1.27, "high": 1.36,
           "basis": "6 pairs of blocks", "verdict": "vLLM 1.31× (95 %: 1.27–1.36)"}
    other = {"metric": "time to first token", "unit": "ms", "ratio": 1.0, "low": 0.96, "high": 1.03,
             "verdict": "no difference shown (95 %: 0.96–1.03)"}
    return [row, row | other]


# Runs of every shape that a report must bear.
SHAPES = {
    "nothing": lambda under: make(under, cells=((0, 1, 0),), telemetry=False),
    "no cells": lambda under: make(under, cells=(), telemetry=False),
    "one request": lambda under: make(under, cells=((0, 1, 1),), telemetry=False),
    "one token": lambda under: make(under, cells=((0, 1, 3),), tokens=1),
    "only errors": lambda under: only_errors(make(under, cells=((0, 4, 5),))),
    "some errors": lambda under: make(under, errors=ERRORS, tokens=16, slo={"ttft": 500, "tpot": 50}),
    "ten cells": lambda under: make(under, cells=[(0, c, 12) for c in range(1, 11)], tokens=12, pause=90_000),
    "two endpoints": lambda under: make(under, cells=[(e, c, 8) for c in (1, 4) for e in (0, 1, 1, 0)],
                                        tokens=16, engines=("vLLM", "Ollama")),
    "one engine twice": lambda under: make(under, cells=[(0, 1, 3), (1, 1, 3)], tokens=8,
                                           engines=("vLLM", "vLLM")),
    "bursts": lambda under: make(under, per_event=4, tokens=16, cells=((0, 2, 6),)),
    "open loop": lambda under: make(under, cells=((0, 8, 12),), tokens=8, rate=2.5),
    "slow client": lambda under: make(under, cells=((0, 2, 6),), tokens=32, lag_us=9000),
    "bare meta": lambda under: bare(make(under, cells=((0, 1, 2),), tokens=8)),
    "odd telemetry": lambda under: odd(make(under, cells=((0, 1, 2),), tokens=128)),
}


def only_errors(run):
    lines, refused = [], {"send": None, "err": "connect", "why": "Connection refused"}
    for row in run.rows():
        kept = {k: row[k] for k in ("k", "cell", "i", "slot", "end")} | refused if row["k"] == "req" else row
        lines.append(json.dumps(kept) + "\n")
    run.journal.write_text("".join(lines))
    return run


def bare(run):
    """What Run.open asks for, and no more."""
    kept = {k: run.meta[k] for k in ("id", "cells", "format", "version")}
    run.meta = kept | {"endpoints": [{}], "workload": {}}
    return run


def odd(run):
    unix = next(run.rows())["unix"]
    rows = [{}, {"unix": None}, {"unix": unix, "gpus": None},
            {"unix": unix, "gpus": [{"w": None, "throttle": None}]},
            {"unix": unix + 1, "mem_total": math.nan, "mem_available": 3, "gpus": [{"w": math.inf}, {}]},
            {"unix": unix + 1, "mem_total": 8 * GIB, "gpus": []}, {"unix": unix + 1, "gpus": "none"}]
    run.telemetry.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return run


@pytest.fixture(params=SHAPES)
def run(request, tmp_path):
    return SHAPES[request.param](tmp_path)


# ---------------------------------------------------------------- readers of the outcome

VOID = {"meta", "br", "hr", "img", "input", "link"}
LOADS = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class Reader(HTMLParser):
    """Checks that every tag is closed in its place, and keeps what a reader sees."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.ids, self.tags, self.attributes = [], [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.seen.append(data)

    @property
    def text(self):
        return "\n".join(self.seen)


def drawings(page):
    return re.findall(r"<svg .*?</svg>", page, re.DOTALL)


def check(page):
    """What must hold for each page. Returns its reader."""
    reader = Reader(page)
    assert len(reader.ids) == len(set(reader.ids))
    assert not {"script", "link", "iframe", "img", "object", "embed", "base", "form"} & set(reader.tags)
    assert not [a for a in reader.attributes if a[1] in LOADS or a[1].startswith("on")]
    assert "url(" not in page and "@import" not in page and "default-src 'none'" in page
    assert no_junk(reader.text)
    for drawing in drawings(page):
        assert_sound(drawing)
    return reader


def no_junk(text):
    """No value of a program where a figure or a word should stand. The definitions may say "none"."""
    for said in DEFINITIONS.values():
        text = text.replace(said, "")
    return not re.search(r"\b(nan|none|null|inf|infinity|undefined|true|false)\b", text, re.IGNORECASE)


def assert_sound(drawing):
    """Valid XML with a title and a description, and nothing but finite numbers."""
    root = ElementTree.fromstring(drawing)
    assert root.tag == "svg" and root.get("role") == "img"
    names = {child.get("id"): child.text for child in root if child.tag in ("title", "desc")}
    assert list(names) == root.get("aria-labelledby").split() and all(names.values())
    width, height = map(float, root.get("viewBox").split()[2:])
    assert not re.search(r"nan|inf|None", re.sub(r">[^<]*<", "><", drawing))
    for node in root.iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"):
            if node.get(name) is not None:
                limit = width if name in ("x", "x1", "x2", "cx", "width") else height
                assert -1 <= float(node.get(name)) <= limit + 1, (name, node.attrib)
    return root


# ---------------------------------------------------------------- the page

@pytest.mark.parametrize("with_comparison", [False, True])
def test_a_page_of_every_shape(run, with_comparison):
    groups = figures(run)
    before = run.journal.read_bytes()
    page = html.page(run, groups, comparison() if with_comparison else None,
                     ["A warning."] if with_comparison else ())
    reader = check(page)
    assert "What the numbers mean" in reader.text and "How it was measured" in reader.text
    assert ("Read these figures with care" in reader.text) == (with_comparison or
                                                               any(g.client_late for g in groups))
    assert ("vLLM 1.31× (95 %: 1.27–1.36)" in reader.text) == with_comparison
    assert run.journal.read_bytes() == before
    assert page == html.page(run, figures(run), comparison() if with_comparison else None,
                             ["A warning."] if with_comparison else ())


def test_what_a_reader_finds_and_in_what_order(tmp_path):
    run = make(tmp_path, errors=ERRORS, slo={"ttft": 500}, label="Anna", notes=["The clock was set."],
               ended=None,
               roofline=[{"endpoint": 0,
                          "text": "41 tok/s = 78 % of the 52 tok/s limit (234 GB/s / 4.5 GB)"}])
    text = check(html.page(run, figures(run), None, ["Other processes used the GPU."])).text
    order = ["vLLM, Qwen3-8B-NVFP4", "512 prompt tokens", "NVIDIA GB10, 20 cores",
             "27 November 2026, 10:15 UTC", "Anna",
             "Read these figures with care", "Other processes used the GPU.", "The clock was set.",
             "has not come to its end", "a single user", "78 % of the 52 tok/s limit",
             "Within the limits (TTFT ≤ 500 ms)",
             "Figures of each load", "16 at once", "http_503", "Service Unavailable", "System against user",
             "Time to first token", "Inter-token latency", "Over time", "Definitions", "How it was measured",
             "kernel", "Fields sent", "stream_options.include_usage", "Fields refused", "min_tokens",
             "machine.cores"]
    place = 0
    for words_ in order:
        place = text.find(words_, place)
        assert place >= 0, words_


def test_the_banner_for_a_slow_client(tmp_path):
    run = make(tmp_path, cells=((0, 2, 6),), tokens=32, lag_us=9000)
    groups = figures(run)
    assert groups[0].client_late
    text = check(html.page(run, groups)).text
    assert "Read these figures with care" in text and "2 at once: THIS CLIENT READS LATE" in text
    assert "READS LATE" in markdown.text(run, groups)
    quick = make(tmp_path, cells=((0, 2, 6),), tokens=32)
    assert "with care" not in html.page(quick, figures(quick)).split("</style>")[1]


def test_everything_from_outside_is_escaped(tmp_path):
    run = make(tmp_path, cells=((0, 1, 40), (1, 1, 40)), tokens=8, engines=(EVIL, "b" + EVIL),
               models=[f"x {EVIL}", EVIL],
               errors=(("http_500", EVIL), (EVIL, "why")), label=EVIL, notes=[EVIL], created=EVIL, id="run-1",
               slo={EVIL: 5, "ttft": 100}, roofline=[{"text": EVIL}],
               client={"gb10": EVIL, "python": EVIL, "stamps": EVIL})
    run.meta |= {"id": EVIL, "seed": EVIL, EVIL: {EVIL: [EVIL]}}
    run.meta["endpoints"][0] |= {"version": EVIL, "image": EVIL, "url": EVIL, "fields": [EVIL],
                                 "rejected": [EVIL]}
    run.meta["machine"] |= {"arch": EVIL, "gpus": [{"name": EVIL}]}
    run.meta["workload"] |= {"extra": {EVIL: EVIL}, "api": EVIL}
    run.telemetry.write_text(json.dumps({"unix": next(run.rows())["unix"],
                                         "gpus": [{"w": 1, "throttle": [EVIL]}]}) + "\n")
    evil = [dict.fromkeys(("metric", "unit", "a", "b", "basis", "verdict"), EVIL) | {
        "concurrency": 1, "ratio": 1.2, "low": 1.1, "high": 1.3, "a_value": 1, "b_value": 2}]
    groups = figures(journal.Run(run.folder, run.meta | {"slo": {"ttft": 100}}))
    page = html.page(run, groups, evil, [EVIL])
    assert check(page).text.count(EVIL) > 30 and "<script" not in page
    text = markdown.text(run, groups, evil, [EVIL])
    outside_code = re.sub(r"`[^`\n]*`", "", text)
    assert "<script" not in outside_code and "&lt;script&gt;" in outside_code
    assert EVIL in csv_rows(csv.text(run, groups))[0]["model"]


def test_characters_that_would_do_something(tmp_path):
    bad = "a\x1b[31mred\x00\u202eb\ud800 \n| c"
    run = make(tmp_path, cells=((0, 1, 2),), tokens=4)
    run.meta["label"], run.meta["endpoints"][0]["model"] = bad, bad
    groups = figures(run)
    for text in (html.page(run, groups, None, [bad]), markdown.text(run, groups, None, [bad]),
                 csv.text(run, groups)):
        assert not set("\x1b\x00\u202e\ud800") & set(text)
        text.encode()
    assert "a [31mred b | c" in check(html.page(run, groups)).text


def test_the_pages_colours_can_be_read():
    """WCAG: text 4.5 to 1 on every ground that it stands on, lines and markers 3 to 1, in both themes."""
    assert style.LIGHT.keys() == style.DARK.keys()
    for colours in (style.LIGHT, style.DARK):
        ratio = partial(contrast_in, colours)
        for ground in ("page", "card", "band0", "band1"):
            assert min(ratio("ink", ground), ratio("muted", ground)) >= 4.5, ground
            assert min(ratio(f"c{i}", ground) for i in range(8)) >= 3, ground
        for box in ("alarm", "note"):
            assert ratio(f"{box}-ink", box) >= 4.5 and ratio(f"{box}-rule", "page") >= 3
        assert ratio("axis", "card") >= 3
    used = set(re.findall(r"var\(--([\w-]+)\)", style.CSS)) - {"s"}
    assert used <= style.LIGHT.keys(), used - style.LIGHT.keys()


def contrast_in(colours, a, b):
    return contrast(colours[a], colours[b])


def contrast(a, b):
    def light(colour):
        parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
    a, b = sorted((light(a), light(b)))
    return (b + 0.05) / (a + 0.05)


def test_the_contrast_that_is_computed():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


# ---------------------------------------------------------------- the table

def cells(run, groups):
    return {c.heading: c.cells for c in table.columns(run.meta, groups)}


def test_a_p99_needs_a_hundred_values(tmp_path):
    run = make(tmp_path, cells=((0, 1, P99_NEEDS - 1), (0, 2, P99_NEEDS)), tokens=4)
    groups = figures(run)
    few, many = cells(run, groups)["TTFT, ms p99"]
    longest, p99 = groups[0].ttft.high / 1e3, groups[1].ttft.percentile(99) / 1e3
    assert few == (f"{longest:.1f}", "max") and many == (f"{p99:.1f}", "")
    assert "max" in check(html.page(run, groups)).text and "(max)" in markdown.text(run, groups)
    rows = csv_rows(csv.text(run, groups))
    assert rows[0]["ttft_p99_ms"] == "" and float(rows[0]["ttft_max_ms"]) == round(longest, 3)
    assert float(rows[1]["ttft_p99_ms"]) == pytest.approx(p99, abs=0.001)
    alone = make(tmp_path, cells=((0, 1, 5),), tokens=4)
    shown = cells(alone, figures(alone))
    assert "TTFT, ms max" in shown and "TTFT, ms p99" not in shown and shown["TTFT, ms max"][0][1] == ""


def test_a_gap_is_called_itl_only_where_it_is_one(tmp_path):
    single, bursts = (make(tmp_path, cells=((0, 1, 4),), tokens=64, per_event=n) for n in (1, 4))
    assert "ITL, ms p99" in cells(single, figures(single))
    assert "Inter-token latency" in html.page(single, figures(single))
    shown = html.page(bursts, figures(bursts))
    assert not any(name.startswith("ITL") for name in cells(bursts, figures(bursts)))
    assert "Inter-token latency" not in shown and "An event brought up to 4" in shown


def test_the_figures_of_the_table_are_those_of_the_run(tmp_path):
    run = make(tmp_path, errors=ERRORS, tokens=32)
    groups = figures(run)
    shown = cells(run, groups)
    assert [c[0] for c in shown["Load"]] == ["1 at once", "4 at once", "16 at once"]
    for i, g in enumerate(groups):
        d = g.to_dict()
        assert int(shown["Requests ok"][i][0]) == g.ok and int(shown["Requests sent"][i][0]) == g.requests
        wrong = int(shown["Requests errors"][i][0]) + int(shown["Requests short"][i][0])
        assert wrong == sum(d["errors"].values()) == g.requests - g.ok
        for heading, value in (("TTFT, ms p50", d["ttft_ms"]["p50"]), ("TTFT, ms p90", d["ttft_ms"]["p90"]),
                               ("TPOT, ms p50", d["tpot_ms"]["p50"]), ("Tokens/s one user", d["user_tps"]),
                               ("Tokens/s system", d["system_tps"])):
            assert float(shown[heading][i][0].replace(",", "")) == pytest.approx(value, rel=0.002), heading


# ---------------------------------------------------------------- Markdown and CSV

def test_markdown_of_every_shape(run):
    groups = figures(run)
    text = markdown.text(run, groups, comparison(), ["A | warning *loud*\n# not a heading"])
    assert text.startswith("## ") and text.endswith("\n") and no_junk(text)
    assert "A \\| warning \\*loud\\* # not a heading" in text and "\n# " not in text
    assert "vLLM 1.31× (95 %: 1.27–1.36)" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, lines
    if any(g.requests for g in groups):
        assert len(tables[0]) == 2 + len(groups)


def csv_rows(text):
    return list(csv_module.DictReader(io.StringIO(text)))


def test_csv_of_every_shape(run):
    groups = figures(run)
    text = csv.text(run, groups)
    rows = csv_rows(text)
    assert len(rows) == len(groups) and no_junk(text.replace("true", "").replace("false", ""))
    assert tuple(text.splitlines()[0].split(",")) == csv.COLUMNS and len(set(csv.COLUMNS)) == len(csv.COLUMNS)
    assert {"engine", "model", "concurrency", "errors", "ttft_p50_ms", "tpot_p99_ms",
            "gap_max_ms"} <= set(csv.COLUMNS)
    for row, g in zip(rows, groups, strict=True):
        assert int(row["requests"]) == g.requests and int(row["ok"]) == g.ok
        assert row["user_tps"] == ("" if g.user_tps is None else str(round(g.user_tps, 2)))


def test_csv_holds_no_formula(tmp_path):
    run = make(tmp_path, cells=((0, 1, 1),), tokens=4, models=["=cmd|'/c calc'!A1"], engines=("a,\"b\"",))
    row = csv_rows(csv.text(run, figures(run)))[0]
    assert row["model"] == "'=cmd|'/c calc'!A1" and row["engine"] == 'a,"b"'


# ---------------------------------------------------------------- pictures

def test_lines_are_told_apart_without_colour():
    series = [svg.Series(f"s{i}", [(1, i), (2, i + 1)], i) for i in range(10)]
    root = assert_sound(svg.lines(series, key="k", title="t", desc="d", x="x, s", y="y, m"))
    looks = []
    for g in root.iter("g"):
        line, dot = (next((n for n in g if n.get("class") == name), None) for name in ("line", "dot"))
        if line is not None and dot is not None:                         # an entry of the legend
            looks.append((line.get("stroke-dasharray"), shape(dot)))
    assert len(looks) == len(set(looks)) == 10
    assert len({dash for dash, _ in looks}) == 5 and len({mark for _, mark in looks}) >= 6
    texts = [t.text for t in root.iter("text")]
    assert "x, s" in texts and "y, m" in texts and "s9" in texts


def shape(dot):
    """A marker wherever it stands: its corners from the first one."""
    corners = [tuple(map(float, c.split())) for c in re.findall(r"[\d.]+ [\d.]+", dot.get("d", ""))]
    return tuple((round(x - corners[0][0]), round(y - corners[0][1])) for x, y in corners)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("points",
                         [[], [(0, 0)], [(5, 5)], [(1, 2), (1, 2)], [(math.nan, 1), (2, math.inf), (3, 4)],
                                    [(-3, 1), (0, 2), (7, 3)], [(1e-9, 1), (1e9, 2)],
                          [(10**400, 1), (None, 2)]])
def test_lines_bear_any_points(points, log):
    assert_sound(svg.lines([svg.Series("a & b", points, tips=("<t>",) * len(points),
                                       labels=("l",) * len(points))], key="k",
                           title="<t>", desc="d", x="x", y="y", log_x=log))


@pytest.mark.parametrize("width", [310, 480, 1030])
def test_a_distribution(width):
    curve = [(10 + i, i / 100) for i in range(101)]
    root = assert_sound(svg.ecdf([("much", curve, 100), ("little", curve, 99), ("nothing", [], 0)], key="k",
                                 title="t",
                                 desc="d", x="ms", width=width))
    tips = [t.text for t in root.iter("title")][1:]
    assert tips == ["much: 50% at or below 60", "much: 90% at or below 100", "much: 99% at or below 109",
                    "little: 50% at or below 60", "little: 90% at or below 100"]


@pytest.mark.parametrize("width", [330, 1030])
def test_intervals_stand_against_one(width):
    rows = [svg.Interval("better", 1.31, 1.27, 1.36, "said"), svg.Interval("worse", 0.5, 0.4, 0.6),
            svg.Interval("no difference", 1.0, 0.9, 1.1), svg.Interval("broken", math.inf, 0, math.nan)]
    root = assert_sound(svg.intervals(rows, key="k", title="t", desc="d", better=("B better", "A better"),
                                      width=width))
    at_one = float(root.find("line[@class='one']").get("x1"))
    groups = [g for g in root if g.tag == "g"]
    assert [g.get("class") for g in groups] == ["shown", "shown", "open"]
    places = [float(g.find("circle").get("cx")) for g in groups]
    assert places[0] > at_one > places[1] and places[2] == pytest.approx(at_one, abs=0.2)
    assert_sound(svg.intervals([], key="k", title="t", desc="d"))
    assert_sound(svg.intervals([svg.Interval("same", 1, 1, 1)], key="k", title="t", desc="d"))


def test_a_time_line_without_anything():
    assert_sound(svg.timeline([], [], 0, key="k", title="t", desc="d"))
    assert_sound(svg.timeline([svg.Panel("p", [svg.Track("a", [(0, None), (1, math.nan)])], (None, "x"))], [],
                              3, key="k",
                              title="t", desc="d"))


def test_ticks():
    assert axes.ticks(0, 812) == [0, 200, 400, 600, 800, 1000] and axes.ticks(0, 0.3) == [0, 0.1, 0.2, 0.3]
    assert axes.log_ticks(12, 180) == [10, 20, 50, 100, 200] and axes.log_ticks(0.001, 1e6)[1] == 0.01
    assert axes.time_ticks(90) == [0, 15, 30, 45, 60, 75, 90] and len(axes.time_ticks(1e7)) <= 7
    for low, high in ((0, 1e-7), (5, 5), (0, 0), (-3, 9), (1e12, 1e12 + 1), (99.9, 100)):
        ticks = axes.ticks(low, high)
        assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 12 and ticks == sorted(set(ticks))
    for low, high in ((1, 1), (3, 3), (0, 0), (1e-9, 1e9), (2, 2.1)):
        ticks = axes.log_ticks(low, high)
        assert 2 <= len(ticks) and ticks[0] <= max(low, 1e-9) and ticks[-1] >= high


# ---------------------------------------------------------------- over time

def test_the_time_line_holds_every_token_and_sample(tmp_path):
    run = make(tmp_path, cells=((0, 1, 3), (0, 4, 8)), tokens=64)
    groups = figures(run)
    line = timeline.build(run, groups)
    track = line.panels[0].tracks[0]
    assert sum(v * min(track.step, line.length - t) for t, v in track.points) == pytest.approx(11 * 64)
    assert [p.title for p in line.panels] == ["tokens per second", "memory, GiB", "GPU power, W"]
    assert [b.names[0] for b in line.bands] == ["1 at once", "4 at once"] and not line.cuts
    used = max(v for _, v in line.panels[1].tracks[0].points if v)
    assert 59 < used < 64 and line.panels[1].limit == (pytest.approx(119.7), "total 119.7")
    assert any("Memory in use" in said for said in line.said) and any("not the wall socket" in said
                                                                      for said in line.said)


def test_a_pause_is_cut_out_and_a_long_run_is_thinned(tmp_path):
    run = make(tmp_path, cells=((0, 1, 300), (0, 2, 2)), tokens=128, pause=86_400, telemetry=False)
    line = timeline.build(run, figures(run))
    assert 300 < line.length < 700 and [what for _, what in line.cuts] == ["a pause of 24 hours is left out"]
    track = line.panels[0].tracks[0]
    assert len(track.points) <= timeline.BINS and track.step > 1
    assert sum(v * min(track.step, line.length - t) for t, v in track.points) == pytest.approx(302 * 128)
    assert line.said == ["No telemetry: memory and power were not recorded while requests ran."]
    assert len(html.page(run, figures(run))) < 300_000


def test_telemetry_without_a_gpu(tmp_path):
    run = make(tmp_path, cells=((0, 1, 2),), tokens=64)
    rows = [row | {"gpus": []} for row in run.samples()]
    run.telemetry.write_text("".join(json.dumps(r) + "\n" for r in rows))
    line = timeline.build(run, figures(run))
    assert [p.title for p in line.panels] == ["tokens per second", "memory, GiB"]
    assert any("no NVIDIA GPU reported any" in said for said in line.said)


# ---------------------------------------------------------------- words

@pytest.mark.parametrize("value, shown", [(None, "–"), (math.nan, "–"), (-math.inf, "–"), (10**400, "–"),
                                          (True, "–"), ("5", "–"),
                                          (0, "0.000"), (0.0412, "0.041"), (12.345, "12.35"),
                                          (412.3, "412.3"),
                                          (12345.6, "12,346")])
def test_numbers(value, shown):
    assert words.number(value) == shown


def test_dates_and_sizes():
    assert words.when("2026-11-27T10:15:00+01:00") == "27 November 2026, 10:15 UTC+01:00"
    assert words.when("yesterday") == "yesterday" and words.when(None) == "" and words.when(5) == "5"
    assert words.size(119.7 * GIB) == "119.7 GiB" and words.size(None) == "–"
    assert words.counted(1, "request") == "1 request" and words.counted(2000, "request") == "2,000 requests"
    assert words.plain("x" * 500, 10) == "xxxxxxxxx…" and words.plain("x" * 10, 10) == "x" * 10


# ---------------------------------------------------------------- the leaderboard

def seat(under, number, **changes):
    given = {"cells": ((0, 4, 12),), "tokens": 16, "seed": number, "id": f"run-{number}"} | changes
    return make(under, **given)


def test_the_fastest_system_comes_first(tmp_path):
    runs = [seat(tmp_path, n, label=name, speed=(speed, 1)) for n, (name, speed) in
            enumerate((("Anna", 1.0), ("Ben", 1.5), (None, 1.2)))]
    found = leaderboard.entries([r.folder for r in runs])
    [(ranked, others)] = leaderboard.races(found)
    assert [e.name for e in ranked][::2] == ["Ben", "Anna"] and not others
    assert re.fullmatch(r"seat [0-9a-f]{4}", ranked[1].name)
    assert [e.system_tps for e in ranked] == sorted((figures(r)[0].to_dict()["system_tps"] for r in runs),
                                                    reverse=True)
    text, page = leaderboard.table(found), leaderboard.page(found)
    assert text.index("Ben") < text.index(ranked[1].name) < text.index("Anna")
    assert "NVFP4" in text and "vLLM" in text
    assert "Qwen3-8B: 512 prompt tokens, 16 answer tokens, 4 at once" in text
    seen = check(page).text
    assert seen.index("Ben") < seen.index("Anna")
    for shown in (text, page):
        assert "127.0.0.1" not in shown and "://" not in shown and "run-1" not in shown


def test_only_like_is_ranked_with_like(tmp_path):
    runs = [seat(tmp_path, 0), seat(tmp_path, 1, models=["Qwen/Qwen3-8B-FP8"]),
            seat(tmp_path, 2, models=["qwen3:8b-q4_K_M"],
            engines=("Ollama",)), seat(tmp_path, 3, models=["nvidia/Qwen3-14B-NVFP4"]),
            seat(tmp_path, 4, tokens=32),
            seat(tmp_path, 5, cells=((0, 8, 12),)), seat(tmp_path, 6, rate=2.0)]
    warm = seat(tmp_path, 7)
    warm.meta["workload"]["cold"] = False
    warm.save()
    found = leaderboard.races(leaderboard.entries([r.folder for r in [*runs, warm]]))
    assert [len(ranked) for ranked, _ in found] == [3, 1, 1, 1, 1, 1]
    assert {e.format for e in found[0][0]} == {"NVFP4", "FP8", "Q4_K_M"}
    assert any("warm prefix cache" in e.workload for ranked, _ in found for e in ranked)


@pytest.mark.parametrize("name, parts", [
    ("nvidia/Qwen3-8B-NVFP4", ("Qwen3-8B", "NVFP4")), ("qwen3:8b", ("qwen3:8b", "")),
    ("qwen3:latest", ("qwen3", "")),
    ("llama3.3:70b-instruct-q4_K_M", ("llama3.3:70b-instruct", "Q4_K_M")),
    ("unsloth/Qwen3-8B-GGUF:Q8_0", ("Qwen3-8B", "GGUF Q8_0")),
    ("/home/me/models/Qwen3-8B-Q4_K_M.gguf", ("Qwen3-8B", "Q4_K_M")), ("NVFP4", ("NVFP4", "NVFP4")),
    ("openai/gpt-oss-20b", ("gpt-oss-20b", ""))])
def test_model_and_format(name, parts):
    assert leaderboard.split(name) == parts


def test_errors_and_a_slow_client_are_not_ranked(tmp_path):
    good, failed = seat(tmp_path, 0), seat(tmp_path, 1, label="Dora", cells=((0, 4, 40),), errors=ERRORS[:2])
    slow = seat(tmp_path, 2, label="Carl", lag_us=9000, stamps="user")
    late = seat(tmp_path, 4, label="Emil", lag_us=9000)        # but the kernel dated what came
    short = seat(tmp_path, 3, cells=((0, 4, 40),), errors=ERRORS[2:])
    found = leaderboard.entries([r.folder for r in (good, failed, slow, short, late)])
    [(ranked, others)] = leaderboard.races(found)
    assert len(ranked) == 3 and {e.name for e in others} == {"Carl", "Dora"}
    text, seen = leaderboard.table(found), check(leaderboard.page(found)).text
    for shown in (text, seen):
        assert "2 of 40 requests failed (http_503 1, truncated 1)" in shown
        assert "the client read late" in shown
        assert shown.index("Not ranked") < shown.index("Carl") and "(2 short)" in shown


def test_a_json_file_and_its_folder_are_one_entry(tmp_path):
    run = seat(tmp_path, 0, cells=((0, 1, 4), (0, 4, 8)))
    file = tmp_path / "result.json"
    file.write_text(json.dumps(result(run)))
    both = leaderboard.entries([run.folder, file, run.folder / "meta.json", str(file)])
    assert both == leaderboard.entries([file]) == leaderboard.entries([run.folder]) and len(both) == 2


def test_two_seats_of_one_second_stay_two(tmp_path):
    a, b = seat(tmp_path / "a", 0, id="same"), seat(tmp_path / "b", 1, id="same")
    names = [e.name for e in leaderboard.entries([a.folder, b.folder])]
    assert len(set(names)) == 2 and names[1] == f"{names[0]} (2)"


def test_nothing_to_rank(tmp_path):
    assert leaderboard.table([]) == leaderboard.NO_RUNS + "\n"
    assert leaderboard.NO_RUNS in check(leaderboard.page([])).text
    assert leaderboard.entries([seat(tmp_path, 0, cells=((0, 1, 0),)).folder]) == []


def test_a_leaderboard_escapes_and_tells_no_place(tmp_path):
    a = seat(tmp_path, 0, label=EVIL, engines=(EVIL,), models=[f"org/{EVIL}"])
    b = seat(tmp_path, 1, label="http://spark-3.local:8002", engines=("10.0.0.7:8000",),
             models=["http://spark-3.local/m/Qwen3-8B"])
    c = seat(tmp_path, 2, label="x\x1b[2J")
    found = leaderboard.entries([r.folder for r in (a, b, c)])
    page, text = leaderboard.page(found), leaderboard.table(found)
    assert EVIL in check(page).text and "\x1b" not in text + page
    for shown in (page, text):
        assert "spark-3" not in shown and "10.0.0.7" not in shown and "://" not in shown


def broken(tmp_path):
    good = result(seat(tmp_path, 0))
    row, meta = good["runs"][0], good["meta"]
    without = {k: v for k, v in row.items() if k != "system_tps"}
    return {
        "no JSON": "hello", "cut off": json.dumps(good)[:-40], "a list": "[]", "a number": "5",
        "foreign": '{"runs": []}',
        "deep": "[" * 100_000, "another version": json.dumps({"runs": [row], "meta": meta | {"version": 2}}),
        "no id": json.dumps({"runs": [row], "meta": {k: v for k, v in meta.items() if k != "id"}}),
        "rows are numbers": json.dumps({"runs": [1], "meta": meta}),
        "a figure is missing": json.dumps({"runs": [without], "meta": meta}),
        "a figure is no number": json.dumps({"runs": [row | {"system_tps": "fast"}], "meta": meta}),
        "a figure is NaN": json.dumps({"runs": [row | {"system_tps": math.nan}], "meta": meta}),
        "a figure is huge": json.dumps({"runs": [row | {"system_tps": 10**400}], "meta": meta}),
        "negative": json.dumps({"runs": [row | {"user_tps": -1}], "meta": meta}),
        "errors are a list": json.dumps({"runs": [row | {"errors": ["x"]}], "meta": meta}),
        "no such endpoint": json.dumps({"runs": [row | {"endpoint": 7}], "meta": meta}),
        "model is a list": json.dumps({"runs": [row],
                                       "meta": meta | {"endpoints": [{"engine": "x", "model": []}]}}),
    }


def test_broken_and_foreign_files_are_refused_and_left_alone(tmp_path):
    for name, content in broken(tmp_path).items():
        file = tmp_path / f"{name}.json"
        file.write_text(content)
        with pytest.raises(UserError) as e:
            leaderboard.entries([file])
        assert str(file) in str(e.value) and "\n" not in str(e.value) and file.read_text() == content, name
    binary = tmp_path / "binary.json"
    binary.write_bytes(bytes(range(256)))
    for path in (binary, tmp_path / "absent.json", tmp_path, "/dev/null"):
        with pytest.raises(UserError, match=re.escape(str(path))):
            leaderboard.entries([path])


def test_a_run_folder_that_was_tampered_with(tmp_path):
    for cells_ in ([{"cell": 0}], [5], [{"cell": 0, "endpoint": 9, "concurrency": 1}]):
        run = seat(tmp_path, 0)
        run.meta["cells"] = cells_
        run.save()
        with pytest.raises(UserError, match=re.escape(str(run.folder))):
            leaderboard.entries([run.folder])
    run = seat(tmp_path, 1)
    run.journal.write_text('{"k":"start","cell":0,"unix":1}\n{"k":"req","cell":0,"send":1}\n')
    with pytest.raises(UserError, match=re.escape(str(run.journal))):
        leaderboard.entries([run.folder])
