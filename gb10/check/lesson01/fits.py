"""Checkers of lesson 01, notebook 1: what fits."""

from __future__ import annotations

import re
from collections.abc import Callable

from gb10.check.verdict import Case, Mistake, Verdict, grade

GIB = 2**30

# ---------------------------------------------------------------- exercise 1: MemAvailable


def _meminfo(total, free, available, cached, buffers=151_000) -> str:
    rows = {"MemTotal": total, "MemFree": free, "MemAvailable": available, "Buffers": buffers, "Cached": cached,
            "SwapCached": 0, "Active": cached // 2, "Dirty": 132, "AnonPages": max(0, total - free - cached), "Shmem": 20_480,
            "SwapTotal": 0, "SwapFree": 0}
    return "".join(f"{k + ':':<16}{v:>8} kB\n" for k, v in rows.items())


def _field(text: str, name: str) -> int:
    return int(re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE).group(1))


def _available(text: str) -> float:
    return _field(text, "MemAvailable") / 2**20


_MEMINFO = (
    Case((_meminfo(127_506_842, 31_457_280, 104_857_600, 77_594_624),), None, "a Spark after a model was loaded and left"),
    Case((_meminfo(8_028_160, 412_384, 5_242_880, 5_000_192),), None, "a laptop of 8 GB"),
    Case((_meminfo(1_056_489_472, 996_147_200, 1_013_972_992, 20_971_520),), None, "a server; numbers of seven digits and more"),
)
_MEMINFO_MISTAKES = (
    Mistake(lambda t: _field(t, "MemFree") / 2**20,
            "that is MemFree: memory that nobody uses. Page cache is given back on demand, so MemAvailable is the one to read."),
    Mistake(lambda t: _field(t, "MemTotal") / 2**20, "that is MemTotal; what a new program can get is MemAvailable."),
    Mistake(lambda t: (_field(t, "MemFree") + _field(t, "Cached")) / 2**20,
            "free plus cached is close, but not all of the cache can be given back (shared memory lies in it, and the kernel "
            "keeps some of it and of the free pages); the kernel's own estimate is the line MemAvailable."),
    Mistake(lambda t: _field(t, "MemAvailable") / 1e6, "the file says kB and means 1024 bytes; a GiB is 1024 × 1024 of them."),
    Mistake(lambda t: _field(t, "MemAvailable") * 1024 / 1e9, "that is in GB (1e9 bytes). One GiB is 2**30 bytes."),
    Mistake(lambda t: _field(t, "MemAvailable"), "that is still in KiB: divide by 1024 twice."),
    Mistake(lambda t: _field(t, "MemAvailable") / 2**10, "that is in MiB: divide by 1024 once more."),
    Mistake(lambda t: _field(t, "MemAvailable") / 2**30, "the number in the file counts KiB, not bytes: two steps of 1024 lead to GiB."),
)


def available_gib(function: Callable) -> Verdict:
    """available_gib(text) -> GiB that a new program can get, from the text of /proc/meminfo."""
    cases = [Case(c.args, _available(*c.args), c.name) for c in _MEMINFO]
    return grade("available_gib", function, cases, mistakes=_MEMINFO_MISTAKES, rel=1e-4,
                 hint="go through the lines, take the one that begins with MemAvailable: and its number, which counts KiB; "
                      "text.splitlines() and line.split() are enough.",
                 done="this is the number to look at before an engine is started, on a Spark above all.")


# ---------------------------------------------------------------- exercise 2: weights


def _weights(linear, tables, bits):
    return (linear * bits / 8 + tables * 2) / GIB


_WEIGHTS = (
    Case((6_946_000_000, 1_245_000_000, 4.5), None, "about Qwen3-8B in NVFP4"),
    Case((6_946_000_000, 1_245_000_000, 16), None, "the same in BF16"),
    Case((68_450_000_000, 2_101_000_000, 8), None, "about Llama-3.3-70B in FP8"),
    Case((0, 1_000_000, 4.5), None, "only tables"),
)
_WEIGHT_MISTAKES = (
    Mistake(lambda n, t, b: (n + t) * b / 8 / GIB,
            "you gave the tables the same bits as the linear layers. Embedding table and output head stay in BF16: 2 bytes each."),
    Mistake(lambda n, t, b: n * b / 8 / GIB, "the tables are missing: embedding and head are in the file too, with 2 bytes each."),
    Mistake(lambda n, t, b: (n * b + t * 16) / GIB, "those are bits: eight of them make a byte."),
    Mistake(lambda n, t, b: (n * b / 8 + t * 16) / GIB, "the linear layers are right; the tables have 16 bits, which is 2 bytes."),
    Mistake(lambda n, t, b: (n * b / 8 + t * 2) / 1e9, "that is in GB (1e9 bytes), as the hub counts. Asked are GiB of 2**30 bytes, "
                                                       "as /proc/meminfo counts."),
    Mistake(lambda n, t, b: n * b / 8 + t * 2, "right, in bytes; asked are GiB: divide by 2**30."),
    Mistake(lambda n, t, b: (n * 4 / 8 + t * 2) / GIB, "the scales count as well: use the bits that are given (NVFP4: 4.5), not 4."),
)


def weight_gib(function: Callable) -> Verdict:
    """weight_gib(linear, tables, bits) -> GiB of a checkpoint: parameters in linear layers and in tables, bits per linear weight."""
    cases = [Case(c.args, _weights(*c.args), c.name) for c in _WEIGHTS]
    return grade("weight_gib", function, cases, mistakes=_WEIGHT_MISTAKES, rel=1e-4,
                 hint="linear weights take bits / 8 bytes each, those in the tables 2 bytes; add, and divide by 2**30.",
                 done="to a percent or so that is the size of the file; norms and tensor scales are what is missing.")


# ---------------------------------------------------------------- exercise 3: KV cache


def _kv(c, context, users, each, *, both=2, heads="num_key_value_heads", head_dim=None, layers=True):
    dim = head_dim(c) if head_dim else c["head_dim"]
    return both * c[heads] * dim * (c["num_hidden_layers"] if layers else 1) * context * users * each


def _config(hidden, layers, heads, kv_heads, head_dim):
    return {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "head_dim": head_dim}


_KV = (
    Case((_config(4096, 36, 32, 8, 128), 8192, 4, 2), None, "Qwen3-8B, four users with 8192 tokens, BF16"),
    Case((_config(8192, 80, 64, 8, 128), 32768, 1, 1), None, "Llama-3.3-70B, one user, FP8"),
    Case((_config(1024, 28, 16, 8, 128), 1000, 3, 2), None, "Qwen3-0.6B: 16 heads of 128 on a width of 1024"),
    Case((_config(5120, 64, 64, 8, 128), 1, 1, 2), None, "Qwen3-32B, one token"),
)
_KV_MISTAKES = (
    Mistake(lambda *a: _kv(*a, both=1), "keys and values are both kept: twice as much."),
    Mistake(lambda *a: _kv(*a, heads="num_attention_heads"),
            "with grouped-query attention several query heads share one pair of keys and values: count num_key_value_heads."),
    Mistake(lambda *a: _kv(*a, head_dim=lambda c: c["hidden_size"] // c["num_attention_heads"]),
            "head_dim is given, and it need not be hidden_size / num_attention_heads: in Qwen3-0.6B and Qwen3-32B it isn't."),
    Mistake(lambda *a: _kv(*a, layers=False), "every layer has a cache of its own: multiply by num_hidden_layers."),
    Mistake(lambda c, n, u, b: _kv(c, n, 1, b), "each user has a cache of their own: multiply by users."),
    Mistake(lambda c, n, u, b: _kv(c, 1, u, b), "that is one token; there are `context` of them."),
    Mistake(lambda c, n, u, b: _kv(c, n, u, b) / 8, "bytes_each is in bytes already: nothing to divide by 8."),
    Mistake(lambda c, n, u, b: _kv(c, n, u, 2), "the cache isn't always in BF16: use bytes_each (1 for FP8)."),
    Mistake(lambda c, n, u, b: 2 * c["hidden_size"] * c["num_hidden_layers"] * n * u * b,
            "that is for a model in which every query head has keys and values of its own: take num_key_value_heads × head_dim "
            "instead of hidden_size."),
    Mistake(lambda *a: _kv(*a) / GIB, "right, in GiB; asked are bytes."),
)


def kv_bytes(function: Callable) -> Verdict:
    """kv_bytes(config, context, users, bytes_each) -> bytes of the KV cache of a model with full attention in every layer."""
    cases = [Case(c.args, _kv(*c.args), c.name) for c in _KV]
    return grade("kv_bytes", function, cases, mistakes=_KV_MISTAKES, rel=1e-6,
                 hint="2 × num_key_value_heads × head_dim × num_hidden_layers numbers for each token, context × users tokens, "
                      "bytes_each bytes each.",
                 done="2 × KV heads × head_dim × layers × bytes: the one formula of serving that is worth knowing by heart.")


# ---------------------------------------------------------------- exercise 4: users that fit


def _users(available, weights, engine, per_user, headroom=10):
    return max(0, int((available - weights - engine - headroom) // per_user))


_USERS = (
    Case((100.0, 6.0, 4.0, 4.5), None, "8B in NVFP4, 32k tokens each"),
    Case((100.0, 39.8, 4.5, 10.0), None, "70B in NVFP4, 32k tokens each"),
    Case((100.0, 88.0, 4.0, 0.5), None, "the weights leave nothing"),
    Case((64.0, 40.0, 4.0, 5.0), None, "comes out even"),
    Case((100.0, 6.0, 4.0, 7.0), None, "a little over eleven"),
    Case((64.0, 46.0, 4.0, 5.0), None, "less than one user's worth"),
)
_USER_MISTAKES = (
    Mistake(lambda a, w, e, u: max(0, int((a - w - e) // u)),
            "that fills the memory to the brim. Leave 10 GiB: on a machine with one pool for everything, nothing fails cleanly."),
    Mistake(lambda a, w, e, u: max(0, int((a - w - 10) // u)), "the engine needs its own memory as well: subtract it."),
    Mistake(lambda a, w, e, u: max(0, int((a - e - 10) // u)), "the weights have to be in memory, too: subtract them."),
    Mistake(lambda a, w, e, u: int((a - w - e - 10) // u), "a negative number of users: say 0 when nothing is left."),
    Mistake(lambda a, w, e, u: max(0, -int(-(a - w - e - 10) // u)), "you rounded up: the last user's cache wouldn't fit any more."),
    Mistake(lambda a, w, e, u: max(0.0, (a - w - e - 10) / u), "there are no parts of users: round down to a whole number."),
    Mistake(lambda a, w, e, u: max(0, int((0.92 * a - w - e) // u)),
            "a fraction of the whole (vLLM's 0.92) is meant for a card with memory of its own; leave 10 GiB here."),
    Mistake(lambda a, w, e, u: max(0, round((a - w - e - 10) / u)), "round down: a user who fits by half doesn't fit."),
)


def max_users(function: Callable) -> Verdict:
    """max_users(available, weights, engine, per_user) -> how many users fit; everything in GiB, 10 GiB stay free."""
    cases = [Case(c.args, _users(*c.args), c.name) for c in _USERS]
    return grade("max_users", function, cases, mistakes=_USER_MISTAKES, rel=1e-9,
                 hint="what is available, less weights, engine and 10 GiB, divided by one user's cache, rounded down, never below 0.",
                 done="an engine that is started with this as its limit can't take the machine down by its cache.")
