"""Fixtures of the engine tests: a place of their own for notes and logs, real servers (once per session), stand-ins."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from gb10 import paths
from gb10.engines import launch, process, state, vllm_env

# The model that is served: the course's own; GB10_TEST_MODEL puts another Qwen3 of pico's kind in its place.
MODEL = Path(os.environ.get("GB10_TEST_MODEL") or paths.PICO)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """pico is so small that a second thread of torch costs more than it gives, most of all on busy cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def _own_notes(tmp_path_factory):
    """Notes and logs of these tests lie apart, so that a learner's running engine is neither seen nor touched."""
    old, state.FOLDER = state.FOLDER, tmp_path_factory.mktemp("engines")
    yield
    for e in state.sweep()[0]:
        launch.stop(e)
    state.FOLDER = old


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """An empty notes folder for one test; whatever it started is ended."""
    folder = tmp_path / "engines"
    folder.mkdir()
    monkeypatch.setattr(state, "FOLDER", folder)
    yield folder
    for e in state.sweep()[0]:
        launch.stop(e)


@pytest.fixture
def port():
    return free_port()


def free_port() -> int:
    import random

    while True:
        candidate = random.randint(20000, 60000)
        if process.port_free(candidate):
            return candidate


@pytest.fixture(scope="session")
def pico() -> Path:
    if not (MODEL / "config.json").exists():
        pytest.fail(f"the shipped model is not at {MODEL}")
    return MODEL


@pytest.fixture(scope="session")
def nvfp4(pico, tmp_path_factory) -> Path:
    """pico, quantized and exported as the first lesson does it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from gb10 import quantize

    torch.manual_seed(0)
    net = AutoModelForCausalLM.from_pretrained(pico, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(pico)
    quantize.quantize(net, quantize.calibration_batches(tokenizer, corpus()[:60_000], tokens=2048))
    folder = tmp_path_factory.mktemp("checkpoint") / "pico-nvfp4"
    quantize.export(net, tokenizer, folder)
    return folder


def corpus() -> str:
    """Text of the kind pico was trained on (Python's documentation), from the standard library itself."""
    from pydoc_data import topics

    return "\n\n".join(topics.topics[k] for k in sorted(topics.topics))


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """vLLM's environment, made if need be. Skips, loudly, where vLLM has no wheel."""
    if reason := vllm_env.why_not():
        message = f"NO REAL ENGINE IS TESTED HERE: {reason}"
        print(f"\n*** {message} ***", file=sys.stderr)
        pytest.skip(message)
    return vllm_env.ensure()


@pytest.fixture(scope="session")
def servers(vllm_python, pico, nvfp4):
    """Real vLLM twice: BF16 and NVFP4, started at the same time, as two cores allow."""
    found, errors = {}, []

    def go(which, folder):
        try:
            found[which] = launch.start(folder, engine="vllm", port=free_port(), name=which, quiet=True, timeout=900)
        except BaseException as e:  # noqa: BLE001 - raised below
            errors.append(e)

    threads = [threading.Thread(target=go, args=pair) for pair in (("bf16", pico), ("nvfp4", nvfp4))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    try:
        if errors:
            raise errors[0]
        yield SimpleNamespace(**found)
    finally:
        for s in found.values():
            s.stop()


@pytest.fixture(scope="session")
def bf16(servers):
    return servers.bf16


@pytest.fixture(scope="session")
def standin(pico):
    server = launch.start(pico, engine="standin", port=free_port(), name="pico", quiet=True)
    yield server
    server.stop()
