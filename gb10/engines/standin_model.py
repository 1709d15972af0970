"""The stand-in's model: load it with transformers, compute in float32, yield one token after the other.

An NVFP4 checkpoint is computed as W4A4: weights as written in the checkpoint, the inputs of those layers rounded to
NVFP4 with the checkpoint's input_scale. All on the CPU with plain torch, right but slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from gb10.engines.standin_fields import Refused, Request

E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


@dataclass
class Step:
    """One generated token. `text` is what may be shown now; `alternatives` are (token id, logprob), best first."""

    token: int
    logprob: float
    alternatives: list[tuple[int, float]]


class Model:
    def __init__(self, folder: Path, context: int):
        from transformers import AutoTokenizer

        self.folder, self.context = Path(folder), context
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.net = load(self.folder)
        self.eos = self._end_tokens()

    def _end_tokens(self) -> set[int]:
        ids = {self.tokenizer.eos_token_id}
        for source in (self.net.config, self.net.generation_config):
            value = getattr(source, "eos_token_id", None)
            ids |= set(value) if isinstance(value, list) else {value}
        return ids - {None}

    def encode(self, r: Request) -> list[int]:
        """The prompt's token ids. Raises Refused if prompt and answer can't fit into the context."""
        if r.chat:
            if not self.tokenizer.chat_template:
                raise Refused("this model has no chat template: use /v1/completions", "messages")
            text = self.tokenizer.apply_chat_template(r.prompt, tokenize=False, add_generation_prompt=True)
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        elif isinstance(r.prompt, str):
            ids = self.tokenizer(r.prompt)["input_ids"]
        else:
            ids = r.prompt
            if not all(0 <= i < self.net.config.vocab_size for i in ids):
                raise Refused(f"token ids go from 0 to {self.net.config.vocab_size - 1}", "prompt")
        if not ids:
            raise Refused("the prompt is empty", "prompt")
        if len(ids) + (r.max_tokens or 1) > self.context:
            raise Refused(f"This model's maximum context length is {self.context} tokens: the prompt has {len(ids)}, and "
                          f"{r.max_tokens or 1} were asked for", "max_tokens" if len(ids) < self.context else "prompt")
        return ids

    @torch.inference_mode()
    def generate(self, ids: list[int], r: Request) -> Iterator[Step]:
        """Tokens until an end token (not yielded), or until max_tokens or the context are used up."""
        generator = torch.Generator()
        if r.seed is None:
            generator.seed()
        else:
            generator.manual_seed(r.seed % 2**64)
        cache, feed = None, torch.tensor([ids])
        for _ in range(min(r.max_tokens or self.context, self.context - len(ids))):
            out = self.net(input_ids=feed, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, logits = out.past_key_values, out.logits[0, -1].float()
            token = sample(logits, r, generator)
            if token in self.eos and not r.ignore_eos:
                return
            logprobs = logits.log_softmax(-1)
            top = logprobs.topk(r.logprobs) if r.logprobs else None
            yield Step(token, logprobs[token].item(),
                       list(zip(top.indices.tolist(), top.values.tolist(), strict=True)) if top else [])
            feed = torch.tensor([[token]])


def sample(logits: torch.Tensor, r: Request, generator: torch.Generator) -> int:
    """One token id from logits [vocab]. Temperature 0 is greedy; then top-k, top-p and min-p, in vLLM's order."""
    if r.temperature == 0:
        return int(logits.argmax())
    logits = logits / r.temperature
    if r.min_p > 0:
        p = logits.softmax(-1)
        logits = logits.masked_fill(p < r.min_p * p.max(), -torch.inf)
    if 0 < r.top_k < logits.numel():
        keep = logits.topk(r.top_k).indices
        logits = torch.full_like(logits, -torch.inf).scatter(0, keep, logits[keep])
    if r.top_p < 1:
        p, order = logits.softmax(-1).sort(descending=True)
        drop = order[(p.cumsum(0) - p) > r.top_p]      # keep what reaches top_p, at least one
        logits = logits.index_fill(0, drop, -torch.inf)
    return int(torch.multinomial(logits.softmax(-1), 1, generator=generator))


def load(folder: Path):
    """A causal language model in float32 from BF16 or ModelOpt-NVFP4 safetensors."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if getattr(config, "quantization_config", None) is None and not (folder / "hf_quant_config.json").exists():
        net = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32, trust_remote_code=False,
                                                   use_safetensors=True)
        return net.eval()
    return _load_nvfp4(folder, config)


def _load_nvfp4(folder: Path, config):
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as f:
            tensors |= {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    net = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    weights = {}
    for name, t in tensors.items():
        if name.endswith(".weight") and t.dtype == torch.uint8:
            base = name.removesuffix(".weight")
            weights[name] = dequantize(t, tensors[base + ".weight_scale"], tensors[base + ".weight_scale_2"])
            if base + ".input_scale" in tensors:
                _round_inputs(net.get_submodule(base), tensors[base + ".input_scale"].float())
        elif not name.endswith(("_scale", "_scale_2")):
            weights[name] = t.float()
    missing, unexpected = net.load_state_dict(weights, strict=False)
    if config.tie_word_embeddings:
        net.tie_weights()
        missing = [m for m in missing if m != "lm_head.weight"]
    if missing or unexpected:
        raise ValueError(f"the checkpoint does not match its config.json: missing {missing[:3]}, unexpected {unexpected[:3]}")
    return net.eval()


def dequantize(packed: torch.Tensor, scale: torch.Tensor, tensor_scale: torch.Tensor) -> torch.Tensor:
    """uint8 [N, K/2] (even element in the low nibble), float8_e4m3fn [N, K/16], float32 scalar -> float32 [N, K]."""
    values = E2M1[torch.stack((packed & 15, packed >> 4), -1).long()].reshape(packed.shape[0], -1, 16)
    return (values * (scale.float() * tensor_scale.float())[..., None]).flatten(1)


def _round_inputs(layer: torch.nn.Module, tensor_scale: torch.Tensor) -> None:
    layer.register_forward_pre_hook(lambda _, args: (round_to_nvfp4(args[0], tensor_scale), *args[1:]))


def round_to_nvfp4(x: torch.Tensor, tensor_scale: torch.Tensor) -> torch.Tensor:
    """The nearest NVFP4 values (E2M1, ties to even; block scale amax/6 in E4M3) of float32 [..., K] for a given tensor
    scale: what W4A4 does to a layer's input."""
    blocks = x.float().reshape(*x.shape[:-1], -1, 16)
    scale = (blocks.abs().amax(-1, keepdim=True) / (6 * tensor_scale)).clamp(max=448).to(torch.float8_e4m3fn).float()
    step = scale * tensor_scale
    y = torch.where(step > 0, blocks / step, torch.zeros_like(blocks))
    m = y.abs().clamp(max=6)
    # Spacing of E2M1: 0.5 below 2, 1 from 2 to 4, 2 from 4 to 6; torch.round sends ties to even.
    spacing = torch.where(m < 2, 0.5, torch.where(m < 4, 1.0, 2.0))
    return (torch.round(m / spacing) * spacing * y.sign() * step).reshape(x.shape).to(x.dtype)


