"""JSON from a file that may be hostile: bounded before it is parsed, no key twice, never deeper than Python can go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from gb10.quantize.inside.sniff import damaged, opened, refuse

CONFIG_LIMIT = 64_000_000        # bytes of a config.json; mixed precision names each of tens of thousands of layers
ITEMS = 6_000_000                # most lists, dicts and members: bounds the memory of what json builds


def parse(raw: bytes, path: Path, *, what: str, pairs: Callable | None = None):
    """The value of a JSON text. Raises UserError for what isn't JSON, names a key twice, or is absurdly big.

    pairs: object_pairs_hook, for a caller that builds something smaller than dicts; else a dict without twins.
    """
    if raw.count(b"[") + raw.count(b"{") + raw.count(b",") > ITEMS:
        raise refuse(path, f"has more entries in {what} than any model: it isn't read.")

    def unique(found: list) -> dict:
        out = dict(found)
        if len(out) < len(found):
            raise damaged(path, f"{what} has a key twice")
        return out

    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=pairs or unique)
    except RecursionError:
        raise damaged(path, f"{what} is nested too deep") from None
    except ValueError:                       # not JSON, not UTF-8, a number of thousands of digits
        raise damaged(path, f"{what} is not valid JSON") from None


def read_json(path: Path) -> dict:
    """A JSON file that must hold an object, such as config.json."""
    with opened(path) as (file, size):
        if size > CONFIG_LIMIT:
            raise refuse(path, f"is {size:,} bytes long, more than any such file: it isn't read.")
        raw = file.read(CONFIG_LIMIT + 1)
    if raw.startswith(b"version https://git-lfs"):
        raise refuse(path, "is a git-lfs pointer, not the file itself: fetch it with 'git lfs pull', or download it.")
    found = parse(raw, path, what="it")
    if not isinstance(found, dict):
        raise damaged(path, "it is not a JSON object")
    return found
