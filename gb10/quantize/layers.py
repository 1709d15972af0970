"""Where the damage arises, and how it adds up: hidden states of two models after each decoder layer.

For every layer two questions. *Accumulated*: how far is the candidate's hidden state from the reference's after this
layer, all layers before it included? *Alone*: given exactly the reference's input, how far off is the output of the
candidate's layer? A layer with a large error alone does damage; one with a small error alone and a large accumulated
one only passes it on.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch

from gb10.errors import UserError
from gb10.quantize.heldout import cut
from gb10.quantize.logits import scoring


@dataclass(frozen=True)
class LayerError:
    """Errors of one decoder layer of the candidate. For each token |candidate - reference| / |reference| over the
    hidden state; the root mean square of that over all tokens (so that a token with a huge hidden state, which many
    models have at the start of a text, counts as one)."""

    layer: int
    name: str               # as in named_modules(): model.layers.3
    error: float            # accumulated, relative to the hidden state after the layer
    cosine: float           # accumulated; mean over the tokens of the cosine between both hidden states
    alone: float            # on the reference's input, relative to the hidden state after the layer
    alone_of_update: float  # on the reference's input, relative to what the layer adds to the hidden state

    def __str__(self) -> str:
        return (f"{self.name:<20} accumulated {self.error:8.3%}  cosine {self.cosine:.6f}  alone {self.alone:8.3%} "
                f"({self.alone_of_update:.3%} of what the layer adds)")


def layer_errors(reference, candidate, ids, *, window: int = 256, batch: int = 4) -> list[LayerError]:
    """One LayerError per decoder layer, over token ids [N] in windows of `window`; the last token is not read.

    Memory: the reference's hidden states after each layer for one batch (layers x batch x window x hidden size).
    Raises UserError where the two models don't have the same decoder layers.
    """
    theirs, ours = decoder_layers(reference), decoder_layers(candidate)
    if [name for name, _ in theirs] != [name for name, _ in ours]:
        raise UserError(f"the reference has {len(theirs)} decoder layers and the candidate {len(ours)}, or other names "
                        f"for them: compare a model with a quantized version of itself.")
    sums = torch.zeros(len(theirs), 4, dtype=torch.float64)
    tokens = 0
    with scoring(reference, candidate):
        for rows in cut(ids, window=window, batch=batch):
            rows = rows[:, :-1]
            tokens += rows.numel()
            states: list[torch.Tensor] = []

            def alone(i, before, after, args, kwargs, states=states):
                states.append(after)
                module = ours[i][1]
                device = next(module.parameters()).device
                got = _hidden(module(*_like(args, device, candidate.dtype), **_like(kwargs, device, candidate.dtype)))
                wrong = _norm(got.to(after.device).float() - after.float())
                sums[i, 2] += _squares(wrong / _norm(after))
                sums[i, 3] += _squares(wrong / _norm(after.float() - before.float()))

            def accumulated(i, before, after, args, kwargs, states=states):
                expected = states[i].to(after.device).float()
                sums[i, 0] += _squares(_norm(after.float() - expected) / _norm(expected))
                sums[i, 1] += torch.cosine_similarity(after.float(), expected, dim=-1).double().sum().item()

            for model, layers, watch in ((reference, theirs, alone), (candidate, ours, accumulated)):
                with _watched(layers, watch):
                    model.base_model(input_ids=rows.to(model.device), use_cache=False)
    mean = sums / tokens
    mean[:, [0, 2, 3]] = mean[:, [0, 2, 3]].sqrt()
    return [LayerError(i, name, *row.tolist()) for i, ((name, _), row) in enumerate(zip(theirs, mean, strict=True))]


def decoder_layers(model) -> list[tuple[str, torch.nn.Module]]:
    """(name, module) of the decoder layers: the longest list of modules in the model's body that is in no other."""
    lists = [(name, m) for name, m in model.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m)]
    outer = [(name, m) for name, m in lists if not any(name.startswith(other + ".") for other, _ in lists)]
    if not outer:
        raise UserError(f"no list of decoder layers found in a {type(model).__name__}: layer errors need one.")
    name, found = max(outer, key=lambda pair: len(pair[1]))
    return [(f"{name}.{i}", layer) for i, layer in enumerate(found)]


@contextlib.contextmanager
def _watched(layers, watch):
    """watch(i, hidden before, hidden after, args, kwargs) after each layer, except for calls that watch itself makes."""
    watching = False

    def hook(i):
        def after(module, args, kwargs, output):
            nonlocal watching
            if not watching:
                watching = True
                try:
                    watch(i, args[0] if args else kwargs["hidden_states"], _hidden(output), args, kwargs)
                finally:
                    watching = False
        return after

    handles = [module.register_forward_hook(hook(i), with_kwargs=True) for i, (_, module) in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _like(x, device, dtype):
    """Tensors of a nested argument on a device, floating ones in a dtype."""
    if isinstance(x, torch.Tensor):
        return x.to(device, dtype) if x.is_floating_point() else x.to(device)
    if isinstance(x, dict):
        return {k: _like(v, device, dtype) for k, v in x.items()}
    return type(x)(_like(v, device, dtype) for v in x) if type(x) in (tuple, list) else x


def _hidden(output) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def _norm(x: torch.Tensor) -> torch.Tensor:
    return x.float().norm(dim=-1)


def _squares(x: torch.Tensor) -> float:
    return x.double().square().sum().item()
