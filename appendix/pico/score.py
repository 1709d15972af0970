"""Ask pico a hundred fixed questions and judge its answers.

The questions (questions.jsonl) are about the hundred functions that the standard library's own source calls most;
they are worded as in the training data, and greedy decoding answers them. A verdict is a rule, not an opinion.
An answer is right when all of these hold:

* content words: F1 between answer and reference (stop words removed, endings cut) of at least 0.6;
* key words: at least two thirds of the reference's most telling words occur in the answer;
* its own: no other function's reference fits the answer better than the function that was asked about;
* something was said: at least two content words that are not in the question.

So an empty answer, an echo of the question, an answer about another function, and a heap of likely words all
fail; tests hold the scorer to that.

    python appendix/pico/score.py                              # the shipped model; prints the score
    python appendix/pico/score.py --model FOLDER --json results.json
    python appendix/pico/score.py --rescore results.json       # judge stored answers again, no model needed
"""
import argparse
import json
import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from appendix.pico.questions import UNSEEN_WORDING, words_of

HERE = Path(__file__).resolve().parent
F1_NEEDED = 0.6
KEY_WORDS_NEEDED = 2 / 3


def read_questions(path: Path = HERE / "questions.jsonl") -> list[dict]:
    """One dict per question: question, function, calls, document, reference, key_words."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]


@lru_cache(maxsize=4096)
def counted(text: str) -> Counter:
    """The content words of a text, and how often each occurs."""
    return Counter(words_of(text))


def f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over content words, each counted as often as it occurs."""
    a, r = counted(answer), counted(reference)
    common = sum((a & r).values())
    return 2 * common / (sum(a.values()) + sum(r.values())) if common else 0.0


def judge(item: dict, answer: str, questions: list[dict]) -> dict:
    """{"right": bool, "f1": float, "key_words": float, "why": str} for one answer to one question."""
    words = set(words_of(answer))
    new = words - set(words_of(item["question"]))
    score = f1(answer, item["reference"])
    keys = item["key_words"]
    found = sum(k in words for k in keys) / len(keys) if keys else 1.0
    if len(new) < 2:
        why = "says nothing beyond the question"
    elif score < F1_NEEDED:
        why = f"content words match the reference too little (F1 {score:.2f}, needed {F1_NEEDED})"
    elif found < KEY_WORDS_NEEDED - 1e-9:
        why = "misses key words: " + ", ".join(k for k in keys if k not in words)
    else:
        others = {q["function"]: f1(answer, q["reference"]) for q in questions if q["reference"] != item["reference"]}
        better = max(others, key=others.get, default="")
        why = f"fits {better} at least as well" if better and others[better] >= score else ""
    return {"right": not why, "f1": round(score, 3), "key_words": round(found, 3), "why": why}


def load_model(folder: Path):
    """The model in float32 and its tokenizer, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    return (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(),
            AutoTokenizer.from_pretrained(folder))


def ask(model, tokenizer, question: str, system: str | None = None, max_new_tokens: int = 96) -> str:
    """The model's greedy answer to one question, without special tokens."""
    import torch
    messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_new_tokens)
    return tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True).strip()


def score(answers: list[str], questions: list[dict]) -> list[dict]:
    """A verdict for each answer, together with the question and the answer itself."""
    return [{"question": q["question"], "function": q["function"], "answer": a, **judge(q, a, questions)}
            for q, a in zip(questions, answers, strict=True)]


def summary(rows: list[dict]) -> dict:
    return {"right": sum(r["right"] for r in rows), "questions": len(rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=HERE / "model", help="folder of the model (default: the shipped one)")
    parser.add_argument("--questions", type=Path, default=HERE / "questions.jsonl")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every answer and verdict to this file")
    parser.add_argument("--unseen", action="store_true", help="word the questions in a way that training never used")
    parser.add_argument("--rescore", type=Path, metavar="FILE", help="judge the answers in this results file again")
    args = parser.parse_args()
    questions = read_questions(args.questions)
    if args.rescore:
        answers = [r["answer"] for r in json.loads(args.rescore.read_text(encoding="utf-8"))["results"]]
    else:
        if not (args.model / "config.json").exists():
            parser.error(f"no model in {args.model}; pass --model FOLDER with config.json and model.safetensors")
        model, tokenizer = load_model(args.model)
        answers = []
        for q in questions:
            asked = UNSEEN_WORDING.format(n=q["function"]) if args.unseen else q["question"]
            answers.append(ask(model, tokenizer, asked))
            print(f"\r{len(answers)}/{len(questions)}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    rows = score(answers, questions)
    for r in rows:
        if not r["right"]:
            print(f"wrong  {r['function']}: {r['why']}\n       {r['answer'][:160]}")
    total = summary(rows)
    print(f"{total['right']} of {total['questions']} right")
    if args.json:
        wording = UNSEEN_WORDING if args.unseen else "as in questions.jsonl"
        args.json.write_text(json.dumps({**total, "wording": wording, "decoding": "greedy, float32", "results": rows},
                                        indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
