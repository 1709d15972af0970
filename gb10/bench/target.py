"""Where requests go: a URL taken apart, its name looked up once, before any clock runs."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from gb10.errors import UserError, WorkFailed

APIS = {"chat": "/chat/completions", "completions": "/completions"}


@dataclass(frozen=True)
class Target:
    """An OpenAI-compatible server. `base` is the path of its API, usually /v1."""

    scheme: str
    host: str
    port: int
    base: str

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host_header}{self.base}"

    @property
    def loopback(self) -> bool:
        return self.host == "localhost" or self.host == "::1" or self.host.startswith("127.")

    def addresses(self) -> list[tuple[int, tuple]]:
        """(family, address) of every address of the host. Raises WorkFailed when the name is not known."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as e:
            raise WorkFailed(f"the name {self.host} can't be looked up ({getattr(e, 'strerror', None) or e}): check the URL.") from e
        return [(family, address) for family, _, _, _, address in found if family in (socket.AF_INET, socket.AF_INET6)]


def parse(url: str) -> Target:
    """A URL as people write it: with or without /v1, with the path of one API, without a scheme.

    Raises UserError with one sentence.
    """
    text = url.strip()
    if "://" not in text:
        text = "http://" + text
    scheme, _, rest = text.partition("://")
    place, slash, path = rest.partition("/")
    if scheme.lower() not in ("http", "https") or not place or any(c.isspace() or ord(c) < 32 for c in text):
        raise UserError(f"{url!r} is no URL of a server: give one like http://127.0.0.1:8002/v1.")
    if "@" in place:
        raise UserError("a name or password in the URL would end up in result files: put the key into GB10_API_KEY instead.")
    if "?" in path or "#" in path:
        raise UserError(f"{url!r} has a query or fragment: give the plain address, http://127.0.0.1:8002/v1 for instance.")
    host, port = _host_and_port(place, url, 443 if scheme.lower() == "https" else 80)
    path = (slash + path).rstrip("/")
    for tail in (*APIS.values(), "/models"):
        path = path.removesuffix(tail)
    return Target(scheme.lower(), host, port, path or "/v1")


def _host_and_port(place: str, url: str, default: int) -> tuple[str, int]:
    if place.startswith("["):
        host, bracket, tail = place[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise UserError(f"{url!r} is no URL of a server: an IPv6 address stands in brackets, http://[::1]:8002/v1.")
        text = tail[1:]
    else:
        host, _, text = place.partition(":")
    if text and not (text.isdigit() and 0 < int(text) < 65536):
        raise UserError(f"{url!r} has no usable port: a port is a number from 1 to 65535.")
    if not host:
        raise UserError(f"{url!r} names no host: give one like http://127.0.0.1:8002/v1.")
    return host, int(text or default)
