"""Fit, decode and prefill as one answer: limits over a grid, what fits, bad requests."""

import itertools

import pytest

from gb10 import catalog, roofline
from gb10.roofline import memory
from gb10.roofline import prefill as pre
from gb10.roofline.engines import ENGINES

GIB = 2**30
NAMES = ["Qwen3-0.6B", "Qwen3-8B", "Llama-3.3-70B", "gpt-oss-120b", "Qwen3-30B-A3B", "gemma-3-4b", "GLM-4.7-Flash",
         "Nemotron-3-Super", "Qwen3-Next-80B-A3B", "DeepSeek-V3"]


def answers(**fixed):
    """Every combination that the predictor doesn't refuse."""
    for name, engine, machine in itertools.product(NAMES, ENGINES, ("gb10", "b200", "jetson-thor")):
        m = catalog.model(name)
        for fmt, context, batch in itertools.product(catalog.formats_of(m), (0, 3000, 100_000), (1, 2, 4, 32)):
            asked = {"weights": fmt, "context": context, "batch": batch, "engine": engine, "machine": machine} | fixed
            try:
                yield m, asked, roofline.fit(m, **asked)
            except catalog.NotPublished:
                continue


def test_nothing_is_ever_above_the_limit():
    seen = 0
    for m, asked, p in answers(kv="fp8"):
        hw = catalog.machine(asked["machine"])
        if p.decode_tps is None:
            assert m.moe and p.batch > 4 and any("no decode rate" in n for n in p.notes)
            assert p.decode_tps_low is None and p.decode_tps_high is None
            continue
        moved = p.bytes_per_token * p.batch
        assert 0 < p.decode_tps_low <= p.decode_tps <= p.decode_tps_high <= p.decode_tps_limit * 1.000001, asked
        assert p.decode_tps * moved / p.batch <= 0.86 * hw.bandwidth * 1.000001, asked
        assert p.decode_tps_high * moved / p.batch <= 0.90 * hw.bandwidth * 1.000001, asked
        if not m.moe or p.batch == 1:
            assert p.decode_tps_limit == pytest.approx(p.batch * hw.bandwidth / moved)
        if hw.calibrated:
            assert p.prefill_tps_low <= p.prefill_tps <= p.prefill_tps_high
            assert 2 * m.params_active * p.prefill_tps < 0.5 * hw.flops("nvfp4")
        seen += 1
    assert seen > 2000


def test_more_of_anything_is_slower_or_bigger():
    for name, fmt in (("Qwen3-8B", "nvfp4"), ("gpt-oss-20b", "gguf-mxfp4"), ("gemma-3-12b", "q4_k_m")):
        by = [roofline.fit(name, weights=fmt, context=c) for c in (0, 100, 5000, 30000, 120000)]
        for a, b in itertools.pairwise(by):
            assert b.decode_tps < a.decode_tps and b.kv_bytes > a.kv_bytes and b.left_bytes < a.left_bytes
            assert b.bytes_per_token > a.bytes_per_token and b.prefill_tps <= a.prefill_tps
        assert by[-1].prefill_tps < 0.8 * by[0].prefill_tps or name.startswith("gemma")
        users = [roofline.fit(name, weights=fmt, context=2000, batch=b) for b in (1, 2, 4)]
        for a, b in itertools.pairwise(users):
            assert b.decode_tps > a.decode_tps and b.decode_tps / b.batch < a.decode_tps / a.batch
            assert b.bytes_per_token < a.bytes_per_token and b.prefill_tps == a.prefill_tps


def test_fewer_bits_are_faster_to_decode():
    rates = [roofline.fit("Qwen3-14B", weights=f, engine="vllm").decode_tps for f in ("bf16", "fp8", "nvfp4")]
    assert rates == sorted(rates) and rates[2] / rates[0] > 2.4


@pytest.mark.parametrize(("name", "fmt", "fits"), [        # weights on one Spark, as the recipes and reports have it
    ("Qwen3-32B", "bf16", "fits"), ("Llama-3.3-70B", "bf16", "no"), ("Llama-3.3-70B", "fp8", "fits"),
    ("Llama-3.3-70B", "nvfp4", "fits"), ("gpt-oss-120b", "mxfp4", "fits"), ("Nemotron-3-Super", "nvfp4", "fits"),
    ("Nemotron-3-Super", "fp8", "no"), ("Qwen3-235B-A22B", "nvfp4", "no"), ("Qwen3-235B-A22B", "q4_k_m", "no"),
    ("DeepSeek-V3", "nvfp4", "no")])
def test_what_fits_on_a_spark(name, fmt, fits):
    p = roofline.fit(name, weights=fmt)
    assert p.fits == fits and p.ok == (fits != "no")
    assert (p.largest_context > 0) == (fits == "fits")


def test_a_card_of_32_gb_cannot_hold_what_a_spark_can():
    assert roofline.fit("Qwen3-32B", weights="nvfp4", machine="rtx-5090").fits == "fits"
    assert roofline.fit("Qwen3-32B", weights="fp8", machine="rtx-5090").fits == "no"
    assert roofline.fit("Qwen3-32B", weights="bf16", machine="gb10").fits == "fits"


def test_the_edges_of_fit_tight_and_no():
    p = roofline.fit("Llama-3.3-70B", weights="nvfp4", context=8192, batch=1)
    most = p.largest_batch
    assert roofline.fit("Llama-3.3-70B", weights="nvfp4", context=8192, batch=most).fits == "fits"
    over = roofline.fit("Llama-3.3-70B", weights="nvfp4", context=8192, batch=most + 1)
    assert over.fits == "tight" and over.ok and 8 * GIB <= over.left_bytes < 12.2 * GIB
    assert roofline.fit("Llama-3.3-70B", weights="nvfp4", context=8192, batch=most + 3).fits == "no"
    wide = roofline.fit("Llama-3.3-70B", weights="nvfp4", batch=16, context=1000)
    longest = wide.largest_context
    assert 0 < longest < 131072
    assert roofline.fit("Llama-3.3-70B", weights="nvfp4", batch=16, context=longest).fits == "fits"
    assert roofline.fit("Llama-3.3-70B", weights="nvfp4", batch=16, context=longest + 1).fits != "fits"


def test_the_sum_is_the_pool():
    p = roofline.fit("Qwen3-8B", weights="nvfp4", context=8192, batch=4)
    assert p.weight_bytes + p.kv_bytes + p.overhead_bytes + p.left_bytes == pytest.approx(121.6 * GIB)
    assert p.kv_bytes == 4 * 8192 * 147456
    assert 2 * GIB < p.overhead_bytes < 6.6 * GIB                 # what a published vLLM set-up leaves over bounds it
    assert p.keep_free_bytes / GIB == pytest.approx(12.16)


@pytest.mark.parametrize("top", [1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("edge", [0, 1, 2, 5, 8, 99, 1000])
def test_largest(top, edge):
    assert memory._largest(lambda n: n <= edge, top) == min(top, edge)


def test_prefill_explains_depth():
    """llama.cpp b7941: one attention rate gives the published loss from an empty cache to 32768 tokens."""
    by = {}
    for m in catalog.measurements():
        if "b7941 (llama-bench" in m.engine and m.depth in (0, 32768) and m.weights:
            by.setdefault((m.model, m.weights), {})[m.depth] = m.prefill_tps
    assert len(by) == 6
    for (name, fmt), measured in by.items():
        model, weights = catalog.model(name), catalog.weight_format(fmt)
        got = {d: pre.prefill(model, weights, catalog.machine("gb10"), 2048, "llama.cpp", depth=d).tps for d in measured}
        assert got[32768] / got[0] == pytest.approx(measured[32768] / measured[0], rel=0.16), name
        assert got[0] == pytest.approx(measured[0], rel=0.16), name


def test_prefill_where_nothing_was_measured_says_so():
    p = roofline.fit("Qwen3-8B", weights="bf16", engine="trtllm", context=4096)
    assert any("stands in" in n for n in p.notes)
    assert roofline.fit("Qwen3-8B", weights="nvfp4", machine="b200").prefill_tps is None
    p = roofline.fit("Qwen3-8B", weights="nvfp4", engine="trtllm", context=2048)
    assert not any("stands in" in n for n in p.notes) and p.ttft_s == pytest.approx(2048 / p.prefill_tps)


def test_ridge():
    assert roofline.ridge("gb10", "nvfp4") == pytest.approx(500e12 / 273e9)
    assert roofline.ridge("h100", "bf16") == pytest.approx(989e12 / 3350e9)
    assert roofline.ridge("gb10", "nvfp4-w4a16") == roofline.ridge("gb10", "bf16")
    with pytest.raises(ValueError, match="ridge"):
        roofline.ridge("strix-halo", "bf16")


def test_files_at_hand_are_what_is_loaded():
    from dataclasses import replace

    m = catalog.model("Qwen3-8B")
    computed = roofline.weight_bytes(m, "bf16")
    larger = replace(m, file_bytes=round(computed * 1.1))                # with a vision tower, say
    assert roofline.fit(larger, weights="bf16").weight_bytes == round(computed * 1.1)
    assert roofline.fit(larger, weights="nvfp4").weight_bytes == roofline.weight_bytes(m, "nvfp4")
    assert roofline.fit(larger, weights="bf16").decode_tps == roofline.fit(m, weights="bf16").decode_tps
    stored_in_fp32 = replace(m, file_bytes=round(computed * 2))
    assert roofline.fit(stored_in_fp32, weights="bf16").weight_bytes == computed


def test_this_machine_is_measured_not_peak():
    hw = catalog.this_machine(bandwidth_gbs=50, memory_bytes=64e9)
    p = roofline.fit("Qwen3-8B", weights="q4_k_m", machine=hw, context=0)
    assert p.decode_tps_limit == pytest.approx(50e9 / p.bytes_per_token)
    assert 0.6 < p.efficiency < 1 and p.decode_tps_high <= p.decode_tps_limit * 1.000001


def test_notes():
    def says(text, *args, **more):
        return any(text in n for n in roofline.fit(*args, **more).notes)

    assert says("2 billion", "Qwen3-0.6B") and not says("2 billion", "Qwen3-4B")
    assert says("not calibrated", "Qwen3-8B", machine="b200") and not says("not calibrated", "Qwen3-8B")
    assert says("40960 tokens at most", "Qwen3-8B", context=50000)
    assert says("hybrid", "Nemotron-3-Super") and says("gguf-mxfp4", "gpt-oss-20b", weights="mxfp4", engine="llama.cpp")
    assert says("no FP4 tensor cores", "Qwen3-8B", weights="nvfp4", machine="h100")
    assert says("two linked Sparks", "Qwen3-235B-A22B", weights="nvfp4") and not says("two linked", "DeepSeek-V3")
    assert says("free right after boot", "Llama-3.3-70B", weights="nvfp4", context=8192, batch=24)
    assert says("config.json was not checked", "DeepSeek-R1-Distill-Qwen-14B")


def test_llama_cpp_reads_the_gguf_of_gpt_oss():
    a = roofline.fit("gpt-oss-20b", weights="mxfp4", engine="llama.cpp")
    b = roofline.fit("gpt-oss-20b", weights="gguf-mxfp4", engine="llama.cpp")
    assert a.decode_tps == b.decode_tps and a.weight_bytes == b.weight_bytes and a.weights == "mxfp4"


@pytest.mark.parametrize(("args", "says"), [
    ({"model": "Qwen3-9B"}, "Qwen3-8B"), ({"weights": "fp5"}, "weight format"), ({"kv": "fp5"}, "KV cache format"),
    ({"machine": "cray-1"}, "machine"), ({"machine": "b20"}, "did you mean b200"), ({"engine": "word"}, "engine"),
    ({"context": -1}, "context"), ({"context": 1.5}, "context"), ({"context": 10**12}, "smaller"), ({"batch": 0}, "batch"),
    ({"batch": -4}, "batch"), ({"batch": True}, "batch"), ({"weights": "mxfp4"}, "doesn't come in mxfp4"),
    ({"weights": "gguf-mxfp4"}, "doesn't come in"), ({"model": "gpt-oss-20b", "weights": "nvfp4"}, "mxfp4, gguf-mxfp4"),
    ({"model": "gpt-oss-120b", "weights": "bf16"}, "mxfp4, gguf-mxfp4"), ({"weights": "fp8", "engine": "ollama"}, "GGUF"),
    ({"weights": "q4_k_m", "engine": "trtllm"}, "no GGUF")])
def test_bad_requests_are_refused_in_one_sentence(args, says):
    with pytest.raises(ValueError, match=says) as e:
        roofline.fit(**{"model": "Qwen3-8B"} | args)
    assert "\n" not in str(e.value)


def test_names_of_formats_and_engines_are_forgiving():
    a = roofline.fit("Qwen3-8B", weights="NVFP4", kv="auto", engine="TensorRT-LLM", machine="DGX Spark")
    assert (a.weights, a.kv, a.engine, a.machine) == ("nvfp4", "bf16", "trtllm", "gb10")
    assert roofline.fit("gpt-oss-20b").weights == "mxfp4" and roofline.fit("Qwen3-8B").weights == "bf16"
    assert roofline.fit("Qwen3-8B", weights="q8_0").engine == "llama.cpp"
    assert roofline.fit("nvidia/Qwen3-8B-NVFP4").weights == "nvfp4" and roofline.fit("Qwen/Qwen3-8B-FP8").weights == "fp8"
    assert roofline.fit("nvidia/Qwen3-8B-NVFP4", weights="bf16").weights == "bf16"


@pytest.mark.parametrize(("asked", "says"), [
    ({"machine": "mac-studio", "engine": "vllm", "weights": "nvfp4"}, "doesn't run on"), ({"engine": ""}, "no engine"),
    ({"machine": "strix-halo", "engine": "trtllm"}, "doesn't run on"), ({"kv": ""}, "no KV cache format"),
    ({"machine": "strix-halo", "engine": "vllm", "weights": "nvfp4"}, "NVFP4"), ({"engine": "vllm", "kv": "q8_0"}, "GGUF type")])
def test_what_does_not_exist_gets_no_number(asked, says):
    with pytest.raises(ValueError, match=says):
        roofline.fit("Qwen3-8B", **asked)


def test_experts_in_tensorrt_have_a_wide_band_and_say_so():
    p = roofline.fit("Qwen3-30B-A3B", weights="nvfp4", engine="trtllm")
    assert p.decode_tps_low < 0.37 * p.decode_tps_limit < p.decode_tps_high <= 0.90 * p.decode_tps_limit
    assert any("band is wide" in n for n in p.notes)


def test_sixteen_bit_experts_do_not_get_the_factor_of_dense_models():
    c = roofline.calibration.load()
    assert c.efficiency("bf16", "vllm", False) > c.efficiency("fp8", "vllm", False)
    assert c.efficiency("bf16", "vllm", True) == pytest.approx(c.base * c.engines["vllm"] * c.moe["vllm"])


def test_hybrids_as_gguf_are_slower_with_a_wider_band():
    c = roofline.calibration.load()
    assert c.hybrid["llama.cpp"] < 1 and c.half_width(1, "llama.cpp", hybrid=True) > c.half_width(1)
