# %% [markdown]
# # The efficiency audit
#
# Somebody says that NVFP4 is faster than the GGUF file that you run today. You want to know whether that is true of your
# model, on your machine. This notebook turns such a sentence into a claim that can fail, measures it, and reports what
# came out, whichever way it goes.
#
# **Afterwards you can**
#
# - write down, before you measure, what would confirm a claim and what would refute it;
# - make two engines do the same work, and find out when they didn't;
# - tell a difference from noise with a paired bootstrap, and say "not shown" where that is the truth;
# - quantize a 14B model in NVIDIA's container on a Spark, and find out whether a ready-made one exists for it.
#
# **Time:** 30 minutes, of which the machine works for two or three. **You need:** the first notebook of this lesson.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 8 GB, no GPU | pico in BF16 and NVFP4 in vLLM on the CPU; as an option also in GGUF, in a llama.cpp that you build (7 minutes) |
# | spark | one GB10 | if Ollama and TensorRT-LLM or vLLM serve the same model, those two are compared; else as on a laptop |
# | rack | several Sparks, B200 or B300 | as on a Spark |
#
# The Spark's path has been tested with stand-in servers only, not on a Spark.

# %%
import torch

from gb10 import bench, catalog, engines, machine, paths, quantize, roofline
from gb10.bench.selftest import Truth
from gb10.check import lesson03 as check
from gb10.engines import llama_cpp
from gb10.explore import audit, audit_sides, figure
from gb10.explore.guess import beside

torch.manual_seed(0)
HERE = paths.STATE / "lesson03"
print(machine.banner("torch", "transformers", "nvidia-modelopt"))

# %% [markdown]
# ## 1. A claim that can fail
#
# Here is the sentence, as one hears it: *NVFP4 gives a significantly faster time to first token than GGUF, because tensor
# cores take FP4 without unpacking.* It has two parts. The first can be measured. The second is a reason, and a measured
# difference does not prove a reason; we come back to it in section 6.
#
# "Significantly" is used for two things. One is *not by chance*. The other is *enough to matter*. Your claim has to say
# both, and beforehand; whoever looks at the figures first will find some way in which they agree. So let us fix:
#
# - **what**: the time to first token (TTFT) of one user, cold prompts of equal length;
# - **how much**: at least 1.10 times as fast, since less than that nobody notices;
# - **confirmed** if the whole 95 % interval of the ratio lies at 1.10 or above;
# - **refuted** if the whole interval lies below 1.10, even if it lies above 1;
# - **not shown** if 1.10 lies inside the interval. That is an outcome, too, and a common one.
#
# **Predict.** NVFP4's TTFT compared with the other format's, on *this* machine: how many times as fast?

# %%
my_ratio = 1.5       # your guess; below 1 means that NVFP4 is slower
LEAST = 1.10

# %% [markdown]
# ## 2. A judge that keeps quiet when there is nothing
#
# Before you trust a judge, show it a case whose answer you know. `Truth` is a small server that computes nothing; it waits
# a set time before each token. Two of them with *equal* waits are an A/A test. Any winner is a
# false one.
#
# `bench.measure` takes several addresses. It measures them in blocks that alternate (A B B A A B …, six each), takes the
# median of each block, pairs the blocks in their order, and draws the pairs again and again to see how far their mean could
# have come out otherwise. That is a *paired bootstrap*.

# %%
def measure(urls, **work):
    """A comparison by the course's benchmark; its records stay in .course/lesson03."""
    return bench.measure(urls, results=str(HERE / "runs"), **work)

def two_servers(a, b, **work):
    """Two servers of known truth, with these milliseconds to the first token; the claim is that the second is faster."""
    with Truth(ttft=a, itl=10, tokens=8) as first, Truth(ttft=b, itl=10, tokens=8) as second:
        return measure([first.url, second.url], requests=18, max_tokens=8, **work)

# %%
same = two_servers(40, 40)
first, second = (row["ttft_ms"]["p50"] for row in same.rows)
print(f"medians: {first:.3f} and {second:.3f} ms. 'Server {1 if first < second else 2} is faster!'")
print(audit.verdict(same, audit.Claim(faster=1, slower=0, least=LEAST)))

# %% [markdown]
# Two medians are never equal, so a bare comparison always names a winner. On a quiet machine the judge refutes the claim from the
# same numbers: whatever the difference is, it is below 10 %. (On a busy one it may say "not shown". Never "confirmed", but for
# the few times in a hundred that a 95 % interval misses.)
#
# **Predict.** Next, two servers that do differ: 48 ms against 40 ms is a factor of 1.2, and 42 ms against 40 ms a factor of
# 1.05. Which of the three outcomes does each of them get?

# %%
my_outcomes = ("?", "?")     # your guess: confirmed, refuted or not shown; first for 48 ms, then for 42 ms

# %%
for guess, slower in zip(my_outcomes, (48, 42)):
    finding = audit.verdict(two_servers(slower, 40), audit.Claim(faster=1, slower=0, least=LEAST))
    print(f"{slower} ms against 40 ms, your guess: {guess}\n    {finding}")

# %% [markdown]
# The second pair is the instructive one. That server *is* faster, and on a quiet machine the interval is far from 1:
# "statistically significant", many would write. It is still not what was claimed.
#
# ### Taking turns
#
# Why blocks in turns, instead of first all of A, then all of B? Because machines change while you measure. They get warm and
# clock down; a backup starts; a cache fills. Here is a made-up machine that gets 2 % slower with each block, and two engines
# that are *equally fast*. Twelve blocks, in two orders.
#
# **Predict.** How many per cent slower does B look when it is measured after A?

# %%
my_drift = 2         # your guess, in per cent

# %% tags=["keep_output", "nbval-check-output"]
orders = {"one after the other": "AAAAAABBBBBB", "in turns": "ABBAABBAABBA"}
times = {name: audit.drifting(order) for name, order in orders.items()}
for name, t in times.items():
    print(f"{name:<20}{orders[name]}   B looks {100 * (audit.paired_ratio(t) - 1):+5.1f} % slower than A")

# %%
print(beside("B after A", my_drift, 100 * (audit.paired_ratio(times["one after the other"]) - 1), "%"))
fig, axes = figure.new(9, 2.6, columns=2)
for ax, (name, order) in zip(axes, orders.items()):
    for engine, colour in (("A", figure.BLUE), ("B", figure.ORANGE)):
        ax.plot([n for n, e in enumerate(order) if e == engine], times[name][engine], "o", color=colour, label=engine)
    ax.set(xlabel="block", title=name)
axes[0].legend()
figure.show(fig, "Times of twelve blocks that rise by 2 % each. Left: all of A, then all of B, which looks slower. Right: in "
                 "turns, both rise alike.")

# %% [markdown]
# No number of requests helps against this: more of them only make the wrong answer more certain. Turns do. So both engines
# have to be up at once, which has a price, too: they share the memory, and an idle engine that keeps polling takes cycles
# from the other.
#
# ## 3. The same work
#
# Before you compare two times, compare what was done in them. Four things differ silently between engines:
#
# - **the prompt's length**: another tokenizer, another chat template, a system prompt that somebody built in;
# - **the prefix cache**: a prompt that the engine has seen needs no reading, and its TTFT says nothing about prefill;
# - **the answer's length**: the speed of a whole answer depends on it, and some engines stop where others write on;
# - **requests in flight**: TTFT includes the wait in the queue.
#
# ### Exercise 9: did they do the same work?
#
# Write `same_work`. `a` and `b` are dictionaries with `prompt_tokens`, `cached_tokens`, `output_tokens` (for each request) and
# `in_flight`. Return a list of the names that spoil the comparison, in this order: `prompt_tokens` if they are more than 5 % of
# the longer prompt apart (templates differ by a few tokens); `cached_tokens` if *either* side took more than 5 % of its own
# prompt from a cache; `output_tokens` and `in_flight` if they differ at all.

# %%
def same_work(a, b):
    """Names of what spoils the comparison of two runs; [] for the same work."""
    ### BEGIN SOLUTION
    spoiled = []
    p, q = a["prompt_tokens"], b["prompt_tokens"]
    if abs(p - q) > 0.05 * max(p, q):
        spoiled.append("prompt_tokens")
    if any(side["cached_tokens"] > 0.05 * side["prompt_tokens"] for side in (a, b)):
        spoiled.append("cached_tokens")
    return spoiled + [name for name in ("output_tokens", "in_flight") if a[name] != b[name]]
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.same_work(same_work)

# %% [markdown]
# The audit asks the same before it judges. In the next cell the second server stops after half of the answer, as a model does
# that has said all it had to say. Its whole answers are much faster, and `verdict` declines to call that a victory.

# %%
with Truth(ttft=40, itl=10, tokens=8) as whole, Truth(ttft=40, itl=10, tokens=8, short=4) as half:
    uneven = measure([whole.url, half.url], requests=12, max_tokens=8, any_length=True)
print("times of a whole answer:", *(f"{row['e2e_ms']['p50']:.0f} ms" for row in uneven.rows))
print(audit.verdict(uneven, audit.Claim(faster=1, slower=0, metric=audit.WHOLE, least=LEAST)))

# %% [markdown]
# ## 4. The candidates: size and loss
#
# Now the real ones. NVFP4 first: ModelOpt calibrates pico and exports a checkpoint, as in notebook 1.

# %%
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

logging.disable_progress_bar()
logging.set_verbosity_error()
tokenizer = AutoTokenizer.from_pretrained(paths.PICO)

def load():
    """pico as it ships, in BF16."""
    return AutoModelForCausalLM.from_pretrained(paths.PICO, dtype=torch.bfloat16).eval()

def read(name):
    """A text beside the model, without the marks between its documents."""
    return (paths.PICO.parent / name).read_text(encoding="utf-8").replace("<|endoftext|>", "")

# %%
batches = quantize.calibration_batches(tokenizer, read("calibration.txt"), tokens=4096)
nvfp4 = quantize.quantize(load(), batches)
folder = quantize.export(nvfp4, tokenizer, HERE / "audit-nvfp4")
stored = {"BF16": sum(t.bytes for t in quantize.inspect_tensors(paths.PICO)),
          "NVFP4": sum(t.bytes for t in quantize.inspect_tensors(folder))}

# %% [markdown]
# And GGUF, the file format of llama.cpp and Ollama. **Q4_K_M**, the usual choice, is a mixture. Most matrices are in Q4_K: codes
# of four bits, with a 6-bit scale and minimum for 32 weights, which are themselves scaled for 256; 4.5 bits a weight, as NVFP4.
# The output matrix (in pico the embedding table) and those matrices that hurt most are in Q6_K, with 6.56 bits. So a GGUF spends more bits than NVFP4
# inside the layers, and far fewer on the embeddings, which NVFP4 checkpoints leave in BF16. The names "4-bit" and "FP4" hide that.
#
# The server for it is an optional step: the next cell builds llama.cpp from source if you let it, which needs `cmake` and a C++
# compiler and takes some 7 minutes on two cores, once. Without it the notebook compares BF16 with NVFP4, and says so.

# %%
build_llama_cpp = False      # True: build it, if it isn't there yet

gguf = None
if build_llama_cpp or llama_cpp.built():
    llama_cpp.build()
    gguf = llama_cpp.convert(paths.PICO, HERE / "audit-q4_k_m.gguf", "Q4_K_M")
    stored["Q4_K_M"] = gguf.stat().st_size
print("with GGUF" if gguf else llama_cpp.missing() or "without GGUF: llama.cpp has not been built here, so BF16 takes its place")

# %%
parameters = sum(p.numel() for p in load().parameters())
big = catalog.model("Qwen3-8B")
print(f"{'':<10}{'pico, here':>26}{'Qwen3-8B, computed':>30}")
for name, size in stored.items():
    its = roofline.weight_bytes(big, name.lower())
    print(f"{name:<10}{size / 1e6:>8.2f} MB {audit.bits_per_weight(size, parameters):>6.2f} bits/weight"
          f"{its / 1e9:>12.2f} GB {8 * its / big.params:>6.2f} bits/weight")

# %% [markdown]
# Compare sizes like these, never the names. (The GGUF file also holds the tokenizer, which counts in a file as small as pico's. Where
# the row of Q4_K_M is missing: for Qwen3-8B it takes 5.07 GB, a fifth less than NVFP4.)
#
# The loss, then. It has to be measured **on the same text, with the same program**, or the comparison is one of programs. Ours
# takes a GGUF file's weights back into numbers and puts them into the same model. That measures the rounding of the weights alone.
# NVFP4 as served rounds activations, too, so it appears twice: whole, and with its weights only, which is the fair partner.

# %%
import modelopt.torch.quantization as mtq

from gb10.quantize.bootstrap import ratio_interval
from gb10.quantize.heldout import score

ids = tokenizer(read("heldout.txt"))["input_ids"][:4097]
nll = {"BF16": score(load(), ids).nll, "NVFP4": score(nvfp4, ids).nll}
mtq.disable_quantizer(nvfp4, "model.layers*input_quantizer")
nll["NVFP4, weights only"] = score(nvfp4, ids).nll

# %%
if gguf:
    from safetensors.torch import load_file

    twin = load()
    twin.load_state_dict(load_file(llama_cpp.dequantize(gguf, HERE / "audit-q4_k_m.safetensors")), strict=False)
    nll["Q4_K_M, weights only"] = score(twin, ids).nll
for name, values in nll.items():
    print(f"{name:<24}{values.mean():.4f} nats per token")

# %% [markdown]
# Are these differences real, or would another 4,000 tokens turn them round? Tokens of one passage depend on each other, so the text
# is cut into windows of 256 tokens, and a window is one observation. Some windows are hard for every model. Their losses go up and
# down together, and only the *difference* within each window says something about the formats: the same pairing as before.
#
# ### Exercise 10: a paired bootstrap
#
# Write `paired_interval(a, b, draws)`. `a` and `b` are lists of paired values. `draws` is a list of resamples: each is a list of
# positions, drawn with replacement. Take the difference *b − a* of each pair; for each draw the mean of the differences at its
# positions; sort these means. With *n* draws, return the two at positions `int(0.025 * n)` and `int(0.975 * n)`.

# %%
def paired_interval(a, b, draws):
    """95 % interval of the mean of b - a: (low, high)."""
    ### BEGIN SOLUTION
    differences = [y - x for x, y in zip(a, b)]
    means = sorted(sum(differences[i] for i in draw) / len(draw) for draw in draws)
    return means[int(0.025 * len(means))], means[int(0.975 * len(means))]
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.paired_interval(paired_interval)

# %% [markdown]
# **Predict.** Which of the formats will be told apart from BF16 by 16 windows? The course's own interval, below, is a refined one
# (it also allows for skewed losses), and comes out a little wider than yours.

# %%
def sums(values):
    """The loss of each window of 256 tokens."""
    return values[:len(values) // 256 * 256].reshape(-1, 256).sum(1)

for name, values in list(nll.items())[1:]:
    rise = ratio_interval(sums(values) - sums(nll["BF16"]), [256] * len(sums(values)))
    print(f"{name:<24}{rise} nats above BF16" + ("   no difference shown" if rise.covers(0) else ""))

# %% [markdown]
# Small differences with narrow intervals: that is what pairing buys. Unpaired, the same windows would give intervals dozens of times as
# wide. Mind what isn't in the table: how llama.cpp rounds activations (to eight bits, on a CPU) was not measured, and pico is tiny.
# For a large model the order of two formats can be another.
#
# ## 5. Measure
#
# Who is up? On a Spark, two servers of the same model: Ollama (port 11434) or llama.cpp for GGUF, TensorRT-LLM (8001) or vLLM (8002)
# for NVFP4. If there is such a pair, those are compared, with longer prompts. Otherwise the notebook starts its own, all of them at
# once, which takes 15 to 25 seconds each on a quiet machine.

# %%
servers, pair = [], audit_sides.pick(engines.running())
if pair:
    sides, work = list(pair), {"requests": 60, "max_tokens": 64, "prompt_tokens": 1024}
else:
    work = {"requests": 12, "max_tokens": 16, "prompt_tokens": 256}
    servers = [engines.start(paths.PICO, name="pico-bf16"), engines.start(folder, name="pico-nvfp4")]
    servers += [llama_cpp.serve(gguf, name="pico-q4_k_m")] if gguf else []
    sides = [audit_sides.side(s, f) for s, f in zip(servers, ("BF16", "NVFP4", "Q4_K_M"))]
print(*(f"{n}: {s.title}, {s.model} at {s.url}" for n, s in enumerate(sides)), sep="\n")

# %%
try:
    result = measure([s.url for s in sides], model=[s.model for s in sides], **work)
finally:
    for server in servers:
        server.stop()
print(result)

# %% [markdown]
# Look at the table before you look at the verdict. Are there errors? How far apart are p50 and p90 of one engine? A spread as large as
# the difference means that something else was running. Warnings at the bottom say when the client itself was late.
#
# Every prompt began with words of its own, so no cache could answer; a warm-up request went first; all answers have the length that
# was asked for. Now the claim, decided by the rule of section 1.

# %%
formats = [s.format for s in sides]
new, old = formats.index("NVFP4"), formats.index("Q4_K_M" if "Q4_K_M" in formats else "BF16")
findings = {metric: audit.verdict(result, audit.Claim(faster=new, slower=old, metric=metric, least=LEAST))
            for metric in (audit.TTFT, audit.SPEED, audit.WHOLE)}
print(f"Claimed: {sides[new].title} is faster than {sides[old].title}.\n")
print(*findings.values(), sep="\n")

# %%
print(beside(f"TTFT, {sides[new].title} over {sides[old].title}", my_ratio, findings[audit.TTFT].ratio))
audit.show(findings, LEAST)

# %% [markdown]
# On a laptop don't expect a confirmation: a CPU has no FP4 multiplier, so weights are unpacked when they are loaded, and rounding the
# activations is extra work. That is no verdict on NVFP4 on a Spark. It is a verdict on this claim, on this machine, which is what you asked. (Where GGUF took part,
# it is a difference of engines, too: pico is so small that much of vLLM's time per token is Python.)
#
# ## 6. And the reason?
#
# Suppose that a Spark confirms it. Is it *because tensor cores take FP4 without unpacking*? Ollama and TensorRT-LLM differ in everything:
# kernels, schedulers, the language of the server. To learn about the reason, change one thing: the same engine, the same model, once as
# W4A4 and once as W4A16, whose weights *are* unpacked. And read vLLM's log. On a Spark it often chooses a kernel (Marlin) that unpacks
# NVFP4 to 16 bits, since the FP4 kernels for this chip were slow; then the reason is gone, whatever the times are.
#
# Arithmetic also says what to expect. Reading a prompt of *n* tokens takes the longer of two times: fetching all weights once, and
# computing 2 *n* FLOP with each. **Predict.** From which prompt length on can FP4 arithmetic pay at all, for Qwen3-8B on a Spark?

# %%
my_length = 100      # your guess, in tokens

# %% tags=["keep_output", "nbval-check-output"]
spark = catalog.machine("gb10")
reached = {name: next(f.value for f in spark.figures if f.what.startswith(f"{name} GEMM measured")) for name in ("BF16", "FP4")}
weights, bandwidth = 36 * 4096 * (128 * (2 * 32 + 2 * 8) + 3 * 12288), 232.5e9    # Qwen3-8B's linear layers; bytes/s, measured

def prefill(n, stored_as, tflops):
    """Seconds to read a prompt of n tokens: memory or arithmetic, whichever takes longer."""
    return max(roofline.read_weights(catalog.model("Qwen3-8B"), stored_as) / bandwidth, 2 * n * weights / (tflops * 1e12))

for n in (32, 128, 512, 4096):
    q4, measured, peak = prefill(n, "q4_k_m", reached["BF16"]), prefill(n, "nvfp4", reached["FP4"]), prefill(n, "nvfp4", 500)
    print(f"{n:>5} tokens: Q4_K_M unpacked {1e3 * q4:6.1f} ms; NVFP4 {q4 / measured:.2f} times as fast at 99.6 TFLOPS, "
          f"{q4 / peak:.2f} at 500")

# %%
first = next(n for n in range(1, 4096) if prefill(n, "q4_k_m", reached["BF16"]) > prefill(n, "nvfp4", reached["FP4"]))
print(beside("first length at which NVFP4 is ahead", my_length, first, "tokens"))

# %% [markdown]
# Short prompts are bound by memory, and there NVFP4 reads *more* bytes than Q4_K_M, because of its BF16 head. Long prompts are bound by
# arithmetic. At the 99.6 TFLOPS that one library was
# [measured to reach in FP4](https://github.com/NVIDIA/TensorRT-LLM/issues/11368), against 86 in BF16, the gain is 1.16, just above our
# 1.10. At 500 TFLOPS, half of what NVIDIA states with sparsity, it would be almost 6. So the answer to the claim depends on the kernel and on the prompt, and a single "faster"
# says nothing. These are computed limits; measure yours with several values of `prompt_tokens`.
#
# ## 7. Quantize a 14B model on a Spark
#
# `compose.yaml`, in this lesson's folder, has two services: `quantize`, a job that ends, and `serve`. Neither has been run on a Spark
# yet; the files are checked against the compose schema, and the job's script with stand-ins for ModelOpt. In a terminal, in the
# course's folder:
#
#     mkdir -p .course/models ~/.cache/huggingface
#     export QUANTIZE_USER="$(id -u):$(id -g)"
#     docker compose -f lessons/03-quantize-with-modelopt/compose.yaml run --rm quantize
#     ./course inspect .course/models/Qwen3-14B-NVFP4
#     docker compose -f lessons/03-quantize-with-modelopt/compose.yaml --profile serve up serve
#
# Then `python3 appendix/llm_benchmark.py --engine own` measures it on port 8000. What the lines are for:
#
# | line | why |
# |---|---|
# | `image: …release:1.3.0rc20` and `MODELOPT=0.45.0` | a release tag, and the version whose options the script uses; later versions moved and renamed things. NVIDIA's page of July 2026 takes a `-dev` tag, which moves |
# | `user: ${QUANTIZE_USER…}` | the checkpoint and the cache belong to you. As root, even deleting them would take sudo. A user unknown to the image has no home, hence `HOME` and `USER` |
# | `create_host_path: false` | Docker would make a missing folder as root, and the job couldn't write to it: better to refuse |
# | `ipc: host` | worker processes share tensors through `/dev/shm`, of which a container has 64 MB |
# | `ulimits: memlock, stack` | CUDA pins memory, and its libraries recurse deeply |
# | `CUDA_VISIBLE_DEVICES=0`, `ACCELERATE_USE_FSDP=false` | accelerate sees GPU memory and CPU memory, counts the same 128 GB twice, and splits the model between them |
# | the Hugging Face cache | 30 GB are fetched once, and shared with your other tools |
# | `HF_TOKEN` | only passed on from your shell; a compose file gets committed |
# | `--dataset cnn_dailymail` | the default also takes a dataset that asks for an agreement, and fails |
# | `--batch_size 4` | 0 would probe the memory, and a Spark's answer counts page cache as used |
# | 127.0.0.1 in front of the port | an API without a password stays on this machine |
#
# The job refuses before it starts if less than 48 GB are available, and writes under another name until the checkpoint is whole. For one
# user at a time, NVIDIA recommends weights only: `export QUANTIZE_RECIPE=general/ptq/nvfp4_weight_only-kv_fp16`.

# %%
import yaml

services = yaml.safe_load((paths.LESSONS / "03-quantize-with-modelopt" / "compose.yaml").read_text(encoding="utf-8"))["services"]
for name, service in services.items():
    print(f"{name}: {service['image']}\n    " + "\n    ".join(map(str, service.get("ports") or service["environment"])))

# %% [markdown]
# ## 8. Or take a ready-made one
#
# Before you spend an evening on quantizing, look whether somebody has done it:
#
# - **The nvidia organisation on Hugging Face** publishes NVFP4 checkpoints made with ModelOpt, such as `nvidia/Qwen3-8B-NVFP4`; some carry
#   the suffix `-FP4` and are the same kind. The card says which calibration data and which scores.
# - **NIM** packs model and engine into one container, for instance `nvcr.io/nim/meta/llama-3.1-8b-instruct-dgx-spark`. It needs an NGC key.
#   Some images have the Spark in their name; whether another one runs there is what the exercise finds out.
# - **Converting**: llama.cpp turns a ModelOpt checkpoint into a GGUF of type NVFP4, and runs it. It then multiplies with integer
#   activations, so it is not the same computation, and its loss has to be measured anew.
#
# A Spark's processor is an ARM, `linux/arm64`. An image without that platform fails with *exec format error*, after the download. So ask
# first: `docker manifest inspect IMAGE` prints a *manifest list*, JSON with an entry for each platform.
#
# ### Exercise 11: is it for this machine?
#
# Write `manifest_has_arm64`. `manifest` is that JSON as a dictionary. Each entry of its list `manifests` may have a `platform` with `os` and
# `architecture`. Return whether one is for Linux on arm64. A manifest of a single image has no such list, and promises nothing: `False`.

# %%
def manifest_has_arm64(manifest):
    """Whether a manifest list has an image for linux/arm64."""
    ### BEGIN SOLUTION
    platforms = [entry.get("platform", {}) for entry in manifest.get("manifests", [])]
    return any(p.get("os") == "linux" and p.get("architecture") == "arm64" for p in platforms)
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.manifest_has_arm64(manifest_has_arm64)

# %% tags=["solution-only"]
# The tests run this notebook: its solutions have to pass their own checkers.
assert check.same_work(same_work) and check.paired_interval(paired_interval) and check.manifest_has_arm64(manifest_has_arm64)
assert [f.outcome for f in findings.values()].count(audit.NOT_COMPARABLE) == 0

# %% [markdown]
# ## Three things to remember
#
# 1. Write down what would refute a claim before you measure: what, by how much, with which interval. "Not shown" is a result.
# 2. Same prompt length, no cache, same answer length, same load, in turns. If one of them is missing, the comparison is about that.
# 3. "4-bit" names no size and no speed. Q4_K_M and NVFP4 differ in bytes, in engines, and in what they round; compare bytes, loss on the
#    same text, and times on the same work.
#
# **Next step.** Let the benchmark compare engines that you really use: `./course bench --engine ollama,vllm --seconds 60`, and hold its
# verdict against what you would have bet. The appendix explains every figure: `./course bench --explain TTFT`.
