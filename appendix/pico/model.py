"""pico itself: a Qwen3 transformer in sixty lines of torch, and its export for everybody else.

Same arithmetic as Qwen3ForCausalLM in transformers: RMSNorm before each half-block, grouped-query attention
with per-head RMSNorm on queries and keys, rotary positions (half rotation), SwiGLU, tied embeddings. The
parameters carry the names of the Hugging Face checkpoint, so export is a rename-free copy; a test compares the
logits of both.
"""
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn


@dataclass
class Config:
    vocab_size: int = 4096
    hidden: int = 256            # channels of the residual stream; a multiple of 256
    layers: int = 6
    ffn: int = 768               # inner width of the SwiGLU block; a multiple of 256
    heads: int = 4               # query heads
    kv_heads: int = 2            # key and value heads, each shared by two query heads
    head_dim: int = 64
    rope_theta: float = 10000.0
    eps: float = 1e-6
    max_positions: int = 2048


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def rotate(x, cos, sin):
    """Rotary positions on x [B, H, T, D]; cos, sin [T, D/2]. The first half of a head pairs with the second."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Attention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.hidden, c.heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.heads * c.head_dim, c.hidden, bias=False)
        self.q_norm = RMSNorm(c.head_dim, c.eps)
        self.k_norm = RMSNorm(c.head_dim, c.eps)

    def forward(self, x, cos, sin):
        B, T, _ = x.shape
        D = self.c.head_dim
        q = self.q_norm(self.q_proj(x).view(B, T, -1, D)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(B, T, -1, D)).transpose(1, 2)
        v = self.v_proj(x).view(B, T, -1, D).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        groups = self.c.heads // self.c.kv_heads
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(B, T, -1))


class MLP(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden, c.ffn, bias=False)
        self.up_proj = nn.Linear(c.hidden, c.ffn, bias=False)
        self.down_proj = nn.Linear(c.ffn, c.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden, c.eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c.hidden, c.eps)
        self.mlp = MLP(c)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Backbone(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden)
        self.layers = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.hidden, c.eps)


class Pico(nn.Module):
    """Token ids [B, T] in, logits [B, T, vocab] out."""

    def __init__(self, c: Config | None = None):
        super().__init__()
        self.c = c = c or Config()
        self.model = Backbone(c)
        inverse = c.rope_theta ** (-torch.arange(0, c.head_dim, 2, dtype=torch.float32) / c.head_dim)
        angles = torch.outer(torch.arange(c.max_positions, dtype=torch.float32), inverse)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = 0.02 if "embed" in name else p.shape[1] ** -0.5
                nn.init.zeros_(p) if name.endswith(("o_proj.weight", "down_proj.weight")) else nn.init.normal_(p, std=std)

    def hidden_states(self, ids):
        x = self.model.embed_tokens(ids)
        cos, sin = self.cos[:ids.shape[1]], self.sin[:ids.shape[1]]
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return self.model.norm(x)

    def forward(self, ids):
        return F.linear(self.hidden_states(ids), self.model.embed_tokens.weight)

    def loss(self, ids, targets):
        """Mean cross-entropy in nats of all targets. ids, targets: [B, T]."""
        return F.cross_entropy(self(ids).flatten(0, 1), targets.flatten())

    def masked_loss(self, ids, targets):
        """The same where targets of -100 do not count; logits are computed for the others only."""
        keep = targets.flatten() >= 0
        h = self.hidden_states(ids).flatten(0, 1)[keep]
        return F.cross_entropy(F.linear(h, self.model.embed_tokens.weight), targets.flatten()[keep])


def parameters_of(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def hf_config(c: Config, ids: dict[str, int]) -> dict:
    """config.json: what transformers 5 writes, plus the top-level rope_theta that older loaders read."""
    return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "dtype": "bfloat16", "torch_dtype": "bfloat16",
            "vocab_size": c.vocab_size, "hidden_size": c.hidden, "intermediate_size": c.ffn,
            "num_hidden_layers": c.layers, "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads,
            "head_dim": c.head_dim, "hidden_act": "silu", "rms_norm_eps": c.eps, "attention_bias": False,
            "attention_dropout": 0.0, "initializer_range": 0.02, "max_position_embeddings": c.max_positions,
            "rope_theta": c.rope_theta, "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
            "rope_scaling": None, "sliding_window": None, "use_sliding_window": False, "max_window_layers": c.layers,
            "layer_types": ["full_attention"] * c.layers, "tie_word_embeddings": True, "use_cache": True,
            "bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}


def export(model: Pico, folder: Path, ids: dict[str, int]) -> None:
    """Write model.safetensors (BF16), config.json and generation_config.json, each replaced in one step."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    save_file(state, folder / ".model.safetensors.new", metadata={"format": "pt"})
    os.chmod(folder / ".model.safetensors.new", 0o644)                 # safetensors writes for the owner alone
    os.replace(folder / ".model.safetensors.new", folder / "model.safetensors")
    generation = {"do_sample": False, "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
                  "pad_token_id": ids["<|endoftext|>"], "max_new_tokens": 128}
    for name, content in (("config.json", hf_config(model.c, ids)), ("generation_config.json", generation)):
        (folder / f".{name}.new").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(folder / f".{name}.new", folder / name)


def load(folder: Path) -> Pico:
    """The shipped weights in this module's own classes, in float32."""
    folder = Path(folder)
    j = json.loads((folder / "config.json").read_text())
    model = Pico(Config(j["vocab_size"], j["hidden_size"], j["num_hidden_layers"], j["intermediate_size"],
                        j["num_attention_heads"], j["num_key_value_heads"], j["head_dim"], j["rope_theta"],
                        j["rms_norm_eps"], j["max_position_embeddings"]))
    state = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(state)
    return model.eval()
