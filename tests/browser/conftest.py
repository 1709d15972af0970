"""A real JupyterLab, started as a learner starts it, and a real Chromium to look at it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings

import pytest

from gb10.engines import vllm_env
from gb10.paths import ROOT, STATE

# Chromium reaches out to its maker at every start unless told not to; none of that is under test.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]


@pytest.fixture(scope="session")
def page():
    """A page of a headless Chromium, 1400 × 1000."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        message = "NO BROWSER: the lessons were not opened in one. Install chromium (Debian: apt install chromium)."
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser.new_page(viewport={"width": 1400, "height": 1000})
        browser.close()


@pytest.fixture(scope="session")
def shots():
    """The folder in which screenshots are kept."""
    folder = STATE / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def engine():
    """The engine's environment, for lessons that serve: minutes and gigabytes on a new machine, so that they aren't part
    of what such a lesson is timed for."""
    if not vllm_env.why_not():
        vllm_env.ensure()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """The address, token included, of a `./course lab` that works on a folder of its own."""
    folder = tmp_path_factory.mktemp("lab")
    environment = dict(os.environ, GB10_WORK=str(folder / "work"), GB10_STATE=str(folder / "state"))
    environment.pop("SSH_CONNECTION", None)
    # every cell in the page at once: a windowed notebook keeps those out of sight out of the page
    tracker = folder / "state" / "jupyter" / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True)
    tracker.write_text('{"windowingMode": "none"}')
    process = subprocess.Popen(
        # what --expose-app-in-browser adds is the handle by which the test gives commands to the page
        [sys.executable, "-m", "gb10", "lab", "--no-browser", "--", "--expose-app-in-browser"],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    lines, found = [], threading.Event()

    def read():
        for line in process.stdout:
            lines.append(line)
            if re.search(r"https?://\S+token=\S+", line):
                found.set()
        found.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        found.wait(90)
        address = re.search(r"https?://\S+token=[^\s\x1b]+", "".join(lines))
        assert address, "./course lab printed no address:\n" + "".join(lines)
        yield address.group()
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
