"""Which engine is up? And `connect()`, which a notebook calls to get a client, whatever serves."""

from __future__ import annotations

import json
import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gb10.endpoints import KNOWN, STANDIN, engine_of
from gb10.errors import UserError

_started = []       # servers that connect() started in this process


@dataclass
class Connection:
    """What a notebook needs to talk to an engine. Unpacks as `client, model`."""

    client: object          # openai.OpenAI
    model: str              # the name to put into requests
    engine: str             # "vLLM on the CPU", "Ollama", …
    rung: str               # "laptop", "spark" or "rack"
    url: str                # OpenAI base URL, ends in /v1
    models: list[str] = field(default_factory=list)     # all that this engine offers

    def __iter__(self):
        return iter((self.client, self.model))

    def banner(self) -> str:
        return f"Engine: {self.engine} at {self.url} | model: {self.model} | rung: {self.rung}"


def connect(*, model: str | None = None, quiet: bool = False) -> Connection:
    """The engine that is up; if none is, start vLLM on the CPU with pico. Prints a line saying which.

    Looked at: GB10_URL if it is set (then nothing else), TensorRT-LLM 8001, vLLM 8002, Ollama 11434, one's own 8000,
    SGLang 30000, NIM 8003. model: which of its models to use, if it offers several; None takes the first.
    An engine started here ends with this process (or by `gb10.engines.stop()`).
    """
    from openai import OpenAI

    from gb10.machine import detect

    found = _from_environment() or next(iter(running()), None)
    if found is None:
        from gb10.engines.launch import start

        server = start(quiet=quiet)
        _started.append(server)
        found = {"engine": server.note.title, "url": server.url, "models": [server.model]}
    names = found["models"]
    if model is not None and model not in names:
        raise UserError(f"{found['engine']} at {found['url']} does not serve {model}; it serves {', '.join(names)}.")
    # Ollama ignores the key, the others don't ask for one unless they were started with one.
    client = OpenAI(base_url=found["url"], api_key=os.environ.get("GB10_API_KEY") or "not-needed", timeout=600)
    c = Connection(client, model or names[0], found["engine"], detect().rung, found["url"], names)
    if not quiet:
        print(c.banner())
    return c


def stop() -> None:
    """Stop what connect() started in this process; what ./course up started stays."""
    while _started:
        _started.pop().stop()


def running(known=None, timeout: float = 1.0) -> list[dict]:
    """Engines that answer now: [{"engine", "url", "models"}], in the order of preference. Asked all at once."""
    from gb10.engines import state

    own, _ = state.sweep()
    places = {url: name for name, url in (KNOWN if known is None else known)}
    places |= {e.url: e.title for e in own}     # what the course started, wherever it listens
    with ThreadPoolExecutor(max(1, len(places))) as pool:
        answers = dict(zip(places, pool.map(lambda url: models(url, timeout), places), strict=True))
    return [{"engine": title(places[url], url, owner), "url": url, "models": ids}
            for url, (ids, owner) in answers.items() if ids]


def title(name: str, url: str, owner: str) -> str:
    """How to call an engine, from its place and from what it says about itself."""
    told = engine_of(owner)
    return told if name == "own" or told == STANDIN else name


def models(url: str, timeout: float = 1.0) -> tuple[list[str], str]:
    """(ids, owner) from URL/models; ([], "") if nothing there answers like an OpenAI server."""
    request = urllib.request.Request(f"{url}/models")
    if key := os.environ.get("GB10_API_KEY"):
        request.add_header("Authorization", f"Bearer {key}")
    try:
        # No proxy: these are addresses of this machine or of the desk next to it.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=timeout) as r:
            data = json.loads(r.read(1_000_000))["data"]
        return [str(m["id"]) for m in data], str(data[0].get("owned_by", "")) if data else ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [], ""


def _from_environment() -> dict | None:
    url = os.environ.get("GB10_URL", "").rstrip("/")
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        raise UserError(f"GB10_URL is {url!r}: it has to start with http:// (for example http://127.0.0.1:8000/v1).")
    for base in dict.fromkeys((url, url + "/v1")):
        ids, owner = models(base, 3.0)
        if ids:
            return {"engine": title("own", base, owner), "url": base, "models": ids}
    raise UserError(f"nothing that speaks OpenAI's protocol answers at GB10_URL={url}: start it, or unset GB10_URL.")
