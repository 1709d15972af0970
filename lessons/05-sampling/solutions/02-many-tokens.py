# %% [markdown]
# # Many tokens
#
# One draw is a token; an answer is a chain of them, and each draw changes what the next one is made from. Small differences in settings
# become large differences in text. Advice about them is plentiful and rarely measured. Here you measure it: the same prompt again and again, under
# different settings, with numbers that can be wrong and intervals that say by how much.
#
# **Afterwards you can**
#
# - say what temperature and top-p do to whole answers: how different, how long, how likely they are;
# - find out whether temperature 0 is deterministic, alone and under load, and say why it may not be;
# - use seed, n, stop, max_tokens and stream, and read finish_reason;
# - choose settings for a use, and judge best-of-n and majority votes by their results.
#
# **Time:** 25 minutes, of which the machine works for one. **You need:** the first notebook of this lesson.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 8 GB, no GPU | pico answers: its stories are no stories, the statistics are real |
# | spark | one GB10 | your engine's model answers, in texts worth reading; a GPU may differ at temperature 0, and you'll see it |
# | rack | several Sparks, B200 or B300 | as on a Spark |

# %%
import json
from collections import Counter
from statistics import median

from gb10 import engines, machine, paths
from gb10.check import lesson05 as check
from gb10.engines import next_token, talk
from gb10.engines.many import many
from gb10.errors import CourseError
from gb10.explore import runs, variety
from gb10.explore.guess import beside

print(machine.banner("openai"))
engine = engines.connect()

# %% [markdown]
# ## 1. The same story, again and again
#
# The classic demonstration asks for a story about a robot that learns to paint, at several temperatures. You ask for it twelve times each, with
# seeds 0 to 11, so that whoever repeats it gets the same. Besides the text, each answer brings the log-probability of its tokens. pico has read
# Python's documentation and never a story, so on a laptop don't look for a plot; look at what happens to the text.
#
# **Predict.** At temperature 0, how many different texts will twelve requests give?

# %%
my_different = 3         # your guess

# %%
STORY = "Write a story about a robot learning to paint."
N, TOKENS = 12, (48 if next_token.is_pico(engine) else 160)
calm = next_token.plain(engine)      # a model that thinks would spend its tokens on that

def ask(prompt, n=N, **fields):
    """n answers with seeds 0 to n - 1, as samples; what failed is told and left out."""
    body = {"messages": prompt, "max_tokens": TOKENS, "logprobs": True} | calm | fields
    answers = many(engine, [body | {"seed": seed} for seed in range(n)])
    failed = [a for a in answers if isinstance(a, CourseError)]
    if failed:
        print(f"{len(failed)} of {n} gave no answer: {failed[0].message}")
    return [runs.sample(a) for a in answers if not isinstance(a, CourseError)]

stories = {f"temperature {t}": ask(STORY, temperature=t) for t in (0, 0.7, 1.2, 2)}
for name, samples in stories.items():
    print(f"{name}\n    " + "\n    ".join(s.text[:110].replace("\n", " ") for s in samples[:2]))
print(beside("temperature 0", my_different, len({s.text for s in stories["temperature 0"]}), "texts"))

# %% [markdown]
# Read them from top to bottom. At 0, twelve requests usually give one text (section 2 asks whether always), and a small model often falls into a loop there: the likeliest next
# word after a phrase is the phrase again ([Holtzman and others, 2019](https://arxiv.org/abs/1904.09751), call it degeneration). In the middle,
# sentences. At 2, letters of words that don't belong together: each token may come from the tail.
#
# A figure for "different": *distinct-n* is the share of different n-grams (n words in a row) among all n-grams of all the answers.
#
# ### Exercise 1: distinct-n
#
# Write `distinct_share(texts, n)`. Words are `text.lower().split()`. An n-gram lies within one text. Without any n-gram the answer is 0.

# %%
def distinct_share(texts, n):
    """The share of different n-grams among all n-grams of the texts."""
    ### BEGIN SOLUTION
    grams = []
    for text in texts:
        words = text.lower().split()
        grams += [tuple(words[i:i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.distinct_share(distinct_share, engine)

# %% [markdown]
# Distinct-n says nothing about sense: a text of random letters has the highest there is. So a second figure goes with it, the mean
# log-probability of the tokens, as the model itself saw them (in vLLM before temperature and filters). And a third, *overlap*: the share of word
# pairs that two answers have in common, averaged over all pairs of answers; a cousin of [self-BLEU](https://arxiv.org/abs/1802.01886). Two
# more runs come in, at the same temperature 1.2 with a narrow and a wide top-p.
#
# **Predict.** Will top-p 0.1 at temperature 1.2 be more like temperature 0 or more like temperature 1.2?

# %%
my_likeness = "1.2"      # your guess: "0" or "1.2"

# %%
for p in (0.1, 0.9):
    stories[f"temperature 1.2, top_p {p}"] = ask(STORY, temperature=1.2, top_p=p)
rows = runs.compute(stories)
print(runs.table(rows))
runs.show(rows)

# %%
value = {r.name: r.distinct2[0] for r in rows}
cold, warm, narrow = (value.get(name) for name in ("temperature 0", "temperature 1.2", "temperature 1.2, top_p 0.1"))
if None not in (cold, warm, narrow):
    nearer = "0" if abs(narrow - cold) < abs(narrow - warm) else "1.2"
    print("you said", my_likeness, "- its distinct-2 is nearer to that of temperature", nearer)

# %% [markdown]
# The bars are 95 % intervals: for tokens and logprob by bootstrap, for the two that need all answers at once by leaving one out at a time. With
# twelve answers they are wide; where two overlap, don't tell a story about the difference. Where twelve answers are copies of one, the interval has
# no width, which is no certainty. *Cut off* counts answers that `max_tokens` ended: their length is your limit and not the model's. What stands out
# needs no test: heat buys variety and pays in likelihood, and top-p takes much of the heat back. A temperature without its top-p says little.
#
# The explorer shows single answers. The more a token is coloured, the less likely it was; hold the pointer on it for its probability. In the
# chart each answer is a dot: dull and likely to the upper left, varied and unlikely to the lower right. Look for the first coloured token of a hot
# answer, and what it does to the ones behind it.

# %%
variety.explore(stories)

# %% [markdown]
# ## 2. Is temperature 0 deterministic?
#
# It takes the likeliest token each time, so it ought to be. But "the likeliest" is the result of long sums in floating point, and their
# result depends on the order of the additions, which a GPU's kernels choose by the size of the batch. Who else is asking at that moment then
# changes the last bits of your logits. Where two tokens are nearly tied, the other one wins, and from there on it is another answer. A seed has no
# part in it.
#
# So it has to be tested twice: alone, and among others of all lengths.
#
# **Predict.** 24 answers at temperature 0 under load: how many different texts?

# %%
my_texts = 1             # your guess

# %%
greedy = {"messages": STORY, "max_tokens": TOKENS, "temperature": 0, "logprobs": True, "top_logprobs": 2} | calm
crowd = [{"messages": f"item {i} " * (3 * i + 1) + "What does len do?", "max_tokens": 20 + i, "temperature": 1.0} | calm
         for i in range(24)]
alone = [a for a in many(engine, [greedy] * 5, at_once=1) if isinstance(a, talk.Answer)]
among = [request for other in crowd for request in (greedy, other)]
busy = [a for a in many(engine, among)[::2] if isinstance(a, talk.Answer)]
texts = Counter(a.text for a in alone), Counter(a.text for a in busy)
print(f"alone: {len(texts[0])} text in {len(alone)} answers; under load: {len(texts[1])} in {len(busy)}")
print(beside("under load", my_texts, len(texts[1]), "texts"))

# %% [markdown]
# And behind the texts, the numbers. Even where every answer has the same words, the log-probabilities tell whether the sums were the same. The
# cell compares each answer with the first, token by token, up to where they part. Beside it, the nearest tie of the answer: the smallest
# lead that a chosen token had over its rival.

# %%
def logprobs(answer):
    return [(r["token"], r["logprob"]) for r in answer.logprobs or []]

first, largest, parted = logprobs(alone[0]) if alone else [], 0.0, []
for a in busy:
    for place, ((t, p), (u, q)) in enumerate(zip(first, logprobs(a), strict=False)):
        if t != u:
            parted.append(f"at token {place + 1}: {u!r} for {t!r}")
            break
        largest = max(largest, abs(p - q))
leads = [abs(r["top_logprobs"][0]["logprob"] - r["top_logprobs"][1]["logprob"])
         for a in alone[:1] for r in a.logprobs or [] if len(r["top_logprobs"] or []) > 1]
if leads:
    print(f"a logprob moved by {largest:.1e} at most; the nearest tie is a lead of {min(leads):.3f}")
print(f"{len(parted)} of {len(busy)} answers took another token", *parted[:3])

# %% [markdown]
# With vLLM on a CPU in FP32 you probably see one text, and differences of 1e-6 or none: if the sums move at all, then far less than what
# separates two tokens. A tie nearer than the sums move is where an answer parts; in BF16, whose steps are coarse, a lead can be exactly 0. In BF16 on a GPU the same experiment has given 80 different texts out of 1,000
# ([Thinking Machines, 2025](https://thinkingmachines.ai/blog/defeating-nondeterminism-in-llm-inference/), who explain the cause and mend it).
# vLLM has a switch, [`VLLM_BATCH_INVARIANT=1`](https://docs.vllm.ai/en/stable/features/batch_invariance/), that fixes the order of the sums and
# costs speed. On a Spark, run the cell above with and without it. Until then, "temperature 0" means: likely the same.
#
# ## 3. Seeds, and several answers at once
#
# With a temperature the draw is random, and `seed` fixes it: same seed, same text, alone or in a crowd, subject to the same caveat. `n` asks for several answers to
# one prompt, which is read once. What is the seed of each? In vLLM the i-th gets `seed + i`
# ([parallel_sampling.py](https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/v1/engine/parallel_sampling.py)). You needn't believe it:

# %%
warm = {"max_tokens": 16, "temperature": 1.2} | calm
seeded = {"messages": STORY, "seed": 8} | warm
thrice = many(engine, [seeded]) + many(engine, [seeded, *crowd, seeded])[::25]
texts = [repr(a.text) for a in thrice if isinstance(a, talk.Answer)]
print(f"seed 8, alone and twice in the crowd: {len(set(texts))} text in {len(texts)} answers", *set(texts))
try:
    four = talk.chat(engine, STORY, n=4, seed=100, **warm)
    single = [talk.chat(engine, STORY, seed=100 + i, **warm).text for i in range(4)]
    again = [c["message"]["content"] for c in four.choices]
    print(f"{len(again)} choices; equal to the single ones: {[a == b for a, b in zip(again, single, strict=False)]}")
    print(four.curl())
except CourseError as e:
    print(e.message)

# %% [markdown]
# (Where the last line is a sentence in place of a command, your engine refused `n`; the stand-in does. Fewer choices than four mean that it was
# ignored, and *False* that this engine gives its choices other seeds.)
#
# ## 4. How an answer ends
#
# An answer ends for one of three reasons. The model said its end token: `finish_reason` is `stop`. Your `max_tokens` came first: `length`, and the
# last sentence is cut. Or one of your `stop` strings appeared: again `stop`, and the string itself is not in the text. vLLM adds `stop_reason`,
# which names it.
#
# **Predict.** "What does len do?", stopped at *number*: what will finish_reason be?

# %%
my_reason = "length"     # your guess

# %%
for fields in ({"max_tokens": 200}, {"max_tokens": 5}, {"max_tokens": 200, "stop": ["number"]}):
    try:
        a = talk.chat(engine, "What does len do?", temperature=0, **calm, **fields)
        print(fields, a.finish_reason, a.choices[0].get("stop_reason"), repr(a.text[-45:]), sep="   ")
        print(a.curl() if "stop" in fields else "")
    except CourseError as e:
        print(fields, e.message)
print("you said", my_reason)

# %% [markdown]
# A program that ignores finish_reason treats half a JSON object or half a function as an answer. Check it first, always.
#
# ## 5. Streaming
#
# With `stream` the tokens come as they are made. **Predict.** Does a streamed answer take less time in all?

# %%
my_faster = "yes"        # your guess: "yes" or "no"

# %%
def timed(stream):
    """Seconds until something can be read, and in all, as medians of five; and the last answer."""
    times = []
    for _ in range(5):
        got = talk.chat(engine, "What does getattr do?", stream=stream, max_tokens=TOKENS, temperature=0, **calm)
        answer = got.answer if stream else got
        times.append((answer.ttft_s if stream else answer.seconds, answer.seconds))
    return [*(median(column) for column in zip(*times, strict=True)), answer]

try:
    for stream in (False, True):
        start, end, answer = timed(stream)
        print(f"stream {stream!s:<6} first words after {1e3 * start:6.0f} ms, the whole after {1e3 * end:6.0f} ms")
    print("you said", my_faster, answer.curl(), sep="\n")
except CourseError as e:
    print(e.message)

# %% [markdown]
# The whole takes the same time, or a little more. What changes is the wait before something can be read, from the whole answer to one prefill
# and one token. For people that is the difference between a machine that thinks and one that hangs; for a program that needs the
# whole answer it is no difference, only more code.
#
# ## 6. Settings for a use
#
# ### Exercise 2: settings you can defend
#
# Write `settings_for(use)`: a dictionary of request fields for `"code"`, `"fact"`, `"haiku"` and `"brainstorm"`, with `temperature` and
# `max_tokens` in each. Taste isn't judged. Contradictions are (a top-p beside temperature 0 does nothing), and so is what your engine does with them:
# code and facts are asked twice and should come out alike, a brainstorm four times and shouldn't.

# %%
def settings_for(use):
    """Request fields for "code", "fact", "haiku" or "brainstorm"."""
    ### BEGIN SOLUTION
    return {
        "code": {"temperature": 0, "max_tokens": 800},                          # one right answer; cut code is no code
        "fact": {"temperature": 0, "max_tokens": 120},                          # the likeliest, and short
        "haiku": {"temperature": 0.9, "top_p": 0.95, "max_tokens": 60},         # some freedom, no nonsense
        "brainstorm": {"temperature": 1.1, "min_p": 0.05, "presence_penalty": 0.5, "max_tokens": 400},
    }[use]
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.settings_for(settings_for, engine)

# %% [markdown]
# Your table, to fill in and defend before others. For each line: what goes wrong if the value is higher, and what if it is lower? Recommended
# values of a model's makers are a good start, because they were tried with that model.
# [Qwen3's card](https://huggingface.co/Qwen/Qwen3-8B) asks for temperature 0.6 and top-p 0.95 when it thinks and 0.7 and 0.8 when it doesn't, top-k 20 in
# both, and warns of endless repetition when it thinks at temperature 0. pico showed you one above.

# %%
print(f"{'use':<12}{'settings':<96}because")
for use in ("code", "fact", "haiku", "brainstorm"):
    try:
        print(f"{use:<12}{json.dumps(settings_for(use)):<96}…")
    except NotImplementedError:
        print(f"{use:<12}still to be written")

# %% [markdown]
# ## 7. Several answers, one result
#
# If one draw is a gamble, make several and choose. *Best-of-n* takes the answer with the highest mean log-probability.
# *Self-consistency* ([Wang and others, 2022](https://arxiv.org/abs/2203.11171)) takes the one that came most often: wrong answers scatter, right
# ones agree.
#
# ### Exercise 3: a vote
#
# Write `majority(answers)`. Case, blanks and a full stop at the end don't count; an empty answer has no vote; in a tie the earlier wins. Return the
# winner as it was first written, and `""` if nobody voted.

# %%
def majority(answers):
    """The most frequent answer, as it was first written."""
    ### BEGIN SOLUTION
    votes = {}
    for answer in answers:
        form = " ".join(answer.lower().split()).rstrip(".")
        if form:
            votes.setdefault(form, []).append(answer)
    return max(votes.values(), key=len)[0] if votes else ""
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.majority(majority, engine)

# %% [markdown]
# Does it help? 24 of pico's questions have known key words: an answer is right if it has two thirds of them. Each is asked once greedily, and
# seven times at temperature 1. The vote is on the first sentence. (A large model knows these functions in other words than the documentation
# has; on a Spark the figures then say more about the words than about the model.)
#
# **Predict.** At temperature 1, one draw gets how many of the 24 right, on average? And the vote of seven?

# %%
my_draw, my_vote = 12, 20        # your guesses

# %%
lines = (paths.PICO.parent / "questions.jsonl").read_text(encoding="utf-8").splitlines()
questions = [json.loads(line) for line in lines[60:84]]

def right(question, sample):
    found = [word in sample.text.lower() for word in question["key_words"]]
    return sum(found) >= 2 / 3 * len(found)

def vote(samples):
    """The first answer whose first sentence has the majority."""
    sentences = [s.text.split(". ")[0].lower().rstrip(".") for s in samples]
    return samples[sentences.index(Counter(sentences).most_common(1)[0][0])]

score = Counter()
for q in questions:
    drawn = ask(q["question"], n=7, temperature=1.0, max_tokens=40)
    greedy = ask(q["question"], n=1, temperature=0, max_tokens=40)
    if drawn and greedy:
        score["greedy"] += right(q, greedy[0])
        score["one draw"] += sum(right(q, s) for s in drawn) / len(drawn)
        if all(s.likelihood is not None for s in drawn):
            score["best of 7"] += right(q, max(drawn, key=lambda s: s.likelihood))
        score["majority of 7"] += right(q, vote(drawn))
print({name: round(n, 1) for name, n in score.items()} or "no question was answered", "of", len(questions))
if score:
    print(beside("one draw", my_draw, score["one draw"]), beside("majority", my_vote, score["majority of 7"]), sep="\n")

# %% [markdown]
# Of 24 questions, two more or less are chance. With that in mind: for pico these are facts known by heart, so look whether temperature 1 hurts. A vote
# can win back what the draws lost only where wrong sentences scatter and right ones agree; choosing by likelihood can win back more, because it
# undoes the temperature. Look whether they did. Neither knows more than the model does.
# Votes pay where an answer is reached in several steps, each of which can go wrong in its own way, such as arithmetic in words; that is where the
# paper's gains come from. And the likeliest of many open answers is often a loop or a platitude, as the first run of this notebook showed. Both cost
# n answers: seven users' worth of tokens for one user, a price that lesson 4 lets you compute.

# %% tags=["solution-only"]
# The tests run this notebook: its solutions have to pass their own checkers.
for name in ("distinct_share", "settings_for", "majority"):
    assert getattr(check, name)(globals()[name], engine)

# %% [markdown]
# ## Three things to remember
#
# 1. Temperature and top-p act together: heat buys variety and pays in likelihood, top-p takes it back. Measure both, with intervals.
# 2. Temperature 0 is the same each time only as far as the sums are. Test it under load before you build on it.
# 3. Read finish_reason before the text. Streaming shortens the wait, not the work.
#
# **Next step.** *Prompting* turns to the other half of a request: what you say, in which form you want the answer, and what a conversation costs.
