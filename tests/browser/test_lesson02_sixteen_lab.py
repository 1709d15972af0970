"""Lesson 2, notebook 1 in a real browser: run it, switch a bit, move the number, read what they say."""

import pytest
from notebook import open_notebook, photograph_pictures, run_all, set_slider, use_theme, wait_for_text

NOTEBOOK = "02-nvfp4-math/01-sixteen-values.ipynb"
RUN_SECONDS = 180


@pytest.fixture(scope="module")
def opened(lab, page):
    """The notebook with every cell run, and the watch over its page."""
    notes = open_notebook(page, lab, NOTEBOOK)
    state = run_all(page, RUN_SECONDS)
    assert state["errors"] == [] and state["code"] >= 10
    return notes


def photograph(page, selector, path):
    element = page.locator(selector).first
    element.scroll_into_view_if_needed()
    element.screenshot(path=path)


def test_the_toggler_by_mouse_and_by_keyboard(opened, page, shots):
    words, bits = ".gb10-bits-words", page.locator("button.gb10-bit")
    assert bits.count() == 4
    said = wait_for_text(page, words, "0b0101")
    assert "(−1)^0 × 2^(2 − 1) × (1 + 1/2) = 3" in said and "2 below, 4 above" in said and "(2.5, 3.5)" in said
    bits.nth(0).click()
    said = wait_for_text(page, words, "0b1101")
    assert "−3" in said and "(−3.5, −2.5)" in said and bits.nth(0).inner_text().strip() == "1"
    bits.nth(3).focus()
    page.keyboard.press("Space")
    assert "[−2.5, −1.75]" in wait_for_text(page, words, "0b1100")
    page.locator("button.gb10-bits-next").click()
    wait_for_text(page, words, "0b1101")
    page.wait_for_selector('.gb10-bits-image img[alt*="code 13, bits 1101"]', timeout=10_000)
    for theme in ("dark", "light"):
        use_theme(page, theme)
        photograph(page, ".jp-Cell:has(button.gb10-bit)", shots / f"sixteen-bits-{theme}.png")
    opened.check()


def test_the_number_lands_where_it_should(opened, page, shots):
    words = ".gb10-rounding-words"
    wait_for_text(page, words, "E2M1: 4.5 → 4 (code 6")
    set_slider(page, ".gb10-rounding-slider", ["Home"])
    said = wait_for_text(page, words, "E2M1: −7 → −6 (code 15")
    assert "saturates" in said and "integers: −7 → −7" in said and "powers of 2: −7 → −8" in said
    set_slider(page, ".gb10-rounding-slider", ["ArrowRight"])
    wait_for_text(page, words, "E2M1: −6.875 → −6")
    page.wait_for_selector('.gb10-rounding-image img[alt*="E2M1: −6.875"]', timeout=10_000)   # it comes after the words
    set_slider(page, ".gb10-rounding-slider", ["ArrowRight"] * 15)
    assert "[−5, −3.5] to code 14" in wait_for_text(page, words, "E2M1: −5 → −4 (code 14, bits 1110), error 1; a tie")
    for theme in ("dark", "light"):
        use_theme(page, theme)
        photograph(page, ".jp-Cell:has(.gb10-rounding-slider)", shots / f"sixteen-rounding-{theme}.png")
    opened.check()


def test_the_pictures(opened, page, shots):
    photograph_pictures(page, shots, "sixteen-figure")
    use_theme(page, "dark")
    photograph(page, ".jp-Cell:has-text('check.decode(decode)')", shots / "sixteen-verdict-dark.png")
    use_theme(page, "light")
    opened.check()
