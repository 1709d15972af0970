"""Who is beaten, by size and by interval, against a plain search over all pairs; what the picture draws."""

import random

import pytest
from test_explore import ink

from gb10.explore import pareto
from gb10.explore.pareto import Point


def point(name, size, value, wide=0.005):
    return Point(name, size, value - wide, value, value + wide)


TABLE = [point("BF16", 11_500_000, 0.0, 0.0), point("small", 4_700_000, 0.025), point("same size, worse", 4_700_000, 0.045),
         point("same size, unclear", 4_700_000, 0.028), point("larger, worse", 6_000_000, 0.05), point("middle", 6_400_000, 0.010),
         point("middle, unclear", 6_800_000, 0.009)]


def test_beaten_means_no_larger_and_shown_to_lose_less():
    assert pareto.beaten(TABLE) == {"same size, worse": "small", "larger, worse": "small"}
    assert [p.name for p in pareto.frontier(TABLE)] == ["small", "same size, unclear", "middle", "middle, unclear", "BF16"]


def test_a_line_joins_only_what_is_shown():
    named = [(a.name, b.name) for a, b in pareto.steps(TABLE)]
    assert ("small", "middle") in named and ("middle", "middle, unclear") not in named and ("middle", "BF16") in named
    assert all(pareto.apart(b, a) and b.bytes > a.bytes for a, b in pareto.steps(TABLE))


def test_against_all_pairs_and_in_any_order():
    rng = random.Random(0)
    for _ in range(200):
        points = [point(str(i), rng.choice((4, 5, 6, 8)), rng.random() * 0.1, rng.random() * 0.02) for i in range(9)]
        expected = {p.name for p in points if any(r.bytes <= p.bytes and r.high < p.low for r in points)}
        assert set(pareto.beaten(points)) == expected
        assert {p.name for p in pareto.frontier(points)} == {p.name for p in points} - expected
        rng.shuffle(points)
        assert set(pareto.beaten(points)) == expected
        for loser, winner in pareto.beaten(points).items():
            assert winner not in pareto.beaten(points) or loser != winner


def test_a_few_bytes_of_scales_are_no_other_size():
    pair = [point("a", 4_612_096, 0.09), point("b", 4_612_432, 0.03)]
    assert pareto.beaten(pair) == {"a": "b"} and pareto.steps(pair) == []
    assert pareto.beaten([pair[0], point("b", 4_622_000, 0.03)]) == {}


def test_of_several_that_beat_it_the_best_is_named():
    assert pareto.beaten([point("a", 4, 0.03), point("b", 5, 0.01), point("c", 5, 0.09)]) == {"c": "b"}


def test_another_judge_can_be_given():
    """Paired measurements tell apart what two intervals can't."""
    pair = [point("a", 5, 0.020, 0.01), point("b", 5, 0.025, 0.01)]
    assert pareto.beaten(pair) == {} and pareto.beaten(pair, lambda x, y: x.value < y.value) == {"b": "a"}


@pytest.mark.parametrize("points", [TABLE, TABLE[:1], [point("a", 5, 0.01), point("b", 5, 0.01)]])
def test_the_picture_has_ink_and_words(points):
    picture = pareto.show(points)
    assert ink(picture.png) > 0.005 and points[0].name in picture.alt and "Not beaten" in picture.alt


def test_the_picture_draws_every_point_and_greys_the_beaten():
    from gb10.explore import figure

    ax, names = pareto.draw(TABLE).axes
    texts = {t.get_text().split("  ")[1]: t.get_color() for t in names.texts}
    assert set(texts) == {p.name for p in TABLE} and len(ax.texts) == len(TABLE)
    assert {n for n, colour in texts.items() if colour == figure.GREY} == set(pareto.beaten(TABLE))
