"""Logits in pieces: a model's answer at every position, without ever holding all of it.

The logits of 2,048 positions over a vocabulary of 150,000 are 1.2 GB in float32, those of two models with their
probabilities four times that. The hidden states that they come from are dozens of times smaller. So the layers run
once for a whole batch, and the output matrix runs over a few positions at a time.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator

import torch

PIECE = 2 ** 24     # logits at once: 64 MB in float32; comparing two models holds about four times that


class Source:
    """A Hugging Face causal language model, in one state of its quantizers, that gives logits in pieces.

    state: called before each use of the model, returns a context in which it is used (a set of quantizers switched
    off, say); the same model in two states makes two sources.
    """

    def __init__(self, model, state=contextlib.nullcontext):
        self.model, self.state = model, state
        body = getattr(model, "base_model", model)
        # layers and output matrix can run one after the other; else whole logits it is
        self.apart = body is not model and "logits_to_keep" in inspect.signature(model.forward).parameters

    def run(self, rows: torch.Tensor):
        """The layers over token ids [B, T] (moved to the model's device); give the result to `logits`."""
        rows = rows.to(self.model.device)
        with self.state():
            if self.apart:
                return rows, self.model.base_model(input_ids=rows, use_cache=False)
            return rows, self.model(input_ids=rows, use_cache=False).logits

    def logits(self, ran, positions: torch.Tensor) -> torch.Tensor:
        """float32 [B, len(positions), V] from what `run` returned, at positions (int64) of the rows."""
        rows, output = ran
        if not self.apart:
            return output[:, positions.to(output.device)].float()
        with self.state(), _answering(self.model.base_model, output):
            # the model's own forward, so that whatever it does to its logits (scale, soft cap) is done
            return self.model(input_ids=rows, use_cache=False, logits_to_keep=positions.to(rows.device)).logits.float()


def pieces(length: int, batch: int, vocabulary: int) -> Iterator[torch.Tensor]:
    """Positions 0 … length - 1, cut so that the logits of one piece have at most PIECE elements (or one position)."""
    return iter(torch.arange(length).split(max(1, PIECE // (batch * vocabulary))))


@contextlib.contextmanager
def scoring(*models):
    """No gradients and evaluation mode; each model goes back to the mode that it was in."""
    was = [(m, m.training) for m in models]
    try:
        for model in models:
            model.eval()
        with torch.no_grad():
            yield
    finally:
        for model, training in was:
            model.train(training)


@contextlib.contextmanager
def _answering(body, output):
    """`body` returns `output` without computing."""
    own = body.__dict__.get("forward")
    body.forward = lambda *args, **kwargs: output
    try:
        yield
    finally:
        del body.forward
        if own is not None:
            body.forward = own
