# %% [markdown]
# # Bandwidth decides
#
# Before a language model can write its next token, every weight that takes part has to come out of memory, once. On a Spark
# the chip could compute far more in that time than there is to compute. So the speed of writing is decided by how many bytes
# a token needs, and how many bytes per second the memory gives. Both are numbers that you can know before you start.
#
# **Afterwards you can**
#
# - measure the memory bandwidth of a machine, and see its caches in the result;
# - predict how fast a model writes, and say by how much such a prediction is usually off, and why;
# - tell from a roofline whether memory or arithmetic is the limit, and what moves a model from one to the other;
# - find claims in published tables that cannot be true.
#
# **Time:** 30 minutes, of which the machine works for one. **You need:** some Python, and the notebook before this one.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 8 GB, no GPU | you measure and predict your own machine; figures of a Spark are published ones, with their source |
# | spark | one GB10 | the same, and the GPU's bandwidth is measured, too |
# | rack | several Sparks, B200 or B300 | as on a Spark; the GPU's memory is another one than the CPU's |

# %%
import torch
from IPython.display import HTML

from gb10 import bandwidth, catalog, machine, paths, roofline
from gb10.check import lesson01 as check
from gb10.explore import bandwidth as explore_bandwidth
from gb10.explore import decode, doubt, figure, predicted, roofline_plot
from gb10.explore.guess import beside

GB = 1e9
print(machine.banner("torch", "transformers", "numba"))

# %% [markdown]
# ## 1. Measure your memory
#
# The loop could not be simpler: add up all numbers of an array, from the first to the last, again and again. It is compiled
# by numba, so nothing of Python is left in it, and it runs on several threads at once, each with an array of its own. Bytes
# read, divided by seconds, is the **bandwidth**.
#
# Between cores and memory lie caches, small and fast ones close to each core, larger and slower ones further away. Linux
# says which this machine has.

# %%
here = machine.detect()
caches = bandwidth.caches()
print("caches of the cores that this notebook may use:", ", ".join(map(str, caches)) or "not listed by this system")

# %% [markdown]
# **Predict.** How many GB/s does your memory give when all threads read? And if the array fits into the smallest cache, how
# many times as fast is it?

# %%
my_bandwidth = 100       # your guess, in GB/s
my_factor = 3            # your guess: smallest cache over memory

# %%
sizes = bandwidth.sizes(here.memory_available_bytes, [c.size for c in caches])
threads = bandwidth.thread_counts(here.cores)
def progress(done, total):
    if done % 10 == 0:
        print("·", end="", flush=True)
points = bandwidth.sweep(("read",), sizes, threads, progress)

# %%
memory_rate = bandwidth.memory_rate(points)
fastest = max(p.rate for p in points if p.size <= 2**16)
print(beside("reading from memory", my_bandwidth, memory_rate / GB, "GB/s"))
print(beside("smallest cache over memory", my_factor, fastest / memory_rate))

# %% [markdown]
# Reading is one pattern. Two others are common: *copy* reads one array and writes another, and *triad*, from the STREAM
# benchmark, computes a = b + 3 c. They are measured here at fewer sizes.

# %%
points += bandwidth.sweep(("copy", "triad"), sizes[::2], threads[-1:], progress)

# %% [markdown]
# Choose a loop and a number of threads below. The dashed lines are the sizes of the caches that so many threads have. Look
# for the steps: each plateau is a level, and each step down lies near a dashed line. It isn't sharp, since a cache shares
# its room with everything else that runs. Points that fall out of line are usually another program's doing.

# %%
explore_bandwidth.explore(points, caches)

# %% [markdown]
# Three things to look for. The **right end** is the memory itself; this is the number that will matter. **More threads** help
# in the caches, which each core has for itself, and less in memory, which all share; on many machines one core alone can't
# draw all that the memory could give. And the **left end** is many times faster: a model that fits a cache would be a different
# story. Real ones don't. A Spark's GPU has 24 MB of L2 cache, and an 8B model in NVFP4 reads 5 GB for every token.
#
# If there is a GPU, its bandwidth is the one that serves the model. On a Spark CPU and GPU read the same chips.

# %%
if torch.cuda.is_available():
    from gb10.bandwidth import gpu

    gpu_points = gpu.sweep(("read", "copy"), gpu.sizes(torch.cuda.mem_get_info()[0]))
    gpu_rate = bandwidth.memory_rate(gpu_points)
    print(f"{gpu_points[0].device}: {gpu_rate / GB:.0f} GB/s read")
else:
    gpu_rate = 0
    print("torch sees no CUDA device here: the CPU's memory it is")

# %%
device, rate = ("cuda", gpu_rate) if gpu_rate else ("cpu", memory_rate)
shared = rate if here.unified_memory else memory_rate
bandwidth.save(shared)
print(f"from now on, ./course fit … --machine this computes with {shared / GB:.1f} GB/s")
spark = catalog.machine("gb10")
for name in ("bandwidth", "bandwidth_measured"):
    f = spark.figure(name)
    print(f"a Spark, {name}: {f.value:g} {f.unit}. {f.what}. {f.source}")

# %% [markdown]
# A Spark's documented peak is 273 GB/s, and what read benchmarks on its GPU reach is 231 to 234, which is 0.85 of it. No memory
# reaches its peak: rows have to be opened, cells refreshed, directions turned. Keep the 0.85 in mind. It is not the fault
# of any software, and it is the ceiling for every engine.
#
# ## 2. One token reads everything
#
# To write one token, the model multiplies one vector with one matrix after another. Each weight is used for one
# multiplication and one addition, and not needed again until the next token, by which time billions of others have passed
# through the caches. So each token reads each weight from memory once:
#
# $$\text{tokens per second} \;\le\; \frac{\text{bandwidth}}{\text{bytes read per token}}$$
#
# Which weights? All linear layers; of a mixture of experts the experts that this token is sent to; and the output head, whole,
# to rate every token of the vocabulary. Not the input table: one row of it is looked up. (If the two are one *tied* matrix,
# it is read, as the head.) Later on, the KV cache of the conversation comes on top.
#
# ### Exercise 5: what a token reads
#
# Write `bytes_read`. `model` is a dictionary of parameter counts: `always` (linear layers that every token passes),
# `experts` (all experts together), `n_experts` and `top_k` (how many there are in a layer, how many a token takes; both 0 in
# a dense model), `table` (the input table; the head has as many), `tied`. `bits` is for linear layers and experts; the head
# stays in BF16.

# %%
def bytes_read(model, bits):
    """Bytes of weights that one token of one user reads."""
    ### BEGIN SOLUTION
    share = model["top_k"] / model["n_experts"] if model["n_experts"] else 0
    linear = model["always"] + model["experts"] * share
    return linear * bits / 8 + model["table"] * 2
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.bytes_read(bytes_read)

# %% [markdown]
# **Predict.** Two models on a Spark, both in NVFP4: Llama-3.3-70B, which is dense, and Qwen3-30B-A3B, a mixture of experts with
# 3 billion active parameters. One has 2.3 times the parameters of the other. How many times as fast does the smaller write?

# %%
my_times = 2.3           # your guess

# %% tags=["keep_output", "nbval-check-output"]
limit = {}
print(f"{'in NVFP4':<26}{'in memory':>10}{'read per token':>16}{'limit on a Spark':>18}")
for name in ("Llama-3.3-70B-Instruct", "Qwen3-32B", "Qwen3-8B", "Qwen3-30B-A3B"):
    m = catalog.model(name)
    read = roofline.read_weights(m, "nvfp4")
    limit[name] = spark.bandwidth / read
    print(f"{name:<26}{roofline.weight_bytes(m, 'nvfp4') / GB:>7.1f} GB{read / GB:>13.2f} GB{limit[name]:>12.1f} tok/s")

# %%
print(beside("30B mixture over 70B dense", my_times, limit["Qwen3-30B-A3B"] / limit["Llama-3.3-70B-Instruct"]))

# %% [markdown]
# That is the whole answer to "why is 70B so slow on my Spark?", a question which was asked often enough to get
# [a pull request of its own](https://github.com/NVIDIA/dgx-spark-playbooks/pull/91): 40.6 GB per token are 6.7 tokens per second
# at most. Nothing is wrong with the engine. For a machine with much memory and moderate bandwidth, mixtures of experts are the
# natural model: memory holds all experts, the token reads a few.
#
# ## 3. Predict your own machine
#
# Now the same on the machine before you. First, in which number format? Halving the bytes doubles the limit only if the
# arithmetic keeps up, and a format that the processor doesn't multiply natively has to be converted on the way. So ask it:
# a matrix times a vector, in FP32 and in BF16.

# %%
speed = {dtype: decode.matvec(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
for dtype, weights in speed.items():
    print(f"{dtype!s:<16}{weights / 1e9:7.2f} billion weights/s, {weights * dtype.itemsize / GB:7.1f} GB/s")
dtype = max(speed, key=speed.get)
print("the models below run in", dtype)

# %% [markdown]
# If BF16 came out slower although it has half the bytes, this is a CPU whose library has no fast path for it, and you have
# seen in small what an emulated format costs. (The same holds for NVFP4 on chips without FP4 units. It is small there, and
# not fast.)
#
# Next, a model. It has the shape of Qwen3-1.7B, but four layers instead of 28 and a small vocabulary, and its weights are random
# numbers. It writes nonsense at exactly the speed of sense.
#
# **Predict.** You know the bandwidth. The cell prints how many bytes a token reads. How many tokens per second?

# %%
model = decode.random_model(dtype, device)
size = decode.read_bytes(model)
print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f} million parameters, {size / GB:.3f} GB read per token")

# %%
my_tokens = 30           # your guess, in tokens per second

# %%
alone = decode.best_steps(model)
print(beside("tokens per second", my_tokens, alone.tokens_per_second))
product = speed[dtype] * dtype.itemsize
for label, used in (("memory, read by the plain loop", rate), ("matrix times vector, in torch", product),
                    ("the whole model", alone.tokens_per_second * size)):
    print(f"{label:<32}{used / GB:7.1f} GB/s   {used / rate:5.2f} of the memory   {used / size:7.1f} tok/s")

# %% [markdown]
# The first line is the prediction, bandwidth over bytes; the last is what the model did (with one thread and with all of them,
# the faster counts). Its share of the bandwidth is called
# **memory bandwidth utilisation**, and it is the honest mark of an engine: on a Spark, engines reach 0.6 to 0.86 of the documented
# peak. The line between them says where the rest went here. If it is close to the last one, torch's matrix–vector product
# is what doesn't stream as well as the plain loop (on many CPUs it uses one thread), and the model adds little to it. If there
# is a gap below it, too, that is the model's other work, or another program was busy meanwhile.
#
# Now pico, the course's own small model, which does write sense, of a kind. **Predict** before you run: it reads 36 times fewer
# bytes than the model above. Is it 36 times as fast?

# %%
my_pico = 36             # your guess: pico's tokens per second over those of the model above

# %%
from transformers import AutoModelForCausalLM

pico = AutoModelForCausalLM.from_pretrained(paths.PICO, dtype=dtype).eval().to(device)
pico_size, pico_steps = decode.read_bytes(pico), decode.steps(pico, count=40)
print(beside("pico over the other", my_pico, pico_steps.tokens_per_second / alone.tokens_per_second))
print(f"bytes: {size / pico_size:.0f} times fewer")
print(f"bandwidth / bytes says {rate / pico_size:.0f} tok/s, measured {pico_steps.tokens_per_second:.0f}")

# %% [markdown]
# Two effects pull in opposite directions. Pico, with a few dozen megabytes, may stay in a cache from token to token, which
# would make it *faster* than memory allows. And each step has a fixed cost, for launching a few dozen operations from Python,
# which makes it *slower*. The fixed cost can be measured: a model with as many layers as pico, and next to no weights.

# %%
empty = decode.steps(decode.empty_like(pico), count=40).best
near = bandwidth.rate_at(points, pico_size) if device == "cpu" else rate
better = 1 / (empty + pico_size / near)
print(f"a step with nothing in it: {1e3 * empty:.2f} ms of pico's {1e3 * pico_steps.best:.2f} ms")
print(f"a working set of that size streams with {near / GB:.0f} GB/s")
print(f"fixed cost + bytes / that rate says {better:.0f} tok/s, measured {pico_steps.tokens_per_second:.0f}")

# %% [markdown]
# If that is still too fast, one suspect is left. Each of pico's forty-odd matrix products is handed to all threads in small pieces
# and collected again, and while other programs want the same cores, everybody waits for the last one. With a single thread
# there is nothing to hand out.

# %%
all_threads = torch.get_num_threads()
torch.set_num_threads(1)
single = decode.steps(pico, count=40)
torch.set_num_threads(all_threads)
print(f"pico with {all_threads} threads {pico_steps.tokens_per_second:.0f} tok/s, with one {single.tokens_per_second:.0f} tok/s")

# %% [markdown]
# For small models such costs outweigh the bytes, and counting bytes predicts little. The course's predictor warns below 2 billion
# parameters for that reason. On a GPU the cost is the launch of each kernel, and CUDA graphs exist to make it small.
#
# ## 4. More tokens for the same bytes
#
# The weights are read once per *step*. If the step serves sixteen users, they share the reading, and each brings only its own
# KV cache. **Predict.** Sixteen users instead of one, on the model above: how many times the tokens per second, all together?

# %%
my_gain = 8              # your guess

# %%
batches = {1: alone, **{b: decode.best_steps(model, b) for b in (2, 4, 8, 16)}}
for b, s in batches.items():
    print(f"{b:>3} users: step {1e3 * s.best:7.1f} ms, {s.tokens_per_second:8.1f} tok/s together, "
          f"{1 / s.best:7.1f} for each")
print(beside("16 users over one", my_gain, batches[16].tokens_per_second / alone.tokens_per_second))

# %%
fig, (left, right) = figure.new(9, 3, columns=2)
left.plot(list(batches), [1e3 * s.best for s in batches.values()], marker="o", color=figure.BLUE)
right.plot(list(batches), [s.tokens_per_second for s in batches.values()], marker="o", color=figure.ORANGE)
right.plot([1, 16], [alone.tokens_per_second, 16 * alone.tokens_per_second], color=figure.GREY, linestyle="--")
left.set(xlabel="users at once", ylabel="ms", title="one step", ylim=(0, None))
right.set(xlabel="users at once", ylabel="tokens/s together", title="all together; dashed: if free")
figure.show(fig, "Left: time of a step over the number of users. Right: tokens per second of all together: "
            + ", ".join(f"{b} users {s.tokens_per_second:.1f}" for b, s in batches.items()) + ".")

# %% [markdown]
# On a GPU the left curve is flat for a long while. On a CPU it has two features. From one user to two there may be a jump, because
# the library changes from a matrix–vector to a matrix–matrix routine, and that one first copies the weights into a layout that
# it likes better. After that it is flat until the arithmetic becomes the limit, which a CPU reaches soon. (If your curve jumps
# up and down, the cores were busy with something else. Run the cell again.)
#
# Where that happens is the machine's **ridge**. Draw FLOP per byte to the right and FLOP per second upwards, and every machine is
# a slope, its bandwidth, which runs into a roof, its arithmetic. A step with *n* tokens does 2 *n* FLOP with each weight that
# it reads. So users move a model to the right, and so does a prompt: reading a prompt of 1000 tokens (**prefill**) is a step
# with *n* = 1000.
#
# Move *tokens* below until the star reaches the roof. Then change the weights from nvfp4 to bf16, and see which way the star goes,
# and which way the roof.

# %%
roofline_plot.explore()

# %% [markdown]
# Take the roofs with a grain of salt. NVIDIA publishes 1 PFLOP of FP4 for the Spark, *with sparsity*, which no checkpoint here has.
# The dense 500 TFLOPS are half of that, and 125 in BF16 are derived by halving further; no table of NVIDIA has them. The
# dashed lines are what matrix products were measured to reach: 99.6 TFLOPS in FP4 with one library
# ([TensorRT-LLM 11368](https://github.com/NVIDIA/TensorRT-LLM/issues/11368)), 86 in BF16. With those the ridge moves left by a lot.
#
# ### Exercise 6: tokens at the ridge
#
# Write `ridge_tokens`: how many tokens must a step have until computing takes as long as reading? Time to read a weight:
# its bytes over the bandwidth. Time to use it: 2 FLOP per token over the arithmetic's rate. `tflops` is in 10¹² FLOP per
# second, `bandwidth_gbs` in 10⁹ bytes per second, `bits` per weight.

# %%
def ridge_tokens(tflops, bandwidth_gbs, bits):
    """Tokens per step at which arithmetic and memory take equally long."""
    ### BEGIN SOLUTION
    per_weight = bits / 8 / (bandwidth_gbs * 1e9)
    per_token = 2 / (tflops * 1e12)
    return per_weight / per_token
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.ridge_tokens(ridge_tokens)

# %% tags=["keep_output", "nbval-check-output"]
print(f"{'':<26}{'BF16':>8}{'FP8':>8}{'NVFP4':>8}   tokens per step at the ridge, dense peaks")
for name in ("gb10", "rtx-5090", "h200", "b200", "b300"):
    m = catalog.machine(name)
    roofs = [(m.flops(f), bits) for f, bits in (("bf16", 16), ("fp8", 8), ("nvfp4", 4.5))]
    print(f"{m.title:<26}" + "".join(f"{f / m.bandwidth * bits / 16:8.0f}" if f else f"{'·':>8}" for f, bits in roofs))

# %% [markdown]
# One user is one token. Every machine in the table, from the desktop to the rack, is idle in its arithmetic for more than 99 per
# cent of the time while it writes for one person. That is why batch sizes, speculative decoding and mixtures of experts
# exist. And it is why FP4 arithmetic does nothing for the speed of a single conversation: what helps it is that a weight in
# NVFP4 has fewer *bytes*. The arithmetic helps prefill, and large batches.
#
# ## 5. Fewer bits, as predicted and as published
#
# BF16, FP8, NVFP4: 16, 8 and 4.5 bits. Here is Llama-3.1-8B on a Spark, with what the predictor says, band included, and every
# rate for one user that the catalogue has for it.

# %%
published = [m for m in catalog.measurements() if m.machine_name == "gb10" and "Llama-3.1-8B" in m.model
             and m.batch == 1 and m.usable("decode_tps")]
for weights, engine in (("bf16", "vllm"), ("fp8", "sglang"), ("q8_0", "ollama"), ("nvfp4", "trtllm"),
                        ("q4_k_m", "ollama")):
    p = roofline.fit("Llama-3.1-8B-Instruct", weights=weights, engine=engine)
    seen = [f"{m.decode_tps:g} ({m.id}, {m.source.key})" for m in published
            if (m.weights, m.engine_name) == (weights, engine)]
    print(f"{weights:<7}{engine:<9}{p.bytes_per_token / GB:6.2f} GB  predicted {p.decode_tps:5.1f} "
          f"({p.decode_tps_low:.1f} to {p.decode_tps_high:.1f})   published: {', '.join(seen) or 'none'}")

# %% [markdown]
# From 16 bits to 4.5 would be a factor of 3.6. Llama-3.1-8B gets 3.0 in bytes, because its head stays in BF16, and a fifth of
# what a token of the NVFP4 model reads is this head. Formats that compress the head too (Q4_K_M does) read about as much, with
# more bits in the layers. Compare rates of two engines only together with the bytes that each of them reads.
#
# ## 6. How wrong is the predictor?
#
# The catalogue ships with some 200 published decode rates on one Spark, each with its source. (Others are kept out of it on
# purpose, so that there is something to test the predictor on that it has never seen.) The figure draws each over its
# prediction, one number per model, format and engine; points with the same number are the same at different lengths of
# context. The grey band is 16 % wide to each side, hollow points are doubtful. On the right, for comparison, the **naive
# rule**: active parameters times the bits in the format's name, and the constant that suits it best.

# %%
comparison = predicted.compute()
predicted.show(comparison)

# %%
print(predicted.summary(comparison))
print(predicted.unseen_summary())
for reason, count in comparison.left_out.items():
    print(f"not in the figure: {count:>3} rows, {reason}")

# %% [markdown]
# The naive rule fails in a pattern: its points lie in horizontal rows. It can't see the KV cache, so a long context changes
# nothing for it, and it doesn't know which tensors keep more bits than the name says. Of the predictor's lines, "left out"
# are the honest ones. Its constants were fitted to these same measurements, so for those lines each model, or each engine,
# was left out of the fit in turn, and predicted by what was learned from the others. The lines beginning with "one row for
# each number" keep a model that was measured at thirty depths from counting thirty times.
#
# Every number of the figure, with its source (an asterisk: doubtful, hollow in the figure):

# %%
HTML(predicted.table(comparison))

# %% [markdown]
# And with several users at once. (For mixtures of experts above four users the predictor says nothing: how many different
# experts a batch touches depends on what the users write. Measured rates are up to 1.67 times what independent draws would allow.)

# %%
predicted.show_batched(comparison)

# %% [markdown]
# ## 7. Faster than the limit
#
# Hollow points are rows of published tables that the course doesn't believe. You have the tool to find such rows yourself.
#
# ### Exercise 7: can that be true?
#
# Write `possible`. A table claims `tps` tokens per second, all of a `batch` of users together. A step, which gives each of them
# one token, must read at least `step_bytes` bytes. The memory's peak is `bandwidth_gbs`, in 10⁹ bytes per second. Return
# `True` if the memory could do that, else `False`.

# %%
def possible(tps, batch, step_bytes, bandwidth_gbs):
    """Could a memory with this peak deliver this claim?"""
    ### BEGIN SOLUTION
    steps_per_second = tps / batch
    return steps_per_second * step_bytes <= bandwidth_gbs * 1e9
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.possible(possible)

# %% [markdown]
# The course's library goes through every published row that names one machine, and asks this of its decode rate. For prefill it
# asks the same of the arithmetic: 2 FLOP per active parameter and token, against the dense peak. What lies above the limit
# is impossible as it stands; decode above 0.86 of it, where no benchmark of the memory gets, is doubtful.
#
# **Predict.** The cell judges several hundred claims. How many are impossible or doubtful?

# %%
my_doubts = 0            # your guess

# %%
claims = doubt.claims()
found = [c for c in claims if c.verdict != doubt.POSSIBLE]
print(beside(f"of {len(claims)} claims", my_doubts, len(found)))
for c in found:
    print(f"{c.id} {c.verdict:<11}{c.what:<8}{c.tps:>9,.1f} tok/s, limit {c.limit:>9,.1f}   {c.text}")

# %% [markdown]
# Each has a story, and none of them need be a lie. The impossible decode rate, of a Jetson, is possible only if the output head
# was quantized as well, which the page doesn't say. The gpt-oss rows of SGLang would be fine if attention had been
# quantized. The prefill rows of 65,832 and 23,477 tokens per second are above or at the peak of the chip: most of the prompt was
# not computed, or the columns mean something else. (The decode column of the same table is fine.) The arithmetic
# can't tell you what happened. It tells you that you don't know what was measured.
#
# It finds only the worst, too. Rows b0246 and b0247 pass, and yet their prefill is two to six times that of the same engine on
# similar models. And some numbers in circulation are about the machine itself:

# %%
for name in ("gb10", "b300", "b200"):
    m = catalog.machine(name)
    for f in m.figures:
        if f.doubtful:
            print(f"{m.title}, {f.what}: {f.value:g} {f.unit}? {f.doubtful}. Said by: {f.source.url}")

# %% [markdown]
# ## Three things to remember
#
# 1. Writing speed = bandwidth × (0.6 to 0.86) / bytes read per token. Bytes: linear layers (of experts only those used), head,
#    KV cache; not the input table.
# 2. Users and prompts share the reading and move a model towards the ridge; one user never gets near it. Fewer bits help
#    one user by being fewer bytes.
# 3. Multiply a claimed rate by the bytes that it must read. If the product is above the bandwidth, something is missing from the
#    claim.
#
# **Next step.** Lesson 2 opens the format behind the 4.5 bits: *Sixteen values*. Or try the predictor on a model of yours:
# `./course fit MODEL --weights nvfp4 --machine gb10`.
