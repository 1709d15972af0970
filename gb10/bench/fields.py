"""The fields of a request: which engine is sent what, and what to leave out when a server refuses one.

vLLM ignores a field that it doesn't know, TensorRT-LLM answers 400, Ollama ignores. So each engine gets the fields that its
documentation names, and an unknown one gets all until it objects.
"""

from __future__ import annotations

from collections.abc import Callable

from gb10.errors import WorkFailed

# In the order in which they are given up when a server refuses without naming the field.
OPTIONAL = ("continuous_usage_stats", "min_tokens", "ignore_eos", "seed", "temperature", "stream_options")
# Ollama has no way to go on after the end of an answer (ollama issue 12065); llama.cpp no min_tokens.
LEFT_OUT = {"Ollama": {"continuous_usage_stats", "min_tokens", "ignore_eos"}, "llama.cpp": {"continuous_usage_stats", "min_tokens"}}


def body(model: str, *, engine: str = "", max_tokens: int, fixed: bool = True, temperature: float = 0.0, extra: dict | None = None,
         without=frozenset()) -> dict:
    """The request without its prompt. fixed: ask for exactly max_tokens. without: fields that this server refused."""
    left_out = LEFT_OUT.get(engine, set()) | set(without)
    out: dict = {"model": model, "stream": True, "max_tokens": max_tokens}
    if "temperature" not in left_out:
        out["temperature"] = temperature
    if "seed" not in left_out:
        out["seed"] = 0                                   # each request puts its own in
    if fixed and "ignore_eos" not in left_out:
        out["ignore_eos"] = True
    if fixed and "min_tokens" not in left_out:
        out["min_tokens"] = max_tokens
    if "stream_options" not in left_out:
        out["stream_options"] = {"include_usage": True}
        if "continuous_usage_stats" not in left_out:
            out["stream_options"]["continuous_usage_stats"] = True
    return out | (extra or {})


def names(request: dict) -> list[str]:
    """The fields of a request as the meta file lists them."""
    return sorted([k for k in request if k != "stream_options"] + [f"stream_options.{k}" for k in request.get("stream_options", ())])


def settle(ask: Callable[[frozenset], dict], engine: str) -> tuple[dict, list[str]]:
    """Find out which fields a server takes: ask(without) sends one request and returns its journal line.

    Returns (the line of the request that it took, the fields that it refused). Raises WorkFailed with the server's words
    when it refuses even the plainest request.
    """
    refused: list[str] = []
    first = None
    while True:
        row = ask(frozenset(refused))
        if row.get("status") not in (400, 422) or not str(row.get("err", "")).startswith("http_"):
            return row, refused
        first = first or row
        said = str(row.get("why", ""))
        left = [f for f in OPTIONAL if f not in refused and f not in LEFT_OUT.get(engine, ())]
        if not left:
            raise WorkFailed(f"the server refuses the request ({first['err'].replace('_', ' ').upper()}): "
                             f"{first.get('why') or 'it does not say why'}")
        refused.append(next((f for f in left if f in said), left[0]))
