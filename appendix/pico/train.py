"""Train pico from nothing: tokenizer, then one run over documentation, source code, and questions and answers.

    python appendix/pico/train.py --smoke              # does it work here? a toy run, under a minute
    python appendix/pico/train.py --steps 2000         # the real thing: over an hour on two cores

What happens in a run of N steps (one step: 8,192 tokens of text, and in the later part 4,096 of questions):

    learning rate   50 steps warm-up, constant for the first half, then linearly to zero
    text            documentation in every epoch, half of the standard library's source in the first epoch
    row length      256 tokens at first, 512 after 40 % of the steps, 1,024 after 80 %
    questions       now and then after 25 % of the steps, two batches per step after 65 %; only answers count

An interrupted run goes on where it was: start the same command again. The checkpoint holds weights, optimizers,
random generators, the place in the data and the log, and it is replaced in one step, so that a crash while
writing leaves the previous one. A run that was started with other settings is not silently continued, with one
exception: nothing in the first quarter of a run depends on --steps, so until then --steps may be changed, for
instance once the speed is known; the result is that of a run that had the new number from the start.
"""
import argparse
import csv
import ctypes
import json
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from appendix.pico import data
from appendix.pico import tokenizer as bpe
from appendix.pico.evaluate import bits_per_byte
from appendix.pico.model import Config, Pico, export, parameters_of
from appendix.pico.muon import Muon
from appendix.pico.questions import conversations


def keep_memory() -> None:
    """Tell glibc to keep freed memory. Otherwise every large tensor is mapped and paged in anew, step after step."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 32 * 2**20)          # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)           # M_TRIM_THRESHOLD
        libc.mallopt(-2, 256 * 2**20)         # M_TOP_PAD
    except OSError:
        pass                                  # another C library: slower, otherwise the same


LOG_COLUMNS = ["step", "tokens", "text_loss", "answer_loss", "learning_rate", "row_length", "tokens_per_second",
               "seconds", "held_out_bits_per_byte"]


@dataclass
class Recipe:
    """Everything that decides what comes out, besides the data itself."""
    seed: int = 0
    steps: int = 2000
    window: int = 1024            # tokens per window of the text stream; rows are cut from windows
    windows: int = 8              # windows per step
    micro_tokens: int = 2048      # tokens per backward pass (gradients add up)
    answer_tokens: int = 2048     # tokens per batch of chats, padding included
    warmup: int = 50
    decay_from: float = 0.5       # share of the steps with a constant learning rate
    lr_matrix: float = 0.02       # Muon
    lr_embed: float = 0.006       # AdamW, embeddings and norms
    weight_decay: float = 0.05
    vocab_size: int = 4096
    hidden: int = 256
    layers: int = 6
    ffn: int = 768
    often: int = 24               # how often one pass over the chats asks about each of the hundred functions

    def row_length(self, step: int) -> int:
        p = step / self.steps
        return self.window // 4 if p < 0.4 else self.window // 2 if p < 0.8 else self.window

    def chat_batches(self, step: int) -> int:
        p = step / self.steps
        return 0 if p < 0.25 else int(step % 3 == 0) if p < 0.65 else 2

    def rate(self, step: int) -> float:
        """The learning rate's factor at a step: warm-up, constant, linear to zero."""
        p = step / self.steps
        return min(1.0, (step + 1) / self.warmup, (1 - p) / (1 - self.decay_from))


class TextStream:
    """Windows of the tokenized text; every epoch its documents and windows come in a new seeded order.

    The position is two integers (epoch, cursor), so that a resumed run reads on at the very same window.
    """

    def __init__(self, docs: list[list[int]], source: list[list[int]], recipe: Recipe, separator: int):
        self.docs, self.source, self.recipe, self.separator = docs, source, recipe, separator
        self.epoch, self.cursor = 0, 0
        self.open()

    def open(self):
        rng = random.Random(self.recipe.seed * 1000 + self.epoch)
        chosen = list(self.docs)
        if self.epoch < 1:                                       # every second source module, once
            chosen += self.source[::2]
        rng.shuffle(chosen)
        flat = [t for ids in chosen for t in (self.separator, *ids)]
        skip = rng.randrange(min(self.recipe.window, max(1, len(flat) // 4)))
        n = (len(flat) - skip - 1) // self.recipe.window
        if n < 1:
            raise SystemExit("The text is shorter than one training window; give train.py more documents.")
        self.flat, self.starts = torch.tensor(flat), [skip + i * self.recipe.window for i in range(n)]
        rng.shuffle(self.starts)

    def next(self, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets [rows * window / length, length]; targets are the inputs one token later."""
        w, out = self.recipe.window, []
        while len(out) < rows:
            if self.cursor >= len(self.starts):
                self.epoch, self.cursor = self.epoch + 1, 0
                self.open()
            start = self.starts[self.cursor]
            out.append(self.flat[start:start + w + 1])
            self.cursor += 1
        both = torch.stack(out)
        return both[:, :-1].reshape(-1, length), both[:, 1:].reshape(-1, length)

    def state(self) -> dict:
        return {"epoch": self.epoch, "cursor": self.cursor}

    def restore(self, state: dict) -> None:
        self.epoch, self.cursor = state["epoch"], state["cursor"]
        self.open()


class ChatStream:
    """Batches of chats of similar length, each chat from position 0 as in use; only answers are targets."""

    def __init__(self, corpus: data.Corpus, tokenizer, recipe: Recipe):
        self.corpus, self.tokenizer, self.recipe = corpus, tokenizer, recipe
        self.round, self.cursor = 0, 0
        self.batches = None

    def open(self):
        seed = self.recipe.seed * 1000 + self.round
        often = {e.name for e, _ in self.corpus.top}
        chats = conversations(list(self.corpus.known.values()), often, seed, self.recipe.often)
        coded = sorted((bpe.chat_ids(self.tokenizer, c) for c in chats), key=lambda c: len(c[0]))
        self.batches, batch = [], []
        for chat in coded:
            if batch and (len(batch) + 1) * len(chat[0]) > self.recipe.answer_tokens:
                self.batches.append(batch)
                batch = []
            batch.append(chat)
        self.batches.append(batch)
        random.Random(seed).shuffle(self.batches)

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self.batches is None:
            self.open()
        if self.cursor >= len(self.batches):
            self.round, self.cursor = self.round + 1, 0
            self.open()
        batch = self.batches[self.cursor]
        self.cursor += 1
        length = min(max(len(ids) for ids, _ in batch), 1024) - 1
        x = torch.full((len(batch), length), self.tokenizer.token_to_id(data.EOT))
        y = torch.full((len(batch), length), -100)
        for row, (ids, answer) in enumerate(batch):
            n = min(len(ids) - 1, length)
            x[row, :n] = torch.tensor(ids[:n])
            y[row, :n] = torch.tensor([t if a else -100 for t, a in zip(ids[1:n + 1], answer[1:n + 1])])
        return x, y

    def state(self) -> dict:
        return {"round": self.round, "cursor": self.cursor}

    def restore(self, state: dict) -> None:
        self.round, self.cursor, self.batches = state["round"], state["cursor"], None


class Trainer:
    """Model, optimizers, data and log of one run; `run` goes on from wherever they are."""

    def __init__(self, recipe: Recipe, corpus: data.Corpus, work: Path, out: Path, log: Path, device: str = "cpu",
                 compiled: bool = False):
        self.recipe, self.work, self.out, self.log, self.device = recipe, Path(work), Path(out), Path(log), device
        self.tokenizer = self.make_tokenizer(corpus)
        bpe.save(self.tokenizer, self.out)
        self.ids = {t: self.tokenizer.token_to_id(t) for t in bpe.SPECIAL}
        torch.manual_seed(recipe.seed)
        self.model = Pico(Config(recipe.vocab_size, recipe.hidden, recipe.layers, recipe.ffn)).to(device)
        matrices = [p for n, p in self.model.named_parameters() if p.dim() == 2 and "embed" not in n]
        others = [p for n, p in self.model.named_parameters() if p.dim() != 2 or "embed" in n]
        self.optimizers = [Muon(matrices, lr=recipe.lr_matrix, weight_decay=recipe.weight_decay),
                           torch.optim.AdamW(others, lr=recipe.lr_embed, betas=(0.9, 0.95), weight_decay=0.0)]
        for o in self.optimizers:
            for g in o.param_groups:
                g["peak"] = g["lr"]
        code = lambda texts: [e.ids for e in self.tokenizer.encode_batch(texts)]
        self.text = TextStream(code(list(corpus.train.values())), code(list(corpus.source.values())), recipe,
                               self.ids[data.EOT])
        self.chats = ChatStream(corpus, self.tokenizer, recipe)
        self.watch = [t[:6000] for t in list(corpus.held.values())[:12]]         # watched while training, never used
        self.step = self.tokens = 0
        self.seconds = 0.0
        self.rows: list[dict] = []
        self.loss_of = torch.compile(self.model.loss, dynamic=False) if compiled else self.model.loss

    def make_tokenizer(self, corpus: data.Corpus):
        """The tokenizer of this work folder, trained once: documentation, a quarter of the source, chats."""
        path = self.work / "tokenizer.json"
        if not path.exists():
            chats = conversations(list(corpus.known.values()), {e.name for e, _ in corpus.top}, self.recipe.seed, 4)
            said = ["\n".join(m["content"] for m in c) for c in chats]
            made = bpe.train([*corpus.train.values(), *list(corpus.source.values())[::4], *said], self.recipe.vocab_size)
            path.parent.mkdir(parents=True, exist_ok=True)
            made.save(str(path))
        return bpe.load(self.work)

    # -- one step ---------------------------------------------------------------------------------------
    def train_step(self) -> tuple[float, float | None]:
        """One optimizer step. Returns the mean loss on text and on answers, in nats per token."""
        r = self.recipe
        chat = [self.chats.next() for _ in range(r.chat_batches(self.step))]
        chat_tokens = sum(x.numel() for x, _ in chat)
        text_tokens = r.windows * r.window
        x, y = self.text.next(r.windows, r.row_length(self.step))
        text_share = text_tokens / (text_tokens + chat_tokens)
        rows = max(1, r.micro_tokens // x.shape[1])                # rows per backward pass: small ones stay in the cache
        text = 0.0
        for i in range(0, len(x), rows):
            one = self.loss_of(x[i:i + rows].to(self.device), y[i:i + rows].to(self.device))
            (one * text_share * len(x[i:i + rows]) / len(x)).backward()
            text += one.item() * len(x[i:i + rows]) / len(x)
        answer = []
        for cx, cy in chat:
            one = self.model.masked_loss(cx.to(self.device), cy.to(self.device))
            (one * (1 - text_share) / len(chat)).backward()
            answer.append(one.item())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for o in self.optimizers:
            for g in o.param_groups:
                g["lr"] = g["peak"] * r.rate(self.step)
            o.step()
            o.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += text_tokens + chat_tokens
        return text, sum(answer) / len(answer) if answer else None

    # -- interruption and resumption --------------------------------------------------------------------
    @property
    def checkpoint(self) -> Path:
        return self.work / "checkpoint.pt"

    def save(self) -> None:
        state = {"recipe": vars(self.recipe), "step": self.step, "tokens": self.tokens, "seconds": self.seconds,
                 "model": self.model.state_dict(), "optimizers": [o.state_dict() for o in self.optimizers],
                 "text": self.text.state(), "chats": self.chats.state(), "rows": self.rows,
                 "random": torch.get_rng_state()}
        new = self.checkpoint.with_suffix(".new")
        torch.save(state, new)
        os.replace(new, self.checkpoint)

    def resume(self) -> bool:
        """Go on from the checkpoint if there is one; refuse one that was made by another recipe."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        changed = [k for k, v in vars(self.recipe).items() if state["recipe"].get(k) != v]
        first_quarter = state["step"] <= min(state["recipe"]["steps"], self.recipe.steps) // 4
        if changed and not (set(changed) <= {"steps", "often"} and first_quarter):
            raise SystemExit(f"{self.checkpoint} was made with other settings ({', '.join(changed)}). Repeat its "
                             "command to go on with it, or add --fresh to start over.")
        self.model.load_state_dict(state["model"])
        for o, s in zip(self.optimizers, state["optimizers"]):
            o.load_state_dict(s)
        self.text.restore(state["text"])
        self.chats.restore(state["chats"])
        self.step, self.tokens, self.seconds, self.rows = (state[k] for k in ("step", "tokens", "seconds", "rows"))
        torch.set_rng_state(state["random"].cpu())
        return True

    def write_log(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        new = self.log.with_suffix(".csv.new")
        with open(new, "w", newline="") as f:
            writer = csv.DictWriter(f, LOG_COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(new, self.log)

    # -- the loop ---------------------------------------------------------------------------------------
    def run(self, stop_at: int | None = None, save_every: float = 240.0, log_every: int = 20) -> None:
        r = self.recipe
        end = min(stop_at or r.steps, r.steps)
        saved = mark = time.time()
        mark_tokens, text_sum, text_n, answers = self.tokens, 0.0, 0, []
        while self.step < end:
            text, answer = self.train_step()
            text_sum, text_n = text_sum + text, text_n + 1
            if answer is not None:
                answers.append(answer)
            now = time.time()
            if self.step % log_every == 0 or self.step == end:
                speed = (self.tokens - mark_tokens) / (now - mark)
                self.seconds += now - mark
                left = (r.steps - self.step) * self.seconds / self.step * (1 + 0.3 * (self.step < 0.65 * r.steps))
                row = {"step": self.step, "tokens": self.tokens, "text_loss": round(text_sum / text_n, 4),
                       "answer_loss": round(sum(answers) / len(answers), 4) if answers else "",
                       "learning_rate": round(r.lr_matrix * r.rate(self.step - 1), 6),
                       "row_length": r.row_length(self.step - 1), "tokens_per_second": round(speed),
                       "seconds": round(self.seconds), "held_out_bits_per_byte": ""}
                if self.watch and (self.step % (log_every * 10) == 0 or self.step == r.steps):
                    self.model.eval()
                    row["held_out_bits_per_byte"] = round(bits_per_byte(
                        lambda ids: self.model(ids.to(self.device)).cpu(), lambda t: self.tokenizer.encode(t).ids,
                        self.watch, self.ids[data.EOT])["bits_per_byte"], 4)
                    self.model.train()
                self.rows.append(row)
                self.write_log()
                print(f"step {self.step}/{r.steps}  text {row['text_loss']:.3f}  answers {row['answer_loss'] or '-'}  "
                      f"{row['tokens_per_second']} tokens/s  {self.tokens / 1e6:.2f} M tokens  ETA {left / 60:.0f} min"
                      + (f"  held out {row['held_out_bits_per_byte']} bits/byte" if row["held_out_bits_per_byte"] else ""),
                      flush=True)
                mark, mark_tokens, text_sum, text_n, answers = time.time(), self.tokens, 0.0, 0, []
            if now - saved > save_every:
                self.save()
                export(self.model, self.out, self.ids)
                saved = time.time()
        self.save()
        export(self.model, self.out, self.ids)
        self.write_log()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=Recipe.steps,
                        help="optimizer steps in all; the learning rate's decay ends exactly there (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="decides weights, data order and questions (default: 0)")
    parser.add_argument("--work", type=Path, default=data.DEFAULT_WORK,
                        help="folder for downloads and the checkpoint, about 150 MB (default: .course/pico)")
    parser.add_argument("--docs", type=Path, help="documentation folder, instead of downloading the Debian package")
    parser.add_argument("--out", type=Path, help="where the model goes (default: WORK/model)")
    parser.add_argument("--log", type=Path, help="training log, CSV (default: WORK/training_log.csv)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda; auto takes a GPU where there is one")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--compile", action="store_true", help="torch.compile for the text batches (needs a C++ compiler)")
    parser.add_argument("--stop-at", type=int, metavar="STEP", help="stop after this step; the same command without "
                        "--stop-at goes on, to the same result")
    parser.add_argument("--fresh", action="store_true", help="forget the checkpoint and start over (default: resume)")
    parser.add_argument("--smoke", action="store_true", help="a toy model on a few documents, under a minute")
    args = parser.parse_args()
    if args.steps < 1:
        parser.error("--steps must be at least 1")
    work = args.work / "smoke" if args.smoke else args.work
    out, log = args.out or work / "model", args.log or work / "training_log.csv"
    keep_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    recipe = Recipe(seed=args.seed, steps=args.steps)
    if args.smoke:
        recipe = Recipe(seed=args.seed, steps=min(args.steps, 24), window=128, windows=4, answer_tokens=256, warmup=4,
                        vocab_size=512, hidden=64, layers=2, ffn=128, often=2)
    if args.fresh:
        for path in (work / "checkpoint.pt", work / "tokenizer.json"):
            path.unlink(missing_ok=True)
    print(f"reading the documentation on {device} with {torch.get_num_threads()} threads", flush=True)
    corpus = data.load(args.work, args.docs, smoke=args.smoke)
    trainer = Trainer(recipe, corpus, work, out, log, device, args.compile)
    resumed = trainer.resume()
    print(f"pico: {parameters_of(trainer.model) / 1e6:.2f} M parameters, {recipe.steps} steps, "
          + (f"resuming at step {trainer.step}" if resumed else "from the start"), flush=True)
    trainer.run(args.stop_at, log_every=4 if args.smoke else 20)
    print(f"{'finished' if trainer.step >= recipe.steps else 'stopped'} at step {trainer.step}: "
          + json.dumps({"model": str(out), "log": str(log), "tokens": trainer.tokens, "seconds": round(trainer.seconds)}))


if __name__ == "__main__":
    main()
