"""Lesson 2, notebook 2 in a real browser: run it, move every explorer once, read what they say."""

import pytest
from notebook import ink, open_notebook, photograph_pictures, run_all, set_slider, use_theme, wait_for_text

NOTEBOOK = "02-nvfp4-math/02-a-block-and-its-scale.ipynb"
RUN_SECONDS = 180


@pytest.fixture(scope="module")
def opened(lab, page):
    """The notebook with every cell run, and the watch over its page."""
    notes = open_notebook(page, lab, NOTEBOOK)
    state = run_all(page, RUN_SECONDS)
    assert state["errors"] == [] and state["code"] >= 10
    return notes


def alt(page, selector):
    return page.locator(f"{selector} img").get_attribute("alt")


def photograph(page, selector, shots, name):
    """The cell in both themes; its picture must have ink."""
    for theme in ("dark", "light"):
        use_theme(page, theme)
        cell = page.locator(f".jp-Cell:has({selector})").first
        cell.scroll_into_view_if_needed()
        cell.screenshot(path=shots / f"blocks-{name}-{theme}.png")
    assert ink(page.locator(f"{selector} img").first) > 0.005


def test_the_outlier_wipes_out_the_others(opened, page, shots):
    words, image = ".gb10-outlier-words", ".gb10-outlier-image"
    wait_for_text(page, words, "reach 15 of 15 grid values = 3.91 bits")
    before = page.locator(f"{image} img").get_attribute("src")
    set_slider(page, ".gb10-outlier-times", ["End"])
    said = wait_for_text(page, words, "reach 1 of 15 grid values = 0.00 bits")
    assert "15 of them became zero" in said and "100.0%" in said
    assert page.locator(f"{image} img").get_attribute("src") != before
    set_slider(page, ".gb10-outlier-position", ["Home"])
    wait_for_text(page, words, "reach 1 of 15")
    page.wait_for_function("() => document.querySelector('.gb10-outlier-image img').alt.includes('outlier at 0, 100 times')")
    handle = page.locator(".gb10-outlier-times .noUi-handle")
    handle.scroll_into_view_if_needed()
    box, track = handle.bounding_box(), page.locator(".gb10-outlier-times .noUi-base").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    for share in (0.9, 0.75, 0.6, 0.5):            # by hand: the picture follows while the button is down
        page.mouse.move(track["x"] + share * track["width"], y, steps=4)
    wait_for_text(page, words, "reach 3 of 15")
    page.mouse.up()
    page.wait_for_timeout(2000)
    readout = page.locator(".gb10-outlier-times .widget-readout").inner_text()
    assert 9 < float(readout) < 11 and f"{float(readout):.3g} times the largest" in alt(page, image)
    photograph(page, image, shots, "outlier")
    opened.check()


def test_three_formats_on_the_same_sixteen(opened, page, shots):
    words, image = ".gb10-compare-words", ".gb10-compare-image"
    assert "NVFP4" in wait_for_text(page, words, "error of the 16")
    page.select_option(".gb10-compare-kind select", "one outlier")
    said = wait_for_text(page, words, "32.46%")
    assert "9.08%" in said and "51.53%" in said
    assert "one outlier" in alt(page, image)
    set_slider(page, ".gb10-compare-number", ["ArrowRight"])
    wait_for_text(page, words, "MXFP4")
    page.wait_for_function("() => !document.querySelector('.gb10-compare-words').innerText.includes('32.46%')")
    page.select_option(".gb10-compare-block select", "128")
    wait_for_text(page, words, "4.125")
    assert "INT4 in blocks of 128" in alt(page, image)
    photograph(page, image, shots, "compare")
    opened.check()


def test_sigma_moves_one_heap_and_not_the_other(opened, page, shots):
    words, image = ".gb10-two-scales-words", ".gb10-two-scales-image"
    first = wait_for_text(page, words, "without a tensor scale, 0.0955 with it")
    assert "0.1035" in first
    set_slider(page, ".gb10-two-scales-sigma", ["Home"])
    said = wait_for_text(page, words, "1.0000 without a tensor scale, 0.0955 with it")
    assert "100% of the blocks" in said and "sigma 0.0001" in alt(page, image)
    set_slider(page, ".gb10-two-scales-sigma", ["ArrowRight"] * 20)
    assert "0.2816 without" in wait_for_text(page, words, "0.2816 without a tensor scale, 0.0955 with it")
    photograph(page, image, shots, "two-scales")
    opened.check()


def test_the_size_of_a_checkpoint(opened, page, shots):
    words, image = ".gb10-sizes-words", ".gb10-sizes-image"
    assert "37.5% of the 16.06 GB" in wait_for_text(page, words, "Llama-3.1-8B in NVFP4: 6.03 GB")
    page.select_option(".gb10-sizes-model select", "Llama-3.2-1B")
    assert "head tied" in wait_for_text(page, words, "Llama-3.2-1B in NVFP4: 1.07 GB, 43.4%")
    page.select_option(".gb10-sizes-format select", "MXFP4")
    wait_for_text(page, words, "Llama-3.2-1B in MXFP4")
    page.locator(".gb10-sizes-everything input").check()
    wait_for_text(page, words, "26.6% of the 2.47 GB")
    assert "Llama-3.2-1B in MXFP4" in alt(page, image)
    photograph(page, image, shots, "sizes")
    opened.check()


def test_the_pictures_and_the_verdicts(opened, page, shots):
    photograph_pictures(page, shots, "blocks-figure")
    verdicts = page.locator(".jp-OutputArea-output div[role=status]")
    said = verdicts.all_text_contents()     # not the inner text: cells out of sight are not laid out
    assert len(said) == 7 and all(": not attempted" in text for text in said), said
    opened.check()
