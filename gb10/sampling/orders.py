"""The order in which an engine applies the filters. It decides who survives: top_p after a high temperature counts other probabilities than
top_p before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from gb10.sampling import filters


@dataclass(frozen=True)
class Settings:
    """Sampling fields of a request. The defaults ask for nothing: the model's own distribution."""

    temperature: float = 1.0
    top_k: int = 0               # 0: all
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    def request(self) -> dict:
        """The fields that ask for something, as a request names them; the temperature always."""
        neutral = asdict(Settings())
        return {k: v for k, v in asdict(self).items() if k == "temperature" or v != neutral[k]}


@dataclass(frozen=True)
class Order:
    """steps: the filters, the first first. plain: the same where min_p isn't asked for, if that differs. least: what smaller temperatures
    above 0 are raised to."""

    title: str
    steps: tuple[str, ...]
    source: str
    note: str = ""
    plain: tuple[str, ...] = ()
    least: float = 0.0


# Read in November 2026.
ORDERS = {
    "vllm": Order("vLLM", ("penalties", "temperature", "min_p", "top_k", "top_p"),
                  "https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/v1/sample/sampler.py",
                  "a temperature between 0 and 0.01 is raised to 0.01", least=0.01),
    "sglang": Order("SGLang", ("penalties", "temperature", "top_k", "top_p", "min_p"),
                    "https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/layers/sampler.py",
                    "without min_p its FlashInfer kernel takes top_k and top_p jointly: top_p then counts on all the probability",
                    plain=("penalties", "temperature", "top_p", "top_k")),      # which is the same as top_p first
    "llamacpp": Order("llama.cpp", ("penalties", "top_k", "top_p", "min_p", "temperature"),
                      "https://github.com/ggml-org/llama.cpp/blob/master/common/common.h",
                      "the default; --samplers changes it. Its penalties look at the last 64 tokens, those of the prompt too"),
    "ollama": Order("Ollama", ("top_k", "temperature", "top_p", "min_p"),
                    "https://github.com/ollama/ollama/blob/main/sample/samplers.go", "the sampler of its own engine, which has no penalties; models that it runs with llama.cpp follow that"),
    "transformers": Order("transformers", ("penalties", "temperature", "top_k", "top_p", "min_p"),
                          "https://github.com/huggingface/transformers/blob/main/src/transformers/generation/utils.py",
                          "of the penalties it has repetition_penalty"),
}


@dataclass(frozen=True)
class Step:
    """The distribution after a step. kept: bool [V]; cut: the probability that the step removed; entropy in bits."""

    name: str
    probs: np.ndarray
    kept: np.ndarray
    cut: float
    entropy: float


def _apply(name: str, row: np.ndarray, s: Settings, prompt: Sequence[int], output: Sequence[int]) -> np.ndarray:
    if name == "penalties":
        return filters.penalize(row, prompt, output, s.repetition_penalty, s.presence_penalty, s.frequency_penalty)
    return getattr(filters, name)(row, getattr(s, name))


def steps(logits, settings: Settings, order: str = "vllm", prompt: Sequence[int] = (), output: Sequence[int] = ()) -> list[Step]:
    """What each step of an engine's order does to one row of logits [V]. The first Step, "model", is the distribution untouched.

    At temperature 0 every engine takes the largest logit after the penalties, whatever the filters: the last step then is "greedy".
    """
    if order not in ORDERS:
        raise ValueError(f"no engine {order!r}: there are {', '.join(ORDERS)}")
    row = np.array(logits, dtype=np.float64)
    found = ORDERS[order]
    names = found.steps if settings.min_p > 0 or not found.plain else found.plain
    if settings.temperature > 0:
        settings = replace(settings, temperature=max(settings.temperature, found.least))
    if settings.temperature < filters.GREEDY:
        names = (*(n for n in names if n == "penalties"), "greedy")
    out = [_step("model", row, 0.0)]
    for name in names:
        was = out[-1].probs
        row = filters.temperature(row, 0.0) if name == "greedy" else _apply(name, row, settings, prompt, output)
        out.append(_step(name, row, float(was[~np.isfinite(row)].sum())))
    return out


def _step(name: str, row: np.ndarray, cut: float) -> Step:
    probs = filters.softmax(row)
    return Step(name, probs, np.isfinite(row), cut, filters.entropy(probs))


def distribution(logits, settings: Settings, order: str = "vllm", prompt: Sequence[int] = (), output: Sequence[int] = ()) -> np.ndarray:
    """Probabilities [V] from which the next token is drawn."""
    return steps(logits, settings, order, prompt, output)[-1].probs
