"""Two models side by side: the figures by direct computation, the verdicts, the refusals."""

import contextlib
import copy
import math

import numpy as np
import pytest
import torch

from gb10 import quantize
from gb10.errors import UserError, WorkFailed
from gb10.quantize import heldout, logits
from gb10.quantize.comparing import compare, compare_many
from gb10.quantize.comparison import Comparison

IDS = torch.randint(0, 256, (330,), generator=torch.Generator().manual_seed(4))


def shaken(model, size, seed=0):
    """A copy whose linear weights are off by normal noise of relative size."""
    model, g = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in model.model.layers.modules():
            if isinstance(m, torch.nn.Linear):
                m.weight += size * m.weight.float().std() * torch.randn(m.weight.shape, generator=g)
    return model


@pytest.fixture(scope="module")
def found(tiny, quantized):
    return compare(tiny, quantized, IDS, window=16, n_bytes=500, name="NVFP4")


@torch.no_grad()
def test_figures_by_direct_computation_in_double(tiny, quantized, found):
    nll, kl, agree, tokens = np.zeros((2, 21)), np.zeros(21), np.zeros(21), []
    for i, start in enumerate(range(0, 329, 16)):
        rows = IDS[start:start + 17]
        ours, theirs = (m(input_ids=rows[None, :-1]).logits[0].double() for m in (quantized, tiny))
        p, q = theirs.log_softmax(-1), ours.log_softmax(-1)
        kl[i] = (p.exp() * (p - q)).sum()
        agree[i] = (ours.argmax(-1) == theirs.argmax(-1)).sum()
        nll[:, i] = [-x[torch.arange(len(rows) - 1), rows[1:]].sum() for x in (p, q)]
        tokens.append(len(rows) - 1)
    assert found.tokens.tolist() == tokens == [16] * 20 + [9]
    # a batch multiplies in another order than one window by itself: last bits of BF16 differ
    assert found.reference_nll == pytest.approx(nll[0], rel=2e-4)
    assert found.candidate_nll == pytest.approx(nll[1], rel=2e-3)
    assert found.kl.value == pytest.approx(kl.sum() / 329, rel=0.05)
    assert found.top1.value == pytest.approx(agree.sum() / 329, abs=3 / 329)
    assert found.loss_difference.value == pytest.approx((nll[1] - nll[0]).sum() / 329, abs=1e-3)
    assert found.losses[0].bits_per_byte == pytest.approx(nll[0].sum() / math.log(2) / 500, rel=2e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", [1e-4, 0.02, 0.5])
def test_kl_in_float32_is_that_of_double(tiny, size):
    a = copy.deepcopy(tiny).float()
    a.model.embed_tokens.weight *= 40                        # confident: probabilities from 1e-20 to 1
    b = shaken(a, size)
    p, q = (m(input_ids=IDS[None, :100]).logits[0].double().log_softmax(-1) for m in (a, b))
    got = compare(a, b, IDS[:101], window=100)
    assert got.divergence[0] == pytest.approx((p.exp() * (p - q)).sum().item(), rel=1e-3, abs=1e-5)
    assert got.divergence[0] > -1e-6


def test_loss_is_that_of_loss(tiny, quantized, found):
    for model, got in zip((tiny, quantized), found.losses, strict=True):
        assert got == pytest.approx(quantize.loss(model, IDS, window=16, n_bytes=500))


def test_a_copy_shows_no_difference(tiny):
    got = compare(tiny, copy.deepcopy(tiny), IDS, window=16)
    assert got.verdict.startswith("no difference shown: 0.0000 to 0.0000 nats per token")
    assert got.kl.high == 0 and got.top1.value == got.top1.high == 1
    assert got.top1.low == pytest.approx(1 - 3 / 329, abs=1e-4)      # the rule of three, not certainty


def test_damage_is_shown_and_noise_is_not(tiny):
    # text that the model itself finds likely: damage can only make it less so
    with torch.no_grad():
        model = copy.deepcopy(tiny).float()
        model.model.embed_tokens.weight *= 4
        ids = _own_text(model, 320)
    hurt = compare(model, shaken(model, 0.5), ids, window=16, name="hurt")
    assert hurt.loss_difference.low > 0 and hurt.verdict.startswith("hurt loses ")
    better = compare(shaken(model, 0.5), model, ids, window=16, name="original")
    assert better.verdict.startswith("original gains ")
    assert better.loss_difference.value == pytest.approx(-hurt.loss_difference.value)
    noise = compare(model, shaken(model, 1e-3), ids, window=16)
    assert noise.loss_difference.covers(0) and "no difference shown" in noise.verdict
    assert noise.kl.low > 0                                  # KL sees what the loss doesn't


def _own_text(model, n):
    g, ids = torch.Generator().manual_seed(1), [0]
    for i in range(n):
        start = i // 16 * 16
        p = model(input_ids=torch.tensor([ids[start:]])).logits[0, -1].softmax(-1)
        ids.append(torch.multinomial(p, 1, generator=g).item())
    return torch.tensor(ids)


def fake(name, nll, kl=None, agreed=None, tokens=100.0, text="t", reference=None):
    nll = np.asarray(nll, float)
    n = len(nll)
    return Comparison(name, np.full(n, tokens), np.full(n, 300.0) if reference is None else reference, 300.0 + nll,
                      np.full(n, 1.0) if kl is None else np.asarray(kl), np.full(n, 90.0) if agreed is None else agreed,
                      text=text)


def test_words():
    rng = np.random.default_rng(0)
    x = 1.2 + rng.normal(0, 0.3, 20)
    low, value, high = (getattr(fake("A", x).loss_difference, end) for end in ("low", "value", "high"))
    assert low < 0.012 < high and value == pytest.approx(x.sum() / 2000)
    assert fake("A", x).verdict == (
        f"A loses {value:.4f} nats per token ({low:.4f} to {high:.4f}), "
        f"perplexity x {math.exp(value):.4f} ({math.exp(low):.4f} to {math.exp(high):.4f})")
    assert f"A gains {value:.4f} nats per token ({low:.4f} to {high:.4f}), perplexity x 0.98" in fake("A", -x).verdict
    assert fake("A", x - 1.2).verdict.startswith(f"no difference shown: {low - 0.012:.4f} to {high - 0.012:.4f} nats per token")
    assert "only" not in fake("A", x).verdict
    assert "only 9 windows" in fake("A", x[:9]).verdict and "only 9" in fake("A", 0 * x[:9]).verdict
    one = fake("A", x[:1])
    assert one.verdict.startswith("no difference shown: one window")
    for c in (fake("A", x), fake("A", x - 1.2), one):
        assert "equal" not in str(c) and "nan" not in str(c)


def test_tokens_to_show():
    c = fake("A", np.random.default_rng(0).normal(0, 1, 40))
    half = c.loss_difference.half_width
    assert c.tokens_to_show(half) == pytest.approx(4000, abs=1)
    assert c.tokens_to_show(half / 2) == pytest.approx(16000, abs=1)


def test_against_is_paired():
    rng = np.random.default_rng(1)
    shared = rng.normal(3, 2, 30)
    kl = rng.lognormal(0, 0.5, 30)
    a = fake("A", shared, kl)
    b = fake("B", shared + 0.3 + rng.normal(0, 0.1, 30), kl + 0.2 + rng.normal(0, 0.01, 30))
    assert a.loss_difference.high > b.loss_difference.low            # seen one by one they overlap
    d = a.against(b)
    assert d.loss.high < 0 and d.loss.value == pytest.approx((a.candidate_nll - b.candidate_nll).sum() / 3000)
    assert d.verdict == (
        f"A loses {-d.loss.value:.5f} nats per token less than B ({-d.loss.high:.5f} to {-d.loss.low:.5f}); "
        f"A is closer to the reference, its KL lower by {-d.kl.value:.6f} ({-d.kl.high:.6f} to {-d.kl.low:.6f})")
    assert b.against(a).verdict == d.verdict == str(d)               # the same finding from either side
    none = a.against(fake("C", rng.permutation(shared), rng.permutation(kl)))
    assert "no difference in loss shown between A and C" in none.verdict and "no difference in KL" in none.verdict
    assert "only 5 windows" in fake("A", shared[:5]).against(fake("B", shared[:5])).verdict


def test_against_refuses_another_text_or_reference():
    a = fake("A", np.ones(12))
    for other in (fake("B", np.ones(12), text="u"), fake("B", np.ones(12), reference=np.full(12, 310.0))):
        with pytest.raises(UserError, match="A and B were not compared with the same reference"):
            a.against(other)


def test_many_reads_the_reference_once_and_gives_what_compare_gives(tiny, quantized, found):
    calls, heads, noisy = [], [], shaken(tiny, 0.3)
    hooks = [tiny.model.register_forward_hook(lambda *a: calls.append(1)),
             tiny.lm_head.register_forward_hook(lambda *a: heads.append(1))]
    seen = []
    try:
        many = compare_many(tiny, {"NVFP4": quantized, "noisy": noisy}, IDS, window=16,
                            progress=lambda done, of: seen.append((done, of)))
    finally:
        for hook in hooks:
            hook.remove()
    # four batches; the body is called once more in each, by the head's turn, and answers without computing
    assert len(heads) == 4 and len(calls) == 8 and seen == [(8, 21), (16, 21), (20, 21), (21, 21)]
    assert list(many) == ["NVFP4", "noisy"]
    assert many["NVFP4"].kl == found.kl and many["NVFP4"].loss_difference == found.loss_difference
    assert many["noisy"].against(many["NVFP4"]).kl.low > 0


def test_candidates_made_when_their_turn_comes(tiny, quantized, found):
    alive = []

    @contextlib.contextmanager
    def later():
        alive.append("in")
        yield quantized
        alive.append("out")

    layers, again = [], copy.deepcopy(tiny)
    hook = tiny.model.layers[0].register_forward_hook(lambda *a: layers.append(1))
    try:
        many = compare_many(tiny, {"first": later, "copy": again, "second": lambda: quantized}, IDS, window=16)
    finally:
        hook.remove()
    assert alive == ["in", "out"] and list(many) == ["first", "copy", "second"]
    assert len(layers) == 4                                  # the reference's layers ran once for all three passes
    assert many["first"].kl == many["second"].kl == found.kl and many["copy"].kl.value == 0


def test_windows_that_are_cut_already(tiny, quantized, found):
    rows = heldout.spread(IDS, windows=20, window=16)             # all whole windows there are
    got = compare(tiny, quantized, rows)
    assert got.kl.value == pytest.approx(found.divergence[:20].sum() / 320, rel=1e-6)
    with pytest.raises(UserError, match="same windows"):
        got.against(compare(tiny, quantized, rows.flatten(), window=16))


def test_pieces_change_nothing(tiny, quantized, found, monkeypatch):
    monkeypatch.setattr(logits, "PIECE", 8 * 3 * 256)
    got = compare(tiny, quantized, IDS, window=16)
    assert got.kl.value == pytest.approx(found.kl.value, rel=1e-3)
    assert got.loss_difference.value == pytest.approx(found.loss_difference.value, abs=1e-4)


def test_refusals_leave_the_models_as_they_were(tiny):
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(tiny.config)
    config.vocab_size = 250
    small = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UserError, match="vocabulary of 250 tokens, the reference one of 256"):
        compare(tiny, small, IDS)
    broken = copy.deepcopy(tiny).train()
    broken.model.norm.weight.data.fill_(float("inf"))
    with pytest.raises(WorkFailed, match="candidate gave no finite probability"):
        compare(tiny, broken, IDS)
    with pytest.raises(WorkFailed, match="the reference gave no finite"):
        compare(broken, tiny, IDS)
    assert broken.training and not tiny.training
    with pytest.raises(TypeError, match="not str"):
        compare(tiny, "pico", IDS)
    with pytest.raises(ValueError, match="two tokens"):
        compare(tiny, tiny, [1])


def test_float32_against_bf16(tiny):
    got = compare(copy.deepcopy(tiny).float(), tiny, IDS, window=16)
    assert 0 < got.kl.value < 1e-3 and heldout.vocabulary(tiny) == 256
