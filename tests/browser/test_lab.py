"""The course as a learner sees it: the syllabus, and the first lesson with "Run all", in a real browser."""

from notebook import open_notebook, photograph_pictures, run_all

LESSON = "03-quantize-with-modelopt/01-bf16-to-served-nvfp4.ipynb"
RUN_SECONDS = 420   # two engine starts are in it; a busy 2-core machine needs the rest


def test_lab_opens_on_the_syllabus(lab, page, shots):
    page.goto(lab, wait_until="domcontentloaded")
    page.wait_for_selector(".jp-MarkdownViewer", timeout=60_000)
    page.wait_for_selector(f'.jp-MarkdownViewer a[href*="{LESSON.split("/")[0]}"]', timeout=20_000)
    page.screenshot(path=shots / "syllabus.png")
    assert "Blackwell at Your Desk" in page.inner_text(".jp-MarkdownViewer")


def test_the_first_lesson_runs_to_its_end(engine, lab, page, shots):
    notes = open_notebook(page, lab, LESSON)
    state = run_all(page, RUN_SECONDS)
    page.screenshot(path=shots / "lesson-end.png")
    photograph_pictures(page, shots, "figure")
    assert state["errors"] == []
    assert state["code"] >= 10
    notes.check()
