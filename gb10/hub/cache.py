"""Models in the Hugging Face cache, which other programs fill too: read, never changed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from gb10.hub.names import checked, wanted


@dataclass(frozen=True)
class Snapshot:
    """One revision of a model as the cache holds it."""

    repo: str
    revision: str
    path: Path
    bytes: int                  # on disk
    main: bool                  # what the branch main was when it was fetched last
    modified: float

    @property
    def whole(self) -> bool:
        return is_whole(self.path)


def snapshots() -> list[Snapshot]:
    """Every revision of every model in the cache (HF_HUB_CACHE, HF_HOME or ~/.cache/huggingface/hub)."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        found = scan_cache_dir(constants.HF_HUB_CACHE)
    except (CacheNotFound, ValueError, OSError):
        return []
    return [Snapshot(r.repo_id, v.commit_hash, v.snapshot_path, v.size_on_disk, "main" in v.refs, v.last_modified)
            for r in sorted(found.repos, key=lambda r: r.repo_id) if r.repo_type == "model"
            for v in sorted(r.revisions, key=lambda v: v.commit_hash)]


def cached(repo: str) -> Path | None:
    """The folder of a model that is whole in the cache, main before other revisions, newest first; None if there is none."""
    found = [s for s in snapshots() if s.repo == checked(repo) and s.whole]
    return max(found, key=lambda s: (s.main, s.modified)).path if found else None


def is_whole(path: Path) -> bool:
    """Has a snapshot its config.json and all its weights? The cache itself keeps no list of what belongs to a model."""
    if not (path / "config.json").is_file():
        return any(path.glob("*.gguf"))
    index = path / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
            return False
        return bool(shards) and all("/" not in str(s) and (path / str(s)).is_file() for s in shards)
    weights = [f.name for f in path.glob("*.safetensors") if f.is_file()]
    return bool(weights) and not any(re.search(r"-of-\d+\.safetensors$", f) for f in weights)


def files(path: Path) -> dict[str, tuple[Path, str | None]]:
    """The files of a snapshot that the course would fetch: name -> (where it really lies, its SHA-256 or None).

    The cache names the blob of a large file by its SHA-256, that of a small one by git's hash.
    """
    out = {}
    for f in sorted(path.iterdir()):
        if wanted(f.name) and f.is_file():
            blob = f.resolve()
            out[f.name] = blob, blob.name if re.fullmatch(r"[0-9a-f]{64}", blob.name) else None
    return out
