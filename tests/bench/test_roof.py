"""The roofline line: which model, format and machine, and what is said when one of them is not known."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gb10 import catalog, paths, roofline
from gb10.bench.roof import line, told


def here(*gpus, gb10=False):
    return SimpleNamespace(unified_memory=gb10, gpus=tuple(SimpleNamespace(name=n) for n in gpus))


def test_the_figures_are_those_of_the_roofline():
    fit = roofline.fit("Qwen3-8B", weights="nvfp4", machine="gb10", context=300, engine="vllm")
    r = line("nvidia/Qwen3-8B-NVFP4", 41, 300.4, machine="gb10", engine="vLLM")
    assert r["limit_tps"] == fit.decode_tps_limit == pytest.approx(273e9 / fit.bytes_per_token)
    assert r["share"] == pytest.approx(41 / fit.decode_tps_limit)
    assert (r["bytes_per_token"], r["predicted_tps"], r["low"], r["high"]) == \
        (fit.bytes_per_token, fit.decode_tps, fit.decode_tps_low, fit.decode_tps_high)
    assert (r["model"], r["weights"], r["engine"], r["machine"], r["assumed"], r["inside_band"]) == \
        ("Qwen3-8B", "nvfp4", "vllm", "gb10", False, True)
    assert r["text"] == (
        f"41 tok/s = {100 * r['share']:.0f} % of the {fit.decode_tps_limit:.0f} tok/s that 273 GB/s and "
        f"5.2 GB per token allow; predicted {fit.decode_tps:.0f} ({fit.decode_tps_low:.0f} to "
        f"{fit.decode_tps_high:.0f})")
    json.dumps(r)


@pytest.mark.parametrize(("name", "engine", "model", "weights", "assumed"), [
    ("nvidia/Qwen3-8B-NVFP4", "vLLM", "Qwen3-8B", "nvfp4", False),
    ("/models/Qwen3-8B-NVFP4/", "TensorRT-LLM", "Qwen3-8B", "nvfp4", False),
    ("nvidia/Llama-3.1-8B-Instruct-FP4", "TensorRT-LLM", "Llama-3.1-8B-Instruct", "nvfp4", False),
    ("Qwen3-8B-NVFP4A16", "vLLM", "Qwen3-8B", "nvfp4-w4a16", False),
    ("RedHatAI/Qwen3-8B-FP8-dynamic", "vLLM", "Qwen3-8B", "fp8", False),
    ("RedHatAI/Qwen3-8B-quantized.w4a16", "vLLM", "Qwen3-8B", "int4", False),
    ("Qwen/Qwen3-8B-AWQ", "SGLang", "Qwen3-8B", "int4", False),
    ("Qwen/Qwen3-8B", "vLLM on the CPU", "Qwen3-8B", "bf16", True),
    ("openai/gpt-oss-120b", "vLLM", "gpt-oss-120b", "mxfp4", False),
    ("qwen3:8b", "Ollama", "Qwen3-8B", "q4_k_m", True),
    ("qwen3:8b-q8_0", "Ollama", "Qwen3-8B", "q8_0", False),
    ("qwen3:8b-fp16", "Ollama", "Qwen3-8B", "bf16", False),
    ("llama3.1:8b-instruct-q4_K_M", "Ollama", "Llama-3.1-8B-Instruct", "q4_k_m", False),
    ("gemma3:27b-it-qat", "Ollama", "Gemma-3-27b-it", "q4_0", True),
    ("gpt-oss:20b", "Ollama", "gpt-oss-20b", "mxfp4", False),
    ("hf.co/unsloth/Qwen3-8B-GGUF:Q4_K_M", "Ollama", "Qwen3-8B", "q4_k_m", False),
    ("/data/Qwen3-8B-Q4_K_M.gguf", "llama.cpp", "Qwen3-8B", "q4_k_m", False),
    (r"C:\models\Qwen3-8B-Q8_0.gguf", "llama.cpp", "Qwen3-8B", "q8_0", False),
    ("gpt-oss-20b-mxfp4-00001-of-00003.gguf", "llama.cpp", "gpt-oss-20b", "mxfp4", False),
])
def test_a_served_name_is_understood(name, engine, model, weights, assumed):
    r = line(name, 1, 300, machine="gb10", engine=engine)
    assert (r.get("model"), r.get("weights"), r.get("assumed")) == (model, weights, assumed), r["text"]
    assert ("weights taken for" in r["text"]) == assumed
    assert roofline.ENGINES[r["engine"]] == engine.partition(" ")[0]


def test_given_weights_go_before_those_in_the_name():
    r = line("Qwen3-8B-UD-Q4_K_XL.gguf", 1, machine="gb10", engine="llama.cpp", weights="q4_k_m")
    assert (r["weights"], r["assumed"]) == ("q4_k_m", False)
    assert line("qwen3:8b", 1, machine="gb10", engine="Ollama", weights="q8_0")["assumed"] is False


@pytest.mark.parametrize(("name", "engine", "says"), [
    ("chat", "vLLM", "'chat' is no model of the catalogue: name it with --roofline-model"),
    ("qwen3:latest", "Ollama", "no model of the catalogue"),
    ("", None, "no model of the catalogue"),
    ("Qwen3-8B-UD-Q4_K_XL.gguf", "llama.cpp", "are in q4_k_xl, which the catalogue doesn't know"),
    ("Qwen3-8B-IQ4_XS.gguf", "llama.cpp", "iq4_xs"),
    ("unsloth/Qwen3-8B-bnb-4bit", "vLLM", "bnb"),
    ("qwen3-8b", "llama.cpp", "llama.cpp does not say what 'qwen3-8b' is quantised to"),
    ("gpt-oss-20b-NVFP4", "vLLM", "gpt-oss-20b doesn't come in nvfp4"),
    ("Qwen3-8B-NVFP4", "Ollama", "Ollama loads GGUF files"),
])
def test_what_is_not_known_is_said(name, engine, says):
    r = line(name, 20, machine="gb10", engine=engine)
    assert r["share"] is None
    assert r["text"].startswith("no roofline: ")
    assert says in r["text"]
    assert "\n" not in r["text"]


def test_the_hub_is_never_asked(monkeypatch):
    from gb10.catalog import hub

    def asked(*_):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(hub, "fetch", asked)
    assert line("somebody/NoSuchModel-9000", 20, machine="gb10")["share"] is None


@pytest.mark.parametrize("tps", [None, 0, -1, float("nan"), float("inf"), "41"])
def test_no_rate_no_line(tps):
    r = line("Qwen3-8B", tps, machine="gb10")
    assert r == {"text": r["text"], "share": None}
    assert "no rate of one user was measured" in r["text"]


def test_above_the_limit_something_is_wrong_and_it_is_said_plainly():
    limit = line("Qwen/Qwen3-8B", 1, 100, machine="gb10")["limit_tps"]
    below = line("Qwen/Qwen3-8B", 0.999 * limit, 100, machine="gb10")
    assert "is more than" not in below["text"]
    assert not below["inside_band"]
    r = line("Qwen/Qwen3-8B", 1.001 * limit, 100, machine="gb10")
    assert r["share"] > 1
    assert ("something is not as assumed (weights in another format than bf16, another model than Qwen3-8B "
            "or speculative decoding)") in r["text"]


def test_outside_of_the_band_is_said():
    r = line("nvidia/Qwen3-8B-NVFP4", 20, 300, machine="gb10")
    assert r["text"].endswith(", measured below that")
    r = line("nvidia/Qwen3-8B-NVFP4", 0.5 * (r["high"] + r["limit_tps"]), 300, machine="gb10")
    assert r["text"].endswith(", measured above that")


def test_a_longer_context_moves_more_bytes():
    short, long = (line("Qwen3-8B", 5, n, machine="gb10") for n in (10, 30_000))
    assert long["bytes_per_token"] - short["bytes_per_token"] == pytest.approx(29_990 * 2 * 36 * 8 * 128 * 2)
    half = line("Qwen3-8B", 5, 30_000, machine="gb10", kv="fp8")
    assert half["bytes_per_token"] < long["bytes_per_token"]


# ------------------------------------------------------------ folders

def test_the_courses_model_by_name_and_by_folder():
    by_name = line("pico", 100, 50, machine="gb10", engine="vLLM on the CPU")
    assert (by_name["model"], by_name["weights"], by_name["assumed"]) == ("pico", "bf16", False)
    for name in (str(paths.PICO), str(paths.PICO / "config.json")):
        by_folder = line(name, 100, 50, machine="gb10", engine="vLLM on the CPU")
        assert by_folder["bytes_per_token"] == by_name["bytes_per_token"]
        assert by_folder["assumed"] is False
    assert 10e6 < by_name["bytes_per_token"] < 20e6
    assert "12 MB per token" in by_name["text"]
    quantised = line("pico-nvfp4", 100, 50, machine="gb10", engine="vLLM")
    assert quantised["bytes_per_token"] < by_name["bytes_per_token"]


def test_a_folders_config_goes_before_its_name(tmp_path):
    folder = tmp_path / "my-model-fp8"
    folder.mkdir()
    config = json.loads((paths.PICO / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))
    assert line(str(folder), 9, machine="gb10", engine="vLLM")["weights"] == "fp8"
    config["quantization_config"] = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    (folder / "config.json").write_text(json.dumps(config))
    assert line(str(folder), 9, machine="gb10", engine="vLLM")["weights"] == "nvfp4"
    (folder / "config.json").write_text("{")
    assert "is not valid JSON" in line(str(folder), 9, machine="gb10")["text"]


# ------------------------------------------------------------ machines

def test_the_machine_is_found_out_where_none_is_named(tmp_path, monkeypatch):
    from gb10 import machine

    monkeypatch.setattr(paths, "STATE", tmp_path)
    asked = []
    monkeypatch.setattr(machine, "detect", lambda: asked.append(1) or here("NVIDIA GB10", gb10=True))
    assert line("Qwen3-8B", 5)["machine"] == "gb10"
    assert asked == [1]
    assert line("Qwen3-8B", 5, here=here("NVIDIA GB10", gb10=True))["machine"] == "gb10"
    assert line("Qwen3-8B", 5, machine="h100")["machine"] == "h100"
    assert asked == [1], "what is known is not asked"


def test_a_gpu_that_lesson_1_did_not_measure_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "bandwidth.json").write_text('{"read_gbs": 40}')
    monkeypatch.setattr(paths, "STATE", tmp_path)
    r = line("Qwen3-8B", 5, here=here("NVIDIA GeForce RTX 4060 Laptop GPU"))
    assert r["share"] is None
    assert "this NVIDIA GeForce RTX 4060 Laptop GPU is not known: name it with --machine (gb10, " in r["text"]


@pytest.mark.parametrize("name", [None, "this"])
def test_this_machine_by_what_lesson_1_measured(tmp_path, monkeypatch, name):
    monkeypatch.setattr(paths, "STATE", tmp_path)
    r = line("pico", 100, machine=name, here=here())
    assert r["share"] is None
    assert "run lesson 1's second notebook, which measures it, or say with --machine" in r["text"]
    assert line("pico", 100, machine=name, here=here(), bandwidth=20)["share"] == pytest.approx(
        100 * line("pico", 100, machine=name, here=here(), bandwidth=20)["bytes_per_token"] / 20e9)
    (tmp_path / "bandwidth.json").write_text('{"read_gbs": 40, "measured": "2026-11-20"}')
    r = line("pico", 100, machine=name, here=here())
    assert (r["machine"], r["limit_tps"]) == ("this", pytest.approx(40e9 / r["bytes_per_token"]))
    assert "40 GB/s" in r["text"]
    much = line("pico", 1e5, machine=name, here=here())["text"]
    assert "a bandwidth that was measured too low or a model so small that the CPU's caches hold it" in much


def test_an_unknown_machine_is_one_sentence():
    r = line("Qwen3-8B", 5, machine="toaster")
    assert r["share"] is None
    assert "there is no machine 'toaster'" in r["text"]


# ------------------------------------------------------------ names

@pytest.mark.parametrize(("name", "fmt", "bare"), [
    ("Qwen3-8B", None, "Qwen3-8B"), ("a/b/Qwen3-8B-NVFP4", "nvfp4", "Qwen3-8B"), ("x-MXFP4", "mxfp4", "x"),
    ("hf.co/u/M-GGUF:Q5_K_M", "q5_k_m", "M"), ("M.Q4_K_M.gguf", "q4_k_m", "M"),
    ("qwen3:8b", None, "qwen3:8b"), ("Qwen3-FP8-8B", "fp8", "Qwen3-8B"), ("M-UD-Q8_0.gguf", "q8_0", "M"),
    ("mixtral:8x7b", None, "mixtral:8x7b"),
])
def test_the_format_in_a_name(name, fmt, bare):
    assert told(name) == (fmt, bare)


def test_no_name_of_the_catalogue_holds_a_format_that_it_is_not_in():
    for name, model in catalog.models().items():
        for text in (name, *model.aliases):
            fmt, _ = told(text)
            assert fmt is None or text.endswith("qat"), text


def test_the_module_is_cheap_to_import():
    code = ("import sys; import gb10.bench.roof; "
            "print([m for m in ('gb10.roofline', 'dataclasses', 'numpy') if m in sys.modules])")
    out = subprocess.run([sys.executable, "-S", "-c", code], cwd=paths.ROOT, capture_output=True, text=True,
                         check=False)
    assert out.stdout.strip() == "[]", out.stderr
