"""Text to calibrate on, and the ranges seen so far, kept so that an interrupted calibration goes on."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from gb10.errors import UserError

EVERY = 10.0                           # seconds between two savings


def read_text(path: Path) -> str:
    """A text file, or the "text" fields of a .jsonl file. Raises UserError for what is neither."""
    try:
        content = path.read_text(encoding="utf-8")
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: give a text file to calibrate on, or a .jsonl file with a \"text\" in each "
                        f"line.") from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path} can't be read as text ({getattr(e, 'strerror', None) or 'not UTF-8'}): give a text file to "
                        f"calibrate on.") from None
    if path.suffix == ".jsonl":
        try:
            rows = [json.loads(line) for line in content.splitlines() if line.strip()]
            content = "\n\n".join(row["text"] for row in rows)
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path} isn't what a .jsonl file to calibrate on should be: one JSON object with a \"text\" "
                            f"in each line.") from None
    if not content.strip():
        raise UserError(f"{path} is empty: give a text file to calibrate on.")
    return content.replace("<|endoftext|>", "")


def samples(tokenizer, text: str, count: int, length: int, batch: int) -> list:
    """`count` samples of `length` tokens, int64 batches [batch, length]. UserError if the text hasn't got so many.

    They are taken from all over the text, at even distances: a text that changes its subject is seen whole.
    """
    import torch

    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"], dtype=torch.long)
    there = len(ids) // length
    if there < count:
        raise UserError(f"the text gives {there} samples of {length} tokens, and {count} are asked for: give a longer text "
                        f"(--calib-data), or ask for fewer (--calib {max(there, 1)}).")
    chosen = [i * there // count for i in range(count)]
    rows = torch.stack([ids[i * length:(i + 1) * length] for i in chosen])
    return list(rows.split(batch))


def digest(batches: list) -> str:
    made = hashlib.sha256()
    for ids in batches:
        made.update(str(tuple(ids.shape)).encode() + ids.numpy().tobytes())
    return made.hexdigest()


class Ranges:
    """The largest magnitudes that a max calibration has seen, saved from time to time.

    The largest of all batches is the largest of some and of the rest, in whatever order: what was saved can be merged in
    after the first batch of a later run, and the result is the same to the bit. Searches (AWQ, GPTQ …) begin anew.
    """

    def __init__(self, model, path: Path, identity: dict, batches: list):
        self.model, self.path, self.identity = model, path, {**identity, "batches": digest(batches)}
        self.before, self.saved = self._read()
        self.left = batches[self.before:] or batches[-1:]      # the last one again, if all were done: it changes nothing
        self.total, self.last = len(batches), time.monotonic()

    def after_batch(self, i: int) -> None:
        """To be called with 1, 2, … after each batch of `left`."""
        if i == 1 and self.saved:
            self._merge()
        done = min(self.before + i, self.total)
        if time.monotonic() - self.last >= EVERY or done == self.total:
            self._save(done)

    def _calibrators(self):
        for name, module in self.model.named_modules():
            calibrator = getattr(module, "_calibrator", None)
            if calibrator is not None and hasattr(calibrator, "_calib_amax"):
                yield name, calibrator

    def _merge(self) -> None:
        import torch

        for name, calibrator in self._calibrators():
            before, now = self.saved.get(name), calibrator._calib_amax
            if before is not None:                   # now is None for an expert that has seen no token since
                calibrator._calib_amax = before if now is None else torch.maximum(now, before.to(now))
        self.saved = {}

    def _read(self) -> tuple[int, dict]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(self.path), framework="pt") as file:
                noted = file.metadata() or {}
                if json.loads(noted.get("identity", "null")) != self.identity:
                    return 0, {}
                return int(noted["done"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, ValueError, KeyError, SafetensorError):
            return 0, {}

    def _save(self, done: int) -> None:
        from safetensors.torch import save_file

        found = {name: calibrator._calib_amax.detach().cpu().contiguous().clone()
                 for name, calibrator in self._calibrators() if calibrator._calib_amax is not None}
        beside = self.path.with_suffix(".new")
        save_file(found, beside, metadata={"identity": json.dumps(self.identity), "done": str(done)})
        os.replace(beside, self.path)
        self.last = time.monotonic()
