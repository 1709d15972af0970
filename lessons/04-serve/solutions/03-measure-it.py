# %% [markdown]
# # Measure it
#
# A server answers, and it feels quick. How quick is it, compared with what the machine allows? And if somebody's number is twice
# yours, who is wrong? This notebook runs the benchmark of the appendix on whatever is up, reads its report line by line, and holds it
# against the roofline of lesson 1.
#
# **Afterwards you can**
#
# - say what TTFT, TPOT, gaps, percentiles and client lag are, and compute them yourself;
# - tell what share of the memory's limit an engine reaches, and what to suspect when the share is odd;
# - choose between a closed loop and an open one, and know what each hides;
# - compare two engines so that the answer is "faster", "slower" or "not shown".
#
# **Time:** 20 minutes, of which the machine works for two. **You need:** notebook 2 of this lesson; from lesson 1 the roofline.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 8 GB, no GPU | vLLM on the CPU with pico; the limit is that of this machine's memory, measured |
# | spark | one GB10 | the engine that you started; its limit is 273 GB/s, its prediction has a band that was checked against published rates |
# | rack | several Sparks, B200 or B300 | give the machine's name in the first section, `"b200"` for instance |

# %%
from gb10 import bandwidth, bench, catalog, engines, machine
from gb10.bench.explain import DEFINITIONS
from gb10.bench.outcome import Outcome
from gb10.check import lesson04 as check
from gb10.explore import four_bits, held_against, measured
from gb10.explore.guess import beside

print(machine.banner("openai"))

# %% [markdown]
# ## 1. What will it be measured against?
#
# The limit of a single conversation is bandwidth over bytes per token. A Spark's bandwidth is in the catalogue; that of any other
# machine is measured by lesson 1, and here in a few seconds if that hasn't happened yet. It has to be done before an engine is
# busy with the same memory.

# %%
here = machine.detect()
name = "gb10" if here.unified_memory else "this"     # with another GPU: its name in the catalogue, "b200" for instance
try:
    memory = catalog.machine(name)
except ValueError:                                   # not measured yet
    sizes = bandwidth.sizes(here.memory_available_bytes, [c.size for c in bandwidth.caches()])
    points = bandwidth.sweep(("read",), sizes[-1:], bandwidth.thread_counts(here.cores))
    bandwidth.save(bandwidth.memory_rate(points))
    memory = catalog.this_machine()
print(f"{memory.title}: {memory.bandwidth / 1e9:.1f} GB/s")

# %%
engine = engines.connect()

# %% [markdown]
# ## 2. A run, and its report
#
# **Predict.** One user, short prompts, answers of 48 tokens. After how many milliseconds does the first token come, and how many
# tokens per second does the user see after that?

# %%
my_ttft, my_rate = 50, 100       # your guesses: milliseconds, tokens per second

# %%
result = bench.measure(engine.url, model=engine.model, concurrency=(1, 4), requests=24, max_tokens=48, machine=name)
print(result)

# %%
alone = result.rows[0]
print(beside("time to first token", my_ttft, alone["ttft_ms"]["p50"], "ms"))
print(beside("one user", my_rate, alone["user_tps"], "tok/s"))

# %% [markdown]
# From left to right:
#
# | column | what it is | what it hides |
# |---|---|---|
# | at once | requests in flight, always this many: a *closed loop* | what happens when more people come than that |
# | errors | failed requests; they are in no other column | – |
# | TTFT | from sending to the first text: queue and prefill | which of the two it was |
# | TPOT | (last token − first) / (N − 1), for each answer (N less what came in the first event); then the median over the answers | pauses within an answer |
# | gap p99 | the pause that one gap in a hundred exceeds | who was struck by them |
# | tok/s user | 1000 / TPOT | TTFT |
# | tok/s all | tokens per second of everybody, while all were in flight | the ramp at both ends |
# | lag p99 | how late the *client* read what had arrived | – |
#
# Below the table stand remarks: what makes a figure doubtful (a client that read late, tokens that had to be estimated, prompts that
# the prefix cache knew), and, where the model and the machine are known, the roofline that a single user is held against.
#
# An "m" behind a number means that fewer than 100 values were there, so a p99 would have been a guess and the maximum stands in its
# place. The exact wording of every figure is in the program:

# %%
for figure_name in ("TTFT", "TPOT", "system tok/s", "client lag"):
    print(f"{figure_name}: {DEFINITIONS[figure_name]}\n")

# %% [markdown]
# ## 3. Percentiles, and why not the mean
#
# One answer in twenty-four may wait for a neighbour's prefill, for the garbage collector, or for another program. The mean mixes that
# one with all the rest. The median says what is usual, and p90 or p99 what the unlucky ones get.
#
# ### Exercise 7: a percentile
#
# Write `percentile`. `values` come in the order in which they were measured; `q` is from 0 to 100. Sorted, the first has rank 0
# and the last n − 1; the place of the percentile is (n − 1) · q / 100, and between two ranks take the share of the way.

# %%
def percentile(values, q):
    """The value at or below which q per cent of the values lie."""
    ### BEGIN SOLUTION
    ordered = sorted(values)
    place = (len(ordered) - 1) * q / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.percentile(percentile)

# %% [markdown]
# **Predict.** Take the gaps between arrivals with four users at once. How many times the median is the longest?

# %%
my_longest = 2           # your guess

# %%
gap = result.rows[1]["gap_ms"]
print("gaps with 4 at once, ms:", {name: round(gap[name], 1) for name in ("mean", "p50", "p90", "p99", "max")})
print(beside("longest over median", my_longest, gap["max"] / gap["p50"]))
measured.show_spreads(result, "gap")

# %% [markdown]
# The steep part is the decode step. What lies far to the right are steps in which somebody's prompt was read on the way: all answers
# stop for as long as that takes (engines cut long prompts into chunks to keep it short). And there may be something at the far *left*:
# gaps of next to nothing. On a CPU the engine and the web server that hands its tokens out want the same cores. If the server gets
# its turn late, several tokens have gathered, and it sends them together: one long gap, then none. That is no error of the
# measurement, it is what a reader sees. The report says so where it matters, as tokens per event or events per read; a gap is
# an *inter-token latency* only if every arrival brought one token.

# %%
for r in result.rows:
    print(f"{r['concurrency']} at once: {r['tokens_per_event']} tokens an event, {r['events_per_read']} events a read, "
          f"a gap is an inter-token latency: {r['gap_is_itl']}; stalls {r['stalls']}")

# %% [markdown]
# ### Exercise 8: time per output token
#
# Write `tpot`. From one answer you know the time to first token and to the last one (`e2e_ms`), both from the sending of the request,
# and how many `tokens` it had. How many milliseconds did each token after the first take? A single token has no interval: return 0.

# %%
def tpot(ttft_ms, e2e_ms, tokens):
    """Milliseconds per token after the first."""
    ### BEGIN SOLUTION
    return (e2e_ms - ttft_ms) / (tokens - 1) if tokens > 1 else 0.0
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.tpot(tpot, engine)

# %% [markdown]
# ## 4. Against the roofline
#
# ### Exercise 9: no faster than this
#
# Write `limit`: tokens per second of all users together, at most. A decode step reads the weights once for the whole batch, and each
# user's KV cache: `kv_per_token` bytes for each of their `context` tokens. Each step gives each user one token. `bandwidth_gbs` is in
# 10⁹ bytes per second.

# %%
def limit(bandwidth_gbs, weight_bytes, kv_per_token, context, users):
    """Tokens per second of all users that the memory allows."""
    ### BEGIN SOLUTION
    step_bytes = weight_bytes + users * context * kv_per_token
    return users * bandwidth_gbs * 1e9 / step_bytes
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.limit(limit, engine, bandwidth_gbs=memory.bandwidth / 1e9)

# %% [markdown]
# **Predict.** What share of that limit did the engine reach for one user, in per cent? (On a Spark, the measurements in the course's
# catalogue mostly lie between 60 and 86, for models of 2 billion parameters and more.)

# %%
my_share = 70            # your guess, in per cent

# %%
for h in held_against.held(result):
    print(held_against.describe(h))
    print(beside("share of the limit", my_share, 100 * h.share, "%"))
held_against.show(result)

# %% [markdown]
# Pale blue is what the memory allows, green what the predictor of lesson 1 expects, red what you measured. On a Spark with a model of
# a few billion parameters red should lie on green. With pico it lies far to the left, and nothing is wrong with that: a step
# of so small a model is all launching, scheduling and Python, and hardly any reading. That is why the predictor warns below two
# billion parameters.
#
# When the share is odd on a machine and a model where it shouldn't be, suspect in this order:
#
# | what you see | suspect | how to find out |
# |---|---|---|
# | above 100 % | the weights are in another format than you think, another model answers, or speculative decoding | `/v1/models`, the engine's log, `--weights FORMAT` of the benchmark |
# | far below the band | other programs, swap, throttling; a client that reads late | warnings under the table; lag p99 |
# | the first run is slow, the second fine | kernels compiled at the first request | warm up, then measure |
# | TTFT too good | the prefix cache knew the prompt | cached tokens in the report; the benchmark begins each prompt with a new number |
# | few tokens, long wait | the model thinks before it answers | TTFA beside TTFT; reasoning counts as tokens |
# | a half or a third of what others report | FP32 where they had BF16 (half), BF16 where they had 4 bits (a third) | compare bytes per token, not names |
#
# The last one stands before you on the laptop rung: vLLM computes pico in FP32 on a CPU, because so small a model is faster that way, and
# reads twice the bytes that its file has.
#
# ## 5. People don't wait for each other
#
# Until now a new request was sent when an answer had come. A slow engine thereby slows down its own load, and the queue can never
# be longer than the number of users. Real people come when they like: an **open loop**, here with random arrivals (a Poisson
# process) at a rate that doesn't care. Take the rate that eight users in a closed loop reached, and send half of it, then a third
# more than it.
#
# **Predict.** How many times as long is the median TTFT at the higher rate than at the lower?

# %%
my_wait = 1.5            # your guess

# %%
closed = bench.measure(engine.url, model=engine.model, concurrency=8, requests=24, max_tokens=24)
capacity = closed.rows[0]["requests_per_s"]
opened = {share: bench.measure(engine.url, model=engine.model, rate=round(share * capacity, 2), seconds=max(5, 20 / capacity),
                               concurrency=512, max_tokens=24) for share in (0.5, 1.3)}

# %%
r = closed.rows[0]
print(f"closed, 8 at once: {capacity:5.1f} requests/s, TTFT p50 {r['ttft_ms']['p50']:6.0f} ms, p90 {r['ttft_ms']['p90']:6.0f} ms")
for run in opened.values():
    r = run.rows[0]
    times = [r["ttft_ms"][q] for q in ("p50", "p90", "max")]
    told = "all failed" if None in times else "TTFT p50 {:.0f} ms, p90 {:.0f} ms, longest {:.0f} ms".format(*times)
    print(f"open, {r['rate']:.1f} requests/s, {r['requests']} sent: {told}")
half, more = (run.rows[0]["ttft_ms"]["p50"] for run in opened.values())
if half and more:
    print(beside("TTFT at 1.3 over TTFT at 0.5 of the capacity", my_wait, more / half))

# %% [markdown]
# Above capacity there is no steady answer: the queue grows for as long as people come, and the figure only tells how long you
# measured. Just below it the wait is long already, since chance bunches arrivals. So a closed loop answers "how much can it do", an open
# one "what will people feel on Monday morning". Plan with the second, and leave room.
#
# ## 6. Is it faster?
#
# BF16 against NVFP4, pico both times, on this machine's CPU. If you ran one after the other, anything that changed meanwhile would
# look like a difference. The benchmark takes turns instead, A B B A A B …, six blocks each, and compares the neighbours. From the
# ratios of the pairs it draws again and again (a *bootstrap*), and reports an interval that holds the true ratio in 95 of 100 cases.

# %%
narrow = engines.start(four_bits.checkpoint(), quiet=True)
wide = engine if engine.model == "pico" else engines.start(quiet=True)
pair = bench.measure([wide.url, narrow.url], requests=18, max_tokens=24)
narrow.stop()

# %%
for row in pair.comparison:
    print(f"{row['metric']}: {row['verdict']}")
print("from", pair.comparison[0]["basis"])

# %% [markdown]
# A verdict names the faster one with its factor and interval, or says *no difference shown* if the interval holds 1. That is not the same
# as "equally fast": it says that these blocks can't tell. More requests make the interval narrower.
#
# **Predict.** Now the same engine twice, in two runs of their own, one after the other. Will the verdict find a difference?

# %%
my_verdict = "no difference"         # your guess

# %%
once, twice = (bench.measure(wide.url, requests=12, max_tokens=24) for _ in range(2))
for row in Outcome(twice.run, against=once.run).comparison:
    print(f"{row['metric']}: {row['verdict']}   (you said: {my_verdict})")
print("from", row["basis"])
if wide is not engine:
    wide.stop()

# %% [markdown]
# If it found one, it is most likely a drift: the engine is the same, and what changed is the machine: its clock, its caches, other
# programs. (A 95 % interval also misses one time in twenty, and there are several lines.)
# The interval of such a comparison covers the chance in the requests, and nothing else, and the last line says that. This is the
# commonest way in which a benchmark fools its author. `--report RUN1 RUN2` does the same comparison in a terminal, with the same
# warning.
#
# Everything that you measured has been kept, with versions, seeds and one line for each request:

# %%
for run in bench.runs()[:4]:
    print(run.id, f"{sum(1 for _ in run.rows())} lines")

# %% tags=["solution-only"]
# The tests run this notebook: its solutions have to pass their own checkers.
assert check.percentile(percentile) and check.tpot(tpot) and check.limit(limit)

# %% [markdown]
# ## Three things to remember
#
# 1. A figure needs its definition: which clock starts where, over which requests, mean or percentile. TPOT hides pauses, gaps show
#    them.
# 2. Multiply the measured rate by the bytes per token. What is above the bandwidth is wrong, and what is far below it has a cause that you
#    can find.
# 3. Closed loops measure capacity, open loops the wait. And a difference between two runs is a difference only if it is larger than what
#    the same engine shows against itself.
#
# **Next step.** Measure your own: `./course bench --engine up --html report.html` compares all engines that answer, in turns, and writes
# one page. Lesson 5 asks what the answers themselves are worth.
