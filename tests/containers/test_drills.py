"""Failure drills: everything that goes wrong on a Spark, played by a Docker and an engine in miniature.

Each costs one sentence that says what to do, and leaves nothing running: no container, no note, no listener.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from gb10 import cli
from gb10.engines import process, state
from gb10.engines.containers import docker
from gb10.paths import ROOT


def up(port, *more, engine="vllm"):
    return cli.main(["up", engine, *(("--model", "Qwen3-8B", "--weights", "nvfp4") if engine == "vllm" else ()), "--port", str(port), *more])


def left(spark, port):
    """What should be gone."""
    found = [f.name for f in spark.docker.glob("*.container")] + [f.name for f in spark.notes.glob("*.json")]
    return found + ([] if process.port_free(port) else [f"port {port}"])


def test_up_answers_and_down_frees_everything(spark, free_port, capsys):
    assert up(free_port, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told | {"ready_s": 0} == {"engine": "vllm", "url": f"http://127.0.0.1:{free_port}/v1", "model": "Qwen3-8B-NVFP4",
                                     "container": "gb10-vllm", "ready_s": 0}
    assert told["ready_s"] > 0
    assert cli.main(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["container"] == "gb10-vllm" and status["engines"][0]["answers"]
    assert cli.main(["status"]) == 0
    assert "container gb10-vllm, was ready in" in capsys.readouterr().out
    assert cli.main(["logs", "--port", str(free_port)]) == 0
    assert "Starting vLLM server" in capsys.readouterr().out
    assert cli.main(["down", "--port", str(free_port)]) == 0
    assert "is stopped; port" in capsys.readouterr().out
    assert left(spark, free_port) == []
    assert "Starting vLLM server" in state.log_file(free_port).read_text()      # its words outlive it


def test_what_to_paste_is_there(spark, free_port, capsys):
    assert up(free_port) == 0
    told = capsys.readouterr()
    assert f"curl -s http://127.0.0.1:{free_port}/v1/chat/completions" in told.out and "from openai import OpenAI" in told.out
    assert "27.6 GiB (weights 6.0 + KV cache 18.1 + engine 3.6) of 114.0 GiB" in told.err


BEFORE = {      # refused (2) before anything is started
    "no-daemon": "Docker is installed but doesn't run",
    "no-permission": "you may not use Docker: sudo usermod -aG docker",
    "no-compose": "no compose plugin",
    "old-compose": "Docker Compose 1.29.2 is too old",
    "no-gpu": "install the NVIDIA Container Toolkit",
    "refused-file": "compose refuses compose/vllm.yml: error while interpolating",
}
DURING = {      # it was tried and failed (1)
    "no-image": "the registry has no such image or tag",
    "denied": "docker login nvcr.io",
    "disk-full": "the disk is full",
    "offline": "the network failed: what has come is kept",
    "other-arch": "is not made for this machine's processor",
    "port": "the port is taken",
    "no-device": "Docker can't give the container the GPU",
    "memory": "it ran out of memory: take fewer users or a shorter context",
    "killed": "the system ended it for want of memory (exit code 137): take fewer users",
    "gated": "the model is gated: accept its terms",
    "no-hub": "the hub has no such model (nvidia/Qwen3-8B-NVFP4)",
    "false-alarm": "it ran out of memory",
    "old": "doesn't know the model's architecture: take a newer image with VLLM_IMAGE",
    "page-cache": "counts page cache as used memory and finds too little",
    "no-kv": "no room is left for the KV cache",
    "option": "doesn't know an option of the compose file",
    "strange": "its container ended with code 3 while starting",
    "mute": "came up but refuses to answer (HTTP 500)",
}


@pytest.mark.parametrize(("what", "says"), BEFORE.items())
def test_what_can_be_refused_is_refused_before_the_start(spark, free_port, capsys, what, says):
    spark(what)
    assert up(free_port) == 2
    assert says in capsys.readouterr().err
    assert left(spark, free_port) == []


@pytest.mark.parametrize(("what", "says"), DURING.items())
def test_a_start_that_fails_says_why_and_leaves_nothing(spark, free_port, capsys, what, says):
    spark(what)
    assert up(free_port) == 1
    err = capsys.readouterr().err
    assert says in err, err
    if what in ("memory", "killed", "gated", "strange"):
        assert "Initializing a V1 LLM engine" in err                            # the engine's own last lines are shown
        assert state.log_file(free_port).exists()
    assert left(spark, free_port) == []


def test_an_image_for_another_processor_is_refused(spark, free_port, capsys):
    image = next(line.split(":-", 1)[1].split("}")[0] for line in (ROOT / "compose/vllm.yml").read_text().splitlines() if "VLLM_IMAGE" in line)
    (spark.docker / "images").write_text(image + "\n")
    spark("wrong-arch-here")
    assert up(free_port) == 2
    assert "is made for" in capsys.readouterr().err
    assert left(spark, free_port) == []


def test_one_that_never_gets_healthy_is_given_up(spark, free_port, capsys):
    spark("never")
    assert up(free_port, "--timeout", "2") == 1
    assert "did not answer within 2 s, and was stopped" in capsys.readouterr().err
    assert left(spark, free_port) == []


@pytest.mark.parametrize(("what", "how"), [("never", signal.SIGINT), ("never", signal.SIGTERM), ("slow-pull", signal.SIGINT)])
def test_ctrl_c_leaves_nothing(spark, free_port, capsys, what, how):
    spark(what)
    pid = os.getpid()
    killer = subprocess.Popen([sys.executable, "-c", f"""
import os, pathlib, time
while not list(pathlib.Path({str(spark.docker)!r}).glob("*.container*")):
    time.sleep(0.05)
time.sleep(0.5)
os.kill({pid}, {int(how)})"""])
    try:
        assert up(free_port) == 130
    finally:
        killer.kill()
        killer.wait()
    assert "nothing is left running" in capsys.readouterr().err
    assert left(spark, free_port) == []


def test_a_port_that_a_program_holds_is_refused(spark, free_port, capsys):
    import socket

    with socket.create_server(("127.0.0.1", free_port)):
        assert up(free_port) == 2
        assert "is taken" in capsys.readouterr().err
    assert left(spark, free_port) == []


def test_without_docker_the_sentence_says_what_there_is_instead(spark, free_port, capsys, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert up(free_port) == 2
    assert "there is no docker on this machine" in capsys.readouterr().err


def test_ollama_fetches_its_model_through_its_own_api(spark, free_port, capsys):
    assert up(free_port, "--model", "qwen3:8b", engine="ollama") == 0
    assert "Ollama serves qwen3:8b" in capsys.readouterr().out
    assert cli.main(["down"]) == 0
    spark("offline-but-there")
    assert up(free_port, "--model", "qwen3:8b", engine="ollama") == 0       # what is there is not asked for in the registry
    assert cli.main(["down"]) == 0
    capsys.readouterr()
    spark("no-tag")
    assert up(free_port, "--model", "qwen3:8b", engine="ollama") == 1
    assert "Ollama can't fetch qwen3:8b: pull model manifest: file does not exist" in capsys.readouterr().err
    assert left(spark, free_port) == []


def test_one_started_by_hand_with_compose_is_seen_and_stopped(spark, free_port, capsys, monkeypatch):
    monkeypatch.setenv("SGLANG_PORT", str(free_port))
    assert docker.run("compose", "-f", "compose/sglang.yml", "up", "--detach").returncode == 0
    for _ in range(100):
        if not process.port_free(free_port):
            break
        time.sleep(0.05)
    assert cli.main(["status"]) == 0
    assert "container gb10-sglang, answers" in capsys.readouterr().out
    assert cli.main(["down"]) == 0
    assert left(spark, free_port) == []


def test_a_container_that_died_is_swept_away_and_named(spark, free_port, capsys):
    assert up(free_port) == 0
    pid = json.loads(next(spark.docker.glob("*.container")).read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)
    capsys.readouterr()
    assert cli.main(["status"]) == 0
    told = capsys.readouterr()
    assert "(container gb10-vllm) is gone" in told.err and "No engine is up" in told.out


def test_no_secret_reaches_a_file_or_a_command_line(spark, free_port, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_the_test")
    monkeypatch.setenv("GB10_API_KEY", "key_of_the_test")
    assert up(free_port) == 0
    assert cli.main(["down"]) == 0
    told = capsys.readouterr()
    written = [f.read_text(errors="replace") for f in (*spark.notes.rglob("*"), *spark.docker.rglob("*")) if f.is_file()]
    assert written
    assert not any(secret in text for text in (*written, told.out, told.err) for secret in ("hf_secret", "key_of_the_test"))
