"""The CPU kernel that vLLM's plugin brings: its rounding bit by bit, its layers in vLLM, its answers."""

import importlib.util
import json
import math
import subprocess
from types import SimpleNamespace

import pytest
import torch
from reference import Reference, fake_quantize

from gb10.engines import model, vllm_cpu, vllm_env
from gb10.formats import NVFP4
from gb10.formats.nvfp4 import round_trip

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture(scope="module")
def plugin():
    """The plugin's file; without vLLM its torch code works all the same."""
    spec = importlib.util.spec_from_file_location("plugin", vllm_env.PLUGIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tensor_scale(amax: float) -> float:
    return (torch.tensor(amax) / 2688).item()


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal, NaN like NaN, and zeros with the same sign."""
    return a.dtype == b.dtype and bool((((a == b) & (a.signbit() == b.signbit())) | (a.isnan() & b.isnan())).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("amax", [1.0, 50.0, 0.01, 3e-5, 448 * 6 * 0.25], ids=str)
def test_activations_are_rounded_as_the_codec_does(plugin, dtype, amax):
    """Rows from a millionth of the calibrated amax (their block scale falls under E4M3's least) to far above it (448)."""
    spread = torch.logspace(-6, 2, 64)[:, None] * amax
    x = (torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) * spread).to(dtype)
    x[1], x[2, :16], x[3, :16] = 0.0, -0.0, torch.tensor(
        [0, -0.0, 0.1, -0.1, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, -0.25, -0.75, -1.25, -5, 6]) * amax / 6     # ties where amax is 6
    before, got = x.clone(), plugin.round_to_nvfp4(x, tensor_scale(amax))
    assert same(got, round_trip(x, amax=amax))
    assert torch.equal(x, before), "its input stays as it is"
    assert not torch.equal(got, x)


def test_ties_go_to_the_even_code(plugin):
    x = torch.tensor([[0, -0.0, 0.1, -0.1, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, -0.25, -0.75, -1.25, -5, 6]])
    assert plugin.round_to_nvfp4(x, 1.0).tolist() == [[0, 0, 0, 0, 0, 1, 1, 2, 2, 4, 4, 0, -1, -1, -4, 6]]


def test_it_is_what_the_reference_calls_w4a4(plugin):
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
    g = torch.tensor(3.0) / 2688
    assert torch.equal(plugin.round_to_nvfp4(x, g.item()), fake_quantize(x, g))


def test_what_is_not_finite_does_not_spread(plugin):
    x = torch.ones(2, 48)
    x[0, 0], x[1, 16] = math.nan, -math.inf
    got = plugin.round_to_nvfp4(x, tensor_scale(1.0))
    clean = plugin.round_to_nvfp4(torch.ones(1, 48), tensor_scale(1.0))[0]
    assert got[0, :16].isnan().all() and torch.equal(got[0, 16:], clean[16:])
    assert got[1, 16] == -1.0 and torch.equal(got[1, :16], clean[:16]), "an infinity becomes the largest value there is"


def test_weights_are_decoded_as_the_codec_does(plugin):
    q = NVFP4.quantize(torch.randn(64, 96, generator=torch.Generator().manual_seed(2)) * 0.02)
    for dtype in DTYPES:
        assert torch.equal(plugin.decode(q.packed, q.scales, q.tensor_scale, dtype), q.dequantize(dtype))


def layer(k=32, scale=0.01, blocks=None):
    return SimpleNamespace(weight=torch.zeros(8, k // 2, dtype=torch.uint8), weight_scale=torch.ones(8, blocks or k // 16),
                           input_global_scale=torch.tensor(scale))


@pytest.mark.parametrize(("wrong", "says"), [
    (layer(k=24, blocks=1), "blocks of 16 along K: 8 x 24"), (layer(blocks=1), "blocks of 16"),
    (layer(scale=0.0), "the input_scale 0, and can't round"), (layer(scale=math.nan), "input_scale nan"),
    (layer(scale=math.inf), "input_scale inf"), (layer(scale=1e-40), "input_scale"),
])
def test_layers_that_could_only_be_computed_wrongly_are_refused(plugin, wrong, says):
    plugin.check(layer())
    with pytest.raises(ValueError, match=says):
        plugin.check(wrong)


PROBE = """
import json, torch
import gb10_vllm_nvfp4 as plugin
plugin.register()
from vllm.model_executor.kernels import linear
from vllm.platforms import PlatformEnum
kernels = [k.__name__ for k in linear._POSSIBLE_NVFP4_KERNELS[PlatformEnum.CPU]]
plugin.register()
again = [k.__name__ for k in linear._POSSIBLE_NVFP4_KERNELS[PlatformEnum.CPU]]
found = {"kernels": kernels, "twice": again == kernels, "off": {}}
torch.manual_seed(0)
parameter = lambda t: torch.nn.Parameter(t, requires_grad=False)
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    torch.set_default_dtype(dtype)               # as while a model is loaded
    for a4 in (True, False):
        layer = torch.nn.Module()
        layer.weight = parameter(torch.randint(0, 256, (48, 32), dtype=torch.uint8))
        layer.weight_scale = parameter((torch.rand(48, 4) + 0.5).to(torch.float8_e4m3fn))
        layer.weight_global_scale = parameter(torch.tensor(0.01, dtype=torch.float32))
        if a4:
            layer.input_global_scale = parameter(torch.tensor(3.0 / 2688, dtype=torch.float32))
        layer.bias = parameter(torch.randn(48))
        weight = plugin.decode(layer.weight, layer.weight_scale, layer.weight_global_scale, torch.float64)
        x, bias = torch.randn(5, 128)[:, :64], layer.bias.double()
        kernel = linear.MarlinNvFp4LinearKernel(None) if not a4 else linear._POSSIBLE_NVFP4_KERNELS[PlatformEnum.CPU][0](None)
        kernel.process_weights_after_loading(layer)
        inputs = (plugin.round_to_nvfp4(x.contiguous(), 3.0 / 2688) if a4 else x).double()
        for b in (layer.bias, None):
            want = inputs @ weight.T + (bias if b is not None else 0)
            got = kernel.apply_weights(layer, x, b)
            assert got.dtype == dtype, got.dtype
            name = f"{dtype} {'W4A4' if a4 else 'W4A16'} {'bias' if b is not None else ''}"
            found["off"][name] = ((got.double() - want).abs().max() / want.abs().max()).item()
from vllm.model_executor.layers.quantization import modelopt
layer = torch.nn.Module()
layer.weight_scale, layer.weight_scale_2 = torch.ones(48, 4), torch.tensor([1.0, 2.0, 1.0])
try:
    modelopt.KNvfp4Static().process(layer, modelopt.WEIGHT)
except ValueError as e:
    found["mixed"] = str(e)
layer.weight_scale_2 = torch.tensor([1.0, 1.0, 1.0])
modelopt.KNvfp4Static().process(layer, modelopt.WEIGHT)
found["same"] = layer.weight_global_scale.item()
print(json.dumps(found))
"""


def probe(vllm_python, **environment) -> dict:
    env = {"PATH": "/usr/bin:/bin", "VLLM_TARGET_DEVICE": "cpu", "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1", **environment}
    done = subprocess.run([vllm_python, "-c", PROBE], capture_output=True, text=True, env=env, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_its_layers_in_vllm(vllm_python):
    found = probe(vllm_python)
    assert found["kernels"] == ["DecodedNvFp4LinearKernel", "EmulationNvFp4LinearKernel"], "ours first"
    assert found["twice"], "registering twice changes nothing"
    assert len(found["off"]) == 12
    for name, off in found["off"].items():       # of the largest output; sums of 64 products, rounded as the dtype does
        assert off < (1e-5 if "float32" in name else 1e-2), (name, off)
    assert "different tensor scales (weight_scale_2: [1.0, 2.0])" in found["mixed"] and found["same"] == 1.0


def test_memory_is_reckoned_for_decoded_weights(nvfp4, pico):
    packed, plain = model.look(nvfp4), model.look(pico)
    for kind, size in (("float32", 4), ("bfloat16", 2)):
        assert vllm_cpu.needs(packed, 2048, kind)["weights"] == size * packed.parameters
        assert vllm_cpu.needs(plain, 2048, kind)["weights"] == size * plain.parameters


def test_its_logprobs_are_those_of_w4a4(servers, nvfp4, pico):
    from transformers import AutoTokenizer

    assert "Using DecodedNvFp4LinearKernel for NVFP4 GEMM" in servers.nvfp4.log.read_text()
    text = (pico.parent / "heldout.txt").read_text(encoding="utf-8")
    ids = AutoTokenizer.from_pretrained(nvfp4)(text[5000:7000])["input_ids"][:300]
    done = servers.nvfp4.client.completions.create(model=servers.nvfp4.model, prompt=ids, max_tokens=1, temperature=0,
                                                   extra_body={"prompt_logprobs": 0})
    rows = done.choices[0].model_extra["prompt_logprobs"]
    got = torch.tensor([row[str(i)]["logprob"] for row, i in zip(rows[1:], ids[1:], strict=True)])

    def off(**how):
        return (got - Reference(nvfp4, **how).logprobs(ids)[range(len(ids) - 1), ids[1:]]).abs().mean().item()

    w4a4, w4a16 = off(), off(quantize_inputs=False)
    print(f"\nmean |delta logprob| over {len(got)} tokens: {w4a4:.4f} to W4A4, {w4a16:.4f} to W4A16")
    assert w4a4 <= 0.02
    assert w4a16 > 0.08, "a kernel that left the activations as they are would not pass"
