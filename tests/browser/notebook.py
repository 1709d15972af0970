"""A notebook in the browser: open it, run it, move a widget, look at it. What the browser tests share."""

import re
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest

THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


@dataclass
class Watch:
    """What a page did that it should not: errors in its console, requests to other hosts."""

    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def check(self):
        assert self.complaints == [], "errors in the browser's console"
        assert self.strangers == [], "the page asked other hosts"


def watch(page, lab):
    """Begin to note what the page does. (Tests share the page: an earlier test's Watch goes on, but is checked before.)"""
    notes, host = Watch(), urlsplit(lab).netloc

    def asked(request):
        if re.match(r"(http|ws)s?:", request.url) and urlsplit(request.url).netloc != host:
            notes.strangers.append(request.url)

    page.on("request", asked)
    page.on("websocket", asked)
    page.on("pageerror", lambda e: notes.complaints.append(str(e)))
    page.on("console", lambda m: notes.complaints.append(m.text) if m.type == "error" else None)
    return notes


def address_of(lab, path):
    """The address that opens one file of the work folder in a fresh workspace."""
    parts = urlsplit(lab)
    return f"{parts.scheme}://{parts.netloc}/lab/tree/{path}?reset&token={token_of(lab)}"


def token_of(lab):
    return parse_qs(urlsplit(lab).query)["token"][0]


def stop_kernels(page, lab):
    """Stop what earlier tests left running: a kernel with torch in it holds half a gigabyte."""
    parts = urlsplit(lab)
    sessions, header = f"{parts.scheme}://{parts.netloc}/api/sessions", {"Authorization": f"token {token_of(lab)}"}
    for session in page.request.get(sessions, headers=header).json():
        page.request.delete(f"{sessions}/{session['id']}", headers=header)


def open_notebook(page, lab, path, theme="light"):
    """Open a notebook of the work folder, wait for its idle kernel; returns the Watch over the page from here on.

    path: relative to the work folder, such as 02-nvfp4-math/01-sixteen-values.ipynb.
    """
    page.goto("about:blank")
    stop_kernels(page, lab)
    notes = watch(page, lab)
    page.goto(address_of(lab, path), wait_until="domcontentloaded")
    page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.content?.model", timeout=60_000)
    wait(page, lambda s: s["kernel"] == "idle", 60, "an idle kernel")
    use_theme(page, theme)
    return notes


def use_theme(page, theme):
    """Switch the whole page to "light" or "dark", and wait until it is."""
    page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", THEMES[theme])
    page.wait_for_selector(f'body[data-jp-theme-name="{THEMES[theme]}"]', state="attached", timeout=20_000)
    page.wait_for_timeout(500)


def run_all(page, seconds):
    """Run every cell; returns the state once all have run, or as soon as one shows an error."""
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    state = wait(page, lambda s: s["errors"] or (s["ran"] == s["code"] and s["kernel"] == "idle"),
                 seconds, "every cell run")
    page.wait_for_timeout(1000)   # the last figure is still being laid out
    return state


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


def wait_for_text(page, selector, text, seconds=20):
    """The text of an element as soon as it contains `text`; fails with what it said last."""
    end, said = time.monotonic() + seconds, None
    element = page.locator(selector).first
    element.scroll_into_view_if_needed()      # JupyterLab leaves the text of cells out of sight unrendered
    while time.monotonic() < end:
        said = element.inner_text()
        if text in said:
            return said
        page.wait_for_timeout(100)
    pytest.fail(f"{selector} never said {text!r}, but {said!r}")


def set_slider(page, selector, keys):
    """Move the (first) slider inside `selector` by the keyboard: keys such as ["Home", "ArrowRight"]."""
    handle = page.locator(f"{selector} .noUi-handle").first
    handle.scroll_into_view_if_needed()
    handle.focus()
    for key in keys:
        page.keyboard.press(key)


def photograph_pictures(page, shots, name):
    """Keep a screenshot of each figure (name-N.png); every one must have ink on it and a text that says what it shows."""
    images = page.locator(".jp-OutputArea-output img, .widget-output img, .jp-OutputArea img")
    assert images.count() >= 2
    for i in range(images.count()):
        image = images.nth(i)
        image.scroll_into_view_if_needed()
        image.screenshot(path=shots / f"{name}-{i + 1}.png")
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
