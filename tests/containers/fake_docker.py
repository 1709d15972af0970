"""Docker in miniature, for tests of what the course does around it: enough of its command to start one container.

A container is a process that runs served.py. FAKE_DOCKER_STATE is a folder; FAKE_DOCKER says what goes wrong:
good, no-daemon, no-permission, no-compose, old-compose, no-gpu, no-image, denied, disk-full, offline, other-arch, wrong-arch-here, port,
no-device, refused-file, slow-pull; any other word is handed to the engine (see served.py).
"""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

STATE = Path(os.environ["FAKE_DOCKER_STATE"])
MODE = os.environ.get("FAKE_DOCKER", "good")
HERE = Path(__file__).parent
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def fail(text, code=1):
    print(text, file=sys.stderr)
    sys.exit(code)


def containers():
    return {f.stem: json.loads(f.read_text()) for f in STATE.glob("*.container")}


def runs(c):
    try:
        return Path(f"/proc/{c['pid']}/stat").read_text().split(") ")[1][0] not in "ZX"
    except OSError:
        return False


def exit_code(c):
    file = STATE / f"{c['id']}.exit"
    return int(file.read_text() or 0) if file.exists() else 0


def value(file, name):
    """What compose would put in for ${NAME:-default}."""
    default = re.search(r"\$\{" + name + r":-([^}]*)\}", file.read_text())
    return os.environ.get(name) or (default[1] if default else "")


def compose(words):
    if "version" in words:
        fail("unknown command: docker compose") if MODE == "no-compose" else print("1.29.2" if MODE == "old-compose" else "2.40.0")
        return
    file = Path(words[words.index("-f") + 1]) if "-f" in words else None
    if "down" in words:
        project = words[words.index("--project-name") + 1] if "--project-name" in words else f"gb10-{file.stem}"
        for c in containers().values():
            if c["project"] == project:
                if runs(c):
                    os.kill(c["pid"], signal.SIGTERM)
                for _ in range(100):
                    if not runs(c):
                        break
                    time.sleep(0.05)
                (STATE / f"{c['id']}.container").unlink()
        return
    engine = file.stem.upper()
    image = value(file, f"{engine}_IMAGE")
    if "config" in words:
        if MODE == "refused-file":
            fail("error while interpolating services.vllm: required variable GB10_API_KEY is missing a value")
        if "--images" in words:
            print(image)
    elif "pull" in words:
        print(f" {file.stem} Pulling ", flush=True)
        if MODE == "slow-pull":
            (STATE / "slow.container.pull").touch()
            time.sleep(60)
        said = {"no-image": f"Error response from daemon: manifest for {image} not found: manifest unknown: manifest unknown",
                "denied": f"Error response from daemon: pull access denied for {image}, repository does not exist or may require 'docker login'",
                "disk-full": "failed to register layer: write /usr/lib/libcublas.so: no space left on device",
                "offline": "Error response from daemon: Get \"https://nvcr.io/v2/\": net/http: TLS handshake timeout",
                "other-arch": "no matching manifest for linux/arm64/v8 in the manifest list entries"}.get(MODE)
        if said:
            fail(said)
        (STATE / "images").open("a").write(image + "\n")
    elif "up" in words:
        up(file, engine, image)
    else:
        fail(f"fake docker: compose {words}?", 99)


def up(file, engine, image):
    if MODE == "port":
        fail("Error response from daemon: driver failed programming external connectivity: Bind for 127.0.0.1:8002 failed: port is "
             "already allocated")
    if MODE == "no-device":
        fail('Error response from daemon: could not select device driver "nvidia" with capabilities: [[gpu]]')
    ident = uuid.uuid4().hex * 2
    port, name = value(file, f"{engine}_PORT"), os.environ.get(f"{engine}_NAME") or value(file, f"{engine}_MODEL")
    log, code = STATE / f"{ident}.log", STATE / f"{ident}.exit"
    proc = subprocess.Popen([sys.executable, "-S", "-E", str(HERE / "served.py"), port, name, MODE, str(code)], stdout=os.open(log, os.O_CREAT | os.O_WRONLY),
                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
    (STATE / f"{ident}.container").write_text(json.dumps(
        {"id": ident, "pid": proc.pid, "project": f"gb10-{file.stem}", "service": file.stem, "image": image, "port": port,
         "environment": {k: v for k, v in os.environ.items() if k.startswith(engine)}}))


def main(words):
    if words[:1] == ["info"]:
        if MODE == "no-permission":
            fail('permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock')
        if MODE == "no-daemon":
            print(json.dumps({"ServerVersion": "", "ServerErrors": ["Cannot connect to the Docker daemon"]}))
            return
        print(json.dumps({"ServerVersion": "28.2.2", "Runtimes": {"runc": {}} | ({} if MODE == "no-gpu" else {"nvidia": {}})}))
    elif words[:1] == ["compose"]:
        compose(words[1:])
    elif words[:2] == ["image", "inspect"]:
        here = (STATE / "images").exists() and words[-1] in (STATE / "images").read_text().split()
        if not here:
            fail(f"Error: No such image: {words[-1]}")
        other = {"amd64": "arm64", "arm64": "amd64"}[ARCH]
        print("sha256:1" if "{{.Id}}" in words else other if MODE == "wrong-arch-here" else ARCH)
    elif words[:1] == ["ps"]:
        labels = dict(f.removeprefix("label=").partition("=")[::2] for a, f in itertools.pairwise(words) if a == "--filter")
        for c in containers().values():
            if labels.get("com.docker.compose.project") in ("", c["project"]) and ("--all" in words or runs(c)) and \
                    labels.get("com.docker.compose.service", c["service"]) == c["service"]:
                print(c["id"] if "--quiet" in words else c["project"])
    elif words[:1] == ["inspect"]:
        c = containers()[words[1]]
        print(json.dumps([{
            "Id": c["id"], "Name": f"/{c['project']}-{c['service']}-1",
            "Config": {"Image": c["image"], "Labels": {"com.docker.compose.service": c["service"]}},
            "HostConfig": {"PortBindings": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": c["port"]}]}},
            "State": {"Status": "running" if runs(c) else "exited", "ExitCode": exit_code(c), "OOMKilled": MODE == "killed", "Error": ""}}]))
    elif words[:1] == ["logs"]:
        text = (STATE / f"{words[-1]}.log").read_text().splitlines()
        print("\n".join(text[-int(words[words.index("--tail") + 1]):] if "--tail" in words else text))
    else:
        fail(f"fake docker: {words}?", 99)


main(sys.argv[1:])
