# %% [markdown]
# # One token
#
# A model doesn't write. It says, for one position, how likely each token of its vocabulary is to come next, and the engine draws one. All that
# people call creative, dull, random or safe about an answer happens in that draw. In this notebook you see the numbers, write the filters that
# stand between them and the token, and hold your functions against what the engine really draws.
#
# **Afterwards you can**
#
# - ask any engine for the likeliest next tokens, and read log-probabilities without being misled;
# - write temperature, top-k, top-p, min-p and the three penalties, each in a few lines;
# - decide by a statistical test whether an engine draws as you predict;
# - say why the same settings give other tokens on another engine.
#
# **Time:** 25 minutes, of which the machine works for one. **You need:** some Python and numpy, and lesson 4 for what an engine is.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 8 GB, no GPU | vLLM on the CPU serves pico; its whole distribution is computed beside it and compared |
# | spark | one GB10 | the engine that is up is asked; it shows the likeliest 20 tokens, and a top_k within them makes those the whole truth |
# | rack | several Sparks, B200 or B300 | as on a Spark |

# %%
import numpy as np

from gb10 import engines, machine, sampling
from gb10.check import lesson05 as check
from gb10.engines import next_token, talk
from gb10.errors import CourseError
from gb10.explore import expected_seen, playground
from gb10.explore.guess import beside

print(machine.banner("openai"))
engine = engines.connect()

# %% [markdown]
# This notebook lives on log-probabilities. An engine that shows none can't be looked into; the course's stand-in, a small server for pico, then
# takes its place, and this cell says so.

# %%
try:
    next_token.look(engine, "Hello")
except CourseError as e:
    print(e.message, "This notebook asks pico instead, in the stand-in.")
    engine = engines.start(engine="standin")

# %% [markdown]
# ## 1. What the model says
#
# The API has two fields for this: `logprobs` asks for the log-probability of each token that was drawn, `top_logprobs` for those of its rivals,
# 20 at most in most engines. `next_token.look` sends one such request for a single token. Three prompts: a question that pico knows from
# training, one that leaves it a choice, and one for which it was never made (pico was trained on Python's documentation). On a
# Spark your own model answers; whether it is surer than pico is for you to see.
#
# **Predict.** After "What does os.path.join do?", how likely is the likeliest first token, in percent?

# %%
my_percent = 50          # your guess
prompts = ("What does os.path.join do?",
           "Tell me about strings.",
           "Write a story about a robot learning to paint.")

# %%
calm = next_token.plain(engine)      # a model that thinks would begin with its thinking
seen = {prompt: next_token.look(engine, prompt, **calm) for prompt in prompts}
for prompt, c in seen.items():
    shown = [f"{t!r} {p:.1%}" for t, p in zip(c.tokens[:6], c.probs[:6], strict=False)]
    print(prompt, *shown, f"… not shown: {c.rest:.1%}", sep="   ")
print(beside("likeliest", my_percent, 100 * seen[prompts[0]].probs[0], "%"))

# %% [markdown]
# For pico these are three shapes: a peak, a slope, a plain. The filters below do almost nothing to a peak and a lot to a plain, and an answer crosses many of both.
# A token is often no word: `R` may be the begin of *Return* or of *Raises*. The last field of each result is the request itself, as a dictionary.
# Each kind of request in this lesson is shown as a curl command, too, made from the dictionary that was sent, so that the two can't differ.

# %%
request = seen[prompts[1]].request
print({name: value for name, value in request.items() if name != "messages"}, "\n")
print(talk.curl(engine.url, request))

# %% [markdown]
# Twenty tokens are what an engine shows. Behind them stands the rest of the vocabulary, 4,096 tokens in pico's case, each with a *logit*, a
# plain number. Softmax makes probabilities of logits: $p_i = e^{x_i} / \sum_j e^{x_j}$. If your engine serves pico, the notebook computes all of
# them with transformers, another program, and holds the two against each other. What should agree to four digits does so, or something between
# the weights and the API is wrong.

# %%
QUESTION = prompts[1]
c = seen[QUESTION]
whole = next_token.whole(QUESTION) if next_token.is_pico(engine) else None
model = whole or c       # without pico, the candidates stand for all of it
if whole:
    p = whole.by_text(sampling.softmax(whole.logits))
    apart = max(abs(np.log(p[t]) - x) for t, x in zip(c.tokens, c.logprobs, strict=True))
    print(f"{len(whole.logits)} logits; the largest difference of {len(c.tokens)} logprobs is {apart:.1e}")
bits = sampling.entropy(sampling.softmax(model.logits))
print(f"entropy {bits:.2f} bits: as uncertain as a fair choice among {2 ** bits:.1f} tokens")

# %% [markdown]
# Two things to know of logprobs. They are natural logarithms, so 0 is certain and -2.3 is ten percent. And in vLLM they are *raw*: computed
# before temperature and filters, unless it was started with
# [`--logprobs-mode processed_logprobs`](https://docs.vllm.ai/en/stable/cli/serve/). A token drawn at temperature 2 is
# reported with the probability that it had at temperature 1. That is what makes the comparisons of this notebook possible, and what misleads
# people who read them as the chance that the token had. Don't take it from the documents: ask for the same token at temperature 2 and top_p 0.5.
#
# **Predict.** Will the logprobs be "the same" as above or "flatter"?

# %%
my_logprobs = "flatter"  # your guess

# %%
heated = next_token.look(engine, QUESTION, temperature=2.0, top_p=0.5, **calm)
before, after = (dict(zip(x.tokens, x.logprobs, strict=True)) for x in (c, heated))
moved = max(abs(before[t] - after[t]) for t in before.keys() & after.keys())
print(f"the largest change of a logprob: {moved:.1e}")
print(f"you said {my_logprobs}: they are", "the same (raw)" if moved < 0.05 else "others (processed)")

# %% [markdown]
# ## 2. Temperature
#
# Temperature divides the logits before softmax. Below 1 it makes large differences larger; above 1 it evens them out.
#
# ### Exercise 1: temperature
#
# Write `with_temperature(logits, t)`. `logits` is a numpy array with one number per token; give a new one back and leave the old one as it is.
# At `t` of 0 only the largest stays (the first, if several are), and all others get `-np.inf`, which softmax turns into probability 0.

# %%
def with_temperature(logits, t):
    """The logits at temperature t; t = 0 is greedy."""
    ### BEGIN SOLUTION
    if t > 0:
        return logits / t
    return np.where(np.arange(len(logits)) == np.argmax(logits), logits, -np.inf)
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.with_temperature(with_temperature, engine)

# %% [markdown]
# The checker does two things: it calls your function with logits whose answer it knows, and then asks the engine for 120 draws and compares
# them with your prediction. What that comparison is comes in section 3. First the claim that everybody repeats: temperature near 0 is greedy. vLLM
# takes it further: it raises any temperature between 0 and 0.01 to
# [0.01](https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/sampling_params.py), since smaller ones overflow. (From here on the notebook uses the
# course's own functions, `sampling.temperature` and so on, so that it goes on without yours.)

# %%
def drawn(n=40, question=QUESTION, **fields):
    """What n seeded draws gave, or what the engine said of the request."""
    try:
        return next_token.draws(engine, question, range(n), quiet=True, **calm, **fields)
    except CourseError as e:
        return e.message

for t, k in ((0, 0), (0.01, 0), (2.0, 1), (1.0, 0), (2.0, 0)):
    fields = {"temperature": t} | ({"top_k": k} if k else {})
    print(fields, drawn(**fields))

# %% [markdown]
# ## 3. Does it draw as predicted?
#
# Five hundred draws are never exactly five hundred times the prediction. The question is whether they are further off than chance explains. The
# chi-square test answers it: for each token, the square of (seen − expected) over expected, summed. Tokens of which fewer than five are
# expected share one bin. From the sum follows *p*: how often draws that really come from your prediction lie at least this far from it.
# A p of 0.3 means nothing remarkable; 1e-12 means that the prediction is wrong. And one token that was predicted never to come is a proof,
# whatever the sum says. The course says *agrees* from p = 0.001 on: one true prediction in a thousand is then called wrong.
#
# **Predict.** If you forget the temperature in your prediction (1.3 was asked), will 500 draws show it?

# %%
my_answer = "no"         # your guess: "yes" or "no"

# %%
settings = sampling.Settings(temperature=1.3, top_k=c.clear)

def predicted(settings, order="vllm"):
    """{token: probability} of the next token under these settings."""
    return model.by_text(sampling.distribution(model.logits, settings, order))

counts = drawn(500, **settings.request())
if isinstance(counts, dict):
    right, wrong = (sampling.chi_square(counts, predicted(s)) for s in (settings, sampling.Settings(top_k=settings.top_k)))
    print("with the temperature:   ", right, "\nwithout the temperature:", wrong)
    answer = "yes" if not wrong.agrees() else "no"
    neither = "it agrees with neither: your engine ignores a field or changes it"
    print(f"you said {my_answer} - it is {answer}" if right.agrees() else neither)
else:
    print(counts)

# %% [markdown]
# The request asks for `top_k` as well, at a place within the 20 shown that is no tie (`c.clear`): so these candidates are the whole distribution, and
# the test works with any engine and model, without knowing the rest. One token for each seed, 0 to 499: whoever repeats it gets the same counts from the same
# engine and model. Look at the bars of such a comparison once, before you trust a single number:

# %%
expected_seen.show(counts, predicted(settings)) if isinstance(counts, dict) else "no draws to show"

# %% [markdown]
# One of the 500 requests, for a terminal: the fields of a draw beside those of a look. Repeat it with other seeds, and the token changes.

# %%
try:
    asked = {"max_tokens": 1, "logprobs": True, "seed": 0} | calm | settings.request()
    print(talk.curl(engine.url, talk.request(engine.model, QUESTION, engine=engine.engine, **asked)))
except CourseError as e:
    print(e.message)

# %% [markdown]
# An engine without `top_k` can be tested, too, at temperature 1: what its candidates leave of the probability is known, only not by name. It gets
# a bin of its own, *the rest*, for every token that isn't among them. (No draw at all in the rest, and a p near 0, mean that the engine cuts the tail
# by a default of its own that the API doesn't show.)

# %%
counts = drawn(200, temperature=1.0)
if isinstance(counts, dict):
    known = c.by_text(c.probs) | {"(the rest)": c.rest}
    binned = {t: counts.get(t, 0) for t in known}
    binned["(the rest)"] = sum(n for t, n in counts.items() if t not in known)
    print(f"the rest: {200 * c.rest:.0f} expected, {binned['(the rest)']} seen;", sampling.chi_square(binned, known))
else:
    print(counts)

# %% [markdown]
# ## 4. Cutting off the tail
#
# At temperature 1, the many tokens of a plain's tail have small chances that add up: with a tenth of the probability in the tail, an answer of
# 50 tokens meets it five times. Filters cut it off. *Top-k* keeps a fixed number of tokens. *Top-p* keeps the smallest set that holds a share p
# of the probability ([Holtzman and others, 2019](https://arxiv.org/abs/1904.09751)). *Min-p* keeps what is at least p times as likely as the
# likeliest ([Nguyen and others, 2024](https://arxiv.org/abs/2407.01082)).
#
# ### Exercise 2: top-k
#
# Write `keep_top_k(logits, k)`. What goes gets `-np.inf`. Tokens that equal the k-th stay, too, as in vLLM. A `k` below 1, or at least as
# large as the vocabulary, means that the filter is off.

# %%
def keep_top_k(logits, k):
    """The k largest logits; the others are -inf."""
    ### BEGIN SOLUTION
    if k < 1 or k >= len(logits):
        return logits.copy()
    return np.where(logits < np.sort(logits)[-k], -np.inf, logits)
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.keep_top_k(keep_top_k, engine)

# %% [markdown]
# ### Exercise 3: top-p
#
# Write `keep_top_p(logits, p)`. Order the tokens by probability, from the likeliest down, and keep each before which there is less than p in
# total: so the one that crosses p stays, and so does the likeliest, however small p is. With `p` of 1 the filter is off. Mind that the result has
# every token at its own place. (`np.argsort(-logits)` gives the order, `np.cumsum` the running total.)

# %%
def keep_top_p(logits, p):
    """The smallest set of the likeliest tokens that reaches probability p; the others are -inf."""
    ### BEGIN SOLUTION
    if p >= 1:
        return logits.copy()
    order = np.argsort(-logits, kind="stable")
    likely = sampling.softmax(logits)[order]
    keep = np.cumsum(likely) - likely < p
    keep[0] = True
    out = np.full(len(logits), -np.inf)
    out[order[keep]] = logits[order[keep]]
    return out
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.keep_top_p(keep_top_p, engine)

# %% [markdown]
# ### Exercise 4: min-p
#
# Write `keep_min_p(logits, p)`: keep the tokens with at least p times the probability of the likeliest. Nothing is added up, nothing sorted. It
# is the shortest of the three, and the one that follows the shape best: after a peak its threshold is high, on a plain it is low.

# %%
def keep_min_p(logits, p):
    """Tokens that are at least p times as likely as the likeliest; the others are -inf."""
    ### BEGIN SOLUTION
    likely = sampling.softmax(logits)
    return np.where(likely < p * likely.max(), -np.inf, logits)
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.keep_min_p(keep_min_p, engine)

# %% [markdown]
# How differently they treat a peak and a plain shows in a table: the number of tokens that survive, for each of the three prompts. (On an
# engine that doesn't serve pico, only the 20 candidates are counted.)
#
# **Predict.** Top-p of 0.9 on the story prompt: how many tokens will stay?

# %%
my_survivors = 10        # your guess
rows = {q: (next_token.whole(q).logits if whole else s.logprobs) for q, s in seen.items()}
filters = ((sampling.top_k, 10), (sampling.top_p, 0.9), (sampling.min_p, 0.1))

# %%
kept = {q: [int(np.isfinite(f(row, v)).sum()) for f, v in filters] for q, row in rows.items()}
print(f"{'':<50}top_k 10   top_p 0.9   min_p 0.1")
for q, (k, n, m) in kept.items():
    print(f"{q:<50}{k:>8}{n:>12}{m:>12}")
print(beside("top_p 0.9 on the story", my_survivors, kept[prompts[2]][1], "tokens"))

# %% [markdown]
# ## 5. Not again
#
# Penalties act on tokens that have come before. They change logits, not probabilities. *Presence* takes a fixed amount off once, *frequency*
# for each time, both for the answer so far ([OpenAI's definition](https://platform.openai.com/docs/api-reference/chat/create)). *Repetition*
# is older ([Keskar and others, 2019](https://arxiv.org/abs/1909.05858)): it divides a positive logit and multiplies a negative one, so that both
# go down, and counts the prompt as well. An answer about strings that may not say *string*, because the question did, is its work.
#
# ### Exercise 5: penalties
#
# Write `penalized`. `prompt` and `output` are lists of token ids, and an id is the place of its logit. Repetition comes first, then the other two.

# %%
def penalized(logits, prompt, output, repetition, presence, frequency):
    """The logits after the penalties for what was said."""
    ### BEGIN SOLUTION
    out = np.array(logits, dtype=float)
    for t in {*prompt, *output}:
        out[t] = out[t] / repetition if out[t] > 0 else out[t] * repetition
    for t in set(output):
        out[t] -= frequency * output.count(t) + presence
    return out
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.penalized(penalized, engine)

# %% [markdown]
# See it work on the engine. This prompt contains the token that pico likes to begin with, so that a repetition penalty hits it at once. (If your
# model begins with a word that isn't in the prompt, its count won't move: put that word into `ECHO`.)
#
# **Predict.** Of 40 draws, how many still begin with it at a repetition penalty of 1.5?

# %%
my_repeats = 35          # your guess
ECHO = "Return the strings that begin with Return."
first = next_token.look(engine, ECHO, **calm).tokens[0]

# %%
began = []
for r in (1.0, 1.2, 1.5, 2.5):
    counts = drawn(40, ECHO, temperature=1.0, repetition_penalty=r)
    if not isinstance(counts, dict):
        print(counts)
        break
    began.append(counts.get(first, 0))
    print(f"repetition penalty {r}: {first!r} in {began[-1]} of 40 draws")
    if r == 1.5 and began[-1] != began[0]:
        print(beside("at 1.5", my_repeats, counts.get(first, 0), "draws"))

# %% [markdown]
# A logit of 11 divided by 1.5 loses 3.7, which is a factor of 39 in probability; a logit near 0 loses nothing. So the likeliest words are hit
# hardest, needed or not. Presence and frequency take the same from every token that was said. They show in a whole answer, here a greedy one; a
# negative penalty is a reward for what has been said.

# %%
for presence in (-2.0, 0.0, 1.0):
    asked = {"max_tokens": 40, "presence_penalty": presence, **calm}
    try:
        answer = talk.chat(engine, "List the methods of strings.", **asked)
        print(f"presence {presence:4}: {answer.text!r}")
        if presence > 0:
            print(answer.curl())
    except CourseError as e:
        print(f"presence {presence:4}: {e.message}")

# %% [markdown]
# ## 6. The order matters
#
# Filters don't commute. Top-p counts probabilities, and temperature changes them: applied to a hot, even distribution, top-p lets many tokens
# pass; applied before the heat, few. Engines disagree about the order, and none of their APIs says so. From their sources:

# %%
for order in sampling.ORDERS.values():
    print(f"{order.title:<14}{' → '.join(order.steps)}")
    print(f"{'':<14}{order.note}\n{'':<14}{order.source}")

# %% [markdown]
# vLLM and its kind heat first. llama.cpp heats last, so its filters always see the model's own probabilities. The same request, temperature 2 and
# top-p 0.7, then allows other tokens.
#
# **Predict.** How many of 200 draws of your engine will be tokens that llama.cpp's order forbids?

# %%
my_forbidden = 20        # your guess
hot = sampling.Settings(temperature=2.0, top_p=0.7, top_k=c.clear)

# %%
allowed = {o: predicted(hot, o) for o in ("vllm", "llamacpp")}
print({sampling.ORDERS[o].title: f"{len(p)} tokens" for o, p in allowed.items()})
counts = drawn(200, **hot.request())
if isinstance(counts, dict):
    print(beside("forbidden", my_forbidden, sum(n for t, n in counts.items() if t not in allowed["llamacpp"]), "draws"))
    print(*(f"{sampling.ORDERS[o].title:<10} {sampling.chi_square(counts, p)}" for o, p in allowed.items()), sep="\n")
else:
    print(counts)

# %% [markdown]
# Which order your engine has, its draws tell: the one that the counts agree with. (An engine that agrees with neither may ignore a field;
# the third notebook makes a table of those.) It is a difference to remember when settings are carried from llama.cpp to
# vLLM: what was tuned where temperature comes last, say 1.5 with min-p 0.1, meets filters in vLLM that see the heated distribution, and the same
# numbers are wilder.
#
# ## 7. A playground
#
# All of it at once. The rings are the model's own probabilities, the bars what is drawn from, and a word above a token names the step that
# removed it. *Said already* puts the likeliest token into the answer that often, so that the penalties have something to punish. Try: heat at
# top-p 0.7 and change the order from vLLM to llama.cpp; a min-p that leaves one token; a negative presence penalty, which is a reward.

# %%
playground.explore(model.logits, model.tokens)

# %% [markdown]
# Entropy is the measure of surprise that remains: 0 bits for a certain token, 1 for a fair coin, 3 for a fair choice of eight. Every filter lowers
# it, temperature above 1 raises it. That one number is often a better way to compare two settings than the settings themselves.

# %% tags=["solution-only"]
# The tests run this notebook: its solutions have to pass their own checkers.
for name in ("with_temperature", "keep_top_k", "keep_top_p", "keep_min_p", "penalized"):
    assert getattr(check, name)(globals()[name], engine)

# %% [markdown]
# ## Three things to remember
#
# 1. The model gives a distribution, the engine draws. Temperature reshapes it, filters cut its tail, penalties push down what was said.
# 2. Logprobs are those of the model, in vLLM: before temperature and filters. They don't tell the chance that a token had in your request.
# 3. The order of the filters is the engine's own. Hold draws against a prediction; a chi-square test says whether they agree.
#
# **Next step.** *Many tokens* draws again and again: whole answers, how different they are, and whether temperature 0 always says the same.
