"""Bytes: of checkpoints, of one decode step, of the KV cache. Checked by hand, and against files that exist."""

import pytest

from gb10 import catalog, roofline
from gb10.roofline import traffic

# file and bytes read per token in GB at context 0, computed by hand from the published shapes and the rules in formats.json
TABLE = [
    ("Qwen3-0.6B", "bf16", 1.19, 1.19), ("Qwen3-1.7B", "bf16", 3.44, 3.44), ("Qwen3-1.7B", "nvfp4", 1.42, 1.42),
    ("Qwen3-4B", "bf16", 8.04, 8.04), ("Qwen3-4B", "nvfp4", 2.82, 2.82), ("Qwen3-8B", "bf16", 16.38, 15.14),
    ("Qwen3-8B", "fp8", 9.44, 8.19), ("Qwen3-8B", "nvfp4", 6.40, 5.15), ("Qwen3-8B", "q4_k_m", 5.07, 4.72),
    ("Qwen3-14B", "bf16", 29.54, 27.98), ("Qwen3-14B", "fp8", 16.32, 14.77), ("Qwen3-14B", "nvfp4", 10.54, 8.99),
    ("Qwen3-32B", "bf16", 65.52, 63.97), ("Qwen3-32B", "nvfp4", 20.66, 19.11), ("Qwen3-30B-A3B", "bf16", 61.06, 6.08),
    ("Qwen3-30B-A3B", "nvfp4", 18.09, 2.18), ("Llama-3.1-8B", "nvfp4", 6.03, 4.98), ("Llama-3.1-8B", "q8_0", 8.53, 7.97),
    ("Llama-3.3-70B", "nvfp4", 42.71, 40.61), ("Llama-3.3-70B", "fp8", 72.65, 70.55), ("gpt-oss-20b", "mxfp4", 13.76, 3.71),
    ("gpt-oss-20b", "gguf-mxfp4", 12.10, 2.57), ("gpt-oss-120b", "mxfp4", 65.25, 5.00),
    ("gpt-oss-120b", "gguf-mxfp4", 63.37, 3.59), ("Qwen3-235B-A22B", "nvfp4", 134.1, 13.10)]


@pytest.mark.parametrize(("name", "fmt", "file_gb", "read_gb"), TABLE)
def test_file_and_read(name, fmt, file_gb, read_gb):
    m = catalog.model(name)
    assert traffic.weight_bytes(m, fmt) / 1e9 == pytest.approx(file_gb, abs=0.0101)
    assert traffic.read_weights(m, fmt) / 1e9 == pytest.approx(read_gb, abs=0.0101)
    assert sum(traffic.weight_bytes_by_kind(m, fmt).values()) == pytest.approx(traffic.weight_bytes(m, fmt))


def test_qwen3_8b_nvfp4_by_hand():
    linear, table = 1509949440 + 5435817984, 151936 * 4096
    small = 36 * (2 * 4096 + 256) + 4096
    assert traffic.weight_bytes(catalog.model("Qwen3-8B"), "nvfp4") == linear * 4.5 / 8 + 2 * table * 2 + small * 2
    assert traffic.read_weights(catalog.model("Qwen3-8B"), "nvfp4") == linear * 4.5 / 8 + table * 2 + small * 2


def test_a_tied_table_is_read_once_as_the_head():
    m = catalog.model("Qwen3-4B")
    assert m.tied and traffic.read_weights(m, "bf16") == traffic.weight_bytes(m, "bf16") == 2 * m.params


def test_experts_are_read_by_the_token():
    m = catalog.model("Qwen3-30B-A3B")
    without = traffic.read_weights(m, "bf16") - 2 * 28991029248 * 8 / 128
    assert without == 2 * (905969664 + 12582912 + 311164928 + m.count("small"))
    two = traffic.read_weights(m, "bf16", batch=2) - without
    assert two == pytest.approx(2 * 28991029248 * (1 - (1 - 8 / 128) ** 2))
    assert traffic.read_weights(m, "bf16", batch=10**6) == pytest.approx(traffic.weight_bytes(m, "bf16") - 2 * 311164928)


def test_files_that_exist_have_the_computed_size():
    """The sizes in the size column of llama-bench, to 0.2 %."""
    seen = 0
    for row in catalog.measurements():
        if row.weights_bytes and row.weights and row.machine_name == "gb10":
            m = catalog.model(row.model)
            assert traffic.weight_bytes(m, row.weights) == pytest.approx(row.weights_bytes, rel=0.002), row.id
            seen += 1
    assert seen > 100


@pytest.mark.parametrize(("name", "fmt", "gb", "rel"), [      # other checkpoints whose size was published
    ("Qwen3-14B", "nvfp4", 10.6, 0.01), ("Llama-3.1-8B", "q4_k_m", 4.9, 0.02), ("Llama-3.1-70B", "q4_k_m", 43, 0.02),
    ("gpt-oss-20b", "mxfp4", 14, 0.02), ("gpt-oss-120b", "mxfp4", 65, 0.01), ("Gemma-4-31B-it", "nvfp4", 32.7, 0.05)])
def test_published_downloads(name, fmt, gb, rel):
    assert traffic.weight_bytes(catalog.model(name), fmt) / 1e9 == pytest.approx(gb, rel=rel)


@pytest.mark.parametrize(("name", "gib"), [("Qwen3-0.6B", 3.5), ("Qwen3-8B", 4.5), ("Qwen3-14B", 5), ("Qwen3-32B", 8),
                                          ("Qwen3-30B-A3B", 3), ("Llama-3.1-8B", 4), ("Llama-3.3-70B", 10)])
def test_kv_of_32k_tokens(name, gib):
    m = catalog.model(name)
    assert traffic.kv_bytes(m, "bf16", 32768) == gib * 2**30
    assert traffic.kv_bytes(m, "fp8", 32768) == gib * 2**30 / 2
    assert traffic.kv_bytes(m, "bf16", 32768, batch=3) == 3 * gib * 2**30
    assert traffic.kv_bytes_per_token(m, "bf16") == gib * 2**30 / 32768


def test_sliding_windows_are_capped():
    m = catalog.model("gpt-oss-120b")
    full, window = 18 * 2 * 8 * 64 * 2, 18 * 2 * 8 * 64 * 2
    assert traffic.kv_bytes(m, "bf16", 100) == 100 * (full + window)
    assert traffic.kv_bytes(m, "bf16", 32768) == 32768 * full + 128 * window
    assert traffic.kv_bytes_per_token(m, "bf16", context=100) == full + window
    assert traffic.kv_bytes_per_token(m, "bf16", context=5000) == traffic.kv_bytes_per_token(m, "bf16") == full


@pytest.mark.parametrize(("name", "fmt", "context"), [("Qwen3-8B", "nvfp4", 35e3), ("Qwen3-14B", "nvfp4", 55e3),
                                                     ("Qwen3-30B-A3B", "nvfp4", 22e3), ("gpt-oss-120b", "gguf-mxfp4", 97e3)])
def test_where_the_cache_weighs_as_much_as_the_weights(name, fmt, context):
    m = catalog.model(name)
    assert traffic.read_weights(m, fmt) / traffic.kv_bytes_per_token(m) == pytest.approx(context, rel=0.02)


def test_latent_attention_and_hybrids():
    glm = catalog.model("GLM-4.7-Flash")
    assert traffic.kv_bytes_per_token(glm) == 47 * (512 + 64) * 2
    nemotron = catalog.model("Nemotron-3-Super")
    state = 40 * 128 * 64 * 128 * 4                                    # 40 Mamba layers, FP32
    assert traffic.state_bytes(nemotron) == state
    assert traffic.kv_bytes(nemotron, "bf16", 0, batch=2) == 2 * state
    assert traffic.kv_bytes(nemotron, "bf16", 1000) == state + 1000 * 8 * 2 * 2 * 128 * 2
    moved = traffic.step_bytes(nemotron, "q8_0", "bf16", 0)
    assert moved == traffic.read_weights(nemotron, "q8_0") + 2 * state          # read and written


def test_what_the_recipes_of_other_checkpoints_keep():
    qwen = catalog.model("nvidia/Qwen3.6-35B-A3B-NVFP4")
    by = traffic.weight_bytes_by_kind(qwen, "nvfp4-w4a16")
    assert by["head"] == qwen.count("head") * 4.5 / 8 and by["attention"] == qwen.count("attention")
    assert by["embedding"] == 2 * qwen.count("embedding")


@pytest.mark.parametrize("name", list(catalog.models()))
def test_every_model_in_every_format(name):
    m = catalog.model(name)
    whole = {f: traffic.weight_bytes(m, f) for f in catalog.formats_of(m)}
    for f, size in whole.items():
        fmt = catalog.weight_format(f)
        assert m.params * fmt.nominal_bits / 8 <= size <= m.params * 2.2 + 5e8
        assert 0 < traffic.read_weights(m, f) <= size
    if "bf16" in whole:
        assert whole["bf16"] > whole["fp8"] > whole["nvfp4"] and whole["bf16"] > whole["q8_0"] > whole["q4_k_m"]
    assert roofline.kv_bytes(m, "fp8", 4096) < roofline.kv_bytes(m, "bf16", 4096) or not m.caches
