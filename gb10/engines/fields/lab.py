"""The bench on which the experiments are made: one engine, and what is already known of it."""

from __future__ import annotations

from gb10.engines.fields import wire
from gb10.engines.fields.rows import HONOURED, IGNORED, Rejected, Undecided
from gb10.engines.fields.wire import Reply
from gb10.errors import WorkFailed

# Questions that a large model answers at once and a small one answers somehow; none mentions JSON.
QUESTION = "What does os.path.join do?"
SHORT = "Hello"
OTHERS = ("Answer yes or no: is 2 greater than 1?", "Write the words red and blue again and again.", "Explain what a list is.")
TOKENS = 24                      # of an answer that is compared with others
HOT = 2.0                        # OpenAI's highest temperature
THINKING = 1024                  # tokens for a model that thinks before it answers


class Lab:
    """url, model: whom to ask. outcomes: field -> outcome of the experiments so far."""

    def __init__(self, url: str, model: str, timeout: float = 120.0):
        self.url, self.model, self.timeout = url, model, timeout
        self.outcomes: dict[str, str] = {}
        self.limit: str | None = "max_tokens"       # the field that bounds an answer
        self.send_model = True
        self.thinks = False
        self.sent: list[dict] = []                  # bodies, in the order in which they were sent
        self._known: dict = {}

    def ask(self, question: str = QUESTION, tokens: int = TOKENS, **fields) -> Reply:
        """One answer, whatever its status."""
        body = {"model": self.model} if self.send_model else {}
        body["messages"] = [{"role": "user", "content": question}]
        if self.limit and not fields.keys() & {"max_tokens", "max_completion_tokens"}:
            body[self.limit] = tokens
        self.sent.append(body | fields)
        try:
            reply = wire.post(self.url, self.sent[-1], self.timeout)
        except wire.Silent as e:
            if not wire.alive(self.url):
                raise
            raise Undecided(f"the engine closed the connection without an answer ({e})") from None
        self.thinks = self.thinks or bool(reply.reasoning())
        return reply

    def good(self, *args, **fields) -> Reply:
        """An answer with status 200. Raises Rejected or Undecided."""
        reply = self.ask(*args, **fields)
        if reply.status == 200 and reply.choices:
            return reply
        if reply.status in (400, 404, 405, 413, 415, 422, 501):
            raise Rejected(reply.status, reply.error)
        raise Undecided(f"the engine failed: {reply.error or 'an answer without choices'}", reply.status)

    def prepare(self) -> None:
        """Send the plainest request and settle how an answer is kept short. Raises WorkFailed."""
        first = self.ask(SHORT, 4)
        if first.status in (401, 403):
            raise WorkFailed(f"the engine at {self.url} asks for a key: export GB10_API_KEY with the one that it was started with.")
        for change in ({}, {"limit": "max_completion_tokens"}, {"limit": None}, {"send_model": False}):
            self.__dict__.update(change)
            reply = self.ask(SHORT, 4)
            if reply.status == 200 and reply.choices:
                return
            self.limit, self.send_model = "max_tokens", True
        raise WorkFailed(f"the engine at {self.url} does not even answer the plainest request ({first.status or 'no answer'}: "
                         f"{first.error or 'no choices in it'}): is {self.model} the name of its model?")

    # ------------------------------------------------------------ what experiments compare with

    def need(self, *fields: str) -> None:
        """Raises Undecided if a field that an experiment rests on is not honoured."""
        for f in fields:
            if (outcome := self.outcomes.get(f)) != HONOURED:
                raise Undecided(f"the experiment needs {f}, which is {outcome or 'not tried'} here")

    def calm(self) -> dict:
        """Fields that make an answer repeatable, as far as this engine goes."""
        return {"temperature": 0} if self.outcomes.get("temperature", IGNORED) == HONOURED else {}

    def greedy(self, question: str = QUESTION, tokens: int = TOKENS) -> Reply:
        """The answer at temperature 0, asked for once."""
        key = ("greedy", question, tokens)
        if key not in self._known:
            self._known[key] = self.good(question, tokens, **self.calm())
        return self._known[key]

    def repeatable(self, question: str, tokens: int) -> Reply:
        """The greedy answer, once it is known that it comes again. Raises Undecided."""
        plain = self.greedy(question, tokens)
        if ("again", question) not in self._known:
            self._known["again", question] = self.good(question, tokens, **self.calm())
        if self._known["again", question].text() != plain.text():
            raise Undecided("without it, too, two answers to the same question differ")
        return plain

    def ended(self) -> tuple[str, Reply]:
        """A question whose greedy answer ends by itself, and that answer. Raises Undecided if none does."""
        if "ended" not in self._known:
            self._known["ended"] = None
            for question in (SHORT, OTHERS[0], QUESTION):
                reply = self.greedy(question, THINKING if self.thinks else 96)
                if reply.finish == "stop" and (reply.count("completion_tokens") or 0) > 0:
                    self._known["ended"] = (question, reply)
                    break
        if self._known["ended"] is None:
            raise Undecided("no answer ended by itself (or the engine doesn't count tokens), so that there is no end to go past")
        return self._known["ended"]

    def room(self, tokens: int) -> int:
        """Tokens to allow where the content counts and thinking comes before it."""
        return tokens + THINKING if self.thinks else tokens


def same(a: str, b: str) -> bool:
    """Are two texts the same answer? Equal, or equal for the longer part of it: engines that reuse a cached prompt
    compute the last digits differently, and one near tie later on the texts part."""
    if a == b:
        return True
    n = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return n >= 12 and n >= 0.6 * min(len(a), len(b))


def quote(text: str, width: int = 36) -> str:
    text = " ".join(text.split())
    return f"“{text if len(text) <= width else text[: width - 1] + '…'}”"
