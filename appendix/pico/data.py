"""The data that pico is trained on: fetched, cleaned, split, and turned into questions and answers.

Three sources, all under the PSF licence:

* Python's documentation (reStructuredText, Debian package python3.11-doc), cleaned to plain prose and code;
* the standard library's source with its docstrings (the Python that runs this file);
* questions and answers in ChatML, derived from the documentation's `.. function::`, `.. class::`,
  `.. method::`, `.. exception::` … directives by fixed rules.

About 5 % of the documentation's files are held out: the model never sees them, neither as text nor as
questions, and the source modules they document are left out as well.

    python appendix/pico/data.py                 # fetch, clean, and print what there is
    python appendix/pico/data.py --show library/textwrap
    python appendix/pico/data.py --ship          # write heldout.txt, calibration.txt and questions.jsonl
"""
import argparse
import hashlib
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from appendix.pico.questions import (
    answer_of,
    call_counts,
    key_words,
    knowledge,
    question_of,
    top_functions,
    words_of,
)
from appendix.pico.rst import Entry, clean, resolve
from appendix.pico.sources import SALT, fetch_docs, held_out, read_docs, read_source

HERE = Path(__file__).resolve().parent
DEFAULT_WORK = HERE.parents[1] / ".course" / "pico"
EOT = "<|endoftext|>"        # between documents, in the training stream and in the shipped text files


@dataclass
class Corpus:
    """Everything the training needs, in memory (about 25 MB of text)."""
    train: dict[str, str]            # cleaned documentation
    held: dict[str, str]             # cleaned documentation that training never sees
    source: dict[str, str]           # standard library modules
    known: dict[str, Entry]          # documented names of the training documents
    top: list[tuple[Entry, int]]     # the hundred functions and how often the standard library calls them


def load(work: Path = DEFAULT_WORK, docs: Path | None = None, smoke: bool = False) -> Corpus:
    """Read and clean everything; with `smoke` a handful of files, and no download where --docs is given."""
    raw = read_docs(Path(docs) if docs else fetch_docs(Path(work)))
    if not raw:
        raise SystemExit(f"There is no documentation (*.rst or *.rst.txt) in {docs}. Pass the Doc folder of a "
                         "CPython 3.11 source tree with --docs, or leave --docs out to download it.")
    raw = resolve(dict(list(raw.items())[:40]) if smoke else raw)
    cleaned = {name: clean(text, name)[0] for name, text in raw.items()}
    cleaned = {name: text for name, text in cleaned.items() if len(text) > 400}
    known = knowledge({name: text for name, text in raw.items() if not held_out(name)})
    return Corpus(train={k: v for k, v in cleaned.items() if not held_out(k)},
                  held={k: v for k, v in cleaned.items() if held_out(k)},
                  source={} if smoke else read_source(raw),
                  known=known,
                  top=top_functions(known, Counter(list(known)) if smoke else call_counts()))


def sample(texts: dict[str, str], size: int) -> str:
    """Whole documents in the order of their hash, separated by <|endoftext|>, up to about `size` bytes."""
    order = sorted(texts, key=lambda name: hashlib.sha256(f"{SALT}-sample:{name}".encode()).hexdigest())
    chosen, total = [], 0
    for name in order:
        length = len(texts[name].encode())
        if total + length <= size * 1.1:
            chosen.append(texts[name].strip())
            total += length
    return f"\n{EOT}\n".join(chosen) + "\n"


def ship(corpus: Corpus, folder: Path = HERE) -> None:
    """Write the small files that lessons and the scorer use."""
    (folder / "heldout.txt").write_text(sample(corpus.held, 150_000), encoding="utf-8")
    (folder / "calibration.txt").write_text(sample(corpus.train, 200_000), encoding="utf-8")
    others = Counter(w for e in corpus.known.values() for w in set(words_of(answer_of(e.text))))
    with open(folder / "questions.jsonl", "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"question": question_of(entry), "function": entry.name, "calls": count,
                                "document": entry.doc, "reference": answer_of(entry.text),
                                "key_words": key_words(entry, others)}, ensure_ascii=False) + "\n" for entry, count in corpus.top)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="folder for downloads (default: .course/pico)")
    parser.add_argument("--docs", type=Path, help="documentation folder, instead of downloading the Debian package")
    parser.add_argument("--show", metavar="NAME", help="print one cleaned document, for instance library/textwrap")
    parser.add_argument("--ship", action="store_true", help="write heldout.txt, calibration.txt and questions.jsonl")
    args = parser.parse_args()
    corpus = load(args.work, args.docs)
    if args.show:
        texts = corpus.train | corpus.held
        if args.show not in texts:
            parser.error(f"no document {args.show!r}; there are for instance {', '.join(list(texts)[:5])}")
        print(texts[args.show])
        return
    size = {k: sum(len(t.encode()) for t in v.values()) for k, v in
            (("train", corpus.train), ("held", corpus.held), ("source", corpus.source))}
    print(f"documentation  {len(corpus.train):4d} files for training, {size['train'] / 1e6:.2f} MB")
    print(f"held out       {len(corpus.held):4d} files, {size['held'] / 1e6:.2f} MB: {', '.join(corpus.held)}")
    print(f"source         {len(corpus.source):4d} modules, {size['source'] / 1e6:.2f} MB")
    print(f"documented     {len(corpus.known):4d} names; the most-called functions: "
          + ", ".join(f"{e.name} ({c})" for e, c in corpus.top[:8]))
    if args.ship:
        ship(corpus)
        print(f"wrote heldout.txt, calibration.txt and questions.jsonl to {HERE}")


if __name__ == "__main__":
    main()
