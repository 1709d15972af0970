"""Tensors whose rows GGUF's K-quants can't hold: a super-block has 256 numbers, and a row must be whole blocks of them.

llama.cpp then takes a type with blocks of 32 instead (Q4_K -> Q5_0, Q6_K -> Q8_0), which weighs more. A row is as long
as what the matrix is multiplied with: the hidden size for most, the layer's inner width for what leads back (down).
"""

from __future__ import annotations

from gb10.catalog import experts
from gb10.catalog import layers as L

SUPER_BLOCK = 256


def odd_rows(c: dict) -> dict[str, tuple[float, float]]:
    """{kind: (share in the odd rows of matrices that read the hidden state, share in odd rows of those that lead back)}
    of the parameters of each kind; kinds without any are left out."""
    h = c["hidden_size"]
    plain = c.get("model_type", "") in L.PLAIN_MLP
    back = 1 / 2 if plain else 1 / 3                                  # down among up and down, or gate, up and down
    width, inside = c.get("intermediate_size"), c.get("moe_latent_size") or h
    moe = c.get("moe_intermediate_size") or c.get("expert_ffn_hidden_size") or width
    found = {"head": _share(h, h, 0), "embedding": _share(h, h, 0), "ffn": _share(h, width, back),
             "mixer": _share(h, _inner(c), 1 / 3)}
    if experts.number(c):
        found["experts"] = _share(inside, moe, back)
        found["shared"] = _share(h, c.get("moe_shared_expert_intermediate_size") or c.get("shared_expert_intermediate_size") or moe,
                                 back)
    if not c.get("kv_lora_rank") and c.get("num_attention_heads"):
        nh, nkv, hd = L.heads(c)
        found["attention"] = _share(h, nh * hd, nh / (2 * nh + 2 * nkv))
    return {kind: share for kind, share in found.items() if any(share)}


def _share(row: int, row_back: int | list | None, back: float) -> tuple[float, float]:
    def odd(n):
        return isinstance(n, int) and n % SUPER_BLOCK != 0

    return (1 - back) * odd(row), back * odd(row_back)


def _inner(c: dict) -> int | None:
    """The width inside a state-space or linear-attention layer."""
    if c.get("linear_num_value_heads"):
        return c["linear_num_value_heads"] * c["linear_value_head_dim"]
    heads = c.get("mamba_num_heads") or c.get("mamba_n_heads")
    return heads * (c.get("mamba_head_dim") or c.get("mamba_d_head")) if heads else None
