"""Checkers of lesson 01, notebook 2: bandwidth decides."""

from __future__ import annotations

import functools
from collections.abc import Callable

from gb10.check.verdict import Case, Mistake, Verdict, grade

# ---------------------------------------------------------------- exercise 5: bytes read for one token


def _model(always, experts=0, n_experts=0, top_k=0, table=0, tied=False):
    return {"always": always, "experts": experts, "n_experts": n_experts, "top_k": top_k, "table": table, "tied": tied}


def _read(m, bits, *, share=None, input_table=False, head_bits=16, head=True):
    if share is None:
        share = m["top_k"] / m["n_experts"] if m["n_experts"] else 0
    tables = int(head) + (1 if input_table and not m["tied"] else 0)
    return (m["always"] + m["experts"] * share) * bits / 8 + tables * m["table"] * head_bits / 8


_READ = (
    Case((_model(6_946_000_000, table=622_000_000), 4.5), None, "about Qwen3-8B in NVFP4"),
    Case((_model(1_500_000_000, experts=28_990_000_000, n_experts=128, top_k=8, table=311_000_000), 4.5), None,
         "about Qwen3-30B-A3B in NVFP4"),
    Case((_model(440_000_000, table=156_000_000, tied=True), 16), None, "about Qwen3-0.6B in BF16, table and head are one"),
    Case((_model(6_946_000_000, table=622_000_000), 8), None, "FP8"),
)
_READ_MISTAKES = (
    Mistake(lambda m, b: _read(m, b, share=1 if m["n_experts"] else 0),
            "you read every expert. A token passes through top_k of n_experts: only that share of `experts` is read."),
    Mistake(lambda m, b: _read(m, b, share=1 / m["n_experts"] if m["n_experts"] else 0), "top_k experts are read, not one."),
    Mistake(lambda m, b: _read(m, b, share=m["top_k"] if m["n_experts"] else 0),
            "`experts` counts the parameters of all of them together: take the share top_k / n_experts."),
    Mistake(lambda m, b: _read(m, b, share=0), "the experts are missing: a token reads the share top_k / n_experts of them."),
    Mistake(lambda m, b: _read(m, b, input_table=True),
            "you counted the table twice. Of the input table one row is read per token, a few kilobytes; the head is read whole."),
    Mistake(lambda m, b: _read(m, b, head=False), "the output head is missing: it has as many parameters as the table, and is "
                                                  "read whole for every token, in BF16."),
    Mistake(lambda m, b: _read(m, b, head=not m["tied"]),
            "a tied table is one matrix with two uses; as the head it is still read whole for every token."),
    Mistake(lambda m, b: _read(m, b, head_bits=b), "the head stays in BF16: 2 bytes per weight, whatever the linear layers have."),
    Mistake(lambda m, b: 8 * _read(m, b), "those are bits: eight of them make a byte."),
    Mistake(lambda m, b: _read(m, b) / 1e9, "right, in GB; asked are bytes."),
)


def bytes_read(function: Callable) -> Verdict:
    """bytes_read(model, bits) -> bytes of weights that one decode step of one user reads."""
    cases = [Case(c.args, _read(*c.args), c.name) for c in _READ]
    return grade("bytes_read", function, cases, mistakes=_READ_MISTAKES, rel=1e-6,
                 hint="(always + experts × top_k / n_experts) × bits / 8, and the head: table × 2 bytes. Mind n_experts = 0.",
                 done="divide the bandwidth by this, and you have a rate that no engine can beat.")


# ---------------------------------------------------------------- exercise 6: tokens at the ridge


def _ridge(tflops, gbs, bits):
    return tflops * 1e12 / (gbs * 1e9) * (bits / 8) / 2


_RIDGE = (
    Case((125, 273, 16), None, "GB10, BF16, derived dense peak"),
    Case((500, 273, 4.5), None, "GB10, NVFP4"),
    Case((99.6, 273, 4.5), None, "GB10, NVFP4, with a GEMM rate that was measured"),
    Case((989, 4800, 16), None, "H200, BF16"),
)
_RIDGE_MISTAKES = (
    Mistake(lambda f, g, b: f * 1e12 / (g * 1e9), "that is the ridge in FLOP per byte. Each token adds 2 FLOP per weight, and a "
                                                  "weight is bits / 8 bytes: so n tokens are 2 n / (bits / 8) FLOP per byte."),
    Mistake(lambda f, g, b: f * 1e12 / (g * 1e9) * (b / 8), "a weight costs two operations per token: one multiplication, one addition."),
    Mistake(lambda f, g, b: f * 1e12 / (g * 1e9) / 2, "that is for weights of one byte: multiply by bits / 8."),
    Mistake(lambda f, g, b: f * 1e12 / (g * 1e9) / (b / 8) / 2,
            "upside down: more bytes per weight mean more time to compute meanwhile, so more tokens, not fewer."),
    Mistake(lambda f, g, b: f * 1e12 / (g * 1e9) * b / 2, "the bits have to become bytes: divide by 8."),
    Mistake(lambda f, g, b: f / g * (b / 8) / 2, "TFLOPS are 1e12 FLOP/s, GB/s are 1e9 bytes/s: a factor of 1000 is missing."),
    Mistake(lambda f, g, b: f * 1e12 / (g * 2**30) * (b / 8) / 2, "bandwidth in GB/s counts 1e9 bytes; 2**30 would be GiB/s."),
)


def ridge_tokens(function: Callable) -> Verdict:
    """ridge_tokens(tflops, bandwidth_gbs, bits) -> tokens per step at which arithmetic and memory take equally long."""
    cases = [Case(c.args, _ridge(*c.args), c.name) for c in _RIDGE]
    return grade("ridge_tokens", function, cases, mistakes=_RIDGE_MISTAKES, rel=1e-4,
                 hint="time to read one weight: bits / 8 / bandwidth; time to use it for n tokens: 2 n / FLOPS; set them equal and "
                      "solve for n.",
                 done="below that many tokens per step a faster chip changes nothing; faster memory or fewer bits do.")


# ---------------------------------------------------------------- exercise 7: can that be true?


def _possible(tps, batch, step_bytes, gbs):
    return tps / batch * step_bytes <= gbs * 1e9


_CLAIMS = (
    Case((38.65, 1, 5.05e9, 273), None, "b0205, an 8B model in NVFP4 on GB10"),
    Case((54.9, 1, 5.00e9, 273), None, "b1656, the same model on another machine with 273 GB/s"),
    Case((368.0, 32, 13.0e9, 273), None, "b0230, 32 users at once, their KV caches in the bytes of the step"),
    Case((50.0, 1, 5.4e9, 273), None, "99 % of the peak: doubtful, but possible"),
    Case((50.0, 1, 5.6e9, 300), None, "a bandwidth of 300"),
    Case((20.0, 8, 117.0e9, 273), None, "eight users, a huge model: more than memory allows"),
    Case((20.0, 4, 10.0e9, 273), None, "four users, easily"),
    Case((100.0, 1, 10.0e9, 273), None, "four times too fast"),
    Case((1000.0, 1, 10.0e9, 273), None, "forty times too fast"),
)
_CLAIM_MISTAKES = (
    Mistake(lambda t, n, b, g: t * b <= g * 1e9,
            "the rate is summed over the batch, and a step serves all of it: there are tps / batch steps per second."),
    Mistake(lambda t, n, b, g: t * n * b <= g * 1e9, "divide by the batch, don't multiply: one step yields `batch` tokens."),
    Mistake(lambda t, n, b, g: t / n * b > g * 1e9, "the other way round: True means that the claim is possible."),
    Mistake(lambda t, n, b, g: t / n * b <= g * 2**30, "GB/s are 1e9 bytes per second; with 2**30 you let claims through that are 7 % too fast."),
    Mistake(lambda t, n, b, g: t / n * b <= 0.86 * g * 1e9,
            "0.86 of the peak is what benchmarks reach; a claim above that is doubtful, not impossible. Compare with the whole."),
    Mistake(lambda t, n, b, g: t / n * b <= g,
            "every claim is impossible to you. step_bytes are bytes, bandwidth_gbs are GB/s: multiply by 1e9."),
    Mistake(lambda t, n, b, g: t / n * b / 8 <= g * 1e9, "the bytes are bytes: nothing to divide by 8."),
    Mistake(lambda t, n, b, g: True, "not every claim is possible: compare bytes per second with the bandwidth."),
)


def possible(function: Callable) -> Verdict:
    """possible(tps, batch, step_bytes, bandwidth_gbs) -> True if memory could deliver that, else False."""
    cases = [Case(c.args, _possible(*c.args), c.name) for c in _CLAIMS]
    return grade("possible", _truth(function), cases, mistakes=_CLAIM_MISTAKES,
                 hint="steps per second = tps / batch; times step_bytes they are bytes per second; compare with bandwidth_gbs × 1e9.",
                 done="one multiplication, and it finds what is wrong in published tables; see below.")


def _truth(function: Callable):
    """The same function, with 0 and 1 read as False and True; anything else stays what it is."""
    if not callable(function):
        return function

    @functools.wraps(function)       # a missing return is looked for in the reader's own code
    def called(*args):
        got = function(*args)
        value = got.tolist() if hasattr(got, "tolist") else got
        return bool(value) if isinstance(value, (int, float)) and value in (0, 1) else got

    return called
