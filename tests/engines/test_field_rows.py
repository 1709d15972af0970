"""Each row of the field table keeps the request that decided it, and its curl command is made from that and nothing else."""

import json
import shlex
import subprocess

import pytest
from scripted_engine import Scripted, fields_of

from gb10.engines import fields
from gb10.engines.fields import shape


def table(engine, *only):
    return fields.table(engine.url, engine.model, only=only or None, quiet=True, timeout=20)


@pytest.fixture(scope="module")
def asked():
    """The whole table of a good engine, and the bodies that reached it."""
    with Scripted() as engine:
        yield table(engine), list(engine.bodies), engine.url


def test_each_row_has_a_body_that_was_really_sent_and_has_its_field(asked):
    rows, bodies, _ = asked
    for row in rows:
        assert row.request in bodies, row.field
        assert row.field in fields_of(row.request), row.field


def test_the_deciding_body_is_the_one_that_shows_the_effect(asked):
    rows, _, _ = asked
    assert rows["temperature"].request["temperature"] == 2.0
    assert rows["top_k"].request["top_k"] == 1 and rows["n"].request["n"] == 2
    assert rows["stream_options.include_usage"].request["stream_options"] == {"include_usage": True}
    assert rows["response_format json_schema"].request["response_format"]["json_schema"]["schema"] == shape.SCHEMA
    assert rows["response_format json_object"].request["response_format"] == {"type": "json_object"}
    assert shape.STRANGER in rows["(unknown field)"].request


def test_the_curl_command_holds_the_same_dictionary(asked):
    rows, _, url = asked
    for row in rows:
        words = shlex.split(row.curl(url))
        assert json.loads(words[words.index("-d") + 1]) == row.request
        assert f"{url}/chat/completions" in words


def test_the_curl_command_gets_the_answer_that_the_row_speaks_of():
    with Scripted() as engine:
        rows = table(engine, "n", "response_format json_schema")
        said = {r.field: json.loads(subprocess.run(["bash", "-c", r.curl(engine.url)], check=True, capture_output=True, text=True).stdout) for r in rows}
    assert len(said["n"]["choices"]) == 2
    assert json.loads(said["response_format json_schema"]["choices"][0]["message"]["content"]) == {"blackwell": True}


def test_a_rejected_field_keeps_the_body_that_was_refused():
    with Scripted(reject={"min_p"}) as engine:
        [row] = table(engine, "min_p")
    assert row.outcome == fields.REJECTED and row.request["min_p"] == 1.0


def test_an_experiment_that_sent_nothing_says_so_in_a_comment():
    with Scripted(ignore={"temperature"}) as engine:
        [row] = table(engine, "top_k")
    assert row.outcome == fields.UNKNOWN and row.request is None
    assert row.curl(engine.url).startswith("# nothing was sent: the experiment needs temperature")


def test_a_row_stays_what_it_was_when_compared_and_shown(asked):
    row = asked[0]["n"]
    assert row == fields.Row(row.field, row.sent, row.outcome, row.evidence, row.status)
    assert "messages" not in repr(row) and "messages" not in str(row)


def test_no_key_is_in_the_command(monkeypatch):
    monkeypatch.setenv("GB10_API_KEY", "s3cret-key")
    with Scripted(key="s3cret-key") as engine:
        [row] = table(engine, "n")
    assert "s3cret" not in row.curl(engine.url) + json.dumps(row.request) and "$GB10_API_KEY" in row.curl(engine.url)
