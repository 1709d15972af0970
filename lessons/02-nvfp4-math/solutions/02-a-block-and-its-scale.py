# %% [markdown]
# # A block and its scale
#
# Sixteen codes are not enough for a weight matrix, until neighbours share a scale. In this notebook you find out how many
# of them should share one, what the scale itself may be, why there is a second scale on top, and what all of it weighs on
# disk.
#
# **Afterwards you can**
#
# - compute an NVFP4 block by hand: its scale, its sixteen codes, its eight bytes, and back again;
# - say what an outlier costs the others in its block, and compare NVFP4 with MXFP4 and INT4 on the same numbers;
# - explain what the tensor scale is for, and see through an experiment that "proves" it without showing it;
# - predict the size of a whole checkpoint from its architecture and what its recipe leaves alone.
#
# **Time:** 35 minutes, and ten more for the stretch exercise. **You need:** notebook 1, some Python and PyTorch.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 2 GB of free memory, no GPU | nothing: all of this is arithmetic on a few thousand numbers |
# | spark | one GB10 | nothing |
# | rack | several Sparks, B200 or B300 | nothing |
#
# As before: you commit to a guess, run the cell, look at both side by side, then read why.

# %%
import torch

from gb10 import catalog, machine, paths, quantize
from gb10.check import lesson02 as check
from gb10.explore import block_scales, compare, figure, outlier, sizes, two_scales
from gb10.explore.guess import beside
from gb10.formats import NVFP4
from gb10.formats.error import relative_rmse

print(machine.banner("torch"))

# %% [markdown]
# ## 1. One scale for how many?
#
# E2M1 has the magnitudes 0, 0.5, 1, 1.5, 2, 3, 4 and 6. Here is a real weight matrix: `up_proj` of the first layer of
# *pico*, the small model that comes with the course.

# %%
weight = quantize.read_tensor(paths.PICO, "model.layers.0.mlp.up_proj.weight").float()
size = weight.abs()
print(f"{tuple(weight.shape)} weights; the largest magnitude is {size.max():.3f}, half are below {size.median():.3f}")

# %% [markdown]
# Rounded to the grid as they are, almost all of these would become 0. So they are divided by a **scale** first, chosen so
# that the largest of a group, its *amax*, lands on 6, the end of the grid. The scale has to be stored as well. Share it
# among few and you pay for many scales; share it among many and one large weight coarsens the grid for all of them.
#
# We measure the damage as **relative error**: the root mean square of (original − rounded), divided by the root mean
# square of the originals. For a start, scales are exact 32-bit numbers, so that only the sharing matters. With one scale
# for 16 weights the relative error of this matrix is between 9 and 10 %.
#
# **Predict.** What is it when a whole row of 256 shares one scale? And in a matrix of the same kind in which one weight in
# 256 is twenty times too large? (*Activations*, the numbers that flow from layer to layer, look like that more often than
# weights do.)

# %%
my_row, my_row_outliers = 30, 30     # your guesses: relative error in %, one scale for 256 weights

# %%
generator = torch.Generator().manual_seed(0)
spiky = torch.randn(weight.shape, generator=generator) * 0.1
spiky[torch.rand(weight.shape, generator=generator) < 1 / 256] *= 20
group = (4, 8, 16, 32, 64, 128, 256)
plain, rough = block_scales.sharing(weight, group), block_scales.sharing(spiky, group)
print(beside("pico's weights", my_row, 100 * plain[256], "%"))
print(beside("with outliers", my_row_outliers, 100 * rough[256], "%"))

# %%
fig, ax = figure.new(8, 3)
for errors, colour, label in ((plain, figure.BLUE, "pico"), (rough, figure.ORANGE, "with outliers")):
    ax.plot(range(len(group)), [100 * errors[n] for n in group], "o-", color=colour, label=label)
ax.set(ylim=(0, None), xlabel="weights that share a scale, and bits per weight with an 8-bit scale",
       ylabel="relative error, %")
ax.set_xticks(range(len(group)), [f"{n}\n{4 + 8 / n:.4g}" for n in group])
ax.legend(frameon=False)
figure.show(fig, "Relative error over the number of weights that share a scale, 4 to 256: pico's weights rise from "
                 f"{plain[4]:.1%} to {plain[256]:.1%}, those with outliers from {rough[4]:.1%} to {rough[256]:.1%}.")

# %% [markdown]
# For pico's well-behaved weights the group hardly matters: sixteen times as many neighbours cost less than two points of
# error. With outliers the same step, from 16 to 256, multiplies the error by nearly three. A small block is an insurance:
# it doesn't make good data much better, it confines the damage of bad data. NVFP4 insures 16 at a time for half a bit per
# weight; blocks of 8 would cost a whole bit. MXFP4 insures 32 for a quarter; the usual INT4 insures 128 for an eighth (its
# scale has 16 bits).
#
# ## 2. Drag an outlier through a block
#
# What happens inside a block when one weight grows? The scale follows the largest, so the grid stretches for all sixteen.
# The explorer shows a block of `up_proj`. The slider *times* makes the weight at *position* so many times as large as the
# largest of the other fifteen; the view stays on those fifteen. Grey lines are the values that the block can take.
#
# To put one number on it: count the grid values, of either sign, up to the largest that any of the fifteen still takes.
# The binary logarithm of that count is what their four bits are worth: **effective bits**. At best 15 values, 3.9 bits. At
# worst only zero, 0 bits.
#
# **Predict.** How many times as large must the outlier be until all fifteen others are rounded to zero?

# %%
my_times = 100       # your guess: at this size of the outlier, nothing is left of the other fifteen

# %%
block, amax = weight[0, :16], weight.abs().max().item()
outlier.explore(block.tolist(), amax)

# %%
gone = next(o for o in outlier.sweep(block.tolist(), 5, amax, points=401) if o.reach == 1)
print(beside("all others are zero from", my_times, gone.times, "times"))
print(outlier.describe(gone))

# %% [markdown]
# The outlier sits on 6. A weight that is *t* times smaller sits on 6/*t*, and rounds to zero when that is at most 0.25,
# half of the smallest step: at *t* = 24. (With the scale rounded to eight bits it can be a little more or less.) The loss
# begins far earlier: at 4 times the others have the lower half of the codes left, at 12 times three values: −0.5, 0 and
# 0.5. Move the position as well: it changes who is the victim, never the number of victims. Other blocks keep their grids,
# up to the rounding of their scales.
#
# ## 3. The scale, step by step
#
# Now the format as it really is. Both scales are rounded, and the order of the roundings decides bits. This is how
# NVIDIA's ModelOpt does it, every line in FP32 (`modelopt/torch/quantization/qtensor/nvfp4_tensor.py`):
#
# ```
# g    = amax(tensor) / (6 * 448)       tensor scale, FP32, one for the whole matrix
# r    = amax(block) / (6 * g)          what this block's scale should be, in units of g
# s    = e4m3(clip(r, 2**-9, 448))      what it is: rounded to eight bits. If amax(block) is 0: s = 1
# y    = |x| / (s * g)                  the weight on the grid, by the scale as stored
# code = nearest of 0 .5 1 1.5 2 3 4 6  a tie to the even code; plus 8 if x < 0
# ```
#
# `e4m3` rounds to an E4M3 number, the eight-bit float from the end of notebook 1: at most 448, at least 2⁻⁹, and from 2⁻⁶
# on eight steps from each power of two to the next. (The sign isn't needed here.) Take one block through the lines.

# %%
block = weight[0, :16]
g = weight.abs().max() / (6 * 448)
r = block.abs().max() / (6 * g)
s = r.clamp(2 ** -9, 448).to(torch.float8_e4m3fn)
print(f"tensor scale g = {g:.6g}")
print(f"block: amax {block.abs().max():.5f}, wants the scale r = {r:.2f}, "
      f"gets s = {s.float():.0f} (byte 0x{s.view(torch.uint8):02x})")

# %%
from gb10.formats.elements import decode_e2m1, encode_e2m1

y = block / (s.float() * g)
codes = encode_e2m1(y)
back = decode_e2m1(codes) * (s.float() * g)
for before, on_grid, code, after in zip(block, y, codes, back):
    print(f"{before:+.5f}  ->  {on_grid:+.3f}  ->  code {code:2d}  ->  {after:+.5f}")

# %%
q = NVFP4.quantize(weight)
same = {"tensor scale": torch.equal(q.tensor_scale, g), "block scale": torch.equal(q.scales[0, 0].float(), s.float()),
        "codes": torch.equal(q.codes()[0, :16], codes)}
print("the same in the course's codec:", same)

# %% [markdown]
# Line *y* divides by the scale *as stored*, not by the one that was wanted: whoever reads the file knows only the stored
# one. When rounding made the scale smaller, the largest weight lands above 6 and is clipped; when larger, it lands below
# 6. And 6 × 448 in *g*? It gives the block with the largest weight of all the scale 448, the largest that E4M3 has.
#
# ### Exercise 1: the scale of a block
#
# Write `block_scale`: lines *r* and *s*, as a number. Mind two special cases. A block of zeros gets 1, so that nobody
# divides by zero. And a block that is tiny beside the rest of its tensor must not get the scale 0, nor a large one more
# than 448.

# %%
def block_scale(block, tensor_scale):
    """The E4M3 scale of a block (float32 tensor of 16; tensor_scale is a float), as an ordinary number."""
    ### BEGIN SOLUTION
    amax = block.abs().max()
    if amax == 0:
        return 1.0
    r = amax / (6 * tensor_scale)
    return r.clamp(2 ** -9, 448).to(torch.float8_e4m3fn).item()
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.block_scale(block_scale)

# %% [markdown]
# ### Exercise 2: its sixteen codes
#
# Now lines *y* and *code*. Use what you wrote in notebook 1, the library's `encode_e2m1`, or plain Python. A negative
# weight that rounds to zero keeps its sign: code 8, minus zero.

# %%
def quantize_block(block, scale, tensor_scale):
    """The 16 codes, each 0 to 15, of a block (float32 tensor of 16); both scales are floats."""
    ### BEGIN SOLUTION
    return encode_e2m1(block / (scale * tensor_scale))
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.quantize_block(quantize_block)

# %% [markdown]
# ## 4. Eight bits for a scale: E4M3 or a power of two?
#
# MXFP4, the open standard that came before NVFP4 (OCP Microscaling, 2023, by AMD, Arm, Intel, Meta, Microsoft, NVIDIA and
# Qualcomm), also spends eight bits on a scale, but all of them on the exponent: E8M0, the powers of two from 2⁻¹²⁷ to
# 2¹²⁷. With such a range no tensor scale is needed. What does it cost? The same matrix in blocks of 16 on the same grid,
# with nothing but the scale's format changed. With E4M3 the relative error is about 9.5 %.
#
# **Predict** the relative error with a power of two.

# %%
my_e8m0 = 20         # your guess: relative error in % with power-of-two scales, blocks of 16

# %%
error = {rule: relative_rmse(weight, block_scales.reconstruct(weight, rule)) for rule in block_scales.RULES}
amaxes = weight.unflatten(-1, (-1, 16)).abs().amax(-1)
print(f"{'scale':<12}{'error':>8}   where the largest weight of the first blocks lands")
for rule, e in error.items():
    lands = (amaxes / block_scales.scale_for(amaxes, rule))[0, :8]
    print(f"{rule:<12}{e:8.2%}  ", *(f"{y:6.2f}" for y in lands))
best = min(error["E8M0 floor"], error["E8M0 ceil"])
print(beside("power of two, the better rule", my_e8m0, 100 * best, "%"))

# %%
figure.show(block_scales.draw_landing(),
            "Three panels: where the largest weight of a block lands on the grid, as it grows from 1 to 16. With E4M3 "
            "within 0.4 of 6; with E8M0 floor between 4 and 8, clipped above 6; with E8M0 ceil between 3 and 6.")

# %% [markdown]
# Table and picture show where a block's largest weight lands. E4M3 keeps it near 6: the scale is off by 6 % at most. A
# power of two misses by far more, and one has to choose what to waste. The *floor* rule of
# the standard lets the largest weight land anywhere from 4 to 8, and whatever exceeds 6 is clipped to it. The *ceil* rule
# (ModelOpt's for MXFP4) never clips, but its scale may be almost twice too large: then nothing reaches the codes for 4 and
# 6. So "shared exponent" describes MXFP4; NVFP4 shares a scale with a mantissa.
#
# ## 5. Three formats, the same sixteen weights
#
# Now everything together. **INT4**, four-bit integers, has evenly spaced values −7 … 7 times an FP16 scale, for 128 weights
# or for 32. The explorer rounds 128 weights in NVFP4, MXFP4 (rule *floor*) and INT4, and shows the first 16.

# %%
compare.explore(weight)

# %% [markdown]
# Three things to try:
#
# 1. *one outlier*: it is weight 20, outside the picture. NVFP4's block of 16 doesn't contain it; MXFP4's and INT4's blocks
#    of 32 do, and their grids are wide open where you look.
# 2. *uniform*: INT4 wins. Evenly spaced values are the right ones for evenly spread numbers; E2M1 spends its codes near
#    zero.
# 3. *Gaussian* and *pico*: go through some samples. On a single block chance decides; the last column, over all 128
#    weights, is the fairer judge, and INT4 in blocks of 32, which takes 4.5 bits as well, is a real rival there. Switch its
#    block to 128 and look again.
#
# So NVFP4 isn't the best for every kind of data. Notebook 3 measures how much, and for which.
#
# ## 6. Why a second scale?
#
# A block scale already fits the grid to its block. What is the tensor scale for? Take Gaussian matrices with smaller and
# smaller standard deviation σ and quantize them twice: as NVFP4, and without the tensor scale, so that the block scale is
# E4M3(amax/6) and nothing else. At σ = 1 both have a relative error of 9.5 %. A usual σ is 0.02: many models start their
# training with it.
#
# **Predict** the relative error at σ = 0.001 without a tensor scale.

# %%
my_small = 10        # your guess: relative error in % at sigma 0.001, without a tensor scale

# %%
for sigma in (1, 0.02, 0.001):
    t = two_scales.compute(sigma)
    print(f"sigma {sigma:<6} without {t.error:.4f}   with {t.error_with:.4f}")
print(beside("sigma 0.001, without", my_small, 100 * t.error, "%"))

# %% [markdown]
# At σ = 1 the second scale gains nothing; at 0.001 it decides. The reason is E4M3's floor. Its smallest number is 2⁻⁹ ≈
# 0.002, and below 2⁻⁶ its steps no longer shrink with the number (*subnormals*). A block of weights around 0.001 needs a
# scale near 0.0004. It can't have it; it gets 0.002, and the grid is about five times too coarse. The tensor scale moves
# all block scales of a matrix into E4M3's range: the largest becomes 448. Drag σ through eight powers of ten, and watch
# where the block scales fall.

# %%
two_scales.explore()

# %% [markdown]
# With a tensor scale the blue heap never moves: the format has become independent of units. Only the spread *within* one
# matrix remains, and E4M3 has room for a ratio of 448 to 2⁻⁶, nearly 29,000, before precision drops.
#
# **A trap.** You will find notebooks that "measure the benefit of the two scales" with block scales kept in FP32. Try it.
# The same small matrix, exact block scales, first without and then with a tensor scale.

# %%
from gb10.formats.variants import exact_scales

x = two_scales.gaussian(0.001)
one, two = (relative_rmse(x, exact_scales(x, two_level=both)) for both in (False, True))
print(f"FP32 block scales: one level {one:.6f}, two levels {two:.6f}, difference {abs(one - two):.6f}")

# %% [markdown]
# Nothing. FP32 has range enough, so whatever *g* is divided out of the block scale is multiplied back: it cancels, but for
# the last bit. Such an experiment says nothing about the second scale, whatever it claims. An experiment about a format
# must round where the format rounds.
#
# ## 7. Two codes to a byte
#
# A code is half a byte, a *nibble*. Two neighbours share a byte: the **even** element goes into the **low** four bits, the
# odd one into the high four. Bytes are usually printed with the high half first, so each pair looks swapped in hex.

# %% tags=["keep_output", "nbval-check-output"]
row = NVFP4.quantize(torch.tensor([.5, -1, 1.5, -2, 2.5, -3, 3.5, -4, 4.5, -5, 5.5, -6, .25, -.25, 0, .1]))
print("codes:", *(f"{code:x}" for code in row.codes()))
print("bytes:", *(f"{byte:02x}" for byte in row.packed))
print("block scale: byte", f"{row.scales.view(torch.uint8)[0]:02x}", "=", row.scales.float()[0].item())

# %% [markdown]
# ### Exercise 3: pack and unpack
#
# `pack` turns K codes into K/2 bytes, `unpack` turns them back. Both get a `uint8` tensor.

# %%
def pack(codes):
    """K codes, each 0 to 15, as K/2 bytes."""
    ### BEGIN SOLUTION
    return codes[0::2] | codes[1::2] << 4
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
def unpack(packed):
    """K/2 bytes as K codes, each 0 to 15."""
    ### BEGIN SOLUTION
    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten()
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
from IPython.display import display

display(check.pack(pack), check.unpack(unpack))

# %% [markdown]
# ### The same format, another file
#
# Codes, block scales and tensor scale are NVFP4 everywhere. How they lie in memory is not:
#
# | who | codes | block scales | tensor scale |
# |---|---|---|---|
# | ModelOpt | even element low | one row after the other, [N, K/16] | amax/2688, **multiply** (`weight_scale_2`) |
# | compressed-tensors, llm-compressor | the same | the same | 2688/amax, **divide** (`weight_global_scale`) |
# | tensor cores | the same | tiles of 128 rows × 4 scales, padded ([cuBLAS][c]) | part of a factor for the whole product |
# | ggml (llama.cpp) | byte *i*: elements *i* and *i* + 8 of a block | 4 bytes before every 64 elements | a tensor of its own |
#
# [c]: https://docs.nvidia.com/cuda/cublas/index.html
#
# None of these files says "you are reading me wrong". Read pico's matrix in four wrong ways and look at what you get.

# %%
from gb10.formats import elements, layouts

halves = elements.pack_nibbles(layouts.unpack_halves(q.packed, 16))
tiled = layouts.swizzle_scales(q.scales).view(torch.float8_e4m3fn).view(q.scales.shape)
readings = {"as it was written": q,
            "nibbles swapped": NVFP4((q.packed << 4) | (q.packed >> 4), q.scales, q.tensor_scale),
            "as ggml's halves": NVFP4(halves, q.scales, q.tensor_scale),
            "scales in the tensor cores' order": NVFP4(q.packed, tiled, q.tensor_scale),
            "tensor scale divided": NVFP4(q.packed, q.scales, 1 / q.tensor_scale)}
for how, reading in readings.items():
    print(f"{how:<36}relative error {relative_rmse(weight, reading.dequantize()):>14,.3f}")

# %% [markdown]
# A relative error of 1.4 (√2) means: unrelated numbers of the right size. (In ggml's order 2 of 16 codes happen to lie where
# they should.) The inverted tensor scale makes them millions of times too large, which somebody will notice. Scales in
# the wrong order are the nasty mistake: every weight keeps its sign and roughly its size, and what comes out may pass for
# a model that simply isn't good.
#
# ### Exercise 4: from bytes to weights
#
# Write `dequantize` for ModelOpt's layout. `packed` is a `uint8` tensor of K/2 bytes, `scales` a `float8_e4m3fn` tensor of
# K/16; torch can't calculate in float8, `scales.float()` gives the numbers. Return K weights in one flat row.
# `elements.unpack_nibbles` and `decode_e2m1` are yours to use.

# %%
def dequantize(packed, scales, tensor_scale):
    """K weights: E2M1 value times block scale times tensor scale."""
    ### BEGIN SOLUTION
    values = decode_e2m1(elements.unpack_nibbles(packed))
    return values * scales.float().repeat_interleave(16) * tensor_scale
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.dequantize(dequantize)

# %% [markdown]
# ### Stretch: where tensor cores look for a scale
#
# The order of the table's third row. Scales are cut into tiles of 128 rows × 4, each 512 bytes; a row that doesn't fill
# its last tile is padded. Tiles follow one another along the row first, then downwards. Inside a tile, rows 0, 32, 64 and
# 96 lie side by side, four scales each: 16 bytes. Then rows 1, 33, 65 and 97, and so on. At which byte is scale *k* of row
# *m*, if every row has `per_row` scales?

# %%
def scale_offset(m, k, per_row):
    """Byte offset of the scale of row m, block k."""
    ### BEGIN SOLUTION
    tiles_per_row = (per_row + 3) // 4
    tile = m // 128 * tiles_per_row + k // 4
    return tile * 512 + m % 32 * 16 + m % 128 // 32 * 4 + k % 4
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.scale_offset(scale_offset)

# %% [markdown]
# ## 8. What a checkpoint really weighs
#
# Four bits for the code and 8/16 for the block scale: **4.5 bits per weight**, 28.1 % of the 16 bits of BF16, in which
# most models are published (MXFP4: 4.25, 26.6 %). The tensor scale's four bytes don't count in a matrix of millions. But
# that holds for the matrices that are quantized. ModelOpt's usual recipe leaves the embedding table and the output matrix
# (`lm_head`) in BF16, and in a model whose head is *tied* to its embedding, the two are one table, stored once.
#
# **Predict:** Llama-3.1-8B, about 16 GB in BF16. What per cent of that is its NVFP4 checkpoint?

# %%
my_share = 25        # your guess: size of Llama-3.1-8B's NVFP4 checkpoint, in % of its BF16 size

# %% [markdown]
# ### Exercise 5: compute it
#
# `shapes` is a list of (rows, columns), one entry for each quantized matrix; embedding and head are `vocabulary` ×
# `hidden` numbers each, in BF16; with `tied` there is one table instead of two. Return bytes. Norms and tensor scales may
# be left out.

# %%
def checkpoint_bytes(shapes, vocabulary, hidden, tied):
    """Bytes of a model with its linear layers in NVFP4, embedding and head in BF16."""
    ### BEGIN SOLUTION
    linear = sum(rows * columns for rows, columns in shapes) * (4 + 8 / 16) / 8
    table = vocabulary * hidden * 2
    return linear + table * (1 if tied else 2)
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.checkpoint_bytes(checkpoint_bytes)

# %% [markdown]
# The course's own version takes a model's published architecture from the catalogue (`gb10/catalog/`, where each number
# carries its source) and counts norms as well. Does it hold? For pico we have the file.

# %%
computed = sizes.compute(catalog.model(str(paths.PICO)), "BF16").total
there = sum(tensor.bytes for tensor in quantize.inspect_tensors(paths.PICO))
print(f"pico in BF16: computed {computed:,} bytes, in the file {there:,}")

# %%
share = {}
for name in sizes.MODELS:
    bf16, nvfp4 = sizes.compute(name, "BF16").total, sizes.compute(name, "NVFP4").total
    share[name] = 100 * nvfp4 / bf16
    print(f"{name:<15}{bf16 / 1e9:8.2f} GB -> {nvfp4 / 1e9:6.2f} GB   {share[name]:.1f} %")
print(beside("Llama-3.1-8B", my_share, share["Llama-3.1-8B"], "%"))

# %%
sizes.explore()

# %% [markdown]
# What counts is the size of the two tables, vocabulary × hidden, against all the rest: the 1B model keeps 43 % of its
# size, the 70B model 30 %. The mixture of experts keeps even less, because its tables are those of a small model (hidden
# size 2048, as in the 1B one) beside 128 experts per layer. Tick the box, and all fall to the 28 % of the linear layers;
# whether one should is a question of accuracy.
#
# And published checkpoints? Their recipes often leave more alone than the tables. These three are NVIDIA's own; the sizes
# are those of their files on the hub, as the project nvfp4-benchmark noted them with the revisions.

# %%
print("from", sizes.PUBLISHED_SOURCE)
for p in sizes.PUBLISHED:
    print(f"{p.name:<30}{p.bf16_gb:6.1f} -> {p.nvfp4_gb:5.1f} GB, {p.nvfp4_gb / p.bf16_gb:4.0%}. Not NVFP4: {p.left}")

# %% tags=["solution-only"]
# The tests run this notebook: its solutions have to pass their own checkers.
for exercise in (block_scale, quantize_block, pack, unpack, dequantize, scale_offset, checkpoint_bytes):
    assert getattr(check, exercise.__name__)(exercise), exercise.__name__

# %% [markdown]
# So "a quarter of the size" is never right, "28 %" is right for the matrices, and for the file you have to ask what was
# left out. One of these three, with most of its attention in BF16, is still half as large as the original. That is neither
# a mistake nor a fraud: its authors chose what not to round. But it is the number that must fit into your memory.
#
# ## Three things to remember
#
# 1. A block scale is an insurance. Sixteen neighbours share the damage of an outlier, never the matrix; at 24 times their
#    size it has wiped out the other fifteen.
# 2. NVFP4 rounds three times: the tensor scale to FP32, the block scale to E4M3, the weight to E2M1, each with the results
#    of those before. The second scale is there because E4M3 reaches only from 2⁻⁹ to 448; where block scales aren't
#    rounded to E4M3, it does nothing.
# 3. A code has 4 bits, with scales 4.5, with embedding and head 4.7 to 7. Ask which bits somebody counted.
#
# **Next step.** [03-how-good-is-it](03-how-good-is-it.ipynb): the error of every format on every kind of data, and on every
# tensor of pico. The solved notebook is in `solutions/`, for when you have tried.
