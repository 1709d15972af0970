"""Which layer does damage, which only passes it on, and what switching quantizers tells about it."""

import copy

import pytest
import torch

from gb10 import quantize
from gb10.errors import UserError
from gb10.quantize.comparing import compare
from gb10.quantize.layers import decoder_layers, layer_errors
from gb10.quantize.leave_out import sensitivity

IDS = torch.randint(0, 256, (200,), generator=torch.Generator().manual_seed(4))


def changed(model, layer, factor=1.1):
    model = copy.deepcopy(model)
    model.model.layers[layer].mlp.down_proj.weight.data *= factor
    return model


def test_damage_arises_in_one_layer_and_goes_on(tiny):
    model = copy.deepcopy(tiny).float()
    first, second = layer_errors(model, changed(model, 0), IDS, window=64)
    assert first.alone > 1e-3 and first.error == pytest.approx(first.alone)
    assert second.alone < 1e-6 and second.error > 1e-4
    first, second = layer_errors(model, changed(model, 1), IDS, window=64)
    assert first.error < 1e-6 and first.cosine == pytest.approx(1)
    assert second.alone > 1e-3 and second.error == pytest.approx(second.alone)
    assert second.cosine < 1 and second.name == "model.layers.1" and second.layer == 1


@torch.no_grad()
def test_errors_by_direct_computation(tiny, quantized):
    """Per token, then the root mean square; hidden_states[1] is what layer 0 gives."""
    rows = IDS[:64][None]
    before, after = (tiny(input_ids=rows, output_hidden_states=True).hidden_states[i].float()[0] for i in (0, 1))
    other = quantized(input_ids=rows, output_hidden_states=True).hidden_states[1].float()[0]
    got = layer_errors(tiny, quantized, IDS[:65], window=64)[0]
    wrong = (other - after).norm(dim=-1)
    assert got.error == pytest.approx((wrong / after.norm(dim=-1)).square().mean().sqrt().item(), rel=1e-4)
    assert got.alone_of_update == pytest.approx((wrong / (after - before).norm(dim=-1)).square().mean().sqrt().item(), rel=1e-4)
    assert got.cosine == pytest.approx(torch.cosine_similarity(other, after, dim=-1).mean().item(), rel=1e-5)
    assert "model.layers.0" in str(got)


def test_a_model_against_itself_and_in_another_dtype(tiny):
    hooks = [len(m._forward_hooks) for m in tiny.modules()]
    assert all(e.error == e.alone == 0 for e in layer_errors(tiny, tiny, IDS))
    wide = layer_errors(tiny, copy.deepcopy(tiny).float(), IDS)
    assert all(0 < e.alone < 0.01 for e in wide)
    assert [len(m._forward_hooks) for m in tiny.modules()] == hooks


def test_other_layers_are_refused(tiny):
    short = copy.deepcopy(tiny)
    del short.model.layers[1]
    with pytest.raises(UserError, match="2 decoder layers and the candidate 1"):
        layer_errors(tiny, short, IDS)
    with pytest.raises(UserError, match="no list of decoder layers"):
        decoder_layers(torch.nn.Linear(2, 2))


def states(model):
    return {name: m.is_enabled for name, m in model.named_modules() if hasattr(m, "is_enabled")}


def test_sensitivity_switches_one_group_off_and_only_it_on(tiny, quantized):
    was, seen = states(quantized), []
    rows = sensitivity(quantized, IDS, {"first": "model.layers.0.*", "activations": "*input_quantizer", "mlp": ["*.mlp.*_proj"]},
                       reference=tiny, window=16, progress=lambda done, of: seen.append(done))
    assert states(quantized) == was and seen[-1] == 13
    assert [r.group for r in rows] == ["first", "activations", "mlp"] and [r.quantizers for r in rows] == [14, 14, 12]
    layer = sum(p.numel() for n, p in tiny.model.layers[0].named_parameters() if "_proj" in n)
    assert [r.weights for r in rows] == [layer, 0, 2 * 3 * 64 * 96]
    # the same thing by hand, with ModelOpt's own switch
    import modelopt.torch.quantization as mtq

    model = copy.deepcopy(quantized)
    mtq.disable_quantizer(model, "*input_quantizer")
    by_hand = compare(tiny, model, IDS, window=16)
    assert rows[1].off.kl == by_hand.kl and rows[1].off.loss_difference == by_hand.loss_difference
    assert rows[0].all.kl == compare(tiny, quantized, IDS, window=16).kl
    weights_only = sensitivity(quantized, IDS, ["*weight_quantizer"], reference=tiny, window=16)[0]
    assert weights_only.only.kl == by_hand.kl
    assert rows[1].kl_saved.value == pytest.approx(rows[1].all.kl.value - by_hand.kl.value)
    assert "activations: KL" in str(rows[1])


def test_without_a_reference_the_model_with_all_quantizers_off_serves(tiny, quantized):
    given = sensitivity(quantized, IDS, reference=tiny, window=16)
    alone = sensitivity(quantized, IDS, window=16)
    assert [r.group for r in alone] == ["model.layers.0", "model.layers.1"]
    assert [r.only.kl for r in alone] == [r.only.kl for r in given]
    assert all(r.only.kl.value < r.all.kl.value * 1.5 and r.kl_saved.value > 0 for r in alone)


def test_switches_are_restored_after_an_exception(quantized):
    was = states(quantized)

    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sensitivity(quantized, IDS, ["*.mlp.*"], progress=stop)
    handle = quantized.model.layers[1].register_forward_hook(lambda *a: 1 / 0)
    try:
        with pytest.raises(ZeroDivisionError):
            sensitivity(quantized, IDS, ["*.mlp.*"])
    finally:
        handle.remove()
    assert states(quantized) == was


def test_a_quantizer_that_was_off_stays_off(tiny, batches):
    model = quantize.quantize(copy.deepcopy(tiny), batches, recipe="w4a16")
    was = states(model)
    assert [r.quantizers for r in sensitivity(model, IDS, window=16)] == [7, 7]
    assert states(model) == was
    with pytest.raises(UserError, match=r"'\*input_quantizer' of group 'x' fits no quantizer"):
        sensitivity(model, IDS, {"x": ["*.mlp.*", "*input_quantizer"]})
    with pytest.raises(UserError, match="no quantizer is switched on"):
        sensitivity(tiny, IDS)


def test_packed_weights_are_refused(quantized):
    model = copy.deepcopy(quantized)
    model.model.layers[0].mlp.up_proj.weight_quantizer._fake_quant = False
    with pytest.raises(UserError, match="weight of model.layers.0.mlp.up_proj is stored in packed form"):
        sensitivity(model, IDS)
