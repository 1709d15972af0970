"""The compose files, of the engines and of lessons, follow the compose specification and the house rules.

No Docker is needed: the schema comes with check-jsonschema. The files' behaviour on a Spark is not what is
tested here.
"""

import functools
import itertools
import re
import subprocess

import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from compose_rules import engine_breaks, load, rule_breaks
from jsonschema.validators import validator_for

from gb10.paths import ROOT

ENGINES = [ROOT / f"compose/{name}.yml" for name in ("nim", "ollama", "sglang", "trtllm", "vllm")]
TWO = sorted((ROOT / "compose/two-sparks").glob("*.yml"))
OTHERS = [ROOT / "compose/folders.yml", ROOT / "compose/open-webui.yml"]
THIN = sorted((ROOT / "lessons/04-serve").glob("*/compose.yaml"))
LESSONS = sorted((ROOT / "lessons").glob("*/compose.yaml"))
FILES = [*ENGINES, *TWO, *OTHERS, *THIN, *LESSONS]
RENDERED = [*ENGINES, *TWO, *THIN]
PORTS = {"trtllm": 8001, "vllm": 8002, "nim": 8003, "ollama": 11434, "sglang": 30000}


def named(files):
    return {"argvalues": files, "ids": [str(f.relative_to(ROOT)) for f in files]}


@functools.cache
def validator():
    schema = get_builtin_schema("vendor.compose-spec")
    return validator_for(schema)(schema)


def schema_errors(path):
    """What the compose specification's schema says against the file; empty when nothing."""
    return [e.message for e in validator().iter_errors(yaml.safe_load(path.read_text()))]


def test_every_compose_file_is_looked_at():
    found = {*ROOT.glob("compose/**/*.y*ml"), *ROOT.glob("lessons/**/compose.y*ml")}
    assert found == set(FILES) and len(FILES) == len(found)
    assert [f.parent.name for f in THIN] == [f.stem for f in ENGINES]
    assert ROOT / "lessons/03-quantize-with-modelopt/compose.yaml" in LESSONS


@pytest.mark.parametrize("path", **named(FILES))
def test_follows_the_specification(path):
    assert schema_errors(path) == []


@pytest.mark.parametrize("path", **named([*RENDERED, *LESSONS]))
def test_follows_the_house_rules(path):
    assert rule_breaks(path) == []


@pytest.mark.parametrize("path", **named(RENDERED))
def test_engines_are_fenced_in(path):
    assert engine_breaks(load(path)) == []


@pytest.mark.parametrize("path", **named([*ENGINES, *THIN]))
def test_names_ports_and_services_are_those_that_the_course_reckons_with(path):
    engine = path.stem if path in ENGINES else path.parent.name
    data = load(path)
    assert data["name"] == f"gb10-{engine}"
    service = data["services"][engine]
    assert service["ports"] == [f"127.0.0.1:{PORTS[engine]}:8000"]
    if engine in ("vllm", "trtllm", "sglang"):
        assert f"{ROOT / '.course/models'}:/models:ro" in service["volumes"]
        assert "/home/you/.cache/huggingface:/hf" in service["volumes"]
    assert ("open-webui" in data["services"]) == (path in THIN)
    if path in THIN:
        page = data["services"]["open-webui"]
        assert page["profiles"] == ["ui"] and "OPENAI_API_BASE_URL=http://engine:8000/v1" in page["environment"]


@pytest.mark.parametrize("path", **named(TWO))
def test_two_sparks_have_a_head_and_a_worker_and_say_that_nobody_has_run_it(path):
    services = load(path)["services"]
    head, worker = services[path.stem], services[f"{path.stem}-worker"]
    assert (head["profiles"], worker["profiles"]) == (["head"], ["worker"])
    assert {w for w in head["command"] if "node-rank" in w} == {"--node-rank=0"}
    assert {w for w in worker["command"] if "node-rank" in w} == {"--node-rank=1"}
    assert all("--nnodes=2" in s["command"] and any("192.168.100.10" in w for w in s["command"]) for s in (head, worker))
    assert any("192.168.100.11" in line for line in worker["environment"])
    assert "Not run on two Sparks" in path.read_text()


@pytest.mark.parametrize("path", **named([f for f in ENGINES if f.stem not in ("ollama", "nim")]))
def test_every_option_says_why(path):
    lines = path.read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        if line.strip().startswith("- --"):
            assert " # " in line or before.strip().startswith("#"), line


def test_a_broken_file_is_refused(tmp_path):
    """Each gate of all files has a case that it refuses."""
    bad = tmp_path / "bad.yml"
    bad.write_text(
        "services:\n  x:\n    image: vllm/vllm-openai:latest\n    ports: ['8000:8000']\n    privileged: true\n"
        "    environment: ['HF_TOKEN=abc']\n    volumes: ['/var/run/docker.sock:/var/run/docker.sock']\n"
    )
    assert schema_errors(bad) == []       # well formed …
    assert len(rule_breaks(bad)) == 6     # … and against every rule
    bad.write_text("services:\n  x:\n    imagine: y\n")
    assert "imagine" in schema_errors(bad)[0]


BREAKS = {
    "a power kept": (lambda s: s.pop("cap_drop"), "keeps powers"),
    "a power given": (lambda s: s.update(cap_add=["SYS_ADMIN"]), "keeps powers"),
    "new privileges": (lambda s: s.pop("security_opt"), "could get more powers"),
    "no limit": (lambda s: s.pop("mem_limit"), "no memory limit"),
    "swap": (lambda s: s.update(memswap_limit="99g"), "may swap"),
    "restart": (lambda s: s.update(restart="always"), "starts again by itself"),
    "no init": (lambda s: s.pop("init"), "has no init"),
    "endless log": (lambda s: s.pop("logging"), "fill the disk"),
    "root": (lambda s: s.update(user="0:0"), "as root"),
    "the image's user": (lambda s: s.pop("user"), "as root"),
    "no helper": (lambda s: s.pop("depends_on"), "Docker would make"),
    "models writable": (lambda s: s["volumes"].__setitem__(1, s["volumes"][1][:-3]), "change your models"),
    "code of a model": (lambda s: s["command"].append("--trust-remote-code"), "runs code"),
    "another port": (lambda s: s["ports"].__setitem__(0, "127.0.0.1:8002:8355"), "port 8000 inside"),
    "no alias": (lambda s: s["networks"]["default"].pop("aliases"), "found as engine"),
    "impatient": (lambda s: s["healthcheck"].update(start_period="60s"), "while it loads"),
    "no health": (lambda s: s.update(healthcheck={"disable": True}), "no health check"),
    "cache lost": (lambda s: s["volumes"].pop(), "loses its compiled kernels"),
    "home elsewhere": (lambda s: s["environment"].remove("HOME=/var/tmp"), "loses its compiled kernels"),
    "nameless": (lambda s: s["environment"].remove("USER=course"), "torch asks for"),
    "host network": (lambda s: s.update(network_mode="host"), "listens beyond"),
}


@pytest.mark.parametrize("how", BREAKS)
def test_each_rule_of_the_engines_refuses_something(how):
    spoil, said = BREAKS[how]
    data = load(ROOT / "compose/vllm.yml")
    assert engine_breaks(data) == []
    spoil(data["services"]["vllm"])
    assert any(said in line for line in engine_breaks(data)), engine_breaks(data)


@pytest.mark.parametrize(("change", "said"), [
    ({"cap_add": ["CHOWN", "DAC_OVERRIDE", "SYS_ADMIN"]}, "more than make folders"),
    ({"network_mode": "bridge"}, "more than make folders"),
    ({"security_opt": []}, "could get more powers"),
])
def test_the_helper_may_make_folders_and_nothing_else(change, said):
    data = load(ROOT / "compose/vllm.yml")
    data["services"]["folders"].update(change)
    assert any(said in line for line in engine_breaks(data))


def test_the_helper_makes_folders_and_gives_them_away(tmp_path):
    """Its script, run here: only what is root's changes hands, and only to OWNER."""
    script = load(ROOT / "compose/folders.yml")["services"]["folders"]["command"][0]
    for name in ("home-cache", "hf", "course", "bin"):
        (tmp_path / name).mkdir()
    for name, says in (("stat", 'case "$3" in */hf) echo 1000;; *) echo 0;; esac'), ("chown", f'echo "$@" >> {tmp_path}/given')):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    for path in ("/home-cache", "/hf", "/course"):
        script = re.sub(rf"(?<=[ ]){path}", f"{tmp_path}{path}", script)
    done = subprocess.run(["sh", "-euc", script], env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "OWNER": "1001:1002"},
                          check=False, capture_output=True, text=True, timeout=10)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "home-cache/huggingface").is_dir() and (tmp_path / "course/.course/models").is_dir()
    given = (tmp_path / "given").read_text().splitlines()
    assert given == [f"1001:1002 {tmp_path}/{f}" for f in ("home-cache", "home-cache/huggingface", "course/.course", "course/.course/models")]


def test_lessons_take_the_same_images_as_the_engines():
    """An image that a lesson shares with compose/ has the same default, so that a pin is moved in one go."""
    pins = re.compile(r"\$\{([A-Z]+_IMAGE):-([^}]+)\}")
    found = {}
    for path in FILES:
        for name, image in pins.findall(path.read_text()):
            assert found.setdefault(name, image) == image, path
    assert {"VLLM_IMAGE", "TRTLLM_IMAGE", "SGLANG_IMAGE", "OLLAMA_IMAGE", "NIM_IMAGE", "WEBUI_IMAGE"} < set(found)


def test_the_options_of_a_file_are_yaml():
    for engine in ("trtllm", "sglang"):
        options = yaml.safe_load(load(ROOT / f"compose/{engine}.yml")["configs"]["options"]["content"])
        assert options["reasoning_parser" if engine == "trtllm" else "reasoning-parser"] in ("qwen3", ["qwen3"])
