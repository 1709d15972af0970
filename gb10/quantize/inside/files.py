"""From what the user names to the files of one checkpoint and everything that their heads say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from gb10.errors import UserError
from gb10.quantize.inside.gguf import GGUF, read_gguf
from gb10.quantize.inside.guard import read_json
from gb10.quantize.inside.header import MOST_TENSORS, TensorInfo, read_header
from gb10.quantize.inside.sniff import HEAD, UNFINISHED, container, damaged, opened, refuse, show

MOST_FILES = 10_000
INDEX = "model.safetensors.index.json"
_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf\Z", re.DOTALL)
_SHARD = re.compile(r".*-\d{5}-of-\d{5}\.safetensors\Z", re.DOTALL)


@dataclass
class Source:
    """The files of one checkpoint, read as far as their heads go."""

    path: Path                                          # as the user named it
    folder: Path
    container: str                                      # "safetensors" or "gguf"
    tensors: list[TensorInfo] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)         # name -> bytes
    metadata: dict = field(default_factory=dict)        # of the safetensors header, or the pairs of the first GGUF
    configs: dict[str, dict] = field(default_factory=dict)      # config.json, hf_quant_config.json: what is there
    warnings: list[tuple[str, str]] = field(default_factory=list)       # (code, sentence)
    notes: list[str] = field(default_factory=list)


def open_source(path: str | Path) -> Source:
    """Read the heads of a checkpoint: a folder, a .safetensors or a .gguf file. Raises UserError for what isn't one."""
    path = Path(path)
    try:
        is_folder, is_file = path.is_dir(), path.exists()
    except (OSError, ValueError) as e:                  # a name too long, or with a zero byte
        raise refuse(path, f"can't be read: {getattr(e, 'strerror', None) or e}.") from None
    if is_folder:
        return _folder(path)
    if not is_file and not path.is_symlink():
        raise refuse(path, "is not there: give a checkpoint's folder, a .safetensors or a .gguf file.")
    if path.suffix == ".json":
        raise refuse(path, "is no checkpoint itself: give the folder that it lies in.")
    if path.name.endswith(UNFINISHED):
        raise refuse(path, "is an unfinished download: fetch it again.")
    with opened(path) as (file, size):
        kind = container(path, file.read(HEAD), size)
    if kind == "gguf":
        return _gguf(path, path)
    source = Source(path, path.parent, kind)
    if _SHARD.match(path.name):
        source.notes.append("one shard of several: give the folder to see the whole model.")
    _read(source, [path])
    _configs(source)
    return source


def safetensors_files(folder: Path) -> tuple[list[Path], dict[str, str] | None]:
    """The safetensors files of a folder that make up its model, and the weight_map of its index if it has one."""
    there = _listed(folder)
    found = sorted(p for p in there if p.name.endswith(".safetensors"))
    index = next((p for p in there if p.name == INDEX), None) or next(
        iter(sorted(p for p in there if p.name.endswith(".safetensors.index.json"))), None)
    if index is None:
        whole = [p for p in found if not p.name.startswith("consolidated")]     # Mistral's second copy
        return whole or found, None
    shards = _weight_map(index)
    files = [folder / name for name in sorted(set(shards.values()))]
    missing = [p.name for p in files if not p.exists() and not p.is_symlink()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise refuse(folder, f"lacks {show(missing[0])}{more}, which {index.name} lists: its download isn't finished.")
    return files, shards


def _listed(folder: Path) -> list[Path]:
    found = []
    try:
        for path in folder.iterdir():
            if path.name.startswith("."):                # a system's own notes (._model.safetensors), a hub's cache
                continue
            found.append(path)
            if len(found) > MOST_FILES:
                raise refuse(folder, f"holds more than {MOST_FILES:,} files: it is no checkpoint.")
    except OSError as e:
        raise refuse(folder, f"can't be read: {e.strerror}.") from None
    return found


def _weight_map(index: Path) -> dict[str, str]:
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(v, str) for v in shards.values()):
        raise damaged(index, "it has no weight_map from tensors to files")
    for name in set(shards.values()):
        if not name or name in (".", "..") or re.search(r"[/\\\0]", name):
            raise refuse(index, f"names the file {show(name)!r}, which does not lie in its folder: it isn't read.")
        if not name.endswith(".safetensors"):
            raise refuse(index, f"names {show(name)!r}, which is no .safetensors file: it isn't read.")
    return shards


def _folder(folder: Path) -> Source:
    files, shards = safetensors_files(folder)
    if not files:
        return _other(folder)
    source = Source(folder, folder, "safetensors")
    _read(source, files)
    left = sorted(p.name for p in _listed(folder) if p.suffix == ".safetensors" and p.name not in source.files)
    if left:
        source.notes.append(f"not part of the model, and not read: {', '.join(map(show, left[:3]))}"
                            + (f" and {len(left) - 3} more." if len(left) > 3 else "."))
    if shards is not None:
        _compare_index(source, shards)
    unfinished = [p for p in _listed(folder) if p.name.endswith(UNFINISHED)]
    if unfinished:
        source.warnings.append((
            "unfinished-download", f"an unfinished download lies beside it: {show(unfinished[0].name)}."))
    _configs(source)
    return source


def _other(folder: Path) -> Source:
    """A folder without safetensors: GGUF, or a sentence that says what to do."""
    there = _listed(folder)
    names = {p.name for p in there}
    models = sorted(p for p in there if p.name.endswith(".gguf") and not p.name.startswith("mmproj"))
    first = [p for p in models if not (m := _SPLIT.match(p.name)) or int(m[2]) == 1] or models[:1]
    if len(first) == 1:
        return _gguf(first[0], folder)
    if first:
        raise refuse(folder, f"holds {len(first)} GGUF models: name one, such as {show(folder / first[0].name)}.")
    if "snapshots" in names:
        inside = sorted((folder / "snapshots").iterdir()) if (folder / "snapshots").is_dir() else []
        raise refuse(folder, "is a model of the hub's cache: give the folder " + (
            f"{show(inside[-1], 300)}." if inside else "in its snapshots/, once the model is downloaded."))
    if any(n.endswith(UNFINISHED) for n in names):
        raise refuse(folder, "holds only an unfinished download: fetch it again.")
    pickled = sorted(n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt")))
    raise refuse(folder, "holds no *.safetensors or *.gguf file" + (
        f"; its weights are pickled ({show(pickled[0])}), which can run code when read: convert it to safetensors "
        f"where you trust it." if pickled else ": it isn't a checkpoint, or its download isn't finished."))


def _read(source: Source, files: list[Path]) -> None:
    seen: dict[str, str] = {}
    for path in files:
        header = read_header(path)
        source.files[path.name] = header.size
        source.metadata = source.metadata or header.metadata
        if len(source.tensors) + len(header.tensors) > MOST_TENSORS:
            raise refuse(source.path, f"has more than {MOST_TENSORS:,} tensors: no model has so many.")
        for t in header.tensors:
            if t.name in seen:
                twice = f"{show(t.name)} is in two files, {show(seen[t.name])} and {show(t.file)}"
                source.warnings.append(("duplicate-tensor", f"{twice}: which one counts is up to the engine."))
                continue
            seen[t.name] = t.file
            source.tensors.append(t)
    if not source.tensors:
        raise refuse(source.path, "holds no tensors.")


def _compare_index(source: Source, shards: dict[str, str]) -> None:
    at = {t.name: t.file for t in source.tensors}
    gone = [n for n in shards if n not in at]
    moved = [n for n in shards if n in at and at[n] != shards[n]]
    unlisted = [n for n in at if n not in shards]
    for code, names, what in (
            ("index-names-missing-tensor", gone, "is listed in the index and is in no file"),
            ("index-names-wrong-file", moved, "is in another file than the index says"),
            ("tensor-not-in-index", unlisted, "is in a file and not in the index: engines may not load it")):
        if names:
            more = f" (and {len(names) - 1:,} more like it)" if len(names) > 1 else ""
            source.warnings.append((code, f"{show(names[0])} {what}{more}."))


def _configs(source: Source) -> None:
    for name in ("config.json", "hf_quant_config.json", "quantize_config.json"):
        path = source.folder / name
        try:
            if path.exists() or path.is_symlink():
                source.configs[name] = read_json(path)
        except UserError as e:               # the tensors can still be shown
            source.warnings.append(("config-unreadable", e.message))


def _gguf(first: Path, named: Path) -> Source:
    source = Source(named, first.parent, "gguf")
    for head in _splits(first):
        source.files[head.path.name] = head.size
        source.metadata = source.metadata or head.pairs
        source.tensors += head.tensors
    if not source.tensors:
        raise refuse(named, "holds no tensors (a vocabulary only).")
    names = [t.name for t in source.tensors]
    if len(set(names)) < len(names):
        raise damaged(named, "two of its files hold the same tensor")
    total = source.metadata.get("split.tensors.count")
    if type(total) is int and total != len(names):
        source.warnings.append((
            "split-count", f"its first file speaks of {total:,} tensors, and there are {len(names):,}."))
    return source


def _splits(path: Path) -> list[GGUF]:
    """The heads of all files of a split model, whichever of them was named."""
    match = _SPLIT.match(path.name)
    if not match:
        head = read_gguf(path)
        if (head.number("split.count") or 1) > 1:
            raise refuse(path, f"is one of {head.number('split.count')} files of a split model, and renamed: give them "
                               f"their names back (…-00001-of-0000N.gguf).")
        return [head]
    base, _, count = match.groups()
    if not 1 <= int(count) <= 1000:
        raise refuse(path, f"claims to be one of {int(count)} files.")
    files = [path.with_name(f"{base}-{i:05d}-of-{count}.gguf") for i in range(1, int(count) + 1)]
    missing = [p for p in files if not p.exists() and not p.is_symlink()]
    if missing:
        gone = show(missing[0].name)
        raise refuse(path, f"is part of a model in {int(count)} files, and {gone} is missing: fetch it.")
    return [read_gguf(p) for p in files]
