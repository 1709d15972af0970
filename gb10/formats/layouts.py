"""Where the bytes lie elsewhere: ggml's blocks, and the order of block scales that tensor cores read.

Nothing is computed here. The same codes and the same scale bits are put in another order, and back.

    ModelOpt, torchao, compressed-tensors, vLLM   two neighbours to a byte, the even one in the low nibble; scales apart
    ggml                                          element i in the low and i + n/2 in the high nibble of byte i; each
                                                  block's scale in front of its elements
"""

from __future__ import annotations

import torch

from gb10.formats.elements import pack_nibbles
from gb10.formats.mx import MXFP4
from gb10.formats.nvfp4 import NVFP4

GGML_NVFP4 = (16, 4)            # ggml type 40: elements to a scale, scales in front of a block: 64 elements, 36 bytes
GGML_MXFP4 = (32, 1)            # ggml type 39: 32 elements, 17 bytes
SWIZZLE_ROWS, SWIZZLE_COLUMNS = 128, 4          # scales to a tile of tensor cores' scale layout: 512 bytes
SWIZZLE_GROUP = 32                              # of which rows m, m + 32, m + 64, m + 96 lie together: 16 bytes


def pack_halves(codes: torch.Tensor, block: int) -> torch.Tensor:
    """Codes 0..15 [..., K] as bytes [..., K/2] in ggml's order: of each block, the first half in the low nibbles."""
    low, high = codes.unflatten(-1, (-1, 2, block // 2)).unbind(-2)
    return ((high << 4) | low).flatten(-2)


def unpack_halves(packed: torch.Tensor, block: int) -> torch.Tensor:
    """The inverse of pack_halves: uint8 [..., K/2] -> [..., K]."""
    packed = packed.unflatten(-1, (-1, block // 2))
    return torch.stack((packed & 0x0F, packed >> 4), dim=-2).flatten(-3)


def to_ggml_nvfp4(q: NVFP4) -> torch.Tensor:
    """Bytes of ggml's NVFP4 (type 40), uint8 [..., K/64 * 36]: per 64 elements 4 scale bytes, then 4 times 8 bytes.

    K must be a multiple of 64. The tensor scale isn't in there: a GGUF file has it as a tensor of its own (`.scale`).
    """
    return _to_ggml(q.codes(), q.scales, *GGML_NVFP4)


def from_ggml_nvfp4(data: torch.Tensor, tensor_scale: torch.Tensor) -> NVFP4:
    """The inverse of to_ggml_nvfp4."""
    codes, scales = _from_ggml(data, *GGML_NVFP4)
    return NVFP4(pack_nibbles(codes), scales.view(torch.float8_e4m3fn), tensor_scale)


def to_ggml_mxfp4(q: MXFP4) -> torch.Tensor:
    """Bytes of ggml's MXFP4 (type 39), uint8 [..., K/32 * 17]: per 32 elements the E8M0 byte, then 16 bytes."""
    return _to_ggml(q.codes(), q.scales, *GGML_MXFP4)


def from_ggml_mxfp4(data: torch.Tensor) -> MXFP4:
    """The inverse of to_ggml_mxfp4."""
    codes, scales = _from_ggml(data, *GGML_MXFP4)
    return MXFP4(pack_nibbles(codes), scales.view(torch.float8_e8m0fnu))


def scale_offset(m: int, k: int, per_row: int) -> int:
    """Where the scale of row m, block k lies in the swizzled layout, as a byte offset; per_row: blocks in a row.

    128 x 4 scales make a tile of 512 bytes; tiles follow each other along the row first. In a tile, rows m, m + 32,
    m + 64 and m + 96 share 16 bytes. (cuBLAS documentation, "1D Block Scaling Factors Layout"; vLLM and torchao alike.)
    """
    tiles_per_row = -(-per_row // SWIZZLE_COLUMNS)
    tile = m // SWIZZLE_ROWS * tiles_per_row + k // SWIZZLE_COLUMNS
    row = m % SWIZZLE_ROWS
    within = row % SWIZZLE_GROUP * 16 + row // SWIZZLE_GROUP * SWIZZLE_COLUMNS + k % SWIZZLE_COLUMNS
    return tile * SWIZZLE_ROWS * SWIZZLE_COLUMNS + within


def swizzle_scales(scales: torch.Tensor) -> torch.Tensor:
    """Block scales [M, B] of one byte each in the order that tensor cores read, padded with zero bytes; uint8, flat."""
    if scales.ndim != 2 or scales.element_size() != 1:
        raise ValueError(f"swizzle_scales takes the scales of a matrix, [rows, blocks], one byte each; not "
                         f"{tuple(scales.shape)} of {scales.dtype}")
    rows, columns = scales.shape
    padded = torch.nn.functional.pad(scales.view(torch.uint8),
                                     (0, -columns % SWIZZLE_COLUMNS, 0, -rows % SWIZZLE_ROWS))
    # [row tiles, 4 groups, 32 rows, column tiles, 4] -> [row tiles, column tiles, 32 rows, 4 groups, 4]
    tiles = padded.view(-1, SWIZZLE_ROWS // SWIZZLE_GROUP, SWIZZLE_GROUP, padded.shape[1] // SWIZZLE_COLUMNS,
                        SWIZZLE_COLUMNS)
    return tiles.permute(0, 3, 2, 1, 4).flatten()


def unswizzle_scales(data: torch.Tensor, rows: int, columns: int,
                     dtype: torch.dtype = torch.float8_e4m3fn) -> torch.Tensor:
    """The inverse of swizzle_scales: [rows, columns] in `dtype`, padding cut off."""
    want = -(-rows // SWIZZLE_ROWS) * -(-columns // SWIZZLE_COLUMNS) * SWIZZLE_ROWS * SWIZZLE_COLUMNS
    if data.numel() != want:
        raise ValueError(f"swizzled scales of ({rows}, {columns}) are {want} bytes, not {data.numel()}")
    tiles = data.view(-1, -(-columns // SWIZZLE_COLUMNS), SWIZZLE_GROUP, SWIZZLE_ROWS // SWIZZLE_GROUP, SWIZZLE_COLUMNS)
    padded = tiles.permute(0, 3, 2, 1, 4).flatten(3).flatten(0, 2)
    return padded[:rows, :columns].contiguous().view(dtype)


def _to_ggml(codes: torch.Tensor, scales: torch.Tensor, block: int, scales_in_block: int) -> torch.Tensor:
    unit = block * scales_in_block
    if codes.shape[-1] % unit:
        raise ValueError(f"ggml stores rows in blocks of {unit} elements; {tuple(codes.shape)} does not divide into "
                         f"them")
    elements = pack_halves(codes, block).unflatten(-1, (-1, unit // 2))
    front = scales.view(torch.uint8).unflatten(-1, (-1, scales_in_block))
    return torch.cat((front, elements), dim=-1).flatten(-2)


def _from_ggml(data: torch.Tensor, block: int, scales_in_block: int) -> tuple[torch.Tensor, torch.Tensor]:
    unit_bytes = scales_in_block + block * scales_in_block // 2
    if data.dtype != torch.uint8 or data.ndim == 0 or data.shape[-1] % unit_bytes:
        raise ValueError(f"a row of ggml blocks is uint8, a multiple of {unit_bytes} bytes; not {tuple(data.shape)} of "
                         f"{data.dtype}")
    units = data.unflatten(-1, (-1, unit_bytes))
    scales = units[..., :scales_in_block].flatten(-2)
    return unpack_halves(units[..., scales_in_block:].flatten(-2), block), scales
