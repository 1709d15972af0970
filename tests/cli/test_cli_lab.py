"""./course lab: one real start in a hostile home, and the decisions around it."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from gb10.cli import lab as cli
from gb10.paths import ROOT

SECONDS = 40


@contextmanager
def started(env, *argv):
    """(process, URL with token, all that was printed until it was ready); whatever is left is ended."""
    p = subprocess.Popen([sys.executable, "-P", "-m", "gb10", "lab", *argv], env=env, cwd=ROOT, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    said, end = "", time.monotonic() + SECONDS
    try:
        while "(Ctrl-C stops it)" not in said:
            assert p.poll() is None and time.monotonic() < end, f"it did not start:\n{said}"
            if select.select([p.stdout], [], [], 0.5)[0]:
                said += os.read(p.stdout.fileno(), 65536).decode()
        yield p, re.search(r"ready: (\S+)", said)[1], said
    finally:
        if p.poll() is None:
            os.killpg(p.pid, signal.SIGKILL)
        p.wait()
        p.stdout.close()


def ask(url, path, token=None, data=None):
    base = url.split("/lab")[0]
    request = urllib.request.Request(base + path, data=data, headers={"Authorization": f"token {token}"} if token else {})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as r:
        return json.loads(r.read() or "null")


def run_in_kernel(url, token, kernel, code):
    """What `code` prints, by the kernel's websocket, as the page does it."""
    import websocket

    ws = websocket.create_connection(f"ws{url.split('/lab')[0][4:]}/api/kernels/{kernel}/channels?token={token}",
                                     timeout=30, suppress_origin=True)
    header = {"msg_id": "1", "msg_type": "execute_request", "session": "s", "username": "u", "version": "5.3"}
    ws.send(json.dumps({"header": header, "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": [],
                        "content": {"code": code, "silent": False}}))
    text = ""
    while True:
        message = json.loads(ws.recv())
        if message["parent_header"].get("msg_id") != "1":
            continue
        if message["msg_type"] == "stream":
            text += message["content"]["text"]
        elif message["msg_type"] == "error":
            raise AssertionError(message["content"]["traceback"])
        elif message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            ws.close()          # comes on the channel of the output and after it; the reply may overtake both
            return text


@pytest.fixture
def hostile(env, tmp_path):
    """A home in which the user's own Jupyter and IPython are broken in every way that could reach ours."""
    home = tmp_path / "home"
    for folder in (".local/share/jupyter/kernels/python3", "extra/kernels/python3"):
        (home / folder).mkdir(parents=True)
        (home / folder / "kernel.json").write_text(json.dumps(
            {"argv": ["/bin/false", "{connection_file}"], "display_name": "Broken", "language": "python"}))
    (home / ".jupyter").mkdir()
    (home / ".jupyter/jupyter_server_config.py").write_text("raise RuntimeError('the user config was read')")
    (home / ".ipython/profile_default/startup").mkdir(parents=True)
    (home / ".ipython/profile_default/startup/00.py").write_text("print('user startup'); raise SystemExit")
    return env | {"JUPYTER_PATH": str(home / "extra"), "JUPYTER_TOKEN": "guessed", "http_proxy": "http://127.0.0.1:9"}


def test_lab_from_start_to_ctrl_c(hostile, tmp_path):
    taken = socket.socket()     # the default port is not free: the next one is taken
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(("127.0.0.1", 8888))
        taken.listen()
    except OSError:
        pass                    # somebody else holds it: just as good
    env = hostile | {"SSH_CONNECTION": "192.0.2.7 50000 192.0.2.1 22"}
    start = time.monotonic()
    with taken, started(env) as (process, url, said):
        took = time.monotonic() - start
        token = re.search(r"token=(\w+)", url)[1]
        port = int(re.search(r":(\d+)/", url)[1])
        assert url.startswith(f"http://127.0.0.1:{port}/lab/tree/Syllabus.md?token=") and port != 8888
        assert len(token) >= 32 and said.count(token) == 1
        assert re.search(rf"ssh -N -L {port}:127\.0\.0\.1:{port} \S+@192\.0\.2\.1\n", said)
        assert took < 20        # asked: 6 s on an idle machine

        ask(url, "/api/status", token)
        for wrong in (None, "guessed"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(url, "/api/contents", wrong)
            assert refused.value.code == 403
        listening = {c.laddr.ip for c in psutil.Process(process.pid).net_connections("inet")
                     if c.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        assert "Syllabus.md" in {f["name"] for f in ask(url, "/api/contents", token)["content"]}

        kernels = ask(url, "/api/kernelspecs", token)
        assert list(kernels["kernelspecs"]) == ["python3"]
        assert kernels["kernelspecs"]["python3"]["spec"]["display_name"] != "Broken"
        kernel = ask(url, "/api/kernels", token, data=json.dumps({"name": "python3"}).encode())["id"]
        code = "import sys, os, shutil; print(sys.prefix, shutil.which('python'), 'JUPYTER_TOKEN' in os.environ)"
        prefix, python, in_env = run_in_kernel(url, token, kernel, code).split()
        assert Path(prefix) == Path(sys.prefix) and Path(python).parent == Path(sys.executable).parent
        assert in_env == "False"

        assert not [f for f in tmp_path.rglob("*") if f.is_file() and token.encode() in f.read_bytes()]
        assert token not in " ".join(psutil.Process(process.pid).cmdline())
        children = psutil.Process(process.pid).children(recursive=True)
        runtime = {a for c in children for a in c.cmdline() if "gb10-lab-" in a}
        assert children and runtime

        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=15)[0]
        assert process.returncode == 0 and "JupyterLab has stopped" in rest and "Traceback" not in rest
        assert not psutil.wait_procs(children, timeout=5)[1], "a kernel is left"
        assert not any(Path(f).parent.exists() for f in runtime), "the runtime folder is left"
    assert {p.name for p in (tmp_path / "home").iterdir()} == {".local", "extra", ".jupyter", ".ipython"}
    assert not (tmp_path / "home/.local/share/jupyter/runtime").exists()


def test_a_port_that_is_taken(env):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        p = subprocess.run([sys.executable, "-P", "-m", "gb10", "lab", "--port", str(port), "--no-browser"], env=env,
                           cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert p.returncode == 2 and "ready:" not in p.stdout
    assert p.stderr == f"./course: port {port} of 127.0.0.1 is taken: choose another with --port, or leave --port out.\n"


@pytest.mark.parametrize(("argv", "said"), [
    (("--host", "no.such.host.invalid"), "no such address"),
    (("notebook.ipynb",), "takes no argument 'notebook.ipynb'"),
    (("--", "--no-such-option"), "doesn't take --no-such-option"),
])
def test_wrong_requests(course, tmp_path, argv, said):
    p = course("lab", *argv)
    assert p.returncode == 2 and said in p.stderr and p.stderr.count("\n") == 1
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(("env", "line"), [
    ({"SSH_CONNECTION": "10.0.0.2 51000 10.0.0.9 22"}, "ssh -N -L 9000:127.0.0.1:9000 me@10.0.0.9"),
    ({"SSH_CONNECTION": "10.0.0.2 51000 10.0.0.9 2222"}, "ssh -N -L 9000:127.0.0.1:9000 -p 2222 me@10.0.0.9"),
    ({"SSH_CONNECTION": "fe80::2 51000 fe80::9 22"}, "ssh -N -L 9000:127.0.0.1:9000 me@fe80::9"),
    ({}, None), ({"SSH_CONNECTION": "odd"}, None),
])
def test_tunnel_line(env, line):
    assert cli.tunnel_line(env, 9000, "me") == line


@pytest.mark.skipif(sys.platform != "linux", reason="displays of Linux")
@pytest.mark.parametrize(("env", "opens"), [
    ({}, False), ({"DISPLAY": ":0"}, True), ({"WAYLAND_DISPLAY": "wayland-0"}, True),
    ({"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "a 1 b 22"}, False),
])
def test_a_browser_is_opened_only_where_the_user_sits(env, opens):
    assert cli.has_display(env) is opens


def test_settings_of_the_page():
    """What the page is told: callbacks on the main thread, the syllabus as a page, no news."""
    folder = ROOT / "share/jupyter/lab/settings"
    overrides = json.loads((folder / "overrides.d/gb10.json").read_text())
    assert overrides["@jupyterlab/apputils-extension:kernels-settings"]["commsOverSubshells"] == "disabled"
    assert overrides["@jupyterlab/docmanager-extension:plugin"]["defaultViewers"] == {"markdown": "Markdown Preview"}
    assert overrides["@jupyterlab/apputils-extension:notification"] == {"checkForUpdates": False, "fetchNews": "false"}
    from jupyterlab_server.settings_utils import _get_overrides

    read, error = _get_overrides(str(folder))
    assert error == "" and read == overrides
