"""A server before it is measured: who it is, what it takes, how long its prompts are. All of it asked, nothing assumed."""

from __future__ import annotations

import os

from gb10.bench import calibrate, fields, probe, prompts
from gb10.bench.spec import Spec
from gb10.bench.target import APIS, Target, parse
from gb10.bench.worker import Worker
from gb10.endpoints import KNOWN, UNKNOWN
from gb10.errors import CourseError, UserError, WorkFailed

KEY = ("http_401", "http_403")
WRONG = (*KEY, "http_400", "http_404", "http_405", "http_413", "http_422")
WORDS = 64                       # of filler, where no length is asked for


class Endpoint:
    """One server and one of its models; `prepare` talks to it until a request of the wished kind works."""

    def __init__(self, target: Target, key: str | None, key_env: str = "GB10_API_KEY"):
        self.target, self.key, self.key_env, self.engine = target, key, key_env, ""
        self.model, self.models, self.version = "", [], None
        self.refused: list[str] = []
        self.prompt, self.prompt_tokens = "", None
        self.body: dict = {}
        self.first: dict = {}            # the journal line of the warm-up request that worked last

    def identify(self, model: str | None) -> None:
        """Ask which models there are, and take the first unless one is wished for: some servers take names that they don't list.

        Raises UserError or WorkFailed, each with a sentence, when none is wished for and none can be had.
        """
        try:
            self.models, self.engine = probe.identify(self.target, self.key)
        except CourseError:
            if model is None:
                raise
            self.models = []             # some servers list nothing; the first request will tell what is wrong, if anything is
        self.model = model or self.models[0]
        self.engine = self.engine or UNKNOWN

    def prepare(self, o, worker: Worker, salt: int) -> None:
        """Find the fields it takes and the prompt of the wished length, with real requests that count for nothing."""
        seed = prompts.mixed(o.seed, 1)
        self.prompt = o.prompt_text if o.prompt_text is not None else prompts.text(WORDS, seed)
        count = [0]

        def ask(without, prompt=None, most=None) -> dict:
            request = self.request(o, without, most)
            spec = self.spec(o, salt).but(body=request, prompt=self.prompt if prompt is None else prompt, cell=1_000_000 + count[0],
                                          todo=[(0, 1)], concurrency=1, turns=1, asked=None, nonce=not o.warm)
            count[0] += 1
            got = worker.run(spec)
            if got["cancelled"]:
                raise KeyboardInterrupt
            return got["rows"][0]

        self.first, self.refused = fields.settle(ask, self.engine)
        self._must_work(self.first)
        without = frozenset(self.refused)
        if o.prompt_tokens is not None:
            def tokens(words: int, short: int) -> int | None:
                row = ask(without | {"min_tokens", "ignore_eos"}, prompts.text(words, seed, short), 1)
                if row.get("err") and row["err"] != "empty":
                    self._must_work(row)
                return row.get("isl")

            words, short, self.prompt_tokens = calibrate.words_for(o.prompt_tokens, tokens)
            self.prompt = prompts.text(words, seed, short)
        for _ in range(o.warmup - 1 if o.prompt_tokens is None else o.warmup):
            self.first = ask(without)
            self._must_work(self.first)
        self.body = self.request(o, without)

    def request(self, o, without=frozenset(), most: int | None = None) -> dict:
        return fields.body(self.model, engine=self.engine, max_tokens=most or o.max_tokens, fixed=not o.any_length,
                           temperature=o.temperature, extra=o.extra, without=without)

    def _must_work(self, row: dict) -> None:
        """A server that isn't there, or calls the request wrong, won't do better with many; one that fails may."""
        error, why = row.get("err", ""), row.get("why") or "it does not say why"
        if error == "http_404" and self.models and self.model not in self.models:
            raise UserError(f"{self.target.url} does not serve {self.model}; it serves {', '.join(self.models[:8])}.")
        if error in ("connect", *WRONG):
            raise WorkFailed(f"a first request to {self.target.url} failed ({error.replace('_', ' ').upper()}): {why}" +
                             (f". The key comes from {self.key_env}, which is {'set' if self.key else 'not set'}." if error in KEY else ""))

    def spec(self, o, salt: int) -> Spec:
        """What all cells of this endpoint share."""
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "User-Agent": "gb10-bench"}
        headers |= probe.authorization(self.key)
        return Spec(addresses=self.target.addresses(), host=self.target.host_header, path=self.target.base + APIS[o.api],
                    tls=self.target.host if self.target.tls else None, headers=headers, api=o.api, body=self.body, prompt=self.prompt,
                    nonce=not o.warm, salt=salt, seed=o.seed, turns=o.turns, asked=None if o.any_length else o.max_tokens,
                    stall_s=o.stall, timeout_s=o.timeout, stamps=os.environ.get("GB10_BENCH_STAMPS", "auto"))

    def facts(self) -> dict:
        """For the meta file: no key, no addresses but the URL."""
        return {"engine": self.engine, "url": self.target.url, "model": self.model, "version": self.version, "image": None,
                "fields": fields.names(self.body), "rejected": self.refused, "prompt_tokens": self.prompt_tokens}


def identified(o) -> list[Endpoint]:
    """The servers that were asked for, identified. Raises when one isn't there."""
    urls = list(o.url or ())
    if o.engine:
        known = {name.lower().replace("-", ""): url for name, url in KNOWN} | {"trtllm": dict(KNOWN)["TensorRT-LLM"]}
        for name in o.engine.lower().replace("-", "").split(","):
            if name == "up":
                urls += [r["url"] for r in probe.up(key=o.key) if r["answers"]]
                if not urls:
                    raise UserError("nothing is up on the usual ports: start an engine, ./course up for instance.")
            elif name in known:
                urls.append(known[name])
            else:
                raise UserError(f"--engine {name}: there are ollama, trtllm, vllm, own, sglang, and up for all that answer; any other by --url.")
    if not urls:
        raise UserError("whom shall I measure? --engine vllm, or --url http://127.0.0.1:8000/v1; in a terminal, a bare call shows a menu.")
    models = o.model or []
    if len(models) not in (0, 1, len(urls)):
        raise UserError(f"{len(models)} models for {len(urls)} servers: name one for each, in their order, or one for all.")
    out = []
    for i, url in enumerate(urls):
        e = Endpoint(parse(url), o.key, o.key_env)
        e.identify(models[i] if len(models) > 1 else models[0] if models else None)
        out.append(e)
    places = [(e.target, e.model) for e in out]
    if len(set(places)) < len(places):
        raise UserError("the same server with the same model twice: there is nothing to compare.")
    return out
