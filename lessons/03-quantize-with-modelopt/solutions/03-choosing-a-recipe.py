# %% [markdown]
# # Choosing a recipe
#
# ModelOpt ships dozens of presets, and the names tell little: `nvfp4_mlp_only`, `w4a16`, `awq_lite`, `four_over_six`. This
# notebook puts them into one table on one model: bits, bytes, what is lost, how fast. Then you look for the layers that
# hurt, and design a recipe that beats NVIDIA's own for the Spark at the same size.
#
# **Afterwards you can**
#
# - say to the byte what a recipe will weigh, before it runs;
# - read a table of recipes without being fooled by noise, and drop those that another one beats;
# - measure which layers hurt when they are quantized, and spend bytes where they buy most;
# - choose a recipe for a Spark: for one user, for many, for long contexts.
#
# **Time:** 35 minutes, of which the machine works for three. **You need:** the first notebook of this lesson.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 8 GB, no GPU | all losses are measured; of the speeds only those that vLLM has a CPU kernel for |
# | spark | one GB10 | the same cells, on the CPU; section 4 computes what the GPU would show |
# | rack | several Sparks, B200 or B300 | as on a Spark |

# %%
import contextlib
import math

import torch

from gb10 import engines, machine, paths, quantize, roofline
from gb10.check import lesson03 as check
from gb10.explore import figure, layers_that_hurt
from gb10.explore import pareto as plane
from gb10.explore.guess import beside
from gb10.explore.stream import ask
from gb10.quantize import mixing
from gb10.quantize.stored import stored_bytes

torch.manual_seed(0)
print(machine.banner("torch", "transformers", "nvidia-modelopt"))

# %% [markdown]
# ## 1. The recipes
#
# A **recipe** says four things: which layers are quantized, into which format, whether activations are rounded as well, and
# how the scales are found. The course's recipes are ModelOpt's own presets, each with a name, what stays in BF16, and when to
# use it. In a terminal the same list is `./course quantize --list`, and `./course quantize MODEL OUT --recipe R` applies one.
#
# The last column: does vLLM load the checkpoint? A dash means that the recipe is an experiment, and no engine of this course
# runs it.

# %% tags=["keep_output", "nbval-check-output"]
recipes = quantize.recipes()
for r in recipes.values():
    print(f"{r.name:<20} {r.bits:>6g} bits   {r.weights + ' / ' + r.activations:<72} {'vLLM' if r.exports else '-'}")

# %% [markdown]
# Weights before the slash, activations behind it. Look at how many rows say 4.5 bits, and differ in what is left alone or in how
# much work goes into the scales.
#
# ## 2. What a recipe weighs
#
# Size is the one column that needs no measurement. A tensor that stays in BF16 takes two bytes for each number. A quantized one
# takes the format's bits, block scales included, and beside it one FP32 number for the whole tensor.
#
# ### Exercise 6: the size of a checkpoint
#
# Write `checkpoint_bytes`. `shapes` is a dictionary from names to shapes (tuples); `kept` holds the names that stay in BF16;
# `bits` is what a quantized weight takes. Each quantized tensor also has a scale of 4 bytes. Return the sum in bytes.

# %%
def checkpoint_bytes(shapes, kept, bits):
    """Bytes of a weight-only checkpoint."""
    ### BEGIN SOLUTION
    total = 0
    for name, shape in shapes.items():
        numbers = math.prod(shape)
        total += 2 * numbers if name in kept else numbers * bits / 8 + 4
    return total
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.checkpoint_bytes(checkpoint_bytes)

# %% [markdown]
# Now a real one. `quantize.stream` writes pico's W4A16 checkpoint without loading a model, and reading its header gives
# the true size. `stored_bytes` is the library's version of your function: it asks a quantized model's own quantizers, so it also knows
# mixtures and activation scales.
#
# The models here are loaded with arithmetic in FP32. The weights are still pico's BF16 numbers. On a CPU without BF16
# instructions that is several times as fast, and it keeps BF16's own rounding out of the comparison.

# %%
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

logging.disable_progress_bar()
logging.set_verbosity_error()
tokenizer = AutoTokenizer.from_pretrained(paths.PICO)

def load(dtype=torch.float32):
    """pico as it ships; arithmetic in this type."""
    return AutoModelForCausalLM.from_pretrained(paths.PICO, dtype=dtype).eval()

# %%
streamed = quantize.stream(paths.PICO, paths.STATE / "lesson03" / "recipes-w4a16", force=True)
in_file = sum(t.bytes for t in quantize.inspect_tensors(streamed.folder))
computed = stored_bytes(quantize.quantize(load(), recipe="w4a16"))
print(f"W4A16 in the file: {in_file:,} bytes; computed: {computed:,}; BF16: {stored_bytes(load()):,}")

# %% [markdown]
# ## 3. What a recipe loses
#
# Three figures, all against the original on the same held-out text: the rise of the **loss**; the **KL divergence**, how far
# the candidate's probabilities moved from the original's; and **top-1**, how often both find the same token most probable.
# Intervals come from a paired bootstrap over windows of 256 tokens, as in notebook 4.
#
# Some recipes search for a long time on a CPU. They are behind a switch, and the table will name them as left out.

# %%
slow = False         # True: also the searches, some minutes more on two cores

SEARCHES = ["nvfp4-awq-lite", "nvfp4-awq-clip", "nvfp4-local-hessian", "nvfp4-gptq", "nvfp4-svdquant", "int4-awq"]
MIXTURES = ["nvfp4-experts"]                 # for mixtures of experts: a dense model has no layer for it
left_out = MIXTURES + ([] if slow else SEARCHES)
measured = [name for name in recipes if name not in left_out]
print(f"{len(measured)} recipes to measure; left out: {', '.join(left_out)}")

# %% [markdown]
# **Predict.** All of them round something. For how many of these recipes will 4,096 tokens be enough to *show* a higher loss, that is,
# an interval that lies wholly above zero?

# %%
my_shown = 7         # your guess: number of recipes that are shown to lose

# %%
def read(name):
    """A text beside the model, without the marks between its documents."""
    return (paths.PICO.parent / name).read_text(encoding="utf-8").replace("<|endoftext|>", "")

batches = quantize.calibration_batches(tokenizer, read("calibration.txt"), tokens=1024)
ids = tokenizer(read("heldout.txt"), verbose=False)["input_ids"][:4097]
original, size = load(), {"BF16": stored_bytes(load())}

# %%
def made(name, **options):
    """A function that makes the quantized model when its turn comes: one candidate in memory at a time."""
    def make():
        print(name, *options.values(), end="; ", flush=True)
        model = quantize.quantize(load(), batches, recipe=name, **options)
        size[name] = stored_bytes(model)
        return model
    return make

found = quantize.compare_many(original, {name: made(name) for name in measured}, ids)

# %%
for name, c in sorted(found.items(), key=lambda item: item[1].kl.value):
    sure = "no difference shown" if c.loss_difference.covers(0) else f"perplexity x {math.exp(c.loss_difference.value):.3f}"
    print(f"{name:<20} loss above BF16 {c.loss_difference!s:<28} KL {c.kl.value:.4f}   top-1 {c.top1.value:.1%}   {sure}")
print(beside("\nrecipes shown to lose", my_shown, sum(c.loss_difference.low > 0 for c in found.values())))

# %% [markdown]
# Three things to look for.
#
# - **Eight bits against four.** The 8-bit floating-point formats hardly move the model. Whether their loss is shown at all depends
#   on the text, and 4,096 tokens are few.
# - **Activations cost as much as weights.** Compare `w4a16` with `nvfp4`: the same weights, and the second rounds the inputs, too.
# - **Scales matter.** `mxfp4` has the same elements as `nvfp4`, and powers of two as scales.
#
# One row is a warning: SmoothQuant was made for the outliers of large models. pico has few, and moving scale around can do more
# harm than good. A method's fame is no measurement of *your* model.
#
# ## 4. How fast
#
# vLLM on a CPU, with the course's plugin, unpacks NVFP4 weights once, when they are loaded. With weights alone (W4A16) it computes from
# then on as in BF16; W4A4 has the activations to round besides. FP8 and MXFP8 checkpoints are read and then refused, for want of a kernel.
# So two starts tell it all, BF16 and `nvfp4`; the table says of the others which of the two they run like.

# %%
def speed(checkpoint):
    """Tokens per second while decoding, one user; the first question is the warm-up."""
    with engines.start(checkpoint) as server:
        print(server)
        for _ in range(2):
            answer = ask(server.client, server.model, "What does os.path.join do?", max_tokens=48)
        return answer.decode_rate

nvfp4 = quantize.quantize(load(torch.bfloat16), batches[:1], recipe="nvfp4")
folder = quantize.export(nvfp4, tokenizer, paths.STATE / "lesson03" / "recipes-nvfp4", keep=False)
rate = {"BF16": speed(paths.PICO), "nvfp4": speed(folder)}

# %%
exported = sum(t.bytes for t in quantize.inspect_tensors(folder))
print(f"nvfp4 in the file: {exported:,} bytes; computed: {size['nvfp4']:,}")
print({name: f"{r:.0f} tokens/s" for name, r in rate.items()})

# %% [markdown]
# The four-bit model is not the faster one: what a Blackwell tensor core multiplies as it is, a CPU unpacks, and rounding is extra work. This says nothing about a Spark. What
# would one show? Decoding for one user reads every weight once per token, so the bytes decide: the roofline of lesson 1. Here it is for a
# model of a size that one would serve there. These rates are **predicted**, with the predictor's band, not measured;
# `./course fit Qwen3-8B --weights nvfp4` prints the same.
#
# **Predict.** NVFP4 has 4.5 bits where BF16 has 16. How many times as fast does Qwen3-8B decode?

# %%
my_factor = 3.5      # your guess

# %%
fits = {w: roofline.fit("Qwen3-8B", weights=w, machine="gb10", batch=1) for w in ("bf16", "fp8", "w4a16", "nvfp4")}
for w, f in fits.items():
    print(f"{w:<6} {f.bytes_per_token / 1e9:5.2f} GB read per token   {f.decode_tps:5.1f} tokens/s "
          f"({f.decode_tps_low:.0f} to {f.decode_tps_high:.0f})")
print(beside("NVFP4 over BF16", my_factor, fits["nvfp4"].decode_tps / fits["bf16"].decode_tps))

# %% [markdown]
# The output matrix stays in BF16 and is read for every token: that is where the factor goes. And W4A16 decodes as fast as W4A4 for one
# user, as it reads the same bytes. Rounding the activations pays where arithmetic is the limit, with long prompts and many users.
#
# ## 5. One table, one picture

# %%
def fast(r):
    """The speed on this machine, or why there is none."""
    if r.name in rate:
        return f"{rate[r.name]:.0f} tokens/s"
    if r.serves_on_cpu:
        return f"as {'BF16' if r.activations == 'BF16' else 'nvfp4'}, not started"
    return "no kernel on a CPU" if r.exports else "no engine"

print(f"{'':<20} {'bits':>6} {'bytes':>11}   {'loss above BF16, 95 %':<28} {'KL':>7} {'top-1':>6}   decode here")
print(f"{'BF16':<20} {16:>6} {size['BF16']:>11,}   {'':<28} {'':>7} {'':>6}   {rate['BF16']:.0f} tokens/s")
for name, c in found.items():
    print(f"{name:<20} {recipes[name].bits:>6g} {size[name]:>11,}   {c.loss_difference!s:<28} {c.kl.value:>7.4f} "
          f"{c.top1.value:>6.1%}   {fast(recipes[name])}")
for name in left_out:
    print(f"{name:<20} {recipes[name].bits:>6g}   left out: {'no experts in pico' if name in MIXTURES else 'slow on a CPU'}")

# %% [markdown]
# A recipe is **beaten** if another one is no larger and loses less. Those that nobody beats form the *Pareto frontier*. With measured
# losses "loses less" has to be shown, or noise draws the line.
#
# ### Exercise 7: who is beaten?
#
# Write `pareto`. `points` is a list of tuples `(name, bytes, low, high)`, the last two being the ends of the loss's interval. A point is
# beaten if some *other* point has no more bytes and an interval that lies wholly below its own. Return the names of those
# that are not beaten, in the order of the list.

# %%
def pareto(points):
    """Names of the points that no other beats."""
    ### BEGIN SOLUTION
    def is_beaten(point):
        return any(other[1] <= point[1] and other[3] < point[2] for other in points if other is not point)
    return [point[0] for point in points if not is_beaten(point)]
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.pareto(pareto)

# %% [markdown]
# That rule is cautious. Two intervals overlap more often than they need to, since both contain the same hard windows. The table has
# paired measurements, so the difference of any two recipes has an interval of its own, and a narrower one.
#
# **Predict.** How many points does the paired rule leave on the frontier?

# %%
my_left = 5          # your guess

# %%
points = [plane.Point("BF16", size["BF16"], 0, 0, 0)]
for n, c in found.items():
    points.append(plane.Point(n, size[n], c.loss_difference.low, c.loss_difference.value, c.loss_difference.high))

def paired(a, b):
    """Whether a's loss is shown to be lower than b's, window by window."""
    if "BF16" in (a.name, b.name):
        return found[b.name].loss_difference.low > 0 if a.name == "BF16" else found[a.name].loss_difference.high < 0
    return found[a.name].against(found[b.name]).loss.high < 0

print("intervals apart:", *(p.name for p in plane.frontier(points)))
print("paired:         ", *(p.name for p in plane.frontier(points, paired)))
print(beside("\nnot beaten, paired", my_left, len(plane.frontier(points, paired))))

# %%
plane.show(points, paired)

# %% [markdown]
# Blue points are not beaten, grey ones are; a line joins two points only where the larger one is shown to lose less. Sizes within a
# thousandth count as the same here: that is tensor scales. Not every blue point is good: some are there because this text can't tell
# them apart. `nvfp4` is grey because others of its size lose less; it has a third dimension in its favour, speed with many users, which the
# picture doesn't show.
#
# Within one size a search may help. Does it, here?

# %%
for better, than in (("nvfp4-mse", "nvfp4"), ("nvfp4-four-over-six", "nvfp4"), ("nvfp4", "mxfp4")):
    print(found[better].against(found[than]).verdict)

# %% [markdown]
# ## 6. Which layers hurt
#
# So far a recipe treated all layers of a kind alike. Now each one is asked. A **group** is what an engine fuses into one matrix: q, k and
# v; gate and up. vLLM refuses two formats within one, so a group is the smallest thing that can have a format. pico has 6 layers with 4
# groups each.
#
# `quantize.sensitivity` switches the quantizers of one group on alone (*only*), and off alone (*off*). KL is the figure to look at: the
# damage of one group is far too small to show in the loss. The text comes from the calibration file, and not from the one
# on which recipes are judged.
#
# **Predict.** Which of the layers, 0 to 5, hurts most when it is quantized alone?

# %%
my_layer = 2         # your guess: 0 is next to the embedding, 5 next to the output

# %%
groups = mixing.groups(original)
text = tokenizer(read("calibration.txt")[-40000:], verbose=False)["input_ids"][:1025]
w4a16 = quantize.quantize(load(), recipe="w4a16")
sensitivity = quantize.sensitivity(w4a16, text, layers_that_hurt.quantizers(groups))
layers = layers_that_hurt.effects(groups, sensitivity)
layers_that_hurt.show(layers)

# %%
by_layer = [sum(e.harm for e in layers if e.name.startswith(f"{n}.")) for n in range(6)]
print(*(f"layer {n}: {1e3 * harm:.2f}" for n, harm in enumerate(by_layer)), "thousandths of a nat", sep="   ")
print(beside("the layer that hurts most", my_layer, by_layer.index(max(by_layer))))
whole = sensitivity[0].all.kl.value
print(f"single effects add up to {sum(by_layer):.4f}; all groups together were measured as {whole:.4f}")

# %% [markdown]
# The ends hurt: the first layer writes what all others read, and the last ones stand right before the answer. So the old advice "keep
# the first and the last layer" has something to it. But look *into* the layers. In layer 5 the small matrices of attention do more harm than
# the large ones of the MLP; in layer 0 it is the other way round. The right-hand map divides by what it would cost to raise a group from 4.5 to
# 8 bits, and the order changes.
#
# Small effects nearly add up; that is what makes planning possible. With intervals, the twelve largest:

# %%
figure.show(layers_that_hurt.draw_bars(layers), "Bars of the KL that quantizing one group alone causes, the twelve largest, with "
                                                f"95 % intervals. {layers_that_hurt.describe(layers)}.")

# %% [markdown]
# A second view is inside the model: how wrong is the hidden state after each layer? *Accumulated* contains the errors of all layers
# before. *Alone* gives the layer the original's input.

# %%
errors = quantize.layer_errors(original, w4a16, text)
each = "; ".join(f"layer {e.layer}: {e.error:.1%} and {e.alone:.1%}" for e in errors)
figure.show(layers_that_hurt.draw_errors(errors),
            f"Error of the hidden state after each layer, in per cent: accumulated, and of the layer alone. {each}")

# %% [markdown]
# The first layer brings in a good part of the error, and every later one adds its own; what came in stays in. An error in the hidden state is not damage yet, though: what counts is
# what the output makes of it. So this view says where errors arise, and KL says which of them matter.
#
# ## 7. Your own recipe
#
# The recipe to beat is NVIDIA's for the Spark: attention in FP8, NVFP4 weights in the MLPs (here without its FP8 KV cache). The idea
# behind it is that attention is sensitive and small. It knows nothing about *this* model. You do, and you may spend exactly as many bytes.
#
# Play first. Tick groups to raise, watch bytes and predicted KL (the sum of the single effects), and press *measure* for the truth on
# 2,048 held-out tokens, which takes a few seconds.

# %%
spark = {name: "fp8" if name.endswith((".qkv", ".o")) else "w4a16" for name in groups}
budget = mixing.bytes_of(groups, spark)
residue = found["fp8"].kl.value / found["w4a16"].kl.value       # what FP8 leaves of the harm

def mixed(choice):
    """pico by a mixed recipe."""
    return quantize.quantize(load(), batches, config=mixing.config(groups, choice))

def measure(choice):
    return quantize.compare(original, mixed(choice), ids[:2049]).kl.value

layers_that_hurt.explore(layers, budget, measure, residue)

# %% [markdown]
# ### Exercise 8: beat the default
#
# Write `my_recipe`. `layers` is the list from section 6; each entry has `name`, `weights`, `harm` (KL in nats when it alone is
# W4A16) and `bytes`, a dictionary from format to bytes. `budget` is what all groups together may take. Return a dictionary from names to
# `"w4a16"`, `"fp8"`, `"nvfp4"` or `"bf16"`; what you leave out becomes `w4a16`.
#
# The checker quantizes pico by your recipe and by the default, and judges both on 8,192 other held-out tokens. The rule, fixed
# beforehand: yours is better if the whole interval of the KL difference lies below zero, and its loss is not shown to be higher.
#
# Why KL and not the loss? A model that is too sure of itself can even gain from noise, as noise makes it more careful. Look at pico: the
# surprise that it expects, by its own probabilities, and the surprise that comes.

# %%
with torch.no_grad():
    logits = original(torch.tensor(ids[:2048]).reshape(8, 256)).logits
expects = torch.distributions.Categorical(logits=logits).entropy().mean().item()
print(f"expects {expects:.2f} nats per token, gets {quantize.loss(original, ids[:2049]).nats_per_token:.2f}")

# %% [markdown]
# It gets more than it expects. So some roundings lower the loss here without keeping the model as it was. KL doesn't reward that.

# %%
def my_recipe(layers, budget):
    """{group: format} in at most `budget` bytes."""
    ### BEGIN SOLUTION
    choice = {layer.name: "w4a16" for layer in layers}
    left = budget - sum(layer.bytes["w4a16"] for layer in layers)
    for layer in sorted(layers, key=lambda layer: layer.harm / layer.weights, reverse=True):
        extra = layer.bytes["fp8"] - layer.bytes["w4a16"]
        if extra <= left:
            choice[layer.name], left = "fp8", left - extra
    return choice
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.my_recipe(my_recipe, layers)

# %% [markdown]
# ModelOpt has a search of its own, `auto_quantize`. It estimates each layer's effect from the gradient of the loss, and then solves the
# same puzzle: least harm within so many bits. **Predict.** Does it beat the default? And you?

# %%
bits = 8 * budget / sum(g.weights for g in groups.values())
auto = quantize.auto_quantize(load(), batches, bits=bits, formats=("w4a16", "fp8"))
contest = {"default": spark, "auto_quantize": {name: auto.layers[g.layers[0]] for name, g in groups.items()}}
with contextlib.suppress(Exception):             # no recipe yet, or one that the checker has refused
    contest["yours"] = mixing.complete(groups, my_recipe(layers, budget))

# %%
judged = quantize.compare_many(original, {name: lambda c=choice: mixed(c) for name, choice in contest.items()}, ids)
for name, c in judged.items():
    print(f"{name:<14} {mixing.size(original, contest[name]):,} bytes   KL {c.kl}")
    print("   FP8:", *(g for g, fmt in contest[name].items() if fmt == "fp8"))
for name in list(judged)[1:]:
    print(judged[name].against(judged["default"]).verdict)

# %% [markdown]
# A mixture is an ordinary checkpoint: ModelOpt writes the format of each layer into `hf_quant_config.json`, with `MIXED_PRECISION` as its
# algorithm, and vLLM's loader reads it layer by layer. Running it takes a GPU; on a Spark it has not been tried yet. Whether a mixture is worth the
# trouble for *your* model, the same cells will tell. On a large one they take longer, and the order of the layers will be another.
#
# ## 8. The KV cache
#
# A recipe can also round what attention remembers. This changes no byte of the checkpoint, but with long contexts and many users the cache
# outgrows the weights: FP8 halves it, NVFP4 leaves 28 %. `kv=` adds it to any recipe (`--kv fp8` on the command line). **Predict.** Does FP8 show in the
# loss? Does NVFP4?

# %%
my_kv = ("?", "?")   # your guess: shown or not, for fp8 and for nvfp4

# %%
kv = quantize.compare_many(original, {fmt: made("w4a16", kv=fmt) for fmt in ("none", "fp8", "nvfp4")}, ids)
for guess, fmt in zip(my_kv, ("fp8", "nvfp4")):
    print(f"\n{fmt}, your guess: {guess}\n    {kv[fmt].against(kv['none']).verdict}", end="")

# %% [markdown]
# ## 9. Which one, on a Spark
#
# From the recipes' own data. NVIDIA's advice in short: one user, W4A16 or its relatives, since decoding waits for the weights; many users and
# mixtures of experts, W4A4 in the experts, where the arithmetic counts.

# %% tags=["keep_output", "nbval-check-output"]
import textwrap

for name in ("w4a16", "spark", "nvfp4", "nvfp4-experts", "nvfp4-mse", "fp8"):
    print(textwrap.fill(f"{name}: {recipes[name].when}", 118, subsequent_indent="    "))

# %% tags=["solution-only"]
# The tests run this notebook: its solutions have to pass their own checkers, and sizes have to be those of the files.
assert check.checkpoint_bytes(checkpoint_bytes) and check.pareto(pareto) and check.my_recipe(my_recipe, layers)
assert computed == in_file and exported == size["nvfp4"]

# %% [markdown]
# ## Three things to remember
#
# 1. Size can be computed, loss has to be measured, and speed belongs to a machine. A table that mixes them up is an advertisement.
# 2. "Not beaten" and "best" are different things. Pair the windows, and say "not shown" where that is the truth.
# 3. Spend bytes by harm per byte. One afternoon of measuring your own model beats a rule that somebody found on another, since
#    the layers that hurt are not the same ones in every model.
#
# **Next step.** Take a model that you use: `./course quantize MODEL OUT --recipe w4a16`, then `./course inspect OUT`, and ask section 3's
# question of it. Notebook 4 goes on with speed: a claim, two servers, and a verdict.
