"""Lesson 1 as a learner sees it: both notebooks with "Run all", each widget moved once, light and dark."""

import pytest
from notebook import open_notebook, photograph_pictures, run_all, set_slider, use_theme, wait_for_text

LESSON = "01-unified-memory"
RUN_SECONDS = 240


def choose(page, selector, option):
    """Choose from a dropdown by what it says."""
    menu = page.locator(f"{selector} select").first
    menu.scroll_into_view_if_needed()
    menu.select_option(label=option)


def photograph_page(page, shots, name):
    """The whole notebook as one picture, whatever its height."""
    box = page.locator(".jp-Notebook .jp-WindowedPanel-inner, .jp-WindowedPanel-outer").first
    height = int(page.evaluate("() => document.querySelector('.jp-WindowedPanel-outer').scrollHeight")) + 200
    page.set_viewport_size({"width": 1400, "height": min(height, 16000)})
    page.evaluate("() => { document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0; }")
    page.wait_for_timeout(800)
    box.screenshot(path=shots / f"{name}.png")
    page.set_viewport_size({"width": 1400, "height": 1000})


def test_what_fits(lab, page, shots):
    notes = open_notebook(page, lab, f"{LESSON}/01-what-fits.ipynb")
    state = run_all(page, RUN_SECONDS)
    assert state["errors"] == [] and state["code"] >= 25
    photograph_pictures(page, shots, "what-fits")

    words = ".gb10-fit-words"
    assert "DGX Spark (GB10) fits" in wait_for_text(page, words, "Qwen3-8B in nvfp4, 1 × 8192 tokens")
    set_slider(page, ".gb10-fit-users", ["ArrowRight"])
    wait_for_text(page, words, "2 × 8192 tokens")
    set_slider(page, ".gb10-fit-context", ["ArrowRight"])
    wait_for_text(page, words, "2 × 16384 tokens")
    choose(page, ".gb10-fit-kv", "fp8")
    wait_for_text(page, words, "KV in fp8")
    choose(page, ".gb10-fit-model", "Llama-3.3-70B-Instruct")
    choose(page, ".gb10-fit-weights", "bf16")
    assert "DGX Spark (GB10) does not fit" in wait_for_text(page, words, "Llama-3.3-70B-Instruct in bf16")

    for theme in ("light", "dark"):
        use_theme(page, theme)
        photograph_page(page, shots, f"what-fits-{theme}")
    notes.check()


def test_bandwidth_decides(lab, page, shots):
    notes = open_notebook(page, lab, f"{LESSON}/02-bandwidth-decides.ipynb")
    state = run_all(page, RUN_SECONDS)
    assert state["errors"] == [] and state["code"] >= 25
    photograph_pictures(page, shots, "bandwidth")

    words = ".gb10-bandwidth-words"
    wait_for_text(page, words, "read: 1 thread: ")
    choose(page, ".gb10-bandwidth-kernel", "triad")
    wait_for_text(page, words, "triad: ")
    choose(page, ".gb10-bandwidth-kernel", "read")
    set_slider(page, ".gb10-bandwidth-threads", ["Home"])
    wait_for_text(page, words, "Caches that 1 thread(s) have")

    words = ".gb10-roofline-words"
    wait_for_text(page, words, "1 token at once")
    set_slider(page, ".gb10-roofline-tokens", ["ArrowRight"])
    wait_for_text(page, words, "2 tokens at once")
    set_slider(page, ".gb10-roofline-tokens", ["End"])
    wait_for_text(page, words, "bound by arithmetic")
    choose(page, ".gb10-roofline-weights", "bf16")
    wait_for_text(page, words, "in bf16 on DGX Spark")
    choose(page, ".gb10-roofline-machine", "H200 SXM")
    wait_for_text(page, words, "in bf16 on H200 SXM")

    assert page.locator(".gb10-predicted-table tr").count() > 20
    for theme in ("light", "dark"):
        use_theme(page, theme)
        photograph_page(page, shots, f"bandwidth-{theme}")
    notes.check()


def test_an_option_that_is_not_there_is_a_failure(page):
    from playwright.sync_api import Error

    page.set_content("<div class='gb10-x'><select><option>one</option></select></div>")
    page.set_default_timeout(1500)
    try:
        with pytest.raises(Error):
            choose(page, ".gb10-x", "two")
    finally:
        page.set_default_timeout(30_000)
