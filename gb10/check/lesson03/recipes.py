"""Checkers of lesson 03, notebook 3: the size of a checkpoint, who is beaten, and a mixed recipe that is measured."""
# ruff: noqa: BLE001 - whatever a learner's code raises becomes a verdict

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

from gb10.check.verdict import CORRECT, NOT_YET, Case, Mistake, Verdict, grade

# ---------------------------------------------------------------- exercise 6: the size of a checkpoint


def _bytes(shapes, kept, bits, *, scale=4, kept_bits=16, each=math.prod, stays=lambda n, kept: n in kept):
    total = 0
    for name, shape in shapes.items():
        if stays(name, kept):
            total += each(shape) * kept_bits // 8
        else:
            total += each(shape) * bits / 8 + scale
    return total


_SMALL = {"embed": (64, 32), "q": (32, 32), "k": (16, 32), "up": (96, 32), "norm": (32,)}
_SHAPES = (
    Case((_SMALL, ("embed", "norm"), 4.5), None, "NVFP4"),
    Case((_SMALL, ("embed", "norm"), 8), None, "FP8"),
    Case((_SMALL, ("embed", "q", "k", "norm"), 4.5), None, "attention stays"),
    Case((_SMALL, tuple(_SMALL), 4.5), None, "everything stays: the size in BF16"),
    Case(({"model.layers.1.up": (48, 16), "model.layers.11.up": (48, 16)}, ("model.layers.1.up",), 4.5), None,
         "the name of one is the beginning of neither"),
)
_SHAPE_MISTAKES = (
    Mistake(lambda s, k, b: _bytes(s, k, b, scale=0), "each quantized tensor has a scale of its own in FP32 beside it: 4 bytes more."),
    Mistake(lambda s, k, b: _bytes(s, k, 4), "the block scales count as well: use `bits`, not 4."),
    Mistake(lambda s, k, b: 8 * _bytes(s, k, b), "those are bits: eight of them make a byte."),
    Mistake(lambda s, k, b: _bytes(s, (), b), "you quantized everything: the tensors named in `kept` stay at 16 bits."),
    Mistake(lambda s, k, b: _bytes(s, k, b, stays=lambda n, kept: n not in kept), "the other way round: `kept` names those that stay in BF16."),
    Mistake(lambda s, k, b: _bytes(s, k, b, kept_bits=32), "BF16 has 16 bits, two bytes, for each number."),
    Mistake(lambda s, k, b: _bytes(s, k, b, each=lambda shape: shape[0]), "multiply all of the shape's numbers: a matrix has rows times columns."),
    Mistake(lambda s, k, b: _bytes(s, k, b, each=sum), "a matrix has rows *times* columns numbers."),
    Mistake(lambda s, k, b: _bytes(s, k, b) + 4 * len(set(k) & set(s)), "tensors that stay in BF16 have no scale: 4 bytes for the quantized ones only."),
)


def checkpoint_bytes(function: Callable) -> Verdict:
    """checkpoint_bytes(shapes, kept, bits) -> bytes: {name: shape}, the names that stay in BF16, bits of a quantized weight."""
    cases = [Case(c.args, _bytes(*c.args), c.name) for c in _SHAPES]
    return grade("checkpoint_bytes", function, cases, mistakes=_SHAPE_MISTAKES, rel=1e-9,
                 hint="go through shapes.items(); math.prod(shape) numbers, 2 bytes each if the name is in kept, else bits / 8 each and "
                      "4 bytes for the tensor scale; add them up.",
                 done="this is what a W4A16 checkpoint weighs, to the byte.")


# ---------------------------------------------------------------- exercise 7: who is beaten

def _pareto(points, *, size=lambda b, a: b <= a, lower=lambda b, a: b[3] < a[2]):
    return [a[0] for a in points if not any(b is not a and size(b[1], a[1]) and lower(b, a) for b in points)]


_POINTS = (
    Case(([("small", 45, 0.02, 0.04), ("middle", 60, 0.01, 0.019), ("large", 80, 0.00, 0.005)],), None, "each larger one is better"),
    Case(([("small", 45, 0.02, 0.04), ("waste", 60, 0.05, 0.07), ("large", 80, 0.00, 0.005)],), None, "larger, and worse"),
    Case(([("a", 45, 0.02, 0.04), ("b", 45, 0.03, 0.05)],), None, "the same size, intervals that overlap"),
    Case(([("a", 45, 0.02, 0.03), ("b", 45, 0.04, 0.05)],), None, "the same size, intervals apart"),
    Case(([("a", 45, 0.02, 0.04), ("b", 60, 0.015, 0.03), ("c", 70, 0.035, 0.05), ("d", 80, 0.000, 0.01)],), None,
         "overlaps, in a row"),
    Case(([("d", 80, 0.000, 0.01), ("c", 70, 0.045, 0.05), ("a", 45, 0.02, 0.04)],), None, "not sorted"),
    Case(([("wide", 45, 0.00, 0.06), ("narrow", 45, 0.02, 0.04)],), None, "one interval inside the other"),
    Case(([("small", 45, 0.02, 0.04), ("waste", 60, 0.05, 0.07)],), None, "the smaller one is the better one"),
    Case(([("alone", 45, 0.02, 0.04)],), None, "one point"),
)
_POINT_MISTAKES = (
    Mistake(lambda p: _pareto(p, lower=lambda b, a: b[2] + b[3] < a[2] + a[3]),
            "you compared the middles. Where the intervals overlap, nothing is shown: b beats a only if b's upper end lies below a's lower end."),
    Mistake(lambda p: _pareto(p, lower=lambda b, a: b[3] < a[3]), "compare b's upper end with a's *lower* end: the whole interval has to lie below."),
    Mistake(lambda p: _pareto(p, lower=lambda b, a: b[2] < a[2]), "compare b's *upper* end with a's lower end: the whole interval has to lie below."),
    Mistake(lambda p: _pareto(p, size=lambda b, a: b < a), "of two with the same size the better one wins, too: no larger is enough."),
    Mistake(lambda p: _pareto(p, size=lambda b, a: True), "a larger one doesn't beat a smaller one, however good it is: compare the bytes as well."),
    Mistake(lambda p: _pareto(p, size=lambda b, a: b >= a), "you let larger ones beat smaller ones: the one that beats has to be no larger."),
    Mistake(lambda p: [a[0] for a in p if a[0] not in _pareto(p)], "those are the ones that are beaten; asked are the others."),
    Mistake(lambda p: sorted(_pareto(p)), "right, but not in the order of `points`."),
    Mistake(lambda p: [a for a in p if a[0] in _pareto(p)], "return the names only, not whole points."),
)


def pareto(function: Callable) -> Verdict:
    """pareto(points) -> names that nobody beats; a point is (name, bytes, low, high)."""
    cases = [Case(c.args, _pareto(*c.args), c.name) for c in _POINTS]
    return grade("pareto", function, cases, mistakes=_POINT_MISTAKES,
                 hint="for each point look whether any other is no larger and has its upper end below this one's lower end; keep the name if "
                      "there is none.",
                 done="what is left is not the best: it is what this much text can't rule out.")


# ---------------------------------------------------------------- exercise 8: a mixed recipe, measured

TOKENS = 8192                        # that decide, from a place of the held-out text that the notebook doesn't use
FIRST = 16384
CALIBRATION = 1024
DEFAULT = "spark"                    # FP8 in attention, NVFP4 weights in the MLPs; without its KV cache
NAME = "my_recipe"


def default_choice(groups: Mapping) -> dict[str, str]:
    """The recipe to beat, group by group."""
    return {name: "fp8" if name.endswith((".qkv", ".o")) else "w4a16" for name in groups}


def budget(groups: Mapping) -> int:
    """Bytes of the linear layers that it takes."""
    from gb10.quantize import mixing

    return mixing.bytes_of(groups, default_choice(groups))


def my_recipe(function: Callable, layers: Sequence) -> Verdict:
    """my_recipe(layers, budget) -> {group: format}; measured on pico against the default of the same size, some ten seconds.

    layers: what the notebook measured of each group (name, weights, bytes, harm); handed to the function as it is.
    """
    from gb10.quantize import mixing

    choice = _asked(function, layers)
    if isinstance(choice, Verdict):
        return choice
    takes, most = mixing.bytes_of(_pico().groups, choice), budget(_pico().groups)
    rows = (("linear layers", f"{takes:,} bytes of {most:,}"),)
    if takes > most:
        return Verdict(NAME, NOT_YET, rows, f"over the budget by {takes - most:,} bytes: raise fewer groups. What each takes stands in "
                                            f"layer.bytes[format].")
    return judge(*_pico().measure(choice), rows)


def judge(kl, loss, mine: float, theirs: float, rows: tuple = ()) -> Verdict:
    """The rule, fixed beforehand: better if the whole interval of the KL difference (mine - theirs) lies below 0, and the loss is not
    shown to be higher. kl, loss: intervals of the differences; mine, theirs: both KLs, in nats per token."""
    shown = "no difference shown" if loss.covers(0) else "lower, shown" if loss.high < 0 else "higher, shown"
    rows += (("KL, default and yours", f"{theirs:.5f} and {mine:.5f} nats per token"), ("KL, yours - default", str(kl)),
             ("loss, yours - default", f"{loss}: {shown}"))
    if kl.high < 0 and loss.low <= 0:
        return Verdict(NAME, CORRECT, (*rows, ("so", f"better by {-kl.value:.5f} nats of KL ({-kl.high:.5f} to {-kl.low:.5f}), in as many bytes.")))
    if kl.covers(0) and kl.low == kl.high:
        return Verdict(NAME, NOT_YET, rows, "that computes the same as the default: raise other groups.")
    if kl.low > 0 and loss.high < 0:
        hint = ("the loss fell, and yet the model moved further from the original: rounding can be lucky on one kind of text. "
                "KL decides here; look for groups with much harm for each byte.")
    elif kl.low > 0:
        hint = "shown to be worse than the default. Look at harm for each *byte*, not at the number or the place of a layer."
    elif kl.covers(0):
        hint = "not shown to be better. Rank the groups by harm for each byte that they would cost more, and raise them from the top."
    else:
        hint = "closer to the original, but its loss is shown to be higher on this text: another choice of about the same KL will do."
    return Verdict(NAME, NOT_YET, rows, hint)


def _asked(function, layers) -> dict[str, str] | Verdict:
    """The choice that the function answers, every group in it; or the verdict on what is no answer."""
    if not callable(function):
        return grade(NAME, function, (), hint="")
    groups = _pico().groups
    try:
        got = function(list(layers), budget(groups))
    except NotImplementedError:
        got = None
    except (Exception, SystemExit) as e:
        return Verdict(NAME, NOT_YET, (("your code raised", f"{type(e).__name__}: {e}"[:120]),),
                       "my_recipe(layers, budget) gets a list of layers, each with name, weights, harm and bytes, and a number of bytes.")
    if got is None:
        return grade(NAME, None, (), hint="")
    if not isinstance(got, Mapping):
        return Verdict(NAME, NOT_YET, (("gave", f"a {type(got).__name__}"),),
                       'return a dictionary such as {"5.qkv": "fp8"}; groups that you don\'t name become w4a16.')
    from gb10.errors import UserError
    from gb10.quantize import mixing

    try:
        return mixing.complete(groups, got)
    except (UserError, TypeError) as e:
        return Verdict(NAME, NOT_YET, (("gave", f"a dictionary of {len(got)}"),), str(e))


class _Pico:
    """pico, what to calibrate with and what to judge on, loaded once."""

    def __init__(self):
        from transformers import AutoTokenizer

        from gb10 import paths, quantize
        from gb10.quantize import mixing

        self.paths = paths
        tokenizer = AutoTokenizer.from_pretrained(paths.PICO)
        self.batches = quantize.calibration_batches(tokenizer, self._read("calibration.txt"), tokens=CALIBRATION)
        self.ids = tokenizer(self._read("heldout.txt"), verbose=False)["input_ids"][FIRST:FIRST + TOKENS + 1]
        self.original = self._load()
        self.groups = mixing.groups(self.original)
        self.known: dict = {}

    def _read(self, name: str) -> str:
        return (self.paths.PICO.parent / name).read_text(encoding="utf-8").replace("<|endoftext|>", "")

    def _load(self):
        import torch
        from transformers import AutoModelForCausalLM

        # the weights are BF16 numbers; arithmetic in FP32 leaves BF16's own rounding out of the comparison
        return AutoModelForCausalLM.from_pretrained(self.paths.PICO, dtype=torch.float32).eval()

    def made(self, choice: dict[str, str]):
        from gb10 import quantize
        from gb10.quantize import mixing

        if set(choice.values()) == {mixing.BF16}:
            return self._load()
        return quantize.quantize(self._load(), self.batches, config=mixing.config(self.groups, choice))

    def measure(self, choice: dict[str, str]):
        """(KL difference, loss difference, KL of the choice, KL of the default), candidate minus default."""
        from gb10 import quantize

        key = tuple(choice.values())
        if key not in self.known:
            both = quantize.compare_many(self.original, {"default": lambda: self.made(default_choice(self.groups)),
                                                         "yours": lambda: self.made(choice)}, self.ids)
            difference = both["yours"].against(both["default"])
            self.known[key] = difference.kl, difference.loss, both["yours"].kl.value, both["default"].kl.value
        return self.known[key]


@functools.cache
def _pico() -> _Pico:
    return _Pico()
