"""What can be set from outside: each variable with and without a value, and what compose refuses."""

import re

import pytest
import yaml
from compose_rules import Refused, interpolate, load
from test_compose import ENGINES, FILES, LESSONS, THIN, TWO, named

from gb10.paths import ROOT

OURS = [f for f in FILES if f not in LESSONS]
EXAMPLE = (ROOT / "compose/.env.example").read_text()
DEFAULTS = dict(line.split("=", 1) for line in EXAMPLE.splitlines() if line and not line.startswith("#"))
WITHOUT = {"GB10_MODELS", "HF_HOME", "HOME", "SPARKS_SELF", "GB10_BIND", "GB10_API_KEY"}       # no default that is a text
NAMED = re.compile(r"\$\{([A-Z0-9_]+)")


@pytest.mark.parametrize(("text", "env", "means"), [
    ("a${X}b", {"X": "1"}, "a1b"), ("a${X}b", {}, "ab"), ("$$X", {"X": "1"}, "$X"),
    ("${X:-d}", {}, "d"), ("${X:-d}", {"X": ""}, "d"), ("${X:-d}", {"X": "1"}, "1"),
    ("${X-d}", {}, "d"), ("${X-d}", {"X": ""}, ""), ("${X-d}", {"X": "1"}, "1"),
    ("${X:+r}", {}, ""), ("${X:+r}", {"X": ""}, ""), ("${X:+r}", {"X": "1"}, "r"), ("${X+r}", {"X": ""}, "r"),
    ("${X:-${Y}/c}", {"Y": "/h"}, "/h/c"), ("${X:+${Y:+../}}", {"X": "1"}, ""), ("${X:+${Y:+../}}", {"X": "1", "Y": "1"}, "../"),
])
def test_variables_are_read_as_compose_reads_them(text, env, means):
    assert interpolate(text, env) == means


@pytest.mark.parametrize(("text", "env"), [("${X:?no}", {}), ("${X?no}", {}), ("${X:?no}", {"X": ""}), ("${Y:+${X:?no}}", {}), ("$X", {}), ("${X", {})])
def test_what_compose_refuses_is_refused(text, env):
    """The fourth is why no file has a required variable: compose asks for it even where it isn't needed."""
    with pytest.raises(Refused):
        interpolate(text, env)


def test_defaults_equal_the_example_environment():
    """compose/.env.example lists every variable of the files, each with the default that the files have, everywhere."""
    seen = set()
    for path in OURS:
        text = path.read_text()
        for name, default in re.findall(r"\$\{([A-Z0-9_]+):?-([^${}]*)\}", text):
            if name not in WITHOUT:
                assert DEFAULTS.get(name) == default, (path, name)
        seen |= set(NAMED.findall(text))
    assert seen - WITHOUT == set(DEFAULTS)
    assert all(re.search(rf"^#.*\b{name}\b", EXAMPLE, re.MULTILINE) for name in WITHOUT - {"HOME"})


def test_no_secret_is_in_the_example():
    assert not re.search(r"TOKEN\b|KEY|SECRET|PASSWORD", " ".join(DEFAULTS))


def texts(data):
    if isinstance(data, dict):
        return [t for v in data.values() for t in texts(v)]
    return [t for v in data for t in texts(v)] if isinstance(data, list) else [str(data)]


@pytest.mark.parametrize("name", [n for n in DEFAULTS if n != "GB10_USER"])
def test_each_variable_reaches_its_engine_and_no_other(name):
    """Set to something, it stands in the files that name it, through include too, and nothing else changes."""
    value = "7777" if name.endswith(("PORT", "USERS", "CONTEXT")) else "set-in-the-shell"
    named_in = 0
    for path in [*ENGINES, *TWO, *THIN]:
        before, after = texts(load(path)), texts(load(path, {name: value}))
        uses = name in path.read_text() or (path in THIN and any(name in f.read_text() for f in (ROOT / f"compose/{path.parent.name}.yml", ROOT / "compose/open-webui.yml")))
        assert any(value in t for t in after) == uses and (before != after) == uses, path
        assert not uses or all(b == a or value in a for b, a in zip(before, after, strict=True))
        named_in += uses
    assert named_in


@pytest.mark.parametrize("path", **named([*ENGINES, *TWO]))
def test_the_user_and_the_folders_are_ones_own(path):
    data = load(path, {"GB10_USER": "1234:5678", "HF_HOME": "/data/hf", "GB10_MODELS": "/data/models"})
    for name, service in data["services"].items():
        if name == "folders":
            assert "OWNER=1234:5678" in service["environment"] and "/data/hf:/hf" in service["volumes"]
        elif path.stem != "nim":
            assert service["user"] == "1234:5678"
        if path.stem in ("vllm", "trtllm", "sglang") and name != "folders":
            assert {"/data/hf:/hf", "/data/models:/models:ro"} < set(service["volumes"])


@pytest.mark.parametrize("engine", ["vllm", "trtllm", "sglang"])
def test_a_model_that_does_not_think_gets_no_parser(engine):
    with_, without = (load(ROOT / f"compose/{engine}.yml", env) for env in ({f"{engine.upper()}_REASONING": "deepseek_r1"}, {f"{engine.upper()}_REASONING": ""}))
    if engine == "vllm":
        assert "--reasoning-parser=deepseek_r1" in with_["services"]["vllm"]["command"]
        assert "--reasoning-parser=" in without["services"]["vllm"]["command"]              # vLLM's own default
        return
    key = {"trtllm": "reasoning_parser", "sglang": "reasoning-parser"}[engine]
    found = [yaml.safe_load(d["configs"]["options"]["content"])[key] for d in (with_, without)]
    assert found == {"trtllm": ["deepseek_r1", None], "sglang": [["deepseek_r1"], []]}[engine]


BOUND = [ROOT / "compose/vllm.yml", ROOT / "lessons/04-serve/vllm/compose.yaml"]


@pytest.mark.parametrize("path", **named(BOUND))
def test_others_are_let_in_only_with_a_key(path):
    def seen(**env):
        service = load(path, env)["services"]["vllm"]
        return service["ports"][0].rsplit(":", 2)[0], next(x for x in service["environment"] if x.startswith("VLLM_API_KEY"))

    assert seen() == ("127.0.0.1", "VLLM_API_KEY=")
    assert seen(GB10_API_KEY="k") == ("127.0.0.1", "VLLM_API_KEY=k")
    assert seen(GB10_BIND="0.0.0.0", GB10_API_KEY="k") == ("0.0.0.0", "VLLM_API_KEY=k")
    for key in ({}, {"GB10_API_KEY": ""}):
        with pytest.raises(Refused, match="GB10_BIND is set without GB10_API_KEY"):
            load(path, {"GB10_BIND": "0.0.0.0"} | key)


@pytest.mark.parametrize("path", **named([f for f in [*ENGINES, *TWO, *THIN] if f not in BOUND]))
def test_the_others_listen_here_whatever_is_set(path):
    services = load(path, {"GB10_BIND": "0.0.0.0", "GB10_API_KEY": "k"})["services"]
    assert all(str(port).startswith("127.0.0.1:") for s in services.values() for port in s.get("ports", []))
    assert [s for s in services if any("0.0.0.0" in t and "0.0.0.0:8000" not in t and t != "--host=0.0.0.0" for t in texts(services[s]))] == []
