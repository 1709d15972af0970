"""The codec on plain bytes, without torch: the bits of NVFP4.quantize."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from gb10.formats import NVFP4
from gb10.formats.kernels import plain

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}

pytestmark = pytest.mark.skipif(not plain.available(), reason="no compiled loops on this machine")


def inputs():
    g = torch.Generator().manual_seed(0)
    yield "gauss", torch.randn(64, 160, generator=g) * 0.02
    yield "one outlier", torch.cat([torch.full((1, 16), 1e-3), torch.full((1, 16), 100.0)])
    yield "ties", torch.tensor([0, -0.0, .1, -.1, .25, .75, 1.25, 1.75, 2.5, 3.5, 5, -.25, -.75, -1.25, -5, 6] * 2).view(2, 16)
    yield "zero block", torch.cat([torch.zeros(3, 16), torch.randn(3, 16, generator=g)])
    yield "tiny", torch.randn(4, 32, generator=g) * 1e-6
    yield "zeros", torch.zeros(2, 16)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize(("name", "x"), list(inputs()), ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("remembered", [True, False])
def test_equal_to_quantize(kind, name, x, remembered):
    x = x.to(DTYPES[kind]).contiguous()
    want = NVFP4.quantize(x)
    blocks, at = x.numel() // 16, x.data_ptr()
    codec = plain.Plain(kind, blocks)
    magnitudes, scales = np.empty(blocks, np.float32), np.empty(blocks, np.uint8)
    top = codec.largest(at, blocks, magnitudes.ctypes.data)
    assert codec.value(top) == x.float().abs().max().item()
    g = plain.tensor_scale(codec.value(top))
    assert g == want.tensor_scale.item()
    codec.set_scale(g)
    packed = codec.encode(at, blocks, scales.ctypes.data, magnitudes.ctypes.data if remembered else None)
    assert bytes(packed) == want.packed.numpy().tobytes()
    assert scales.tobytes() == want.scales.view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_shows(kind, value):
    x = torch.ones(32, dtype=DTYPES[kind])
    x[17] = value
    codec = plain.Plain(kind, 2)
    assert codec.largest(x.data_ptr(), 2) >= codec.infinity
    x[17] = 1
    assert codec.largest(x.data_ptr(), 2) < codec.infinity


def test_it_waits_for_no_torch():
    code = "import sys, gb10.formats.kernels.plain, gb10.quantize.streaming.run; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_formats_still_import_by_name():
    from gb10 import formats

    assert formats.NVFP4 is NVFP4 and formats.FORMATS["NVFP4"] is NVFP4 and "FP8" in dir(formats)
    with pytest.raises(AttributeError, match="NVFP4"):
        formats.NVFP5  # noqa: B018
