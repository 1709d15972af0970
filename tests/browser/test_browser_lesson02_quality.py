"""Lesson 2, notebook 3 in a real browser: run it, turn the tails up, repair a block, read what they say."""

import pytest
from notebook import open_notebook, photograph_pictures, run_all, set_slider, use_theme, wait_for_text

from gb10.explore import repairs, snr

NOTEBOOK = "02-nvfp4-math/03-how-good-is-it.ipynb"
RUN_SECONDS = 240


@pytest.fixture(scope="module")
def opened(lab, page):
    """The notebook with every cell run, and the watch over its page."""
    notes = open_notebook(page, lab, NOTEBOOK)
    state = run_all(page, RUN_SECONDS)
    assert state["errors"] == [] and state["code"] >= 30
    return notes


def photograph(page, selector, path):
    element = page.locator(selector).first
    element.scroll_into_view_if_needed()
    element.screenshot(path=path)


def picture(page, name):
    return page.locator(f".gb10-{name}-image img").first


def test_the_tails_are_turned_up(opened, page, shots):
    words = ".gb10-snr-words"
    wait_for_text(page, words, "Gauss")
    before = picture(page, "snr").get_attribute("src")
    page.locator(".gb10-snr-family select").select_option("outlier columns")
    wait_for_text(page, words, "outlier columns, 10 times larger")
    set_slider(page, ".gb10-snr-strength", ["ArrowRight"])
    said = wait_for_text(page, words, "outlier columns, 20 times larger")
    for r in snr.compute("outlier columns", 20):
        assert f"{r.label} {r.snr:.1f} dB {100 * r.error:.1f} % {100 * r.zeroed:.0f} %" in " ".join(said.split())
    assert picture(page, "snr").get_attribute("src") != before
    assert "on outlier columns, 20 times larger" in picture(page, "snr").get_attribute("alt")
    assert page.locator(".gb10-snr-strength").inner_text().startswith("times larger")
    for theme in ("dark", "light"):
        use_theme(page, theme)
        photograph(page, ".jp-Cell:has(.gb10-snr-family)", shots / f"quality-snr-{theme}.png")
    page.locator(".gb10-snr-family select").select_option("uniform")
    wait_for_text(page, words, "uniform")
    opened.check()


def test_a_block_is_repaired(opened, page, shots):
    words = ".gb10-repairs-words"
    wait_for_text(page, words, "Block 0 with an outlier of 3")
    before = picture(page, "repairs").get_attribute("src")
    set_slider(page, ".gb10-repairs-outlier", ["End"])
    wait_for_text(page, words, "an outlier of 20")
    set_slider(page, ".gb10-repairs-number", ["ArrowRight", "ArrowRight"])
    wait_for_text(page, words, "Block 2")
    page.locator(".gb10-repairs-repair select").select_option("rotated")
    said = wait_for_text(page, words, "rotated: grid unit")
    for r in repairs.compute(20.0, 2):
        assert f"{r.repair} {r.snr:.1f} dB" in said
    assert picture(page, "repairs").get_attribute("src") != before
    assert said in picture(page, "repairs").get_attribute("alt").replace(". rotated", ", rotated")
    for theme in ("dark", "light"):
        use_theme(page, theme)
        photograph(page, ".jp-Cell:has(.gb10-repairs-outlier)", shots / f"quality-repairs-{theme}.png")
    opened.check()


def test_the_pictures(opened, page, shots):
    photograph_pictures(page, shots, "quality-figure")
    for theme in ("dark", "light"):
        use_theme(page, theme)
        photograph(page, ".jp-Cell:has-text('check.better_scale(better_scale)')", shots / f"quality-verdict-{theme}.png")
        photograph(page, ".jp-Cell:has-text('figures = published.read')", shots / f"quality-published-{theme}.png")
        photograph(page, ".jp-Cell:has-text('def shares')", shots / f"quality-code-{theme}.png")
    opened.check()
