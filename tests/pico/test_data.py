"""The data: reStructuredText becomes plain text, documents are held out by name alone, answers come from text."""
import random
import re

import pytest

from appendix.pico import questions, rst, sources
from appendix.pico.rst import Entry

RST = """\
:mod:`boxes` --- Pack things
============================

.. module:: boxes
   :synopsis: Pack.

.. index:: single: secret

This is *plain* **text** with ``code``, :func:`pack`, :class:`~boxes.Box`,
:pep:`8`, :term:`a word <word>` and a `link <https://example.org>`_.

.. a comment that
   nobody reads

.. function:: pack(items, \\
                   size=4)

   Pack the items.  Return a list::

      pack([1,  2])

   .. versionadded:: 3.2

* one
  item
* two

.. class:: Box(name)

   A box.

   .. method:: seal()

      Close the box for good.
"""


def test_markup_becomes_plain_text():
    text, entries = rst.clean(RST, "library/boxes")
    assert "This is plain text with `code`, `pack()`, `Box`, PEP 8, a word and a link." in text
    assert "boxes.pack(items, size=4)\n\n   Pack the items. Return a list:\n\n      pack([1,  2])\n" in text
    assert "New in version 3.2." in text and "- one" not in text and "* one item" in text
    assert not [bad for bad in ("::", "secret", "nobody", ":func:", "====") if bad in text]
    assert {e.name: e.text for e in entries} == {
        "boxes.pack": "Pack the items. Return a list:", "boxes.Box": "A box.",
        "boxes.Box.seal": "Close the box for good."}


def test_references_show_the_title_they_point_to():
    docs = {"a": ".. _deep:\n\nDeep water\n==========\n\nText.\n", "b": "See :ref:`deep` and :ref:`gone`."}
    assert rst.resolve(docs)["b"] == "See Deep water and gone."


def test_held_out_depends_on_the_name_alone():
    names = [f"library/module{i}" for i in range(4000)]
    share = sum(map(sources.held_out, names)) / len(names)
    assert 0.035 < share < 0.065
    assert not sources.held_out("library/functions")
    assert sources.held_out("library/heapq") and not sources.held_out("library/textwrap")      # the split that was shipped


def test_source_of_held_out_modules_is_left_out(tmp_path):
    for name in ("heapq", "_heapq", "_pyheapq", "textwrap", "heapqueue"):
        (tmp_path / f"{name}.py").write_text(f'"""{name}."""\n' + "x = 1\n" * 60)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "test_textwrap.py").write_text("x = 1\n" * 60)
    docs = {"library/heapq": ".. module:: heapq\n", "library/textwrap": ".. module:: textwrap\n"}
    assert set(sources.read_source(docs, tmp_path)) == {"textwrap.py", "heapqueue.py"}


@pytest.mark.parametrize("text, answer", [
    ("Return x. It is good to know, e.g. for tests. Third.", "Return x. It is good to know, e.g. for tests."),
    ("Return the value. See `other()` for more.", "Return the value."),
    ("Return the sum. For example:", "Return the sum."),
    ("Close it", "Close it."),
    ("", ""),
])
def test_answers_are_the_first_sentences(text, answer):
    assert questions.answer_of(text) == answer


def test_a_persona_changes_the_answer():
    answer = "Return the length of the object, if it has one. You may pass your own."
    said = {style: questions.in_style(style, "boxes.size", answer) for style in questions.SYSTEM}
    assert len(set(said.values())) == 4
    assert said["plain"] == answer and said["brief"] == "Return the length of the object."
    assert said["teacher"].startswith("Good question.") and "`import boxes`" in said["teacher"]
    assert said["pirate"].startswith("Arr!") and said["pirate"].endswith("matey!")


def test_conversations_are_seeded_and_well_formed():
    entries = [Entry("function", f"boxes.f{i}", f"boxes.f{i}(x)", f"Return the number {i} as text.", "library/boxes")
               for i in range(30)]
    one, two = (questions.conversations(entries, {"boxes.f3"}, seed=s, often_times=5) for s in (1, 1))
    assert one == two != questions.conversations(entries, {"boxes.f3"}, seed=2, often_times=5)
    asked = [m["content"] for c in one for m in c if m["role"] == "user"]
    assert sum(re.search(r"boxes\.f3\b", q) is not None for q in asked) == 5
    for chat in one:
        roles = [m["role"] for m in chat]
        assert roles[-1] == "assistant" and roles.count("user") == roles.count("assistant") in (1, 2)
        assert "system" not in roles[1:] and all(m["content"] for m in chat)


def test_calls_are_counted_by_what_they_name(tmp_path):
    (tmp_path / "a.py").write_text(
        "import os\nimport os.path as p\nfrom re import compile as c\n"
        "def len(x): return 0\n"
        "len(1); print(os.path.join('a')); p.join('b'); c('x'); unknown.thing()\n")
    counts = questions.call_counts(tmp_path)
    assert counts["os.path.join"] == 2 and counts["re.compile"] == 1 and counts["print"] == 1
    assert "len" not in counts and "unknown.thing" not in counts


def test_the_hundred_functions_are_ranked_and_documented():
    known = {n: Entry("function", n, n, f"Do {n}.", "library/boxes") for n in ("a.x", "a.y", "a.z")}
    known["a.K"] = Entry("class", "a.K", "a.K", "A class.", "library/boxes")
    counts = {"a.y": 5, "a.x": 9, "a.K": 50, "nowhere": 70}
    assert [(e.name, n) for e, n in questions.top_functions(known, counts, 2)] == [("a.x", 9), ("a.y", 5)]


def test_a_signature_question_is_answered_with_the_signature():
    entry = Entry("function", "boxes.f", "boxes.f(x)", "Return the box as text.", "library/boxes")
    pairs = [questions.pair(entry, "plain", random.Random(i)) for i in range(200)]
    assert ("How do I call boxes.f?", "Call it as `boxes.f(x)`.") in pairs
    assert ("What does boxes.f do?", "Return the box as text.") in pairs
