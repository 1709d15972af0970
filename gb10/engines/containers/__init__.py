"""Engines in containers, on a machine with an NVIDIA GPU: planned within its memory, started, watched, stopped.

    from gb10.engines import containers
    plan = containers.plan("vllm", "Qwen3-8B", weights="nvfp4", machine="gb10")     needs no Docker
    note = containers.start(plan)                                                   runs compose/vllm.yml

One idea per module: what each engine is (spec), which checkpoint it is given (models), what that takes of the memory
(budget), the command and environment (planning), what stands in the way on this machine (guard), Docker itself (docker),
the start (starting, answering), what runs already (running), and what went wrong (causes).
"""

from importlib import import_module

_HOME = {"Plan": "planning", "plan": "planning", "start": "starting",
         **dict.fromkeys(("adopt", "alive", "stop"), "running")}
__all__ = ["Plan", "adopt", "alive", "plan", "start", "stop"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"gb10.engines.containers has no {name!r}; it has: {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
