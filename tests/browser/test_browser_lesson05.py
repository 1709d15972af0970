"""Lesson 5 as a learner sees it: notebooks 1 and 2 with "Run all", the engine started by the notebook, their widgets moved, light and dark."""

import pytest
from notebook import open_notebook, photograph_pictures, run_all, set_slider, use_theme, wait_for_text

LESSON = "05-sampling"
RUN_SECONDS = 300


def photograph(page, selector, path):
    element = page.locator(selector).first
    element.scroll_into_view_if_needed()
    element.screenshot(path=path)


def picture(page, name):
    return page.locator(f".gb10-{name}-image img").first


def test_one_token(lab, page, shots, engine):
    notes = open_notebook(page, lab, f"{LESSON}/01-one-token.ipynb")
    state = run_all(page, RUN_SECONDS)
    assert state["errors"] == [] and state["code"] >= 24
    words = ".gb10-playground-words"
    wait_for_text(page, words, "vLLM applies penalties → temperature → min_p → top_k → top_p. No step cuts anything off")
    before = picture(page, "playground").get_attribute("src")
    set_slider(page, ".gb10-playground-temperature", ["ArrowRight"] * 10)            # 2.0
    set_slider(page, ".gb10-playground-top_p", ["ArrowLeft"] * 6)                    # 0.7
    hot = wait_for_text(page, words, "Top_p cuts off")
    page.locator(".gb10-playground-order select").select_option(label="llama.cpp")
    wait_for_text(page, words, "llama.cpp applies penalties → top_k → top_p → min_p → temperature")
    tame = page.locator(words).inner_text()
    assert survivors(tame) < survivors(hot)
    set_slider(page, ".gb10-playground-top_k", ["ArrowRight"])
    wait_for_text(page, words, "1 token can come; entropy")
    set_slider(page, ".gb10-playground-top_k", ["Home"])
    set_slider(page, ".gb10-playground-min_p", ["End"])
    wait_for_text(page, words, "min_p cuts off")
    set_slider(page, ".gb10-playground-said", ["ArrowRight"])
    set_slider(page, ".gb10-playground-presence_penalty", ["End"])
    wait_for_text(page, words, "llama.cpp")
    assert picture(page, "playground").get_attribute("src") != before
    assert page.locator(words).inner_text() in picture(page, "playground").get_attribute("alt")
    set_slider(page, ".gb10-playground-temperature", ["Home"])
    wait_for_text(page, words, "penalties → greedy")
    for theme in ("dark", "light"):
        use_theme(page, theme)
        photograph(page, ".jp-Cell:has(.gb10-playground-words)", shots / f"one-token-playground-{theme}.png")
    photograph(page, ".jp-Cell:has-text('sampling.ORDERS.values()')", shots / "one-token-orders.png")
    photograph_pictures(page, shots, "one-token")
    notes.check()


def survivors(said):
    return int(said.partition(" token")[0].split()[-1])


def test_many_tokens(lab, page, shots, engine):
    notes = open_notebook(page, lab, f"{LESSON}/02-many-tokens.ipynb")
    state = run_all(page, RUN_SECONDS)
    assert state["errors"] == [] and state["code"] >= 24
    words = ".gb10-variety-words"
    wait_for_text(page, words, "temperature 0, answer 1:")
    before = picture(page, "variety").get_attribute("src")
    page.locator(".gb10-variety-run select").select_option(label="temperature 2")
    said = wait_for_text(page, words, "temperature 2, answer 1:")
    assert int(said.partition(" tokens had less than")[0].split()[-1]) > 5
    set_slider(page, ".gb10-variety-number", ["ArrowRight", "ArrowRight"])
    wait_for_text(page, words, "temperature 2, answer 3:")
    assert page.locator(".gb10-variety-text span[title]").count() > 10
    assert picture(page, "variety").get_attribute("src") != before
    for theme in ("dark", "light"):
        use_theme(page, theme)
        photograph(page, ".jp-Cell:has(.gb10-variety-words)", shots / f"many-tokens-variety-{theme}.png")
    photograph(page, ".jp-Cell:has-text('runs.compute(stories)')", shots / "many-tokens-runs.png")
    photograph_pictures(page, shots, "many-tokens")
    notes.check()


@pytest.mark.parametrize("said", ["so. 12 tokens can come; entropy", "1 token can come"])
def test_survivors_are_read(said):
    assert survivors(said) in (12, 1)
