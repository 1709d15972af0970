"""./course fit as a user or a script calls it."""

import json
import sys

import pytest

CONTRACT = {"model", "machine", "weights", "weight_bytes", "kv_bytes", "overhead_bytes", "fits", "bytes_per_token", "decode_tps",
            "decode_tps_low", "decode_tps_high", "decode_tps_limit", "prefill_tps", "notes"}


def answer(course, *argv):
    p = course("fit", *argv, "--json")
    assert p.returncode == 0 and p.stderr == "", p.stderr
    return json.loads(p.stdout)


def test_the_contract(course):
    a = answer(course, "Qwen3-8B", "--weights", "nvfp4", "--kv", "fp8", "--machine", "gb10", "--context", "8192", "--batch", "2",
               "--engine", "vllm")
    assert a.keys() >= CONTRACT
    assert a["model"] == "Qwen3-8B" and a["machine"] == "gb10" and a["weights"] == "nvfp4"
    assert a["fits"] is True and a["verdict"] == "fits" and isinstance(a["notes"], list)
    assert a["weight_bytes"] == 6396930048 and a["kv_bytes"] == 2 * 8192 * 147456 // 2
    assert a["decode_tps_low"] < a["decode_tps"] < a["decode_tps_high"] < a["decode_tps_limit"]
    assert a["prefill_tps"] > 1000 and a["overhead_bytes"] > 0
    assert a["bytes_per_token"] == pytest.approx(5152419840 / 2 + 8192 * 147456 / 2, rel=1e-3)


def test_no_is_an_answer_not_an_error(course):
    a = answer(course, "Llama-3.3-70B", "--weights", "bf16")
    assert a["fits"] is False and a["verdict"] == "no" and a["left_bytes"] < 0


def test_a_mixture_of_experts_with_many_users_has_no_rate(course):
    a = answer(course, "gpt-oss-120b", "--batch", "32")
    assert a["decode_tps"] is None and a["fits"] is True and any("no decode rate" in n for n in a["notes"])
    assert "no figure" in course("fit", "gpt-oss-120b", "--batch", "32").stdout


def test_the_page_for_people(course):
    p = course("fit", "Qwen3-8B", "--weights", "nvfp4", "--context", "8192")
    assert p.returncode == 0 and p.stderr == "" and "\033" not in p.stdout
    for text in ("6.40 GB", "read per token", "tok/s", "nothing can beat", "Fits, with", "W weights", "DGX Spark (GB10), vLLM"):
        assert text in p.stdout
    assert max(map(len, p.stdout.splitlines())) < 160
    over = course("fit", "Qwen3-235B-A22B", "--weights", "nvfp4").stdout
    assert "Does not fit: " in over and "wedge" in over and "!!" in over
    tight = course("fit", "Llama-3.3-70B", "--weights", "nvfp4", "--context", "8192", "--batch", "27").stdout
    assert "Tight: " in tight


def test_a_folder_and_a_file(course, tmp_path):
    config = {"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 16, "vocab_size": 32000,
              "num_key_value_heads": 4, "intermediate_size": 8192}
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    for asked in (folder, folder / "config.json"):
        assert answer(course, str(asked), "--weights", "bf16")["model"] == "mine"
    relative = course("fit", "mine/", "--json", cwd=tmp_path, PYTHONPATH=":".join(sys.path))
    assert json.loads(relative.stdout)["model"] == "mine"


def test_this_machine(course):
    a = answer(course, "Qwen3-0.6B", "--machine", "this", "--bandwidth", "25")
    assert a["machine"] == "this" and a["decode_tps_limit"] == pytest.approx(25e9 / a["bytes_per_token"])
    p = course("fit", "Qwen3-0.6B", "--machine", "this")
    assert p.returncode == 2 and "not been measured" in p.stderr


def test_the_list(course):
    text = course("fit", "--list").stdout
    for word in ("Qwen3-8B", "gpt-oss-120b", "gb10", "b300", "nvfp4", "q4_k_m", "fp8"):
        assert word in text
    assert set(json.loads(course("fit", "--list", "--json").stdout)) == {"models", "machines", "weights", "kv"}


def test_help_teaches(course):
    p = course("fit", "--help")
    assert p.returncode == 0
    for text in ("./course fit Qwen3-8B", "--weights", "nothing can beat", "Exit code"):
        assert text in p.stdout
    assert "fit " in course("--help").stdout


@pytest.mark.parametrize(("argv", "says"), [
    (["Qwen3-9B"], "did you mean Qwen3-8B"), ([], "which model"), (["Qwen3-8B", "--weights", "fp5"], "no weight format 'fp5'"),
    (["Qwen3-8B", "--kv", "x"], "no KV cache format"), (["Qwen3-8B", "--machine", "vax"], "no machine 'vax'"),
    (["Qwen3-8B", "--engine", "vlm"], "no engine 'vlm'"), (["Qwen3-8B", "--context", "-1"], "context"),
    (["Qwen3-8B", "--context", "long"], "--context"), (["Qwen3-8B", "--batch", "0"], "batch"), (["Qwen3-8B", "--batch", "-3"], "batch"),
    (["gpt-oss-120b", "--weights", "nvfp4"], "comes in mxfp4, gguf-mxfp4"), (["Qwen3-8B", "--weights", "mxfp4"], "doesn't come in"),
    (["somebody/nothing-like-it"], "hub"), (["Qwen3-8B", "--bandwidth", "40"], "--machine this"),
    (["Qwen3-8B", "--machine", "this", "--bandwidth", "-1"], "makes no sense"), (["/nowhere/config.json"], "config.json")])
def test_a_wrong_question_costs_one_sentence(course, argv, says):
    p = course("fit", *argv)
    assert p.returncode == 2 and p.stdout == ""
    assert says in p.stderr and p.stderr.count("\n") == 1 and "Traceback" not in p.stderr


@pytest.mark.parametrize(("text", "says"), [("{}", "hidden_size"), ("{oops", "not valid JSON"), ("[1]", "not a JSON object"),
                                           ('{"hidden_size": 8, "vocab_size": 8}', "num_hidden_layers")])
def test_a_config_that_is_no_model(course, tmp_path, text, says):
    (tmp_path / "config.json").write_text(text)
    p = course("fit", str(tmp_path))
    assert p.returncode == 2 and says in p.stderr and p.stderr.count("\n") == 1


def test_it_needs_no_torch(course):
    """The same rule as for `import gb10`: what is slow to import is not imported."""
    import subprocess

    code = ("import sys; sys.argv[1:] = ['fit', 'Qwen3-8B', '--weights', 'nvfp4']; from gb10.cli import main; main(); "
            "slow = {'torch', 'numpy', 'transformers', 'huggingface_hub', 'matplotlib'} & sys.modules.keys(); assert not slow, slow")
    p = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert p.returncode == 0, p.stderr
