"""Lesson 5, notebook 3 in a real browser: run it, hold a longer conversation, switch the cache on, open a field's request."""

import re

import pytest
from notebook import open_notebook, photograph_pictures, run_all, set_slider, use_theme, wait_for_text

NOTEBOOK = "05-sampling/03-prompting.ipynb"
RUN_SECONDS = 420
WORDS = ".gb10-conversation-words"


@pytest.fixture(scope="module")
def opened(lab, page, engine):
    """The notebook with every cell run, and the watch over its page."""
    notes = open_notebook(page, lab, NOTEBOOK)
    state = run_all(page, RUN_SECONDS)
    assert state["errors"] == [] and state["code"] >= 30
    return notes


def photograph(page, selector, path):
    element = page.locator(selector).first
    element.scroll_into_view_if_needed()
    element.screenshot(path=path)


def wait_for_other_text(page, said):
    """What the widget says as soon as that is something else."""
    for _ in range(200):
        if (now := page.locator(WORDS).first.inner_text()) != said:
            return now
        page.wait_for_timeout(100)
    pytest.fail(f"it still says {said!r}")


def numbers(said):
    """(prompt tokens sent, tokens computed) of the widget's sentence."""
    found = re.search(r"([\d,]+) prompt tokens are sent and ([\d,]+) computed", said)
    return tuple(int(n.replace(",", "")) for n in found.groups())


def test_a_conversation_grows_and_the_cache_is_switched_on(opened, page, shots):
    before = numbers(wait_for_text(page, WORDS, "10 turns, prefix cache off"))
    assert before[0] == before[1]
    picture = page.locator(".gb10-conversation-image img").first
    source = picture.get_attribute("src")
    set_slider(page, ".gb10-conversation-turns", ["End"])
    long = numbers(wait_for_text(page, WORDS, "40 turns, prefix cache off"))
    assert long[1] > 10 * before[1], "four times the turns, far more than four times the work"
    page.locator(".gb10-conversation-cached input").check()
    said = wait_for_text(page, WORDS, "40 turns, prefix cache on")
    assert numbers(said)[0] == long[0] and numbers(said)[1] < long[1] / 10
    assert "its first token comes after" in said, "the rate that was measured above is the widget's"
    set_slider(page, ".gb10-conversation-system", ["Home"])
    assert numbers(wait_for_other_text(page, said))[0] < long[0], "without a system prompt less is sent"
    assert picture.get_attribute("src") != source and "40 turns" in picture.get_attribute("alt")
    for theme in ("dark", "light"):
        use_theme(page, theme)
        photograph(page, ".jp-Cell:has(.gb10-conversation-turns)", shots / f"prompting-conversation-{theme}.png")
    opened.check()


def test_a_fields_request_is_opened(opened, page, shots):
    table = page.locator(".jp-Cell:has-text('field_rows.Predicted(live, my_rows)') .jp-OutputArea table").first
    table.scroll_into_view_if_needed()
    assert table.locator("tbody tr").count() == 16
    row = table.locator("tbody tr", has_text="top_k").first
    row.locator("summary").click()
    assert '"top_k": 1' in row.locator("pre").inner_text() and "curl" in row.locator("pre").inner_text()
    for theme in ("dark", "light"):
        use_theme(page, theme)
        photograph(page, ".jp-Cell:has-text('field_rows.Predicted(live, my_rows)')", shots / f"prompting-fields-{theme}.png")
    opened.check()


def test_the_pictures(opened, page, shots):
    photograph_pictures(page, shots, "prompting-figure")
    for theme in ("dark", "light"):
        use_theme(page, theme)
        photograph(page, ".jp-Cell:has-text('check.verdict_on_schema(verdict_on_schema, engine)')", shots / f"prompting-verdict-{theme}.png")
    opened.check()
