"""Serve a GGUF file with llama-server, as engines.start() serves a folder: on 127.0.0.1, until the notebook ends."""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

from gb10.engines import launch, ports, state
from gb10.engines.llama_cpp import builder
from gb10.errors import UserError
from gb10.paths import ROOT

NAME = "llama.cpp"
READY_IN = "1 to 10 s"
RUNTIME_BYTES = int(0.2e9)
PHASES = ((re.compile(r"load_model|loading model"), "loading the weights"), (re.compile(r"listening"), "opening the port"))
CAUSES = {r"bind.*failed|couldn't bind|address already in use": "another program took the port meanwhile.",
          r"failed to load model|error loading model": "it can't load this file.",
          r"failed to allocate|out of memory": "memory ran out: close other programs, or serve a smaller model."}


def serve(gguf: str | Path, *, name: str | None = None, port: int | None = None, context: int = 2048, sequences: int = 4,
          threads: int = 1, home: Path | None = None, timeout: float = 120, quiet: bool = False) -> launch.Server:
    """Serve a GGUF file and return when it answers; stop() ends it, as does the end of this process.

    name: what requests call the model (the file's, without .gguf). context: tokens of prompt plus answer for each of `sequences`
    requests at once. threads: 1 is best for a small model beside others. Raises UserError or WorkFailed, in a sentence.
    """
    file, home = Path(gguf).expanduser(), home or builder.HOME
    look(file)
    if not builder.built(home):
        raise UserError("llama.cpp is not built yet: call llama_cpp.build() first, it takes some minutes.")
    name = launch.served_name(file, name or file.stem)
    launch.guard({"weights": file.stat().st_size, "llama.cpp itself": RUNTIME_BYTES}, SimpleNamespace(path=file))
    state.FOLDER.mkdir(parents=True, exist_ok=True)
    with ports.held(ports.checked(port), port is None) as free:
        command = [sys.executable, "-m", "gb10.engines.llama_cpp.run", str(home / "bin" / "llama-server"), "--model", str(file.resolve()),
                   "--alias", name, "--host", "127.0.0.1", "--port", str(free), "--ctx-size", str(context * sequences),
                   "--parallel", str(sequences), "--threads", str(threads), "--threads-batch", str(threads), "--jinja"]
        adapter = SimpleNamespace(NAME=NAME, READY_IN=READY_IN, PHASES=PHASES, cause=cause)
        return launch._launch(adapter, command, {"PYTHONPATH": str(ROOT)}, SimpleNamespace(path=file), name, free, "notebook", timeout, quiet)


def look(file: Path) -> None:
    """Raises UserError for what is no GGUF file."""
    if not file.is_file():
        raise UserError(f"there is no file {file}.")
    with open(file, "rb") as f:
        head = f.read(8)
    if len(head) < 8 or head[:4] != b"GGUF" or not 1 <= struct.unpack("<I", head[4:])[0] <= 100:
        raise UserError(f"{file} is no GGUF file: it doesn't begin as one. llama_cpp.convert() makes one from a model folder.")


def cause(log: Path) -> str | None:
    """Why it ended, from its log, as a sentence; None where it doesn't say."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return next((sentence for pattern, sentence in CAUSES.items() if re.search(pattern, text, re.IGNORECASE)), None)
