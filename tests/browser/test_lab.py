"""The course as a learner sees it: the syllabus, and the first lesson with "Run all", in a real browser."""

import re
import time
from urllib.parse import parse_qs, urlsplit

import pytest

LESSON = "03-quantize-with-modelopt/01-bf16-to-served-nvfp4.ipynb"
RUN_SECONDS = 420   # two engine starts are in it; a busy 2-core machine needs the rest


def address_of(lab, path):
    """The address that opens one file of the work folder in a fresh workspace."""
    parts = urlsplit(lab)
    token = parse_qs(parts.query)["token"][0]
    return f"{parts.scheme}://{parts.netloc}/lab/tree/{path}?reset&token={token}"


def state_of(page):
    """What the open notebook has done: cells run, code cells in all, error outputs, the kernel's status."""
    return page.evaluate("""() => {
        const panel = window.jupyterapp.shell.currentWidget;
        const cells = panel?.content?.model?.cells;
        if (!cells) return null;
        const state = {ran: 0, code: 0, errors: [], kernel: panel.sessionContext.session?.kernel?.status};
        for (let i = 0; i < cells.length; i++) {
            const cell = cells.get(i);
            if (cell.type !== 'code') continue;
            state.code += 1;
            if (cell.executionCount) state.ran += 1;
            for (let k = 0; k < cell.outputs.length; k++) {
                const output = cell.outputs.get(k);
                if (output.type !== 'error') continue;
                const error = output.toJSON();
                state.errors.push(`${error.ename}: ${error.evalue}`);
            }
        }
        return state;
    }""")


def wait(page, condition, seconds, what):
    """The notebook's state as soon as it meets the condition; fails with what was last seen."""
    end, state = time.monotonic() + seconds, None
    while time.monotonic() < end:
        state = state_of(page)
        if state and condition(state):
            return state
        page.wait_for_timeout(500)
    pytest.fail(f"{what} not within {seconds} s; last seen: {state}")


def test_lab_opens_on_the_syllabus(lab, page, shots):
    page.goto(lab, wait_until="domcontentloaded")
    page.wait_for_selector(".jp-MarkdownViewer", timeout=60_000)
    page.wait_for_selector(f'.jp-MarkdownViewer a[href*="{LESSON.split("/")[0]}"]', timeout=20_000)
    page.screenshot(path=shots / "syllabus.png")
    assert "Blackwell at Your Desk" in page.inner_text(".jp-MarkdownViewer")


def test_the_first_lesson_runs_to_its_end(lab, page, shots):
    strangers, complaints = [], []
    host = urlsplit(lab).netloc
    page.on("request", lambda r: strangers.append(r.url) if r.url.startswith("http") and urlsplit(r.url).netloc != host else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))

    page.goto(address_of(lab, LESSON), wait_until="domcontentloaded")
    page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.content?.model", timeout=60_000)
    wait(page, lambda s: s["kernel"] == "idle", 60, "an idle kernel")
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    state = wait(page, lambda s: s["errors"] or (s["ran"] == s["code"] and s["kernel"] == "idle"),
                 RUN_SECONDS, "every cell run")
    page.wait_for_timeout(1000)   # the last figure is still being laid out

    page.screenshot(path=shots / "lesson-end.png")
    photograph_pictures(page, shots)
    assert state["errors"] == []
    assert state["code"] >= 10
    assert complaints == [], "errors in the browser's console"
    assert strangers == [], "the page asked other hosts"


def photograph_pictures(page, shots):
    """Keep a screenshot of each figure; every one must have ink on it and a text that says what it shows."""
    images = page.locator(".jp-OutputArea-output img, .widget-output img, .jp-OutputArea img")
    assert images.count() >= 2
    for i in range(images.count()):
        image = images.nth(i)
        image.scroll_into_view_if_needed()
        image.screenshot(path=shots / f"figure-{i + 1}.png")
        assert ink(image) > 0.005, f"figure {i + 1} is blank"
        assert re.search(r"\w{3}", image.get_attribute("alt") or ""), f"figure {i + 1} has no alt text"


def ink(image):
    """The share of an image's pixels that differ from its corner."""
    return image.evaluate("""async (img) => {
        await img.decode();
        const canvas = document.createElement('canvas');
        canvas.width = img.naturalWidth; canvas.height = img.naturalHeight;
        const context = canvas.getContext('2d');
        context.drawImage(img, 0, 0);
        const d = context.getImageData(0, 0, canvas.width, canvas.height).data;
        let n = 0;
        for (let i = 0; i < d.length; i += 4)
            if (Math.abs(d[i] - d[0]) + Math.abs(d[i+1] - d[1]) + Math.abs(d[i+2] - d[2]) > 30) n++;
        return n / (d.length / 4);
    }""")
