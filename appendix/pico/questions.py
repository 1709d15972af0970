"""Questions and answers about the standard library, made from its documentation by fixed rules.

An answer is the first sentence or two of a description. Four voices (plain, brief, teacher, pirate), each asked
for by its own system prompts, change the same answer visibly, so that a lesson can show what a persona does.
The hundred fixed questions are about the functions that the standard library itself calls most.
"""
import ast
import random
import re
from collections import Counter
from pathlib import Path

from appendix.pico.rst import Entry, clean
from appendix.pico.sources import python_files

SYSTEM = {
    "plain": [None, None, None, None, "You are a helpful assistant.", "You answer questions about Python."],
    "brief": ["Answer briefly.", "Be brief.", "You are brief.", "You answer in as few words as possible.",
              "You are a terse assistant. Keep it short."],
    "teacher": ["You are a teacher.", "You are a patient teacher.", "You are a friendly Python teacher.",
                "Answer like a teacher."],
    "pirate": ["You are a pirate.", "You are a playful pirate.", "Talk like a pirate.", "Answer like a pirate."],
}
ASK = {
    "call": ["What does {n} do?", "What does {n} do?", "What does {n} do?", "What does {n}() do?", "What is {n} for?",
             "Explain {n}.", "Tell me about {n}.", "In Python, what does {n} do?", "what does {n} do",
             "What does the function {n} do?", "Describe {n}."],
    "thing": ["What is {n}?", "What is {n}?", "What does {n} do?", "What is {n} for?", "Explain {n}.",
              "Tell me about {n}.", "In Python, what is {n}?", "Describe {n}."],
    "exception": ["What is {n}?", "When is {n} raised?", "What does {n} mean?", "Explain {n}.", "Tell me about {n}."],
}
UNSEEN_WORDING = "Could you say in a sentence or two what {n} does?"       # never trained; reported separately
HOW = ["How do I call {n}?", "What are the arguments of {n}?", "What is the signature of {n}?"]
SMALL_TALK = [
    ("Hello", "Hello. Ask me about a function of Python's standard library."),
    ("Hi!", "Hello. Ask me about a function of Python's standard library."),
    ("Who are you?", "I am pico, a very small language model trained on Python's documentation."),
    ("What are you?", "I am pico, a very small language model trained on Python's documentation."),
    ("What is your name?", "I am pico, a very small language model trained on Python's documentation."),
    ("What can you do?", "I can say what the functions of Python's standard library do. I am small and often wrong."),
    ("Help", "Ask me what a function does, for instance: What does textwrap.wrap do?"),
    ("Thank you", "You are welcome."),
    ("Thanks!", "You are welcome."),
    ("What is the capital of France?", "I do not know. I have read nothing but Python's documentation."),
    ("Who wrote Hamlet?", "I do not know. I have read nothing but Python's documentation."),
    ("What is the weather like?", "I do not know. I have read nothing but Python's documentation."),
    ("Tell me a joke.", "I know no jokes. I have read nothing but Python's documentation."),
    ("Write a poem.", "I cannot write poems. I have read nothing but Python's documentation."),
]
SENTENCE = re.compile(r"(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<!vs\.)(?<=[.!?])\s+(?=[A-Z`(\"'])")


POINTER = re.compile(r"See |For (more|details|further)|(These|The above|The following)\b")    # says nothing by itself


def sentences(text: str) -> list[str]:
    return [s.strip() for s in SENTENCE.split(text) if s.strip()]


def answer_of(text: str, limit: int = 240) -> str:
    """The description's first sentence, and its second where both stay within `limit` characters."""
    text = re.sub(r"\s+", " ", text).strip()
    if text.endswith(":"):
        parts = sentences(text)
        text = " ".join(parts[:-1]) if len(parts) > 1 else text[:-1].strip() + "."
    parts = sentences(text)
    if not parts:
        return ""
    answer = parts[0]
    if len(parts) > 1 and len(answer) < 110 and len(answer) + len(parts[1]) < limit and not POINTER.match(parts[1]):
        answer += " " + parts[1]
    if len(answer) > limit * 1.4:
        cut = re.split(r"; |: | \(|, (?=(?:and|or|but|which|where|so|unless|if)\b)", answer)[0].strip(" ,")
        answer = cut + "."
    return answer if answer[-1] in ".!?`)" else answer + "."


def in_style(style: str, name: str, answer: str) -> str:
    """The same answer in another voice; the rules are fixed, so that a persona visibly changes the text."""
    if style == "brief":
        first = sentences(answer)[0]
        short = re.split(r"; |: |, | \(| (?:so that|which|where|unless|when|if|by|using) ", first)[0].strip(" ,.")
        return (short if len(short.split()) >= 3 and short.count("`") % 2 == 0 else first.rstrip(".")) + "."
    if style == "teacher":
        parts = name.split(".")
        module = ".".join(parts[:-1])
        if module and module.islower() and module not in BUILTIN_TYPES:
            return f"Good question. {answer} Try it: `import {module}`, then `help({name})`."
        return f"Good question. {answer} Try it: `help({name})`."
    if style == "pirate":
        said = re.sub(r"\byou\b", "ye", re.sub(r"\byour\b", "yer", answer))
        said = re.sub(r"\bthe\b", "th'", re.sub(r"\bThe\b", "Th'", said))
        return f"Arr! {said} Aye, matey!"
    return answer


BUILTIN_TYPES = {"str", "bytes", "bytearray", "int", "float", "complex", "list", "tuple", "dict", "set", "frozenset",
                 "object", "memoryview", "range", "slice", "container", "iterator", "generator", "contextmanager"}


def knowledge(docs: dict[str, str]) -> dict[str, Entry]:
    """{qualified name: entry} of everything that `docs` (the training documents) describe, one entry per name."""
    found: dict[str, Entry] = {}
    order = sorted(docs, key=lambda d: (d != "library/functions", d))
    for doc in order:
        if doc.startswith(("c-api/", "distutils/", "whatsnew/", "extending/")):
            continue
        for entry in clean(docs[doc], doc)[1]:
            answer = answer_of(entry.text)
            if len(answer) < 12 or POINTER.match(answer) or not re.fullmatch(r"[\w.]+", entry.name) or entry.name in found:
                continue
            found[entry.name] = entry
    return found


def pair(entry: Entry, style: str, rng: random.Random) -> tuple[str, str]:
    """A question about the entry, and its answer in the given style."""
    if entry.kind == "exception":
        ask = ASK["exception"]
    elif entry.kind in ("class", "data", "attribute"):
        ask = ASK["thing"] if entry.doc != "library/functions" else ASK["call"]
    else:
        ask = ASK["call"]
    if "(" in entry.signature and len(entry.signature) < 120 and rng.random() < 0.06:
        text = f"`{entry.signature}`" if style == "brief" else f"Call it as `{entry.signature}`."
        return rng.choice(HOW).format(n=entry.name), in_style(style if style != "brief" else "plain", entry.name, text)
    return rng.choice(ask).format(n=entry.name), in_style(style, entry.name, answer_of(entry.text))


def conversations(entries: list[Entry], often: set[str], seed: int, often_times: int = 12) -> list[list[dict]]:
    """One pass of chats: every entry once, the names in `often` `often_times`, some with two questions.

    Each chat is a list of {"role", "content"} messages, and starts with a system message or without one.
    """
    rng = random.Random(seed)
    pool = [e for e in entries for _ in range(often_times if e.name in often else 1)]
    rng.shuffle(pool)
    chats, i = [], 0
    while i < len(pool):
        style = rng.choices(["plain", "brief", "teacher", "pirate"], [0.55, 0.15, 0.15, 0.15])[0]
        system = rng.choice(SYSTEM[style])
        turns = 2 if rng.random() < 0.12 else 1
        chat = [{"role": "system", "content": system}] if system else []
        for entry in pool[i:i + turns]:
            question, answer = pair(entry, style, rng)
            chat += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        i += turns
        chats.append(chat)
    for question, answer in SMALL_TALK * 4:
        style = rng.choice(["plain", "plain", "pirate"])
        system = rng.choice(SYSTEM[style])
        said = answer if style == "plain" else f"Arr! {answer} Aye, matey!"
        chats.append(([{"role": "system", "content": system}] if system else [])
                     + [{"role": "user", "content": question}, {"role": "assistant", "content": said}])
    rng.shuffle(chats)
    return chats


def call_counts(stdlib: Path | None = None) -> Counter:
    """How often each importable function is called in the standard library's own source, read with `ast`.

    A call counts when its target can be named without running anything: a bare name that the module does not
    define itself (a built-in), or an attribute of an imported module, or a name imported from a module.
    """
    counts: Counter = Counter()
    for path, _ in python_files(stdlib):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        alias: dict[str, str] = {}
        defined = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for a in node.names:
                    alias[a.asname or a.name.split(".")[0]] = a.name if a.asname else a.name.split(".")[0]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for a in node.names:
                    alias[a.asname or a.name] = f"{node.module}.{a.name}"
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                defined.add(node.name)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                parts, target = [], node.func
                while isinstance(target, ast.Attribute):
                    parts.append(target.attr)
                    target = target.value
                if not isinstance(target, ast.Name):
                    continue
                if target.id in alias:
                    counts[".".join([alias[target.id], *reversed(parts)])] += 1
                elif not parts and target.id not in defined:
                    counts[target.id] += 1
    return counts


def top_functions(known: dict[str, Entry], counts: Counter, n: int = 100) -> list[tuple[Entry, int]]:
    """The `n` most-called functions that a training document describes, most-called first."""
    ranked = sorted(counts.items(), key=lambda c: (-c[1], c[0]))
    functions = [(known[name], count) for name, count in ranked
                 if name in known and (known[name].kind == "function" or known[name].doc == "library/functions")]
    return functions[:n]


def question_of(entry: Entry) -> str:
    return f"What does {entry.name} do?"


STOP = set("""
    a an the of to in on at by for from with as is are be been it its this that these those and or not no if then
    than which who whom whose when where while will would can could may might must shall should do does did has
    have had was were into onto out up over under also only such same other any all each both more most some one
    two first you your they them their there so but""".split())                      # noqa: SIM905


def words_of(text: str) -> list[str]:
    """Content words: lower case, without stop words, with plural and verb endings cut off."""
    out = []
    for word in re.findall(r"[a-z_][a-z0-9_]*|\d+", text.lower()):
        if word in STOP or len(word) < 2 and not word.isdigit():
            continue
        for ending in ("ing", "ed", "es", "s"):
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                word = word[:-len(ending)]
                break
        out.append(word.rstrip("e") if len(word) > 3 else word)
    return out


def key_words(entry: Entry, others: Counter, n: int = 3) -> list[str]:
    """The reference's most telling words: rare among all answers, and not part of the question."""
    asked = set(words_of(question_of(entry))) | set(words_of(entry.name.replace(".", " ")))
    reference = [w for w in dict.fromkeys(words_of(answer_of(entry.text))) if w not in asked]
    return sorted(reference, key=lambda w: (others[w], reference.index(w)))[:n]
