# %% [markdown]
# # Prompting
#
# A prompt is a piece of text that the model continues. System prompts, examples, schemas and the memory of a conversation are all ways to put
# something into that text, or to restrict what may follow it. This notebook takes them one by one and asks each time: what did the *engine* do
# with my request, and what did the *model* make of it? The first can be proved. The second has to be measured.
#
# **Afterwards you can**
#
# - see the text and the tokens that a model gets in place of your messages;
# - measure whether a system prompt or examples change the answers, and by how much;
# - find out whether an engine enforces a JSON schema or silently ignores it;
# - switch thinking on and off where a model has it, and know where its answer may hide;
# - compute what a conversation costs, and predict the time to the first token from the length of the prompt.
#
# **Time:** 25 minutes, of which the machine works for one. **You need:** lesson 4, and notebook 2 of this lesson.
#
# | rung | what it takes | what is different there |
# |---|---|---|
# | laptop | 2 cores, 8 GB, no GPU | pico was taught a few voices and follows no other instruction; what the engine does is as on a Spark |
# | spark | one GB10 | the engine that is up is asked; with a Qwen3 the section on thinking is live |
# | rack | several Sparks, B200 or B300 | as on a Spark |

# %%
import uuid

from gb10 import engines, machine, sampling
from gb10.check import lesson05 as check
from gb10.engines import fields, gauges, next_token, talk
from gb10.engines.many import many
from gb10.errors import CourseError
from gb10.explore import conversation, field_rows, prompt_length, prompt_text, voices
from gb10.explore.guess import beside

print(machine.banner("openai"))
engine = engines.connect()

# %% [markdown]
# ## 1. What the model sees
#
# You send messages with roles. A model knows no roles: it continues text. Between the two stands the **chat template**, a small program in Jinja
# that comes with the model and writes all messages into one text, with special tokens where one ends and the next begins. The last thing in it
# is the opening of the assistant's turn, which the model then continues.
#
# **Predict.** A system message of two words, a question of four. How many tokens will the prompt have?

# %%
my_tokens = 8            # your guess

# %%
messages = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "What does os.path.join do?"}]
seen = prompt_text.by_engine(engine, messages)                       # vLLM has a page for it
mine = prompt_text.by_template(messages) if next_token.is_pico(engine) else None
shown = seen or mine
print(shown.text if shown else "this engine doesn't show what its template made; the count below is all that can be had")
print("|".join(repr(p)[1:-1] for p in shown.pieces) if shown else "")

# %% [markdown]
# Between the bars is what the model reads: pico's tokenizer has no word for *system*, and takes two tokens for it. A larger vocabulary has
# one. The template of another model writes other special tokens, may add a system message of its own, or refuse one. So the same messages are
# another prompt for each model, and the count is the quickest check that your messages arrived whole. Three counts should agree: transformers
# with the template (for pico), the engine's own tokenizer page, and what an answer reports as `usage.prompt_tokens`.

# %%
calm = next_token.plain(engine)      # a model that thinks begins with its answer, where that can be switched

def say(messages, **more):
    """An Answer, or the error that says what became of the request."""
    try:
        return talk.chat(engine, messages, **{"max_tokens": 60} | calm | more)
    except CourseError as e:
        return e

def count(answer, what="prompt_tokens"):
    return (getattr(answer, "usage", None) or {}).get(what)

# %%
answer = say(messages)
for how, n in (("transformers", mine and len(mine.pieces)), ("/tokenize", seen and len(seen.pieces)), ("usage", count(answer))):
    print(f"{how:<14}{'not to be had' if n is None else n}")
print(beside("tokens", my_tokens, count(answer)) if count(answer) else "")
print(talk.curl(engine.url, answer.request) if isinstance(answer, talk.Answer) else answer)

# %% [markdown]
# ## 2. System prompts
#
# A system prompt is text at the beginning, no more. Whether the model heeds it depends on what it was trained with. That makes claims about
# personas testable: ask the same questions with and without, at temperature 0, and compare. Six questions, four personas, and a control that is
# easily forgotten: the same thing twice *without* a persona. If the control changes, too, then changes prove nothing.
#
# pico is a fine subject, because its training is known (the course's appendix has all of it): it was taught four voices by short system messages,
# and *You are a pirate.* is one of them. The DevOps engineer, the writing coach and the limit of five words it never met.
#
# **Predict.** Of six answers of your engine, how many will the DevOps engineer change?

# %%
my_changed = 6           # your guess

# %%
SYSTEMS = {
    "none": None,
    "none, again": None,
    "DevOps engineer": "You are a DevOps engineer. Answer with a shell command, nothing else.",
    "writing coach": "You are a writing coach. Be warm, and end with a question about the reader's text.",
    "terse": "Answer in at most five words.",
    "pirate": "You are a pirate.",
}
ASKED = [f"What does {name} do?" for name in ("sorted", "len", "os.path.join", "print", "isinstance", "os.listdir")]

# %%
def under(before, questions=ASKED):
    """Answers to the questions, each with some messages before it."""
    asked = [[*before, {"role": "user", "content": q}] for q in questions]
    return many(engine, [{"messages": m, "max_tokens": 80} | calm for m in asked], quiet=True)

answers = {name: under([{"role": "system", "content": text}] if text else []) for name, text in SYSTEMS.items()}
heard = voices.compute(answers)
print(voices.describe(heard))
changed = {v.name: v.changed for v in heard}
if heard[0].answered:
    print(beside("changed by the DevOps engineer", my_changed, changed["DevOps engineer"], "of 6"))

# %%
voices.show(heard)

# %% [markdown]
# Two columns, two facts. *prompt +n tokens* is the engine's part: the system message arrived, every time, and is paid for with every request.
# *changed* is the model's part. pico heeds the pirate, because it was trained on pirates, and passes over the others, though it read every word of
# them. A large model was trained on very many instructions and follows one that it never met, often, not always. If yours ignores a
# persona, no setting of the engine repairs that. And if the control changed, look at notebook 2 again before you believe anything here.
#
# ## 3. Examples
#
# Few-shot prompting shows in place of telling: a few questions with answers in the wanted form, then the real question. The examples are put
# in as turns that have happened, so that to the model it looks as if it had answered in this form all along.
#
# ### Exercise 1: few-shot
#
# Write `few_shot`. `examples` is a list of pairs (question, answer). Return the messages: for each example one of the user and one of the
# assistant, then the question.

# %%
def few_shot(examples, question):
    """Messages: the examples as turns of a conversation, then the question."""
    ### BEGIN SOLUTION
    messages = []
    for asked, answered in examples:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return [*messages, {"role": "user", "content": question}]
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.few_shot(few_shot, engine)

# %% [markdown]
# Do examples work? The form is again the pirate's, but nobody says so: the examples alone have to do it. An answer counts as *in the form* if
# it has one of the pirate's words. That is one measure. A finer one needs no luck: the log-probabilities. How likely is it that the very first
# token is the beginning of *Arr*? It moves long before a greedy answer does.
#
# **Predict.** With three examples, how many of eight answers will have a word of the pirate's?

# %%
my_pirates = 6           # your guess

# %%
EXAMPLES = [("What does len do?", "Arr! Return th' length of an object. Aye, matey!"),
            ("What does os.path.exists do?", "Arr! Return `True` if path refers to an existing path. Aye, matey!"),
            ("What does sorted do?", "Arr! Return a new sorted list from th' items in iterable. Aye, matey!")]
OTHERS = [f"What does {name} do?" for name in ("os.path.join", "str.strip", "os.listdir", "math.sqrt", "shutil.copy",
                                               "time.sleep", "random.choice", "isinstance")]

def turns(k):
    """The first k examples as messages."""
    return [m for q, a in EXAMPLES[:k] for m in ({"role": "user", "content": q}, {"role": "assistant", "content": a})]

def pirate(text):
    return any(word in text.lower() for word in ("arr!", "th'", "matey", "ahoy", " ye "))

# %%
shots = voices.compute({f"{k} shown": under(turns(k), OTHERS) for k in (0, 1, 3)}, pirate)
print(voices.describe(shots))
if shots[-1].answered:
    print(beside("in the form with three examples", my_pirates, shots[-1].formed, "of 8"))

# %%
def begins(k, question):
    """Probability that the first token is the beginning of 'Arr'; None if the engine doesn't say."""
    try:
        c = next_token.look(engine, [*turns(k), {"role": "user", "content": question}], **calm)
    except CourseError:
        return None
    return float(sum(p for t, p in zip(c.tokens, c.probs, strict=False) if t.strip() and "arr!".startswith(t.strip().lower())))

for k in (0, 1, 3):
    found = [p for p in (begins(k, q) for q in OTHERS) if p is not None]
    told = "{:.2%} ({:.2%} to {:.2%})".format(*sampling.interval(found)) if found else "this engine gives no log-probabilities"
    print(f"{k} shown: 'Arr' comes first with probability {told}")

# %% [markdown]
# Read the two measures together. On pico, examples bring *th'* and *matey* into the answers, and still no answer begins with *Arr*, whose
# probability stays at a few per cent at most. Its training explains both: a pirate's answer there is full of *th'*, and one without a
# system message never began with *Arr*. So examples work on a model of 5.8 million parameters, too, in the ways that it has words for, and
# a measure that looks for one mark alone would have said that they don't. The price stands in the prompt: it is longer for every question from now
# on. Eight questions are few; the intervals say how few.
#
# ## 4. Structured output
#
# A program that reads an answer needs more than good will. `response_format` with a **JSON schema** lets the engine forbid, at each step, every
# token that would break the schema ([vLLM's page](https://docs.vllm.ai/en/latest/features/structured_outputs/)): the filter of notebook 1, with a
# grammar in place of a threshold. Below, the same question without it, with it, and with `guided_json`, the old name of that field.
#
# **Predict.** Will the answer in JSON be right?

# %%
my_answer = "no"         # your guess: "yes" or "no"

# %%
SCHEMA = {"type": "object",
          "properties": {"language": {"type": "string", "maxLength": 20},
                         "year": {"type": "integer", "minimum": 1900, "maximum": 2100}},
          "required": ["language", "year"], "additionalProperties": False}
formats = {"nothing": {}, "guided_json": {"guided_json": SCHEMA},
           "response_format": {"response_format": {"type": "json_schema", "json_schema": {"name": "release", "schema": SCHEMA}}}}
for name, more in formats.items():
    got = say("In which year did Guido van Rossum first release Python?", force=True, **more)
    print(f"{name:<17}{got.text!r} {got.finish_reason}" if isinstance(got, talk.Answer) else f"{name:<17}{got.message}")
print("you said", my_answer, "- it was 1991")

# %% [markdown]
# Three lessons in three lines. Valid JSON isn't true JSON: the grammar forces a year, and a model that doesn't know one makes one up, in perfect
# form (Python 0.9.0 is [from 1991](https://docs.python.org/3/license.html)). `guided_json` was removed from vLLM in 0.12: the engine takes it, says
# 200, and does nothing, and nobody notices as long as the model writes JSON of its own accord. And enforced JSON can end in the middle: without
# the `maximum`, pico writes digits until `max_tokens`. So bound what you can, and look at `finish_reason` before you parse.
#
# ### Exercise 2: honoured, ignored or rejected?
#
# Write `verdict_on_schema`. It gets a function: `ask(body)` sends the body of a chat request to an engine and returns `(status, answer)`, the HTTP
# status and the answer's JSON. (It fills in the model.) Return `"honoured"`, `"ignored"` or `"rejected"` for `response_format` with a JSON schema.
#
# The checker gives you thirteen engines. Some say no, some think before they speak, one has a model that loves JSON and answers in it
# whatever is asked: choose a schema that no model would fill by itself.

# %%
def verdict_on_schema(ask):
    """What the engine behind ask() does with a JSON schema."""
    ### BEGIN SOLUTION
    import json

    wanted = {"zq_41": "vellum-7319"}        # nobody guesses that
    schema = {"type": "object", "properties": {"zq_41": {"enum": ["vellum-7319"]}},
              "required": ["zq_41"], "additionalProperties": False}
    status, answer = ask({
        "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1000, "temperature": 0,
        "response_format": {"type": "json_schema", "json_schema": {"name": "probe", "schema": schema, "strict": True}}})
    if status != 200:
        return "rejected"
    try:
        content = json.loads(answer["choices"][0]["message"]["content"] or "")
    except ValueError:
        return "ignored"
    return "honoured" if content == wanted else "ignored"
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.verdict_on_schema(verdict_on_schema, engine)

# %% [markdown]
# The last line is the live one: your function and the course's own experiment on the engine that is up. An ignored schema is no accident of old
# engines. Servers that pass over unknown fields do it with every misspelt name, and a model that is good at JSON hides it for weeks. So
# write such a probe once, and run it at the start of every program that depends on a schema.
#
# ## 5. Thinking, on and off
#
# Qwen3 and its kind write down their reasoning before they answer. The switch is no field of the engine but a variable of the chat template:
# `chat_template_kwargs: {"enable_thinking": false}`. What it does is a trick with text. With thinking off, Qwen3's template writes an
# [empty pair of think tags](https://huggingface.co/blog/qwen-3-chat-template-deep-dive) behind the opening of the assistant's turn: to the
# model it looks as if the thinking were over. The engine can show that, if the template of its model has the switch:

# %%
question = [{"role": "user", "content": "What is 17 times 23?"}]
both = prompt_text.switched(engine, question)
if both is None:
    print("this engine doesn't show its prompts")
elif not any(both):
    print("the prompt is the same with the switch on and off: this model's template doesn't have it")
else:
    print(f"enable_thinking False: the prompt ends {both[0]!r}\nenable_thinking True:  the prompt ends {both[1]!r}")

# %%
limit = 200 if next_token.is_pico(engine) else 2000
for on in (False, True):
    got = say(question, chat_template_kwargs={"enable_thinking": on}, max_tokens=limit, force=True)
    if isinstance(got, talk.Answer):
        print(f"{on!s:<6}{count(got)} tokens in, {count(got, 'completion_tokens')} out, {got.seconds:.1f} s; "
              f"reasoning {len(got.reasoning)} characters, content {got.text[:80]!r}")
    else:
        print(f"{on!s:<6}{type(got).__name__}: {got.message}")

# %% [markdown]
# pico has no such switch, and both lines are the same. On a model that has it, compare tokens and seconds: thinking is paid for in decode, the
# slow part. And know the traps. `content` is null and `finish_reason` is `length`: the limit came before the thinking ended. `content` is null and
# `finish_reason` is `stop`: with the switch off, some versions of vLLM put the *answer* into the reasoning field, because their parser
# waited for a closing tag that stood in the prompt ([19839](https://github.com/vllm-project/vllm/issues/19839),
# [17349](https://github.com/vllm-project/vllm/issues/17349)). And earlier reasoning isn't sent again: the template leaves it out.
#
# ## 6. A conversation
#
# The engine remembers nothing. What looks like a memory is the client: it sends the whole conversation with each turn, and the engine reads it
# from the beginning. Unless it has a **prefix cache**, which keeps the keys and values of prompts that it has read.
#
# **Predict.** A system prompt of about 80 words, six short questions. How many tokens has the prompt of the sixth turn, and how many tokens
# have the six prompts together?

# %%
my_sixth, my_together = 300, 1200        # your guesses

# %%
run = uuid.uuid4().hex[:8]       # new each time the cell runs: an engine that stays up remembers
rules = "You answer questions about Python's library, shortly and correctly. " * 9
talked = [{"role": "system", "content": f"Session {run}. {rules}"}]
rows = []
for name in ("len", "sorted", "print", "isinstance", "os.path.join", "open"):
    talked.append({"role": "user", "content": f"What does {name} do?"})
    before = gauges.read(engine.url)
    got = say(talked)
    if not count(got):
        print(got if isinstance(got, CourseError) else "this engine counts no tokens")
        break
    after = gauges.read(engine.url)
    known = conversation.found_in_cache(got.usage, after.since(before) if before and after else None)
    rows.append((count(got), count(got, "completion_tokens"), known))
    talked.append({"role": "assistant", "content": got.text})

# %%
for number, (prompt, out, known) in enumerate(rows, 1):
    cached = "not told" if known is None else f"{known:.0f}"
    print(f"turn {number}: prompt {prompt:>5} tokens, in the cache {cached:>8}, answer {out:>3}")
if rows:
    print(beside("sixth prompt", my_sixth, rows[-1][0], "tokens"))
    print(beside("together", my_together, sum(r[0] for r in rows), "tokens"))

# %% [markdown]
# What the cache had comes from the engine's counters (`vllm:prefix_cache_hits_total`), or from the answer itself: with
# `--enable-prompt-tokens-details` vLLM reports `cached_tokens` in the usage, as OpenAI does. It is a multiple of the block, 128 tokens in vLLM
# on a CPU and 16 by its default on a GPU, so short conversations find little. If your engine doesn't tell, the times of the next section will.
#
# ### Exercise 3: what a conversation costs
#
# Write `prefill_of`: how many prompt tokens the engine *computes* over a conversation. `turns` has a pair for each turn, tokens of the question and
# of the answer; `system` is the number of tokens of the system prompt. Each prompt is the system prompt, all earlier questions and answers, and
# the new question. With `cached=True` assume a perfect cache: what the engine has read or written before isn't computed again.

# %%
def prefill_of(turns, system, cached):
    """Prompt tokens that are computed over the whole conversation."""
    ### BEGIN SOLUTION
    total, before = 0, 0
    for number, (question, answer) in enumerate(turns):
        new = question + (system if number == 0 else 0)
        total += new if cached else before + new
        before += new + answer
    return total
    ### STUB
    # raise NotImplementedError        # your code here
    ### END SOLUTION

# %%
check.prefill_of(prefill_of, engine)

# %% [markdown]
# Without a cache the sum grows with the *square* of the number of turns, with one linearly. Here it is for conversations of 20-token questions and
# 150-token answers behind a system prompt of 500 tokens, by the course's own function:

# %%
for n in (1, 5, 10, 20, 40):
    plain, known = (conversation.prefill_of([(20, 150)] * n, 500, cached) for cached in (False, True))
    print(f"{n:>3} turns: {plain:>8,} tokens without a cache, {known:>6,} with one, {plain / known:5.1f} times as many")

# %% [markdown]
# ## 7. How long a prompt takes
#
# Prefill is arithmetic, about the same for each token, so the time to the first token should be a straight line over the length of the prompt
# (attention bends it upwards, the longer the more). To see it, no prompt may be known to the cache: each begins with a word that was never
# there. Five lengths, four rounds, in random order within each round, since a machine that slows down over a minute would otherwise look like a
# slope. Every prompt is sent twice, and the second time is the cache's.
#
# **Predict.** How many milliseconds do 1,000 more tokens cost? And when the prompt is known?

# %%
my_new, my_again = 200, 20       # your guesses

# %%
try:
    points, failed = prompt_length.measure(engine, **calm), ""
except CourseError as e:
    points, failed = [], e.message
line, again = prompt_length.fit(points), prompt_length.fit(points, again=True)
print(failed or prompt_length.describe(points))
if line:
    print(beside("new", my_new, line.slope, "ms"))
    print(beside("known", my_again, again.slope, "ms"))

# %%
prompt_length.show(points) if points else failed

# %% [markdown]
# The slope is what each 1,000 tokens of documents, examples and history cost a reader in waiting, and its inverse is the rate of prefill. The
# interval covers the scatter of these prompts and nothing else. If the orange line is almost flat, the cache works; if it climbs with the blue one,
# there is none. If the blue line starts below zero at length 0,
# that is the bend, to which a straight line was fitted.
#
# With your own slope, conversations can be felt in advance. Move the turns up with the cache off, and then switch it on:

# %%
text_words = sum(len(m["content"].split()) for m in talked[: 2 * len(rows)])
per_word = rows[-1][0] / text_words if rows else 4 / 3
slope = line.slope / 1000 if line else 0.0
start = max(0.0, again.start_ms) if line else 0.0        # a known prompt shows what is left at length 0
conversation.explore(per_word, slope, start)

# %% [markdown]
# What the widget leaves out makes it worse, not better: the bend of attention, other users who want the same engine, and a cache that forgets
# when its memory is full. And one line of a system prompt that changes each time, a date for instance, turns *on* into *off*.
#
# ## 8. Every field, and what became of it
#
# Lesson 4 showed the table of all fields. Now you know what each should do, so predict before you look: these sixteen are the ones that this
# lesson used. Change the rows that you doubt to `"ignored"` or `"rejected"`. Each is decided by an experiment, and keeps the request that decided
# it: open *its request* for a curl command, made from the dictionary that was sent.

# %%
FIELDS = ["model", "messages", "max_tokens", "temperature", "top_p", "top_k", "stream", "min_p", "seed", "stop", "logprobs", "n",
          "presence_penalty", "frequency_penalty", "repetition_penalty", "response_format json_schema"]
my_rows = dict.fromkeys(FIELDS, "honoured")
my_rows["min_p"] = "ignored"     # your guesses: change what you doubt

# %%
live = fields.table(engine.url, engine.model, engine=engine.engine, only=FIELDS)
field_rows.Predicted(live, my_rows)

# %%
row = live["response_format json_schema"]
print(row)
print(row.curl(engine.url))

# %% [markdown]
# The last row is your exercise 2, by another probe: one boolean, with a name that no question suggests. If the two disagree, one of the probes
# was lucky, and that is worth a look. A table like this holds for one engine, one version, one model. When you change any of them, make it anew;
# it takes seconds.

# %% tags=["solution-only"]
# The tests run this notebook: its solutions have to pass their own checkers.
assert check.few_shot(few_shot) and check.verdict_on_schema(verdict_on_schema) and check.prefill_of(prefill_of)

# %% [markdown]
# ## Three things to remember
#
# 1. A prompt is one text. What the engine did with it (tokens, fields, schema) can be proved; what the model makes of it is measured, with a
#    control.
# 2. A status of 200 says nothing about a schema. Probe with something that nobody would write by chance, and remember that valid isn't true.
# 3. Each turn sends everything again. A prefix cache makes that linear, as long as the beginning stays the same.
#
# **Next step.** Point the notebook at your own model: `./course up vllm --model Qwen3-8B --weights nvfp4`, then *Run all*. Personas, examples and
# thinking are other chapters there. The fields should be the same.
