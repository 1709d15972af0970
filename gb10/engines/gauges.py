"""What an engine says about itself while it works: its metrics page, with one name for each thing whatever the engine calls it.

    g = gauges.read("http://127.0.0.1:8000/v1")     None where the engine has no such page
    g.running, g.waiting, g.kv_used                 now; None where this engine doesn't say
    g.since(before).hits                            counters only ever grow: what counts is the difference

Names: docs.vllm.ai/en/stable/usage/metrics, docs.sglang.io/references/production_metrics.html, TensorRT-LLM's
tensorrt_llm/metrics/collector.py (on /prometheus/metrics; its /metrics is a list in JSON that every reading empties),
llama.cpp's tools/server. Ollama has no metrics page. A NIM has that of the engine inside it, below /v1.
"""

from __future__ import annotations

import os
import re
import urllib.request
from dataclasses import dataclass, fields, replace

PAGES = ("/metrics", "/prometheus/metrics", "/v1/metrics")
# field: (name in each engine, first that is there counts)
NAMES = {
    "running": ("vllm:num_requests_running", "sglang:num_running_reqs", "trtllm_num_requests_running", "llamacpp:requests_processing"),
    "waiting": ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "trtllm_num_requests_waiting", "llamacpp:requests_deferred"),
    "kv_used": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage", "trtllm_kv_cache_utilization"),
    "hits": ("vllm:prefix_cache_hits_total", "sglang:cached_tokens_total", "trtllm_kv_cache_reused_blocks_total"),
    "queries": ("vllm:prefix_cache_queries_total", "sglang:prompt_tokens_total"),
    "preempted": ("vllm:num_preemptions_total",),
    "tokens": ("vllm:generation_tokens_total", "sglang:generation_tokens_total", "llamacpp:tokens_predicted_total"),
    "capacity": ("sglang:max_total_num_tokens",),
}
COUNTERS = ("hits", "queries", "preempted", "tokens")
SHARES = ("kv_used",)
_MISSED = "trtllm_kv_cache_missed_blocks_total"
_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(\{[^}]*\})?\s+(\S+)")


@dataclass(frozen=True)
class Gauges:
    """One reading. None: this engine doesn't say."""

    running: float | None = None        # requests in the batch now
    waiting: float | None = None        # requests in the queue now
    kv_used: float | None = None        # share of the KV cache, 0 to 1
    hits: float | None = None           # prompt tokens found in the prefix cache since the start (TensorRT-LLM: blocks)
    queries: float | None = None        # prompt tokens looked up there since the start (TensorRT-LLM: blocks)
    preempted: float | None = None      # requests that lost their place for want of KV cache, since the start
    tokens: float | None = None         # generated since the start
    capacity: float | None = None       # tokens that the KV cache holds
    block: float | None = None          # tokens in a block of it: prefixes are shared in whole blocks

    def since(self, before: Gauges) -> Gauges:
        """The same reading with the counters as differences to an earlier one."""
        changed = {n: getattr(self, n) - getattr(before, n) for n in COUNTERS if None not in (getattr(self, n), getattr(before, n))}
        return replace(self, **changed)


def parse(text: str) -> Gauges | None:
    """A page in Prometheus' format; None if none of the names above is on it. Ranks of one engine are added up (shares: the fullest)."""
    seen: dict[str, list[float]] = {}
    config = ""
    for line in text.splitlines():
        if line.startswith("#") or not (found := _LINE.match(line)):
            continue
        name, labels, value = found.groups()
        if name == "vllm:cache_config_info":
            config = labels or ""
        try:
            number = float(value)
        except ValueError:
            continue
        seen.setdefault(name, []).append(number)
    values = {}
    for field, names in NAMES.items():
        name = next((n for n in names if n in seen), None)
        if name:
            values[field] = (max if field in SHARES else sum)(seen[name])
    if "hits" in values and "queries" not in values and _MISSED in seen:
        values["queries"] = values["hits"] + sum(seen[_MISSED])
    if not values:
        return None
    return Gauges(**values | _cache(config))


def _cache(labels: str) -> dict[str, float]:
    """Size of vLLM's KV cache out of the labels of its configuration."""
    told = dict(re.findall(r'(\w+)="([^"]*)"', labels))

    def number(name):
        return float(told[name]) if told.get(name, "").isdecimal() else None

    block, blocks = number("block_size"), number("num_gpu_blocks")
    capacity = number("kv_cache_size_tokens") or (block * blocks if block and blocks else None)
    return {k: v for k, v in (("capacity", capacity), ("block", block)) if v}


def read(url: str, timeout: float = 3.0) -> Gauges | None:
    """The gauges of the engine whose OpenAI base URL this is; None where it has no page that can be read."""
    root = url.rstrip("/").removesuffix("/v1")
    for page in PAGES:
        request = urllib.request.Request(root + page)
        if key := os.environ.get("GB10_API_KEY"):
            request.add_header("Authorization", f"Bearer {key}")
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=timeout) as r:
                kind, text = r.headers.get("Content-Type", ""), r.read(4_000_000).decode("utf-8", "replace")
        except (OSError, ValueError):
            continue
        if "json" not in kind and (found := parse(text)):
            return found
    return None


def unsaid(g: Gauges | None) -> list[str]:
    """The names of what this engine doesn't tell."""
    return [f.name for f in fields(Gauges) if g is None or getattr(g, f.name) is None]
