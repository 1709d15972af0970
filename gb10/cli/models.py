"""./course models: fetch models, see what is here, verify it, and carry it to machines without network."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HELP = ("Models on this machine: get them from the Hugging Face hub, list, verify and remove them, and carry them to "
        "machines without network as a bundle. Without a sub-command: list.")
EXAMPLES = """\
  ./course models                                   what is here, how large, in which format, whole or in part
  ./course models get Qwen/Qwen3-0.6B --dry-run     how much it is, whether it fits, whether its terms must be accepted
  ./course models get Qwen/Qwen3-0.6B               fetch it; stopped or cut off, the same command goes on
  ./course models verify                            every byte against its SHA-256
  ./course models bundle /media/stick Qwen/Qwen3-0.6B nvidia/Qwen3-8B-NVFP4
  ./course models install /media/stick              on the other machine; no network is needed
  ./course models share /media/stick --bind 192.168.1.20      to a room; there: ./course models install http://...

Models lie in .course/models; what other programs fetched, in the Hugging Face cache, is listed and bundled too. Gated
models: accept the terms on the model's page, make a fine-grained token with read access to gated repositories
(https://huggingface.co/settings/tokens), and put it into the environment for this shell alone, without the shell's
history keeping it:   read -rs HF_TOKEN && export HF_TOKEN

A bundle's SHA-256 tell damage. Who makes a bundle is trusted like who hands you a stick; only weights in safetensors,
JSON and tokenizer files are taken from it, never code.
"""


def add_arguments(parser) -> None:
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    subs = parser.add_subparsers(dest="what", metavar="SUB-COMMAND", title="sub-commands")

    def sub(name: str, text: str, *, as_json: bool = True):
        made = subs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        if as_json:
            made.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one line of JSON")
        return made

    sub("list", "what is here: the course's own store, and the Hugging Face cache")
    get = sub("get", "fetch models from the Hugging Face hub")
    get.add_argument("models", nargs="+", metavar="MODEL", help="owner/name")
    get.add_argument("--revision", metavar="R", help="a branch, a tag or a commit (default: the newest)")
    get.add_argument("--dry-run", action="store_true", help="say what would be fetched; nothing is written")
    verify = sub("verify", "sizes, SHA-256 and headers of what is here")
    verify.add_argument("models", nargs="*", metavar="MODEL", help="owner/name (default: all of the course's store)")
    remove = sub("remove", "delete a model from the course's own store", as_json=False)
    remove.add_argument("model", metavar="MODEL", help="owner/name")
    remove.add_argument("--yes", action="store_true", help="don't ask")
    bundle = sub("bundle", "put models that are here into a folder that other machines install from")
    bundle.add_argument("out", type=Path, metavar="OUT", help="a folder, a stick; made if need be, added to if it is a bundle")
    bundle.add_argument("models", nargs="+", metavar="MODEL", help="owner/name")
    share = sub("share", "serve a bundle to other machines, read-only, until Ctrl-C", as_json=False)
    share.add_argument("bundle", type=Path, metavar="BUNDLE", help="the folder that 'bundle' made")
    share.add_argument("--bind", default="127.0.0.1", metavar="ADDR", help="address to listen on; 0.0.0.0: all of them "
                       "(default: 127.0.0.1, this machine alone)")
    share.add_argument("--port", type=int, default=8090, metavar="P", help="default: 8090; 0: any free one")
    install = sub("install", "bring models of a bundle into the course's own store")
    install.add_argument("source", metavar="SOURCE", help="a bundle's folder, or http://ADDRESS:PORT of a share")
    install.add_argument("models", nargs="*", metavar="MODEL", help="owner/name (default: all that it holds)")


def run(args) -> int:
    return {"get": get, "verify": verify, "remove": remove, "bundle": bundle, "share": share,
            "install": install}.get(args.what, listing)(args)


def listing(args) -> int:
    from gb10.hub import store, stored

    found = stored()
    if args.json:
        print(json.dumps({"models": [{"repo": s.repo, "where": s.where, "path": str(s.path), "bytes": s.bytes,
                                      "format": s.format, "revision": s.revision, "whole": s.whole} for s in found]}))
        return 0
    if not found:
        print(f"No models yet, neither in {store.FOLDER} nor in the Hugging Face cache. (pico comes with the course.) "
              f"Fetch one: ./course models get Qwen/Qwen3-0.6B")
        return 0
    rows = [("model", "size", "format", "revision", "", "where")] + [
        (s.repo, _gb(s.bytes), s.format or "?", s.revision[:8] or "own", "whole" if s.whole else "partial",
         "course" if s.where == "course" else "Hugging Face cache") for s in found]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.rjust(w) if i == 1 else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip())
    if partial := [s for s in found if not s.whole and s.where == "course" and s.revision]:
        print(f"\nWhat is partial goes on with: ./course models get {partial[0].repo}")
    return 0


def get(args) -> int:
    from gb10.hub import fetch, names

    repos = list(dict.fromkeys(args.models))
    for repo in repos:                   # a slip in the last name is found before the first is fetched
        names.checked(repo)
    if args.dry_run:
        return _dry_run(args, repos)
    made = [{"repo": r, "path": str(fetch(r, revision=args.revision, quiet=args.json))} for r in repos]
    if args.json:
        print(json.dumps({"models": made}))
    else:
        print("\n".join(f"{m['repo']} is at {m['path']}" for m in made))
    return 0


def _dry_run(args, repos: list[str]) -> int:
    from gb10.hub import local, plan, reasons, store

    plans = [plan(r, args.revision) for r in repos]
    free = store.free_bytes(store.FOLDER)
    missing = sum(p.missing_bytes for p in plans)
    fits = not missing or missing + store.SPARE <= free
    locked = [p for p in plans if not p.access]
    if args.json:
        print(json.dumps({"models": [
            {"repo": p.repo, "revision": p.revision, "files": p.files, "bytes": p.bytes, "missing_bytes": p.missing_bytes,
             "gated": p.gated, "access": p.access, "here": local(p.repo) is not None, "folder": str(p.folder)} for p in plans],
            "missing_bytes": missing, "disk_free_bytes": free, "fits": fits}))
    for p in () if args.json else plans:
        gated = "" if not p.gated else ", gated (you have access)" if p.access else ", gated"
        print(f"{p.repo} at {p.revision[:12]}: {len(p.files)} files, {_gb(p.bytes)}, {_gb(p.missing_bytes)} to fetch{gated}")
        for name, size in p.files.items():
            print(f"  {_gb(size):>10}  {name}")
    if not args.json:
        print(f"Disk: {_gb(free)} free in {store.existing(store.FOLDER)}")
    for p in locked:
        print(f"./course: {reasons.gated(p.repo).message}", file=sys.stderr)
    if not fits:
        print(f"./course: {_gb(missing)} don't fit ({_gb(store.SPARE)} stay in reserve): free some disk first.", file=sys.stderr)
    return 2 if locked else 0 if fits else 1


def verify(args) -> int:
    from gb10.hub import listing, verify

    repos = list(dict.fromkeys(args.models)) or [s.repo for s in listing.own() if s.revision]
    verdicts = [verify(r, quiet=args.json) for r in repos]
    if args.json:
        print(json.dumps({"models": [{
            "repo": v.repo, "where": v.where, "path": str(v.path), "revision": v.revision, "ok": v.ok, "files": v.files,
            "bytes": v.bytes, "wrong": v.wrong, "unrecorded": v.unrecorded} for v in verdicts]}))
        return 0 if all(v.ok for v in verdicts) else 1
    if not verdicts:
        print("Nothing to verify: no models in the course's own store.")
    for v in verdicts:
        if v.ok:
            left = f" ({len(v.unrecorded)} by size alone: nobody recorded their SHA-256)" if v.unrecorded else ""
            print(f"{v.repo}: whole, {v.files} files, {_gb(v.bytes)}{left}")
        for name, why in v.wrong.items():
            print(f"{v.repo}: {name} {why}", file=sys.stderr)
    for v in verdicts:
        if not v.ok:
            how = f"./course models get {v.repo}" if v.where == "course" else f"hf download {v.repo} --force-download"
            print(f"./course: {v.repo} is not as it should be; what is wrong is fetched anew by: {how}", file=sys.stderr)
    return 0 if all(v.ok for v in verdicts) else 1


def remove(args) -> int:
    from gb10.errors import UserError
    from gb10.hub import folder, remove

    where = folder(args.model)
    if not args.yes and where.is_dir():
        if not sys.stdin.isatty():
            raise UserError(f"remove {where}? Nobody is here to ask: say --yes.")
        if input(f"Delete {where}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Kept.")
            return 0
    print(f"{args.model} removed, {_gb(remove(args.model))} freed")
    return 0


def bundle(args) -> int:
    from gb10.hub import bundle

    made = bundle(args.out, args.models, quiet=args.json)
    if args.json:
        print(json.dumps({"out": str(args.out), "made": made.made, "models": [
            {"repo": m.repo, "revision": m.revision, "files": len(m.files), "bytes": m.bytes} for m in made.models]}))
        return 0
    for m in made.models:
        print(f"{m.repo} at {m.revision[:12]}: {len(m.files)} files, {_gb(m.bytes)}")
    print(f"Install it elsewhere: ./course models install {args.out}\nOr serve it to a room: ./course models share {args.out} --bind 0.0.0.0")
    return 0


def share(args) -> int:
    from gb10.errors import UserError
    from gb10.hub import share, sharing

    if not 0 <= args.port <= 65535:
        raise UserError(f"port {args.port} can't be used: take one from 1024 to 65535.")
    served = share(args.bundle, args.bind, args.port)
    if sharing.loopback(args.bind):
        others = sharing.own_addresses()
        hint = others[0] if others else "ADDRESS"
        print(f"Only this machine can reach it. For others: ./course models share {args.bundle} --bind {hint}", file=sys.stderr)
    else:
        print("WARNING: everybody who can reach this address can read these files, without a password and without "
              "encryption. Stop it with Ctrl-C when all have installed.", file=sys.stderr)
    print(f"Serving {', '.join(m.repo for m in served.manifest.models)} from {args.bundle}. On the second machine:")
    for url in served.urls:
        print(f"  ./course models install {url}")
    print("Ctrl-C stops it.", flush=True)
    try:
        served.serve()
    finally:
        served.server.server_close()
    return 0


def install(args) -> int:
    from gb10.hub import install

    made = install(args.source, args.models, quiet=args.json)
    if args.json:
        print(json.dumps({"models": [{"repo": m.repo, "revision": m.revision, "path": str(m.path), "bytes": m.bytes,
                                      "already": m.already} for m in made]}))
        return 0
    for m in made:
        print(f"{m.repo} {'was here already' if m.already else 'is installed'}: {m.path}")
    print(f"Serve it: ./course up --model {made[0].repo}")
    return 0


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 5e6 else f"{size / 1e6:.2f} MB"
