# %% [markdown]
# # Serve it
#
# An engine loads a model, keeps it in memory, and answers over HTTP. In this notebook you start one, look at it from all sides,
# and talk to it in ever plainer ways, until only bytes on a wire are left. Then you ask it what it really does with each field of a
# request.
#
# **Afterwards you can**
#
# - have an engine's memory reckoned before it starts, and say why a start was refused;
# - find in the log, the metrics page and the system what an engine holds, and how many users it has room for;
# - send one request with curl and with the openai client, and read a token stream without any library;
# - tell a field that is honoured from one that is silently ignored, and write a request that decides its answer.
#
# **Time:** 30 minutes, of which the machine works for one. **You need:** lesson 1, and some Python.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 8 GB, no GPU | vLLM on the CPU serves pico: the same program, pages and fields as on a Spark |
# | spark | one GB10 | whatever you started with `./course up` is examined; without one, vLLM on the CPU |
# | rack | several Sparks, B200 or B300 | as on a Spark |

# %%
import json
import os
import subprocess
import sys
from time import perf_counter

from gb10 import engines, machine, paths
from gb10.check import lesson04 as check
from gb10.engines import fields, gauges, talk
from gb10.errors import UserError, WorkFailed
from gb10.explore import engine_now, memory_now, wire
from gb10.explore.guess import beside

print(machine.banner("openai"))

# %% [markdown]
# ## 1. Before anything starts
#
# On a PC with a graphics card, a model that is too large fails with an error. On a Spark the CPU and the GPU share one memory, and a
# model that is too large takes what the system needs to live: the machine stops answering
# ([issue 46307](https://github.com/vllm-project/vllm/issues/46307) has such a story). So `./course up` computes before it starts: weights,
# KV cache, and what the engine itself takes. With `--dry-run --machine gb10` it computes for a Spark, on any machine, and starts nothing.
#
# **Predict.** gpt-oss-120b has 117 billion parameters, its experts in MXFP4. How many GB will it need on a Spark, with room for 8 users of
# 16,384 tokens each?

# %%
my_gigabytes = 60        # your guess

# %%
def course(*words):
    """Run a command of the course; returns what it prints."""
    done = subprocess.run([sys.executable, "-m", "gb10", *words], check=False, capture_output=True, text=True, cwd=paths.ROOT)
    return f"{done.stdout}{done.stderr}exit code {done.returncode}"

gb10 = ("--dry-run", "--machine", "gb10")
print(course("up", "vllm", "--model", "gpt-oss-120b", "--weights", "mxfp4", *gb10))

# %% [markdown]
# Its last line but one is the sum, and the memory that programs of a Spark have. Above is what would run: a `docker compose` command, and its
# settings as environment variables. `VLLM_MEMORY` is what vLLM calls `--gpu-memory-utilization`: a share of *all* memory, of which the
# desktop, the page cache and other programs already hold a part. The default of 0.92 suits a graphics card that has nothing else to do;
# here the share is computed from the sum. `VLLM_KV_BYTES` is the KV cache itself: where it is given, it decides. The sum counts in GiB (1 GiB is
# 1.074 GB). The same with `--json` is for programs, in bytes:

# %%
text = course("up", "vllm", "--model", "gpt-oss-120b", "--weights", "mxfp4", *gb10, "--json")
needs = json.loads(text.splitlines()[0])["needs_bytes"]
print({part: f"{size / 1e9:.1f} GB" for part, size in needs.items()})
print(beside("gpt-oss-120b, 8 users", my_gigabytes, sum(needs.values()) / 1e9, "GB"))

# %% [markdown]
# And one that must not start. Llama-3.3-70B has fewer parameters than gpt-oss-120b, but in BF16 each takes two bytes. A refusal says what
# was needed, what there is, and what would do instead. Its exit code is 2: the request was wrong, and nothing was changed. A second big
# engine beside a running one is refused in the same way, because the first holds its memory whether it works or not.

# %%
print(course("up", "vllm", "--model", "Llama-3.3-70B-Instruct", "--weights", "bf16", *gb10))

# %% [markdown]
# ## 2. Up
#
# Now a real one. `connect()` looks whether an engine already answers on this machine, at the ports that the engines of this course use,
# and takes it. If there is none, it starts vLLM on the CPU with pico, waits until `/health` says 200, sends a first small request as a
# warm-up, and ties the engine's life to this notebook. In a terminal, `./course up` does the same and leaves the engine running;
# `./course status` lists what is up, `./course down` stops it.
#
# **Predict.** pico's weights take 12 MB. How much memory will the processes of its engine hold, in GB?

# %%
my_memory = 0.1          # your guess, in GB; if an engine of yours is up, guess for that one

# %%
before = memory_now.now()
t0 = perf_counter()
engine = engines.connect()
after = memory_now.now()
print(f"{perf_counter() - t0:.1f} s. Memory available to new programs: {before.available / 1e9:.2f} GB before, "
      f"{after.available / 1e9:.2f} GB after")

# %% [markdown]
# The difference of the two is one way to find what an engine took, if nothing else moved meanwhile (and if it wasn't up before). The
# other is to add up its processes. Pages that several processes share are counted once: the system calls that PSS, the proportional set size.

# %%
held = engine_now.held(engine.url)
for process in held:
    print(f"pid {process.pid:<8}{process.name:<24}{process.bytes / 1e9:6.2f} GB")
if held:
    print(beside("all of it", my_memory, sum(p.bytes for p in held) / 1e9, "GB"))
else:
    print("its processes belong to another user or live in a container: docker stats and ./course status know more")

# %% [markdown]
# With pico in vLLM the weights are the smallest part: most is the program with its libraries, and the KV cache, taken whole at the start.
# With a large model it is the other way round. On a Spark there is a third place to look. `nvidia-smi` shows the memory of the device as
# *Not Supported*, because the GPU has none of its own, but its list of processes works:

# %%
for line in engine_now.gpu_processes() or ["nvidia-smi lists no process (no NVIDIA GPU here, or nothing on it)"]:
    print(line)

# %% [markdown]
# The log knows the rest. An engine writes a hundred lines and more while it starts, and a handful of them answer the questions that come
# later: which number type it computes in, how long a request may be, what the weights took, how large the KV cache became. For an
# engine of the course the whole of it is shown by `./course logs`.

# %%
log = engine_now.log_of(engine.url)
for what, line in engine_now.telling(log.read_text(errors="replace")) if log else []:
    print(f"{what:<16}{line}")
print("" if log else "the log of this engine is not a file of the course: ./course logs, docker logs, or where you started it")

# %% [markdown]
# ## 3. Pages to look at
#
# Beside the address for requests there are a few plain pages. `/health` is for whoever has to know whether it still runs, such as
# Docker's health check. `/v1/models` lists names: what you send as `model` has to be one of them. In vLLM that name is the path or
# the hub name of the checkpoint unless `--served-model-name` gives another, which is a frequent reason for a 404.

# %%
for path in ("/health", "/version", "/v1/models"):
    status, text = engine_now.page(engine.url, path)
    print(f"GET {path:<12}{status}  {' '.join(text.split())[:140]}")

# %% [markdown]
# `/metrics` is for machines that watch machines. Its format is Prometheus': a name, labels in braces, a value. Counters only grow,
# gauges go up and down. Three gauges say how an engine is doing: how many requests it works on, how many wait, and which share of the KV
# cache is in use. TensorRT-LLM has such a page at `/prometheus/metrics`, SGLang with `--enable-metrics`, Ollama has none.

# %%
status, metrics = engine_now.page(engine.url, "/metrics")
shown = ("vllm:num_requests_running", "vllm:num_requests_waiting{", "vllm:kv_cache_usage_perc", "vllm:generation_tokens_total")
lines = [line for line in metrics.splitlines() if line.startswith(shown)] if status == 200 else []
print(f"of {metrics.count(chr(10))} lines:" if lines else "this engine has no /metrics in vLLM's words", *lines, sep="\n")

# %% [markdown]
# Quiet engines show zeros, so give it something to do. The cell sends a request for 120 tokens, reads the page in the middle of the answer,
# and again afterwards. (`gauges.read` is the course's reader of that page; it knows the names of all engines. `ignore_eos` keeps the
# answer from ending early; section 6 tells whether your engine knows it.)

# %%
def busy(g):
    return "this engine doesn't say" if g is None else f"running {g.running}, waiting {g.waiting}, KV cache used {g.kv_used}"

more = {"ignore_eos": True} if "ignore_eos" in fields.expected(engine.engine) else {}
try:
    for number, piece in enumerate(talk.chat(engine, "Hello", max_tokens=120, stream=True, force=True, **more)):
        if number == 10:
            print("in the middle:", busy(gauges.read(engine.url)))
except talk.ThoughtItAll:
    pass                 # a model that thinks longer than that; section 7 is about it
print("afterwards:   ", busy(gauges.read(engine.url)))

# %% [markdown]
# ### Exercise 1: room for how many?
#
# The KV cache is handed out in blocks of a fixed number of tokens. One line of vLLM's page tells both numbers, among other labels:
#
# `vllm:cache_config_info{block_size="128",cache_dtype="auto",…,num_gpu_blocks="1365",…} 1.0`
#
# Write `users_that_fit`. `page` is the text of `/metrics`, `context` the tokens that each user needs. Return how many users the cache
# holds at once. A user gets whole blocks. If the page has no such line, return 0. (`re.search` with a pattern such as `[{,]name="(\d+)"`
# helps: a label stands behind `{` or a comma, and some labels end in the same words. vLLM calls the blocks GPU blocks on a CPU, too.)

# %%
def users_that_fit(page, context):
    """Users with `context` tokens each that the KV cache holds at once."""
    ### BEGIN SOLUTION
    import math
    import re

    line = next((x for x in page.splitlines() if x.startswith("vllm:cache_config_info{")), "")
    block, blocks = (re.search(rf'[{{,]{name}="(\d+)"', line) for name in ("block_size", "num_gpu_blocks"))
    return int(blocks[1]) // math.ceil(context / int(block[1])) if block and blocks else 0
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.users_that_fit(users_that_fit, engine)

# %% [markdown]
# ## 4. One request, three ways
#
# A request is a JSON object. Everything else, every client and every user interface, is a way to write one. Here is a small one, as a
# dictionary, and the `curl` command that sends it. (If the engine wants a key, the command names the variable `GB10_API_KEY`; the key
# itself belongs in no command, since other users can see those.)

# %%
body = {"model": engine.model, "messages": [{"role": "user", "content": "What does os.path.join do?"}],
        "max_tokens": 12, "temperature": 0}
print(talk.curl(engine.url, body))
answer = subprocess.run(["bash", "-c", talk.curl(engine.url, body)], check=True, capture_output=True, text=True).stdout
print(json.dumps(json.loads(answer), indent=1)[:900])

# %% [markdown]
# Three things in it are worth a look each time. `content` is the answer, `finish_reason` says why it ended (`stop`: the model
# was done; `length`: your limit), and `usage` counts tokens, in the model's own tokenizer. Now the openai client with the same dictionary. It
# adds nothing: fields that OpenAI doesn't have, such as `top_k`, go into `extra_body`, and land beside the others.

# %%
reply = engine.client.chat.completions.create(**body)
print(repr(reply.choices[0].message.content), reply.choices[0].finish_reason, reply.usage.completion_tokens)

# %% [markdown]
# Third, the course's own `talk.chat`, a page of code around that client. It sends every sampling field, so that no default of the checkpoint
# decides unseen; it keeps the request that it sent; and it refuses fields that this engine is not known to take. `guided_choice`, which
# was vLLM's way to restrict an answer until version 0.12, is such a field: today vLLM accepts it and does nothing.

# %%
for more in ({}, {"guided_choice": ["yes", "no"]}):
    try:
        asked = talk.chat(engine, "What does os.path.join do?", max_tokens=12, **more)
        print(repr(asked.text), {k: v for k, v in asked.request.items() if k != "messages"})
    except (UserError, WorkFailed) as e:
        print(type(e).__name__, "-", e)

# %% [markdown]
# ## 5. A stream on the wire
#
# With `"stream": true` the answer comes while it is made. Under HTTP that is one long response, in *chunks*; in the chunks are
# *server-sent events*, lines that begin with `data:` and end with an empty one; and in each event is a piece of JSON.
#
# **Predict.** The answer below has 12 tokens. How many events will there be, if you ask for the usage, too?

# %%
my_events = 12           # your guess

# %%
reads = wire.listen(engine.url, body | {"stream_options": {"include_usage": True}})
for read in reads[:3]:
    print(f"after {1e3 * read.at_s:6.1f} ms  {read.data[:330]}\n")

# %% [markdown]
# Those are the bytes as the socket gave them. First HTTP's headers; then, in hexadecimal, the size of a chunk, and the event in it. (If
# your reads show no sizes, the engine doesn't use chunks, and ends the answer by closing the connection.) Now without HTTP's own bytes,
# one line for each event:

# %%
events = wire.events(reads)
for e in events:
    print(f"{1e3 * e.at_s:7.1f} ms  {e.kind:<10}{e.text!r}")
print(beside("events", my_events, len(events)))

# %% [markdown]
# vLLM first sends the *role*, with empty content; then mostly one event for each token; then, because it was asked for, the *usage* with an
# empty list of choices; and last `[DONE]`, which isn't JSON. The `finish_reason` comes with the last token or in an event after
# it. Code that takes `choices[0]` from every event fails at the usage, and code that counts events as tokens is three too high, less
# whatever the engine puts together into one event.
#
# **Time to first token** (TTFT) is what a reader feels as waiting. By hand it is the time of the first event that has content:

# %%
first = next(e for e in events if e.kind in ("text", "reasoning"))
gaps = [b.at_s - a.at_s for a, b in zip(events[first.number:], events[first.number + 1:]) if b.kind == first.kind]
print(f"TTFT {1e3 * first.at_s:.1f} ms, then {1e3 * sum(gaps) / max(1, len(gaps)):.1f} ms between tokens")

# %% [markdown]
# Move through the stream below. The payload of the marked event stands under the figure, with everything that an engine sends along with a
# single token: some 200 bytes for three letters. Where a network is slow, that matters more than the tokens.

# %%
wire.explore(events)

# %% [markdown]
# ### Exercise 2: read a stream
#
# Write `read_stream`. `lines` are the lines of the body, without their ends. Return three things: the whole text, the `finish_reason`, and
# the `usage` (a dictionary); `None` for what never came. Streams are less tidy than the one above:
#
# - lines that don't begin with `data:` are comments, empty, or other fields: pass over them;
# - a delta may lack `content`, or have `null` there, or bring *reasoning*, which isn't part of the answer;
# - an engine that fails midway has already said 200: it sends `{"error": {"message": …}}` as an event. Raise `RuntimeError` with
#   that message.

# %%
def read_stream(lines):
    """(text, finish_reason, usage) of a streamed answer."""
    ### BEGIN SOLUTION
    text, finish, usage = "", None, None
    for line in lines:
        if not line.startswith("data:"):
            continue
        payload = line[len("data:"):].strip()
        if payload == "[DONE]":
            break
        event = json.loads(payload)
        if "error" in event:
            raise RuntimeError(event["error"]["message"])
        usage = event.get("usage") or usage
        for choice in event.get("choices", []):
            text += choice["delta"].get("content") or ""
            finish = choice.get("finish_reason") or finish
    return text, finish, usage
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.read_stream(read_stream, engine)

# %% [markdown]
# ## 6. What counts
#
# Engines that speak "the OpenAI protocol" share its shape, and not what they do with each field. TensorRT-LLM answers 400 to a field that
# it doesn't know. vLLM, SGLang and Ollama pass over it. A status of 200 therefore says nothing: to know whether a field works, you have
# to see it work. So the course asks by experiment. `top_k` of 1 at temperature 2 has to give the greedy text; `seed` twice the same text and
# with another number another one; `stop` has to cut the answer at a word of it. Some 70 small requests, one after the other.
#
# **Predict.** Of the 29 rows, how many will your engine accept and ignore?

# %%
my_ignored = 5           # your guess

# %%
from IPython.display import display

live = fields.table(engine.url, engine.model, engine=engine.engine)
display(live)

# %% [markdown]
# Read the column *what was seen*: it is the reason for the verdict, and it lets you disagree. "Can't tell" is an outcome, too: pico's chat
# template has no switch for thinking, so nobody can see whether the field reached it.

# %%
print(beside("ignored", my_ignored, live.count(fields.IGNORED)))
told = fields.expected(engine.engine)
fields.compare(live, told)

# %% [markdown]
# That is the other half: what is *written* about each field, in the engine's documentation or its source, against what it did. Where
# it says *none differ*, both agree today, for this version. Rows *not compared* could not be decided here, or the documents say that it
# depends. Where they differ, trust the experiment, and look at the link. Whole
# categories move with a version: `guided_choice` once worked in vLLM, and old examples still have it.
#
# ### Exercise 3: a request that decides its answer
#
# Write `request_for`. It gets a model's name, a question and a number `n`, and returns the body of a chat request as a dictionary, with
# which the engine answers *twice the same text*, exactly `n` tokens long, even if the model would end earlier, with the log-probability
# of each token. The checker sends it to your engine, and what comes back decides.

# %%
def request_for(model, question, n):
    """A request that gives n tokens, the same ones each time, with their log-probabilities."""
    ### BEGIN SOLUTION
    return {"model": model, "messages": [{"role": "user", "content": question}],
            "max_tokens": n, "ignore_eos": True, "temperature": 0, "logprobs": True}
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.request_for(request_for, engine)

# %% [markdown]
# "The same each time" holds for an engine with nothing else to do. With other users in the batch, or with part of the prompt already in the
# prefix cache, sums are formed in another order, and a near tie between two tokens may go the other way. Neither temperature 0 nor a seed changes that.
#
# ## 7. No answer at all
#
# The failure that costs most people an evening: status 200, tokens counted and paid for, and `content` is `null`. Models that think write
# their reasoning first, into a field of its own, and it counts against `max_tokens`. If the limit comes first, there is no content.
# pico doesn't think, so here is such an answer in the shape in which engines send it:

# %%
thinking = {"choices": [{"finish_reason": "length", "message": {
    "role": "assistant", "content": None, "reasoning": "The user asks for 17 times 23. 17 times 20 is 340, and"}}]}
try:
    print(talk.read(thinking, {"max_tokens": 16}).text)
except talk.ThoughtItAll as e:
    print(type(e).__name__, "-", e)

# %% [markdown]
# The error has a name because the naive line, `reply.choices[0].message.content.strip()`, fails with one that explains nothing. The name
# of the field differs as well: `reasoning` in newer vLLM and Ollama, `reasoning_content` in TensorRT-LLM, SGLang and llama.cpp. And
# switching thinking off has put the whole answer into the reasoning field of some versions
# ([issue 17349](https://github.com/vllm-project/vllm/issues/17349)). When content is empty, look there.
#
# ## 8. A token for the hub
#
# Larger models come from the Hugging Face hub: `./course models get NAME`. Most need no token. Gated ones, Llama among them, want you to
# accept their terms on the model's page, and then to say who you are. A [token](https://huggingface.co/docs/hub/security-tokens) that can
# only read what you may read is enough:
#
# 1. Open [huggingface.co/settings/tokens](https://huggingface.co/settings/tokens), *Create new token*, type *Fine-grained*.
# 2. Tick one box, "Read access to contents of all public gated repos you can access", and nothing else. Name it after this machine.
# 3. The token is shown once. In the terminal from which you start the course, type `read -rs HF_TOKEN; export HF_TOKEN` and paste it there:
#    it appears neither on the screen nor in the shell's history.
# 4. Lost it, or leaked it? *Invalidate* it on the same page, and make another.
#
# Never paste it into a cell: notebooks are saved, shared and committed. The course hands it to downloads, and writes it nowhere.

# %%
print("HF_TOKEN is set for this notebook" if os.environ.get("HF_TOKEN") else "HF_TOKEN is not set: public models only")

# %% tags=["solution-only"]
# The tests run this notebook: its solutions have to pass their own checkers.
for name in ("users_that_fit", "read_stream", "request_for"):
    assert getattr(check, name)(globals()[name], engine)

# %% [markdown]
# ## Three things to remember
#
# 1. On a Spark an engine's memory is reckoned before it starts: weights, KV cache, the engine itself. What a refusal costs is a sentence; what
#    an over-commitment costs is the machine.
# 2. A stream is lines of JSON behind `data:`. Text, finish_reason, usage and errors each come in events of their own.
# 3. Status 200 doesn't mean that a field was honoured. See it work, or don't rely on it.
#
# **Next step.** *Which engine?* puts several users on the engine that you have just met, and several engines side by side. The engine of
# this notebook ends with it: close it (Kernel, Shut Down) before you start a large one.
