"""An engine by script: an OpenAI-shaped server with a toy language model, that honours, ignores or rejects any field it is
told to, and fails in the ways in which engines fail. Its behaviour is known, so that what asks it can be judged.

    with Scripted(ignore={"top_k"}, reject={"n"}, faults={"min_p": "die"}) as engine:
        engine.url, engine.model

Fields are named as gb10.engines.fields names them ("response_format json_schema", "(unknown field)", …).
counting: prompts are counted, a token for each word and four for each message; otherwise every prompt has nine.
faults: field -> "die" (the server goes away), "drop" (this connection closes), "fail" (500), "slow" (half a second too late).
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import random
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gb10.check.lesson05.schema_engines import fill

VOCABULARY, EOS = 320, 0
KNOWN = {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "stream", "seed", "stop",
         "stop_token_ids", "logprobs", "top_logprobs", "n", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias",
         "ignore_eos", "min_tokens", "structured_outputs", "guided_choice", "chat_template_kwargs", "tools", "tool_choice"}


def word(token: int) -> str:
    a, b = divmod(token, 20)
    return " " + "bcdfghjklmnprstvwxyz"[a] + "aeiou"[b % 5] + "bdgklmnprs"[b % 10] + "aeiou"[b // 5] + "tnsr"[token % 4]


@functools.cache
def logits(question: str, last: int, position: int) -> tuple[float, ...]:
    draw = random.Random(f"{question}|{last}|{position % 5}")
    row = [-6 + draw.random() for _ in range(VOCABULARY)]
    for _ in range(8):
        row[draw.randrange(1, VOCABULARY)] = draw.gauss(4, 1.5)
    row[EOS] = -50.0 if position < (9 if question == "Hello" else 60) else 20.0
    return tuple(row)


def fields_of(body: dict) -> dict[str, str]:
    """Row name -> key of the request, of all that a request has."""
    out = {}
    for key, value in body.items():
        if key == "response_format":
            out[f"response_format {value['type']}"] = key
        elif key == "stream_options":
            out["stream_options.include_usage"] = key
        else:
            out[key if key in KNOWN else "(unknown field)"] = key
    return out


class Scripted:
    def __init__(self, *, ignore=(), reject=(), faults=None, model="toy", owner="tests", key=None, thinks=False, stream_end="whole",
                 empty=False, counts=True, usage_always=False, counting=False):
        self.ignore, self.reject, self.faults = set(ignore), set(reject), dict(faults or {})
        self.model, self.owner, self.key, self.thinks, self.stream_end, self.empty = model, owner, key, thinks, stream_end, empty
        self.counts, self.usage_always, self.counting = counts, usage_always, counting
        self.bodies, self.keys = [], []
        self._noise = random.Random(5)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def send(self, status, data):
                raw = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def refuse(self, status, message):
                self.send(status, {"error": {"message": message, "type": "BadRequestError", "code": status}})

            def allowed(self):
                outer.keys.append(self.headers.get("Authorization"))
                if outer.key and self.headers.get("Authorization") != f"Bearer {outer.key}":
                    self.refuse(401, "no key, no answer")
                    return False
                return True

            def do_GET(self):
                if self.allowed():
                    self.send(200, {"data": [{"id": outer.model, "owned_by": outer.owner}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.allowed():
                    outer.bodies.append(body)
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        outer.answer(self, body)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    # ------------------------------------------------------------------ one request

    def answer(self, http, body: dict) -> None:
        found = fields_of(body)
        for name in found:
            fault = self.faults.get(name)
            if fault in ("die", "drop"):
                if fault == "die":
                    self.server.socket.close()
                    threading.Thread(target=self.server.shutdown).start()
                http.close_connection = True
                http.connection.shutdown(socket.SHUT_RDWR)
                return None
            if fault == "fail":
                return http.refuse(500, "CUDA error: an illegal memory access was encountered")
            if fault == "slow":
                time.sleep(1.0)
            if name in self.reject:
                return http.refuse(400, f"field '{found[name]}' is not allowed")
        body = {k: v for k, v in body.items() if k not in {found[n] for n in found if n in self.ignore}}
        if "model" in body and body["model"] != self.model:
            return http.refuse(404, f"The model `{body['model']}` does not exist.")
        choices = [self.choice(body, i) for i in range(body.get("n", 1))]
        base = 9 if not self.counting else sum(4 + len(str(m.get("content")).split()) for m in body.get("messages", []))
        usage = {"prompt_tokens": base + 4 * bool((body.get("chat_template_kwargs") or {}).get("enable_thinking")),
                 "completion_tokens": sum(len(ids) for _, ids, _ in choices)}
        usage["total_tokens"] = sum(usage.values())
        if body.get("stream"):
            asked = (body.get("stream_options") or {}).get("include_usage")
            return self.stream(http, choices[0], usage if self.counts and (asked or self.usage_always) else None)
        return http.send(200, {"choices": [c for c, _, _ in choices]} | ({"usage": usage} if self.counts else {}))

    def choice(self, body: dict, index: int):
        question = "constant" if "messages" not in body else body["messages"][-1]["content"]
        ids, rows, finish = self.generate(body, question, index)
        text = "".join(map(word, ids)).strip()
        for s in [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop") or []:
            if s in text:
                text, finish = text[: text.index(s)], "stop"
        message = {"role": "assistant", "content": text}
        kind = (body.get("response_format") or {}).get("type")
        options = (body.get("structured_outputs") or {}).get("choice") or body.get("guided_choice")
        if kind == "json_schema":
            wanted = body["response_format"].get("json_schema", {}).get("schema")
            message["content"], finish = json.dumps(fill(wanted, random.Random(5))), "stop"
        elif kind == "json_object":
            message["content"] = '{"a": "' + text
        elif options:
            message["content"], finish = options[0], "stop"
        elif body.get("tools"):
            call = {"id": "1", "type": "function", "function": {"name": body["tools"][0]["function"]["name"], "arguments": "{}"}}
            message, finish = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
        if self.thinks:
            message["reasoning"] = "Let me think. " + text
            if len(ids) < 40:
                message["content"], finish = None, "length"
        if self.empty:
            message, finish = {"role": "assistant", "content": None}, "length"
        out = {"index": index, "message": message, "finish_reason": finish}
        if body.get("logprobs"):
            out["logprobs"] = {"content": [{"token": word(t), "logprob": p, "top_logprobs": top[: body.get("top_logprobs") or 0]}
                                           for t, p, top in rows]}
        return out, ids, text

    def generate(self, body: dict, question: str, index: int):
        temperature = body.get("temperature", 1.0)
        draw = random.Random(body["seed"] + index) if body.get("seed") is not None else self._noise
        limit = min((body[k] for k in ("max_tokens", "max_completion_tokens") if k in body), default=200)
        ids, rows, finish = [], [], "length"
        while len(ids) < limit:
            row = list(logits(question, ids[-1] if ids else 0, len(ids)))
            if body.get("ignore_eos") or len(ids) < body.get("min_tokens", 0):
                row[EOS] = -50.0
            for t in set(ids):
                row[t] -= body.get("presence_penalty", 0) + body.get("frequency_penalty", 0) * ids.count(t)
                r = body.get("repetition_penalty", 1.0)
                row[t] = row[t] / r if row[t] > 0 else row[t] * r
            for t, bias in (body.get("logit_bias") or {}).items():
                row[int(t)] += bias
            best = max(row)
            token = row.index(best) if temperature == 0 else self.sample(row, temperature, body, draw)
            total = math.log(sum(math.exp(v - best) for v in row)) + best
            order = sorted(range(VOCABULARY), key=row.__getitem__, reverse=True)[:5]
            if token == EOS or token in (body.get("stop_token_ids") or ()):
                finish = "stop"
                break
            ids.append(token)
            rows.append((token, row[token] - total, [{"token": word(t), "logprob": row[t] - total} for t in order]))
        return ids, rows, finish

    def sample(self, row, temperature, body, draw):
        best = max(row)
        weights = sorted(((math.exp((v - best) / temperature), t) for t, v in enumerate(row)), reverse=True)
        if body.get("top_k", 0) > 0:
            weights = weights[: body["top_k"]]
        weights = [(w, t) for w, t in weights if w >= body.get("min_p", 0) * weights[0][0]]
        total, kept, mass = sum(w for w, _ in weights), [], 0.0
        for w, t in weights:
            kept.append((w, t))
            mass += w / total
            if mass >= body.get("top_p", 1.0):
                break
        return draw.choices([t for _, t in kept], [w for w, _ in kept])[0]

    # ------------------------------------------------------------------ streams

    def stream(self, http, choice, usage) -> None:
        http.send_response(200)
        http.send_header("Content-Type", "text/event-stream")
        http.send_header("Transfer-Encoding", "chunked")
        http.end_headers()

        def put(data):
            raw = f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()
            http.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
            http.wfile.flush()

        def event(delta, finish=None, rows=None):
            put({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": self.model,
                 "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": rows}]})

        whole, ids, _ = choice
        message = whole["message"]
        rows = (whole.get("logprobs") or {}).get("content")
        event({"role": "assistant", "content": ""})
        if message.get("reasoning"):
            event({"reasoning_content": message["reasoning"]})
        if message.get("content"):
            for number, token in enumerate(ids):
                if number == 3 and self.stream_end == "error":
                    put({"error": {"message": "the engine core has died", "type": "InternalServerError", "code": 500}})
                    http.wfile.write(b"0\r\n\r\n")
                    return
                if number == 3 and self.stream_end == "cut":
                    http.close_connection = True
                    http.connection.shutdown(socket.SHUT_RDWR)
                    return
                event({"content": word(token)}, rows={"content": [rows[number]]} if rows else None)
        if self.stream_end != "no finish":
            event({}, whole["finish_reason"])
            if usage:
                put({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": self.model, "choices": [], "usage": usage})
            put("[DONE]")
        http.wfile.write(b"0\r\n\r\n")
