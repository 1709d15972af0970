"""What the notebooks show: data apart from view, over its whole range; figures with alt text."""

import math

import pytest
import torch

from gb10.explore import blocks, figure
from gb10.explore.guess import beside
from gb10.formats import NVFP4


@pytest.fixture(scope="module")
def weight():
    w = torch.randn(6, 64, generator=torch.Generator().manual_seed(0)).bfloat16() * .05
    w[2, 16:32] = 0
    w[3, 5] = 4.0
    return torch.nn.Parameter(w)


def test_every_block_is_that_of_the_codec(weight):
    q = NVFP4.quantize(weight.detach())
    whole = q.dequantize()
    for row in range(6):
        for n in range(4):
            b = blocks.compute(weight, row, n)
            part = slice(16 * n, 16 * n + 16)
            assert b.after == tuple(whole[row, part].tolist())
            assert b.codes == tuple(q.codes()[row, part].tolist())
            assert b.before == tuple(weight.detach()[row, part].float().tolist())
            assert all(any(math.isclose(v, g, rel_tol=1e-6) for g in b.grid) for v in b.after)
            assert blocks.describe(b)


@pytest.mark.parametrize(("row", "block"), [(6, 0), (0, 4), (-1, 0), (0, -1)])
def test_a_block_out_of_range(weight, row, block):
    with pytest.raises(IndexError):
        blocks.compute(weight, row, block)


def ink(png):
    """Share of pixels that are not white."""
    import io

    import numpy as np
    from PIL import Image

    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    assert (image[..., 3] == 255).all(), "a figure must be opaque: it is shown on dark themes, too"
    return (image[..., :3] < 250).any(-1).mean()


@pytest.mark.parametrize("block", [(0, 0), (2, 1), (3, 0)])
def test_the_picture_has_ink(weight, block):
    assert ink(figure.png(blocks.draw(blocks.compute(weight, *block)))) > 0.01


def test_the_widget_follows_its_controls(weight):
    box = blocks.explore({"wide": weight, "narrow": weight.detach()[:2, :16]})
    tensor, row, block, image, words = box.children
    assert (row.max, block.max) == (5, 3) and 'alt="The 16 weights of block 0 in row 0 of wide' in image.value
    before = image.value, words.value
    row.value, block.value = 5, 3
    assert image.value != before[0] and words.value != before[1] and "block 3 in row 5" in image.value
    tensor.value = "narrow"
    assert (row.max, block.max) == (1, 0) and (row.value, block.value) == (1, 0) and "row 1 of narrow" in image.value


def test_a_figure_needs_an_alt_text_and_shows_it():
    fig, ax = figure.new()
    ax.plot([0, 1])
    assert 'alt="a &quot;line&quot;"' in figure.show(fig, 'a\n"line"')._repr_html_()
    with pytest.raises(ValueError, match="alt text"):
        figure.show(fig, " ")


@pytest.mark.parametrize(("guess", "answer", "says"), [
    (4, 5, "off by 20 %"), (5, 5, "exactly"), (10, 4, "2.5 times the answer"), (2, 8, "the answer is 4.0 times your guess"),
    (1, -1, "off by 2"), (0, 3, "off by 3"), (3, 0, "off by 3"), ("lots", 5, "'lots'"), (None, 5, "None"), ("4", 5, "20 %")])
def test_a_guess_beside_the_answer(guess, answer, says):
    assert says in beside("x", guess, answer)


def test_streams_count_tokens_and_not_chunks():
    from types import SimpleNamespace as N

    from gb10.explore.stream import Answer, ask

    def chunk(text, tokens):
        return N(choices=[N(delta=N(content=text), logprobs=tokens and N(content=[None] * tokens))])

    chunks = [chunk("", 0), chunk("a", 1), chunk("bc", 2), N(choices=[]), chunk(None, 1)]
    client = N(chat=N(completions=N(create=lambda **kw: iter(chunks))))
    shown = []
    answer = ask(client, "m", "q", show=shown.append)
    assert answer.text == "abc" == "".join(shown) and len(answer.times) == 4
    assert list(answer.times) == sorted(answer.times) and answer.ttft_s >= 0
    assert Answer("", 0.0, (1.0, 1.5, 2.0)).decode_rate == 2.0 and Answer("", 0.0, (1.0,)).decode_rate == 0.0
    assert math.isnan(Answer("", 0.0, ()).ttft_s)
