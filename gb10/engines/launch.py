"""Start an engine of the course's own and wait until it answers; stop it again.

The order matters: everything that can be refused is refused before anything is installed, started or written.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from pathlib import Path
from types import ModuleType
from typing import Self

from gb10.engines import model as models
from gb10.engines import ports, process, state, vllm_env
from gb10.errors import UserError, WorkFailed
from gb10.paths import PICO
from gb10.progress import Progress

EMBEDDED = ("vllm", "standin")


class Server:
    """A running engine. As a context manager it stops at the end of the block."""

    def __init__(self, note: state.Engine):
        self.note = note
        self._client = None
        self.engine, self.title, self.url, self.model = note.engine, note.title, note.url, note.model
        self.pid, self.port, self.ready_s, self.log = note.pid, note.port, note.ready_s, Path(note.log)

    @property
    def client(self):
        """An `openai.OpenAI` that talks to this engine."""
        if self._client is None:
            from openai import OpenAI

            self._client = OpenAI(base_url=self.url, api_key="not-needed", max_retries=0, timeout=600)
        return self._client

    @property
    def alive(self) -> bool:
        return self.note.alive

    def stop(self) -> None:
        """End it and wait until its port is free. Does no harm when called twice."""
        if self._client is not None:
            self._client.close()
            self._client = None
        stop(self.note)
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.close(self._pipe)
            self._pipe = None

    _pipe: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def __repr__(self) -> str:
        how = f"ready in {self.ready_s:.1f} s" if self.alive else "stopped"
        return f"<{self.engine} serving {self.model} at {self.url}, {how}>"


def start(model: str | Path = PICO, *, engine: str | None = None, port: int | None = None, name: str | None = None,
          dtype: str | None = None, context: int | None = None, owner: str = "notebook", timeout: float = 240,
          quiet: bool = False) -> Server:
    """Serve `model` on 127.0.0.1 and return when it answers.

    model: a folder with config.json and *.safetensors, "pico", or a name on the Hugging Face hub ("Qwen/Qwen3-0.6B").
    engine: "vllm" (the real one, on the CPU) or "standin"; None takes vLLM where its wheels run.
    port: None takes 8000 or the next free one. name: what requests call the model; None takes the folder's name.
    dtype: what to compute in; None: see vllm_cpu.dtype. context: longest prompt plus answer in tokens (2048).
    owner: "notebook" ties the engine to this process: it ends with it. "up" leaves it running.

    Raises UserError (nothing was changed) or WorkFailed (it was tried; nothing is left running), both in a sentence.
    """
    adapter, why = choose(engine)
    name = served_name(model, name)
    wanted, port = port, ports.checked(port)
    state.FOLDER.mkdir(parents=True, exist_ok=True)
    with ports.held(port, wanted is None) as port:
        folder = resolve(model, quiet)
        found = models.look(folder)
        kind, length = dtype or adapter.dtype(found), adapter.context(found, context)
        guard(adapter.needs(found, length, kind), found)
        if why and not quiet:
            print(f"The stand-in serves instead of vLLM: {why}.", file=sys.stderr)
        if adapter.NAME == "vllm":
            vllm_env.ensure(quiet=quiet)
        command = adapter.command(found, name, port, length, kind)
        return _launch(adapter, command, adapter.environment(found, length, kind), found, name, port, owner, timeout, quiet)


def plan(model: str | Path = PICO, *, engine: str | None = None, port: int | None = None, name: str | None = None,
         dtype: str | None = None, context: int | None = None) -> dict:
    """What start() would run, and the bytes it would need; starts, installs and fetches nothing."""
    adapter, _ = choose(engine)
    name, port = served_name(model, name), ports.checked(port)
    found = models.look(resolve(model, fetch=False))
    kind, length = dtype or adapter.dtype(found), adapter.context(found, context)
    from gb10.machine import detect

    needs = adapter.needs(found, length, kind)
    guard(needs, found)
    return {"engine": adapter.NAME, "model": name, "url": f"http://127.0.0.1:{port}/v1",
            "command": adapter.command(found, name, port, length, kind),
            "environment": adapter.environment(found, length, kind), "needs_bytes": needs,
            "available_bytes": detect().memory_available_bytes}


def choose(engine: str | None) -> tuple[ModuleType, str | None]:
    """The module that knows how to run the engine, and why it is the stand-in if nobody asked for that."""
    engine = engine or os.environ.get("GB10_ENGINE") or None
    if engine not in (None, *EMBEDDED):
        raise UserError(f"{engine} is not an engine that runs without a container: vllm (on the CPU) and standin are.")
    reason = vllm_env.why_not()
    if engine == "vllm" and reason:
        raise UserError(f"vLLM can't run here: {reason}. The stand-in can: ./course up standin")
    from gb10.engines import standin_run, vllm_cpu

    if engine == "standin" or reason:
        return standin_run, reason if engine is None else None
    return vllm_cpu, None


def served_name(model: str | Path, name: str | None) -> str:
    """What requests have to call the model."""
    if name is not None:
        if not name.strip() or any(c.isspace() for c in name) or name.startswith("-"):
            raise UserError(f"{name!r} can't be a model's name: no blanks, and no leading dash.")
        return name
    if Path(model) == PICO or str(model) == "pico":
        return "pico"
    path = Path(model).expanduser()
    return path.resolve().name if path.exists() else str(model)


def resolve(model: str | Path, quiet: bool = False, fetch: bool = True) -> Path:
    """The folder with the model's files; fetches it if it is a name on the hub (and `fetch` allows it)."""
    if str(model) == "pico":
        return PICO
    path = Path(model).expanduser()
    if path.exists() or isinstance(model, Path) or str(model).startswith((".", "/", "~")):
        return path
    if models.HUB_NAME.fullmatch(str(model)):
        from gb10 import hub

        return hub.fetch(str(model), quiet=quiet) if fetch else hub.folder(str(model))
    raise UserError(f"there is no model '{model}': give pico, a folder, or a name on the Hugging Face hub such as "
                    f"Qwen/Qwen3-0.6B.")


def guard(needs: dict[str, int], found: models.Model) -> None:
    """Refuse what would not fit into the memory that is truly available, with the figures."""
    from gb10.machine import detect

    available, total = detect().memory_available_bytes, sum(needs.values())
    if total > available:
        parts = " + ".join(f"{what} {size / 1e9:.2f}" for what, size in needs.items())
        raise UserError(f"{found.path.name} would need {total / 1e9:.1f} GB of memory ({parts}), {available / 1e9:.1f} GB "
                        f"are available: close other programs or ./course down, or serve a smaller model.")


def _launch(adapter, command, extra, found, name, port, owner, timeout, quiet) -> Server:
    log = state.log_file(port)
    if log.exists():
        os.replace(log, log.with_suffix(".previous.log"))
    note = state.Engine(adapter.NAME, f"http://127.0.0.1:{port}/v1", name, 0, None, port, "", str(found.path), str(log), owner)
    env = {k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "PYTHONPATH", "PYTHONHOME")
           and not k.startswith("VLLM_")}
    env |= extra
    inherited, pipe = (), None
    if owner == "notebook" and os.name == "posix":
        # The engine reads from this pipe, and ends when it closes: that is, when this process ends, however it ends.
        theirs, pipe = os.pipe()
        inherited, env["GB10_OWNER_FD"] = (theirs,), str(theirs)
    env[state.MARK] = state.mark(note)
    progress = Progress(f"{adapter.NAME} with {name}", quiet=quiet)
    t0 = time.monotonic()
    with process.terminated_as_interrupt(), open(log, "w") as out:
        try:
            proc = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env,
                                    cwd=state.FOLDER, start_new_session=True, pass_fds=inherited)
        finally:
            for fd in inherited:
                os.close(fd)
        try:
            note.pid, note.identity = proc.pid, process.identity(proc.pid) or "gone"
            state.write(note)
            _wait(adapter, proc, note, timeout, progress)
            _warm_up(note)
            note.ready_s = round(time.monotonic() - t0, 1)
            state.write(note)
        except BaseException as e:
            progress.clear()
            process.end(note.pid, note.identity)
            proc.wait()
            state.remove(port)
            process.wait_port_free(port)
            if pipe is not None:
                os.close(pipe)
            if isinstance(e, KeyboardInterrupt):
                progress.say(f"Stopped while {adapter.NAME} was starting: nothing is left running.")
            raise
    progress.done(f"ready in {note.ready_s} s")
    server = Server(note)
    server._pipe = pipe
    if owner == "notebook":
        atexit.register(server.stop)
    return server


def _wait(adapter, proc, note: state.Engine, timeout: float, progress: Progress) -> None:
    log = Path(note.log)
    while not (answers(note.url, 1.0) and serves(note.url, note.model)):   # another program may answer on a lost port
        if proc.poll() is not None:
            raise WorkFailed(_died(adapter, proc.returncode, log))
        if progress.elapsed > timeout:
            raise WorkFailed(f"{adapter.NAME} did not answer within {timeout:.0f} s, and was stopped. Its last lines:\n"
                             f"{last_lines(log)}\nIs the machine very busy? --timeout gives it longer. Log: {log}")
        text = log.read_text(errors="replace")
        at = max(((m.start(), words) for p, words in adapter.PHASES if (m := p.search(text))), default=(0, "starting"))
        progress.update(f"{at[1]} (usually {adapter.READY_IN})")
        time.sleep(0.25)


def _died(adapter, code: int, log: Path) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    if code == -9:
        how += " (often: the system ran out of memory)"
    why = adapter.cause(log)
    return (f"{adapter.NAME} {how} while starting{': ' + why if why else '.'}\nIts last lines:\n{last_lines(log)}\n"
            f"Log: {log}")


def last_lines(log: Path, n: int = 6) -> str:
    """The last lines of a log, indented, each cut to a screen's width."""
    if not log.exists():
        return "    (no log)"
    with open(log, errors="replace") as f:
        lines = deque((line.rstrip() for line in f if line.strip()), maxlen=n)
    return "\n".join(f"    {line[:160]}" for line in lines) or "    (it wrote nothing)"


def answers(url: str, timeout: float) -> bool:
    """Does /health say 200?"""
    try:
        with urllib.request.urlopen(url.removesuffix("/v1") + "/health", timeout=timeout) as r:
            return r.status == 200
    except (OSError, ValueError):
        return False


def serves(url: str, name: str) -> bool:
    """Does the server list this model? One that another program started there does not."""
    try:
        with urllib.request.urlopen(url + "/models", timeout=2.0) as r:
            return any(row.get("id") == name for row in json.load(r)["data"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _warm_up(note: state.Engine) -> None:
    """One small answer with logprobs, so that the first real request does not pay for what is done only once."""
    body = {"model": note.model, "prompt": "Hello", "max_tokens": 4, "temperature": 0, "logprobs": 1}
    request = urllib.request.Request(f"{note.url}/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as r:
            answer = json.load(r)
        answer["choices"][0]["text"]
    except urllib.error.HTTPError as e:
        raise WorkFailed(f"{note.engine} came up but refuses to answer: {e.read().decode(errors='replace')[:300]} "
                         f"Log: {note.log}") from None
    except (OSError, ValueError, KeyError, IndexError) as e:
        raise WorkFailed(f"{note.engine} came up but did not answer ({e}). Log: {note.log}") from None


def stop(note: state.Engine) -> bool:
    """End an engine (SIGTERM, then SIGKILL, the whole group; a container by compose), wait until its port is free, remove
    its note."""
    if note.container:
        from gb10.engines import containers

        ended = containers.stop(note.container, Path(note.log))
    else:
        ended = process.end(note.pid, note.identity)
    gone = ended and process.wait_port_free(note.port)
    current = state.read(note.port)
    if current is None or current.identity == note.identity:
        state.remove(note.port)
    return gone


def snippets(note: state.Engine | Server) -> str:
    """A curl command and Python for the openai client, ready to paste: the same request twice."""
    from gb10.engines.talk_paste import curl, snippet

    body = {"model": note.model, "max_tokens": 64, "messages": [{"role": "user", "content": "What does os.path.join do?"}]}
    return f"{curl(note.url, body)}\n\nor in Python:\n\n{snippet(note.url, body)}"
