"""Questions to a server before anything is measured: which models, which engine, which version, and who is up
at all.

A minimal HTTP/1.1 GET over a socket: every address of the host is tried, a deadline holds for the whole of it
(the look-up of the name, which the system does, can't be bounded), and no proxy is asked. The API key goes
into the Authorization header and into no message.
"""

from __future__ import annotations

import errno
import json
import socket
from time import monotonic

from gb10.bench.http1 import NotHttp, Response, request
from gb10.bench.target import Target, parse
from gb10.endpoints import KNOWN, MENU, UNKNOWN, engine_of
from gb10.errors import CourseError, UserError, WorkFailed

LIMIT = 4 * 2**20                # bytes read of one answer
KEY_FROM = "GB10_API_KEY"
# How what is expected on a port is started, where that is one line.
_START = {11434: "ollama serve", 8000: "./course up", 8001: "./course up trtllm", 8002: "./course up vllm",
          8003: "./course up nim", 30000: "./course up sglang"}
# How OpenSSL calls an answer that is no TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")


# ------------------------------------------------------------ one GET

def get(target: Target, path: str, key: str | None = None, timeout: float = 1.0) -> tuple[int, bytes]:
    """(status, body) of a path on the server, from its root. timeout: s for all of it.

    Raises OSError (TimeoutError, ssl.SSLError, …) or NotHttp.
    """
    response, body = fetch(target, path, key, timeout)
    return response.status, body


def fetch(target: Target, path: str, key: str | None = None, timeout: float = 1.0) -> tuple[Response, bytes]:
    """As `get`, with the headers."""
    deadline = monotonic() + timeout
    headers = {"User-Agent": "gb10-bench", "Accept": "application/json", "Connection": "close"}
    head = request("GET", target.host_header, path, headers | authorization(key))
    sock = _connect(target, deadline)
    try:
        sock.settimeout(_left(deadline))
        sock.sendall(head)
        response, parts, size = Response(), [], 0
        while not response.done:
            sock.settimeout(_left(deadline))
            data = sock.recv(65_536)
            if not data:
                if not response.end():
                    raise ConnectionResetError(errno.ECONNRESET, "the connection ended before the answer did")
                break
            size += len(data)
            if size > LIMIT:
                raise NotHttp(f"the answer is longer than {LIMIT >> 20} MB")
            parts.append(response.feed(data))
        return response, b"".join(parts)
    finally:
        sock.close()


def authorization(key: str | None) -> dict[str, str]:
    """The header with the API key; {} without one. Raises UserError for a key that no header can carry."""
    key = (key or "").strip()
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"the API key holds characters that can't be sent: look at {KEY_FROM}.")
    return {"Authorization": f"Bearer {key}"}


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError(errno.ETIMEDOUT, "timed out")
    return left


def _connect(target: Target, deadline: float) -> socket.socket:
    """A connection to the first address that takes one; each gets its share of the time that is left."""
    addresses = target.addresses()
    trouble: OSError = OSError(errno.EADDRNOTAVAIL, "the host has no address")
    for n, (family, address) in enumerate(addresses):
        sock = None
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.settimeout(_left(deadline) / (len(addresses) - n))
            sock.connect(address)
        except OSError as e:
            if sock:
                sock.close()
            if n == 0 or not isinstance(e, ConnectionRefusedError):      # a time-out says more than a refusal
                trouble = e
            continue
        return _encrypted(target, sock, deadline) if target.tls else sock
    raise trouble


def _encrypted(target: Target, sock: socket.socket, deadline: float) -> socket.socket:
    import ssl

    try:
        sock.settimeout(_left(deadline))
        return ssl.create_default_context().wrap_socket(sock, server_hostname=target.host)
    except BaseException:
        sock.close()
        raise


# ------------------------------------------------------------ what a server offers

def models(target: Target, key: str | None = None, timeout: float = 5.0) -> tuple[list[str], str]:
    """(names of its models, the first one's owned_by, an engine's if one of them is). Never without a model.

    Raises UserError (another request would help) or WorkFailed (the server doesn't do its work), each with
    one sentence.
    """
    ids, owner, _ = _listed(target, key, timeout)
    return ids, owner


def identify(target: Target, key: str | None = None, timeout: float = 5.0) -> tuple[list[str], str]:
    """(names of its models, the engine as gb10.endpoints names it). Raises as `models` does."""
    deadline = monotonic() + timeout
    ids, owner, server = _listed(target, key, timeout)
    engine = engine_of(owner, server)
    if engine == UNKNOWN:
        told = _json(target, "/api/version", key, deadline)
        if isinstance(told, dict) and "version" in told:         # all its models are of others' namespaces
            engine = "Ollama"
    return ids, engine


def _listed(target: Target, key: str | None, timeout: float) -> tuple[list[str], str, str]:
    """(ids, owned_by, Server header)."""
    try:
        response, body = fetch(target, target.base + "/models", key, timeout)
    except (OSError, NotHttp) as e:
        raise sentence(target, e, timeout) from e
    url = f"{target.url}/models"
    if response.status in (401, 403):
        asks = "refuses the API key: look at" if key else "asks for an API key: put it into"
        raise UserError(f"{url} {asks} {KEY_FROM} (HTTP {response.status}).")
    if 300 <= response.status < 400:
        raise UserError(f"{url} sends you elsewhere (HTTP {response.status}): give the address that a "
                        "browser ends at.")
    if response.status in (404, 405):
        raise UserError(f"{url} is not there (HTTP {response.status}): an OpenAI-compatible server has it, "
                        "mostly under /v1; look at the URL.")
    if response.status == 400 and not target.tls and b"HTTPS" in body[:1000]:     # as nginx and Go put it
        raise UserError(f"what listens at {target.host} port {target.port} speaks TLS: try https:// "
                        "instead of http://.")
    if response.status != 200:
        raise WorkFailed(f"{url} answers HTTP {response.status} instead of a list of models: the server may "
                         "still be starting; its log says more.")
    try:
        ids, owner = _read(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise UserError(f"{url} answers, but with no list of models as OpenAI's API has it: is this the "
                        "address of a model server?") from e
    if not ids:
        pull = " ('ollama pull qwen3:8b' fetches one)" if target.port == 11434 else ""
        raise WorkFailed(f"{url} lists no model: the server runs but serves nothing yet{pull}.")
    return ids, owner, response.headers.get("server", "")


def _read(body: bytes) -> tuple[list[str], str]:
    """(ids, owned_by) of a list of models. Raises whatever JSON of another shape brings about."""
    rows = json.loads(body)["data"]
    if rows is None:                                   # older Ollama without a model
        return [], ""
    if not isinstance(rows, list):
        raise TypeError("data is no list")
    ids = [row["id"] for row in rows]
    if not all(isinstance(i, str) and i for i in ids):
        raise TypeError("an id is no string")
    owners = [str(row.get("owned_by") or "") for row in rows]
    # Ollama lists models of others' namespaces beside its own
    return ids, next((o for o in owners if engine_of(o) != UNKNOWN), owners[0] if owners else "")


def sentence(target: Target, e: Exception, timeout: float) -> CourseError:
    """Why there was no answer, for a person."""
    place = f"{target.host} port {target.port}"
    if isinstance(e, NotHttp):
        hint = " (it may speak TLS: try https://)" if not target.tls and "\\x15\\x03" in str(e) else ""
        return UserError(f"what listens at {place} does not speak HTTP/1.1{hint}: look at the port.")
    if isinstance(e, ConnectionRefusedError):
        start = _START.get(target.port) if target.loopback else None
        how = f"start it ({start})" if start else "start an engine there"
        where = "" if target.loopback else " If it runs, it may listen on its own 127.0.0.1 only."
        return WorkFailed(f"nothing listens at {place}: {how}, or name another address with --url.{where}")
    if isinstance(e, TimeoutError):
        plain = ", speaks no TLS (then http://)" if target.tls else ""
        return WorkFailed(f"{place} does not answer within {round(timeout, 1):g} s: it is still starting, "
                          f"hangs{plain}, or a firewall swallows what is sent.")
    if type(e).__module__ == "ssl":
        return _tls_sentence(place, e)
    if isinstance(e, ConnectionError):
        tls = "" if target.tls else ", or try https:// if it speaks TLS"
        return WorkFailed(f"what listens at {place} closes the connection instead of answering: look at its "
                          f"log{tls}.")
    return WorkFailed(f"{place} can't be reached ({e.strerror or type(e).__name__}).")


def _tls_sentence(place: str, e: Exception) -> CourseError:
    import os
    import ssl

    if isinstance(e, ssl.SSLCertVerificationError):
        file = os.environ.get("SSL_CERT_FILE")
        if file and not os.path.isfile(file):
            return UserError(f"the certificate of {place} can't be checked: SSL_CERT_FILE names {file}, "
                             "which is no file.")
        return UserError(f"the certificate of {place} is not trusted ({e.verify_message.rstrip('.')}): set "
                         "SSL_CERT_FILE to the file with the certificate of whoever signed it.")
    if getattr(e, "reason", "") in _NO_TLS:
        return UserError(f"what listens at {place} does not speak TLS: try http:// instead of https://.")
    why = getattr(e, "reason", None) or type(e).__name__
    return WorkFailed(f"no TLS connection to {place} comes about ({why}): if the certificate is of your own "
                      "making, set SSL_CERT_FILE to it.")


# ------------------------------------------------------------ more about a server

def version(target: Target, key: str | None = None, timeout: float = 1.0) -> str | None:
    """The engine's version: /version (vLLM, TensorRT-LLM) or /api/version (Ollama), below which no /v1
    stands."""
    deadline = monotonic() + timeout
    for path in ("/version", "/api/version"):
        told = _json(target, path, key, deadline)
        if isinstance(told, dict) and isinstance(told.get("version"), str) and told["version"]:
            return " ".join(told["version"].split())[:60]
    return None


def quantization(target: Target, model: str, key: str | None = None, timeout: float = 1.0) -> str | None:
    """What Ollama says a model's weights are in ("q4_k_m"), from /api/tags; None where nobody says."""
    told = _json(target, "/api/tags", key, monotonic() + timeout)
    try:
        for row in told["models"]:
            if model in (row.get("model"), row.get("name")):
                said = str(row["details"]["quantization_level"]).lower()
                return said if said not in ("", "unknown") else None
    except (KeyError, TypeError, AttributeError):
        pass
    return None


def _json(target: Target, path: str, key: str | None, deadline: float):
    """What a path at the server's root answers with, if that is JSON."""
    try:
        status, body = get(target, target.base.removesuffix("/v1") + path, key, _left(deadline))
        return json.loads(body) if status == 200 else None
    except (OSError, NotHttp, ValueError, RecursionError, WorkFailed):
        return None


# ------------------------------------------------------------ who is up

def up(known=KNOWN, key: str | None = None, timeout: float = 0.9) -> list[dict]:
    """What answers on the usual ports, all asked at once: the menu's 1, 2, 3 first, then the others without a
    number.

    [{"number", "name": expected there, "url", "answers", "engine": that answers, "models", "warning"}];
    timeout: s for all.
    """
    import threading

    places = dict(known)
    names = [n for n in MENU if n in places] + [n for n in places if n not in MENU]
    rows = [{"number": MENU.index(n) + 1 if n in MENU else None, "name": n, "url": places[n],
             "answers": False, "engine": "", "models": [], "warning": f"does not answer within {timeout:g} s"}
            for n in names]
    found: list[dict | None] = [None] * len(rows)

    def ask(i: int) -> None:
        found[i] = _ask(rows[i]["name"], parse(rows[i]["url"]), key, monotonic() + timeout)

    # daemons: whoever hangs is not waited for, not even at the program's end
    threads = [threading.Thread(target=ask, args=(i,), daemon=True) for i in range(len(rows))]
    end = monotonic() + timeout + 0.05
    for t in threads:
        t.start()
    for t in threads:
        t.join(max(0.0, end - monotonic()))
    return [row | (what or {}) for row, what in zip(rows, found, strict=True)]


def _ask(name: str, target: Target, key: str | None, deadline: float) -> dict:
    try:
        ids, engine = identify(target, key, _left(deadline))
    except CourseError as e:
        return {"warning": "" if isinstance(e.__cause__, ConnectionRefusedError) else e.message.rstrip(".")}
    except OSError:                                    # no time is left
        return {}
    warning = f"{engine} answers on the port of {name}" if name not in ("own", engine) else ""
    return {"answers": True, "engine": engine, "models": ids, "warning": warning}


def image_of(port: int, run=None) -> str | None:
    """The image of the container that is published on this port of 127.0.0.1; None without one, or without
    docker."""
    if run is None:
        from gb10.machine import run_quietly as run

    code, out = run(["docker", "ps", "--format", "{{.Image}}\t{{.Ports}}"], 2.0)
    if code:
        return None
    for line in out.splitlines():
        image, _, ports = line.partition("\t")
        if any(_published(p.strip(), port) for p in ports.split(",")):
            return image.strip() or None
    return None


def _published(text: str, port: int) -> bool:
    """Is "127.0.0.1:8002->8000/tcp" or "[::]:8000-8005->8000-8005/tcp" this port of this machine?"""
    outside, arrow, inside = text.partition("->")
    host, _, numbers = outside.rpartition(":")
    near = host in ("0.0.0.0", "[::]", "::", "[::1]") or host.startswith("127.")
    if not (near and arrow and inside.endswith("/tcp")):
        return False
    first, _, last = numbers.partition("-")
    return first.isdigit() and (last or first).isdigit() and int(first) <= port <= int(last or first)
