# %% [markdown]
# # Sixteen values
#
# NVFP4 stores a weight in four bits. Four bits make sixteen patterns, so everything a weight can be, before scales come in,
# fits on one line of text. In this notebook you take these patterns apart, find out how a number is rounded to one of them,
# and see how a real model uses them. The format's name is **E2M1**, and it is small enough to understand completely.
#
# **Afterwards you can**
#
# - read the value of an E2M1 code from its bits, and say why the largest is 6 and the smallest above zero is 0.5;
# - write down all values of any small floating-point format, and see what one bit more of exponent or mantissa would do;
# - round a number as the hardware does: to the nearest, ties to the even code, saturating at the end;
# - say which codes the weights of a real model use, and why.
#
# **Time:** 25 minutes. **You need:** some Python. You need not have seen floating-point bits before.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 2 GB of free memory; no GPU | nothing: this is arithmetic |
# | spark | one GB10 | nothing. Its tensor cores read these very codes |
# | rack | several Sparks, B200 or B300 | nothing |

# %%
import torch

from gb10 import machine, paths, quantize
from gb10.check import lesson02 as check
from gb10.explore import bits, figure, rounding
from gb10.explore.guess import beside
from gb10.formats import MXFP4, NVFP4
from gb10.formats.elements import E2M1, E2M1_BOUNDS, decode_e2m1, encode_e2m1

print(machine.banner("torch", "ipywidgets"))

# %% [markdown]
# ## 1. A number from four bits
#
# A floating-point number is scientific notation in base two. As 4700 is written 4.7 · 10³, so 6 is written 1.5 · 2²: a
# **sign**, an **exponent** (the power of two), and a **mantissa** (the factor in front). In base two the factor of any
# number but zero can be made to begin with 1, so this leading one need not be stored; only what stands behind the point is.
#
# E2M1 says how the bits are spent: 2 exponent bits, 1 mantissa bit, and in front of them always 1 sign bit. Read from left
# to right, the four bits are *s e e m*. The exponent bits, read as a number from 0 to 3, are shifted down by 1 (the
# **bias**), so that small powers can be written as well:
#
# $$(-1)^s \cdot 2^{e-1} \cdot \left(1 + \frac{m}{2}\right) \qquad \text{for } e = 1, 2, 3$$
#
# **Predict.** What is the value of the bits `0101`? Here *s* = 0, *e* = binary 10 = 2, *m* = 1.

# %%
my_value = 5         # your guess: the value of 0101

# %% [markdown]
# Now switch bits yourself (Tab goes to a button, the space bar switches it). The table below the buttons shows the formula
# with your bits in it. The picture shows the value on the number line and, shaded, all numbers that are rounded to it: a
# filled end, written [ or ], belongs to them, an open one, ( or ), doesn't. Find out what the mantissa bit does at different
# exponents, and look at what happens where both exponent bits are 0.

# %%
print(beside("the value of 0101", my_value, decode_e2m1(torch.tensor(0b0101)).item()))
bits.toggler(code=5)

# %% [markdown]
# If you said 5, you read the bits as an integer. They are taken apart: 2¹ · 1.5 = 3.
#
# The formula has one hole. It never gives zero: with *e* = 0 it would make 0.5 and 0.75. So the lowest exponent is an
# exception, called **subnormal**: for *e* = 0 there is no leading one, and the power stays what it is for *e* = 1.
#
# $$(-1)^s \cdot 2^{0} \cdot \frac{m}{2} \qquad \text{for } e = 0$$
#
# That gives 0 and 0.5. The usual floats of 16 and 32 bits, FP16 and FP32, have the same exception, with about a thousand and
# eight million subnormal numbers above zero; E2M1 has one, 0.5. It halves what would be a gap between 0 and 1, so that the
# grid has even steps from 0 to 2.
#
# ### Exercise 1: decode a code
#
# Write `decode`. It gets a code, an integer from 0 to 15, and returns its value. `code >> 3` is the sign bit,
# `code >> 1 & 3` are the exponent bits, `code & 1` is the mantissa bit. Code 8 may come out as 0.0 or as -0.0. Please work
# it out from the bits instead of looking up a table: the next exercise needs the rule.
#
# Run the cell, then the one below it. You may leave it for later: the notebook goes on without it.

# %%
def decode(code):
    """The value of an E2M1 code from 0 to 15."""
    ### BEGIN SOLUTION
    sign, e, m = code >> 3, code >> 1 & 3, code & 1
    magnitude = 2 ** (e - 1) * (1 + m / 2) if e else m / 2
    return -magnitude if sign else magnitude
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.decode(decode)

# %% [markdown]
# ## 2. All sixteen
#
# **Predict.** Sixteen codes: how many *different* values do they make?

# %%
my_values = 16       # your guess: number of different values

# %% tags=["keep_output", "nbval-check-output"]
codes = torch.arange(16, dtype=torch.uint8)
values = decode_e2m1(codes, minus_zero=True).tolist()
for code in range(8):
    print(f"{code:>2} = {code:04b} {values[code]:>6}        {code + 8:>2} = {code + 8:04b} {values[code + 8]:>6}")

# %%
print(beside("different values", my_values, len(set(values))))
print("is -0.0 equal to 0.0?", -0.0 == 0.0)
print("have they the same sign bit?", torch.tensor(-0.0).signbit().item() == torch.tensor(0.0).signbit().item())

# %% [markdown]
# Fifteen, because there are two zeros. The sign is a bit of its own, so zero comes with either sign, and the two compare as
# equal. It is easy to miss: a table of "all 16 values" that is built from a *set* of values prints 15 lines.
#
# A sixteenth of the codes is a lot to spend on a second zero. What it buys is simplicity: negating a number flips one bit,
# and a multiplier can treat sign and magnitude apart. (Integers in two's complement have one zero, but then −8 has no +8.)
#
# Which zero do you get? Programs differ here, and that matters when you compare checkpoints (the files in which models are
# stored) byte by byte. ModelOpt, NVIDIA's library for quantizing models, sets the sign bit for whatever is below zero. So
# a small negative number is rounded to code 8, while −0.0, which is not *below* zero, becomes code 0. The table shows
# code 8 as the format defines it, −0.0; ModelOpt reads it as +0.0. The course does as ModelOpt does, bit for bit; its
# tests compare the two. (Of two other libraries that you will meet, torchao keeps the sign of −0.0, and ggml, on which
# llama.cpp is built, never writes a code 8 when it quantizes.)

# %% tags=["keep_output", "nbval-check-output"]
for x in (0.1, 0.0, -0.0, -0.1, -0.25, -0.26):
    code = encode_e2m1(torch.tensor(x))
    print(f"{x:>6} -> code {code:>2} = {code.item():04b} -> {decode_e2m1(code).item()}")

# %% [markdown]
# ### Why 6, and not more or less?
#
# The largest code, `0111`, is 2² · 1.5 = 6. In FP16 and FP32 the highest exponent is reserved: its patterns stand for
# infinity and NaN ("not a number"). If E2M1 did that, four of sixteen codes would be gone and the largest value would be 3,
# a figure that you may come across. But the specification in which E2M1 was defined in 2023
# ([OCP Microscaling Formats](https://www.opencompute.org/documents/ocp-microscaling-formats-mx-v1-0-spec-final-pdf))
# gives it neither infinity nor NaN. Every pattern is a number.
#
# That has a price. What becomes of a NaN among the weights? There is no code for it. `NVFP4.quantize`, from the course's own
# library, refuses.

# %%
try:
    NVFP4.quantize(torch.tensor([[1.0] * 15 + [float("nan")]]))
except ValueError as error:
    print(error)

# %% [markdown]
# ## 3. Three bits, spent in different ways
#
# Besides the sign there are three bits. Two go to the exponent and one to the mantissa; nothing in nature says that they
# must. An E1M2 would have one and two, an E3M0 three and none. What would their values be?
#
# ### Exercise 2: any small format
#
# Write `magnitudes(exponent_bits, mantissa_bits)`: a list of the values of the codes 0, 1, 2, … without the sign bit, in
# that order. The rule is the one that you know, with its numbers made general:
#
# - the bias is 2^(exponent_bits − 1) − 1;
# - the mantissa bits, read as a number *m*, are worth *m* / 2^mantissa_bits;
# - for *e* = 0 there is no leading one, and the power of two is that of *e* = 1.
#
# No code is reserved for infinity or NaN. For E2M1, `magnitudes(2, 1)`, it must give the eight values that you have seen.

# %%
def magnitudes(exponent_bits, mantissa_bits):
    """Values of the codes 0, 1, 2, … without the sign bit."""
    ### BEGIN SOLUTION
    bias, steps = 2 ** (exponent_bits - 1) - 1, 2 ** mantissa_bits
    return [2.0 ** (max(e, 1) - bias) * ((1 if e else 0) + m / steps)
            for e in range(2 ** exponent_bits) for m in range(steps)]
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.magnitudes(magnitudes)

# %% tags=["keep_output", "nbval-check-output"]
from gb10.explore import minifloat

for exponent, mantissa in ((1, 2), (2, 1), (3, 0)):
    print(f"E{exponent}M{mantissa}:", *(f"{v:g}" for v in minifloat.magnitudes(exponent, mantissa)), sep="\t")

# %% [markdown]
# One exponent bit makes an evenly spaced grid: E1M2 is a four-bit integer in disguise (double it: 0 to 7). Beware of pages
# that describe FP4 as one exponent and two mantissa bits: that would be INT4 over again. Three exponent bits make powers of
# two, with wide gaps above. E2M1 lies in between: even steps of 0.5 up to 2, then steps of 1, then of 2. The steps grow with
# the numbers.
#
# What is that good for? Stretch an integer grid from −7 to 7 until it ends at 6 as well. Its step is then 6/7 ≈ 0.86
# everywhere, and no number is more than half a step, 0.43, away from it.
#
# **Predict.** Between −6 and 6, how far can a number be from the nearest E2M1 value?

# %%
my_distance = 0.4    # your guess: the largest rounding error of E2M1 between -6 and 6

# %%
x = torch.linspace(0.02, 6, 2991)
error = {"E2M1": (decode_e2m1(encode_e2m1(x)) - x).abs(),
         "even steps of 6/7": (torch.round(x * 7 / 6) * 6 / 7 - x).abs()}
fig, axes = figure.new(10, 3.2, columns=2)
for ax, relative in zip(axes, (False, True)):
    for (name, e), colour in zip(error.items(), (figure.BLUE, figure.ORANGE)):
        ax.plot(x, e / x * 100 if relative else e, color=colour, label=name)
    ax.set(xlabel="the number", title="error, % of the number" if relative else "error")
axes[0].legend(frameon=False)
worst = {name: e.max().item() for name, e in error.items()}
print(beside("largest error of E2M1", my_distance, worst["E2M1"]))
print(f"largest error of even steps: {worst['even steps of 6/7']:.2f}")
figure.show(fig, "Two line charts of the rounding error from 0 to 6. Left, in absolute terms: teeth of one height for "
                 "even steps, teeth that grow to 1 for E2M1. Right, in per cent of the number: above 1, E2M1 stays at "
                 "or below 20 %, even steps are worse below 2 and better above 4.")

# %% [markdown]
# The integer grid has the smaller worst error, 0.43 against 1. It is no miracle of floating point that makes E2M1 useful:
# it gives up precision near the top and spends it near zero. In per cent of the number itself (right-hand picture) the
# teeth of E2M1 end between 14 and 20 % from 1 upwards, whatever the size; this is what *floating* buys. Even steps do better
# above 4 and worse below 2: with them everything up to 0.43 becomes zero, with E2M1 only what is up to 0.25.
#
# Which is better depends on where the numbers lie. If all sizes up to 6 are equally frequent, even steps win. If most
# numbers are much smaller than the largest one, as in a block of weights with an outlier, E2M1 wins. Notebook 3 measures it.
#
# ## 4. Rounding
#
# Move the number with the slider or the arrow keys. Each row is a grid, with its **bins** in two shades: all numbers in a
# bin are rounded to the one value in it. Try 4.5, where E2M1 has nothing near; 7, beyond the end; and then 2.5.

# %%
rounding.explore(x=4.5)

# %% [markdown]
# At 7, E2M1 **saturates**: whatever lies beyond 6 becomes 6. (In NVFP4 this hardly happens. The scale of a block is chosen
# such that its largest weight comes to lie at 6, or just beside it, since the scale is rounded, too.) The GPU's instruction
# for this conversion has it in its name, `cvt.rn.satfinite.e2m1x2`: round to nearest, saturate, two numbers at a time
# ([PTX manual](https://docs.nvidia.com/cuda/parallel-thread-execution/)).
#
# At 2.5 there is a **tie**: 2 and 3 are equally near. School teaches to round halves up.
#
# **Predict** where the seven ties of E2M1 go. Three of them are below; change what you believe is different.

# %%
my_ties = {0.25: 0.5, 2.5: 3.0, 3.5: 4.0}        # your guess: tie -> value

# %% tags=["keep_output", "nbval-check-output"]
for lower, tie in enumerate(E2M1_BOUNDS):
    code = encode_e2m1(torch.tensor(tie)).item()
    passed = f"passed if x {'>=' if code > lower else '> '} {tie}"
    print(f"{tie:>4} between {E2M1[lower]} and {E2M1[lower + 1]} -> {E2M1[code]} = code {code:03b}    {passed}")

# %%
for tie, guess in my_ties.items():
    print(beside(f"{tie} goes to", guess, decode_e2m1(encode_e2m1(torch.tensor(tie))).item()))

# %% [markdown]
# Look at the last bit of the codes: it is always 0. The rule is **ties to even**, and "even" speaks of the *code*, not of
# the value. Codes alternate between even and odd, so ties go down, up, down, up. Written as comparisons, `>` and `>=`
# alternate; you see them at the end of each line.
#
# Why so complicated? Suppose that numbers come in quarters, so that ties are frequent. Round all of them from 0 to 4 with
# three rules, and look at the mean of the errors. `bucketize` counts how many boundaries a number has passed, with `>` or
# (`right=True`) with `>=`.

# %% tags=["keep_output", "nbval-check-output"]
quarters = torch.arange(0, 4.25, 0.25)
grid, bounds = torch.tensor(E2M1), torch.tensor(E2M1_BOUNDS)
rules = {"ties to even": decode_e2m1(encode_e2m1(quarters)),
         "ties toward zero": grid[torch.bucketize(quarters, bounds)],
         "ties away from zero": grid[torch.bucketize(quarters, bounds, right=True)]}
for name, rounded in rules.items():
    print(f"{name:<20} mean error {(rounded - quarters).mean().item():+.3f}")

# %% [markdown]
# With the other two rules every tie pushes in the same direction, and a sum over many numbers drifts. Ties to even lets them
# cancel. This is why IEEE 754 makes it the default for binary floating point. (On this grid it isn't perfect: there is a
# seventh tie, 5, with no partner. It goes down to 4.)
#
# But do ties happen among real weights? Below, every weight of pico's linear layers is divided by its scale, which gives the
# numbers that are rounded to E2M1. (pico is the small model that comes with the course.) It is done twice: for NVFP4, and
# for its sister format MXFP4, whose scales are powers of two.
#
# **Predict.** How many per cent of these numbers lie exactly on a tie, in NVFP4?

# %%
my_share = 5         # your guess: per cent of pico's scaled weights that lie on a tie

# %%
def scaled(weight, fmt):
    """The weights in units of their scale: what is rounded to E2M1."""
    q = fmt.quantize(weight)
    scale = q.scales.float() * (q.tensor_scale if fmt is NVFP4 else 1)      # one for each block
    return (weight.float() / scale.repeat_interleave(fmt.block, dim=-1)).flatten()

names = [t.name for t in quantize.inspect_tensors(paths.PICO) if "_proj" in t.name]
weights = [quantize.read_tensor(paths.PICO, name) for name in names]
y = torch.cat([scaled(w, NVFP4) for w in weights])
on_tie = [100 * torch.isin(v.abs(), bounds).float().mean().item()
          for v in (y, torch.cat([scaled(w, MXFP4) for w in weights]))]
print(f"{len(y):,} weights of {len(names)} tensors; in NVFP4 the largest comes to lie at {y.abs().max().item():g}")
print(beside("on a tie in NVFP4", my_share, on_tie[0], "%"))
print(f"on a tie in MXFP4: {on_tie[1]:.2g} %")

# %% [markdown]
# A fraction of a per cent. For the quality of these weights the rule is of little account: with another one (ggml sends ties
# to the lower code) no more weights than these could change, each by one step. It counts for two other reasons. First, all
# programs must do the same, or their checkpoints differ and no test can say whether one of them has a bug. Second, there is
# data that is coarse to begin with: pico's weights, like those of most models, are stored in BF16, whose numbers have eight
# significant bits. Dividing by a power of two leaves those as they are, so in MXFP4 ties are several times as frequent.
# NVFP4 divides by a less round number, and the quotient is rarely on a mark.
#
# ### Exercise 3: encode a number
#
# Write `encode`. It gets a float and returns the code, an integer from 0 to 15:
#
# - the magnitude goes to the nearest value, a tie to the even code, everything beyond 6 to code 7;
# - the sign bit is set if and only if `x < 0`. So -0.0 gives 0, and a tiny negative number gives 8.

# %%
def encode(x):
    """The E2M1 code of a number."""
    ### BEGIN SOLUTION
    a = abs(x)
    passed = (a > 0.25, a >= 0.75, a > 1.25, a >= 1.75, a > 2.5, a >= 3.5, a > 5)
    return sum(passed) + (8 if x < 0 else 0)
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.encode(encode)

# %% [markdown]
# ## 5. The bigger sibling: E4M3
#
# NVFP4 stores the scale of each block as a float, too, in eight bits: **E4M3**, four exponent bits with bias 7 and three
# mantissa bits. PyTorch knows it as `torch.float8_e4m3fn`. Same recipe, other numbers. Your rule from exercise 2 gives
# 2⁸ · 1.875 = 480 for the largest code, `1111 111` after the sign bit.
#
# **Predict** the largest E4M3 value according to PyTorch.

# %%
my_largest = 480     # your guess: the largest float8_e4m3fn

# %% tags=["keep_output", "nbval-check-output"]
e4m3 = torch.arange(128, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
for code in (0x00, 0x01, 0x07, 0x08, 0x38, 0x39, 0x7D, 0x7E, 0x7F):
    print(f"0x{code:02x} = {code >> 3:04b} {code & 7:03b}   {e4m3[code].item():g}")

rule = torch.tensor(minifloat.magnitudes(4, 3))
print("codes that differ from the rule of exercise 2:", [hex(i) for i in (e4m3 != rule).nonzero().flatten()])

# %%
print(beside("largest E4M3 value", my_largest, e4m3[:127].max().item()))
steps = e4m3[1:127] - e4m3[:126]
print(f"step above 1.0: {steps[0x38]:g}; step below 448: {steps[0x7D]:g}; smallest step: {steps.min():g}")

# %% [markdown]
# 448, which is 2⁸ · 1.75. One pattern, all ones, is given to NaN, and it is the one that would have been 480. (The *fn* in
# the name says: finite values and NaN, no infinity.) Everything else is as your rule says: the smallest value above zero
# is 2⁻⁹, code `0x01`; 1.0 is `0x38`; its neighbour is 1.125, an eighth more. Half of that step is the worst that rounding
# can do: with three mantissa bits a scale is off by at most one part in 17, about 6 %, as long as it isn't subnormal. You
# will meet 6 and 448 again as the product 2688, the largest number that an E2M1 value and its scale make together.
#
# MXFP4 uses another scale: **E8M0**, eight exponent bits and nothing else. No sign, no mantissa, no zero: the powers of two.

# %% tags=["keep_output", "nbval-check-output"]
e8m0 = torch.tensor([0, 126, 127, 128, 254, 255], dtype=torch.uint8)
for byte, value in zip(e8m0.tolist(), e8m0.view(torch.float8_e8m0fnu).float().tolist()):
    print(f"{byte:>3} = {byte:08b}   {value:g}")

# %% [markdown]
# A byte is a power of two: 127 is 2⁰ = 1, one more doubles it; 255 is NaN. Its range is enormous, but even the nearest power
# of two can be off by a third. Whether range or precision is the better use of eight bits is the subject of notebook 2.
#
# ## 6. What a real model uses
#
# You have 4.7 million scaled weights of pico in `y`. Weights pile up around zero, in nearly every model, and in pico, too.
#
# **Predict.** Which *magnitude* will be used most: 0, 0.5, 1, 1.5, 2, 3, 4 or 6?

# %%
my_commonest = 0     # your guess: the most frequent magnitude

# %%
used = torch.bincount(encode_e2m1(y).int(), minlength=16)
share = (100 * used / used.sum()).tolist()
fig, ax = figure.new(9, 3)
drawn = ax.bar(range(16), share, color=[figure.BLUE] * 8 + [figure.ORANGE] * 8)
ax.bar_label(drawn, fmt="%.1f", fontsize=8)
labels = [f"{code:04b}\n{values[code]:g}" for code in range(16)]
ax.set(xticks=range(16), xticklabels=labels, ylabel="% of all weights", title="how often pico uses each code")
figure.show(fig, "Bar chart, share of each of the sixteen codes in pico's weights: " + ", ".join(
    f"{values[c]:g} {share[c]:.1f} %" for c in range(16)) + ".")

# %%
both_signs = [a + b for a, b in zip(share[:8], share[8:])]
commonest = max(range(8), key=lambda code: both_signs[code])
print(beside("commonest magnitude", my_commonest, E2M1[commonest]))
p = used / used.sum()
print(f"entropy of the codes: {-(p * p.log2()).sum().item():.2f} of 4 bits")

# %% tags=["solution-only"]
# The tests run this notebook: its solutions have to pass their own checkers.
assert check.decode(decode) and check.magnitudes(magnitudes) and check.encode(encode)

# %% [markdown]
# Two effects meet. Weights do pile up around zero; but the scale of a block stretches its largest weight to 6, which pushes
# the others outwards, and the bins grow wider with distance. Counted on one side of zero, the bin of 0 is 0.25 wide,
# those of 0.5, 1 and 1.5 are 0.5, that of 2 is 0.75, of 3 is 1, of 4 is 1.5. Wider bins catch more, thinner crowds give
# less, and the balance lies at 2 and 3.
#
# The two zeros share what would be the bar of one. For the rest the codes are used almost evenly, and **entropy** says so
# in one number: if all were used equally often, it would be 4 bits. What is missing to 4 is all that a compressor could save
# that looks at the codes one by one: less than one per cent. The grid fits the data, because the scales make it fit.
#
# ## Three things to remember
#
# 1. E2M1 is sign, two exponent bits with bias 1, one mantissa bit: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. Sixteen
#    codes, fifteen values, no infinity and no NaN.
# 2. Rounding goes to the nearest, ties to the even *code*, beyond 6 to 6. The sign bit is set for whatever is below zero.
# 3. The steps grow with the numbers. Near the top E2M1 is coarser than a four-bit integer, near zero it is finer.
#
# **Next step.** [02-a-block-and-its-scale](02-a-block-and-its-scale.ipynb): weights are far smaller than 6, so sixteen of
# them share a scale. The solved notebook is in `solutions/`, for when you have tried.
