"""Docker Compose itself renders the files, and as compose_rules.load does. Skipped where the plugin isn't there."""

import functools
import json
import os
import shutil
import subprocess

import pytest
from compose_rules import environment, load
from test_compose import ENGINES, LESSONS, THIN, TWO, named

from gb10.paths import ROOT


@functools.cache
def version():
    if not shutil.which("docker"):
        return None
    try:
        done = subprocess.run(["docker", "compose", "version", "--short"], check=False, capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return None
    text = done.stdout.strip().lstrip("v")
    return tuple(int(x) for x in text.split("-")[0].split("+")[0].split(".")[:2]) if done.returncode == 0 and text[:1].isdigit() else None


pytestmark = pytest.mark.skipif(not version() or version() < (2, 24), reason="needs the docker compose plugin, 2.24 or newer")


def config(path, *words, **env):
    """What `docker compose config` says: (data, None), or (None, its error)."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "DOCKER_CONFIG")}
    done = subprocess.run(["docker", "compose", "--env-file", "/dev/null", "-f", str(path), *words, "config", "--format", "json"], check=False,
                          capture_output=True, text=True, timeout=60, cwd=path.parent, env={"HOME": "/home/you"} | kept | env)
    return (json.loads(done.stdout), None) if done.returncode == 0 else (None, done.stderr)


PROFILES = ("--profile", "ui", "--profile", "head", "--profile", "worker", "--profile", "serve", "--profile", "quantize")
SET = {"VLLM_MODEL": "/models/mine", "VLLM_REASONING": "", "TRTLLM_MEMORY": "0.2", "TRTLLM_REASONING": "", "SGLANG_REASONING": "",
       "OLLAMA_USERS": "2", "NIM_LIMIT": "9g", "GB10_USER": "5:6", "HF_HOME": "/data/hf", "GB10_API_KEY": "k", "GB10_BIND": "0.0.0.0"}


@pytest.mark.parametrize("env", [{}, SET], ids=["nothing set", "set"])
@pytest.mark.parametrize("path", **named([*ENGINES, *TWO, *THIN, *LESSONS]))
def test_compose_sees_what_the_rules_see(path, env):
    theirs, error = config(path, *PROFILES, **env)
    assert error is None
    ours = load(path, env)
    assert theirs["name"] == ours["name"] and set(theirs["services"]) == set(ours["services"])
    for name, service in ours["services"].items():
        real = theirs["services"][name]
        assert real["image"] == service["image"] and real.get("user") == service.get("user")
        assert [w.replace("$$", "$") for w in real.get("command") or []] == service.get("command", [])
        assert {k: v or "" for k, v in real.get("environment", {}).items()} == environment(service)
        assert [f"{p.get('host_ip', '')}:{p['published']}:{p['target']}" for p in real.get("ports", [])] == service.get("ports", [])
        strings = [v for v in service.get("volumes", []) if isinstance(v, str)]
        assert {f"{v['source']}:{v['target']}" for v in real.get("volumes", [])} >= {":".join(v.split(":")[:2]) for v in strings if v.startswith("/")}
    for name, options in ours.get("configs", {}).items():
        assert theirs["configs"][name]["content"].strip() == options["content"].strip()


def test_compose_itself_lets_others_in_only_with_a_key():
    for path in (ROOT / "compose/vllm.yml", ROOT / "lessons/04-serve/vllm/compose.yaml"):
        data, error = config(path, GB10_BIND="0.0.0.0")
        assert data is None and "GB10_BIND is set without GB10_API_KEY" in error
        assert config(path, GB10_BIND="0.0.0.0", GB10_API_KEY="k")[1] is None


def test_without_its_profile_nothing_of_it_is_started():
    assert "open-webui" not in config(ROOT / "lessons/04-serve/vllm/compose.yaml")[0]["services"]
    assert set(config(ROOT / "compose/two-sparks/vllm.yml", "--profile", "head")[0]["services"]) == {"folders", "vllm"}
    assert set(config(ROOT / "compose/two-sparks/sglang.yml", "--profile", "worker")[0]["services"]) == {"folders", "sglang-worker"}


def test_a_broken_file_is_refused(tmp_path):
    bad = tmp_path / "bad.yml"
    bad.write_text("services:\n  x:\n    imagine: y\n")
    assert "imagine" in config(bad)[1]
