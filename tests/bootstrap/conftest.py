"""Stand-ins for the bootstrap's tests: a course in miniature and a package index on loopback that can misbehave."""

import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MINI = Path(__file__).parent / "mini"


@pytest.fixture
def script():
    """The script `course` as a module, freshly loaded."""
    loader = SourceFileLoader("course_script", str(ROOT / "course"))
    module = module_from_spec(spec_from_loader("course_script", loader))
    dont, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = dont
    return module


def make_wheel(folder: Path, name: str, version: str, ballast: int = 0) -> Path:
    """A wheel with one module and, on request, some MB that don't compress."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{name}_ballast.bin": os.urandom(ballast),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{n},,\n" for n in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as z:
        for n, data in files.items():
            z.writestr(n, data)
    return path


class Index:
    """A package index (PEP 503) over a folder of wheels, on 127.0.0.1.

    hold       an Event: while it is clear, wheels are sent half and then wait
    cut        how many of the next wheels break off in the middle
    damaged    promise a wrong hash for every wheel
    sent       names of the wheels that were sent whole
    """

    def __init__(self, folder: Path):
        self.folder, self.sent, self.cut, self.damaged = folder, [], 0, False
        self.hold, self.asked = threading.Event(), threading.Event()
        self.hold.set()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                kind, _, rest = self.path.strip("/").rpartition("/")
                if rest.endswith(".whl"):
                    return self.wheel(rest.replace("%2B", "+"))
                body = "".join(
                    f'<a href="/{kind}/{rest}/{w.name.replace("+", "%2B")}{"#sha256=" + "0" * 64 if index.damaged else ""}">'
                    f"{w.name}</a>\n"
                    for w in sorted(index.folder.glob(f"{rest}-*.whl")) if ("+" in w.name) == ("cpu" in kind))
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body.encode())

            def wheel(self, name):
                data = (index.folder / name).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                half = len(data) // 2
                self.wfile.write(data[:half])
                self.wfile.flush()
                index.asked.set()
                if index.cut:
                    index.cut -= 1
                    self.connection.close()
                    return
                index.hold.wait(300)
                self.wfile.write(data[half:])
                index.sent.append(name)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):  # a client that went away is what some tests do
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()


class MiniCourse:
    """A copy of the miniature with the real script, and the environment in which it is called."""

    def __init__(self, folder: Path, index: Index):
        self.root, self.index = folder, index
        shutil.copytree(MINI, folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(ROOT / "course", folder / "course")
        self.env = {n: v for n, v in os.environ.items() if not n.startswith(("PIP_", "PYTHON", "GB10", "VIRTUAL_ENV"))
                    and not n.lower().endswith("_proxy")}
        self.env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"{index.url}/simple", "PIP_RETRIES": "0",
                     "PIP_NO_CACHE_DIR": "1", "PIP_DEFAULT_TIMEOUT": "30", "HOME": str(folder.parent)}

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(self.root / "course")]

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / ".course-stamp"

    def start(self, *argv, **options) -> subprocess.Popen:
        env = self.env | options.pop("env", {})
        return subprocess.Popen([*self.command, *argv], env=env, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, **options)

    def run(self, *argv, **options) -> subprocess.CompletedProcess:
        env = self.env | options.pop("env", {})
        command = options.pop("command", self.command)
        return subprocess.run([*command, *argv], env=env, text=True, capture_output=True, timeout=300, check=False,
                              stdin=subprocess.DEVNULL, **options)

    def works(self, *argv, **options) -> dict:
        """Run `show`, assert that all went well, return what gb10 saw."""
        done = self.run("show", *argv, **options)
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        seen["stderr"] = done.stderr
        return seen

    def touch_pins(self) -> None:
        """A change that makes ./course run pip again and changes nothing else."""
        with (self.root / "pyproject.toml").open("a") as f:
            f.write("# changed\n")

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        (self.root / name).write_text(text.replace(old, new))


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for name, version in (("tinydep", "1.0"), ("tinydep", "1.1"), ("tinytest", "1.0"), ("torch", "2.13.0"),
                          ("torch", "2.13.0+cpu")):
        make_wheel(folder, name, version)
    make_wheel(folder, "bigdep", "1.0", ballast=30_000_000)
    return folder


@pytest.fixture
def index(wheels):
    index = Index(wheels)
    yield index
    index.close()


@pytest.fixture
def mini(tmp_path, index):
    """A miniature with nothing installed, in a path with a space and characters that pip treats specially."""
    return MiniCourse(tmp_path / "the course [v1] #2", index)


@pytest.fixture(scope="session")
def installed_mini(tmp_path_factory, wheels):
    """A miniature that is set up, shared by tests that leave it working."""
    index = Index(wheels)
    mini = MiniCourse(tmp_path_factory.mktemp("installed") / "the course", index)
    mini.works()
    yield mini
    index.close()
