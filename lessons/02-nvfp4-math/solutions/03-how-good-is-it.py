# %% [markdown]
# # How good is it?
#
# Sixteen values, a scale for every sixteen weights: you know how NVFP4 works. Now you find out how good it is, in
# numbers that you computed yourself, beside every format that competes with it, on made-up data, on a real model, and
# beside what others have published about whole models.
#
# **Afterwards you can**
#
# - say how far a quantized tensor is from the original, in decibels and in per cent, and what one bit is worth;
# - predict which four-bit format wins on which data, and explain why NVFP4 hardly cares;
# - judge what four-over-six, a scale search and a rotation buy, and where they cost;
# - follow an error from a weight to a layer's output, and doubt a headline about a whole model with reasons.
#
# **Time:** 30 minutes. **You need:** the first two notebooks of this lesson, or E2M1 and block scales from elsewhere.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 2 GB of free memory; no GPU | everything below runs here; the longest cell takes several seconds |
# | spark | one GB10 | nothing: these are questions of arithmetic, and the answers come out the same |
# | rack | several Sparks, B200 or B300 | as on a Spark |

# %%
import math

import torch

from gb10 import machine, paths
from gb10.check import lesson02 as check
from gb10.explore import figure, published, repairs, snr, tensors
from gb10.explore.guess import beside
from gb10.formats import FP8, NVFP4, variants
from gb10.formats.elements import decode_e2m1, encode_e2m1
from gb10.formats.error import relative_rmse
from gb10.formats.error import snr_db as library_snr_db

print(machine.banner("torch", "numpy", "transformers"))

# %% [markdown]
# ## 1. One number for an error
#
# Take a tensor `x`, quantize it, decode it: what comes back is `y`. The **error** is the difference, element by
# element. To compare formats we need one number for all of it, and the usual one is the **signal-to-noise ratio**, SNR:
# the power of the signal over the power of the error, *power* being the mean of the squares.
#
# $$\mathrm{SNR} = 10 \log_{10} \frac{\sum x^2}{\sum (x - y)^2}\ \text{decibels (dB)}$$
#
# The logarithm is there because such ratios span from ten to a million. Ten dB more is an error of a tenth the power.
# Here are the first eight of a million Gaussian "weights", before and after. Would you call that close?

# %%
weights = snr.data()                       # six kinds of data, each 256 x 4096, from a fixed seed
x = weights["Gauss"]
y = NVFP4.quantize(x).dequantize()
for before, after in zip(x[0, :8].tolist(), y[0, :8].tolist()):
    print(f"{before:+.4f} -> {after:+.4f}   off by {after - before:+.4f}")

# %% [markdown]
# ### Exercise 1: the formula as code
#
# Write the formula down, as `snr_db`. `x` and `y` are tensors of the same shape, and the answer is a single number.
# (`x.square()`,
# `.sum()`, `.item()` and `math.log10` are enough.) The check knows more than a dozen ways in which this goes wrong.

# %%
def snr_db(x, y):
    """10 log10 of the power of x over the power of x - y, in dB. x, y: tensors of one shape."""
    ### BEGIN SOLUTION
    return 10 * math.log10(x.square().sum().item() / (x - y).square().sum().item())
    ### STUB
    # raise NotImplementedError      # your code here
    ### END SOLUTION

# %%
check.snr_db(snr_db)

# %% [markdown]
# **Predict.** The relative error of notebook 2 is the error's root mean square divided by that of the weights. How many per
# cent is it for Gaussian weights in FP8, E4M3 with one scale for all of them? You know it for NVFP4. (Root mean square,
# RMS: the square root of the mean of the squares, the size of a typical value.)

# %%
my_error = 1         # your guess: relative error of FP8 in per cent

# %%
for name, codec in (("FP8", FP8), ("NVFP4", NVFP4)):
    back = codec.quantize(x).dequantize()
    print(f"{name:<6}{codec.bits_per_weight:>4} bits   {library_snr_db(x, back):5.2f} dB"
          f"   error {relative_rmse(x, back):.2%}")
print(beside("relative error of FP8", my_error, 100 * relative_rmse(x, FP8.quantize(x).dequantize()), "%"))

# %% [markdown]
# Less than three per cent, against nine and a half for NVFP4. That is worth saying aloud, because one reads that NVFP4 is
# "close to FP8". As a container of weights it is not: eleven decibels lie between them.
#
# How much is eleven decibels? One more bit halves a grid's step, which halves the error, which quarters its power: 10
# log10 4 = **6.02 dB per bit**. Eleven decibels are 1.8 bits. FP8 has 3.5 bits more than NVFP4, but spends part of them
# on a range that these data don't need.
#
# ### Exercise 2: decibels as a relative error
#
# The way from decibels to the relative error of notebook 2 is used so often that you should have it in your fingers: write
# `relative_error`. An SNR is a ratio of powers; a relative error is one of amplitudes, of the square roots of powers.

# %%
def relative_error(db):
    """RMS of the error over RMS of the signal, as a fraction, for an SNR of db decibels."""
    ### BEGIN SOLUTION
    return 10 ** (-db / 20)
    ### STUB
    # raise NotImplementedError      # your code here
    ### END SOLUTION

# %%
check.relative_error(relative_error)

# %% [markdown]
# ## 2. Every format on every kind of data
#
# A Gaussian is only one way in which numbers can be spread. Weights and activations often have **heavier tails**: more
# small values and more very large ones. So we take six kinds: *Gauss*; *Laplace*, with tails that fall off
# exponentially; *Student t* with 5 and with 3 degrees of freedom, whose tails fall off only as a power; *outlier
# columns*, Gaussian but every 128th column 20 times larger, as activations of large models have them ([arXiv
# 2208.07339](https://arxiv.org/abs/2208.07339)); and *uniform*, which has no tails at all.
#
# **Predict.** INT4 with one scale per 128 weights is the workhorse of weight-only quantization. How many dB does it
# lose when we go from Gauss to outlier columns? And NVFP4?

# %%
my_int4_loss = 3     # your guess: dB that INT4 in blocks of 128 loses from Gauss to outlier columns
my_nvfp4_loss = 2    # your guess: the same for NVFP4

# %%
table = snr.table()
for label, guess in (("INT4, blocks of 128", my_int4_loss), ("NVFP4", my_nvfp4_loss)):
    print(beside(f"{label} loses", guess, table.at(label, "Gauss") - table.at(label, "outlier columns"), "dB"))
figure.show(snr.draw_table(table), snr.describe_table(table))

# %% [markdown]
# Each cell was quantized and decoded just now, on 256 × 4096 values from a fixed seed; the colour is the number once
# more. An asterisk marks what is a thought experiment rather than a format you can buy: NVFP4 with one part taken away
# or made perfect, and *NVINT4*, NVFP4's scales around evenly spaced integers. *Floor*, *ceil* and *even* are the three
# ways to choose MXFP4's power-of-two scale; *tiles* share one scale among 16 × 16 weights, which training needs.
#
# A negative loss is a gain: NVFP4 is slightly *better* on outliers. Now read the picture by rows.
#
# - **NVFP4 stays within about one decibel**, 20 to 21 dB, in all six columns, and so it does with better scales. No other
#   four-bit format is as level.
# - **It doesn't win every column.** On uniform data INT4 is some 3 dB ahead. On Gaussian data INT4 in blocks of 32,
#   with the same 4.5 bits, is level.
# - **MXFP4** has the same sixteen values, but blocks of 32 and scales that are powers of two: 1.5 dB behind on Gauss,
#   more than 5 on outliers.
# - **INT8 with a scale per row** swings by more than 20 dB. Eight bits alone are no guarantee; what a scale has to
#   cover is.
#
# The explorer lets you turn the tails up yourself. Rings mark each format on Gaussian data, dots where it is now.
# Choose *outlier columns* and move the slider up to 20: which dots run away, and which stay? Then go on to 100. Every
# four-bit SNR rises again, INT4's, too. Has it become better? Look at the last column below the picture.

# %%
snr.explore()

# %% [markdown]
# ## 3. Why NVFP4 hardly moves
#
# Two things decide what rounding costs. The first is where the numbers fall on the grid 0, 0.5, 1, 1.5, 2, 3, 4, 6. Its
# steps are 0.5 up to 2, then 1, then 2. A value errs by at most half a step, and by step / √12 in RMS if values are
# spread evenly over the step. So values beyond 4 err four times as much as those below 2. The second is the block's
# largest value: the scale is made for it, so it lands on 6, and errs only by the rounding of the scale, two or three
# per cent.
#
# The cell counts both: which share of the values lies on each stretch of the grid and which share of the squared error
# comes from there; and what share of the signal's power sits in the 16-blocks' maxima.

# %%
def shares(x):
    """Per cent of values and of squared error below 2, from 2 to 4, above 4; and of power and error in block maxima."""
    q = NVFP4.quantize(x)
    blocks, back = x.unflatten(-1, (-1, 16)), q.dequantize().unflatten(-1, (-1, 16))
    on_grid = blocks.abs() / (q.scales.float() * q.tensor_scale)[..., None]
    error, power = (blocks - back).square(), blocks.square()
    largest = blocks.abs() == blocks.abs().amax(-1, keepdim=True)
    stretches = [on_grid < 2, (on_grid >= 2) & (on_grid < 4), on_grid >= 4]
    part = lambda what, where: round(100 * (what[where].sum() / what.sum()).item())
    return ([part(torch.ones_like(error), s) for s in stretches], [part(error, s) for s in stretches],
            part(power, largest), part(error, largest))

# %%
print(f"{'':<16}{'% of values at step':<22}{'% of error at step':<22}{'block maxima hold'}")
print(f"{'':<16}{'0.5    1    2':<22}{'0.5    1    2':<22}{'power   error'}")
for name, data in weights.items():
    values, error, power, own = shares(data)
    three = "{:3}  {:3}  {:3}".format
    print(f"{name:<16}{three(*values):<22}{three(*error):<22}{power:3} %   {own:3} %")

# %% [markdown]
# Compare the last row with the one before it. On *uniform* data more than a third of the values lie beyond 4, in the
# coarse stretch, and make three quarters of the error: there, evenly spaced integers are simply the better grid. On
# *outlier columns* four fifths of the power sits in the block maxima, and the maxima cause little of the error. The
# other fifteen lose precision, but they carry little power to lose. The two effects pull in opposite directions as
# tails grow, and with blocks of 16 they nearly cancel.
#
# That is what independence means here: not that nothing is lost, but that the loss is about the same part of the
# block's power each time. Mind what SNR hides, though: it asks about power alone. In the explorer, INT4's SNR *rose* at
# outliers of 50 and 100 because the outliers then hold nearly all power, while in blocks of 128 eight to nine out of ten
# values came back as zero. Where small values matter, look at them, too.
#
# And the scale itself? It is rounded, too, to the eight bits of E4M3, three of them mantissa.
#
# **Predict.** What share of NVFP4's squared error on Gaussian weights comes from rounding the block scales?

# %%
my_scale_share = 20  # your guess: per cent of the squared error that the rounding of the scales causes

# %%
exact = variants.exact_scales(x)                     # the same grid, block scales in full FP32
ratio = (relative_rmse(x, exact) / relative_rmse(x, y)) ** 2
print(f"E4M3 scales {library_snr_db(x, y):.2f} dB, FP32 scales {library_snr_db(x, exact):.2f} dB")
print(beside("share of the scale's rounding", my_scale_share, 100 * (1 - ratio), "%"))

# %% [markdown]
# Eight bits for a scale are plenty: sharpening it to 32 bits would cost 1.5 bits per weight and gain a tenth of a
# decibel. (An E4M3 scale is off by 6 % at most, and a grid that is 3 % too wide is hardly worse than the right one.) A
# power of two, as in MXFP4, makes the grid up to half as wide again or a quarter too narrow (*floor*), or up to twice as
# wide (*ceil*); that, and the blocks of 32, is what you see in the table.
#
# What E4M3 lacks is range; that is what the tensor scale is for. Notebook 2 measured what is lost without it: at σ = 0.001
# a relative error of 28 % instead of 9.5 %, which is 11 dB instead of 20.4. In the table's row *without tensor scale* it is
# less, since σ is 0.02 there.
#
# ## 4. Where it isn't the best
#
# Uniform data you have seen. There are stronger rivals on Gaussian data, too, in llama.cpp. Its Q4_K gives every 32
# weights a scale and an offset of six bits each, within blocks of 256; IQ4_NL has sixteen values placed for bell
# curves; both search for their scales. Q4_0 is INT4 in blocks of 32 that also uses the sixteenth code. These figures are
# **quoted, not computed here**: we took them with ggml's own C code (0.25.3, as in llama-cpp-python 0.3.36, no
# importance matrix; decoded with gguf 0.19.0) on `snr.data(1024, 4096)`, four times the rows that you use.
#
# | format | bits | Gauss | Laplace | Student t, 5 | Student t, 3 | outlier columns | uniform |
# |---|---|---|---|---|---|---|---|
# | Q4_K | 4.5 | 22.9 | 21.5 | 21.6 | 20.7 | 20.3 | 25.3 |
# | IQ4_NL | 4.5 | 22.4 | 21.1 | 21.1 | 19.9 | 18.4 | 23.9 |
# | Q4_0 | 4.5 | 21.3 | 19.4 | 19.4 | 17.9 | 16.6 | 23.7 |
#
# So on Gaussian weights NVFP4 is not the most exact format of 4.5 bits: Q4_K is 2.5 dB, 0.4 bits, ahead. What
# NVFP4 has is that a Blackwell tensor core multiplies it as it is, for weights *and* activations, with scales that take
# one pass to compute. Which data are yours, then? Time to look at some.
#
# ## 5. A real model, tensor by tensor
#
# Pico's linear layers hold 42 weight matrices. While it reads, 24 different activations flow into them. For each we
# compute its **excess kurtosis**, a number for tails: 0 for Gauss, 3 for Laplace, 6 for Student t with 5 degrees of
# freedom, −1.2 for uniform. Then each goes through three formats.
#
# **Predict.** How far apart are the best and the worst SNR that NVFP4 gets on pico's *weights*? And on its
# *activations*?

# %%
my_weight_span = 3       # your guess: dB between NVFP4's best and worst weight matrix
my_activation_span = 6   # your guess: the same for activations

# %%
layers = tensors.linear_tensors(tokens=1024)         # (layer, kind) -> tensor; the text is pico's held-out text
rows = tensors.compute(layers)
for kind, guess in ((tensors.WEIGHT, my_weight_span), (tensors.ACTIVATION, my_activation_span)):
    low, high = tensors.span(rows, "NVFP4", kind)
    print(beside(f"NVFP4 on {kind}s, {low:.1f} to {high:.1f} dB: span", guess, high - low, "dB"))
for r in sorted(rows, key=lambda r: -r.kurtosis)[:3]:
    print(f"{r.kind} into {r.layer}, kurtosis {r.kurtosis:.0f}:",
          ", ".join(f"{k} {v:.1f} dB" for k, v in r.snr.items()))
figure.show(tensors.draw(rows), tensors.describe(rows))

# %% [markdown]
# Pico's weights (circles) are almost perfectly Gaussian. Each behaves like the first column of the table, and the three
# formats lie on three level lines. (Don't generalise: pico is tiny, and was trained on ten million tokens, with the
# optimizer Muon.)
#
# Its activations (triangles) are another matter. The input of every `down_proj` is the product of two vectors (SwiGLU),
# and products have heavy tails: its kurtosis goes from about 60 into the hundreds. There INT4 falls to 13 or 14 dB, MXFP4
# to 16, and NVFP4 *rises* to 22. This is the case for NVFP4 in one picture: not the weights, where others are as good or
# better, but **W4A4**, weights *and* activations in four bits, the latter on the fly and without anyone having seen them
# before.
#
# ## 6. What can be bought
#
# The format leaves open how a block's scale is chosen. The rule so far puts the largest weight on 6. But between 4 and
# 6 lies a gap of a third of the range. **Four over six** ([arXiv 2512.02010](https://arxiv.org/abs/2512.02010)) tries a
# second scale that puts the largest weight on 4, where the top gap is only a quarter, and keeps what errs less.
#
# ### Exercise 3: the better of two scales
#
# Do it for one block, as `better_scale`. The largest magnitude goes to 6 or to 4; the scale is that magnitude divided by
# 6 or by 4, rounded to E4M3, since this is how it is stored. Return the scale with the smaller sum of squared errors.
# (Take the tensor scale to be 1.)

# %%
def round_e4m3(value):
    """A positive number as the nearest E4M3 number, a float."""
    return torch.as_tensor(value).to(torch.float8_e4m3fn).float().item()

def round_e2m1(tensor):
    """Every element to the nearest of E2M1's values, ties to the even code."""
    return decode_e2m1(encode_e2m1(tensor.float()))

# %%
def better_scale(block):
    """block: float32 tensor of 16 weights. Returns the E4M3 scale, largest magnitude / 6 or / 4, that errs less."""
    ### BEGIN SOLUTION
    errors = {}
    for top in (6, 4):
        scale = round_e4m3(block.abs().max() / top)
        errors[scale] = (block - scale * round_e2m1(block / scale)).square().sum().item()
    return min(errors, key=errors.get)
    ### STUB
    # raise NotImplementedError      # your code here
    ### END SOLUTION

# %%
check.better_scale(better_scale)

# %% [markdown]
# On whole arrays, beside a full **scale search** (18 multiples of the usual scale, from 0.75 to 1.6). Both cost time
# when quantizing and nothing afterwards: the result is an ordinary NVFP4 tensor.

# %%
print(f"{'dB':<24}" + "".join(f"{name:>17}" for name in table.data))
for label in ("NVFP4", "NVFP4, four-over-six", "NVFP4, scale search"):
    print(f"{label:<24}" + "".join(f"{v:17.2f}" for v in table.row(label)))

# %% [markdown]
# Four-over-six adds up to 0.8 dB, and 1.3 on uniform data; the search about twice as much. On outliers there is least
# to gain. For weights, which are quantized once, take it; activations would need it for every token.
#
# The other well-known repair is a **rotation**. Multiply each block by an orthonormal matrix before rounding, and by
# its inverse afterwards: an outlier is shared out among all sixteen numbers, and none of them stands out any more. If
# weights and activations are rotated alike, dot products don't change, so that no way back is needed. The usual matrix
# is **Hadamard's**, all +1 and −1, divided by √n so that every row has length 1. Here is what four numbers make of one
# outlier.

# %% tags=["keep_output", "nbval-check-output"]
def signs(n):
    """Hadamard's matrix of +1 and -1, n x n (float64), n a power of two; its rows have length sqrt(n)."""
    h = torch.ones(1, 1, dtype=torch.float64)
    while len(h) < n:
        h = torch.cat((torch.cat((h, h), 1), torch.cat((h, -h), 1)))
    return h

print(signs(4))
outlier = torch.tensor([8.0, 0, 0, 0], dtype=torch.float64)
print("an outlier:", outlier.tolist(), "-> rotated:", (signs(4) @ outlier / math.sqrt(4)).tolist())

# %% [markdown]
# ### Exercise 4: there and back
#
# Write `through_rotation`: rotate a block of 4 or 16 numbers, round it with the function `quantize` that you are given,
# rotate back. Hadamard's matrix is symmetric, so that after the division by √n it is its own inverse. (Short of time?
# Skip this one: nothing below needs it.)

# %%
def through_rotation(block, quantize):
    """block: float64 tensor of 4 or 16 numbers; quantize: tensor -> tensor. What comes back, as a tensor."""
    ### BEGIN SOLUTION
    rotation = signs(len(block)) / math.sqrt(len(block))
    return rotation @ quantize(rotation @ block)
    ### STUB
    # raise NotImplementedError      # your code here
    ### END SOLUTION

# %%
check.through_rotation(through_rotation)

# %% [markdown]
# **Predict.** Rotations were invented against outliers. On the outlier columns, by how many dB does a rotation move
# NVFP4? And INT4 in blocks of 32? (A minus sign means worse.)

# %%
my_nvfp4_move = 2    # your guess: dB that a rotation adds to NVFP4 on outlier columns
my_int4_move = 2     # your guess: the same for INT4 in blocks of 32

# %%
gains = repairs.gains({name: weights[name] for name in ("Gauss", "Student t, 3", "outlier columns")})
move = {g.label: g.rotated - g.plain for g in gains if g.data == "outlier columns"}
print(beside("NVFP4", my_nvfp4_move, move["NVFP4"], "dB"))
print(beside("INT4, blocks of 32", my_int4_move, move["INT4, blocks of 32"], "dB"))
figure.show(repairs.draw_gains(gains), repairs.describe_gains(gains))

# %% [markdown]
# The same trick lifts integers by many decibels and *lowers* NVFP4. Section 3 says why. NVFP4 stored the outlier almost
# without error; rotated, its power lies in sixteen numbers of similar size, most of them on the coarse outer steps of
# the grid. Evenly spaced integers are made for just that. Rotated integers even pass NVFP4 on these data. [arXiv
# 2509.23202](https://arxiv.org/abs/2509.23202) shows that blocks of 16 neutralize such repairs, and finds a rotation to
# lower plain NVFP4 in all seven of its models (rows `RTN + Hadamard 16` in the file of section 8).
#
# Watch it on a single block. Grey lines are the values that the block can take. Raise the *outlier*, then switch the
# *repair*; a single block scatters, so try several.

# %%
repairs.explore()

# %% [markdown]
# One more tool looks like a bad idea: **stochastic rounding** goes up or down by chance, the more often up the nearer
# the upper value is. Here 2.3 lies between 2 and 3. Look at the mean and the spread, then at the SNR.

# %%
generator = torch.Generator().manual_seed(0)
block = torch.tensor([[6.0] + [2.3] * 15])           # 6 in front: one grid unit is 1
draws = torch.stack([variants.stochastic(block, generator).dequantize()[0, 1:] for _ in range(500)])
nearest = NVFP4.quantize(block).dequantize()[0, 1].item()
print(f"2.3 to nearest: always {nearest:.1f}; stochastic: mean {draws.mean():.2f}, deviation {draws.std():.2f}")
noisy = variants.stochastic(x, generator).dequantize()
print(f"Gaussian weights: nearest {library_snr_db(x, y):.2f} dB, stochastic {library_snr_db(x, noisy):.2f} dB")

# %% [markdown]
# Nearest is closer, but always wrong in the same direction: 2.3 becomes 2 each time. Stochastic rounding is three
# decibels noisier and right on average. A weight is rounded once, so take nearest. A gradient is one of thousands that
# are added up, where noise averages out and a bias does not: NVFP4 training rounds gradients stochastically ([arXiv
# 2509.25149](https://arxiv.org/abs/2509.25149)).
#
# ## 7. From a weight to an output
#
# A layer computes y = Wx: each output is a sum of hundreds of products. Do errors pile up in it, or average out? Both:
# with random signs the sum of the errors grows in the same way as the sum of the products, so that the *ratio* stays.
# In W4A4 the activations are rounded as well, and their errors come on top.
#
# **Predict.** W has an SNR of 20.4 dB and so does x. By how many dB does the SNR of y lie below that if both are
# rounded?

# %%
my_output_loss = 0   # your guess: dB that Wx loses when x is rounded as well as W

# %%
def output_snr(w, x):
    """SNR of x W^T with W rounded, with x rounded, with both; each in dB."""
    qw, qx, y = NVFP4.quantize(w).dequantize(), NVFP4.quantize(x).dequantize(), x @ w.T
    return tuple(library_snr_db(y, approximate) for approximate in (x @ qw.T, qx @ w.T, qx @ qw.T))

w = layers["1.q_proj", tensors.WEIGHT]
gauss = torch.randn(1024, w.shape[1], generator=torch.Generator().manual_seed(0))
w_only, x_only, both = output_snr(w, gauss)
print(f"Gaussian x: W rounded {w_only:.2f} dB, x rounded {x_only:.2f} dB, both {both:.2f} dB")
print(beside("Wx loses", my_output_loss, w_only - both, "dB"))

# %% [markdown]
# ### Exercise 5: two errors
#
# Independent errors add in *power*: noise per signal is 10^(−dB/10), and the two noises are added. Write `combined_db`,
# which says what comes out of a product whose factors have `a` and `b` dB. Then hold it against real layers with real
# activations.

# %%
def combined_db(a, b):
    """SNR in dB of a product whose factors have a and b dB, their errors being independent."""
    ### BEGIN SOLUTION
    return -10 * math.log10(10 ** (-a / 10) + 10 ** (-b / 10))
    ### STUB
    # raise NotImplementedError      # your code here
    ### END SOLUTION

# %%
check.combined_db(combined_db)

# %%
print(f"{'layer':<14}{'W rounded':>11}{'x rounded':>11}{'both':>8}{'powers added':>14}   (dB of the output)")
for name in ("1.q_proj", "1.v_proj", "1.o_proj", "1.up_proj", "1.down_proj"):
    a, b, both = output_snr(layers[name, tensors.WEIGHT], layers[name, tensors.ACTIVATION])
    print(f"{name:<14}{a:11.2f}{b:11.2f}{both:8.2f}{snr.powers_added(a, b):14.2f}")

# %% [markdown]
# Adding powers predicts every layer to within a tenth of a decibel. Two equal errors cost 3 dB, half a bit: under W4A4
# these layers' outputs are off by 8 to 15 per cent. That the first two columns differ from 20.4 is real, too: a trained
# layer answers some directions more strongly than others, while rounding noise points anywhere. Where the real inputs
# lie in strong directions (`q_proj`), the ratio is better; where they lie in weak ones (`up_proj`), it is worse. Some
# ten per cent in every layer, and still models work. How well?
#
# ## 8. Whole models, as published
#
# No formula leads from decibels to a benchmark score. Layers add to a running sum, so that errors average; a question
# is right or wrong, so that small errors often change nothing, and now and then everything. One has to measure. The
# course keeps published figures in `published_accuracy.csv`, each with its source; *secondary* marks those that we have
# at second hand.
#
# **Predict.** The picture shows seven models with weights and activations rounded to four bits, nothing else done
# (*RTN*, round to nearest). How many of the seven lose less than 1 % of their benchmark score with NVFP4?

# %%
my_count = 4         # your guess: how many of seven models lose less than 1 %

# %%
figures = published.read(paths.LESSONS / "02-nvfp4-math" / "published_accuracy.csv")
nvfp4, mxfp4 = (published.recovery(figures, name, "RTN") for name in ("NVFP4", "MXFP4"))
print(beside("models that lose less than 1 %", my_count, sum(r.kept > 99 for r in nvfp4)))
print("source:", *{f"{r.source}, {r.url}" for r in nvfp4})
figure.show(published.draw(figures), published.describe(figures))

# %% [markdown]
# "Less than one per cent" is true of the best large models and not of small ones: Llama's 1B loses a sixth of its
# score. Size isn't everything: Qwen3-8B keeps more than Llama 8B, and the MXFP4 line of Qwen3 goes up and down. Each
# point is a mean over a few benchmarks, with chance of its own that the picture doesn't show. Here is what repairs
# bring to whole models: GPTQ, which chooses codes so that the layer's output errs least; AWQ and SmoothQuant, which
# shift range between activations and weights and were made for integers (here they end below plain rounding); and
# training with the rounding in the loop (QAT, and QAD, which learns from the original model's answers).

# %%
for r in figures:
    if r.unit == "score" and r.model.startswith(("Nemotron Super", "AceReason", "Qwen3-30B")):
        print(f"{r.model:<20}{r.metric:<16}{r.method:<12}{r.baseline:5.1f} -> {r.value:5.1f}"
              f"  {r.kept:5.1f} % kept  {r.source}")

# %% [markdown]
# ### An exercise in doubt
#
# Six sentences of a kind that one reads. For each, say whether *what you have seen on this page* supports it: `True` or
# `False`.
#
# - **A** "NVFP4 loses less than 1 % of accuracy."
# - **B** "NVFP4 is nearly as exact as FP8."
# - **C** "Rotate before you quantize: it helps every four-bit format."
# - **D** "With plain rounding, NVFP4 keeps more than MXFP4."
# - **E** "Quantization-aware training (QAT) beats plain quantization (PTQ)."
# - **F** "NVFP4 improved DeepSeek-R1: AIME 2024 went from 89 to 91."

# %%
my_verdicts = {"A": True, "B": True, "C": True, "D": True, "E": True, "F": True}     # change what you doubt

# %%
scores = {(r.model, r.metric, r.method): r.value for r in figures}
tried = [(v, scores[m, k, "PTQ"]) for (m, k, how), v in scores.items() if how == "QAT" and (m, k, "PTQ") in scores]
worse = sum(qat < ptq for qat, ptq in tried)
other = {r.model: r.value for r in mxfp4}
ahead = sum(r.value > other[r.model] for r in nvfp4)
evidence = {
    "A": (False, f"{sum(r.kept > 99 for r in nvfp4)} of {len(nvfp4)} models do, with plain rounding; which model, and how?"),
    "B": (False, f"{table.row('FP8, one scale per tensor')[0] - table.row('NVFP4')[0]:.0f} dB lie between them"),
    "C": (False, f"NVFP4 on outlier columns: {move['NVFP4']:+.1f} dB"),
    "D": (True, f"on {ahead} of {len(nvfp4)} models"),
    "E": (False, f"QAT was below PTQ in {worse} of {len(tried)} pairs (one paper, which argues for QAD)"),
    "F": (False, "30 questions: one is worth 3.3 points, a rise of 2 may be chance (our source is secondary)"),
}
for letter, (truth, why) in evidence.items():
    print(f"{letter}  you: {my_verdicts.get(letter)!s:<6} evidence: {truth!s:<6} {why}")

# %% tags=["solution-only"]
# The tests run this notebook: its solutions have to pass their own checkers.
for exercise in (snr_db, relative_error, better_scale, through_rotation, combined_db):
    assert getattr(check, exercise.__name__)(exercise), exercise.__name__

# %% [markdown]
# The pattern behind all six: what holds, holds for a format, *a rule for its scales*, *a model* and *a measure*. Where
# one of them is missing, ask.
#
# ## Three things to remember
#
# 1. NVFP4 gives 20 to 21 dB, an error of about 9.5 per cent, on almost any data. Its strength is that it doesn't depend
#    on the distribution; on Gaussian or uniform weights other formats of 4.5 bits are more exact.
# 2. Six decibels are a bit. Errors of weights and activations add in power: W4A4 costs 3 dB on top. Better scales gain
#    a decibel or so, and a rotation helps integers and hurts NVFP4.
# 3. Decibels don't tell a model's accuracy. Small models lose more; "below 1 %" needs a name, a size and a method
#    beside it.
#
# **Next step.** Lesson 3, *Quantize with ModelOpt*: you calibrate, quantize and serve pico, and measure what these
# decibels do to its loss on text it has never seen. The solved notebook is in `solutions/`, for when you have tried.
