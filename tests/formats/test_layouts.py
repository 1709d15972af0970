"""Neighbours' layouts: byte by byte, by loops that follow their descriptions, and against torchao's to_blocked."""

import pytest
import torch

from gb10.formats import MXFP4, NVFP4, layouts
from gb10.formats.elements import E2M1


def gauss(*shape, scale=1.0, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def value(code):
    return -E2M1[code - 8] if code >= 8 else E2M1[code]


def test_ggmls_nvfp4_read_by_loops_as_ggml_reads_it():
    """36 bytes: 4 scales, then 32 bytes; in each 8 of these the low nibbles are elements 0..7, the high ones 8..15."""
    x = gauss(3, 128)
    q = NVFP4.quantize(x)
    data = layouts.to_ggml_nvfp4(q)
    assert data.shape == (3, 2 * 36) and data.dtype == torch.uint8
    g = q.tensor_scale.item()
    for row, want in zip(data.tolist(), q.dequantize().tolist(), strict=True):
        got = []
        for block in (row[:36], row[36:]):
            for i in range(4):
                scale = torch.tensor(block[i], dtype=torch.uint8).view(torch.float8_e4m3fn).float().item()
                part = block[4 + 8 * i:12 + 8 * i]
                got += [value(b & 15) * scale for b in part] + [value(b >> 4) * scale for b in part]
        assert [v * g for v in got] == pytest.approx(want, rel=1e-6)
    back = layouts.from_ggml_nvfp4(data, q.tensor_scale)
    assert torch.equal(back.packed, q.packed) and torch.equal(back.dequantize(), q.dequantize())
    assert back.scales.dtype == torch.float8_e4m3fn and back.shape == x.shape


def test_ggmls_mxfp4_read_by_loops_as_ggml_reads_it():
    """17 bytes: the exponent, then 16 bytes whose low nibbles are elements 0..15 and whose high ones are 16..31."""
    x = gauss(2, 2, 64)
    q = MXFP4.quantize(x)
    data = layouts.to_ggml_mxfp4(q)
    assert data.shape == (2, 2, 2 * 17)
    for row, want in zip(data.view(4, 34).tolist(), q.dequantize().view(4, 64).tolist(), strict=True):
        got = []
        for e, *part in (row[:17], row[17:]):
            got += [value(b & 15) * 2.0 ** (e - 127) for b in part] + [value(b >> 4) * 2.0 ** (e - 127) for b in part]
        assert got == want
    back = layouts.from_ggml_mxfp4(data)
    assert torch.equal(back.packed, q.packed) and torch.equal(back.dequantize(), q.dequantize())


def test_halves():
    codes = torch.arange(16, dtype=torch.uint8)
    assert layouts.pack_halves(codes, 16).tolist() == [i | (i + 8) << 4 for i in range(8)]
    assert layouts.pack_halves(codes, 4).tolist() == [0x20, 0x31, 0x64, 0x75, 0xA8, 0xB9, 0xEC, 0xFD]
    every_byte = torch.arange(256, dtype=torch.uint8).view(2, 128)
    for block in (16, 32, 256):
        assert torch.equal(layouts.pack_halves(layouts.unpack_halves(every_byte, block), block), every_byte)


SHAPES = [(128, 4), (256, 8), (300, 20), (1, 1), (129, 5), (127, 3), (64, 12)]


@pytest.mark.parametrize("shape", SHAPES)
def test_swizzled_scales_lie_where_the_formula_says(shape):
    scales = torch.randint(1, 255, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    data = layouts.swizzle_scales(scales)
    rows, columns = -(-shape[0] // 128) * 128, -(-shape[1] // 4) * 4
    assert data.shape == (rows * columns,)
    taken = set()
    for m in range(shape[0]):
        for k in range(shape[1]):
            offset = layouts.scale_offset(m, k, shape[1])
            # the same formula as documented for cuBLAS, written once more
            assert offset == (m // 128 * -(-shape[1] // 4) + k // 4) * 512 + m % 32 * 16 + m % 128 // 32 * 4 + k % 4
            assert data[offset] == scales[m, k]
            taken.add(offset)
    assert len(taken) == scales.numel()
    rest = torch.ones(len(data), dtype=torch.bool)
    rest[list(taken)] = False
    assert not data[rest].any()
    assert torch.equal(layouts.unswizzle_scales(data, *shape, dtype=torch.uint8), scales)


@pytest.mark.parametrize("shape", SHAPES)
def test_swizzled_scales_are_torchaos(shape):
    from torchao.prototype.mx_formats.utils import to_blocked

    scales = torch.randint(0, 255, shape, generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    assert torch.equal(layouts.swizzle_scales(scales), to_blocked(scales).flatten())


def test_scales_of_a_format_come_back_in_their_dtype():
    q, m = NVFP4.quantize(gauss(5, 64)), MXFP4.quantize(gauss(5, 64))
    back = layouts.unswizzle_scales(layouts.swizzle_scales(q.scales), 5, 4)
    assert back.dtype == torch.float8_e4m3fn and torch.equal(back.view(torch.uint8), q.scales.view(torch.uint8))
    back = layouts.unswizzle_scales(layouts.swizzle_scales(m.scales), 5, 2, torch.float8_e8m0fnu)
    assert torch.equal(back.view(torch.uint8), m.scales.view(torch.uint8))


def test_what_has_no_place_in_the_layout_is_refused():
    with pytest.raises(ValueError, match=r"blocks of 64 elements; \(2, 48\) does not divide"):
        layouts.to_ggml_nvfp4(NVFP4.quantize(gauss(2, 48)))
    with pytest.raises(ValueError, match=r"a multiple of 36 bytes; not \(35,\)"):
        layouts.from_ggml_nvfp4(torch.zeros(35, dtype=torch.uint8), torch.ones(()))
    with pytest.raises(ValueError, match=r"\[rows, blocks\], one byte each; not \(4,\)"):
        layouts.swizzle_scales(torch.zeros(4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="one byte each"):
        layouts.swizzle_scales(torch.zeros(4, 4))
    with pytest.raises(ValueError, match=r"swizzled scales of \(129, 5\) are 2048 bytes, not 512"):
        layouts.unswizzle_scales(torch.zeros(512, dtype=torch.uint8), 129, 5)
