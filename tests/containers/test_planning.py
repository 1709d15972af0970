"""Dry runs: what a 128 GB Spark would be told to run, for many models, without Docker, a model or a network."""

import json
import re
import subprocess
import sys

import pytest

from gb10 import catalog, cli, machine
from gb10.engines import containers
from gb10.engines.containers import budget as budgets
from gb10.engines.containers import models, planning
from gb10.engines.containers.spec import SPECS, reasoning_parser
from gb10.errors import UserError
from gb10.paths import ROOT
from gb10.roofline import fit

from .conftest import gb10

GIB = 2**30
LIMIT = 121.6 * GIB - 8.0 * GIB     # what NVIDIA's recipes and the wedged hosts leave an engine of a Spark's memory
COMBINATIONS = [(m, w) for m in catalog.models() for w in ("bf16", "fp8", "nvfp4", "mxfp4")]


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    for name in ("GB10_BIND", "GB10_API_KEY", "NIM_IMAGE", *(f"{s.prefix}_PORT" for s in SPECS.values()), *planning.SPARKS, "SPARKS_SELF"):
        monkeypatch.delenv(name, raising=False)


def dry(*args, capsys):
    code = cli.main(["up", *args, "--dry-run", "--machine", "gb10", "--json"])
    told = capsys.readouterr()
    return code, (json.loads(told.out) if told.out else {}), told.err


@pytest.mark.parametrize("engine", ["vllm", "trtllm", "sglang"])
def test_a_spark_is_never_promised_more_than_it_has(engine):
    """Every model of the catalogue in every format: refused if and only if ./course fit says that it doesn't fit."""
    started = refused = 0
    for model, weights in COMBINATIONS:
        try:
            expected = fit(model, weights, machine="gb10", engine=engine, context=1024).ok
        except ValueError:
            with pytest.raises(UserError):
                containers.plan(engine, model, weights=weights, machine="gb10")
            continue
        if not expected:
            with pytest.raises(UserError, match=r"would need [\d.]+ GiB .* it|would wedge|GiB too many"):
                containers.plan(engine, model, weights=weights, machine="gb10")
            refused += 1
            continue
        p = containers.plan(engine, model, weights=weights, machine="gb10")
        assert p.budget.needed <= LIMIT, (model, weights)
        env, m = p.environment, p.budget.memory
        assert GIB * int(env[f"{engine.upper()}_LIMIT"].removesuffix("g")) <= LIMIT
        share = float(env[f"{engine.upper()}_MEMORY"])
        held = {"vllm": share * 121.6 * GIB, "sglang": share * 121.6 * GIB + m.overhead,
                "trtllm": share * (121.6 * GIB - m.weights - m.overhead) + m.weights + m.overhead}[engine]
        assert held <= LIMIT * 1.0001, (model, weights, held / GIB)
        assert held >= p.budget.needed - 0.011 * 121.6 * GIB, "less than what was reckoned for the KV cache"
        started += 1
    assert started > 60 and refused > 15


TWENTY = {      # weights in GB are the checkpoint's, the verdict that of the arithmetic: 121.6 GiB, of which 8 stay free
    ("Qwen3-0.6B", "bf16"): True, ("Qwen3-4B", "bf16"): True, ("Qwen3-8B", "bf16"): True, ("Qwen3-8B", "nvfp4"): True,
    ("Qwen3-14B", "fp8"): True, ("Qwen3-32B", "bf16"): True, ("Qwen3-32B", "nvfp4"): True, ("Qwen3-30B-A3B", "bf16"): True,
    ("Qwen3-235B-A22B", "nvfp4"): False, ("Llama-3.1-8B-Instruct", "fp8"): True, ("Llama-3.3-70B-Instruct", "bf16"): False,
    ("Llama-3.3-70B-Instruct", "fp8"): True, ("Llama-3.3-70B-Instruct", "nvfp4"): True, ("gpt-oss-20b", "mxfp4"): True,
    ("gpt-oss-120b", "mxfp4"): True, ("Nemotron-3-Super-120B-A12B", "nvfp4"): True, ("Nemotron-3-Super-120B-A12B", "bf16"): False,
    ("DeepSeek-V3", "nvfp4"): False, ("Llama-4-Scout-17B-16E-Instruct", "nvfp4"): True, ("Qwen2.5-72B-Instruct", "bf16"): False,
    ("GLM-4.5-Air", "nvfp4"): True, ("Qwen3-Next-80B-A3B", "bf16"): False,
}


@pytest.mark.parametrize(("model", "weights"), TWENTY)
def test_twenty_models_on_the_command_line(model, weights, capsys):
    code, told, err = dry("trtllm", "--model", model, "--weights", weights, capsys=capsys)
    if not TWENTY[model, weights]:
        assert code == 2 and told == {}
        assert re.search(r"would need [\d.]+ GiB even for 1 user of 1024 tokens \(weights [\d.]+ \+ KV cache [\d.]+ \+ engine [\d.]+\); "
                         r"121\.6 GiB are all .* of which the system keeps 8\.0: [\d.]+ GiB too many", err)
        assert err.count("\n") == 1
        return
    assert code == 0
    assert told["command"] == ["docker", "compose", "-f", "compose/trtllm.yml", "up", "--detach"]
    assert told["url"] == "http://127.0.0.1:8001/v1" and told["fits"] is True
    assert told["users"] * told["context"] < int(told["environment"]["TRTLLM_TOKENS"]) <= told["users"] * (told["context"] + 128)
    reckoned = fit(model, weights, engine="trtllm", context=told["context"], batch=told["users"])
    needs = told["needs_bytes"]
    assert (needs["weights"], needs["engine"]) == (round(reckoned.weight_bytes), round(reckoned.overhead_bytes))
    assert needs["KV cache"] >= reckoned.kv_bytes


def test_the_variables_are_those_of_the_compose_files():
    """What is set is read by the file that is started, and every variable of a file that matters is set or has a default."""
    for engine, s in SPECS.items():
        env = containers.plan(engine, machine="gb10").environment
        text = (ROOT / s.file()).read_text() + "".join(f.read_text() for f in (ROOT / "compose").glob(f"{engine}.yaml"))
        assert {name for name in env if f"${{{name}" not in text} == set(), engine
        if s.two_sparks:
            env = containers.plan(engine, "Qwen3-235B-A22B", weights="nvfp4", machine="gb10", two_sparks=True).environment
            text = (ROOT / s.file(True)).read_text()
            assert {name for name in env if f"${{{name}" not in text} == set(), engine


def test_the_defaults_of_the_compose_files_are_what_the_plan_would_choose():
    """docker compose up in a lesson's folder starts what ./course up would start, within the same memory."""
    for engine in SPECS:
        env = containers.plan(engine, machine="gb10").environment
        text = (ROOT / SPECS[engine].file()).read_text()
        for name, value in env.items():
            if default := re.search(r"\$\{" + name + r":?-([^}]*)\}", text):
                assert default[1] == value, f"{name} in compose/{engine}.yml"


def test_memory_decides_how_many_and_how_long():
    p = containers.plan("vllm", "Llama-3.3-70B-Instruct", weights="fp8", machine="gb10")
    assert (p.budget.users, p.budget.context) == (4, 16384) and "the usual 8 of 16384 would not fit" in " ".join(p.notes)
    asked = containers.plan("vllm", "Llama-3.3-70B-Instruct", weights="fp8", machine="gb10", users=2, context=8192)
    assert (asked.budget.users, asked.budget.context) == (2, 8192)
    with pytest.raises(UserError, match="64 users of 131072 tokens"):
        containers.plan("vllm", "Llama-3.3-70B-Instruct", weights="fp8", machine="gb10", users=64, context=131072)
    fp8 = containers.plan("vllm", "Llama-3.3-70B-Instruct", weights="fp8", kv="fp8", machine="gb10")
    assert fp8.budget.users == 8 and fp8.environment["VLLM_KV"] == "fp8"


def vllm_wants(model, context):
    """Bytes for one sequence as vLLM 0.32.0 demands them before it starts (v1/kv_cache_interface.py): whole blocks of 16, and for a
    sliding window min(window - 1 + max_num_batched_tokens, context) tokens; one block more, since block 0 is never used."""
    return sum(c.layers * c.elements * 2 * 16 * (1 + -(-(context if c.window is None else min(c.window - 1 + 8192, context)) // 16))
               for c in model.caches)


@pytest.mark.parametrize("model", ["Qwen3-8B", "gpt-oss-120b", "Gemma-3-27b-it", "Llama-3.3-70B-Instruct"])
@pytest.mark.parametrize("context", [1024, 5000, 5001, 16384])
def test_one_user_alone_gets_a_cache_that_vllm_starts_with(model, context):
    p = containers.plan("vllm", model, weights="mxfp4" if "oss" in model else "nvfp4", machine="gb10", users=1, context=context)
    assert int(p.environment["VLLM_KV_BYTES"]) >= vllm_wants(catalog.model(model), context)


def test_two_sparks_hold_half_each():
    one, two = (containers.plan("vllm", "Llama-3.3-70B-Instruct", weights="nvfp4", machine="gb10", two_sparks=t) for t in (False, True))
    assert two.budget.memory.weights == one.budget.memory.weights / 2
    assert two.command[3] == "compose/two-sparks/vllm.yml" and two.command[4:6] == ["--profile", "head"]
    assert two.environment["SPARKS_SELF"] == two.environment["SPARKS_HEAD"]
    worker = containers.plan("vllm", "Llama-3.3-70B-Instruct", weights="nvfp4", machine="gb10", two_sparks=True, worker=True)
    asked = containers.plan("vllm", "Llama-3.3-70B-Instruct", weights="nvfp4", machine="gb10", two_sparks=True, users=2, context=8192, name="x")
    assert "--users 2 --context 8192 --name x --two-sparks --worker" in " ".join(asked.notes)
    assert worker.environment["SPARKS_SELF"] != worker.environment["SPARKS_HEAD"] and "worker" in worker.command
    with pytest.raises(UserError, match="Ollama over two Sparks is not started"):
        containers.plan("ollama", machine="gb10", two_sparks=True)


def test_what_is_free_now_counts_and_page_cache_is_free(monkeypatch):
    """On the machine at hand MemAvailable decides, which counts page cache as free."""
    monkeypatch.setattr(machine, "detect", lambda **_: gb10(available_gib=60))
    assert containers.plan("vllm", "Qwen3-14B", weights="nvfp4").budget.available == 60 * GIB
    assert containers.plan("vllm", "Qwen3-32B", weights="bf16", machine="gb10")
    with pytest.raises(UserError, match=r"60\.0 GiB are free on this machine now.*course down"):
        containers.plan("vllm", "Qwen3-32B", weights="bf16")


def test_which_checkpoint():
    def given(engine, model, weights=None):
        return containers.plan(engine, model, weights=weights, machine="gb10").chosen.given

    assert given("vllm", "Qwen3-8B") == "nvidia/Qwen3-8B-NVFP4"
    assert given("trtllm", "Qwen3-8B") == given("sglang", "Qwen3-8B") == "nvidia/Qwen3-8B-FP4"
    assert given("vllm", "nvidia/Llama-3.1-8B-Instruct-FP8") == "nvidia/Llama-3.1-8B-Instruct-FP8"
    assert given("vllm", "gpt-oss-120b") == "openai/gpt-oss-120b"
    assert given("ollama", "Qwen3-32B") == "qwen3:32b" and given("ollama", "Qwen3-8B", "q8_0") == "qwen3:8b-q8_0"
    assert given("nim", "Llama-3.1-8B-Instruct") == "nvcr.io/nim/meta/llama-3.1-8b-instruct-dgx-spark:latest"
    for name, tag in (("Qwen3-30B-A3B", "qwen3:30b"), ("Qwen2.5-32B-Instruct", "qwen2.5:32b"), ("Llama-3.1-8B-Instruct", "llama3.1:8b"),
                      ("Mistral-Small-24B-Instruct-2501", "mistral-small:24b"), ("Phi-4", "phi4:14b"), ("gpt-oss-20b", "gpt-oss:20b")):
        assert given("ollama", name) == tag
    with pytest.raises(UserError, match="no name of DeepSeek-V3 in"):       # its shape has a tag, of DeepSeek-R1
        containers.plan("ollama", "DeepSeek-V3", machine="b200")
    coder = containers.plan("vllm", "Qwen3-Coder-30B-A3B-Instruct", weights="bf16", machine="gb10")
    assert coder.chosen.given == "/models/Qwen3-Coder-30B-A3B-Instruct" and "give it as owner/name" in coder.notes[0]
    assert given("vllm", "qwen3-8b-nvfp4") == "nvidia/Qwen3-8B-NVFP4"
    own = containers.plan("vllm", "Qwen3-4B", weights="nvfp4", machine="gb10")
    assert own.chosen.given == "/models/Qwen3-4B-NVFP4" and "./course quantize" in own.notes[0]
    listed_elsewhere = containers.plan("vllm", "Qwen3-30B-A3B", weights="nvfp4", machine="gb10")
    assert "on NVIDIA's list for trtllm and sglang" in listed_elsewhere.notes[0]


def test_a_folder_is_mounted(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(
        {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 1024, "num_hidden_layers": 28, "vocab_size": 151936,
         "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "max_position_embeddings": 40960,
         "tie_word_embeddings": True}))
    p = containers.plan("vllm", str(folder), machine="gb10")
    assert p.environment["VLLM_MODEL"] == "/models/mine" and p.environment["GB10_MODELS"] == str(tmp_path)
    assert p.environment["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize(("args", "says"), [
    (["vllm", "--model", "Qwen9-8B"], "no model 'Qwen9-8B' in the catalogue"),
    (["vllm", "--weights", "int3"], "no weight format 'int3'"),
    (["vllm", "--weights", "q4_k_m"], "GGUF"),
    (["ollama", "--weights", "nvfp4"], "loads GGUF files"),
    (["vllm", "--model", "gpt-oss-20b", "--weights", "nvfp4"], "doesn't come in nvfp4"),
    (["vllm", "--kv", "q8_0"], "is started with: take bf16 or fp8"),
    (["vllm", "--users", "0"], "--users 0 makes no sense"),
    (["vllm", "--port", "80"], "port 80 can't be used"),
    (["vllm", "--name", "a b"], "no blanks"),
    (["nim", "--model", "Qwen3-8B"], "no NIM of Qwen3-8B"),
    (["ollama", "--kv", "fp8"], "take bf16 or q8_0"),
    (["ollama", "--model", "GLM-4.5-Air"], "no name of GLM-4.5-Air in Ollama's library"),
    (["ollama", "--name", "x"], "names of its own: leave --name out"),
    (["nim", "--name", "x"], "names of its own: leave --name out"),
    (["nonsense"], "there is no engine 'nonsense'"),
])
def test_a_wrong_request_costs_one_sentence(args, says, capsys):
    code, _, err = dry(*args, capsys=capsys)
    assert code == 2 and says in err and err.count("\n") == 1, err


@pytest.mark.parametrize(("args", "says"), [
    (["--weights", "nvfp4"], "--weights is for an engine in a container"),
    (["vllm", "--machine", "gb10"], "--machine is for --dry-run"),
    (["vllm", "--worker"], "--worker goes with --two-sparks"),
    (["trtllm", "--dry-run", "--machine", "mac-studio-m4-max"], "has no NVIDIA GPU"),
    (["trtllm", "--dry-run", "--machine", "gb99"], "there is no machine 'gb99'"),
])
def test_options_that_do_not_belong_together(args, says, capsys):
    assert cli.main(["up", *args]) == 2
    assert says in capsys.readouterr().err


def test_nobody_else_is_let_in_without_a_key(monkeypatch, capsys):
    monkeypatch.setenv("GB10_BIND", "0.0.0.0")
    code, _, err = dry("vllm", capsys=capsys)
    assert code == 2 and "Set GB10_API_KEY" in err
    monkeypatch.setenv("GB10_API_KEY", "secret-of-the-test")
    code, told, err = dry("vllm", capsys=capsys)
    assert code == 0 and told["environment"]["GB10_BIND"] == "0.0.0.0" and told["url"] == "http://127.0.0.1:8002/v1"
    monkeypatch.setenv("GB10_BIND", "192.168.1.20")
    assert dry("vllm", capsys=capsys)[1]["url"] == "http://192.168.1.20:8002/v1"     # Docker publishes it there alone
    code, _, err = dry("vllm", "--two-sparks", capsys=capsys)
    assert code == 2 and "over two Sparks the head listens on 127.0.0.1 only" in err
    assert "secret-of-the-test" not in json.dumps(told) + err
    for engine, port in (("trtllm", 8001), ("sglang", 30000), ("ollama", 11434)):
        code, _, err = dry(engine, capsys=capsys)
        assert code == 2 and f"ssh -L {port}:127.0.0.1:{port}" in err
    monkeypatch.setenv("GB10_BIND", "127.0.0.1")
    monkeypatch.delenv("GB10_API_KEY")
    code, told, _ = dry("vllm", capsys=capsys)
    assert code == 0 and told["environment"]["GB10_BIND"] == ""     # set but empty: compose asks for no key


def test_sglang_is_told_what_it_calls_things(capsys):
    _, told, _ = dry("sglang", "--model", "Qwen3-8B", "--weights", "nvfp4", "--kv", "fp8", capsys=capsys)
    assert told["environment"]["SGLANG_QUANTIZATION"] == "modelopt_fp4" and told["environment"]["SGLANG_KV"] == "fp8_e4m3"
    _, told, _ = dry("sglang", "--model", "Qwen3-8B", "--weights", "bf16", capsys=capsys)
    assert told["environment"]["SGLANG_QUANTIZATION"] == "" and told["environment"]["SGLANG_KV"] == "auto"


def test_another_name_does_not_stop_it_thinking():
    p = containers.plan("vllm", "Qwen3-8B", machine="gb10", name="small")
    assert p.environment["VLLM_NAME"] == "small" and p.environment["VLLM_REASONING"] == "qwen3"
    for plain in ("Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen3-Coder-30B-A3B-Instruct"):
        assert containers.plan("vllm", plain, weights="bf16", machine="gb10").environment["VLLM_REASONING"] == ""


def test_another_nim_is_not_started_with_this_ones_memory(monkeypatch):
    monkeypatch.setenv("NIM_IMAGE", "nvcr.io/nim/meta/llama-3.1-8b-instruct-dgx-spark:1.0.0")
    assert containers.plan("nim", machine="gb10").environment["NIM_IMAGE"].endswith(":1.0.0")
    monkeypatch.setenv("NIM_IMAGE", "nvcr.io/nim/meta/llama-3.3-70b:1.0.0")
    with pytest.raises(UserError, match="whose memory ./course up can't reckon"):
        containers.plan("nim", machine="gb10")


def test_who_thinks_gets_a_parser():
    assert reasoning_parser(("Qwen3-8B-NVFP4",), "vllm") == reasoning_parser(("mine", "Qwen3-8B"), "vllm") == "qwen3"
    assert reasoning_parser(("DeepSeek-R1-Distill-Qwen-14B",), "trtllm") == "deepseek-r1"
    for plain in ("Llama-3.1-8B-Instruct", "Qwen3-30B-A3B-Instruct-2507", "Qwen3-Coder-30B-A3B-Instruct", "Qwen2.5-7B-Instruct"):
        assert reasoning_parser((plain,), "vllm") == ""


def test_a_machine_without_gpu_plans_for_a_spark_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(machine, "detect", lambda **_: machine.Machine(**gb10().__dict__ | {"gpus": (), "rung": "laptop"}))
    assert cli.main(["up", "trtllm", "--dry-run"]) == 0
    told = capsys.readouterr()
    assert "compose/trtllm.yml" in told.out and "planned for a DGX Spark" in told.err
    assert cli.main(["up", "trtllm"]) == 2
    assert "this machine has none" in capsys.readouterr().err


def test_the_printed_command_can_be_pasted(capsys):
    assert cli.main(["up", "vllm", "--dry-run", "--machine", "gb10"]) == 0
    text = capsys.readouterr().out.replace("docker compose", "echo ran")
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "ran -f compose/vllm.yml up --detach\n"


def test_a_dry_run_is_quick_and_needs_nothing():
    code = ("import sys; sys.modules['torch'] = None; from gb10 import cli; "
            "sys.exit(cli.main(['up', 'vllm', '--dry-run', '--machine', 'gb10', '--json']))")
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60, cwd=ROOT,
                          env={"PATH": "/nonexistent", "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and json.loads(done.stdout)["engine"] == "vllm", done.stderr


def test_shares_never_reach_beyond_the_ceiling():
    big = budgets.budget(catalog.model("Llama-3.3-70B-Instruct"), "fp8", "bf16", catalog.machine("gb10"), "vllm", users=5, context=16384)
    assert big.share("total") * big.total <= big.ceiling and big.limit_gib * GIB <= big.ceiling
    assert models.DEFAULT in catalog.models()
