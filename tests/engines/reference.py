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
    """Log-probabilities from a checkpoint, NVFP4 (W4A4) or BF16.

    dtype: in what results are kept between operations. float32 is the mathematics; bfloat16 is what an engine started
    with --dtype bfloat16 does (sums and norms in float32 inside an operation, its result rounded). The difference counts
    for more than in a BF16 model: rounding that moves a value across a boundary of E2M1, or an amax across one of E4M3,
    changes a whole 4-bit step. quantize_inputs False gives W4A16.
    """

    def __init__(self, folder: Path, *, dtype: torch.dtype = torch.float32, quantize_inputs: bool = True):
        self.c = json.loads((folder / "config.json").read_text())
        self.t = load_file(folder / "model.safetensors")
        self.dtype, self.quantize_inputs = dtype, quantize_inputs
        self.weights: dict[str, torch.Tensor] = {}

    def weight(self, name: str) -> torch.Tensor:
        if name not in self.weights:
            w = self.t[f"{name}.weight"]
            if w.dtype == torch.uint8:
                codes = torch.stack((w & 15, w >> 4), -1).flatten(1).long()
                values = torch.where(codes > 7, -CODES[codes & 7], CODES[codes & 7])
                scale = self.t[f"{name}.weight_scale"].float() * self.t[f"{name}.weight_scale_2"].float()
                w = values * scale.repeat_interleave(16, 1)
            self.weights[name] = w.to(self.dtype)
        return self.weights[name]

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        if self.quantize_inputs and f"{name}.input_scale" in self.t:
            x = fake_quantize(x.float(), self.t[f"{name}.input_scale"].float()).to(self.dtype)
        return x @ self.weight(name).T

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        x = x.float()
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.c["rms_norm_eps"])
        return x.to(self.dtype) * self.t[f"{name}.weight"].to(self.dtype)

    @torch.inference_mode()
    def logprobs(self, ids: list[int]) -> torch.Tensor:
        """log p of the next token after each prefix: float32 [len(ids), vocab]."""
        c, n, dtype = self.c, len(ids), self.dtype
        heads, kv, dim = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        theta = c.get("rope_theta") or c["rope_parameters"]["rope_theta"]
        angle = torch.arange(n)[:, None] * theta ** (-torch.arange(0, dim, 2) / dim)
        cos, sin = (f(angle).to(dtype).float()[:, None] for f in (torch.cos, torch.sin))

        def rotate(x):      # [n, heads, dim]
            a, b = x.float().chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(dtype).float()

        x = self.weight("model.embed_tokens")[torch.tensor(ids)].float()
        mask = torch.full((n, n), -torch.inf).triu(1)
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}"
            h, x = self.norm(x, f"{p}.input_layernorm"), x.to(dtype).float()
            q = rotate(self.norm(self.linear(h, f"{p}.self_attn.q_proj").view(n, heads, dim), f"{p}.self_attn.q_norm"))
            k = rotate(self.norm(self.linear(h, f"{p}.self_attn.k_proj").view(n, kv, dim), f"{p}.self_attn.k_norm"))
            v = self.linear(h, f"{p}.self_attn.v_proj").view(n, kv, dim).float()
            k, v = (t.repeat_interleave(heads // kv, 1) for t in (k, v))
            scores = torch.einsum("qhd,khd->hqk", q, k) / dim**0.5 + mask
            mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(n, heads * dim).to(dtype)
            x = x + self.linear(mixed, f"{p}.self_attn.o_proj").float()
            h, x = self.norm(x, f"{p}.post_attention_layernorm"), x.to(dtype).float()
            gate = torch.nn.functional.silu(self.linear(h, f"{p}.mlp.gate_proj"))
            x = x + self.linear(gate * self.linear(h, f"{p}.mlp.up_proj"), f"{p}.mlp.down_proj").float()
        head = "lm_head" if "lm_head.weight" in self.t else "model.embed_tokens"
        return self.linear(self.norm(x, "model.norm"), head).float().log_softmax(-1)
