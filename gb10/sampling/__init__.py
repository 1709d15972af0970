"""From logits to the next token: the filters between them, the order in which engines apply them, and whether draws agree.

    from gb10 import sampling
    probs = sampling.distribution(logits, sampling.Settings(temperature=0.7, top_p=0.9), order="vllm")
    sampling.chi_square({"a": 251, "b": 249}, {"a": 0.5, "b": 0.5}).agrees()

Numbers alone: no engine is asked here, no torch is loaded. Names are resolved when first used.
"""

from importlib import import_module

_HOME = {
    **dict.fromkeys(("temperature", "top_k", "top_p", "min_p", "penalize", "softmax", "entropy"), "filters"),
    **dict.fromkeys(("Settings", "Order", "ORDERS", "Step", "distribution", "steps"), "orders"),
    **dict.fromkeys(("Agreement", "chi_square"), "agreement"),
    **dict.fromkeys(("words", "distinct", "overlap", "interval", "jackknife"), "texts"),
}
__all__ = [
    "ORDERS",
    "Agreement",
    "Order",
    "Settings",
    "Step",
    "chi_square",
    "distinct",
    "distribution",
    "entropy",
    "interval",
    "jackknife",
    "min_p",
    "overlap",
    "penalize",
    "softmax",
    "steps",
    "temperature",
    "top_k",
    "top_p",
    "words",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"gb10.sampling has no {name!r}; it has: {', '.join(__all__)}")
    return getattr(import_module(f"gb10.sampling.{_HOME[name]}"), name)


def __dir__():
    return __all__
