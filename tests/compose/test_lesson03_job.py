"""Lesson 3's quantize job: what its compose file promises, each promise broken once; and job.sh itself, with stubs for git,
pip and ModelOpt. What ModelOpt does in the real container is not tested here."""

import os
import re
import signal
import subprocess
import time

import pytest
import yaml
from compose_rules import VARIABLE, rule_breaks

from gb10 import paths

LESSON = paths.LESSONS / "03-quantize-with-modelopt"
FILE, JOB = LESSON / "compose.yaml", LESSON / "quantize" / "job.sh"


@pytest.fixture
def services():
    return yaml.safe_load(FILE.read_text())["services"]


# ---------------------------------------------------------------- the compose file

BREAKS = {
    "root": (lambda s: s.pop("user"), "runs as root"),
    "user 0": (lambda s: s.update(user="${QUANTIZE_USER:-0:0}"), "runs as 0:0"),
    "moving tag": (lambda s: s.update(image="nvcr.io/nvidia/tensorrt-llm/release:spark-single-gpu-dev"), "no fixed tag"),
    "token": (lambda s: s["environment"].__setitem__(0, "HF_TOKEN=hf_abc"), "a secret"),
    "ipc": (lambda s: s.pop("ipc"), "without ipc"),
    "ulimits": (lambda s: s["ulimits"].pop("stack"), "without ipc: host or without both ulimits"),
    "always": (lambda s: s.pop("profiles"), "whenever something else"),
    "docker makes folders": (lambda s: s["volumes"][1].pop("bind"), "as root when it isn't there"),
    "short volume": (lambda s: s["volumes"].append("/tmp/x:/x"), "as root when it isn't there"),
    "two devices": (lambda s: s["environment"].remove("CUDA_VISIBLE_DEVICES=0"), "share their memory"),
    "sharded": (lambda s: s["environment"].remove("ACCELERATE_USE_FSDP=false"), "share their memory"),
    "a job that serves": (lambda s: s.update(ports=["127.0.0.1:9:9"]), "no health check"),
}


@pytest.mark.parametrize("how", BREAKS)
def test_each_promise_of_the_job_is_kept(tmp_path, services, how):
    spoil, said = BREAKS[how]
    sound, broken = tmp_path / "sound.yaml", tmp_path / "broken.yaml"
    sound.write_text(yaml.safe_dump({"services": services}))
    assert rule_breaks(sound) == []
    spoil(services["quantize"])
    broken.write_text(yaml.safe_dump({"services": services}))
    assert any(said in line for line in rule_breaks(broken)), rule_breaks(broken)


def test_the_server_is_reached_from_this_machine_only_and_reads_what_the_job_wrote(services):
    serve, job = services["serve"], services["quantize"]
    assert [VARIABLE.sub(r"\1", p) for p in serve["ports"]] == ["127.0.0.1:8000:8000"]
    written = next(v for v in job["volumes"] if isinstance(v, dict) and v["target"] == "/models")["source"]
    assert f"{written}:/models:ro" in serve["volumes"]
    name = next(line for line in job["environment"] if line.startswith("NAME=")).partition("=")[2]
    assert serve["command"][0] == f"/models/{name}"
    assert not any("HF_TOKEN" in line for line in serve["environment"])


def test_the_lessons_commands_are_those_of_the_file():
    """The commands at the head of the file name services, variables and folders that are in it."""
    text = FILE.read_text()
    head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    body = text[text.index("name:"):]
    for variable in re.search(r"changed from outside: ([^.]+)\.", head.replace("\n#", " "))[1].replace(" ", "").split(","):
        assert f"${{{variable}:-" in body, variable
    assert set(re.findall(r"\$\{([A-Z_]+):-", body)) <= set(re.findall(r"[A-Z_]{5,}|MODELS", head))


# ---------------------------------------------------------------- job.sh

STUBS = {
    "git": 'mkdir -p "${@: -1}/examples/llm_ptq"; echo "git $*" >> "$LOG"',
    "pip": 'echo "pip $*" >> "$LOG"',
    "python3": '''
if [[ $1 == -c ]]; then exit "${WRONG_VERSION:-0}"; fi
echo "python3 $*" >> "$LOG"
while [[ $# -gt 0 ]]; do [[ $1 == --export_path ]] && out=$2; shift; done
mkdir -p "$out"; echo '{}' > "$out/config.json"
case ${MODELOPT_DOES:-well} in
    dies) exit 3;;
    hangs) touch "$LOG.hangs"; sleep 60;;
    nothing) exit 0;;
esac
echo '{}' > "$out/hf_quant_config.json"; echo x > "$out/model.safetensors"
''',
}


@pytest.fixture
def job(tmp_path):
    """Runs job.sh with stubs; returns the finished process. `job.models` is where checkpoints go."""
    for name, text in STUBS.items():
        stub = tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f"#!/usr/bin/env bash\n{text}\n")
        stub.chmod(0o755)
    for folder in ("models", "cache", "home"):
        (tmp_path / folder).mkdir()
    (tmp_path / "meminfo").write_text("MemTotal:       128000000 kB\nMemAvailable:   110000000 kB\n")
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(tmp_path / "log"), "HOME": str(tmp_path / "home"),
                   "MODELS_DIR": str(tmp_path / "models"), "HF_HOME": str(tmp_path / "cache"), "MEMINFO": str(tmp_path / "meminfo"),
                   "TMPDIR": str(tmp_path), "MODEL": "Qwen/Qwen3-14B", "NAME": "Qwen3-14B-NVFP4", "MODELOPT": "0.45.0", "NEEDS_GB": "48",
                   "RECIPE": "general/ptq/nvfp4_default-kv_fp8_cast"}

    def run(start=subprocess.run, **changes):
        return start(["bash", str(JOB)], env=environment | changes, text=True,
                     **({"capture_output": True, "timeout": 30, "check": False} if start is subprocess.run else {"start_new_session": True}))

    run.models, run.log, run.folder = tmp_path / "models", tmp_path / "log", tmp_path
    return run


def left(job):
    return sorted(p.name for p in job.models.iterdir()), [p for p in job.folder.glob("modelopt.*")]


def test_a_run_leaves_the_checkpoint_and_nothing_else(job):
    done = job()
    assert done.returncode == 0, done.stderr
    assert left(job) == (["Qwen3-14B-NVFP4"], [])
    log = job.log.read_text()
    assert "--branch 0.45.0" in log and "--recipe general/ptq/nvfp4_default-kv_fp8_cast" in log
    # each of these avoids a trap of a Spark
    assert "--dataset cnn_dailymail" in log and "--batch_size 4" in log and "--pyt_ckpt_path Qwen/Qwen3-14B" in log
    again = job()
    assert again.returncode == 0 and "nothing to do" in again.stdout and job.log.read_text() == log


@pytest.mark.parametrize(("how", "code"), [("dies", 3), ("nothing", 1)])
def test_a_failed_run_leaves_nothing(job, how, code):
    done = job(MODELOPT_DOES=how)
    assert done.returncode == code and left(job) == ([], [])


def test_a_stopped_run_leaves_nothing_that_looks_whole(job):
    proc = job(subprocess.Popen, MODELOPT_DOES="hangs")
    try:
        limit = time.monotonic() + 20
        while not (job.folder / "log.hangs").exists() and time.monotonic() < limit:
            time.sleep(0.05)
        assert (job.models / ".Qwen3-14B-NVFP4.part").exists()
    finally:
        os.killpg(proc.pid, signal.SIGKILL)                           # no time to clean up
        proc.wait()
    assert not (job.models / "Qwen3-14B-NVFP4").exists()
    assert job().returncode == 0 and left(job)[0] == ["Qwen3-14B-NVFP4"]


@pytest.mark.parametrize(("changes", "said"), [
    ({"NAME": "../elsewhere"}, "a folder's name"),
    ({"NAME": ""}, "a folder's name"),
    ({"NEEDS_GB": "120"}, "112 GB of memory are available, 120 GB are needed"),
    ({"MODELS_DIR": "/nowhere"}, "can't write to /nowhere"),
])
def test_what_can_not_work_is_refused_before_anything_is_fetched(job, changes, said):
    done = job(**changes)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not job.log.exists()


def test_something_else_of_that_name_is_not_overwritten(job):
    (job.models / "Qwen3-14B-NVFP4").mkdir()
    done = job()
    assert done.returncode == 2 and "no quantized checkpoint" in done.stderr and not job.log.exists()


def test_another_modelopt_than_the_pinned_one_is_refused(job):
    done = job(WRONG_VERSION="1")
    assert done.returncode == 1 and left(job) == ([], [])
