"""The compose files, of the engines and of lessons, follow the compose specification and the house rules.

No Docker is needed: the schema comes with check-jsonschema. The files' behaviour on a Spark is not what is
tested here.
"""

import re
import subprocess
import sys

import pytest
import yaml

from gb10.paths import ROOT

ENGINES = sorted((ROOT / "compose").glob("*.yml"))
LESSONS = sorted((ROOT / "lessons").glob("*/compose.yaml"))
FILES = ENGINES + LESSONS
NAMES = [str(f.relative_to(ROOT)) for f in FILES]
# the environments of a user: nothing set (the defaults) is the case that everybody meets
VARIABLE = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")


def schema_errors(path):
    """What the compose specification's schema says against the file; empty when nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)],
        check=False, capture_output=True, text=True, timeout=60,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def is_job(service):
    """A service that does one thing and ends, instead of serving."""
    return not service.get("ports") and service.get("restart") == "no"


def rule_breaks(path):
    """The house rules that a compose file breaks, a sentence each."""
    broken = []
    for name, service in yaml.safe_load(path.read_text())["services"].items():
        image = VARIABLE.sub(r"\1", service.get("image", ""))
        if not re.fullmatch(r"\S+:\S*\d\S*", image) or image.endswith(":latest"):
            broken.append(f"{name}: image {image!r} has no fixed tag")
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                broken.append(f"{name}: port {port} is not bound to 127.0.0.1")
        for volume in service.get("volumes", []):
            if "docker.sock" in str(volume):
                broken.append(f"{name}: mounts the Docker socket")
        if service.get("privileged"):
            broken.append(f"{name}: runs privileged")
        if "healthcheck" not in service and not is_job(service):
            broken.append(f"{name}: has no health check")
        for line in service.get("environment", []):
            if "TOKEN=" in line or "KEY=" in line:
                broken.append(f"{name}: a secret is written into the file")
        if "deploy" in service and (service.get("ipc") != "host" or set(service.get("ulimits", ())) != {"memlock", "stack"}):
            broken.append(f"{name}: works on the GPU without ipc: host or without both ulimits")
        broken += job_breaks(name, service) if is_job(service) else []
    return broken


def job_breaks(name, service):
    """What a job must have besides, so that what it leaves on the host is the user's."""
    broken = []
    user = VARIABLE.sub(r"\1", str(service.get("user", "")))
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user):
        broken.append(f"{name}: runs as {user or 'root'}, and so do its files")
    if not service.get("profiles"):
        broken.append(f"{name}: would run whenever something else is started")
    for volume in service.get("volumes", []):
        if isinstance(volume, str):
            if not volume.endswith(":ro"):
                broken.append(f"{name}: Docker makes the folder of {volume} as root when it isn't there")
        elif volume.get("bind", {}).get("create_host_path") is not False and not volume.get("read_only"):
            broken.append(f"{name}: Docker makes the folder {volume['source']} as root when it isn't there")
    environment = {line.partition("=")[0]: line.partition("=")[2] for line in service.get("environment", [])}
    if environment.get("CUDA_VISIBLE_DEVICES") != "0" or environment.get("ACCELERATE_USE_FSDP") != "false":
        broken.append(f"{name}: lets the model be spread over a GPU and a CPU that share their memory")
    return broken


def test_there_is_one_file_per_engine():
    assert [f.name for f in ENGINES] == ["trtllm.yml", "vllm.yml"]


def test_the_files_of_lessons_are_found():
    assert "lessons/03-quantize-with-modelopt/compose.yaml" in NAMES


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_follows_the_specification(path):
    assert schema_errors(path) == ""


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_follows_the_house_rules(path):
    assert rule_breaks(path) == []


def test_the_gates_refuse_a_broken_file(tmp_path):
    """Each gate has a case that it refuses."""
    bad = tmp_path / "bad.yml"
    bad.write_text(
        "services:\n  x:\n    image: vllm/vllm-openai:latest\n    ports: ['8000:8000']\n    privileged: true\n"
        "    environment: ['HF_TOKEN=abc']\n    volumes: ['/var/run/docker.sock:/var/run/docker.sock']\n"
    )
    assert schema_errors(bad) == ""       # well formed …
    assert len(rule_breaks(bad)) == 6     # … and against every rule
    bad.write_text("services:\n  x:\n    imagine: y\n")
    assert "imagine" in schema_errors(bad)


def test_defaults_equal_the_example_environment():
    """compose/.env.example and the defaults in the files say the same."""
    example = dict(
        line.split("=", 1) for line in (ROOT / "compose/.env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    text = "".join(f.read_text() for f in ENGINES)
    for name, value in example.items():
        assert f"${{{name}:-{value}}}" in text, name


def test_lessons_take_the_same_images_as_the_engines():
    """An image that a lesson shares with compose/ has the same default, so that a pin is moved in one go."""
    engines = dict(re.findall(r"\$\{([A-Z]+_IMAGE):-([^}]+)\}", "".join(f.read_text() for f in ENGINES)))
    for path in LESSONS:
        for name, image in re.findall(r"\$\{([A-Z]+_IMAGE):-([^}]+)\}", path.read_text()):
            assert engines.get(name, image) == image, path
