"""A small OpenAI-compatible server over transformers, for machines that vLLM has no wheel for.

It serves one request after the other and says everywhere that it is not vLLM: in its banner, in `owned_by`, in a
response header. Started as `python -m gb10.engines.standin --model FOLDER --name NAME --port N --context N`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
import time
import uuid
from contextlib import aclosing

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, StreamingResponse

from gb10.engines.standin_fields import Refused, Request, parse

OWNER = "gb10 stand-in over transformers (not vLLM)"
HEADER = {"X-GB10-Engine": "standin"}


class Text:
    """Generated tokens to text that may be shown: whole characters only, nothing that may yet become a stop string."""

    def __init__(self, tokenizer, stop: tuple[str, ...]):
        self.tokenizer, self.stop = tokenizer, stop
        self.ids: list[int] = []
        self.text, self.shown, self.stopped = "", 0, False

    def add(self, token: int) -> str:
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        start = max(0, self.shown - max(map(len, self.stop), default=0))
        found = [i for s in self.stop if (i := text.find(s, start)) >= 0]
        if found:
            self.stopped, text = True, text[: min(found)]
        self.text = text
        return "" if self.stopped else self._show(self._safe(text))

    def _safe(self, text: str) -> int:
        end = len(text.rstrip("\ufffd"))
        for s in self.stop:
            for n in range(min(len(s) - 1, end), 0, -1):
                if text[:end].endswith(s[:n]):
                    end = min(end, len(text[:end]) - n)
                    break
        return end

    def _show(self, end: int) -> str:
        new = self.text[self.shown : end]
        self.shown = max(self.shown, end)
        return new

    def rest(self) -> str:
        """What was held back, at the end."""
        return self._show(len(self.text))


def build(model, name: str):
    """The FastAPI application. `model` has .encode(request), .generate(ids, request), .tokenizer."""
    app = FastAPI(title="gb10 stand-in", docs_url=None, redoc_url=None, openapi_url=None)
    one_at_a_time = asyncio.Lock()
    started = int(time.time())

    @app.middleware("http")
    async def say_who(request, call_next):
        response = await call_next(request)
        response.headers.update(HEADER)
        return response

    @app.exception_handler(Refused)
    async def refused(_, e: Refused):
        kind = "NotFoundError" if e.status == 404 else "BadRequestError"
        return JSONResponse({"error": {"message": e.message, "type": kind, "param": e.param, "code": e.status}}, e.status)

    @app.get("/health")
    async def health():
        return JSONResponse({})

    @app.get("/v1/models")
    async def models():
        return {"object": "list", "data": [{"id": name, "object": "model", "created": started, "owned_by": OWNER,
                                            "max_model_len": model.context}]}

    @app.post("/v1/chat/completions")
    async def chat(request: HttpRequest):
        return await answer(request, True)

    @app.post("/v1/completions")
    async def completions(request: HttpRequest):
        return await answer(request, False)

    async def answer(http: HttpRequest, is_chat: bool):
        try:
            body = await http.json()
        except ValueError:
            raise Refused("the body is not JSON") from None
        r = parse(body, name, is_chat)
        ids = model.encode(r)
        shape = Shape(name, is_chat, model.tokenizer, len(ids))
        if r.stream:
            return StreamingResponse(stream(r, ids, shape), media_type="text/event-stream")
        text, steps, reason = "", [], "length"
        async with aclosing(run(r, ids, http)) as parts:
            async for new, step, reason in parts:
                text += new
                if step:
                    steps.append(step)
        return JSONResponse(shape.whole(text, steps if r.logprobs is not None else None, reason, len(steps)))

    async def stream(r: Request, ids, shape):
        count, reason = 0, "length"
        if shape.chat:
            yield shape.event({"role": "assistant", "content": ""}, None, None)
        async with aclosing(run(r, ids, None)) as parts:
            async for new, step, reason in parts:
                count += step is not None
                if new or (step and r.logprobs is not None):
                    yield shape.event(new, [step] if step and r.logprobs is not None else None, None)
        yield shape.event("", None, reason)
        if r.include_usage:
            yield shape.usage_event(count)
        yield "data: [DONE]\n\n"

    async def run(r: Request, ids, http):
        """(text that may be shown, step or None, finish reason so far), tokens made in a thread of their own."""
        async with one_at_a_time:
            loop, queue, cancelled = asyncio.get_running_loop(), asyncio.Queue(), threading.Event()

            def work():
                try:
                    for step in model.generate(ids, r):
                        loop.call_soon_threadsafe(queue.put_nowait, step)
                        if cancelled.is_set():
                            return
                    loop.call_soon_threadsafe(queue.put_nowait, None)
                except Exception as e:  # noqa: BLE001 - handed to whoever waits for the tokens
                    loop.call_soon_threadsafe(queue.put_nowait, e)

            thread = asyncio.create_task(asyncio.to_thread(work))
            text, count = Text(model.tokenizer, r.stop), 0
            budget = min(r.max_tokens or model.context, model.context - len(ids))
            try:
                while (item := await queue.get()) is not None:
                    if isinstance(item, Exception):
                        raise item
                    count += 1
                    new = text.add(item.token)
                    yield new, item, "stop" if text.stopped else "length"
                    if text.stopped or (http is not None and count % 16 == 0 and await http.is_disconnected()):
                        break
                yield text.rest(), None, "stop" if text.stopped or count < budget else "length"
            finally:
                cancelled.set()
                await thread

    return app


class Shape:
    """Answers in OpenAI's shapes."""

    def __init__(self, model: str, chat: bool, tokenizer, prompt_tokens: int):
        self.chat, self.tokenizer, self.prompt_tokens = chat, tokenizer, prompt_tokens
        self.head = {"id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}", "created": int(time.time()),
                     "model": model}

    def usage(self, n: int) -> dict:
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": n, "total_tokens": self.prompt_tokens + n}

    def whole(self, text: str, steps, reason: str, n: int) -> dict:
        choice = {"index": 0, "finish_reason": reason, "logprobs": self.logprobs(steps)}
        choice |= {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        kind = "chat.completion" if self.chat else "text_completion"
        return self.head | {"object": kind, "choices": [choice], "usage": self.usage(n)}

    def event(self, new, steps, reason) -> str:
        choice = {"index": 0, "finish_reason": reason, "logprobs": self.logprobs(steps)}
        if self.chat:
            choice["delta"] = new if isinstance(new, dict) else {"content": new}
        else:
            choice["text"] = new
        return self._data({"choices": [choice]})

    def usage_event(self, n: int) -> str:
        return self._data({"choices": [], "usage": self.usage(n)})

    def _data(self, rest: dict) -> str:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return "data: " + json.dumps(self.head | {"object": kind} | rest) + "\n\n"

    def logprobs(self, steps) -> dict | None:
        if not steps:
            return None
        if self.chat:
            return {"content": [self._token(s.token, s.logprob) | {"top_logprobs": [self._token(*a) for a in s.alternatives]}
                                for s in steps]}
        words = [self.tokenizer.decode([s.token]) for s in steps]
        offsets = [sum(map(len, words[:i])) for i in range(len(words))]
        # The chosen token is always among them, as in vLLM.
        tops = [{self.tokenizer.decode([t]): p for t, p in [*s.alternatives, (s.token, s.logprob)]} for s in steps]
        return {"tokens": words, "token_logprobs": [s.logprob for s in steps], "top_logprobs": tops, "text_offset": offsets}

    def _token(self, token: int, logprob: float) -> dict:
        word = self.tokenizer.decode([token])
        return {"token": word, "logprob": logprob, "bytes": list(word.encode())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option, kind in (("--model", str), ("--name", str), ("--port", int), ("--context", int)):
        parser.add_argument(option, type=kind, required=True)
    args = parser.parse_args()
    import uvicorn

    from gb10.engines.owner import end_with_owner
    from gb10.engines.standin_model import Model

    end_with_owner()
    print(f"gb10 stand-in: {args.name} with transformers on http://127.0.0.1:{args.port} (this is not vLLM: one request at "
          f"a time, fewer fields)", flush=True)
    model = Model(args.model, args.context)
    print("model loaded", flush=True)
    uvicorn.run(build(model, args.name), host="127.0.0.1", port=args.port, log_level="info")


if __name__ == "__main__":
    main()
