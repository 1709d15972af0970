"""Reading a compose file as Docker Compose does, as far as the course's files need it, and the house rules on what is read.

`load` interpolates, follows `extends` and `include`, and makes paths absolute; test_real_compose.py holds it against Compose
itself. The rules take what `load` returns, so that a test can spoil one thing in it.
"""

import functools
import re
from pathlib import Path

import yaml

VARIABLE = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")
_BODY = re.compile(r"([A-Za-z_]\w*)(?:(:?[-+?])(.*))?", re.DOTALL)
HOME = {"HOME": "/home/you"}
# Images whose tag moves, and why there is no better one.
MOVING = {"nvcr.io/nim/meta/llama-3.1-8b-instruct-dgx-spark:latest": "NVIDIA's playbook names no other tag"}
HELPER = "folders"


class Refused(Exception):
    """Compose would stop here."""


def interpolate(text, env):
    """`text` with its variables replaced, by Compose's rules: the alternative is worked out first, needed or not."""
    out, i = [], 0
    while i < len(text):
        if text.startswith("$$", i):
            out.append("$")
            i += 2
        elif text.startswith("${", i):
            end, depth = i + 2, 1
            while depth:
                if end >= len(text):
                    raise Refused(f"no closing brace in {text!r}")
                depth += {"{": 1, "}": -1}.get(text[end], 0)
                end += 1
            out.append(_value(text[i + 2:end - 1], env))
            i = end
        elif text[i] == "$":
            raise Refused(f"a lone $ in {text!r}")
        else:
            out.append(text[i])
            i += 1
    return "".join(out)


def _value(body, env):
    found = _BODY.fullmatch(body)
    if not found:
        raise Refused(f"no variable: {body!r}")
    name, operator, other = found.groups()
    value = env.get(name)
    there = value is not None and (value != "" or not (operator or "").startswith(":"))
    other = interpolate(other, env) if other is not None else ""
    if operator in ("-", ":-"):
        return value if there else other
    if operator in ("+", ":+"):
        return other if there else ""
    if operator and not there:
        raise Refused(f"{name}: {other}")
    return value or ""


def _each(data, env):
    if isinstance(data, str):
        return interpolate(data, env)
    if isinstance(data, list):
        return [_each(x, env) for x in data]
    return {k: _each(v, env) for k, v in data.items()} if isinstance(data, dict) else data


@functools.cache
def _parsed(text):
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))     # neither makes objects; the C one is ten times faster


def load(path, env=None):
    """{"name", "services", "configs", …} of a file, as Compose would see it with these variables. Raises Refused."""
    path = Path(path)
    if not path.is_file():
        raise Refused(f"{path}: no such file")
    data = _each(_parsed(path.read_text()), HOME | (env or {}))       # a copy
    for service in data.get("services", {}).values():
        for i, volume in enumerate(service.get("volumes", [])):
            if isinstance(volume, str) and volume.startswith("."):
                source, _, rest = volume.partition(":")
                service["volumes"][i] = f"{(path.parent / source).resolve()}:{rest}"
    for name, service in data.get("services", {}).items():
        if "extends" in service:
            extends = service.pop("extends")
            base = load(_clean(path.parent / extends["file"]), env)["services"][extends["service"]]
            data["services"][name] = base | service
    for included in data.pop("include", []):
        other = load(_clean(path.parent / included), env)
        for part in ("services", "configs", "volumes"):
            if part in other:
                data.setdefault(part, {}).update(other[part])
        data.setdefault("name", other.get("name"))
    return data


def _clean(path):
    """a/b/../c is a/c by name alone, whether b is there or not: as Compose does it."""
    parts = []
    for part in Path(path).parts:
        parts = parts[:-1] if part == ".." and parts and parts[-1] != ".." else [*parts, part]
    return Path(*parts)


def environment(service):
    return {line.partition("=")[0]: line.partition("=")[2] for line in service.get("environment", [])}


def is_job(name, service):
    """A service that does one thing and ends, instead of serving."""
    return name != HELPER and not service.get("ports") and service.get("network_mode") != "host" and service.get("restart") == "no"


def on_gpu(service):
    return bool(service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices"))


def rule_breaks(file):
    """The house rules that a compose file (a path, or what `load` gave) breaks, a sentence each."""
    data = load(file) if isinstance(file, (str, Path)) else file
    broken = []
    for name, service in data["services"].items():
        image = service.get("image", "")
        if (not re.fullmatch(r"\S+:\S*\d\S*", image) or image.endswith(":latest")) and image not in MOVING:
            broken.append(f"{name}: image {image!r} has no fixed tag")
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                broken.append(f"{name}: port {port} is not bound to 127.0.0.1")
        for volume in service.get("volumes", []):
            if "docker.sock" in str(volume):
                broken.append(f"{name}: mounts the Docker socket")
        if service.get("privileged"):
            broken.append(f"{name}: runs privileged")
        if "healthcheck" not in service and name != HELPER and not is_job(name, service):
            broken.append(f"{name}: has no health check")
        for variable, value in environment(service).items():
            if re.search("TOKEN|KEY|SECRET|PASSWORD", variable) and value not in ("", "none"):
                broken.append(f"{name}: a secret is written into the file")
        shared = service.get("ipc") == "host" or service.get("shm_size") or "ollama" in image      # Ollama is one process
        if on_gpu(service) and (not shared or set(service.get("ulimits", ())) != {"memlock", "stack"}):
            broken.append(f"{name}: works on the GPU without ipc: host or without both ulimits")
        broken += job_breaks(name, service) if is_job(name, service) else []
    return broken


def job_breaks(name, service):
    """What a job must have besides, so that what it leaves on the host is the user's."""
    broken = []
    user = str(service.get("user", ""))
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
    there = environment(service)
    if there.get("CUDA_VISIBLE_DEVICES") != "0" or there.get("ACCELERATE_USE_FSDP") != "false":
        broken.append(f"{name}: lets the model be spread over a GPU and a CPU that share their memory")
    return broken


def engine_breaks(data):
    """The rules that the files of compose/ have to keep besides."""
    return [f"{name}: {sentence}" for name, service in data["services"].items()
            for sentence in (_helper(service) if name == HELPER else [*_fenced(service), *_engine(service)])]


def _helper(service):
    if service.get("network_mode") != "none" or service.get("cap_drop") != ["ALL"] or set(service.get("cap_add", ())) > {"CHOWN", "DAC_OVERRIDE"}:
        yield "may do more than make folders"
    if service.get("security_opt") != ["no-new-privileges:true"]:
        yield "could get more powers"


def _fenced(service):
    """Of every service: it can't do more than it has to."""
    if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
        yield "keeps powers of root"
    if service.get("security_opt") != ["no-new-privileges:true"]:
        yield "could get more powers"
    if not service.get("mem_limit") or service["mem_limit"] != service.get("memswap_limit"):
        yield "has no memory limit, or may swap"
    if service.get("init") is not True or service.get("restart") != "no" or not service.get("stop_grace_period"):
        yield "has no init, starts again by itself, or is killed at once"
    if not service.get("logging", {}).get("options", {}).get("max-size"):
        yield "may fill the disk with its log"
    binds = [v for v in service.get("volumes", []) if v.startswith("/")]
    if any(not v.endswith(":ro") for v in binds) and not re.fullmatch(r"[1-9]\d*:[1-9]\d*", str(service.get("user", ""))):
        yield "writes to your folders as root"
    if binds and service.get("depends_on", {}).get(HELPER, {}).get("condition") != "service_completed_successfully":
        yield "Docker would make its folders as root"
    if any(v.split(":")[1] == "/models" and not v.endswith(":/models:ro") for v in binds):
        yield "could change your models"


def _engine(service):
    """Of those on the GPU."""
    if not on_gpu(service):
        return
    words, env = [str(w) for w in service.get("command", [])], environment(service)
    if any("trust" in w for w in words):
        yield "runs code that comes with a model"
    if service.get("network_mode") == "host":
        if "--host=127.0.0.1" not in words and "--headless" not in words:
            yield "listens beyond this machine"
    elif [p.rsplit(":", 1)[1] for p in service.get("ports", [])] != ["8000"]:
        yield "doesn't have port 8000 inside"
    elif service.get("networks", {}).get("default", {}).get("aliases") != ["engine"]:
        yield "isn't found as engine"
    test = service.get("healthcheck", {})
    if not test.get("disable") and not (re.fullmatch(r"\d+s", test.get("start_period", "")) and int(test["start_period"][:-1]) >= 1200):
        yield "would be called unhealthy while it loads"
    if test.get("disable") and "--headless" not in words and "--node-rank=1" not in words:
        yield "has no health check"
    kept = [v.split(":")[1] for v in service.get("volumes", []) if not v.startswith("/")]
    if not kept or (kept == ["/var/tmp"] and env.get("HOME") != "/var/tmp"):
        yield "loses its compiled kernels or its models with the container"
    if kept == ["/var/tmp"] and "HF_HOME" in env and env.get("USER", "") == "":
        yield "has no name, which torch asks for"
