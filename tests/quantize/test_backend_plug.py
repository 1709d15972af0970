"""How the backends are tied to ModelOpt: configs, gradients, rotations, and that a second time changes nothing."""

import copy

import pytest
import torch

from gb10.quantize import backend
from gb10.quantize.backend import mx, nvfp4, plug


def quantizer(num_bits, block, scale_bits, role, amax=None, **more):
    from modelopt.torch.quantization.config import QuantizerAttributeConfig
    from modelopt.torch.quantization.nn import TensorQuantizer

    backend.register()
    q = TensorQuantizer(QuantizerAttributeConfig(
        num_bits=num_bits, block_sizes={-1: block, "type": "dynamic", "scale_bits": scale_bits}, backend=role, **more))
    if amax is not None:
        q.amax = amax
    return q


FORMATS = {"NVFP4": ((2, 1), 16, (4, 3)), "NVFP4 in 32s": ((2, 1), 32, (4, 3)), "MXFP4": ((2, 1), 32, (8, 0)),
           "MXFP6": ((3, 2), 32, (8, 0)), "E2M3": ((2, 3), 32, (8, 0)), "MXFP8": ((4, 3), 32, (8, 0)),
           "MXINT8": (8, 32, (8, 0))}


@pytest.mark.parametrize("name", FORMATS)
def test_modelopts_quantizer_computes_by_the_backend(name):
    element, block, scale = FORMATS[name]
    x = torch.randn(6, 64, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    if scale == (4, 3):
        amax = x.abs().amax().float() * 1.5
        pairs = ((backend.WEIGHT, nvfp4.fake_quantize_weight), (backend.ACTIVATION, nvfp4.fake_quantize_activation))
        for role, function in pairs:
            assert torch.equal(quantizer(element, block, scale, role, amax)(x), function(x, amax, block))
    else:
        for role, function in ((backend.BLOCK_WEIGHT, mx.fake_quantize_block_weight),
                               (backend.BLOCK_ACTIVATION, mx.fake_quantize_block)):
            assert torch.equal(quantizer(element, block, scale, role)(x), function(x, element, scale, block))


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_the_gradient_goes_straight_through(name, through):
    """As ModelOpt's own quantizers have it; without pass_through_bwd nothing comes from beyond amax (MX has none)."""
    element, block, scale = FORMATS[name]
    amax = torch.tensor(1.0) if scale == (4, 3) else None
    for role in ((backend.WEIGHT, backend.ACTIVATION) if amax is not None else
                 (backend.BLOCK_WEIGHT, backend.BLOCK_ACTIVATION)):
        x = torch.randn(6, 64, generator=torch.Generator().manual_seed(1), requires_grad=True)
        out = quantizer(element, block, scale, role, amax, pass_through_bwd=through)(x)
        assert out.requires_grad and not torch.equal(out, x)
        (out * 3).sum().backward()
        inside = torch.ones_like(x) if through or amax is None else (x.detach().abs() <= 1).float()
        assert torch.equal(x.grad, 3 * inside)


@pytest.mark.parametrize("role", [backend.BLOCK_WEIGHT, backend.BLOCK_ACTIVATION])
def test_a_format_that_is_not_known_is_refused(role):
    with pytest.raises(NotImplementedError, match="E4M3"):
        quantizer((6, 1), 32, (8, 0), role)(torch.ones(2, 32))


def entry(cfg, pattern="*input_quantizer"):
    return {"quant_cfg": [{"quantizer_name": pattern, "cfg": cfg}], "algorithm": "max"}


@pytest.mark.parametrize("pattern, cfg, name", [
    ("*weight_quantizer", {"num_bits": (2, 1), "block_sizes": {-1: 16, "type": "dynamic", "scale_bits": (4, 3)}},
     "WEIGHT"),
    ("*mlp*weight_quantizers.*", {"num_bits": [2, 1], "block_sizes": {-1: 32, "type": "dynamic", "scale_bits": "e4m3"}},
     "WEIGHT"),
    ("*k_bmm_quantizer", {"num_bits": "e2m1", "block_sizes": {-1: 16, "type": "dynamic", "scale_bits": "e4m3"}},
     "ACTIVATION"),
    ("*weight_quantizer", {"num_bits": (3, 2), "block_sizes": {-1: 32, "type": "dynamic", "scale_bits": (8, 0)}},
     "BLOCK_WEIGHT"),
    ("*input_quantizer", {"num_bits": 8, "block_sizes": {-1: 32, "type": "dynamic", "scale_bits": (8, 0)}},
     "BLOCK_ACTIVATION"),
])
def test_on_cpu_names_a_backend_where_one_is_needed(pattern, cfg, name):
    config = entry(cfg, pattern)
    before = copy.deepcopy(config)
    named = backend.on_cpu(config)["quant_cfg"][0]["cfg"]["backend"]
    assert named == getattr(backend, name)
    assert config == before, "the config that was given is changed"


@pytest.mark.parametrize("cfg", [
    {"num_bits": (4, 3), "axis": None}, {"num_bits": 4, "block_sizes": {-1: 128, "type": "static"}},
    {"num_bits": (2, 1), "block_sizes": {-1: 16, "type": "static", "scale_bits": (4, 3)}},
    {"num_bits": (4, 3), "type": "dynamic", "block_sizes": {-1: None}},
    {"num_bits": (2, 1), "block_sizes": {-1: 16, "type": "dynamic", "scale_bits": (4, 3)}, "backend": "another"},
])
def test_on_cpu_leaves_the_rest_alone(cfg):
    assert backend.on_cpu(entry(cfg)) == entry(cfg)


def test_on_cpu_reaches_into_sequences_and_old_configs():
    nvfp4_cfg = {"num_bits": (2, 1), "block_sizes": {-1: 16, "type": "dynamic", "scale_bits": (4, 3)}}
    cfg = backend.on_cpu(entry([{"num_bits": 8}, nvfp4_cfg], "*weight_quantizer"))["quant_cfg"][0]["cfg"]
    assert cfg == [{"num_bits": 8}, nvfp4_cfg | {"backend": backend.WEIGHT}]
    old = backend.on_cpu({"quant_cfg": {"*weight_quantizer": nvfp4_cfg, "default": {"enable": False}}})
    assert old["quant_cfg"]["*weight_quantizer"]["backend"] == backend.WEIGHT


def test_registering_twice_changes_nothing():
    from modelopt.torch.quantization import tensor_quant
    from modelopt.torch.quantization.nn.modules import tensor_quantizer as tq

    backend.register()
    before = [tensor_quant.FP4CastSTEFunction.forward, tq.normalized_hadamard_transform,
              dict(tq._QUANT_FUNCTIONAL_BACKENDS)]
    backend.register()
    assert before == [tensor_quant.FP4CastSTEFunction.forward, tq.normalized_hadamard_transform,
                      dict(tq._QUANT_FUNCTIONAL_BACKENDS)]


@pytest.mark.parametrize("k, size, block", [(64, 64, None), (96, 32, None), (96, 16, 16)])
def test_rotation(k, size, block):
    """Sylvester's matrix over the largest power of two that divides the axis, as in fast_hadamard_transform."""
    from scipy.linalg import hadamard

    x = torch.randn(3, k, generator=torch.Generator().manual_seed(2))
    want = (x.reshape(3, -1, size) @ torch.tensor(hadamard(size), dtype=torch.float32) * size ** -0.5).reshape(3, k)
    assert torch.allclose(plug._hadamard(x, block_size=block), want, atol=1e-6)
    assert torch.allclose(plug._hadamard(want, block_size=block), x, atol=1e-6)
    assert plug._hadamard(x.to(torch.bfloat16)).dtype == torch.bfloat16


def test_a_rotated_quantizer_runs():
    x = torch.randn(2, 4, 3, 32, generator=torch.Generator().manual_seed(3))
    q = quantizer((2, 1), 16, (4, 3), backend.ACTIVATION, rotate=True)
    assert torch.equal(q(x), nvfp4.fake_quantize_activation(plug._hadamard(x)))
