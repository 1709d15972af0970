"""What compose/ollama.yml runs: a server, its model fetched if it isn't there, loaded, and stopped together. With a stub."""

import signal
import subprocess
import time

import pytest
from compose_rules import load

from gb10.paths import ROOT

STUB = '''#!/bin/sh
echo "$*" >> "$LOG"
case "$1" in
    serve) [ "${SERVE:-}" = dies ] && exit 7; trap 'echo stopped >> "$LOG"; exit 0' TERM; touch "$LOG.up"; while :; do sleep 0.05; done;;
    list) [ -e "$LOG.up" ];;
    show) [ "${HAS:-}" = yes ];;
    pull) [ "${PULL:-}" = slow ] && exec sleep 30; [ "${PULL:-}" != fails ];;
esac
'''


@pytest.fixture
def start(tmp_path):
    script = load(ROOT / "compose/ollama.yml")["services"]["ollama"]["command"][0]
    (tmp_path / "ollama").write_text(STUB)
    (tmp_path / "ollama").chmod(0o755)
    running = []

    def run(**env):
        running.append(subprocess.Popen(["sh", "-euc", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(tmp_path / "log"), "MODEL": "m:8b"} | env,
                                        start_new_session=True, stderr=subprocess.DEVNULL))
        return running[-1]

    def said(*words, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            lines = (tmp_path / "log").read_text().splitlines() if (tmp_path / "log").exists() else []
            if words[-1] in lines:
                return [x for x in lines if x != "list"]
            time.sleep(0.02)
        raise AssertionError(lines)

    run.said = said
    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_it_fetches_loads_serves_and_stops(start):
    process = start()
    assert start.said("run m:8b ") == ["serve", "show m:8b", "pull m:8b", "run m:8b "]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143
    start.said("stopped")


def test_a_model_that_is_there_is_not_fetched(start):
    start(HAS="yes")
    assert "pull m:8b" not in start.said("run m:8b ")


def test_a_server_that_dies_ends_it(start):
    assert start(SERVE="dies").wait(timeout=20) not in (0, 143)


def test_a_model_that_can_not_be_had_ends_it_and_the_server(start):
    assert start(PULL="fails").wait(timeout=20) == 1
    start.said("stopped")


def test_a_stop_while_it_fetches_is_heard_at_once(start):
    process = start(PULL="slow")
    start.said("pull m:8b")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143 and time.monotonic() - began < 10
