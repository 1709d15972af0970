"""The layer picker: sizes and predictions over every choice, its widget, and the pictures of sensitivity."""

import random
from types import SimpleNamespace

import pytest
from test_explore import ink

from gb10.explore import layers_that_hurt as hurt
from gb10.quantize import mixing

KINDS = {"qkv": 131072, "o": 65536, "gate_up": 393216, "down": 196608}
GROUPS = {f"{n}.{k}": mixing.Group(f"{n}.{k}", tuple(f"model.layers.{n}.{p}" for p in mixing.FUSED[k]), w,
                                   {f: round(w * b / 8) + len(mixing.FUSED[k]) * s for f, (b, s) in mixing.BITS.items()})
          for n in range(6) for k, w in KINDS.items()}
RNG = random.Random(0)


def effect(name):
    harm = RNG.random() / 200
    return hurt.Effect(name, GROUPS[name].weights, GROUPS[name].bytes, harm * 0.9, harm, harm * 1.1)


FOUND = [effect(name) for name in GROUPS]
ALL4 = sum(g.bytes["w4a16"] for g in GROUPS.values())


def test_from_sensitivities():
    kl = SimpleNamespace(low=0.001, value=0.002, high=0.003)
    made = hurt.effects(GROUPS, [SimpleNamespace(group="5.qkv", only=SimpleNamespace(kl=kl))])
    assert made == [hurt.Effect("5.qkv", 131072, GROUPS["5.qkv"].bytes, 0.001, 0.002, 0.003)]
    assert made[0].per_byte == 0.002 / (131072 * 3.5 / 8 + 3 * 4)
    assert hurt.quantizers(GROUPS)["0.gate_up"] == [f"model.layers.0.mlp.{p}_proj.weight_quantizer" for p in ("gate", "up")]


@pytest.mark.parametrize("fmt", ["fp8", "bf16"])
def test_every_single_group_and_random_sets(fmt):
    choices = [[name] for name in GROUPS] + [random.Random(i).sample(list(GROUPS), i) for i in range(25)]
    for raised in choices:
        pick = hurt.compute(FOUND, raised, ALL4, fmt, residue=0.25)
        assert pick.bytes == mixing.bytes_of(GROUPS, dict.fromkeys(raised, fmt)) and pick.left == ALL4 - pick.bytes
        rest = sum(e.harm for e in FOUND if e.name not in raised)
        kept = 0.25 * sum(e.harm for e in FOUND if e.name in raised) if fmt == "fp8" else 0
        assert pick.predicted == pytest.approx(rest + kept) and set(pick.raised) == set(raised)


def test_an_unknown_group():
    with pytest.raises(ValueError, match=r"no group '6\.qkv'"):
        hurt.compute(FOUND, ["6.qkv"], ALL4)


def test_words():
    pick = hurt.compute(FOUND, ["0.o"], ALL4)
    assert "bytes over the budget" in hurt.words(pick) and "measured" not in hurt.words(pick)
    assert "measured 12.50" in hurt.words(pick, 0.0125) and "0 bytes left" in hurt.words(hurt.compute(FOUND, [], ALL4))


def hooked(widget, hook):
    found, todo = [], [widget]
    while todo:
        w = todo.pop()
        found += [w] if f"gb10-layers-{hook}" in getattr(w, "_dom_classes", ()) else []
        todo += getattr(w, "children", ())
    return found[0]


def test_the_widget_adds_up_and_measures_once():
    asked = []
    widget = hurt.explore(FOUND, ALL4 + 10**6, lambda choice: asked.append(choice) or 0.0042, residue=0.16)
    boxes = {b.description: b for row in widget.children[1].children for b in row.children}
    words, button, fmt = (hooked(widget, hook) for hook in ("words", "measure", "format"))
    assert set(boxes) == set(GROUPS) and "0 groups raised" in words.value
    boxes["5.qkv"].value = True
    assert hurt.words(hurt.compute(FOUND, ["5.qkv"], ALL4 + 10**6, "fp8", 0.16)) in words.value
    button.click()
    button.click()
    assert asked == [{"5.qkv": "fp8"}] and "measured 4.20" in words.value and not button.disabled
    fmt.value = "bf16"
    assert "measured" not in words.value
    button.click()
    assert asked[-1] == {"5.qkv": "bf16"}
    boxes["5.qkv"].value = False
    assert "0 groups raised" in words.value


def test_a_measurement_that_fails_leaves_the_button_usable():
    def broken(choice):
        raise RuntimeError("no memory")

    widget = hurt.explore(FOUND, ALL4, broken)
    button = hooked(widget, "measure")
    button.click()                                               # ipywidgets logs the exception
    assert not button.disabled and button.description == "measure"


def test_pictures():
    picture = hurt.show(FOUND)
    worst = max(FOUND, key=lambda e: e.harm).name
    assert ink(picture.png) > 0.02 and f"{worst} hurts most" in picture.alt
    bars = hurt.draw_bars(FOUND).axes[0]
    assert next(t.get_text() for t in bars.get_xticklabels()) == worst and len(bars.patches) == 12
    errors = [SimpleNamespace(error=0.1 * i, alone=0.05) for i in range(6)]
    assert len(hurt.draw_errors(errors).axes[0].patches) == 12
