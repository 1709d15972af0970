# %% [markdown]
# # What a calibrator sees
#
# "Calibrate on 512 samples", say the recipes. What does calibration look at, what does it keep, and what happens if you give
# it eight samples, or nonsense? In this notebook you look over its shoulder, then feed it wrong ranges on purpose, until the
# model breaks.
#
# **Afterwards you can**
#
# - say what max calibration keeps of a text, and which tokens decide it;
# - compute by how much a range can be wrong, in both directions, before NVFP4 suffers;
# - choose the number of samples from a measurement, and recognise a calibration set that does harm;
# - tell the damage done to weights from the damage done to activations.
#
# **Time:** 25 minutes, of which the machine works for one or two. **You need:** the first notebook of this lesson.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 4 GB of free memory, no GPU | nothing: pico is calibrated and measured on the CPU |
# | spark | one GB10 | nothing here; section 8 has the command for a model of your own |
# | rack | several Sparks, B200 or B300 | as on a Spark |

# %%
import modelopt.torch.quantization as mtq
import torch

from gb10 import machine, paths, quantize
from gb10.check import lesson03 as check
from gb10.explore import calibration, figure, ranges
from gb10.explore.guess import beside

torch.manual_seed(0)
print(machine.banner("torch", "transformers", "nvidia-modelopt"))

# %% [markdown]
# ## 1. One number per layer
#
# Pico again, this time in FP32: the same numbers as its BF16 file holds, and most CPUs multiply them faster. Calibration text
# comes from `calibration.txt`, cut into 512 samples of 64 tokens. That is short (`./course quantize` takes 512), so that all
# of them fit into a few seconds. They are shuffled: neighbours in a text resemble each other.

# %%
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

logging.disable_progress_bar()
logging.set_verbosity_error()
tokenizer = AutoTokenizer.from_pretrained(paths.PICO)

def load():
    return AutoModelForCausalLM.from_pretrained(paths.PICO, dtype=torch.float32).eval()

def read(name):
    return (paths.PICO.parent / name).read_text(encoding="utf-8").replace("<|endoftext|>", "")

# %%
original = load()
rows = torch.cat(quantize.calibration_batches(tokenizer, read("calibration.txt"), tokens=512 * 64, window=64))
rows = rows[torch.randperm(512, generator=torch.Generator().manual_seed(0))]
print(tuple(rows.shape), repr(tokenizer.decode(rows[0])[:60]))

# %% [markdown]
# A calibrator sits in front of a linear layer and sees the vectors that go in. PyTorch calls such a listener a *hook*. Here is
# one, before `down_proj` of the last layer, while the model reads a single sample.
#
# **Predict.** Half of the magnitudes at this input are below some small number, the median. How many times the median is the
# largest one?

# %%
my_times = 10        # your guess: largest magnitude over median magnitude

# %%
seen = []
hook = original.model.layers[5].mlp.down_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
with torch.inference_mode():
    original(rows[:1])
hook.remove()
size = seen[0].abs()
print(f"{tuple(size.shape)}: median {size.median():.3f}, largest {size.max():.2f}")
print(beside("largest over median", my_times, size.max() / size.median()))

# %% [markdown]
# **Max calibration** keeps the largest magnitude ever seen, and forgets the rest: one number per layer, called *amax*. So
# everything about it can be learnt from the largest magnitude of each sample at each layer. `ranges.maxima` notes these with
# the same kind of hook, on all 42 linear layers and 512 samples.

# %%
maxima = ranges.maxima(original, rows, progress=lambda done, of: print(done, end=" ", flush=True))
print(f"\n{len(maxima)} layers, {len(ranges.distinct(maxima))} different inputs, "
      f"{len(maxima['model.layers.5.mlp.down_proj'])} samples")

# %%
last = [f"model.layers.5.{name}" for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")]
fig, ax = figure.new(8, 3)
for name in last:
    running = maxima[name].cummax(0).values
    ax.step(range(1, 513), running / running[-1], where="post", label=name.split(".")[-1])
ax.set(xscale="log", ylim=(0, 1.05), xlabel="samples seen", ylabel="amax so far / final amax")
ax.legend(frameon=False, loc="lower right")
figure.show(fig, "The running maximum at four layers over 512 samples, as a share of the final one: after the first sample "
                 + ", ".join(f"{n.split('.')[-1]} {maxima[n][0] / maxima[n].max():.2f}" for n in last) + ".")

# %% [markdown]
# Steps that become rarer: the first sample finds most of the range, and each later one has a smaller chance of a new record. The
# maximum never settles for good. With more text a still larger value will come; the question is only whether that matters.
#
# Is this what ModelOpt does? Quantize a second copy with its calibration on the first 64 samples, and hold its numbers against ours.

# %%
model = ranges.as_an_engine(quantize.quantize(load(), rows[:64].split(16), recipe="nvfp4"))
ours = {name: values[:64].max().item() for name, values in maxima.items()}
theirs = {name: model.get_submodule(name).input_quantizer.amax.item() for name in ours}
print(f"largest relative difference over {len(ours)} layers: {max(abs(theirs[n] / ours[n] - 1) for n in ours):.1e}")

# %% [markdown]
# The same (or but for the last bits of sums that were added in another order). From now on one quantized model is enough: another
# calibration is another set of 42 numbers, which can be put into it. (`as_an_engine` mends one detail of ModelOpt's simulation: a
# block whose scale rounds to zero becomes zero, as it does in a file. You will need that when the ranges get absurd.)
#
# ### Exercise 3: what is kept
#
# Write the calibrator. `batches` is a list of lists of numbers of either sign. Return a list with what is kept after each of
# them: the largest magnitude seen so far.

# %%
def running_max(batches):
    """The largest magnitude seen up to and including each batch."""
    ### BEGIN SOLUTION
    kept, largest = [], 0.0
    for batch in batches:
        largest = max(largest, max(abs(value) for value in batch))
        kept.append(largest)
    return kept
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.running_max(running_max)

# %% [markdown]
# ## 2. Who sets the maximum
#
# One value in millions decides. How far is it from the others? Percentiles of the magnitudes in 64 samples, for the four
# inputs of the last layer and `down_proj` of another one:

# %%
shown = ranges.inputs(original, rows[:64], [*last, "model.layers.1.mlp.down_proj"])
at = (0.5, 0.99, 0.999, 0.9999)
print(f"{'':<28}{'50 %':>8}{'99 %':>8}{'99.9 %':>8}{'99.99 %':>9}{'amax':>9}")
for name, x in shown.items():
    values = x.abs().flatten().sort().values
    print(f"{name.removeprefix('model.'):<28}", *(f"{values[int(p * len(values))]:7.2f}" for p in at), f"{values[-1]:9.2f}")

# %% [markdown]
# `q_proj` and `gate_proj` read what has just been through a norm, which gives every token the same size, and `o_proj` reads averages: the
# largest values there are ten or so times the median. `down_proj` reads the product of gate and up, which nothing tames. There a single
# value is hundreds of times the median, and the last thousandth of the values doubles the range two or three times.
#
# **Predict.** Which kind of token makes the largest values at the last `down_proj`: names, numbers, punctuation, the first token
# of a sample?

# %%
my_tokens = "?"      # your guess

# %%
largest = shown["model.layers.5.mlp.down_proj"].abs().max(-1)
flat = rows[:64].flatten()
print(f"your guess: {my_tokens}")
for i in largest.values.topk(8).indices.tolist():
    context = tokenizer.decode(flat[i // 64 * 64:i + 1])[-30:]
    print(f"{largest.values[i]:8.1f}  channel {largest.indices[i]:>3}, token {i % 64:>2} of its sample: {context!r}")

# %% [markdown]
# The text is shown up to the token that did it. These are no rare words: the same few situations come up again, each in a channel of its
# own (the word that opens a note, a bracket, a blank line). A feature of pico fires there. In large models the effect is stronger:
# [a few values](https://arxiv.org/abs/2402.17762) of the hidden state, mostly at the first token or at delimiters, can be 100,000 times
# as large as the others. Such places are in *every* text, so a single sample finds them.
#
# ## 3. What the number is for
#
# NVFP4 takes the *block* scales of activations from the values themselves, at run time. Calibration fixes the tensor scale
# alone, g = amax / 2688, which is exported as `input_scale`. A block then wants the scale
#
# $$r = \frac{\text{amax of the block}}{6\,g}$$
#
# and gets the nearest E4M3 number. These end at 448; they have full precision down to 2⁻⁶; below, their steps are as wide as the smallest
# of them, 2⁻⁹; and whatever is 2⁻¹⁰ or less becomes zero. So a block can have one of four fates, depending on nothing but its share of
# amax:

# %% tags=["keep_output", "nbval-check-output"]
for share in (2, 1, 1 / 100, 1 / 10_000, 1 / 100_000, 1 / 250_000, 1 / 1_000_000):
    r = torch.tensor(448 * share)
    got = r.clamp(max=448).to(torch.float8_e4m3fn).float()
    print(f"block at {share:<6g} of amax: wants r = {r:<9.6g} gets {got:<11.6g} {got / r - 1:+7.1%}  {calibration.fate(r)}")

# %% [markdown]
# ### Exercise 4: the fate of a block
#
# Write `block_fate(block_amax, amax)`. Return `"clipped"` for r above 448, else `"full"` from 2⁻⁶ up, else `"coarse"` above 2⁻¹⁰,
# else `"lost"`.

# %%
def block_fate(block_amax, amax):
    """What becomes of a block with this largest magnitude under this calibrated amax."""
    ### BEGIN SOLUTION
    g = amax / 2688
    r = block_amax / (6 * g)
    if r > 448:
        return "clipped"
    return "full" if r >= 2 ** -6 else "coarse" if r > 2 ** -10 else "lost"
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.block_fate(block_fate)

# %% [markdown]
# Solve it for the block: full precision between amax / 28,672 and amax. That is room for a range that is far too *large*, and
# none for one that is too small. Try it on real inputs. The slider multiplies the true amax by a power of two: to the right the
# assumed range is too large, to the left too small. The right-hand picture compares with FP8 and INT8, with one fixed scale for the
# whole tensor, as their activations are usually calibrated.

# %%
calibration.explore({name.removeprefix("model."): x for name, x in shown.items()})

# %% [markdown]
# Three things to look for:
#
# 1. NVFP4's curve is flat to the right, over ten doublings and more. FP8, whose elements have exponents of their own, is nearly as
#    patient. It is the integer format that needs an exact range: its steps grow with it, and on tame inputs each doubling costs 6 dB.
# 2. To the left all three fall at once: whatever exceeds amax comes back as amax. NVFP4 never gains there. INT8 can, on an input with
#    outliers: clip the few, and the many get finer steps. That is what *percentile* calibration is for.
# 3. With the right range a quarter or more of `down_proj`'s values become 0 all the same, the small neighbours of a large value in their
#    block. No calibration changes that.
#
# ## 4. How wrong may it be?
#
# So ask the model. Put ranges into it that are wrong by one factor for all layers, and measure on 4,096 held-out tokens. Two
# figures: by how much the **loss** rises above the original's, with its paired 95 % interval; and the mean **KL divergence**, how
# far the predicted probabilities moved from the original's, to either side (0: not at all).
#
# **Predict.** How large may the factor become before the damage is visible? And how small?

# %%
my_up, my_down = 2, 0.5    # your guesses: the largest and the smallest factor that do no visible harm

# %%
held = tokenizer(read("heldout.txt"))["input_ids"][:4097]

def compare(candidates):
    """name -> ranges; each set is put into the model, which is then compared with the original."""
    made = {name: (lambda r=r: ranges.put(model, r)) for name, r in candidates.items()}
    found = quantize.compare_many(original, made, held, progress=lambda done, of: print(f"\r{done}/{of} windows ", end=""))
    print()
    return found

# %%
factors = {"1/64": 1 / 64, "1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "3/4": 3 / 4, "calibrated": 1, "2": 2, "3": 3, "4": 4,
           "64": 64, "1024": 2 ** 10, "16384": 2 ** 14, "262144": 2 ** 18}
wrong = compare({name: {n: f * amax for n, amax in ours.items()} for name, f in factors.items()})
base = wrong["calibrated"]
print(ranges.table(wrong, base))
print("2 and 4 the same:", wrong["2"].kl == wrong["4"].kl)

# %%
fig, ax = figure.new(8, 3)
ax.axhspan(base.kl.low, base.kl.high, color=figure.GREEN, alpha=0.25, label="as calibrated, 95 % interval")
ax.plot(list(factors.values()), [c.kl.value for c in wrong.values()], "o-", color=figure.BLUE)
ax.set(xscale="log", yscale="log", xlabel="assumed range / calibrated range", ylabel="KL, nats per token")
ax.legend(frameon=False)
figure.show(fig, "KL divergence over the factor, both logarithmic: " + ", ".join(
    f"{name}: {c.kl.value:.3f}" for name, c in wrong.items()) + ".")

# %%
harmless = [factors[name] for name, c in wrong.items() if c.kl.value < 1.1 * base.kl.value]
print(beside("largest factor with a KL within 10 %", my_up, max(harmless)))
print(beside("smallest factor with a KL within 10 %", my_down, min(harmless)))

# %% [markdown]
# A range a thousand times too large: no matter. A range four times too small: NVFP4's damage several times over. That is the
# window of section 3, seen by the model. On the right it closes when ordinary blocks get lost, and then it closes for good.
#
# Look at 2 and 4, too: the same figures. A power of two moves all block scales by whole exponents, so every rounding falls as before,
# until the first blocks reach the coarse end. (The calibrated range differs a little: held-out text exceeds what calibration saw, and is clipped.)
# Factor 3 rounds the scales differently, and the loss moves by some thousandths for no reason but that. The intervals don't know of such
# luck; they count the chance in the text alone. Keep it in mind as the noise of this experiment. KL, much steadier, is the better judge.
#
# ## 5. 1, 8, 64, 512 samples
#
# How much of the range do *k* samples find? That needs no further run of the model. Draw *k* of the 512 again and again, and
# compare their maximum with that of all.

# %%
ranges.draw_spread(ranges.spread(maxima, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]))

# %% [markdown]
# **Predict.** The dashed line is one half, the factor that already showed. In the worst layer a single sample stays below it, in the
# median layer far above. Is one sample of 64 tokens enough? Put down the KL that you expect for it; with 64 samples it was the one
# in the row "calibrated" above.

# %%
my_kl = 0.1          # your guess: KL after calibration on one sample

# %%
counts = {k: {name: values[:k].max().item() for name, values in maxima.items()} for k in (1, 8, 64, 512)}
samples = compare({str(k): r for k, r in counts.items()})
print(ranges.table(samples, samples["512"]))
print(beside("KL with one sample", my_kl, samples["1"].kl.value))

# %% [markdown]
# For this model, format and algorithm there is little to gain, if anything, after the first sample. You may even see an interval by which 64
# samples beat 512. Think of factor 3 before you believe it: another range rounds the scales differently. And one 95 % interval in twenty
# misses; you are looking at many. Why then do recipes take 512? They have to serve models with rarer outliers, mixtures whose experts see
# one token in many, and formats without dynamic block scales. It costs minutes, and too much does no harm.
#
# "No difference shown" is a weak reason to choose, though: measure on few enough tokens, and nothing is ever shown. Turn the question
# round. How much would you tolerate, and which count is *shown* to be no worse than that?
#
# ### Exercise 5: choose the number of samples
#
# Write `choose_samples(intervals, tolerance)`. `intervals` maps each count to `(low, high)`, the interval of how much worse it is than
# the largest count. Return the smallest count whose interval ends at or below the tolerance. (The largest count, compared with itself,
# always does.)

# %%
def choose_samples(intervals, tolerance):
    """The smallest sample count that is shown to be no worse than the largest one plus the tolerance."""
    ### BEGIN SOLUTION
    return min(count for count, (low, high) in intervals.items() if high <= tolerance)
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.choose_samples(choose_samples)

# %% [markdown]
# And what did you measure? Suppose that you would put up with 5 % more KL than 512 samples give. Which count would you take?

# %%
for k, found in samples.items():
    change = found.against(samples["512"]).kl
    worst = change.high / samples["512"].kl.value
    print(f"{k:>4} samples: KL {change.low:+.4f} to {change.high:+.4f} beside 512, at worst {worst:+.1%}")

# %% [markdown]
# ## 6. Bad calibration sets
#
# Does the *kind* of text matter? Six sets of the same size, 4,096 tokens each. Pico has read English documentation and Python code.
#
# - **random tokens**: drawn from the vocabulary, no sense at all;
# - **code**: the source of Python's `argparse`, no prose around it;
# - **German**: a poem (Matthias Claudius, 1779), over and over;
# - **Chinese**: the first lines of the Analects, which this tokenizer cuts into bytes;
# - **one word**: " the", again and again;
# - **padding**: nothing but the padding token, as when somebody forgets the attention mask.
#
# **Predict.** Which do harm? Write down those that you think will raise the KL.

# %%
my_harmful = ("random tokens", "Chinese")    # your guess: any of the six names

# %%
import argparse
import inspect

poem = "Der Mond ist aufgegangen, die goldnen Sternlein prangen am Himmel hell und klar. Der Wald steht schwarz und schweiget, "
texts = {"code": inspect.getsource(argparse), "German": poem, "Chinese": "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？", "one word": " the"}
sets = {"random tokens": torch.randint(len(tokenizer), (64, 64), generator=torch.Generator().manual_seed(0))}
sets |= {name: ranges.rows_of(tokenizer, text) for name, text in texts.items()}
sets["padding"] = torch.full((64, 64), tokenizer.pad_token_id)

# %%
bad = {name: {n: v.max().item() for n, v in ranges.maxima(original, ids).items()} for name, ids in sets.items()}
for name, found in bad.items():
    ratio = {n: found[n] / ours[n] for n in ranges.distinct(ours)}
    lowest = min(ratio, key=ratio.get)
    print(f"{name:<15}median layer {sorted(ratio.values())[12]:.2f} of the usual range, "
          f"lowest {ratio[lowest]:.2f} at {lowest.removeprefix('model.')}")

# %%
kinds = compare(bad)
print(ranges.table({"documentation": base, **kinds}, base))
harmful = [name for name, c in kinds.items() if c.against(base).kl.low > 0]
print(f"your guess: {', '.join(my_harmful)}; shown to do harm: {', '.join(harmful)}")

# %% [markdown]
# Nonsense calibrates well. Random tokens go through the same weights and norms, which set the magnitudes far more than meaning does, and they
# are varied. Code is as good. A foreign language costs a little, which KL sees and the loss doesn't: some of the features of section 2
# never fire. What does real harm is *monotony*. With one token repeated all positions look alike, attention averages equal vectors, and
# `down_proj` sees a tenth of its range: less than the half that it can bear.
#
# Don't conclude that text doesn't matter. It doesn't matter to *this* algorithm, which keeps a maximum, with *this* format, which has a
# margin of thousands upwards. Mind the other rule: variety first. A hundred short, different samples are worth more than ten long,
# similar ones. For a chat model use its template, so that its special tokens occur.
#
# ## 7. Weights or activations?
#
# Calibration concerns the activations. What share of the damage is theirs? Quantizers can be switched off by name, so measure each side
# alone.
#
# **Predict.** Of the loss that W4A4 adds, what share remains with the weights alone in NVFP4?

# %%
my_share = 80        # your guess, in per cent

# %%
def without(side):
    """The calibrated model with the quantizers of one side, weight or input, switched off."""
    for part in ("weight", "input"):
        (mtq.disable_quantizer if part == side else mtq.enable_quantizer)(model, f"model.layers*{part}_quantizer")
    return ranges.put(model, ours)

alone = {"weights only": lambda: without("input"), "activations only": lambda: without("weight")}
sides = quantize.compare_many(original, alone, held)
sides["both"] = base                             # measured in section 4
print(ranges.table(sides, base))

# %%
share = sides["weights only"].loss_difference.value / sides["both"].loss_difference.value
print(beside("share of the weights", my_share, 100 * share, "%"))
print(sides["weights only"].against(sides["activations only"]))
total = sides["weights only"].kl.value + sides["activations only"].kl.value
print(f"KL: weights + activations = {total:.4f}, both at once {sides['both'].kl.value:.4f}")

# %% [markdown]
# Both sides round sixteen values to the same grid with the same kind of scale, so it is no surprise that they do damage of the same order,
# and that it roughly adds up: the errors have little to do with each other. Weights alone (W4A16) keep the saving of memory, need no
# calibration at all, and cost about half. NVIDIA recommends them for one user on a Spark, where decoding waits for memory and not for
# arithmetic. W4A4 buys the four-bit multiplication with the other half.
#
# ### Other algorithms want more from their samples
#
# *Max* asks for one number. [AWQ](https://arxiv.org/abs/2306.00978) asks how large each input *channel* is on average, and tries scales
# until the layer's *output* on the samples is best. [SmoothQuant](https://arxiv.org/abs/2211.10438) needs each channel's maximum.
# [GPTQ](https://arxiv.org/abs/2210.17323) and ModelOpt's local-Hessian search need how channels move *together*: a matrix of
# K × K entries for K channels, which fewer than K tokens can't fill. These methods fit something to the samples. For them wrong text can do
# harm where max doesn't notice, too few samples overfit, and the loss has to be measured on text that calibration never saw.
#
# ## 8. On a Spark
#
# The same for a model of your own, in a terminal, in the course's folder:
#
#     ./course quantize Qwen/Qwen3-14B ~/models/Qwen3-14B-NVFP4 --recipe nvfp4 --calib 512 --calib-data chats.jsonl
#
# - `--calib 512`: samples; 64 if you don't say. `--calib-tokens` is the length of each, 512 unless you set it; so this reads 262,144 tokens. They
#   are taken from all over the text, at even distances.
# - `--calib-data`: a text file, or `.jsonl` with a `"text"` in each line. Without it you get the course's documentation, which fits pico.
#   If the text is too short, the command says how many samples it would give, and stops.
# - `--batch`: samples at a time, 4 unless you set it. Less memory: 1.
# - The model is loaded in its own BF16, onto the GPU where there is one. Stopped half-way, the same command goes on from the ranges seen so far.
# - `--recipe w4a16` reads no samples and needs no model in memory: it streams.
#
# With `--dry-run` nothing is written, and you learn what it would take. Here for pico:

# %%
import subprocess
import sys

wish = [paths.PICO, paths.STATE / "lesson03" / "pico-calibrated", "--recipe", "nvfp4", "--calib", "64", "--dry-run"]
done = subprocess.run([sys.executable, "-m", "gb10", "quantize", *map(str, wish)], cwd=paths.ROOT, capture_output=True, text=True,
                      check=False)
print(done.stdout or done.stderr)

# %% tags=["solution-only"]
# The tests run this notebook: its solutions have to pass their own checkers.
assert check.running_max(running_max) and check.block_fate(block_fate) and check.choose_samples(choose_samples)
assert done.returncode == 0 and max(harmless) >= 64 and min(harmless) >= 0.5 and "one word" in harmful

# %% [markdown]
# ## Three things to remember
#
# 1. Max calibration keeps one number per layer, set by a few tokens in a few channels. In NVFP4 that number moves the range of the block
#    scales, nothing else.
# 2. Too large is cheap, too small is not: a range may be a thousand times too large, but hardly half of what it should be. So take varied
#    text, and when in doubt more of it.
# 3. Judge calibration by KL or loss on held-out text with paired intervals, and ask for "shown to be no worse than", not for "no
#    difference shown".
#
# **Next step.** The next notebook puts every recipe into one table, and asks which layers hurt. Before that, calibrate on a text of your
# own: replace one of the six sets above by a file that looks like your use, and see whether its ranges differ.
