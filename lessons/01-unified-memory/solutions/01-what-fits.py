# %% [markdown]
# # What fits
#
# A DGX Spark has one pool of memory, and everything shares it: the system, the desktop, files that were read a minute ago,
# the model, the conversations of its users, and the GPU. That is its strength, since models fit that no gaming card holds.
# It is its danger, too: taking too much doesn't fail with an error, it freezes the machine.
#
# **Afterwards you can**
#
# - read how much memory is really available, and say which tools get it wrong on a Spark, and why;
# - recognise the page-cache trap, and get out of it;
# - compute the size of a model's weights and of its KV cache on the back of an envelope;
# - say whether a model fits a machine, with how much context, for how many users, before you start it.
#
# **Time:** 30 minutes. **You need:** some Python. No GPU, no earlier lesson.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 8 GB, 1 GB of free disk | your own memory is measured; what concerns a Spark is computed or quoted, with its source |
# | spark | one GB10 | the same cells measure the pool that CPU and GPU share |
# | rack | several Sparks, B200 or B300 | as on the laptop: a data-centre GPU has memory of its own, beside the one measured here |
#
# The rhythm throughout: you commit to a guess, run the cell, look at both side by side, then read why.

# %%
from gb10 import catalog, machine, paths, roofline
from gb10.check import lesson01 as check
from gb10.explore import fit_bars, memory_now, page_cache
from gb10.explore.guess import beside

GB, GIB = 1e9, 2**30
print(machine.banner("torch", "ipywidgets"))

# %% [markdown]
# ## 1. Where 128 GB go
#
# A Spark is sold with 128 GB. Disks, bandwidth and file sizes on the model hub are counted in **GB**, 10⁹ bytes each. Memory
# is counted by most programs in **GiB**, 2³⁰ bytes each, which is 7.4 % more; many of them write "GB" or "G" all the same.
# At this size the difference is that of a small model, so this course always says which of the two it means.
#
# **Predict.** How many GiB of a Spark's memory can programs and system see together?

# %%
my_visible = 128     # your guess, in GiB

# %%
spark = catalog.machine("gb10")
print(beside("visible on a Spark", my_visible, spark.memory / GIB, "GiB"))
print("source:", spark.figure("memory_visible").source)

# %% tags=["keep_output", "nbval-check-output"]
print(f"128 GB  = {128 * GB / GIB:.1f} GiB")
print(f"128 GiB = {128 * GIB / GB:.1f} GB")
print(f"visible = {spark.memory / GIB:.1f} GiB = {spark.memory / GB:.1f} GB")

# %% [markdown]
# More than 128 · 10⁹ bytes are visible, so the chips must hold 128 GiB, and some 6 GiB of these never reach Linux. (What
# holds them, the sources don't say.) Of the 121.6 GiB that are left, programs still don't get everything. Here is your own
# machine, right now.

# %%
first = memory_now.now()
memory_now.show(("this machine", first))

# %% [markdown]
# Blue is what nobody gives back: running programs, the kernel, and on a Spark also whatever the GPU has allocated. Orange is
# the **page cache**: copies of files that were read or written, kept in case somebody wants them again. The kernel throws
# them away as soon as a program needs the room. Pale is memory that holds nothing at all. The black mark is the kernel's own
# estimate of where "in use" ends: everything to the right of it can be had. It is called **MemAvailable**.
#
# How much is taken on a Spark before you start anything? One report finds about 102 of 121.69 GiB free right after boot
# ([MiaAI-Lab, issue 47](https://github.com/MiaAI-Lab/GLM-5.3-Flash-EXL3-2x-DGX-Sparks/issues/47)); desktop, services and what
# they had read took the other 20. Free is not available, as you will see in a moment, but blue stays blue: whatever it is on
# your machine, a model can't have it.
#
# ## 2. Which instrument to read
#
# On other machines everybody types `nvidia-smi`. Try it here; on a laptop without an NVIDIA GPU there is none.

# %%
code, text = machine.run_quietly(["nvidia-smi", "--query-gpu=name,memory.total,memory.used", "--format=csv"], 5)
print(text.strip() if code != 127 else "no nvidia-smi on this machine")

# %% [markdown]
# On a Spark both numbers are `[N/A]`, and the ordinary table says `Not Supported`. Nothing is broken. The question is "how
# much memory does this GPU have?", and a GB10 has none: it uses the system's. NVML, the library behind nvidia-smi, reports
# the memory of a card, so other programs built on it stumble as well
# ([nvtop PR 411](https://github.com/Syllo/nvtop/pull/411), [unsloth 10691](https://github.com/unslothai/unsloth/issues/10691)).
#
# | what you ask | what a Spark answers |
# |---|---|
# | `nvidia-smi`, `--query-gpu=memory.*` | Not Supported, `[N/A]` |
# | `nvidia-smi --query-compute-apps=pid,used_memory --format=csv` | right: what each process holds on the GPU |
# | `torch.cuda.mem_get_info()` | follows MemFree: page cache counts as used, so it says too little |
# | **MemAvailable** in `/proc/meminfo`, "available" in `free -h` | right: what a new program can get |
#
# Most engines size themselves by the third line. Here it is beside the fourth.

# %%
import torch

now = memory_now.now()
print(f"MemFree {now.free / GIB:.2f} GiB, MemAvailable {now.available / GIB:.2f} GiB of {now.total / GIB:.2f} GiB")
if torch.cuda.is_available():
    free, total = torch.cuda.mem_get_info()
    print(f"torch.cuda.mem_get_info: {free / GIB:.2f} GiB free of {total / GIB:.2f} GiB")
else:
    print("torch sees no CUDA device here, so it can't be asked")

# %% [markdown]
# ### Exercise 1: read the honest number
#
# Write `available_gib`. It gets the text of `/proc/meminfo`, one line per figure, such as
#
#     MemTotal:       127506842 kB
#     MemFree:         31457280 kB
#     MemAvailable:   104857600 kB
#
# and returns how many GiB a new program can get. The file says kB and means 1024 bytes. Run the cell, then the one below
# it. You may leave an exercise for later: the notebook goes on without it.

# %%
def available_gib(text):
    """GiB that a new program can get, from the text of /proc/meminfo."""
    ### BEGIN SOLUTION
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 2**20
    raise ValueError("there is no line MemAvailable")
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.available_gib(available_gib)

# %% [markdown]
# ## 3. The page-cache trap
#
# Loading a model means reading a large file. A file that is read goes through the page cache, and stays there. Let us load
# a file that is nearly as large as a small model's, and watch. It is written first, then taken out of the cache, so that
# the experiment starts from the disk.
#
# **Predict.** While the file of 384 MiB is read, once: by how many MiB will MemFree fall? And by how many MemAvailable?

# %%
my_free_falls = 0            # your guess, in MiB
my_available_falls = 0       # your guess, in MiB

# %%
file, size = paths.STATE / "lesson01" / "like-a-checkpoint.bin", 384 * 2**20
page_cache.write(file, size)
page_cache.drop(file)
before = memory_now.now()
cold = page_cache.read(file)
after = memory_now.now()

# %%
print(beside("MemFree falls by", my_free_falls, (before.free - after.free) / 2**20, "MiB"))
print(beside("MemAvailable falls by", my_available_falls, (before.available - after.available) / 2**20, "MiB"))

# %% [markdown]
# MemFree loses about the size of the file, MemAvailable hardly moves. (Other programs run meanwhile, so a few dozen MiB
# either way are noise. If MemFree didn't move at all, your folder lies on a file system that lives in memory or has a cache
# of its own.) The program that read the file has long finished and holds nothing. What is left is the cache, and it has a
# use: read the file again.

# %%
warm = page_cache.read(file)
print(f"from the disk:  {size / cold / 1e9:6.2f} GB/s")
print(f"from the cache: {size / warm / 1e9:6.2f} GB/s, {cold / warm:.1f} times as fast")

# %% [markdown]
# Now the cure, for one file and without root: `posix_fadvise(…, POSIX_FADV_DONTNEED)` tells the kernel that nobody needs
# these pages any more.

# %%
page_cache.drop(file)
dropped = memory_now.now()
file.unlink()
memory_now.show(("before", before), ("file was read", after), ("pages dropped", dropped))

# %% [markdown]
# So where is the trap? Nothing was lost, MemAvailable said so all along. It snaps shut when a program asks the wrong
# instrument. vLLM's check at start-up compares *free* memory with the share that it was told to take, and gives up with
# "Free memory on device cuda:0 … is less than desired GPU memory utilization"
# ([vLLM 35313](https://github.com/vllm-project/vllm/issues/35313), [48140](https://github.com/vllm-project/vllm/issues/48140),
# [35920](https://github.com/vllm-project/vllm/issues/35920)). The file that filled the cache is often the model itself, from the
# run before. Here is that case in numbers. They are computed, with 8 GiB assumed for the system.

# %% tags=["keep_output", "nbval-check-output"]
visible, system = spark.memory / GIB, 8
checkpoint = roofline.weight_bytes(catalog.model("gpt-oss-120b"), "mxfp4") / GIB
wanted = 0.70 * visible
print(f"gpt-oss-120b was loaded and stopped: {checkpoint:.1f} GiB of page cache")
print(f"MemFree      {visible - system - checkpoint:6.1f} GiB")
print(f"MemAvailable {visible - system:6.1f} GiB")
print(f"vLLM with --gpu-memory-utilization 0.70 wants {wanted:.1f} GiB free: {visible - system - checkpoint >= wanted}")

# %% [markdown]
# The memory is there, and the engine refuses to start. Ways out, from the plainest to the most thorough:
#
# - give the whole cache back before the next engine starts: `sudo sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'`. It needs
#   root and harms nothing; the next reads come from the disk. NVIDIA's own
#   [playbooks](https://github.com/NVIDIA/dgx-spark-playbooks) say so nearly everywhere;
# - give vLLM the size of its cache in bytes, `--kv-cache-memory-bytes`, instead of a share of a number that it misreads;
# - start engines one after another, never two at once: each would measure while the other loads.
#
# ## 4. How much the weights take
#
# A parameter in BF16 takes 2 bytes, in FP8 one, in NVFP4 four bits and a share in its block's scale, 4.5 bits in all. But a
# format's name doesn't hold for every tensor. An NVFP4 checkpoint from NVIDIA's ModelOpt, and FP8 checkpoints as well, leave
# the **embedding table** and the **output head** in BF16. Each of them has a row for every token of the vocabulary.
#
# **Predict.** 4.5 bits are 28 % of 16 bits. What per cent of its BF16 size does Qwen3-8B really have in NVFP4?

# %%
my_share = 28        # your guess, in per cent

# %% [markdown]
# ### Exercise 2: the size of a checkpoint
#
# Write `weight_gib`. It gets the number of parameters in linear layers, the number in tables (embedding and head together),
# and the bits that a linear weight takes; it returns GiB. What remains, norms and the like, is too small to matter here.

# %%
def weight_gib(linear, tables, bits):
    """GiB of a checkpoint: `linear` parameters with `bits` bits each, `tables` parameters in BF16."""
    ### BEGIN SOLUTION
    return (linear * bits / 8 + tables * 2) / 2**30
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.weight_gib(weight_gib)

# %% [markdown]
# The course has a catalogue of models, with the shape of every kind of tensor, and the predictor counts bytes with it:

# %% tags=["keep_output", "nbval-check-output"]
print(f"{'':<24}{'BF16':>8}{'FP8':>8}{'NVFP4':>8}   GB      NVFP4 / BF16")
for name in ("Qwen3-0.6B", "Qwen3-8B", "Qwen3-32B", "Qwen3-30B-A3B", "Llama-3.3-70B-Instruct"):
    m = catalog.model(name)
    sizes = [roofline.weight_bytes(m, f) / GB for f in ("bf16", "fp8", "nvfp4")]
    print(f"{name:<24}" + "".join(f"{s:8.2f}" for s in sizes) + f"{sizes[2] / sizes[0]:>19.1%}")

# %%
qwen = catalog.model("Qwen3-8B")
share = 100 * roofline.weight_bytes(qwen, "nvfp4") / roofline.weight_bytes(qwen, "bf16")
print(beside("Qwen3-8B in NVFP4", my_share, share, "% of BF16"))

# %% [markdown]
# The smaller the model, the more its tables weigh. In Qwen3-8B they are 15 % of the parameters and 39 % of the NVFP4 file; in
# a 70B model they hardly count. For a check against the world: for gpt-oss-120b as a GGUF file
# `./course fit gpt-oss-120b --weights gguf-mxfp4` says 63.37 GB, and the file that llama.cpp's
# [benchmark on a Spark](https://github.com/ggml-org/llama.cpp/blob/master/benches/dgx-spark/dgx-spark.md) used has 59.02 GiB,
# which is 63.37 GB.
#
# A mixture of experts such as Qwen3-30B-A3B has to be in memory whole, although a token uses only a tenth of it. In this
# notebook it counts like any 30B model. In the next one, about speed, it won't.
#
# ## 5. How much the conversations take
#
# While a model writes, it keeps two vectors for each token so far, in each layer: a **key** and a **value**. Together they
# are the **KV cache**. In newer models a group of query heads shares one pair of them (*grouped-query attention*), so what
# counts is the number of *KV heads*: Qwen3-8B has 32 query heads and only 8 of those.
#
# $$\text{bytes per token} = 2 \times \text{KV heads} \times \text{head dimension} \times \text{layers} \times \text{bytes per number}$$
#
# ### Exercise 3: the KV cache
#
# Write `kv_bytes`. `config` holds fields of the model's `config.json`: `hidden_size`, `num_hidden_layers`,
# `num_attention_heads`, `num_key_value_heads`, `head_dim`. Not all of them are needed. `bytes_each` is 2 for BF16, 1 for FP8.

# %%
def kv_bytes(config, context, users, bytes_each):
    """Bytes of the KV cache of `users` conversations of `context` tokens each."""
    ### BEGIN SOLUTION
    per_token = 2 * config["num_key_value_heads"] * config["head_dim"] * config["num_hidden_layers"] * bytes_each
    return per_token * context * users
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.kv_bytes(kv_bytes)

# %% [markdown]
# **Predict.** Qwen3-8B in NVFP4 weighs 6.4 GB. At how many tokens of context, for one user and in BF16, does the KV cache
# weigh as much as the model?

# %%
my_context = 10          # your guess, in thousands of tokens

# %%
per_token = roofline.kv_bytes_per_token(qwen, "bf16")
print(f"{per_token:,.0f} bytes for each token")
as_heavy = roofline.weight_bytes(qwen, "nvfp4") / per_token
print(beside("as heavy as the weights", my_context, as_heavy / 1000, "thousand tokens"))

# %% tags=["keep_output", "nbval-check-output"]
print(f"{'':<24}{'KiB per token':>14}{'GiB at 32768':>14}{'GiB, 8 users':>14}   KV in BF16")
for name in ("Qwen3-8B", "Qwen3-32B", "Qwen3-30B-A3B", "Llama-3.3-70B-Instruct", "gpt-oss-120b", "Gemma-3-27b-it"):
    m = catalog.model(name)
    one = roofline.kv_bytes(m, "bf16", 32768) / GIB
    print(f"{name:<24}{roofline.kv_bytes_per_token(m, 'bf16') / 1024:>14.0f}{one:>14.2f}{8 * one:>14.2f}")

# %% [markdown]
# Two things to see. The cache depends on the shape, not on the size: gpt-oss-120b needs a quarter of what the 8B model
# needs. Half of its layers look back no further than 128 tokens (a *sliding window*) and stop growing there; Gemma-3 does
# the same with five layers of six. And eight users with long conversations easily need more than the weights. What makes
# a small machine too small is rarely the model alone.
#
# ## 6. Against the machines
#
# The explorer adds it up: weights, tables, KV cache, and what the engine itself takes (runtime, CUDA graphs, scratch space;
# this part is an assumption of the course, 2.5 GiB and the activations for vLLM). Each row is a machine. Its frame is the
# memory that programs see. The hatched part has to stay free: the system's share and a margin on a shared pool, little on a
# card of its own.
#
# Find out: (a) which formats let Llama-3.3-70B onto a Spark? (b) With 32768 tokens each, how many users does Qwen3-32B in NVFP4
# have room for on a Spark, and how many once the KV cache is in FP8? (c) What is the largest thing that the 24 GB card holds?

# %%
fit_bars.explore(machine.detect().memory_total_bytes)

# %% [markdown]
# Now the same question for many models at once, each as small as it is published, with one user and a context of 32768
# tokens (Qwen3-235B and the like need two Sparks). Dots: it does not fit.

# %% tags=["keep_output", "nbval-check-output"]
machines = [fit_bars.card(24), catalog.machine("rtx-5090"), catalog.machine("gb10")]
print(f"{'':<27}{'format':<12}" + "".join(f"{m.title:>18}" for m in machines))
for name in ("Qwen3-8B", "Qwen3-14B", "Gemma-3-27b-it", "Qwen3-30B-A3B", "Qwen3-32B", "gpt-oss-20b",
             "Llama-3.3-70B-Instruct", "gpt-oss-120b", "Qwen3-235B-A22B"):
    fmt = "mxfp4" if name.startswith("gpt") else "nvfp4"
    need = fit_bars.compute(name, fmt, "bf16", 32768, 1, machines)
    print(f"{name:<27}{fmt:<12}" + "".join(f"{a.verdict if a.verdict != 'no' else '·':>18}" for _, a in need.verdicts))

# %% [markdown]
# A card of 24 or 32 GB holds models of up to 30B in four bits and one conversation, and then it is full; Qwen3-32B with a
# long context is over the edge already. The 70B and 120B classes are where a pool of 121.6 GiB is in a class of its own. What
# such a card has instead is speed: the RTX 5090 has more than six times the bandwidth. That is the next notebook.
#
# ## 7. Why too much is worse than an error
#
# On a card, an allocation beyond its memory fails at once: the program ends with *CUDA out of memory*, everything else goes
# on. On one shared pool there is no such line. Linux first throws away the page cache, then moves other programs' pages to
# swap, if there is any; the kernel's own pages, the network driver's, the desktop's wait for memory that the GPU's driver
# holds and never gives back. The *OOM killer* comes late, after minutes of standstill, if it comes. From outside: no ping,
# no ssh, the power button.
#
# This is published experience: vLLM's utilization is no hard bound, at 0.70 a host wedged
# ([vLLM 46307](https://github.com/vllm-project/vllm/issues/46307)); a 128K prefill reset a box
# ([playbooks 97](https://github.com/NVIDIA/dgx-spark-playbooks/issues/97)); under pressure the network went first
# ([playbooks 116](https://github.com/NVIDIA/dgx-spark-playbooks/issues/116)). What does your machine have to fall back on?

# %%
now = memory_now.now()
print(f"available {now.available / GIB:.1f} GiB; swap {now.swap / GIB:.1f} GiB; one pool for CPU and GPU: "
      f"{machine.detect().unified_memory}")
enough = now.available >= 8 * GIB
print("that is", "more" if enough else "less", "than the headroom that a Spark needs")

# %% [markdown]
# The rule that follows from these reports: **keep 8 to 10 GiB of MemAvailable**, at the peak and not on average. Start
# engines one at a time. Let a watchdog such as *earlyoom* end the engine before the kernel has to.
#
# ### Exercise 4: how many users?
#
# Write `max_users`. All sizes come in GiB: what is available, the weights, the engine's own need, and the KV cache of one
# user. Leave 10 GiB free. The answer is a whole number, 0 if not even one fits.

# %%
def max_users(available, weights, engine, per_user):
    """How many users fit, with 10 GiB left free."""
    ### BEGIN SOLUTION
    room = available - weights - engine - 10
    return max(0, int(room // per_user))
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.max_users(max_users)

# %% [markdown]
# The course's predictor answers the same question, before you start anything: `./course fit`. `./course up` counts once more
# at the start and refuses what would not fit into the memory that is available at that moment, with the figures.
#
# **Predict.** Llama-3.3-70B in NVFP4 on a Spark, conversations of 16384 tokens in BF16: how many users?

# %%
my_users = 20            # your guess

# %%
answer = roofline.fit("Llama-3.3-70B-Instruct", weights="nvfp4", machine="gb10", context=16384, engine="vllm")
print(beside("users", my_users, answer.largest_batch))
for weights in ("bf16", "fp8", "nvfp4"):
    p = roofline.fit("Llama-3.3-70B-Instruct", weights=weights, machine="gb10", context=16384, engine="vllm")
    print(f"{weights:<6} {p.weight_bytes / GIB:6.1f} GiB of weights: {p.fits:<6} {p.largest_batch:>3} users; "
          f"{p.left_bytes / GIB:6.1f} GiB left with one")

# %% [markdown]
# In BF16 the weights alone are over the edge by 10 GiB, and starting that is how a Spark is wedged. From FP8 to NVFP4 the
# weights give up 28 GiB, and every 5 GiB of them are one user more. On a machine whose memory is given, bits are users.
#
# Last, the setting that you will meet in every compose file of this course. vLLM takes a *share* of the visible memory and
# fills what the weights leave of it with KV cache, needed or not. This is what its two common settings mean for Qwen3-8B.

# %% tags=["keep_output", "nbval-check-output"]
for utilization in (0.92, 0.35):
    pool = utilization * visible
    weights = roofline.weight_bytes(qwen, "nvfp4") / GIB
    tokens = (pool - weights - 2.5) * GIB / per_token
    print(f"{utilization:.2f} takes {pool:6.1f} GiB, leaves {visible - pool:5.1f} GiB to everybody else, "
          f"holds {tokens:,.0f} tokens")

# %% [markdown]
# The first is vLLM's default. It is meant for a card of its own and leaves a Spark 9.7 GiB for the system *and* the headroom,
# which is why it fails there. The second is plenty: 250 thousand tokens are seven users with 32768 each. NVIDIA's recipes for
# the Spark use 0.4 to 0.5 for models of 8B to 35B, and 0.7 to 0.85 for the 100B class
# ([vllm-project/recipes](https://github.com/vllm-project/recipes)).
#
# ## Three things to remember
#
# 1. On a Spark read MemAvailable. MemFree, mem_get_info and nvidia-smi are wrong there or silent; page cache is not lost.
# 2. Memory = weights (bits / 8 per linear weight, 2 bytes in the tables) + KV cache (2 × KV heads × head dimension × layers ×
#    bytes, per token and user) + engine. Compute it before you start anything.
# 3. Keep 8 to 10 GiB available. One shared pool has no edge to bump against: what takes too much takes the machine along.
#
# **Next step.** *Bandwidth decides*, the second notebook of this lesson: you measure your memory's speed, and predict from it
# how fast a model writes.
