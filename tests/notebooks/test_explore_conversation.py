"""What a conversation costs in prefill: over the range of the widget, its words, its picture, its controls."""

import itertools

import pytest

from gb10.engines.gauges import Gauges
from gb10.explore import conversation

PER_WORD, MS, START = 1.5, 0.25, 30.0


@pytest.mark.parametrize(("turns", "question", "answer", "system", "cached"), list(itertools.product(
    (1, 2, 10, 40), (5, 300), (5, 600), (0, 3000), (False, True))))
def test_over_the_range(turns, question, answer, system, cached):
    found = conversation.compute(turns, question, answer, system, cached, tokens_per_word=PER_WORD, ms_per_token=MS, start_ms=START)
    q, a, s = (round(PER_WORD * n) for n in (question, answer, system))
    assert [t.number for t in found] == list(range(1, turns + 1))
    assert [t.prompt for t in found] == [s + q + i * (q + a) for i in range(turns)]
    assert all(t.computed == (t.new if cached else t.prompt) for t in found)
    assert all(t.ttft_ms == START + MS * t.computed for t in found)
    text = conversation.describe(found, cached)
    assert f"{sum(t.prompt for t in found):,} prompt tokens are sent" in text and f"{sum(t.computed for t in found):,} computed" in text
    assert ("cache on" in text) == cached and f"{found[-1].ttft_ms:,.0f} ms" in text


def test_without_a_cache_the_sum_is_quadratic_with_one_it_is_linear():
    def total(n, cached):
        return conversation.prefill_of([(20, 150)] * n, 0, cached)

    assert total(20, True) == 2 * total(10, True)
    assert 3.8 < total(40, False) / total(20, False) < 4.2
    assert conversation.prefill_of([], 500, False) == 0


def test_the_first_turn_costs_the_same_either_way():
    assert conversation.prefill_of([(9, 99)], 50, True) == conversation.prefill_of([(9, 99)], 50, False) == 59


@pytest.mark.parametrize(("usage", "change", "known"), [
    ({"prompt_tokens_details": {"cached_tokens": 32}}, Gauges(hits=128.0), 32), ({"prompt_tokens_details": None}, Gauges(hits=128.0), 128.0),
    ({"prompt_tokens_details": {"cached_tokens": 0}}, Gauges(hits=128.0), 0), ({}, None, None), (None, Gauges(), None),
    ({"prompt_tokens_details": {"cached_tokens": None}}, Gauges(hits=5.0), 5.0)])
def test_where_the_cache_is_told(usage, change, known):
    assert conversation.found_in_cache(usage, change) == known


def test_without_a_measured_rate_no_time_is_told():
    found = conversation.compute(3, 20, 100, 50, False, tokens_per_word=1.0, ms_per_token=0.0)
    assert "ms" not in conversation.describe(found, False)
    assert conversation.draw(found, False).axes


def test_the_widget():
    box = conversation.explore(PER_WORD, MS, START)
    by_class = {c._dom_classes[0].removeprefix("gb10-conversation-"): c for c in box.children}
    assert set(by_class) == {"turns", "question", "answer", "system", "cached", "image", "words"}
    before, picture = by_class["words"].value, by_class["image"].value
    by_class["cached"].value = True
    assert by_class["words"].value != before and by_class["image"].value != picture and "prefix cache on" in by_class["words"].value
    by_class["turns"].value = 1
    assert "1 turn," in by_class["words"].value
    values = {n: by_class[n].value for n in ("turns", "question", "answer", "system", "cached")}
    found = conversation.compute(**values, tokens_per_word=PER_WORD, ms_per_token=MS, start_ms=START)
    assert conversation.describe(found, True) == by_class["words"].value
    assert by_class["words"].value in by_class["image"].value
    for name, low, high in (("turns", 1, 40), ("question", 5, 300), ("answer", 5, 600), ("system", 0, 3000)):
        for value in (low, high):
            by_class[name].value = value
            assert "alt=" in by_class["image"].value
