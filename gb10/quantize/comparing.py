"""How much a quantized model differs from its original, and how sure that is.

    found = quantize.compare(original, quantized, ids)
    print(found)                                   # perplexity, loss, KL, top-1 agreement, a verdict in words
    both = quantize.compare_many(original, {"A": a, "B": b}, ids)
    print(both["A"].against(both["B"]).verdict)    # is recipe A better than recipe B?

Both models read the same windows of text side by side, and every interval comes from a paired bootstrap over windows
(gb10/quantize/bootstrap.py). Three figures:

loss       nats per token that the candidate loses: what a reader would notice in the end, and the noisiest;
KL         mean over tokens of sum p log(p / q), p the reference's and q the candidate's probabilities over the whole
           vocabulary, in nats: how far the answers moved, to either side; sees small damage with far fewer tokens;
top-1      share of tokens for which both find the same token most probable (of several with the same logit the one
           with the lowest id counts).

A model in BF16 gives logits rounded to BF16, as an engine does; some KL and some lost agreement come from that alone.
With many recipes some 95 % intervals will miss: 1 in 20 does.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import torch

from gb10.errors import UserError
from gb10.quantize.comparison import Comparison
from gb10.quantize.heldout import cut, finite, surprise, vocabulary
from gb10.quantize.logits import Source, pieces, scoring


def compare(reference, candidate, ids, *, window: int = 256, batch: int = 8, n_bytes: int | None = None, seed: int = 0,
            draws: int = 2000, level: float = 0.95, name: str = "candidate",
            progress: Callable[[int, int], None] | None = None) -> Comparison:
    """Compare two models on token ids [N]; see `compare_many`."""
    return compare_many(reference, {name: candidate}, ids, window=window, batch=batch, n_bytes=n_bytes, seed=seed,
                        draws=draws, level=level, progress=progress)[name]


def compare_many(reference, candidates: Mapping[str, object], ids, *, window: int = 256, batch: int = 8,
                 n_bytes: int | None = None, seed: int = 0, draws: int = 2000, level: float = 0.95,
                 progress: Callable[[int, int], None] | None = None) -> dict[str, Comparison]:
    """Compare each candidate with the reference on token ids [N], in windows of `window` predictions.

    ids may also be windows that are cut already, [n, L + 1] as `spread` gives them: better than the first tokens of a
    text, since an interval speaks only for text like the windows that were read.

    A candidate is a Hugging Face causal language model (quantized by ModelOpt or not), or a function without
    arguments that returns one, or that returns a context which gives one: such a candidate is made when its turn
    comes and let go afterwards. Candidates that are models are read together, so that the reference's logits are
    computed once; for those made later the reference's last hidden states are kept (N x hidden size).

    n_bytes: UTF-8 bytes of the scored text, for bits per byte. seed, draws, level: of the bootstrap.
    progress: called with (windows done, of), counted over all passes. Memory beyond the models: below half a GB.
    Raises UserError for models of different vocabularies, WorkFailed for NaN or infinite losses.
    """
    reference = reference if isinstance(reference, Source) else Source(reference)
    groups = cut(ids, window=window, batch=batch)
    together = {k: c for k, c in candidates.items() if isinstance(c, (torch.nn.Module, Source))}
    passes = [together] * bool(together) + [{k: c} for k, c in candidates.items() if k not in together]
    kept = [] if len(passes) > 1 and reference.apart else None
    of = sum(len(rows) for rows in groups) * len(passes)
    done, sums = 0, {}
    for some in passes:
        with contextlib.ExitStack() as stack:
            sources = {k: stack.enter_context(_opened(c)) for k, c in some.items()}
            stack.enter_context(scoring(reference.model, *(s.model for s in sources.values())))
            _same_vocabulary(reference, sources)
            found = []
            for i, rows in enumerate(groups):
                ran = kept[i] if kept and i < len(kept) else reference.run(rows[:, :-1])
                if kept is not None and i >= len(kept):
                    kept.append(ran)
                found.append(_read(reference, ran, sources, rows))
                done += len(rows)
                if progress:
                    progress(done, of)
            for k in sources:
                sums[k] = np.concatenate([part[k] for part in found])
            del sources
    tokens = np.concatenate([np.full(len(rows), rows.shape[1] - 1) for rows in groups])
    text = hashlib.sha256(repr((window, torch.as_tensor(ids).tolist())).encode()).hexdigest()
    return {k: Comparison(k, tokens, *sums[k].T, text=text, n_bytes=n_bytes, seed=seed, draws=draws, level=level)
            for k in candidates}


@contextlib.contextmanager
def _opened(candidate):
    """A Source for whatever a candidate may be."""
    if isinstance(candidate, Source):
        yield candidate
    elif isinstance(candidate, torch.nn.Module):
        yield Source(candidate)
    elif callable(candidate):
        made = candidate()
        with made if hasattr(made, "__enter__") else contextlib.nullcontext(made) as model:
            yield Source(model)
    else:
        raise TypeError(f"a candidate is a model or a function that returns one, not {type(candidate).__name__}")


def _read(reference: Source, ran, sources: dict[str, Source], rows: torch.Tensor) -> dict[str, np.ndarray]:
    """Per candidate and window [B, 4]: sums of the reference's and the candidate's surprise, of KL and of agreement."""
    inputs, length, n = rows[:, :-1], rows.shape[1] - 1, len(rows)
    theirs = {k: s.run(inputs) for k, s in sources.items()}
    sums = {k: np.zeros((n, 4)) for k in sources}
    for positions in pieces(length, n, vocabulary(reference.model)):
        log_p = reference.logits(ran, positions)
        best = log_p.argmax(-1)
        log_p = torch.log_softmax(log_p, -1)
        p = log_p.exp()
        own = surprise(log_p, rows[:, 1:], positions).sum(1)
        for k, source in sources.items():
            log_q = source.logits(theirs[k], positions).to(log_p.device)
            agreed = (log_q.argmax(-1) == best).sum(1)
            log_q = torch.log_softmax(log_q, -1)
            lost = surprise(log_q, rows[:, 1:], positions).sum(1)
            # in place: log_q isn't needed any more, and each array of this size is 64 MB
            divergence = log_q.neg_().add_(log_p).mul_(p).sum(-1).double().sum(1)
            sums[k] += torch.stack([own, lost, divergence.cpu(), agreed.cpu().double()], 1).numpy()
            del log_q
        del log_p, p
    for k in sources:
        finite(sums[k][:, 0], "the reference")
        finite(sums[k][:, 1:3], k)
    return sums


def _same_vocabulary(reference: Source, sources: dict[str, Source]) -> None:
    expected = vocabulary(reference.model)
    for k, source in sources.items():
        if vocabulary(source.model) != expected:
            raise UserError(f"{k} has a vocabulary of {vocabulary(source.model):,} tokens, the reference one of "
                            f"{expected:,}: their probabilities can't be compared. Is it a quantized version of that "
                            f"model?")
