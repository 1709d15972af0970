"""How well a model predicts held-out documentation, in bits per byte.

Bits per byte = (sum of the negative log-likelihoods of all tokens, in bits) / (UTF-8 bytes of the text). It does
not depend on the tokenizer, so models with different vocabularies can be compared. Each document starts after
<|endoftext|>; windows of `context` tokens slide by half their length, so that every token but the document's
first ones is predicted from at least half a window of text.

    python appendix/pico/evaluate.py                              # the shipped model on heldout.txt
    python appendix/pico/evaluate.py --all --context 1024         # all 27 held-out documents
"""
import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
HERE = Path(__file__).resolve().parent
EOT = "<|endoftext|>"


def read_documents(path: Path) -> list[str]:
    """The documents of a shipped text file: separated by lines that hold <|endoftext|>."""
    parts = Path(path).read_text(encoding="utf-8").split(f"\n{EOT}\n")
    return [p.strip() + "\n" for p in parts if p.strip()]


@torch.no_grad()
def bits_per_byte(model, encode, documents, first_id: int, context: int = 512, batch: int = 8) -> dict:
    """Bits per byte of `documents` under `model`.

    model: token ids [B, T] -> logits [B, T, V], or an object that has them as `.logits` (a transformers model).
    encode: text -> list of token ids. first_id: the id of <|endoftext|>, put before each document.
    Returns {"bits_per_byte", "bits_per_token", "tokens", "bytes", "documents", "context"}.
    """
    stride = context // 2
    windows = []                                                # (token ids, how many of the last ones count)
    total_bytes = total_tokens = 0
    for text in documents:
        ids = [first_id, *encode(text)]
        total_bytes += len(text.encode("utf-8"))
        total_tokens += len(ids) - 1
        done = 0                                                # targets scored so far
        while done < len(ids) - 1:
            end = min(context if done == 0 else done + stride, len(ids) - 1)
            start = max(0, end - context)
            windows.append((ids[start:end + 1], end - done))
            done = end
    windows.sort(key=lambda w: -len(w[0]))
    nats = 0.0
    for i in range(0, len(windows), batch):
        part = windows[i:i + batch]
        length = len(part[0][0]) - 1
        ids = torch.full((len(part), length), first_id)
        targets = torch.full((len(part), length), -100)
        for row, (tokens, count) in enumerate(part):
            n = len(tokens) - 1
            ids[row, :n] = torch.tensor(tokens[:-1])
            targets[row, n - count:n] = torch.tensor(tokens[1:][n - count:])
        out = model(ids)
        logits = getattr(out, "logits", out).float()
        nats += torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
    bits = nats / math.log(2)
    return {"bits_per_byte": bits / total_bytes, "bits_per_token": bits / total_tokens, "tokens": total_tokens,
            "bytes": total_bytes, "documents": len(documents), "context": context}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=HERE / "model", help="folder of the model (default: shipped)")
    parser.add_argument("--text", type=Path, default=HERE / "heldout.txt",
                        help="documents, separated by <|endoftext|> lines (default: heldout.txt)")
    parser.add_argument("--all", action="store_true", help="all held-out documents, fetched by data.py, not a sample")
    parser.add_argument("--first", type=int, metavar="N", help="only the first N documents")
    parser.add_argument("--work", type=Path, default=HERE.parents[1] / ".course" / "pico",
                        help="folder for the download that --all needs (default: .course/pico)")
    parser.add_argument("--context", type=int, default=512, help="window in tokens, half of it overlap (default: 512)")
    parser.add_argument("--write", nargs=2, metavar=("FILE", "KEY"), help="put the result under KEY into a JSON file")
    args = parser.parse_args()
    from appendix.pico import data
    from appendix.pico import model as pico
    from appendix.pico import tokenizer as bpe
    if not (args.model / "config.json").exists():
        parser.error(f"no model in {args.model}; pass --model FOLDER with config.json and model.safetensors")
    if args.context < 2:
        parser.error("--context must be at least 2 tokens")
    tokenizer = bpe.load(args.model)
    documents = list(data.load(args.work).held.values()) if args.all else read_documents(args.text)
    documents = documents[:args.first]
    start = time.time()
    result = bits_per_byte(pico.load(args.model), lambda t: tokenizer.encode(t).ids, documents,
                           tokenizer.token_to_id(EOT), args.context)
    print(f"{result['bits_per_byte']:.4f} bits per byte on {result['documents']} documents ({result['bytes']} bytes, "
          f"{result['tokens']} tokens), context {result['context']}, in {time.time() - start:.0f} s")
    if args.write:
        file, key = Path(args.write[0]), args.write[1]
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(known | {key: result}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
