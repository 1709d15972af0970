"""Experiments on the form of the answer: JSON, choices, tools, the chat template, and a field that nobody knows."""

from __future__ import annotations

import json

from gb10.engines.fields.lab import Lab, quote, same
from gb10.engines.fields.rows import HONOURED, IGNORED, Undecided

SCHEMA = {"type": "object", "properties": {"blackwell": {"type": "boolean"}}, "required": ["blackwell"],
          "additionalProperties": False}
COLOURS = ["teal", "maroon"]
TOOL = {"type": "function", "function": {"name": "note_it", "description": "Write a note.", "parameters": SCHEMA}}
STRANGER = "gb10_no_such_field"


def _plain(lab: Lab) -> str:
    """The answer without any form; it must not have the form by chance."""
    return lab.greedy().content().strip()


def _content(reply) -> str:
    content = reply.content().strip()
    if not content and reply.reasoning():
        raise Undecided("the model spent all its tokens on reasoning, nothing was left for the content", reply.status)
    return content


def json_schema(lab: Lab):
    wanted = {"type": "json_schema", "json_schema": {"name": "note", "schema": SCHEMA, "strict": True}}
    reply = lab.good(tokens=lab.room(64), **lab.calm(), response_format=wanted)
    content = _content(reply)
    try:
        data = json.loads(content)
        if isinstance(data, dict) and set(data) == {"blackwell"} and isinstance(data["blackwell"], bool):
            return HONOURED, f"the answer fits the schema: {quote(content)}", reply.status
    except ValueError:
        if "".join(content.split()).startswith('{"blackwell":'):
            return HONOURED, f"the answer begins as the schema says, and was cut off: {quote(content)}", reply.status
    return IGNORED, f"the answer does not fit the schema: {quote(content)}", reply.status


def json_object(lab: Lab):
    if _plain(lab).startswith("{"):
        raise Undecided("without it, too, the answer is an object")
    reply = lab.good(tokens=lab.room(48), **lab.calm(), response_format={"type": "json_object"})
    content = _content(reply)
    try:
        is_object = isinstance(json.loads(content), dict)
    except ValueError:
        is_object = content.startswith("{") and reply.finish == "length"      # cut off
    if is_object:
        return HONOURED, f"the answer is an object: {quote(content)}", reply.status
    return IGNORED, f"the answer is prose: {quote(content)}", reply.status


def _choice(lab: Lab, **field):
    reply = lab.good(tokens=lab.room(16), **lab.calm(), **field)
    content = _content(reply)
    if content in COLOURS:
        return HONOURED, f"the answer is one of the two words: {quote(content)}", reply.status
    return IGNORED, f"the answer is neither of the two words: {quote(content)}", reply.status


def structured_outputs(lab: Lab):
    return _choice(lab, structured_outputs={"choice": COLOURS})


def guided_choice(lab: Lab):
    return _choice(lab, guided_choice=COLOURS)


def tools(lab: Lab):
    """A tool that has to be called is called; or at least the prompt grows by its description."""
    plain = lab.greedy()
    reply = lab.good(tokens=lab.room(64), **lab.calm(), tools=[TOOL],
                     tool_choice={"type": "function", "function": {"name": "note_it"}})
    message = reply.choices[0].get("message") or {}
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        made = calls[0].get("function") or {}
        return HONOURED, f"the answer calls {made.get('name')} with {quote(str(made.get('arguments')))}", reply.status
    before, after = plain.count("prompt_tokens"), reply.count("prompt_tokens")
    if before and after and after > before:
        return HONOURED, f"the prompt grows from {before} to {after} tokens, but the model calls nothing", reply.status
    if "note_it" in reply.text():
        return HONOURED, f"the answer names the tool: {quote(reply.text())}", reply.status
    return IGNORED, f"no call, and the prompt is not longer: {quote(reply.text())}", reply.status


def chat_template_kwargs(lab: Lab):
    """A switch that many templates have; what it changes is the prompt."""
    off, on = (lab.good(tokens=4, **lab.calm(), chat_template_kwargs={"enable_thinking": v}) for v in (False, True))
    a, b = off.count("prompt_tokens"), on.count("prompt_tokens")
    if a is not None and b is not None and a != b:
        return HONOURED, f"enable_thinking makes a prompt of {b} tokens, without it there are {a}", off.status
    if not same(off.text(), on.text()) or bool(off.reasoning()) != bool(on.reasoning()):
        return HONOURED, f"without thinking the answer is {quote(off.text(), 24)}, with it {quote(on.text(), 24)}", off.status
    if lab.thinks:
        return IGNORED, "the model thinks whatever the switch says", off.status
    raise Undecided("the prompt is the same with the switch on and off: this model's template may not have it", off.status)


def stranger(lab: Lab):
    reply = lab.good(tokens=2, **{STRANGER: 1})
    return IGNORED, "a field that does not exist makes no difference", reply.status


ROWS = (
    ("response_format json_schema", "one boolean, nothing else", json_schema),
    ("response_format json_object", '{"type": "json_object"}', json_object),
    ("structured_outputs", f'{{"choice": {json.dumps(COLOURS)}}}', structured_outputs),
    ("guided_choice", json.dumps(COLOURS), guided_choice),
    ("tools", "one tool that must be called", tools),
    ("chat_template_kwargs", "enable_thinking false, true", chat_template_kwargs),
    ("(unknown field)", f'"{STRANGER}": 1', stranger),
)
