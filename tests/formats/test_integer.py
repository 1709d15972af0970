"""INT4, INT8 and NVINT4: against ModelOpt where it is exact, and against exact arithmetic everywhere."""

from fractions import Fraction

import pytest
import torch

from gb10.formats import INT4, INT8, NVFP4, NVINT4


def gauss(*shape, scale=1.0, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def signed(q):
    """Integers that the codes stand for, by Python's own arithmetic."""
    half = 8 if q.element_bits == 4 else 128
    return [[c - 2 * half if c >= half else c for c in row] for row in q.codes().tolist()]


@pytest.mark.parametrize(("cls", "block", "top"), [(INT4, 128, 7), (INT4, 32, 7), (INT8, 32, 127)])
def test_codes_are_the_nearest_integers_half_to_even(cls, block, top):
    x = torch.cat((gauss(3, 256), torch.arange(-128, 128)[None] / 16, gauss(1, 256, scale=1e-3)))
    q = cls.quantize(x, block=block)
    for row, codes, scales in zip(x.tolist(), signed(q), q.scales.tolist(), strict=True):
        for i, s in enumerate(scales):
            part = row[i * block:(i + 1) * block]
            assert s == (torch.tensor(max(map(abs, part))) / top).half().item()
            # exact quotient; Python rounds a Fraction half to even
            want = [max(-top - 1, min(top, round(Fraction(v) / Fraction(s)))) for v in part]
            assert codes[i * block:(i + 1) * block] == want
    assert q.scales.dtype == torch.float16


def test_int4_has_modelopts_codes_where_the_scale_is_exact():
    """Maxima of 7 * 2^k: then neither ModelOpt's FP32 scale nor the FP16 one here is rounded."""
    from modelopt.torch.quantization.qtensor.int4_tensor import INT4QTensor

    x = gauss(16, 256).clamp(-3, 3)
    x[:, ::128] = 7 * 2.0 ** torch.arange(-1, 15).remainder(3)[:, None]
    packed, scales = INT4QTensor.quantize(x.clone(), 128)
    theirs = packed._quantized_data
    theirs = torch.stack((theirs >> 4, theirs & 0x0F), -1).flatten(-2).int() - 8     # even element high, offset 8
    q = INT4.quantize(x)
    assert signed(q) == theirs.tolist()
    assert torch.equal(1 / scales.view(16, 2), q.scales.float())


def test_int8_rows_have_modelopts_bits():
    from modelopt.torch.quantization.qtensor.int8_tensor import INT8QTensor

    x = gauss(64, 100)
    want, scales = INT8QTensor.quantize(x.clone(), axis=0)
    q = INT8.quantize(x)
    assert torch.equal(q.packed, want._quantized_data.view(torch.uint8))
    assert torch.equal(q.scales, scales) and q.scales.shape == (64, 1)
    assert torch.equal(q.dequantize(), want.dequantize(torch.float32, scale=scales))


def test_compressed_tensors_divides_by_half_the_code_range():
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.utils import calculate_qparams

    for bits, half in ((4, 7.5), (8, 127.5)):
        scale, _ = calculate_qparams(torch.tensor([-3.0]), torch.tensor([2.0]), QuantizationArgs(num_bits=bits))
        assert scale.item() == pytest.approx(3 / half)


def test_minus_eight_is_read_but_not_written():
    assert min(map(min, signed(INT4.quantize(-gauss(64, 128).abs())))) == -7
    q = INT4(torch.tensor([[0x78]], dtype=torch.uint8), torch.tensor([[0.5]]).half(), block=2)
    assert q.dequantize().tolist() == [[-4.0, 3.5]]


def test_scales_stay_within_fp16():
    large = torch.full((1, 128), 1e6)
    assert INT4.quantize(large).scales.item() == 65504 and INT4.quantize(large).dequantize()[0, 0] == 7 * 65504
    small = torch.full((1, 128), 1e-9)
    q = INT4.quantize(small)
    assert q.scales.item() == 2.0 ** -24 and not q.dequantize().any()
    zero = INT4.quantize(torch.zeros(1, 128))
    assert zero.scales.item() == 1.0 and not zero.packed.any()
    assert INT8.quantize(torch.zeros(2, 3)).scales.tolist() == [[1.0], [1.0]]


def test_bits_and_bytes_follow_the_block():
    x = gauss(8, 256)
    for q, bits in ((INT4.quantize(x), 4.125), (INT4.quantize(x, block=32), 4.5), (INT8.quantize(x, block=32), 8.5)):
        assert q.bits_per_weight == bits and q.nbytes * 8 == bits * x.numel()
    assert INT8.quantize(x).nbytes == x.numel() + 8 * 4
    assert (INT4.bits_per_weight, INT8.bits_per_weight) == (4.125, 8.0)


@pytest.mark.parametrize("block", [0, 3, -32, 1.5, "32"])
def test_a_block_that_is_none_is_refused(block):
    for cls in (INT4, INT8):
        with pytest.raises(ValueError, match="block is an even number of elements"):
            cls.quantize(torch.ones(96), block=block)


def test_nvint4_has_nvfp4s_scales_with_seven_for_six():
    x = gauss(16, 64)
    q, fp = NVINT4.quantize(x), NVFP4.quantize(x)
    assert q.tensor_scale.item() == pytest.approx(fp.tensor_scale.item() * 6 / 7, rel=1e-6)
    # amax / (top * g) has top cancelled: the E4M3 bytes may differ by a rounding of the quotient, no more
    assert (q.scales.view(torch.uint8).int() - fp.scales.view(torch.uint8).int()).abs().max() <= 1
    step = (q.scales.float() * q.tensor_scale).repeat_interleave(16, -1)
    want = (x.double() / step.double()).round().clamp(-8, 7) * step.double()
    assert torch.allclose(q.dequantize().double(), want, rtol=1e-6)
    assert signed(q) == (x / step).round().clamp(-8, 7).int().tolist()
    zero = NVINT4.quantize(torch.zeros(2, 32))
    assert zero.tensor_scale == 1 and not zero.dequantize().any()
