"""Every experiment of the field table, against an engine of known behaviour: honoured, ignored, rejected."""

import pytest
from scripted_engine import Scripted

from gb10.engines import fields
from gb10.errors import UserError, WorkFailed

NAMES = fields.names()
SILENT = {"quiet": True, "timeout": 20}


def ask(server, *only, **more):
    return fields.table(server.url, server.model, only=only or None, **SILENT | more)


@pytest.mark.parametrize("field", [n for n in NAMES if n != "(unknown field)"])
def test_a_field_that_is_honoured(field):
    with Scripted() as engine:
        [row] = ask(engine, field)
    assert (row.field, row.outcome, row.status in (200, 404)) == (field, fields.HONOURED, True), row


@pytest.mark.parametrize("field", NAMES)
def test_a_field_that_is_ignored(field):
    # Without a model that thinks, a template without the switch can't be told from an engine that ignores it.
    with Scripted(ignore={field}, thinks=field == "chat_template_kwargs") as engine:
        [row] = ask(engine, field)
    assert (row.outcome, row.status) == (fields.IGNORED, 200), row
    assert len(row.evidence) > 20


@pytest.mark.parametrize("field", [n for n in NAMES if n != "messages"])
def test_a_field_that_is_rejected(field):
    with Scripted(reject={field}) as engine:
        [row] = ask(engine, field)
    assert (row.outcome, row.status) == (fields.REJECTED, 400), row
    assert field == "model" or "is not allowed" in row.evidence


def test_a_usage_that_comes_whatever_is_asked_is_no_answer_to_the_field():
    with Scripted(usage_always=True) as engine:
        [row] = ask(engine, "stream_options.include_usage")
    assert row.outcome == fields.IGNORED and "asked for or not" in row.evidence


def test_a_template_without_the_switch_leaves_it_open():
    with Scripted(ignore={"chat_template_kwargs"}) as engine:
        [row] = ask(engine, "chat_template_kwargs")
    assert row.outcome == fields.UNKNOWN and "template" in row.evidence


def test_without_messages_there_is_no_table():
    with Scripted(reject={"messages"}) as engine, pytest.raises(WorkFailed, match="plainest request.*'messages' is not allowed"):
        ask(engine)


def test_the_whole_table_of_a_good_engine_and_of_one_that_ignores_half():
    with Scripted() as engine:
        table = ask(engine, engine="Toy")
        asked = len(engine.bodies)
    assert [r.field for r in table] == NAMES
    assert {r.field for r in table if r.outcome != fields.HONOURED} == {"(unknown field)"}
    assert asked < 90 and all(b.get("max_tokens", 0) <= 96 for b in engine.bodies)
    ignored = set(NAMES[::2]) - {"model", "messages", "temperature", "stream", "logprobs", "max_tokens"}
    with Scripted(ignore=ignored) as engine:
        table = ask(engine)
    assert {r.field for r in table if r.outcome == fields.IGNORED} == ignored | {"(unknown field)"}
    assert table["top_p"].field == "top_p" and f"{len(ignored | {'(unknown field)'})} ignored" in table.summary()


@pytest.mark.parametrize("how", ["ignore", "reject"])
def test_what_rests_on_a_field_that_does_not_work_is_left_open(how):
    with Scripted(**{how: {"temperature", "logprobs", "stream"}}) as engine:
        table = ask(engine, "top_k", "seed", "top_logprobs", "stream_options.include_usage", "n")
    assert {r.outcome for r in table if r.field != "n"} == {fields.UNKNOWN}
    assert "needs temperature" in table["top_k"].evidence and "needs logprobs" in table["top_logprobs"].evidence
    assert table["n"].outcome == fields.HONOURED


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_an_engine_with_one_of_the_two_limits(limit):
    other = ({"max_tokens", "max_completion_tokens"} - {limit}).pop()
    with Scripted(reject={other}) as engine:
        table = ask(engine, limit, other, "ignore_eos", "top_k")
    assert [r.outcome for r in table if r.field != other] == [fields.HONOURED] * 3
    assert table[other].outcome == fields.REJECTED


def test_an_engine_that_fails_at_a_field_is_said_to_fail_and_the_table_goes_on():
    with Scripted(faults={"response_format json_schema": "fail", "min_p": "drop", "n": "slow"}) as engine:
        table = ask(engine, "response_format json_schema", "min_p", "n", "top_k", timeout=0.6)
    assert [r.field for r in table] == ["top_k", "min_p", "n", "response_format json_schema"]
    assert [r.outcome for r in table] == [fields.HONOURED, fields.UNKNOWN, fields.UNKNOWN, fields.UNKNOWN]
    assert "illegal memory access" in table["response_format json_schema"].evidence
    assert table["response_format json_schema"].status == 500
    assert "closed the connection" in table["min_p"].evidence and "no answer within" in table["n"].evidence


def test_an_engine_that_dies_ends_the_table_with_one_sentence():
    with Scripted(faults={"min_p": "die"}) as engine, pytest.raises(WorkFailed, match=r"stopped answering at min_p .* after \d+ of 29 rows") as e:
        ask(engine)
    assert "\n" not in e.value.message


def test_nobody_there():
    with pytest.raises(WorkFailed, match="nothing answers at"):
        fields.table("http://127.0.0.1:9/v1", "m", **SILENT)


def test_a_key_is_sent_and_shown_nowhere(monkeypatch):
    with Scripted(key="s3cret-key") as engine:
        with pytest.raises(WorkFailed, match="export GB10_API_KEY"):
            ask(engine, "n")
        monkeypatch.setenv("GB10_API_KEY", "s3cret-key")
        table = ask(engine, "n")
    assert table["n"].outcome == fields.HONOURED
    assert "s3cret" not in repr(table) + table._repr_html_()


def test_a_model_that_thinks_up_its_tokens_is_not_called_an_engine_that_ignores():
    with Scripted(thinks=True, ignore={"guided_choice"}) as engine:
        table = ask(engine, "top_k", "structured_outputs", "response_format json_schema", "guided_choice")
    assert table["top_k"].outcome == fields.HONOURED                # reasoning is text, too
    assert {table[f].outcome for f in ("structured_outputs", "response_format json_schema")} <= {fields.HONOURED, fields.UNKNOWN}
    assert table["guided_choice"].outcome in (fields.IGNORED, fields.UNKNOWN)


def test_an_engine_that_does_not_count_leaves_counts_open():
    with Scripted(counts=False) as engine:
        table = ask(engine, "max_tokens", "top_k")
    assert table["max_tokens"].outcome == fields.UNKNOWN and "count" in table["max_tokens"].evidence


def test_an_unknown_name_is_refused_before_anything_is_asked():
    with Scripted() as engine:
        with pytest.raises(UserError, match="no experiment for topk"):
            ask(engine, "topk")
        assert not engine.bodies


def test_the_table_can_be_read_in_a_notebook_and_escapes_what_engines_say():
    table = fields.Table([fields.Row("stop", "a <b>", fields.REJECTED, "refused: <script>alert(1)</script>", 400)], url="u", model="m")
    html = table._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html and "✕ rejected" in html
    assert "color:" in html and "background:#" not in html         # the theme's own colours
    with pytest.raises(KeyError):
        table["nobody"]


# ------------------------------------------------------------------------------------------- documents

ENGINES = {"vLLM": "vllm", "vLLM on the CPU": "vllm", "TensorRT-LLM": "trtllm", "trtllm": "trtllm", "SGLang": "sglang", "Ollama": "ollama",
           "llama.cpp": "llamacpp", "the stand-in over transformers (not vLLM)": "standin", "standin": "standin",
           "an OpenAI-compatible server": None, "": None}


@pytest.mark.parametrize(("title", "key"), ENGINES.items())
def test_engines_are_known_by_their_titles(title, key):
    assert fields.engine_key(title) == key
    assert bool(fields.expected(title)) == (key is not None)


@pytest.mark.parametrize("key", sorted(k for k in set(ENGINES.values()) if k))
def test_documents_are_about_fields_that_have_experiments_and_name_public_sources(key):
    documents = fields.expected(key)
    assert set(documents) <= set(NAMES)
    for d in documents.values():
        assert d.outcome in (fields.HONOURED, fields.IGNORED, fields.REJECTED, "depends")
        assert d.source.startswith("https://") or key == "standin"
        assert d.note


def test_no_field_is_documented_twice():
    import tomllib

    from gb10.engines.fields.documents import FILE

    for block in tomllib.loads(FILE.read_text()).values():
        names = [f for row in block["rows"] for f in row["fields"]]
        assert len(names) == len(set(names))


def test_compare_finds_the_fields_that_differ_and_only_those():
    told = fields.expected("vLLM")
    rows = [fields.Row(f, "", d.outcome, "seen", 200) for f, d in told.items()]
    same = fields.compare(rows, told)
    assert not same and same.compared == len(told) and "none differ" in same.summary()
    at = next(i for i, r in enumerate(rows) if r.field == "top_k")
    rows[at] = fields.Row("top_k", "", fields.IGNORED, "the text wanders", 200)
    rows[0] = fields.Row(rows[0].field, "", fields.UNKNOWN, "no answer", 0)
    found = fields.compare([*rows, fields.Row("brand_new", "", fields.HONOURED, "x", 200)], told)
    assert [(d.field, d.documents, d.behaviour) for d in found] == [("top_k", "honoured", "ignored")]
    assert found.compared == len(told) - 1 and set(found.left_out) == {rows[0].field, "brand_new"}
    assert "top_k" in found._repr_html_() and "https://" in found._repr_html_()


def test_what_depends_is_not_compared():
    told = fields.expected("TensorRT-LLM")
    found = fields.compare([fields.Row("response_format json_schema", "", fields.IGNORED, "prose", 200)], told)
    assert not found and not found.compared and "guided_decoding_backend" in found.left_out["response_format json_schema"]


def test_an_engine_that_nobody_has_read_about_compares_with_nothing():
    found = fields.compare([fields.Row("n", "", fields.HONOURED, "x", 200)], fields.expected("an OpenAI-compatible server"))
    assert not found and "nothing to compare" in found.summary()


def test_the_stand_in_does_what_its_documents_say(standin):
    table = fields.table(standin.url, standin.model, engine="standin", quiet=True)
    found = fields.compare(table, fields.expected("standin"))
    assert not found, found
    assert found.compared == len(NAMES)
