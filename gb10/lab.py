"""JupyterLab for the course: its own settings, its own kernel, a token that is written nowhere.

Differences from `jupyter lab`:
- Configuration, data and settings live in .course/jupyter, so neither what a user has in ~/.jupyter nor kernels in
  ~/.local get in the way, and nothing is written to a home. The runtime folder (kernel connection files) is a private
  temporary one, removed at the end.
- The token is made here and stays in memory: Jupyter's file that lists running servers is not written, and the file
  with which it opens a browser only when a browser is opened (private, removed at the end).
- Ctrl-C stops at once: the notebooks are saved by the page, kernels are shut down.
- No news, no update checks, no extension downloads.
"""

from __future__ import annotations

import errno
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from gb10 import paths
from gb10.errors import UserError, WorkFailed
from gb10.workspace import write_atomically

DEFAULT_PORT = 8888
START_SECONDS = 60

# jsonschema imports rfc3987_syntax if it is there, to check values declared "iri" (Jupyter has none). Importing it
# builds a grammar for 1 to 3 s, a third of the start; without it jsonschema leaves that check out.
SLOW_AND_UNUSED = "rfc3987_syntax"


def environment(state: Path, runtime: str) -> None:
    """Point Jupyter and IPython at the course's folders, for this process and the kernels that it starts."""
    for gone in ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "JUPYTER_TOKEN", "JUPYTERLAB_DIR", "PYTHONSTARTUP"):
        os.environ.pop(gone, None)
    os.environ |= {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_CONFIG_DIR": str(state / "jupyter" / "config"),
        "JUPYTER_DATA_DIR": str(state / "jupyter" / "data"),
        "JUPYTER_RUNTIME_DIR": runtime,
        "JUPYTERLAB_SETTINGS_DIR": str(state / "jupyter" / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(state / "jupyter" / "workspaces"),
        "IPYTHONDIR": str(state / "ipython"),
    }
    # `!python` and `!pip` in a notebook are the course's.
    bin_folder = str(Path(sys.executable).parent)
    if os.environ.get("PATH", "").split(os.pathsep)[0] != bin_folder:
        os.environ["PATH"] = os.pathsep.join(filter(None, [bin_folder, os.environ.get("PATH")]))
    if sys.prefix != sys.base_prefix:
        os.environ["VIRTUAL_ENV"] = sys.prefix
    os.environ.pop("PYTHONHOME", None)
    # Otherwise every kernel warns on the terminal that loopback TCP is not encrypted.
    quiet = state / "ipython" / "profile_default" / "ipython_kernel_config.json"
    if not quiet.exists():
        write_atomically(quiet, b'{"IPKernelApp": {"log_level": 40}}\n')


def settings(work: Path, host: str, port: int | None, page: str, browser: bool, token: str):
    """The traitlets Config of the server. Raises nothing; values are fixed here and not taken from config files."""
    from traitlets.config import Config

    c = Config()
    c.ServerApp.update({
        "root_dir": str(work), "ip": host, "port": port or DEFAULT_PORT, "port_retries": 0 if port else 50,
        "default_url": f"/lab/tree/{page}", "open_browser": browser, "answer_yes": True,
        "allow_root": hasattr(os, "geteuid") and os.geteuid() == 0,
        # LSP and jupytext's view of .py files are of no use in the lessons and cost start-up time.
        "jpserver_extensions": {"jupyterlab": True, "jupyter_server_terminals": True, "jupyter_lsp": False,
                                "jupyterlab_jupytext": False, "notebook_shim": False},
    })
    c.Application.log_level = "ERROR"      # its warnings (untrusted notebook, ping interval) are no help to a learner
    c.IdentityProvider.token = token
    c.KernelSpecManager.allowed_kernelspecs = {"python3"}
    c.LabApp.update({"extension_manager": "readonly", "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
                     "news_url": None,
                     # From the checkout, not from the copy made at installation: current after a git pull.
                     "app_settings_dir": str(paths.ROOT / "share" / "jupyter" / "lab" / "settings")})
    return c


def check_address(host: str, port: int | None) -> None:
    """Raises UserError unless `host` is an address of this machine and `port` (if any) can be had there."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
    except OSError as e:
        raise UserError(f"--host {host}: there is no such address.") from e
    with socket.socket(family) as s:
        if os.name == "posix":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(address)
        except OSError as e:
            if e.errno == errno.EADDRINUSE:
                why = f"port {port} of {host} is taken: choose another with --port, or leave --port out."
            elif e.errno == errno.EACCES:
                why = f"port {port} is reserved for root: choose one above 1023."
            else:
                why = f"--host {host} is no address of this machine ({e.strerror}); 127.0.0.1 always is."
            raise UserError(why) from e


def more_settings(options: list[str]):
    """The Config of options meant for `jupyter lab`.

    Raises:
        UserError: JupyterLab knows no such option.
    """
    import contextlib
    import io

    sys.modules.setdefault(SLOW_AND_UNUSED, None)
    from jupyterlab.labapp import LabApp

    app, said = LabApp(), io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            app.parse_command_line(list(options))
    except (SystemExit, Exception) as e:
        why = (said.getvalue().strip().splitlines() or [str(e)])[-1].split("error: ")[-1]
        raise UserError(f"JupyterLab doesn't take {' '.join(options)} ({why}).") from e
    return app.config


def wait_until_it_answers(url: str, token: str, seconds: float) -> bool:
    """Ask the server itself (never through a proxy) until it lets the token in."""
    import urllib.error
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url + "api/status", headers={"Authorization": f"token {token}"})
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with opener.open(request, timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    return False


def serve(work: Path, *, page: str, host: str = "127.0.0.1", port: int | None = None, browser: bool = False,
          on_ready=print, config=None, state: Path | None = None) -> int:
    """Run JupyterLab on `work` until it is stopped; calls on_ready(url with token, port) once it answers.

    `config` (a traitlets Config, from `more_settings`) adds to `settings` and can't undo what that fixes.

    Raises:
        UserError: the port asked for is taken.
        WorkFailed: the server did not start.
    """
    state = state or paths.STATE
    sys.modules.setdefault(SLOW_AND_UNUSED, None)
    with tempfile.TemporaryDirectory(prefix="gb10-lab-", ignore_cleanup_errors=True) as runtime:
        environment(state, runtime)
        from jupyter_server.serverapp import ServerApp

        token = secrets.token_hex(24)
        fixed = settings(work, host, port, page, browser, token)
        if config is None:
            config = fixed
        else:
            config.merge(fixed)

        class Server(ServerApp):
            def write_server_info_file(self):
                """It would hold the token."""

            def init_signal(self):
                for s in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
                    signal.signal(s, self._signal_stop)

            def _signal_stop(self, sig, frame):
                # A second Ctrl-C must not tear down the tear-down.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                self.stop(from_signal=True)

        app = Server.instance(config=config,
                              no_browser_open_file=not browser)   # not a setting that a Config can carry
        try:
            app.initialize(argv=[])
        except SystemExit as e:
            if port:
                check_address(host, port)      # taken since it was looked at
            raise WorkFailed(f"JupyterLab could not start on {host} (see above).") from e
        if "jupyterlab" not in app.extension_manager.extensions or not app.extension_manager.extensions[
                "jupyterlab"].enabled:
            raise WorkFailed("JupyterLab's server extension is not installed: run ./course lab again to repair it.")
        shown = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
        base = f"http://{f'[{shown}]' if ':' in shown else shown}:{app.port}/"

        def announce():
            if wait_until_it_answers(base, token, START_SECONDS):
                on_ready(f"{base}lab/tree/{page}?token={token}", app.port)
            else:
                print(f"JupyterLab does not answer on {base} after {START_SECONDS} s.", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=announce, daemon=True).start()
        app.start()
    return 0
