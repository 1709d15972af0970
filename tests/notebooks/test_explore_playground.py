"""The playground of lesson 5 and its figure of expected and seen draws: what they compute, over the range of their controls."""

import itertools

import numpy as np
import pytest

from gb10 import sampling
from gb10.explore import expected_seen, playground

TOKENS = [f"t{i}" for i in range(40)]
LOGITS = np.random.default_rng(3).normal(0, 2, 40)


@pytest.mark.parametrize("order", sampling.ORDERS)
def test_over_the_range(order):
    for t, k, p, m, r, said in itertools.product((0, 0.1, 1, 3), (0, 1, 40), (0.05, 0.7, 1), (0, 0.5), (0.5, 2), (0, 5)):
        settings = sampling.Settings(t, k, p, m, r, 2.0, -2.0)
        s = playground.compute(LOGITS, TOKENS, settings, order, said)
        assert len(s.bars) == playground.SHOWN
        assert s.steps[-1].probs.sum() == pytest.approx(1)
        assert 1 <= s.survivors <= 40
        assert all((b.after == 0) == bool(b.cut_by) for b in s.bars)
        assert f"{s.survivors} token" in playground.describe(s)


def test_a_bar_says_which_step_cut_it():
    s = playground.compute(np.log([0.5, 0.3, 0.15, 0.05]), list("abcd"), sampling.Settings(top_k=3, top_p=0.6))
    assert [(b.token, b.cut_by) for b in s.bars] == [("a", ""), ("b", ""), ("c", "top_p"), ("d", "top_k")]
    assert [round(b.after, 3) for b in s.bars] == [0.625, 0.375, 0, 0]
    assert "Top_k cuts off 5.0%, then top_p cuts off 15.8%. 2 tokens can come" in playground.describe(s)


def test_the_order_shows():
    hot = sampling.Settings(temperature=2.0, top_p=0.6)
    first, last = (playground.compute(LOGITS, TOKENS, hot, order).survivors for order in ("vllm", "llamacpp"))
    assert first > last


def test_what_was_said_is_punished():
    said = playground.compute(LOGITS, TOKENS, sampling.Settings(presence_penalty=2.0), said=1)
    assert said.bars[0].after < said.bars[0].before
    never = playground.compute(LOGITS, TOKENS, sampling.Settings(presence_penalty=2.0), said=0)
    assert never.bars[0].after == pytest.approx(never.bars[0].before)


@pytest.mark.parametrize("token", [" a b", "\n", "$x$", "", "a" * 40, "\ufffd"])
def test_any_token_can_be_drawn(token):
    s = playground.compute([1.0, 0.0], [token, "b"], sampling.Settings(temperature=0.0))
    from gb10.explore import figure

    assert len(figure.png(playground.draw(s))) > 1000


def test_the_widget_follows_its_controls():
    box = playground.explore(LOGITS, TOKENS)
    order, *sliders, said, image, words = box.children
    before = image.value
    next(s for s in sliders if s.description == "top_k").value = 1
    assert "1 token can come; entropy" in words.value
    assert image.value != before
    order.value = "ollama"
    assert words.value.startswith("Ollama applies")
    said.value = 5
    next(s for s in sliders if s.description == "temperature").value = 0
    assert "greedy" not in words.value or "Ollama applies greedy" in words.value


def test_expected_and_seen():
    rows = expected_seen.compute({"a": 60, "b": 39, "z": 1}, {"a": 0.5, "b": 0.5})
    assert [(r.text, r.expected, r.seen) for r in rows] == [("a", 50, 60), ("b", 50, 39), ("z", 0, 1)]
    assert rows[0].spread == pytest.approx(10)
    picture = expected_seen.show({"a": 60, "b": 39, "z": 1}, {"a": 0.5, "b": 0.5})
    assert "'a', was expected 50 times and seen 60 times; 2 tokens lie more than" in picture.alt
