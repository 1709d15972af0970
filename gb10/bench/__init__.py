"""Measure OpenAI-compatible servers, truthfully.

    from gb10 import bench
    result = bench.measure("http://127.0.0.1:8000/v1", concurrency=(1, 4), requests=20, max_tokens=64)
    result.rows[0]["tpot_ms"]["p50"]            as --json has it
    print(result)                               as the command prints it
    bench.saved("last"), bench.runs()           what was measured before

Standard library only; with rich a live view, with nvidia-ml-py the GPU beside it. The command is
`python3 appendix/llm_benchmark.py`, or ./course bench.
"""

from importlib import import_module

_HOME = {"measure": "notebook", "saved": "notebook", "runs": "journal", "Result": "notebook"}
__all__ = ["Result", "measure", "runs", "saved"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"gb10.bench has no {name!r}; it has: {', '.join(__all__)}")
    return getattr(import_module(f"gb10.bench.{_HOME[name]}"), name)


def __dir__():
    return __all__
