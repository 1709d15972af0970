"""The decision table: every entry has a source, and needs cut it down as they should."""

from itertools import combinations

import pytest

from gb10.explore import which_engine


def test_every_entry_is_there_once_and_has_an_address():
    for e in which_engine.ENGINES:
        assert set(e.has) | set(e.lacks) == set(which_engine.NEEDS) and not set(e.has) & set(e.lacks), e.name
        for url in [*e.has.values(), *(url for _, url in e.lacks.values())]:
            assert url.startswith("https://"), (e.name, url)
        assert all(why for why, _ in e.lacks.values())


@pytest.mark.parametrize("size", range(len(which_engine.NEEDS) + 1))
def test_all_sets_of_needs(size):
    for needs in combinations(which_engine.NEEDS, size):
        choice = which_engine.choose(needs)
        assert [e.name for e in choice.remaining] == [e.name for e in which_engine.ENGINES if set(needs) <= set(e.has)]
        assert set(choice.out) == {e.name for e in which_engine.ENGINES} - {e.name for e in choice.remaining}
        said = which_engine.describe(needs)
        assert all(e.title in said for e in which_engine.ENGINES)


def test_what_the_lesson_says():
    assert [e.name for e in which_engine.choose(["nvfp4", "users"]).remaining] == ["vllm", "sglang", "trtllm"]
    assert [e.name for e in which_engine.choose(["gguf"]).remaining] == ["ollama"]
    assert [e.name for e in which_engine.choose(["support"]).remaining] == ["nim"]
    assert "guided_decoding_backend" in which_engine.describe(["json"])
    assert "none of the five" in which_engine.describe(which_engine.NEEDS)


def test_an_unknown_need_is_refused():
    with pytest.raises(ValueError, match="no need 'beauty'"):
        which_engine.choose(["beauty"])


def test_the_table_links_every_entry_and_marks_what_is_asked():
    page = which_engine.table(["json"])
    assert page.count("<a href=") == len(which_engine.ENGINES) * len(which_engine.NEEDS)
    assert page.count("font-weight:bold") == 1 and "title='a model serves one request" in page


def test_the_widget_follows_its_boxes():
    box = which_engine.explore()
    grid, words, page = box.children
    tick = next(c for c in grid.children if c.description == which_engine.NEEDS["gguf"])
    assert words.value.startswith("With nothing asked")
    tick.value = True
    assert words.value.startswith("What remains: Ollama.") and "font-weight:bold" in page.value
