"""gb10/catalog/data/family_defaults.json anew, from the configuration classes of transformers:

    python tests/catalog/family_defaults.py

A published config.json may leave out what equals its class's default (google/gemma-3-4b-it leaves out its heads).
"""

import json
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "gb10" / "catalog" / "data" / "family_defaults.json"
_FAMILIES = """llama qwen2 qwen3 qwen2_moe qwen3_moe qwen3_next qwen3_5_text qwen3_5_moe_text qwen2_vl_text qwen2_5_vl_text
qwen3_vl_text qwen3_vl_moe_text mistral ministral ministral3 mixtral gemma gemma2 gemma3_text gemma4_text phi phi3 phimoe
glm glm4 glm4_moe glm4_moe_lite olmo olmo2 olmo3 olmoe deepseek_v2 deepseek_v3 gpt_oss minimax_m2 llama4_text nemotron_h
cohere cohere2 granite granitemoe granitemoehybrid seed_oss ernie4_5 ernie4_5_moe exaone4 smollm3 lfm2 lfm2_moe
hunyuan_v1_dense hunyuan_v1_moe dots1 starcoder2 stablelm nemotron arcee apertus falcon_h1 gpt2 gpt_neox"""
_FIELDS = """vocab_size num_attention_heads num_key_value_heads head_dim global_head_dim num_global_key_value_heads
attention_k_eq_v intermediate_size intermediate_size_mlp tie_word_embeddings attention_bias mlp_bias sliding_window
sliding_window_pattern use_sliding_window max_window_layers attention_chunk_size num_experts num_local_experts
n_routed_experts n_shared_experts num_experts_per_tok moe_intermediate_size shared_expert_intermediate_size
decoder_sparse_step first_k_dense_replace interleave_moe_layer_step kv_lora_rank q_lora_rank qk_rope_head_dim
qk_nope_head_dim v_head_dim linear_num_key_heads linear_num_value_heads linear_key_head_dim linear_value_head_dim
linear_conv_kernel_dim mamba_num_heads mamba_head_dim ssm_state_size n_groups conv_kernel mamba_n_heads mamba_d_head
mamba_d_state mamba_n_groups mamba_d_conv use_qk_norm max_position_embeddings"""


def collect() -> dict:
    from transformers import CONFIG_MAPPING

    out = {}
    for family in _FAMILIES.split():
        fields = CONFIG_MAPPING[family].__dataclass_fields__         # the class's own, not what it derives from others
        defaults = {f: fields[f].default for f in _FIELDS.split() if f in fields}
        out[family] = {f: v for f, v in defaults.items() if isinstance(v, (int, float, bool))}
    return out


def text() -> str:
    rows = ",\n".join(f" {json.dumps(f)}: {json.dumps(d)}" for f, d in collect().items())
    return "{\n" + rows + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    sys.exit(0)
