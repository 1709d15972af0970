"""A plain-torch W4A4 reference: Qwen3 written out in float32, from an NVFP4 checkpoint and nothing else.

Independent of vLLM, of transformers' model code and of the stand-in: what NVFP4 means is spelled out here once more.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

CODES = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
BOUNDS = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
CLOSED = torch.tensor([False, True, False, True, False, True, False])     # ties go to the even code


def e2m1(x: torch.Tensor) -> torch.Tensor:
    """The nearest E2M1 value: as many boundaries as |x| passes."""
    m = x.abs()[..., None]
    return CODES[((m > BOUNDS) | (CLOSED & (m == BOUNDS))).sum(-1)] * x.sign()


def fake_quantize(x: torch.Tensor, tensor_scale: torch.Tensor) -> torch.Tensor:
    """float32 [..., K] -> its NVFP4 values, blocks of 16 along K, with a given tensor scale (the checkpoint's)."""
    blocks = x.reshape(*x.shape[:-1], x.shape[-1] // 16, 16)
    scale = (blocks.abs().amax(-1, keepdim=True) / 6 / tensor_scale).clamp(max=448).to(torch.float8_e4m3fn).float()
    step = scale * tensor_scale
    return (e2m1(torch.where(step > 0, blocks / step, 0.0)) * step).reshape(x.shape)


class Reference:
    """quantize_inputs False gives W4A16, to see what the activations' rounding costs; the checkpoint may be BF16 too."""

    def __init__(self, folder: Path, *, quantize_inputs: bool = True):
        self.c = json.loads((folder / "config.json").read_text())
        self.t = load_file(folder / "model.safetensors")
        self.quantize_inputs = quantize_inputs

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        w = self.t[f"{name}.weight"]
        if w.dtype != torch.uint8:
            return x @ w.float().T
        codes = torch.stack((w & 15, w >> 4), -1).flatten(1).long()
        values = torch.where(codes > 7, -CODES[codes & 7], CODES[codes & 7])
        scale = self.t[f"{name}.weight_scale"].float() * self.t[f"{name}.weight_scale_2"].float()
        weight = values * scale.repeat_interleave(16, 1)
        if self.quantize_inputs:
            x = fake_quantize(x, self.t[f"{name}.input_scale"].float())
        return x @ weight.T

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.c["rms_norm_eps"]) * self.t[f"{name}.weight"].float()

    @torch.inference_mode()
    def logprobs(self, ids: list[int]) -> torch.Tensor:
        """log p of the next token after each prefix: float32 [len(ids), vocab]."""
        c, n = self.c, len(ids)
        heads, kv, dim = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        theta = c.get("rope_theta") or c["rope_parameters"]["rope_theta"]
        angle = torch.arange(n)[:, None] * theta ** (-torch.arange(0, dim, 2) / dim)
        cos, sin = angle.cos(), angle.sin()

        def rotate(x):      # [n, heads, dim]
            a, b = x[..., : dim // 2], x[..., dim // 2 :]
            return torch.cat((a * cos[:, None] - b * sin[:, None], b * cos[:, None] + a * sin[:, None]), -1)

        x = self.t["model.embed_tokens.weight"].float()[torch.tensor(ids)]
        mask = torch.full((n, n), -torch.inf).triu(1)
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}"
            h = self.norm(x, f"{p}.input_layernorm")
            q = rotate(self.norm(self.linear(h, f"{p}.self_attn.q_proj").view(n, heads, dim), f"{p}.self_attn.q_norm"))
            k = rotate(self.norm(self.linear(h, f"{p}.self_attn.k_proj").view(n, kv, dim), f"{p}.self_attn.k_norm"))
            v = self.linear(h, f"{p}.self_attn.v_proj").view(n, kv, dim)
            k, v = (t.repeat_interleave(heads // kv, 1) for t in (k, v))
            scores = torch.einsum("qhd,khd->hqk", q, k) / dim**0.5 + mask
            mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(n, heads * dim)
            x = x + self.linear(mixed, f"{p}.self_attn.o_proj")
            h = self.norm(x, f"{p}.post_attention_layernorm")
            gate = torch.nn.functional.silu(self.linear(h, f"{p}.mlp.gate_proj"))
            x = x + self.linear(gate * self.linear(h, f"{p}.mlp.up_proj"), f"{p}.mlp.down_proj")
        x = self.norm(x, "model.norm")
        head = "lm_head" if "lm_head.weight" in self.t else "model.embed_tokens"
        return self.linear(x, head).log_softmax(-1)
