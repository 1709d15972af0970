"""./course check: the contract, every verdict with a case that it refuses, and that nothing can hold it up."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from gb10 import machine
from gb10.cli import probes, verdicts
from gb10.machine import GIB

SECRET = "hf_" + "thisMustNeverBePrinted0123456789"   # put together here, so that no scanner takes it for a real one


def a_machine(rung="laptop", **change):
    gpus = () if rung == "laptop" else (machine.Gpu("NVIDIA GB10", (12, 1), None),)
    base = {"rung": rung, "rung_declared": False, "gpus": gpus, "gpu_trouble": None, "memory_total_bytes": 120 * GIB,
                "memory_available_bytes": 100 * GIB, "memory_limit_bytes": None, "swap_total_bytes": 0, "swap_free_bytes": 0,
                "page_cache_bytes": GIB, "cores": 20, "system": "Linux", "arch": "aarch64", "python": "3.12.3"}
    return machine.Machine(**base | change)


LAPTOP, SPARK = a_machine(), a_machine("spark")
DOCKER = {"installed": True, "engine": "28.3.3", "why": "", "compose": "2.39.1", "nvidia": True}
FACTS = {
    "machine": SPARK, "disk": {"free": 900 * GIB, "total": 1000 * GIB, "engine_installed": True}, "docker": DOCKER,
    "hub_token": "in the environment (HF_TOKEN)", "ntp": True, "clock_offset": 0.4,
    "model_cache": {"path": "/h", "bytes": GIB, "complete": True, "writable": True},
    "pins": {"wrong": [], "missing": [], "count": 19}, "work": {"writable": True, "laid": 4, "changed": 1},
} | {f"port {n}": probes.Port(n, False) for n in probes.PORTS}


def failed(**facts):
    """Names of what fails when some facts of a healthy Spark are changed; each failure must say how to mend it."""
    _, checks = verdicts.verdicts(FACTS | {k.replace("port_", "port "): v for k, v in facts.items()})
    for c in checks:
        assert c.ok or c.fix, f"{c.name} fails without saying how to mend it"
    return {c.name for c in checks if not c.ok}


def test_a_healthy_spark_passes():
    assert failed() == set()


@pytest.mark.parametrize(("facts", "names"), [
    ({"machine": a_machine("spark", gpu_trouble="exit code 9")}, {"gpu"}),
    ({"machine": a_machine("spark", gpus=())}, {"gpu"}),
    ({"machine": a_machine("spark", gpus=(machine.Gpu("NVIDIA GB10", (12, 0), None),))}, {"gpu"}),
    ({"machine": a_machine("rack", gpus=(machine.Gpu("NVIDIA B200", None, None),))}, {"gpu"}),
    ({"machine": a_machine("spark", memory_available_bytes=10 * GIB)}, {"memory"}),
    ({"machine": a_machine(memory_available_bytes=2 * GIB)}, {"memory"}),
    ({"machine": a_machine(memory_available_bytes=10 * GIB)}, set()),
    ({"machine": probes.Trouble("no answer within 1.7 s")}, {"rung"}),
    ({"disk": {"free": 4 * GIB, "total": 9 * GIB, "engine_installed": False}}, {"disk"}),
    ({"disk": {"free": 4 * GIB, "total": 9 * GIB, "engine_installed": True}}, set()),
    ({"disk": {"free": GIB, "total": 9 * GIB, "engine_installed": True}}, {"disk"}),
    ({"port_8002": probes.Port(8002, True, holder="pid 7 (nc)")}, {"port 8002"}),
    ({"port_8002": probes.Port(8002, True)}, {"port 8002"}),
    ({"port_8002": probes.Port(8002, True, ours="vllm, model pico, pid 7")}, set()),
    ({"port_8002": probes.Port(8002, True, answers="qwen3")}, set()),
    ({"port_8000": probes.Port(8000, True, holder="pid 7 (nc)")}, {"port 8000"}),
    ({"port_8000": probes.Port(8000, True, holder="pid 7 (nc)"), "machine": LAPTOP}, {"port 8000"}),
    ({"port_11434": probes.Port(11434, True, holder="pid 7 (nc)")}, set()),
    ({"port_8001": probes.Port(8001, True, holder="pid 7 (nc)")}, {"port 8001"}),
    ({"port_8001": probes.Port(8001, True, holder="pid 7 (nc)"), "machine": LAPTOP}, set()),
    ({"docker": DOCKER | {"installed": False, "engine": "", "compose": "", "nvidia": False}},
     {"docker engine", "docker compose", "NVIDIA runtime"}),
    ({"docker": DOCKER | {"engine": "", "why": "permission denied while trying to connect"}}, {"docker engine"}),
    ({"docker": DOCKER | {"compose": ""}}, {"docker compose"}),
    ({"docker": DOCKER | {"nvidia": False}}, {"NVIDIA runtime"}),
    ({"docker": probes.Trouble("no answer")}, {"docker engine", "docker compose", "NVIDIA runtime"}),
    ({"docker": probes.Trouble("no answer"), "machine": LAPTOP}, set()),
    ({"hub_token": ""}, set()),
    ({"model_cache": {"path": "/h", "bytes": 0, "complete": True, "writable": False}}, {"model cache"}),
    ({"clock_offset": 4000.0}, {"clock"}),
    ({"clock_offset": -4000.0, "ntp": True}, {"clock"}),
    ({"clock_offset": None, "ntp": False}, set()),
    ({"clock_offset": probes.Trouble("x"), "ntp": probes.Trouble("y")}, set()),
    ({"pins": {"wrong": ["torch 2.12.0 instead of 2.13.0"], "missing": [], "count": 19}}, {"packages"}),
    ({"pins": {"wrong": [], "missing": ["numba"], "count": 19}}, {"packages"}),
    ({"work": {"writable": False, "laid": 0, "changed": 0}}, {"work folder"}),
    ({"work": {"writable": True, "laid": 0, "changed": 0}}, set()),
])
def test_verdicts(facts, names):
    assert failed(**facts) == names


def test_a_clock_before_the_course_was_made():
    assert not verdicts.clock(None, True, now=1_000_000_000.0).ok
    assert verdicts.clock(None, True, now=1_800_000_000.0).ok


def test_page_cache_matters_on_unified_memory():
    check = verdicts.page_cache(a_machine("spark", page_cache_bytes=60 * GIB))
    assert check.ok and check.note and "drop_caches" in check.fix
    assert not verdicts.page_cache(a_machine(page_cache_bytes=60 * GIB)).note


# ---------------------------------------------------------------- probes

def test_nothing_is_waited_for():
    start = time.monotonic()
    facts = probes.gather({"hangs": lambda: time.sleep(30), "breaks": lambda: 1 / 0, "fine": lambda: 7}, deadline=0.3)
    assert time.monotonic() - start < 2
    assert facts["fine"] == 7 and "ZeroDivisionError" in facts["breaks"].why and "0.3 s" in facts["hangs"].why


@pytest.fixture
def listener():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


def test_a_port_held_by_a_stranger_is_named(listener):
    p = probes.port(listener)
    assert p.taken and not p.ours and not p.answers
    assert f"pid {os.getpid()}" in p.holder


def test_a_free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        number = s.getsockname()[1]
    assert probes.port(number) == probes.Port(number, taken=False)


@pytest.fixture
def http():
    """http(status, headers, body) -> address of a server on loopback that always answers so."""
    servers = []

    def start(status, headers, body=b""):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response_only(status)
                for h in headers.items():
                    self.send_header(*h)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *args):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_address[1]

    yield start
    for s in servers:
        s.shutdown()
        s.server_close()


def test_an_engine_that_answers_is_recognised(http):
    p = probes.port(http(200, {}, json.dumps({"data": [{"id": "qwen3:8b"}]}).encode()))
    assert p.taken and p.answers == "qwen3:8b"


def test_the_network_clock(http):
    port = http(301, {"Date": "Thu, 01 Jan 2026 00:00:00 GMT", "Location": "https://nowhere.invalid/"})
    offset = probes.clock_offset({}, url=f"http://127.0.0.1:{port}/")
    assert abs(offset - (time.time() - 1767225600)) < 5
    assert probes.clock_offset({"HF_HUB_OFFLINE": "1"}, url=f"http://127.0.0.1:{port}/") is None


def test_no_network_is_no_clock(listener):
    assert probes.clock_offset({}, timeout=0.2, url=f"http://127.0.0.1:{listener}/") is None


INFO = {"ServerVersion": "28.3.3", "Runtimes": {"runc": {}, "nvidia": {}}}


@pytest.mark.parametrize(("code", "info", "expected"), [
    (0, json.dumps(INFO), {"engine": "28.3.3", "nvidia": True}),
    (0, json.dumps(INFO | {"Runtimes": {}}), {"engine": "28.3.3", "nvidia": False}),
    (0, json.dumps(INFO | {"Runtimes": {}, "DiscoveredDevices": [{"ID": "nvidia.com/gpu=all"}]}), {"nvidia": True}),
    (1, json.dumps({"ServerErrors": ["permission denied while trying to connect"]}), {"engine": ""}),
    (1, "Cannot connect to the Docker daemon", {"engine": "", "why": "Cannot connect to the Docker daemon"}),
    (124, "no answer within 1 s", {"engine": "", "why": "no answer within 1 s"}),
])
def test_docker(monkeypatch, code, info, expected):
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/docker")

    def run(argv, timeout):
        return (0, "2.39.1\n") if "compose" in argv else (code, info)

    got = probes.docker(run)
    assert got["compose"] == "2.39.1" and got | expected == got


def test_the_token_is_found_but_never_shown(tmp_path):
    assert probes.hub_token({"HF_HOME": str(tmp_path)}) == ""
    (tmp_path / "token").write_text(SECRET)
    assert probes.hub_token({"HF_HOME": str(tmp_path)}) == f"in {tmp_path}/token"
    assert probes.hub_token({"HF_TOKEN": SECRET, "HF_HOME": str(tmp_path)}) == "in the environment (HF_TOKEN)"
    assert probes.hub_token({"HF_TOKEN": "  ", "HF_HOME": "/nowhere"}) == ""


def test_model_cache_counts_links_once(tmp_path):
    blobs = tmp_path / "models--a" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "x").write_bytes(b"0" * 1000)
    (tmp_path / "models--a" / "link").symlink_to(blobs / "x")
    assert probes.model_cache({"HF_HUB_CACHE": str(tmp_path)})["bytes"] == 1000
    assert not probes.model_cache({"HF_HUB_CACHE": str(tmp_path)}, seconds=-1)["complete"]
    assert probes.model_cache({"HF_HOME": str(tmp_path / "not" / "there")}) == {
        "path": str(tmp_path / "not" / "there" / "hub"), "bytes": 0, "complete": True, "writable": True}


def test_pins(tmp_path):
    from importlib.metadata import version

    (tmp_path / "pyproject.toml").write_text("[project]\ndependencies = ['pytest>=9', 'no-such-thing==1.0']\n")
    (tmp_path / "requirements.lock").write_text(
        "# made by a tool\n"
        f"pytest=={version('pytest')} \\\n    --hash=sha256:00\n"
        "torch==0.0.1 ; sys_platform == 'linux'\n"
        "no-such-thing==1.0\n"
        "nvidia-of-another-build==1.0\n"
        "colorama==0.4 ; sys_platform == 'win32'\n")
    got = probes.pins(tmp_path)
    assert got["count"] == 2 and got["missing"] == ["no-such-thing"]
    assert [w.split()[0] for w in got["wrong"]] == ["torch"] and "instead of 0.0.1" in got["wrong"][0]


# ---------------------------------------------------------------- as a user calls it

def fake_program(folder, name, script):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n" + script)
    (folder / name).chmod(0o755)


def test_the_contract(course):
    start = time.monotonic()
    p = course("check", "--json", HF_TOKEN=SECRET)
    took = time.monotonic() - start
    page = json.loads(p.stdout)
    assert set(page) == {"rung", "ok", "checks"}
    assert all(set(c) == {"name", "ok", "detail", "fix"} for c in page["checks"])
    assert page["ok"] == all(c["ok"] for c in page["checks"]) and p.returncode == (not page["ok"])
    names = [c["name"] for c in page["checks"]]
    assert len(set(names)) == len(names)
    assert {"rung", "gpu", "memory", "page cache", "swap", "disk", "docker engine", "docker compose", "NVIDIA runtime",
            "hf token", "model cache", "clock", "packages", "work folder"} | {f"port {n}" for n in probes.PORTS} == set(names)
    assert SECRET not in p.stdout + p.stderr and str(len(SECRET)) not in next(
        c["detail"] for c in page["checks"] if c["name"] == "hf token")
    assert took < 4     # asked: under 2 s on an idle machine


def test_the_page_for_people(course, tmp_path):
    fake_program(tmp_path / "bin", "nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    p = course("check", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", HF_TOKEN=SECRET)
    assert p.returncode == 1 and SECRET not in p.stdout and "\033" not in p.stdout
    lines = p.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("[!!] gpu "))
    assert "exit code 9: NVIDIA-SMI has failed" in lines[at] and "-> " in lines[at + 1]
    assert lines[-1].startswith("Not ready for rung laptop: gpu")


def test_a_spark_without_docker(course, tmp_path):
    fake_program(tmp_path / "bin", "nvidia-smi", "echo 'NVIDIA GB10, 12.1, [N/A]'")
    fake_program(tmp_path / "bin", "docker", "echo 'Cannot connect to the Docker daemon'; exit 1")
    page = json.loads(course("check", "--json", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}").stdout)
    checks = {c["name"]: c for c in page["checks"]}
    assert page["rung"] == "spark" and not page["ok"]
    assert checks["gpu"]["ok"] and "compute capability 12.1" in checks["gpu"]["detail"]
    assert not checks["docker engine"]["ok"] and "systemctl start docker" in checks["docker engine"]["fix"]


def test_programs_that_hang_hold_nobody_up(course, tmp_path):
    for name in ("nvidia-smi", "docker", "timedatectl"):
        fake_program(tmp_path / "bin", name, "sleep 60")
    start = time.monotonic()
    p = course("check", "--json", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert time.monotonic() - start < 5 and p.returncode == 1
    assert "no answer within" in next(c["detail"] for c in json.loads(p.stdout)["checks"] if c["name"] == "gpu")


def test_a_wrong_rung_is_a_wrong_request(course):
    p = course("check", GB10_RUNG="desk")
    assert p.returncode == 2 and p.stdout == "" and "laptop, spark or rack" in p.stderr


def test_it_runs_from_anywhere(env, tmp_path):
    p = subprocess.run([sys.executable, "-m", "gb10", "check", "--json"], cwd=tmp_path, env=env, capture_output=True,
                       text=True, check=False, timeout=30)
    assert json.loads(p.stdout)["rung"]
