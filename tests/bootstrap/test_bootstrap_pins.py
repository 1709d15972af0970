"""pyproject.toml, requirements.lock, environment.yml and what is installed say the same."""

import importlib.metadata
import re
import sysconfig
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
LOCK = (ROOT / "requirements.lock").read_text()
CONDA = (ROOT / "environment.yml").read_text()

spec = spec_from_file_location("tools_lock", ROOT / "tools" / "lock.py")
lock_tool = module_from_spec(spec)
spec.loader.exec_module(lock_tool)


def exact(requirements) -> dict[str, str]:
    """name -> version; every requirement must be pinned exactly."""
    pins = {}
    for text in requirements:
        r = Requirement(text)
        (only,) = r.specifier
        assert only.operator == "==" and "*" not in only.version, f"{text} is not pinned exactly"
        pins[canonicalize_name(r.name)] = only.version
    return pins


def of_pyproject(text: str) -> dict[str, str]:
    project = tomllib.loads(text)["project"]
    return exact([*project["dependencies"], *(r for e in project["optional-dependencies"].values() for r in e)])


def of_conda(text: str) -> dict[str, str]:
    """The pins of environment.yml, after asserting all else that must be in it."""
    data = yaml.safe_load(text)
    *conda, pip = data["dependencies"]
    assert [c.partition("=")[0] for c in conda] == ["python", "pip"]
    assert conda[0] in ("python=3.11", "python=3.12")
    lines = pip["pip"]
    assert lines[:2] == ["-c requirements.lock", "-e ."]
    return exact(lines[2:])


def of_lock(text: str) -> dict[str, set[str]]:
    pins = {}
    for name, version, _ in lock_tool.pins(text):
        pins.setdefault(canonicalize_name(name), set()).add(version)
    return pins


def disagreements(pyproject: str, lock: str, conda: str) -> list[str]:
    want, locked = of_pyproject(pyproject), of_lock(lock)
    found = [f"{n}: pyproject {v}, lock {locked.get(n)}" for n, v in want.items() if locked.get(n) != {v}]
    twin = of_conda(conda)
    found += [f"{n}: pyproject {want.get(n)}, conda {twin.get(n)}" for n in want | twin if want.get(n) != twin.get(n)]
    return found


def test_three_files_agree():
    assert disagreements(PYPROJECT, LOCK, CONDA) == []


def changed(text: str, name: str, new: str) -> str:
    out = re.sub(rf"(?m)\b{name}==[^\s\"]+", new, text)
    assert out != text
    return out


@pytest.mark.parametrize("name", ["openai", "ruff", "torch"])
def test_one_pin_changed_in_one_file_is_noticed(name):
    new = f"{name}==0.0.1"
    assert disagreements(changed(PYPROJECT, name, new), LOCK, CONDA)
    assert disagreements(PYPROJECT, changed(LOCK, name, new), CONDA)
    assert disagreements(PYPROJECT, LOCK, changed(CONDA, name, new))
    assert disagreements(PYPROJECT, LOCK, re.sub(rf"(?m)^ +- {name}==.*\n", "", CONDA))
    with pytest.raises((AssertionError, ValueError)):  # a pin that is none
        disagreements(changed(PYPROJECT, name, f"{name}>=1"), LOCK, CONDA)


def test_conda_file_is_derived():
    assert lock_tool.conda_text(tomllib.loads(PYPROJECT)["project"]) == CONDA


def test_the_promised_packages_are_there():
    promised = "jupyterlab ipywidgets openai huggingface-hub nvidia-modelopt matplotlib nbval torch transformers " \
               "safetensors numba rich"
    assert set(promised.split()) <= set(of_pyproject(PYPROJECT))
    assert of_pyproject(PYPROJECT)["torch"] == "2.13.0"
    transformers = tuple(int(n) for n in of_pyproject(PYPROJECT)["transformers"].split("."))
    assert (4, 57) <= transformers < (5, 15), "modelopt 0.47's hf extra asks for this range"


def test_the_build_is_pinned():
    assert "hatchling" in exact(tomllib.loads(PYPROJECT)["build-system"]["requires"])


def test_lock_serves_everyone():
    assert lock_tool.objections(LOCK) == []


@pytest.mark.parametrize("line", [
    "torch==2.13.0+cpu ; platform_machine == 'x86_64'", "--find-links /opt/wheels", "gb10 @ file:///home/me/course",
    "--index-url https://example.org/simple", "-e .", "/home/me/x.whl",
])
def test_lock_of_one_machine_is_refused(line):
    assert lock_tool.objections(LOCK + line + "\n")


@pytest.mark.parametrize("target", lock_tool.TARGETS, ids=str)
def test_one_pin_for_each_target(target):
    """On a target, no package is pinned twice: pip could not satisfy both."""
    env = lock_tool.environment(*target)
    names = [n for n, _, marker in lock_tool.pins(LOCK) if not marker or Marker(marker).evaluate(env)]
    assert len(names) == len(set(names))
    assert {"torch", "jupyterlab", "nvidia-cublas", "triton"} <= set(names)


def test_a_missing_wheel_is_noticed():
    def package(*names):
        return {"name": "x", "version": "1", "wheels": [{"url": f"https://host/{n}"} for n in names]}

    both = "x-1-cp311-abi3-manylinux_2_28_{}.whl"
    assert lock_tool.check_wheels([package("x-1-py3-none-any.whl")]) == []
    assert lock_tool.check_wheels([package(both.format("x86_64"), both.format("aarch64"))]) == []
    assert len(lock_tool.check_wheels([package(both.format("x86_64"))])) == 2
    assert len(lock_tool.check_wheels([package("x-1-cp311-cp311-manylinux2014_x86_64.whl")])) == 3
    assert len(lock_tool.check_wheels([package("x-1-cp311-abi3-manylinux_2_99_x86_64.whl")])) == 4
    windows_only = package("x-1-cp311-abi3-win_amd64.whl") | {"marker": "sys_platform == 'win32'"}
    assert lock_tool.check_wheels([windows_only]) == []


def strangers(installed: dict[str, str], lock: str) -> list[str]:
    """Installed versions that differ from the lock's; a build (+cpu) of the pinned version is right."""
    pins = of_lock(lock)
    return [f"{n} {v}, pinned {pins[n]}" for n, v in installed.items()
            if n in pins and v.partition("+")[0] not in pins[n]]


def test_what_is_installed_is_what_is_pinned():
    # site-packages alone: importing setuptools puts the copies that it carries on sys.path, too
    there = importlib.metadata.distributions(path=[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    installed = {canonicalize_name(d.metadata["Name"]): d.version for d in there}
    missing = set(of_pyproject(PYPROJECT)) - set(installed)
    assert not missing
    assert strangers(installed, LOCK) == []
    assert strangers(installed | {"numpy": "1.0"}, LOCK)
