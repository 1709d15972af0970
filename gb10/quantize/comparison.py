"""What `compare` found: sums per window, the figures with their intervals, and verdicts in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gb10.errors import UserError
from gb10.quantize.bootstrap import FEW, Interval, decimals, ratio_interval
from gb10.quantize.heldout import Loss


@dataclass(frozen=True, eq=False)
class Comparison:
    """A candidate against the reference, window by window; arrays float64 [windows] hold sums over a window's tokens."""

    name: str
    tokens: np.ndarray
    reference_nll: np.ndarray       # nats
    candidate_nll: np.ndarray       # nats
    divergence: np.ndarray          # KL(reference || candidate), nats
    agreed: np.ndarray              # tokens whose most probable token is the same
    text: str                       # tells one text, cut into windows, from another
    n_bytes: int | None = None
    seed: int = 0
    draws: int = 2000
    level: float = 0.95

    @property
    def losses(self) -> tuple[Loss, Loss]:
        """Of reference and candidate."""
        total, n = (self.reference_nll.sum(), self.candidate_nll.sum()), int(self.tokens.sum())
        return tuple(Loss(float(x / n), float(x / math.log(2) / self.n_bytes) if self.n_bytes else None, n)
                     for x in total)

    @property
    def perplexity(self) -> tuple[float, float]:
        """Of reference and candidate."""
        return tuple(x.perplexity for x in self.losses)

    @cached_property
    def loss_difference(self) -> Interval:
        """Nats per token that the candidate loses; below 0 it predicts the text better than the reference."""
        return self._interval(self.candidate_nll - self.reference_nll)

    @property
    def perplexity_ratio(self) -> Interval:
        return self.loss_difference.map(math.exp)

    @cached_property
    def kl(self) -> Interval:
        """Mean KL(reference || candidate), nats per token."""
        return self._interval(self.divergence, (0.0, math.inf))

    @cached_property
    def top1(self) -> Interval:
        """Share of tokens for which both models find the same token most probable, 0 to 1."""
        found = self._interval(self.agreed, (0.0, 1.0))
        if found.value in (0.0, 1.0) and len(self.tokens) > 1:
            # nothing varies: the "rule of three", the share that N tokens would show with probability 1 - level
            rare = min(1.0, -math.log(1 - self.level) / self.tokens.sum())
            return Interval(found.value and 1 - rare, found.value, found.value or rare, self.level)
        return found

    @property
    def verdict(self) -> str:
        """One sentence on the loss. "No difference shown" where 0 lies in the interval; it never says "equal"."""
        d = self.loss_difference
        if len(self.tokens) < 2:
            return (f"no difference shown: one window of text gives no interval ({d.value:+.4f} nats per token there; "
                    f"{FEW} windows or more are needed)")
        if d.covers(0):
            return (f"no difference shown: {_ends(d)} nats per token, perplexity x {_ends(self.perplexity_ratio)}"
                    + self._few())
        change = d if d.value > 0 else _negative(d)
        return (f"{self.name} {'loses' if d.value > 0 else 'gains'} {_amount(change)}, "
                f"perplexity x {self.perplexity_ratio}" + self._few())

    def against(self, other: Comparison) -> Difference:
        """This candidate against another one, paired on the same windows of the same text, with the same reference."""
        if self.text != other.text or not np.allclose(self.reference_nll, other.reference_nll, rtol=1e-3):
            raise UserError(f"{self.name} and {other.name} were not compared with the same reference on the same "
                            f"windows of text: compare both in one call of compare_many.")
        mine = [(self.candidate_nll, other.candidate_nll, math.inf), (self.divergence, other.divergence, math.inf),
                (self.agreed, other.agreed, 1.0)]
        return Difference(self.name, other.name, *(self._interval(a - b, (-m, m)) for a, b, m in mine),
                          few=self._few())

    def tokens_to_show(self, nats: float) -> int:
        """About how many tokens bring the loss difference's interval down to +-nats (it narrows with their root).

        A true difference of that size is then shown every second time; twice as many tokens show it in 4 of 5 cases.
        """
        return math.ceil(self.tokens.sum() * (self.loss_difference.half_width / nats) ** 2)

    def __str__(self) -> str:
        before, after = self.losses
        ratio, share = self.perplexity_ratio, self.top1
        per_byte = "" if before.bits_per_byte is None else (
            f"  bits per byte  {before.bits_per_byte:.4f} -> {after.bits_per_byte:.4f}\n")
        return (f"{self.name} against the reference, {before.tokens:,} tokens in {len(self.tokens):,} windows, "
                f"intervals at {self.level:.0%}\n"
                f"  perplexity     {before.perplexity:.3f} -> {after.perplexity:.3f}, x {ratio}\n"
                f"{per_byte}"
                f"  loss           {before.nats_per_token:.4f} -> {after.nats_per_token:.4f} nats per token, "
                f"difference {self.loss_difference}\n"
                f"  KL             {self.kl} nats per token\n"
                f"  top-1 the same {share.value:.2%} ({share.low:.2%} to {share.high:.2%})\n"
                f"{self.verdict}")

    def _interval(self, sums, within=(-math.inf, math.inf)) -> Interval:
        return ratio_interval(sums, self.tokens, seed=self.seed, draws=self.draws, level=self.level, within=within)

    def _few(self) -> str:
        n = len(self.tokens)
        return "" if n >= FEW else f"; only {n} windows: don't rely on the interval, {FEW} or more are needed"


@dataclass(frozen=True)
class Difference:
    """Candidate a minus candidate b, each measured against the same reference."""

    a: str
    b: str
    loss: Interval          # nats per token; below 0: a predicts the text better
    kl: Interval            # nats per token; below 0: a is closer to the reference
    top1: Interval          # of the share that agrees with the reference; above 0: a is closer
    few: str = ""           # the warning about few windows, if any

    @property
    def verdict(self) -> str:
        if self.loss.covers(0):
            loss = f"no difference in loss shown between {self.a} and {self.b}: {_ends(self.loss)} nats per token"
        else:
            better, worse, by = _ranked(self.a, self.b, self.loss)
            loss = f"{better} loses {_amount(by, ' less than ' + worse)}"
        if self.kl.covers(0):
            return f"{loss}; no difference in KL shown: {_ends(self.kl)}{self.few}"
        closer, _, by = _ranked(self.a, self.b, self.kl)
        return f"{loss}; {closer} is closer to the reference, its KL lower by {by}{self.few}"

    __str__ = verdict.fget


def _ranked(a: str, b: str, interval: Interval) -> tuple[str, str, Interval]:
    """(lower one, higher one, by how much)."""
    return (a, b, _negative(interval)) if interval.value < 0 else (b, a, interval)


def _negative(i: Interval) -> Interval:
    return Interval(-i.high, -i.value, -i.low, i.level)


def _amount(i: Interval, more: str = "") -> str:
    d = decimals(i)
    return f"{i.value:.{d}f} nats per token{more} ({_ends(i)})"


def _ends(i: Interval) -> str:
    d = decimals(i)
    return f"{i.low:.{d}f} to {i.high:.{d}f}"
