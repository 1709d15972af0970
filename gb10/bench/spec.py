"""What one cell is: requests of one kind at one concurrency or rate, in plain data that goes from process to process."""

from __future__ import annotations

import json
from types import MappingProxyType


class Spec:
    """One cell. Unknown names are refused; what isn't given is as below."""

    addresses: list = ()                 # ((family, address), …)
    host: str = ""                       # the Host header
    path: str = "/v1/chat/completions"
    tls: str | None = None               # the name to check the certificate against
    headers: dict = MappingProxyType({})
    api: str = "chat"
    body: dict = MappingProxyType({})    # of the request, without its prompt
    prompt: str = ""
    follow_up: str = "Go on."            # what the second and later turns of a conversation say
    nonce: bool = True
    salt: int = 0                        # of the run
    seed: int = 0
    name: str = "bench"                  # begins the X-Request-Id
    cell: int = 0
    todo: list = ()                      # ranges [from, to) of request numbers (of conversations, with turns)
    concurrency: int = 1                 # open loop: the most in flight
    seconds: float | None = None         # no request starts later …
    least: int = 0                       # … but so many do
    rate: float | None = None            # open loop, requests per second
    poisson: bool = False
    turns: int = 1
    asked: int | None = None             # tokens that an answer must have to count
    stall_s: float = 60
    timeout_s: float = 600
    stamps: str = "auto"                 # "user": reading times even where the kernel would date the segments
    journal: str | None = None           # file to append lines to; None: they come back with the totals

    def __init__(self, **given):
        unknown = given.keys() - self.__annotations__.keys()
        if unknown:
            raise TypeError(f"a cell has no {', '.join(sorted(unknown))}")
        vars(self).update(given)

    def but(self, **changes) -> Spec:
        """The same with some changes."""
        return Spec(**vars(self) | changes)

    def to_json(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Spec:
        given = json.loads(text)
        given["addresses"] = [(family, tuple(address)) for family, address in given["addresses"]]
        return cls(**given)
