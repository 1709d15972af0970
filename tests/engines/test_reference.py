"""The yardstick itself: the reference's forward pass is that of transformers, its NVFP4 that of ModelOpt."""

import torch
from reference import Reference, fake_quantize

IDS = [5, 300, 17, 42, 900, 8, 1, 77] * 4


def test_forward_equals_transformers(pico):
    from transformers import AutoModelForCausalLM

    net = AutoModelForCausalLM.from_pretrained(pico, dtype=torch.float32).eval()
    ids = [i % net.config.vocab_size for i in IDS]
    with torch.inference_mode():
        theirs = net(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    assert (Reference(pico).logprobs(ids) - theirs).abs().max() < 1e-3


def test_fake_quantize_equals_modelopt():
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    x[0, :16] = torch.tensor([0, -0.0, 0.1, -0.1, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, -0.25, -0.75, -1.25, -5, 6])
    q, scale, tensor_scale = NVFP4QTensor.quantize(x, 16)
    theirs = q.dequantize(dtype=torch.float32, scale=scale, double_scale=tensor_scale, block_sizes={-1: 16})
    assert torch.equal(fake_quantize(x, tensor_scale), theirs.float())


def test_rounding_the_inputs_changes_the_result(nvfp4):
    vocab = Reference(nvfp4).c["vocab_size"]
    ids = [i % vocab for i in IDS]
    a, b = (Reference(nvfp4, quantize_inputs=q).logprobs(ids) for q in (True, False))
    assert (a - b).abs().mean() > 1e-4


def test_the_standins_model_is_w4a4_too(nvfp4):
    from gb10.engines.standin_model import load

    net = load(nvfp4)
    ids = [i % net.config.vocab_size for i in IDS]
    with torch.inference_mode():
        mine = net(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = Reference(nvfp4).logprobs(ids)
    # Not bit for bit: another order of summation now and then sends an activation to the neighbouring code.
    assert (mine - expected).abs().mean() < 0.02
    assert (mine - Reference(nvfp4, quantize_inputs=False).logprobs(ids)).abs().mean() > (mine - expected).abs().mean()


