"""Time decode steps of a model in this machine's memory, and make a model of random weights to time."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

# Shape of a Qwen3-1.7B layer, four of its 28 layers, and a small vocabulary: 210 million parameters.
SHAPE = {"hidden_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
         "intermediate_size": 6144, "vocab_size": 4096, "max_position_embeddings": 4096, "tie_word_embeddings": True}
LEAST = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 64}


def quiet() -> None:
    """Before transformers is imported: no progress bars, nothing about kernels that torchao has for other machines."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as its_own

    its_own.disable_progress_bar()
    its_own.set_verbosity_error()


def random_model(dtype, device: str = "cpu", seed: int = 0, **shape):
    """A Qwen3 of SHAPE (or with other numbers in it) and random weights: useless to talk to, but as heavy as a real one."""
    import torch

    quiet()
    from transformers import Qwen3Config, Qwen3ForCausalLM

    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config(**{**SHAPE, **shape}))
    model = model.to(dtype).to_empty(device=device)
    model.tie_weights()                      # to_empty gives a tied head memory of its own
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.uniform_(-0.02, 0.02, generator=generator)
        # buffers made on "meta" hold nothing: the rotary frequencies have to be computed anew
        model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(device)
    return model.eval()


def read_bytes(model) -> int:
    """Bytes of weights that one decode step reads: all parameters, without an input table that is not the head too."""
    table = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    return total if head is table else total - table.numel() * table.element_size()


@dataclass(frozen=True)
class Steps:
    """Times of single decode steps, in seconds."""

    batch: int
    seconds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The fastest step: whatever else runs on a machine can only make one slower."""
        return min(self.seconds)

    @property
    def tokens_per_second(self) -> float:
        """At the fastest step, summed over the batch."""
        return self.batch / self.best


def steps(model, batch: int = 1, count: int = 12, prompt: int = 16, budget: float = 6.0) -> Steps:
    """Up to `count` greedy decode steps after a prompt of `prompt` random tokens, each timed; two more before them warm up.
    No new step begins once `budget` seconds have passed, but three there are in any case."""
    import torch

    device = next(model.parameters()).device
    ids = torch.randint(0, model.config.vocab_size, (batch, prompt), generator=torch.Generator().manual_seed(0)).to(device)
    times, end = [], time.perf_counter() + budget
    with torch.inference_mode():
        out = model(ids, use_cache=True)
        while len(times) < count + 2 and (len(times) < 5 or time.perf_counter() < end):
            token = out.logits[:, -1:].argmax(-1)
            _wait(device)
            begin = time.perf_counter()
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
            _wait(device)
            times.append(time.perf_counter() - begin)
    return Steps(batch, tuple(times[2:]))


def best_steps(model, batch: int = 1, count: int = 8, budget: float = 2.0) -> Steps:
    """steps() with one CPU thread and with all of them, whichever was faster: on a busy machine that is often one, because
    all threads wait for the last. On a GPU there is nothing to choose."""
    import torch

    if next(model.parameters()).device.type != "cpu":
        return steps(model, batch, count, budget=budget)
    everything = torch.get_num_threads()
    try:
        found = []
        for threads in sorted({1, everything}):
            torch.set_num_threads(threads)
            found.append(steps(model, batch, count, budget=budget))
        return min(found, key=lambda s: s.best)
    finally:
        torch.set_num_threads(everything)


def matvec(dtype, device: str = "cpu", megabytes: int = 200, repeats: int = 5) -> float:
    """Weights per second that a matrix times vector multiplies, through matrices of 2048 x 6144, `megabytes` of them."""
    import torch

    each = torch.empty(6144, 2048, dtype=dtype, device=device).uniform_(-1, 1)
    many = [each.clone() for _ in range(max(2, round(megabytes * 1e6 / (each.numel() * each.element_size()))))]
    x, best = torch.ones(1, 2048, dtype=dtype, device=device), float("inf")
    with torch.inference_mode():
        for _ in range(repeats + 1):
            _wait(x.device)
            begin = time.perf_counter()
            for w in many:
                torch.nn.functional.linear(x, w)
            _wait(x.device)
            best = min(best, time.perf_counter() - begin)
    return len(many) * each.numel() / best


def empty_like(model):
    """A model with as many layers as `model` and next to no weights: what one of its steps costs besides the weights."""
    p = next(model.parameters())
    return random_model(p.dtype, p.device.type, num_hidden_layers=model.config.num_hidden_layers, **LEAST)


def _wait(device) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize()
