# %% [markdown]
# # From BF16 to a served NVFP4 checkpoint
#
# In this notebook you take a small language model apart, squeeze most of its weights into four bits each, look at what the
# bits became, and have an inference server answer the same question from both versions.
#
# **Afterwards you can**
#
# - say which tensors of a model carry its bytes, and predict the size of an NVFP4 checkpoint;
# - calibrate and quantize a model with NVIDIA's ModelOpt, and measure what that cost;
# - open the exported checkpoint and decode a block of weights by hand;
# - serve both checkpoints and compare size, loss and speed without fooling yourself.
#
# **Time:** 45 minutes, of which the machine works for two or three. **You need:** some Python. PyTorch helps.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 8 GB, no GPU | vLLM runs on the CPU, which has no FP4 arithmetic: right answers, no speed-up |
# | spark | one GB10 | nothing: the engine that this notebook starts runs on the CPU there, too. Section 8 says what the GPU changes |
# | rack | several Sparks, B200 or B300 | as on a Spark |
#
# The rhythm throughout: you commit to a guess, run the cell, look at both side by side, then read why.

# %%
import torch

from gb10 import machine, paths, quantize
from gb10.explore import blocks, figure
from gb10.explore.guess import beside

torch.manual_seed(0)
print(machine.banner("torch", "transformers", "nvidia-modelopt"))

# %% [markdown]
# ## 1. What is in a model
#
# Our model is *pico*, which comes with the course: the architecture of Qwen3, a few million parameters, trained on Python's
# documentation and standard library. It is tiny on purpose. Everything you do to it works in the same way, with the same commands, on a model a
# thousand times its size.
#
# Its parameters are stored in **BF16**: 16 bits each, with the range of a 32-bit float and about three significant decimal
# digits. They come in three kinds. The *embedding* table turns tokens into vectors. The *linear layers* (attention and
# feed-forward matrices) do the thinking. The *norms* keep magnitudes in check.
#
# **Predict.** Quantization will only touch the linear layers. What share of the model's bytes do they hold? Put your own
# number below; there is nothing to lose.

# %%
my_share = 50        # your guess: per cent of all bytes that lie in linear layers

# %%
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

logging.disable_progress_bar()
logging.set_verbosity_error()
tokenizer = AutoTokenizer.from_pretrained(paths.PICO)
model = AutoModelForCausalLM.from_pretrained(paths.PICO, dtype=torch.bfloat16)
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")

# %% [markdown]
# A checkpoint on disk is a table of named tensors. The file format, *safetensors*, starts with a header that lists every
# name, number type, shape and length. `inspect_tensors` reads that header and nothing else, so it is just as quick on a
# checkpoint of 100 GB. Here its rows are sorted into the three kinds.

# %% tags=["keep_output", "nbval-check-output"]
def kind(name):
    """The part of the model that a tensor belongs to."""
    return "embedding" if "embed" in name or "lm_head" in name else "norm" if "norm" in name else "linear"

tensors = quantize.inspect_tensors(paths.PICO)
size = {k: sum(t.bytes for t in tensors if kind(t.name) == k) for k in ("linear", "embedding", "norm")}
for k, n in size.items():
    print(f"{k:<10}{sum(kind(t.name) == k for t in tensors):>4} tensors {n:>11,} bytes  {n / sum(size.values()):>7.2%}")

# %%
print(beside("bytes in linear layers", my_share, 100 * size["linear"] / sum(size.values()), "%"))

# %% [markdown]
# And tensor by tensor: each bar is one tensor, sorted by name. Look for the one that stands out, and for the
# pattern that repeats with every layer.

# %%
colour = {"linear": figure.BLUE, "embedding": figure.ORANGE, "norm": figure.GREY}
fig, ax = figure.new(9, 3)
ax.bar(range(len(tensors)), [t.bytes / 1e6 for t in tensors], color=[colour[kind(t.name)] for t in tensors])
ax.set(xlabel="tensor, sorted by name", ylabel="MB", title="pico in BF16: embedding orange, linear blue")
largest = max(tensors, key=lambda t: t.bytes)
figure.show(fig, f"Bar chart of the size of pico's {len(tensors)} tensors. The largest is {largest.name} with "
                 f"{largest.bytes / 1e6:.1f} MB; the linear layers repeat one pattern per layer; norms are too small to see.")

# %% [markdown]
# The embedding table stands out because pico is small: a vocabulary of a few thousand entries is a lot for so few layers.
# In larger models its share shrinks (it is about 15 % of Qwen3-8B with its separate output matrix, and 3 % of a 70B model),
# but it never becomes nothing. It stays in BF16 in a ModelOpt NVFP4 checkpoint, and you will see it again when you predict
# the size of yours.
#
# ## 2. Four bits, and how they are made to suffice
#
# With four bits there are sixteen codes. NVFP4 spends them on a tiny floating-point format called **E2M1**: one sign bit,
# two exponent bits, one mantissa bit. That gives eight magnitudes and a sign, and nothing in between.

# %% tags=["keep_output", "nbval-check-output"]
from gb10.formats import NVFP4
from gb10.formats.elements import E2M1

print("E2M1:", *E2M1, "and the same with a minus sign")
print("bits per weight:", NVFP4.bits_per_weight)

# %% [markdown]
# A model's weights are nowhere near 6, most of them are below 0.1. So each group of 16 neighbouring weights, a **block**,
# gets a **block scale** that stretches the grid until its largest weight fits. The block scale itself is stored in eight
# bits (the format E4M3, at most 448). One **tensor scale** in full FP32 then moves all block scales of the tensor into the
# range where E4M3 is precise:
#
# $$\text{weight} \approx \text{E2M1 value} \times \text{block scale} \times \text{tensor scale}$$
#
# Four bits for the code, plus eight bits shared by sixteen weights, makes the 4.5 bits per weight that you saw printed.
# Here is the first block of a real weight, before and after.

# %%
weight = model.model.layers[0].mlp.up_proj.weight.detach()
b = blocks.compute(weight, row=0, block=0)
for before, after, code in zip(b.before, b.after, b.codes):
    print(f"{before:+.5f}  ->  code {code:2d} ({E2M1[code & 7]:>3})  ->  {after:+.5f}")
print(blocks.describe(b))

# %% [markdown]
# The explorer below shows any block of three different weights. Grey lines are the values that this block can take. Move
# *row* and *block*, and look for a block with one large weight among small ones: its grid is stretched so far that the
# small ones collapse onto a few lines. That is the price of sharing a scale, and the reason why NVFP4 shares it among 16
# weights and not among 128.

# %%
layer = model.model.layers[0]
blocks.explore({"up_proj": weight, "q_proj": layer.self_attn.q_proj.weight, "down_proj": layer.mlp.down_proj.weight})

# %% [markdown]
# ## 3. How good is the model before?
#
# The honest measure of a language model is how surprised it is by text that it has never seen. **Loss** is the mean of
# −log(probability given to the token that really came), in nats per token. Divided by the bytes of the text and by ln 2 it
# becomes **bits per byte**, which can be compared between models that cut text into different tokens. Lower is better.
#
# The text is `heldout.txt`: documents that were kept out of pico's training. It lies beside the model, together with a
# `calibration.txt` from the training data, which you will need in a moment.

# %%
def read(name):
    """A text beside the model; the marks between its documents are for the training only."""
    return (paths.PICO.parent / name).read_text(encoding="utf-8").replace("<|endoftext|>", "")

ids = tokenizer(read("heldout.txt"))["input_ids"][:4097]
n_bytes = len(tokenizer.decode(ids[1:]).encode())
before = quantize.loss(model, ids, n_bytes=n_bytes)
print(before)

# %% [markdown]
# ## 4. Calibrate and quantize
#
# Weights are known, so their scales can be computed at once. But NVFP4 multiplies four-bit weights with four-bit
# *activations* (the vectors that flow between the layers; "W4A4" is the short name), and these exist only while the model
# runs. **Calibration** runs the model over some ordinary text and notes the largest magnitude that reaches each linear
# layer. That number becomes the tensor scale of the layer's input; the block scales of activations are computed on the fly.
#
# ModelOpt simulates all this with a CUDA kernel. On a machine without a GPU the course registers a *quant backend* in its
# place, which gives bit for bit the weights of ModelOpt's own NVFP4 tensor. It is in `gb10/quantize/backend/`, and short.
#
# **Predict.** By how many per cent will the loss rise?

# %%
my_rise = 10         # your guess: per cent by which the held-out loss rises

# %%
batches = quantize.calibration_batches(tokenizer, read("calibration.txt"), tokens=4096)
print(f"{len(batches)} batches of {tuple(batches[0].shape)} tokens: ", end="")
model = quantize.quantize(model, batches, progress=lambda i: print(i, end=" ", flush=True))

# %% [markdown]
# Three lines. What happened to the model? Every linear layer got three helpers: one quantizer for its weight, one for its
# input, and one for its output, which is switched off. Look at what calibration found for the seven linear layers of the
# first block of the network.

# %%
layer = model.model.layers[0]
for name, module in layer.named_modules():
    if hasattr(module, "weight_quantizer"):
        w, x = module.weight_quantizer.amax.item(), module.input_quantizer.amax.item()
        print(f"{name:<18} largest weight {w:7.4f}    largest input {x:8.3f}")

# %% [markdown]
# The projections `q_proj`, `k_proj` and `v_proj` show the same numbers, and so do `gate_proj` and `up_proj`. They read the
# same input, and an engine fuses each group into one matrix multiplication, which can have only one tensor scale. So the
# group agrees on the largest one. (If a checkpoint doesn't do that, vLLM warns and the answers suffer.)
#
# Now the loss again. The model still holds BF16 weights, but each is rounded to NVFP4 and back on its way into every
# multiplication, and so is each activation.

# %%
after = quantize.loss(model, ids, n_bytes=n_bytes)
rise = 100 * (after.nats_per_token / before.nats_per_token - 1)
print(f"loss {before.nats_per_token:.4f} -> {after.nats_per_token:.4f} nats per token")
print(beside("rise of the loss", my_rise, rise, "%"))

# %% [markdown]
# Weights and activations were both rounded. Which of them does the damage? Quantizers can be switched off one by one, so
# you can ask. (Weight-only quantization, "W4A16", is a real option: it saves the same memory. What it gives up is the fast
# four-bit multiplication.)

# %%
import modelopt.torch.quantization as mtq

mtq.disable_quantizer(model, "model.layers*input_quantizer")
weights_only = quantize.loss(model, ids, n_bytes=n_bytes)
mtq.enable_quantizer(model, "model.layers*input_quantizer")
for label, result in (("BF16", before), ("NVFP4 weights", weights_only), ("NVFP4 weights, activations", after)):
    print(f"{label:<28}{result.nats_per_token:.4f} nats per token   {result.bits_per_byte:.4f} bits per byte")

# %% [markdown]
# A warning before you generalise: pico is tiny, and small models lose more by four bits than large ones. Published
# measurements find that Llama-3.2-1B keeps 83.9 % of its benchmark score with plain NVFP4 rounding, an 8B model 94.8 %,
# and a 70B model 98.6 % ([arXiv 2509.23202](https://arxiv.org/abs/2509.23202)). "Less than 1 % loss" is true of large
# models only.
#
# ## 5. Export
#
# Until now the four bits were simulated. The export stores them: two codes per byte, and the scales beside them.
#
# **Predict** the size of the checkpoint. You know everything that you need: the bytes of the three kinds of tensors in
# BF16, and that only the linear ones shrink, from 16 bits to 4.5.

# %%
my_megabytes = 6.0   # your guess: size of the NVFP4 checkpoint in MB (1 MB = a million bytes)

# %%
folder = quantize.export(model, tokenizer, paths.STATE / "lesson03" / "pico-nvfp4")
exported = quantize.inspect_tensors(folder)
total = {"BF16": sum(t.bytes for t in tensors), "NVFP4": sum(t.bytes for t in exported)}
rule = size["linear"] * 4.5 / 16 + size["embedding"] + size["norm"]
print(beside("size of the checkpoint", my_megabytes, total["NVFP4"] / 1e6, "MB"))
print(f"rule: {rule:,.0f} bytes; file: {total['NVFP4']:,}; difference {total['NVFP4'] - rule:,.0f}")
print(f"{total['NVFP4'] / total['BF16']:.1%} of the BF16 size")

# %% [markdown]
# The rule is right to a few hundred bytes; the rest are the tensor scales, four bytes each. But 4.5 bits is 28 % of 16 bits,
# and the checkpoint is larger than that: the embedding table didn't shrink. For a 70B model the same rule gives about
# 30 %, for an 8B model about 39 %. When somebody promises you a quarter, ask about the embeddings.
#
# ## 6. Open it
#
# What does a linear layer look like in the file? Four tensors stand where one was.

# %%
for t in exported:
    if t.name.startswith("model.layers.0.mlp.up_proj"):
        shape = " x ".join(map(str, t.shape)) or "scalar"
        print(f"{t.name:<42}{t.dtype:<9}{shape:<11}{t.bytes:>8,} bytes")

# %% [markdown]
# - `weight` holds the codes, two in each byte: half as many columns as the BF16 weight had.
# - `weight_scale` holds the block scales in E4M3, one for 16 weights.
# - `weight_scale_2` is the tensor scale of the weight: its largest magnitude divided by 2688 (that is 6 × 448).
# - `input_scale` is the same for the activations, from your calibration.
#
# What is not quantized is listed in `hf_quant_config.json`, so that an engine knows what to expect. Compare with the
# tensors that are still BF16 in the file.

# %%
import json

config = json.loads((folder / "hf_quant_config.json").read_text())["quantization"]
print("algorithm:", config["quant_algo"], "| blocks of", config["group_size"], "| left alone:", config["exclude_modules"])
print("BF16:", sorted({t.name.split(".")[-2] for t in exported if t.dtype == "BF16"}))

# %% [markdown]
# The output matrix `lm_head` has no row in this file. In pico it is *tied*: the embedding table serves as output matrix as
# well, and is stored once.
#
# Now take the first block of `up_proj` out of the file. Eight bytes, one block scale, one tensor scale: that is all there is.

# %%
key = "model.layers.0.mlp.up_proj."
packed = quantize.read_tensor(folder, key + "weight")[0, :8].tolist()
block_scale = quantize.read_tensor(folder, key + "weight_scale")[0, 0].item()
tensor_scale = quantize.read_tensor(folder, key + "weight_scale_2").item()
print("bytes:", *(f"{byte:02x}" for byte in packed), f"| block scale {block_scale:g} | tensor scale {tensor_scale:.6g}")

# %% [markdown]
# ### Exercise 1: decode a block by hand
#
# Write `decode_block`. It gets eight bytes (a list of numbers from 0 to 255) and the two scales, and returns a list of 16
# weights. Three facts suffice:
#
# - of the two codes in a byte the **even** element is in the **low** four bits (`byte & 0x0F`), the odd one in the high four
#   (`byte >> 4`);
# - bits 0 to 2 of a code choose a value of `E2M1`; bit 3 is the sign;
# - the weight is that value times both scales.
#
# Run the cell, then the one below it. You may leave it for later: the notebook goes on without it.

# %%
def decode_block(packed, block_scale, tensor_scale):
    """16 weights from 8 packed bytes and the two scales."""
    ### BEGIN SOLUTION
    codes = [code for byte in packed for code in (byte & 0x0F, byte >> 4)]
    values = [-E2M1[c & 7] if c & 8 else E2M1[c] for c in codes]
    return [v * block_scale * tensor_scale for v in values]
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
from gb10.check import lesson03 as check

check.decode_block(decode_block)

# %% [markdown]
# Whether or not you wrote it, hold three decoders against each other: the block as the file holds it, decoded by the course's
# `NVFP4` class; the same bytes in the hands of ModelOpt; and the original BF16 weights, to see how far off they are. The
# first two must agree exactly. That is worth a test: formats with the same name differ between programs in nibble order
# and in whether the tensor scale multiplies or divides, and a model read the wrong way produces noise.

# %%
from modelopt.torch.quantization.qtensor import NVFP4QTensor

stored = [quantize.read_tensor(folder, key + part) for part in ("weight", "weight_scale", "weight_scale_2")]
ours = NVFP4(*stored).dequantize()
theirs = NVFP4QTensor(ours.shape, torch.float32, stored[0]).dequantize(
    torch.float32, scale=stored[1], double_scale=stored[2], block_sizes={-1: 16})
error = (ours - weight.float()).norm() / weight.float().norm()
print("ours equals ModelOpt's, bit for bit:", torch.equal(ours, theirs))
print(f"relative rounding error of the whole tensor: {error:.2%}")

# %% [markdown]
# ## 7. Serve both
#
# A checkpoint is a promise; serving it is the proof. `engines.start` starts vLLM on this machine, on 127.0.0.1 only, waits
# until it answers and hands you an ordinary `openai` client. The `with` block stops it again: one engine at a time, which
# on a Spark is more than politeness, because CPU and GPU share one memory there. The very first start installs vLLM into
# an environment of its own (about 2 GB, some minutes); later ones take some 20 seconds.
#
# `ask`, in `gb10/explore/stream.py`, is a dozen lines: it sends the question with `stream=True` and notes when each token
# arrives.
#
# Where vLLM has no build for the machine (macOS, for example), a small stand-in server does the same job and says so in
# its name. Its answers are real; its speed says nothing about vLLM.
#
# **Predict.** Both checkpoints answer the same question on *this* machine. Tokens per second of NVFP4 divided by those of
# BF16: what will it be? 1 means equal, 2 means twice as fast.

# %%
my_speedup = 2.0     # your guess: speed of NVFP4 relative to BF16, on this machine

# %%
from gb10 import engines
from gb10.explore.stream import ask

question = "What does os.path.join do?"

def serve_and_ask(checkpoint):
    """Start an engine, ask twice (the first time is the warm-up), stop it; returns the second answer."""
    with engines.start(checkpoint) as server:
        print(server)
        ask(server.client, server.model, question)
        return ask(server.client, server.model, question, show=lambda text: print(text, end="", flush=True))

answers = {"BF16": serve_and_ask(paths.PICO)}

# %% [markdown]
# You saw the answer arrive piece by piece: that is *streaming*. The server sends each token as soon as it is computed, and
# the client notes the time. Temperature is 0, so the server always takes the most probable token. Now the same for the
# checkpoint that you made.

# %%
answers["NVFP4"] = serve_and_ask(folder)

# %%
import os

for name, answer in answers.items():
    print(f"{name:<6} {len(answer.times)} tokens, first one after {answer.ttft_s * 1000:.0f} ms\n       {answer.text!r}\n")
common = os.path.commonprefix([answer.text for answer in answers.values()])
print(f"the two texts agree in their first {len(common)} characters")

# %% [markdown]
# Two correct servers may part ways here. Where two tokens are almost equally probable, a tiny rounding error decides
# between them, and from that token on the model continues a different text. So a different text isn't proof of damage, and
# an equal one isn't proof of quality: the held-out loss over thousands of tokens is the better judge.
#
# ### Exercise 2: how fast is a stream?
#
# From the times at which the tokens arrived, compute the decode rate in tokens per second. `times` is a list of clock
# readings, one for each token; `asked_at` is the reading when the question was sent. Think about what the time before the
# first token contains, and whether it belongs in a *decode* rate. A stream of a single token has no rate: return 0.

# %%
def decode_rate(times, asked_at):
    """Tokens per second while decoding."""
    ### BEGIN SOLUTION
    intervals = len(times) - 1
    return intervals / (times[-1] - times[0]) if intervals > 0 else 0.0
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.decode_rate(decode_rate)

# %% [markdown]
# The time before the first token (*time to first token*, TTFT) goes into reading the question, not into writing the answer.
# Benchmarks report the two apart. `answer.decode_rate` is the course's own version of your function.

# %%
rate = {name: answer.decode_rate for name, answer in answers.items()}
print({name: f"{r:.0f} tokens/s" for name, r in rate.items()})
print(beside("NVFP4 relative to BF16", my_speedup, rate["NVFP4"] / rate["BF16"] if rate["BF16"] else 0))

# %% [markdown]
# On a CPU expect the four-bit model to be the *slower* one. There is no FP4 multiplier, so the course's plugin for vLLM unpacks
# the weights once, when they are loaded, rounds the activations to NVFP4 before each multiplication, and then does the
# full-width work all the same. Disk space is saved, time is not. (A small BF16 model may be computed in FP32 here; its weights
# are the same numbers. Lesson 4 looks closer.) Here is the whole trade in one picture.

# %%
bars = {"size, MB": [total[k] / 1e6 for k in total], "held-out loss, bits per byte": [before.bits_per_byte, after.bits_per_byte],
        "decode here, tokens/s": [rate[k] for k in total]}
fig, axes = figure.new(9, 2.8, columns=3)
for ax, (title, values) in zip(axes, bars.items()):
    drawn = ax.bar(list(total), values, color=[figure.GREY, figure.BLUE], width=0.6)
    ax.bar_label(drawn, fmt="%.3g")
    ax.set_title(title, fontsize=10)
figure.show(fig, "Three bar charts, BF16 against NVFP4. " + ". ".join(
    f"{title}: {values[0]:.3g} against {values[1]:.3g}" for title, values in bars.items()) + ".")

# %% [markdown]
# ## 8. What would be different on a Spark
#
# Size and loss are properties of the checkpoint: expect the same there, up to the rounding of a different kernel. Speed is
# a property of the machine, and nothing you measured on a CPU carries over. Two things change on a Spark:
#
# - Its tensor cores (compute capability 12.1) multiply NVFP4 natively: there is an instruction for it, `mma` with
#   `.kind::mxf4nvf4` ([PTX manual](https://docs.nvidia.com/cuda/parallel-thread-execution/)). Nothing is decoded to BF16
#   first. That pays off most in prefill, where a long prompt means much arithmetic.
# - Decoding one stream is bound by memory: every token has to read all weights once. GB10 moves at most 273 GB/s
#   ([NVIDIA's hardware page](https://docs.nvidia.com/dgx/dgx-spark/hardware.html)), so fewer bytes mean more tokens.
#
# **Predict** with that rule: what is the most that a Spark can decode of Qwen3-8B in NVFP4, in tokens per second?

# %%
my_tokens = 100      # your guess: upper limit for Qwen3-8B in NVFP4 on one Spark, one stream

# %%
layers, hidden, ffn, heads, kv_heads, head_dim, vocabulary = 36, 4096, 12288, 32, 8, 128, 151936   # its config.json
linear = layers * hidden * (head_dim * (2 * heads + 2 * kv_heads) + 3 * ffn)
head = vocabulary * hidden                       # read for every token; the input embedding is one row
for name, bits in (("BF16", 16), ("NVFP4", NVFP4.bits_per_weight)):
    read_per_token = linear * bits / 8 + head * 2
    limit = 273e9 / read_per_token
    print(f"{name:<6} reads {read_per_token / 1e9:5.2f} GB per token: at most {limit:.0f} tokens/s")
print(beside("limit for NVFP4", my_tokens, limit, "tokens/s"))

# %% tags=["solution-only"]
# The tests run this notebook: its solutions have to pass their own checkers.
assert check.decode_block(decode_block) and check.decode_rate(decode_rate)

# %% [markdown]
# This is a limit computed from the model's shape ([config.json](https://huggingface.co/Qwen/Qwen3-8B/blob/main/config.json))
# and one figure of the hardware, not a measurement. A real engine stays below it: it also reads the KV cache, and no
# memory delivers its peak. A later lesson measures how far below. Note what the head does: though the linear layers shrink
# by a factor of 3.6, the bytes per token shrink less, because `lm_head` is still BF16.
#
# ## Three things to remember
#
# 1. NVFP4 stores `E2M1 value × block scale × tensor scale`, 4.5 bits per weight, and only in the linear layers.
# 2. Calibration is for the activations. Measure the loss on held-out text before and after; small models lose more.
# 3. Fewer bits make a model smaller everywhere, but faster only where the hardware multiplies them, or where reading the
#    weights was the bottleneck.
#
# **Next step.** Serve your checkpoint from a terminal, in the course's folder:
# `./course up --model .course/lesson03/pico-nvfp4`; then paste the `curl` line that it prints. On a Spark, quantize a model
# that matters to you with the same three calls. The solved notebook is in `solutions/`, for when you have tried.
