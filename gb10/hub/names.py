"""Which names are taken: of models, and of the files in their repositories."""

from __future__ import annotations

import fnmatch
import re

from gb10.errors import UserError

NOTE = "gb10-revision.json"         # the store's own file in each folder: no repository may bring one
WANTED = ("*.safetensors", "*.json", "tokenizer.model", "*.tiktoken", "merges.txt", "vocab.txt", "chat_template.jinja",
          "LICENSE*", "README.md")
LONGEST = 200                       # characters of a file's name; file systems take 255 bytes, `.part` is added
_WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_HUB_NAME = re.compile(rf"{_WORD}/{_WORD}")


def checked(repo: str) -> str:
    """The name of a model, if it can be one on the hub: owner/name, neither `--` nor `..`, at most 96 characters.

    These are the hub's own rules (huggingface_hub, validate_repo_id); what they allow is safe as a folder's name, and
    OWNER--NAME stands for one model only.
    """
    if not isinstance(repo, str) or len(repo) > 96 or not _HUB_NAME.fullmatch(repo) or "--" in repo or ".." in repo:
        shown = repr(repo if len(str(repo)) <= 100 else str(repo)[:97] + "...")
        raise UserError(f"{shown} is not a model's name on the hub: it has the form owner/name.")
    return repo


def wanted(name: str) -> bool:
    """Is this file of a repository fetched? Only what lies at its top under a plain name, and no pickles."""
    return (any(fnmatch.fnmatchcase(name, p) for p in WANTED) and len(name) <= LONGEST and name.isprintable()
            and not re.search(r'[/\\:*?"<>|]', name) and not name.startswith(".") and name == name.strip()
            and not name.lower().endswith((".part", ".tmp")) and name.lower() != NOTE)
