"""Ask an OpenAI-compatible server one question, streaming, and note when each token came."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What came back. Times are readings of time.perf_counter(), in seconds."""

    text: str
    asked_at: float
    times: tuple[float, ...]     # arrival of each token

    @property
    def ttft_s(self) -> float:
        """Time to first token: queueing and prefill."""
        return self.times[0] - self.asked_at if self.times else float("nan")

    @property
    def decode_rate(self) -> float:
        """Tokens per second after the first: (n - 1) intervals over the time from the first token to the last."""
        span = self.times[-1] - self.times[0] if len(self.times) > 1 else 0.0
        return (len(self.times) - 1) / span if span > 0 else 0.0


def ask(client, model: str, question: str, *, max_tokens: int = 96, show: Callable[[str], None] | None = None) -> Answer:
    """Greedy (temperature 0). With logprobs on, the server lists every token of a chunk, so that tokens are counted,
    not chunks: a server may put several into one chunk when the reader is slower than it is."""
    times, text = [], []
    asked_at = time.perf_counter()
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}],
        max_tokens=max_tokens, temperature=0, logprobs=True, stream=True)
    for chunk in stream:
        if not chunk.choices:
            continue
        choice, now = chunk.choices[0], time.perf_counter()
        if choice.logprobs and choice.logprobs.content:
            times += [now] * len(choice.logprobs.content)
        if choice.delta.content:
            text.append(choice.delta.content)
            if show:
                show(choice.delta.content)
    return Answer("".join(text), asked_at, tuple(times))
