# %% [markdown]
# # Which engine?
#
# Five programs serve language models on a Spark, all behind the same protocol. They differ in what they load, in what they do
# when several people ask at once, and in what they tell about themselves. This notebook sorts them by need, and then shows what
# an engine is for: batching, prefix caching, and a KV cache that fills.
#
# **Afterwards you can**
#
# - name the engines that meet a list of needs, and say why the others don't;
# - see continuous batching in figures, and turn tokens per second into a number of people;
# - read the prefix cache, the queue and the KV cache from the engine's own counters;
# - say why four bits are faster on a Spark, and are not on a CPU.
#
# **Time:** 25 minutes, of which the machine works for two. **You need:** notebook 1 of this lesson.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 8 GB, no GPU | vLLM on the CPU serves pico, and a plain server stands beside it |
# | spark | one GB10 | whatever you started with `./course up` answers; pico's servers run on the CPU beside it |
# | rack | several Sparks, B200 or B300 | as on a Spark |

# %%
import contextlib
import subprocess
import sys
import uuid

from gb10 import bench, engines, machine, paths, roofline
from gb10.check import lesson04 as check
from gb10.engines import gauges
from gb10.engines.talk import ThoughtItAll, chat
from gb10.explore import batching, filling, four_bits, which_engine
from gb10.explore.guess import beside

print(machine.banner("openai"))

# %% [markdown]
# ## 1. Five programs, one protocol
#
# | engine | made for | on a Spark, know that |
# |---|---|---|
# | Ollama | one person, one command, models by name | its models are GGUF, mostly Q4_K_M, which is another 4-bit format than NVFP4: compare its speed with the others only together with the bytes |
# | vLLM | most models, formats and switches | it sizes its KV cache from what CUDA calls free, and page cache counts as used there: [issue 35313](https://github.com/vllm-project/vllm/issues/35313) |
# | SGLang | prompts with long common beginnings | memory is a fraction here, too, and its metrics page wants a [flag](https://docs.sglang.io/references/production_metrics.html) |
# | TensorRT-LLM | NVIDIA's own kernels | a request field that it doesn't know is an error there, where vLLM ignores it; a JSON schema is [not enforced](https://github.com/NVIDIA/TensorRT/issues/4855) until a backend is named |
# | NIM | one container, one model, supported | inside is [vLLM or SGLang](https://docs.nvidia.com/nim/large-language-models/2.1.4/resources/support-and-faq.html), and an NGC key is needed |
#
# Tick what you need. Every *yes* and *no* is a link to the page that says so; a *no* tells its reason when you point at it.

# %%
which_engine.explore()

# %% [markdown]
# In words, for an NVFP4 checkpoint that many people use, in a program that wants JSON from it:

# %% tags=["keep_output", "nbval-check-output"]
print(which_engine.describe(["nvfp4", "users", "json"]))

# %% [markdown]
# ### Exercise 4: what remains
#
# Write `choose`. `needs` is a list of words, `offers` a list of pairs: an engine's name, and the set of needs that it meets. Return
# the names of all engines that meet every need, in the order of the offers.

# %%
def choose(needs, offers):
    """Names of the engines that meet all needs."""
    ### BEGIN SOLUTION
    return [name for name, has in offers if set(needs) <= has]
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.choose(choose)

# %% [markdown]
# Needs seldom leave exactly one, and TensorRT-LLM comes back with one line in its settings. The speed for one user won't decide it
# either: the memory does that, as in lesson 1. Here is what the predictor says of Qwen3-8B on a Spark.
#
# **Predict.** From the slowest to the fastest of the four with 4-bit weights, by what factor do their rates for one user differ?

# %%
my_factor = 1.5          # your guess

# %%
rates = {}
for engine_name, weights in (("vllm", "nvfp4"), ("sglang", "nvfp4"), ("trtllm", "nvfp4"), ("ollama", "q4_k_m"), ("vllm", "bf16")):
    p = roofline.fit("Qwen3-8B", weights=weights, engine=engine_name, machine="gb10")
    print(f"{engine_name:<8}{weights:<8}{p.bytes_per_token / 1e9:6.2f} GB per token, {p.decode_tps:5.1f} tok/s "
          f"({p.decode_tps_low:.0f} to {p.decode_tps_high:.0f}), prefill {p.prefill_tps:6,.0f} tok/s")
    rates.setdefault(weights != "bf16", []).append(p.decode_tps)
print(beside("fastest over slowest, 4 bits", my_factor, max(rates[True]) / min(rates[True])))

# %% [markdown]
# The bands overlap: for a single conversation the format decides most of it, and what is left between engines, a factor of up to 1.4,
# only a measurement tells. Prefill is another matter, and so is
# everything that happens when a second person arrives. That you can't read from a table, so ask engines.
#
# ## 2. The same request to all that are up
#
# `connect()` finds the engine that is up, or starts vLLM on the CPU with pico. Beside it starts the course's stand-in: the same model
# behind the same protocol, but a plain server that calls the model in a loop, as a first attempt of one's own would. What it lacks is
# what makes an engine an engine.

# %%
engine = engines.connect()
plain = engines.start(engine="standin", quiet=True)
print(plain)

# %%
for up in engines.running():
    print(f"{up['engine']}, {up['models'][0]}")
    try:
        answer = chat(up["url"], "What does os.path.join do?", max_tokens=48)
        print(f"    {answer.usage['completion_tokens']} tokens in {answer.seconds:.2f} s: {answer.text[:110]!r}")
    except ThoughtItAll as e:        # a model that thinks first: 48 tokens were not enough for that
        print(f"    reasoning only: {e.reasoning[:110]!r}")

# %% [markdown]
# If two engines serve the same model with greedy decoding, their texts agree for a while at least, and one user can hardly tell
# the programs apart. That is worth knowing before you choose: with one user at a time, short prompts and a model that all of them
# load, take the one that you find easiest to start. The differences begin with the second user.
#
# ## 3. More users at once
#
# One decode step reads all weights, whoever it is for. An engine with **continuous batching** takes every waiting request into the
# next step and lets each leave when it has finished, so eight users share one reading. The benchmark of the appendix keeps a given
# number of requests in flight. **Predict** for eight users: how many times the tokens per second of one user, all together?

# %%
my_engine_gain, my_plain_gain = 8, 8         # your guesses: the engine, and the plain server

# %%
swept = bench.measure(engine.url, model=engine.model, concurrency=(1, 2, 4, 8, 16), requests=16, max_tokens=32)
print(swept)

# %%
swept_plain = bench.measure(plain.url, concurrency=(1, 4, 8), requests=8, max_tokens=24)
levels = batching.gains(swept) + batching.gains(swept_plain, "plain server")
print(batching.describe(levels))

# %%
for name, guess in ((swept.rows[0]["engine"], my_engine_gain), ("plain server", my_plain_gain)):
    print(beside(f"8 users over one, {name}", guess, next(g.all for g in levels if g.engine == name and g.users == 8)))
batching.show(levels)

# %% [markdown]
# The plain server answers one after the other: all together get what one alone got, each answer is as fast as ever once it
# begins, and the wait for the first token grows with the queue. vLLM's total rises, and each user pays a little. (Where the stand-in is
# your only engine, on macOS and Windows, both curves are flat.) On a CPU the price comes early, because two cores soon have their
# hands full with arithmetic. On a Spark the roofline allows eight users of Qwen3-8B in NVFP4 nearly seven times the tokens of one
# with short contexts, and three and a half times with 8,192 tokens each, since every user brings a KV cache to be read.
#
# From eight to sixteen nothing is gained if the engine takes eight at most, as the course's vLLM does (`--max-num-seqs 8`): the
# others wait. NVIDIA's page for vLLM on a Spark takes [four or eight](https://build.nvidia.com/playbooks/vllm), too: more users
# raise the total, and everybody's first token comes later.
#
# ### Exercise 5: how many people is that?
#
# Write `people`. An engine makes `tokens_per_s` for all together. An answer has `answer_tokens` and takes `answer_s` seconds;
# then its reader reads for `pause_s` seconds and asks again. How many people keep it exactly this busy? (Little's law: those
# present = arrivals per second × the time that each stays.)

# %%
def people(tokens_per_s, answer_tokens, answer_s, pause_s):
    """How many people an engine at this rate serves."""
    ### BEGIN SOLUTION
    answers_per_s = tokens_per_s / answer_tokens
    return answers_per_s * (answer_s + pause_s)
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.people(people, engine)

# %% [markdown]
# The checker measured with four requests in flight and no pauses, so about four is what comes out. With 30 seconds of reading, the
# engine before you, at its level of eight, would do for this many people:

# %%
row = next(r for r in swept.rows if r["concurrency"] == 8)
answer_s = row["e2e_ms"]["mean"] / 1000
per_answer = row["output_tokens"] / row["ok"]
print(f"in flight {row['system_tps_whole_run'] / per_answer * answer_s:.1f}, "
      f"people who read for 30 s: {row['system_tps_whole_run'] / per_answer * (answer_s + 30):.0f}")
plain.stop()

# %% [markdown]
# ## 4. A prompt that it has seen
#
# Chats repeat themselves: the system prompt, the document, the turns so far stand before each new question. The engine has their
# keys and values in its cache already, and **prefix caching** lets it skip that part. It works from the first token to the first
# difference, in whole blocks (SGLang: token by token). **Predict.** A long prompt is sent, sent again, and sent with another first word. How many times as
# long as the second does the first take until its first token? And the third?

# %%
my_first, my_third = 2, 1        # your guesses: first over second, third over second

# %%
def first_token(prompt):
    """Seconds until the first token of the answer, and what the engine's counters say about the prompt."""
    before = gauges.read(engine.url) or gauges.Gauges()
    stream = chat(engine, prompt, max_tokens=4, stream=True)
    with contextlib.suppress(ThoughtItAll):     # the first token of a thought counts as well
        list(stream)                            # reads it to its end
    return stream.pieces[0].at_s, (gauges.read(engine.url) or gauges.Gauges()).since(before)

# %%
run = uuid.uuid4().hex[:8]       # new each time the cell runs: an engine that stays up remembers
long_text = " ".join(f"Step {i}: open file number {i}, count its words, and write the total down." for i in range(60))
ttft = {}
for name, day in (("the first time", "Monday"), ("again", "Monday"), ("other first word", "Friday")):
    ttft[name], told = first_token(f"{day} {run}. {long_text}")
    print(f"{name:<18}{1000 * ttft[name]:7.0f} ms   looked up {told.queries} tokens, found {told.hits}")

# %%
print(beside("first over second", my_first, ttft["the first time"] / ttft["again"]))
print(beside("third over second", my_third, ttft["other first word"] / ttft["again"]))
print("tokens in a block of the cache:", told.block)

# %% [markdown]
# One word at the beginning, and nothing behind it is found, although the rest is the same (what the chat template puts before it may
# be): a key depends on everything before it. So put
# what stays first, and what changes last; a date or a user's name at the top of a system prompt costs the whole cache. (The first
# request also pays for whatever the engine does only once for a new length. And where *found* says None, this engine doesn't tell:
# TensorRT-LLM counts blocks, SGLang wants `--enable-metrics`, Ollama shows nothing.)
#
# The counters are vLLM's `vllm:prefix_cache_hits_total` and `vllm:prefix_cache_queries_total`, in tokens, since the engine started.
#
# ### Exercise 6: the share that was known
#
# Write `cached_share`. `before` and `after` are two readings, dictionaries with `hits` and `queries`. What share of the tokens that
# were looked up between them was found? Say 0 if none were looked up.

# %%
def cached_share(before, after):
    """Share of the prompt tokens between two readings that the prefix cache knew."""
    ### BEGIN SOLUTION
    looked_up = after["queries"] - before["queries"]
    return (after["hits"] - before["hits"]) / looked_up if looked_up else 0.0
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.cached_share(cached_share, engine)

# %% [markdown]
# ## 5. The cache fills
#
# Every token of every conversation in the batch keeps its keys and values in memory until its request ends. Now sixteen users come at
# once, each with the first 1,200 characters of that long text, and the engine's gauges are read ten times a second: vLLM calls them
# `vllm:num_requests_running`, `vllm:num_requests_waiting` and `vllm:kv_cache_usage_perc`, the others have their own names for them.
#
# **Predict.** How many of the sixteen wait at the worst moment, and how full is the KV cache then, in per cent?

# %%
my_waiting, my_full = 4, 50          # your guesses

# %%
watched = filling.watch(engine.url, lambda: bench.measure(engine.url, model=engine.model, concurrency=16, requests=16,
                                                          prompt=long_text[:1200], max_tokens=32))
state = gauges.read(engine.url) or gauges.Gauges()
print(filling.describe(watched, state.capacity))
if watched.samples:
    print(beside("waiting", my_waiting, watched.most("waiting") or 0))
    print(beside("full", my_full, 100 * (watched.most("kv_used") or 0), "%"))

# %%
filling.show(watched, state.capacity)

# %% [markdown]
# Two limits hold a request back, and the picture tells which it was. If the batch is full (`running` stays at its most) while the cache
# has room, it is the number of seats. If the cache is full, it is memory: new requests wait, and if those inside run out of
# blocks, the engine takes one's place away and computes it anew later, a **preemption**
# ([vLLM's guide](https://docs.vllm.ai/en/stable/configuration/optimization/)). The person whose answer it was sees a pause in the
# middle of a sentence. Here is how often that happened, and where the limits lie for a model of 8B.

# %%
if watched.change:
    told = {"preemptions": watched.change.preempted, "tokens generated": watched.change.tokens}
    print(*(f"{what} meanwhile: {'not told' if n is None else f'{n:.0f}'}" for what, n in told.items()), sep="; ")
for context in (1024, 8192, 32768):
    p = roofline.fit("Qwen3-8B", weights="nvfp4", machine="gb10", engine="vllm", context=context)
    print(f"Qwen3-8B on a Spark, {context:>6} tokens each: {p.kv_bytes / 1e9:5.2f} GB of KV cache a user, "
          f"at most {p.largest_batch:>3} users")

# %% [markdown]
# With pico in vLLM the cache is far larger than needed, and the seats run out first. With real models and long contexts it is the reverse, and the
# remedy is less context, a KV cache in FP8, or fewer seats. More memory for the cache is the tempting one: on a Spark it is taken
# from everything else that runs, and over-committing freezes the machine
# ([vLLM 46307](https://github.com/vllm-project/vllm/issues/46307)).
#
# ## 6. Four bits on a CPU
#
# From here on `engine` may be gone: one engine runs at a time, and to go back you run its `connect()` cell again. Now pico in NVFP4,
# weights and activations, served by the same vLLM. Its linear layers have 4.5 bits in place of 16.
# **Predict.** Its tokens per second over those of BF16, for one user on this machine's CPU?

# %%
my_speedup = 2.0         # your guess

# %%
folder = four_bits.checkpoint()
wide = swept if engine.model == "pico" else None     # measured above, if it was pico

# %%
def serve_and_measure(checkpoint):
    """Serve a checkpoint on the CPU, measure one user and eight, stop it."""
    with engines.start(checkpoint, quiet=True) as server:
        print(server)
        return bench.measure(server.url, concurrency=(1, 8), requests=16, max_tokens=32)

if wide:
    engines.stop()                   # what connect() started in this notebook: one engine at a time
narrow = serve_and_measure(folder)
wide = wide or serve_and_measure(paths.PICO)

# %%
ratio = {}
for users in (1, 8):
    bf16, nvfp4 = (next(r["system_tps"] for r in result.rows if r["concurrency"] == users) for result in (wide, narrow))
    ratio[users] = nvfp4 / bf16
    print(f"{users} at once: BF16 {bf16:7.1f} tok/s, NVFP4 {nvfp4:7.1f} tok/s, ratio {ratio[users]:.2f}")
print(beside("NVFP4 over BF16, one user", my_speedup, ratio[1]))

# %% [markdown]
# (A ratio above 1 is the machine's doing: the two were measured minutes apart, and other programs had the cores for one of them. The
# next notebook takes turns and gives an interval.) Four bits are not faster here, and there are two reasons. A CPU has no instruction that multiplies NVFP4, so the course's kernel
# unpacks the weights once, when it loads them, and from then on reads as many bytes per token as for BF16: nothing is saved where it
# would count. And the *activations* have to be rounded to NVFP4 anew for each token, in each layer, which is arithmetic
# on top. What remains is the small file, and the rounding that a Spark would do, so that you can see its answers here.
#
# On a Spark both reasons turn around. The packed weights stay packed, and 273 GB/s read 4.5 bits per weight; there is an instruction
# that rounds to FP4, and tensor cores that multiply it, which is what prefill can gain from. In section 1 only TensorRT-LLM's figure
# shows that; vLLM's and SGLang's lie below BF16's. (Where an engine's FP4 kernels are slow on this chip, as in
# [flashinfer 2649](https://github.com/flashinfer-ai/flashinfer/issues/2649), it may take weight-only ones. Decode loses nothing by
# that.) In figures of the roofline:

# %%
for name in ("Qwen3-8B", "Qwen3-32B", "Llama-3.3-70B-Instruct"):
    bf16, nvfp4 = (roofline.fit(name, weights=w, machine="gb10", engine="vllm") for w in ("bf16", "nvfp4"))
    print(f"{name:<24}{bf16.bytes_per_token / 1e9:6.1f} and {nvfp4.bytes_per_token / 1e9:5.1f} GB per token: at most "
          f"{bf16.decode_tps_limit:4.1f} and {nvfp4.decode_tps_limit:4.1f} tok/s, "
          f"ratio {nvfp4.decode_tps_limit / bf16.decode_tps_limit:.1f}{'' if bf16.ok else ' (BF16 does not fit)'}")

# %% [markdown]
# These are limits, computed from bytes and bandwidth; the head and the KV cache stay in 16 bits, so the ratio is below 16 / 4.5. The
# next notebook measures how near an engine comes to such a limit. Prefill has another limit, the arithmetic, and there the chip's
# highest rate is that of FP4, for kernels that reach it.
#
# ## 7. What would it run on a Spark?
#
# `./course up` computes before it starts: weights, KV cache and the engine itself against the memory that is truly available. With
# `--dry-run` it only says what it would do. No Docker and no model are needed for that. The last line is the sum that decides; the
# settings above it give the engine its share of the memory, its seats and its context.

# %%
arguments = ["up", "vllm", "--model", "Qwen3-8B", "--weights", "nvfp4", "--dry-run", "--machine", "gb10"]
done = subprocess.run([sys.executable, "-m", "gb10", *arguments], capture_output=True, text=True, cwd=paths.ROOT, check=False)
print("course", *arguments)
print(done.stdout + done.stderr)

# %% tags=["solution-only"]
# The tests run this notebook: its solutions have to pass their own checkers.
assert check.choose(choose) and check.people(people) and check.cached_share(cached_share)

# %% [markdown]
# ## Three things to remember
#
# 1. Needs decide which engines remain; for one user the format decides most of the speed, because it decides the bytes.
# 2. An engine is worth its name with the second user: one reading of the weights serves the whole batch. Seats and KV cache are its
#    two limits, and its gauges say which one you have reached.
# 3. A prefix is shared from the first token to the first difference. What stays belongs at the beginning.
#
# **Next step.** *Measure it* takes the benchmark apart, line by line, and holds what it finds against the roofline. Or try another
# engine on your Spark: `./course up sglang --dry-run` first, then without.
