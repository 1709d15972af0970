"""Small engines in this process, each with its own way to treat response_format: who asks them well can tell them apart.

An engine is a function body -> (status, answer) in OpenAI's shape. TRUTH says what each does with a json_schema.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

LIMIT = 2000                     # the longest answer that any of them allows, as a small model's context would
THOUGHT = 300                    # tokens that the thinking ones think
# Keys that a model which likes JSON comes up with by itself.
COMMON = {"answer", "name", "text", "response", "result", "value", "title", "city", "country", "capital", "language", "year", "age", "color", "colour",
          "description", "summary", "question", "content", "message", "ok", "yes", "valid", "status", "data", "id", "number", "count", "date", "type",
          "email", "address", "price", "items", "list", "greeting", "hello", "person", "output", "key", "a", "b", "x", "y", "foo", "bar", "test", "json"}


def reply(content: str | None, finish: str = "stop", reasoning: str | None = None) -> tuple[int, dict]:
    message = {"role": "assistant", "content": content} | ({"reasoning": reasoning} if reasoning else {})
    return 200, {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": {"prompt_tokens": 20, "completion_tokens": 9}}


def refuse(status: int, message: str) -> tuple[int, dict]:
    return status, {"error": {"message": message, "type": "BadRequestError", "code": status}}


def schema_of(body: dict) -> dict | None:
    """The schema of a well-formed response_format json_schema; None otherwise."""
    wanted = body.get("response_format")
    block = wanted.get("json_schema") if isinstance(wanted, dict) and wanted.get("type") == "json_schema" else None
    schema = block.get("schema") if isinstance(block, dict) else None
    return schema if isinstance(schema, dict) and isinstance(block.get("name"), str) else None


def fill(schema, draw: random.Random):
    """A value that fits a schema, as a constrained model might write it; knows the usual keywords (no patterns)."""
    if not isinstance(schema, dict):
        return "word"
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return draw.choice(schema["enum"])
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            return fill(schema[several][0], draw)
    kind = schema.get("type") or ("object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object":
        return {key: fill(inner, draw) for key, inner in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [fill(schema.get("items", {}), draw) for _ in range(max(schema.get("minItems", 1), 1))]
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
        return low + draw.randrange(3) if "maximum" not in schema else min(schema["maximum"], low + draw.randrange(3))
    if kind == "boolean":
        return True              # a coin would, too; fixed, so that the engine of the tests says the same each time
    if kind == "null":
        return None
    text = "quiet word " * (1 + schema.get("minLength", 0) // 11)
    return text[: max(schema.get("minLength", 0), min(schema.get("maxLength", 5), 5))].strip().ljust(schema.get("minLength", 0), "x")


def said(body: dict) -> str:
    return " ".join(str(m.get("content")) for m in body.get("messages", []) if isinstance(m, dict))


def limit(body: dict, default: int) -> int:
    n = body.get("max_completion_tokens") or body.get("max_tokens")
    return n if isinstance(n, int) else default


def cut(text: str, tokens: int) -> tuple[int, dict]:
    """The answer as far as its tokens go, three characters each."""
    return reply(text, "stop") if len(text) <= 3 * tokens else reply(text[: 3 * tokens], "length")


PROSE = "Join one or more path segments intelligently. The return value is the concatenation of path and all members of paths. " * 3


def honours(body: dict, draw: random.Random):
    return cut(json.dumps(fill(schema_of(body), draw)), limit(body, LIMIT))


def honours_with_blanks(body: dict, draw: random.Random):
    return cut("\n" + json.dumps(fill(schema_of(body), draw), indent=4) + "\n", limit(body, LIMIT))


def honours_but_short(body: dict, draw: random.Random):
    """Four tokens unless more are asked for."""
    return cut(json.dumps(fill(schema_of(body), draw)), limit(body, 4))


def ignores(body: dict, draw: random.Random):
    return cut(PROSE, limit(body, LIMIT))


def rejects(status: int, words: str):
    def engine(body: dict, draw: random.Random):
        return refuse(status, words) if "response_format" in body else ignores(body, draw)

    return engine


def any_object(body: dict, draw: random.Random):
    """Takes json_schema for json_object."""
    return cut(json.dumps({"answer": "It joins paths.", "example": "a/b"}), limit(body, LIMIT))


def likes_json(body: dict, draw: random.Random):
    """Ignores the field; its model answers in JSON of its own accord, with the keys and values that a text suggests to it."""
    schema, text = schema_of(body) or {}, said(body).lower()
    properties = schema.get("properties") or {}
    mine = {}
    for key, inner in properties.items():
        if key.lower() not in COMMON and key.lower() not in text:
            return any_object(body, draw)
        values = [inner["const"]] if isinstance(inner, dict) and "const" in inner else (inner.get("enum") if isinstance(inner, dict) else None)
        if values:
            known = [v for v in values if isinstance(v, bool | int | float) or v is None or str(v).lower() in text or str(v).lower() in COMMON]
            if not known:
                return any_object(body, draw)
            mine[key] = known[0]
        else:
            mine[key] = fill(inner, draw)
    return cut(json.dumps(mine if properties else {"answer": "It joins paths."}), limit(body, LIMIT))


def right_keys(body: dict, draw: random.Random):
    """The schema stands in the prompt and nothing enforces it: the model has the keys right, and the values as it pleases."""
    properties = (schema_of(body) or {}).get("properties") or {}
    if not properties:
        return any_object(body, draw)
    other = {"string": 7, "integer": "seven", "number": "seven", "boolean": "maybe", "array": "none", "object": "none", "null": "nothing"}
    values = {k: other.get(v.get("type"), "something else") if isinstance(v, dict) else 7 for k, v in properties.items()}
    for k, v in properties.items():
        if isinstance(v, dict) and ("const" in v or "enum" in v):
            values[k] = "something else"
    return cut(json.dumps(values), limit(body, LIMIT))


def wrapped(before: str, after: str):
    """The schema stands in the prompt, the model does as it says, and puts its own words around it."""
    def engine(body: dict, draw: random.Random):
        return cut(before + json.dumps(fill(schema_of(body), draw)) + after, limit(body, LIMIT))

    return engine


def thinking(engine: Callable):
    """Reasoning first: content is null if the limit comes before it ends."""
    def thinks(body: dict, draw: random.Random):
        n = limit(body, LIMIT)
        if n <= THOUGHT:
            return reply(None, "length", PROSE[: 3 * n])
        status, answer = engine({k: v for k, v in body.items() if k != "max_completion_tokens"} | {"max_tokens": n - THOUGHT}, draw)
        if status == 200:
            answer["choices"][0]["message"]["reasoning"] = PROSE
        return status, answer

    return thinks


# name: (what it does with a json_schema, engine)
TRUTH: dict[str, tuple[str, Callable]] = {
    "honours it": ("honoured", honours),
    "ignores it": ("ignored", ignores),
    "refuses it with 400": ("rejected", rejects(400, "response_format is not supported")),
    "refuses it with 422": ("rejected", rejects(422, "extra fields not permitted: response_format")),
    "honours it, with blanks and line ends": ("honoured", honours_with_blanks),
    "honours json_object only": ("ignored", any_object),
    "ignores it, and its model likes JSON": ("ignored", likes_json),
    "has the keys right and the values not": ("ignored", right_keys),
    "puts prose around the JSON": ("ignored", wrapped("Here is the JSON:\n", "\nI hope that helps.")),
    "puts a Markdown fence around the JSON": ("ignored", wrapped("```json\n", "\n```")),
    "honours it, and gives four tokens unless you ask for more": ("honoured", honours_but_short),
    "thinks, then honours it": ("honoured", thinking(honours)),
    "thinks, then ignores it": ("ignored", thinking(ignores)),
}


def serve(name: str, seed: int = 0) -> Callable[[dict], tuple[int, dict]]:
    """The engine of that name, with what all of them refuse: no messages, and a limit beyond their context."""
    (truth, engine), draw = TRUTH[name], random.Random(seed)

    def answer(body: dict) -> tuple[int, dict]:
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) and m.get("role") and "content" in m for m in messages):
            return refuse(400, "messages has to be a list of messages, each with a role and a content")
        if limit(body, 1) > LIMIT:
            return refuse(400, f"max_tokens is too large: this model has a context of {LIMIT} tokens")
        wanted, schema = body.get("response_format"), schema_of(body)
        kind = wanted.get("type") if isinstance(wanted, dict) else None
        if truth == "rejected" or schema is not None:
            return engine(body, draw)
        if truth == "honoured" and wanted is not None and kind not in ("text", "json_object"):
            return refuse(400, "response_format is malformed: json_schema needs a name and a schema")
        return any_object(body, draw) if kind == "json_object" or engine is likes_json else ignores(body, draw)

    return answer
