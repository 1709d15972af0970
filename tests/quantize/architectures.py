"""Tiny models of random weights in many architectures, as checkpoints on disk, and what ModelOpt makes of each."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from pathlib import Path

_DENSE = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "num_attention_heads": 4,
          "num_key_value_heads": 2, "vocab_size": 256, "max_position_embeddings": 256, "bos_token_id": 0,
          "eos_token_id": 1, "pad_token_id": 2}
_HEADS = {**_DENSE, "head_dim": 16}
_MOE = {**_HEADS, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

# name -> (model_type, config)
KINDS = {
    "llama": ("llama", _DENSE),
    "llama, tied": ("llama", {**_DENSE, "tie_word_embeddings": True}),
    "llama, biases": ("llama", {**_DENSE, "attention_bias": True, "mlp_bias": True}),
    "mistral": ("mistral", _HEADS),
    "qwen2": ("qwen2", _DENSE),
    "qwen3": ("qwen3", _HEADS),
    "qwen3, tied": ("qwen3", {**_HEADS, "tie_word_embeddings": True}),
    "phi3": ("phi3", _DENSE),                                        # q/k/v and gate/up are one matrix each
    "phi": ("phi", _DENSE),                                          # q, k, v and fc1 read the same input
    "cohere": ("cohere", _DENSE),                                    # so do q, k, v, gate and up
    "gemma3": ("gemma3_text", _HEADS),
    "olmo2": ("olmo2", _DENSE),
    "starcoder2": ("starcoder2", _DENSE),
    "gpt-neox": ("gpt_neox", _DENSE),                                # renamed while it is loaded
    "qwen3-moe": ("qwen3_moe", _MOE),                                # experts one by one on disk, one tensor in memory
    "mixtral": ("mixtral", {**_DENSE, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "glm4-moe": ("glm4_moe", {**_HEADS, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                              "first_k_dense_replace": 1}),
    "qwen3-next": ("qwen3_next", {**_MOE, "shared_expert_intermediate_size": 32, "linear_num_value_heads": 4,
                                  "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16}),
}
BY_RULES = ("llama", "llama, tied", "llama, biases", "mistral", "qwen2", "qwen3", "qwen3, tied")
NOT_STREAMED = {"gpt2": ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 256, "n_positions": 256}),
                "gpt-oss": ("gpt_oss", {**_HEADS, "num_local_experts": 4, "num_experts_per_tok": 2})}


def save(kind: str, folder: Path, dtype: str = "bfloat16", seed: int = 0, **how) -> Path:
    """Write the checkpoint of a kind; layers have clearly different ranges, so that sharing a scale shows."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, config = (KINDS | NOT_STREAMED)[kind]
    torch.manual_seed(seed)
    with quiet():
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **config), dtype=getattr(torch, dtype))
        with torch.no_grad():
            for i, parameter in enumerate(model.parameters()):
                if parameter.ndim >= 2:
                    parameter.normal_(0, 0.02 * (1 + i % 5))
        model.eval().save_pretrained(folder, **how)
    return folder


def by_modelopt(source: Path, folder: Path) -> Path:
    """ModelOpt's own W4A16_NVFP4 export of a checkpoint."""
    import modelopt.torch.quantization as mtq
    from modelopt.torch.export import export_hf_checkpoint
    from transformers import AutoModelForCausalLM

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
        export_hf_checkpoint(mtq.quantize(model, copy.deepcopy(mtq.W4A16_NVFP4_CFG), None), export_dir=folder)
    return folder


@contextlib.contextmanager
def quiet():
    from transformers.utils import logging

    logging.set_verbosity_error()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
