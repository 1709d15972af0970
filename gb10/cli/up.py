"""./course up: start an engine and wait until it answers."""

from __future__ import annotations

import json
import sys

HELP = "Start an engine on 127.0.0.1 and wait until it answers."
EXAMPLES = """\
  ./course up                               vLLM on the CPU serves pico, the model that comes with the course
  ./course up --model work/out/pico-nvfp4   a checkpoint of yours, BF16 or NVFP4
  ./course up --model Qwen/Qwen3-0.6B       from the Hugging Face hub (fetched first; HF_TOKEN for gated models)
  ./course up --port 8003 --name small      beside the first one, under another name
  ./course up --dry-run                     what it would run and need, without starting it
  ./course up --json                        {"engine", "url", "model", "pid", "ready_s"} for a script

The first time, vLLM is installed into .venv-vllm (2 GB, some minutes). Then: ./course status, logs, down.
"""


def add_arguments(parser) -> None:
    parser.add_argument("engine", nargs="?", metavar="ENGINE", help="vllm (on the CPU; the default) or standin, a small "
                        "server over transformers for machines that vLLM has no wheel for")
    parser.add_argument("--model", metavar="M", help="pico (the default), a model folder, or a name on the hub")
    parser.add_argument("--name", metavar="N", help="what requests call the model (default: the folder's name)")
    parser.add_argument("--port", type=int, metavar="P", help="default: 8000")
    parser.add_argument("--context", type=int, metavar="T", help="longest prompt plus answer in tokens (default: 2048)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="what to compute in (default: what suits the model)")
    parser.add_argument("--timeout", type=float, default=240, metavar="S", help="give up after S seconds (default: 240)")
    parser.add_argument("--repair", action="store_true", help="first check vLLM's installation and mend it")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run, and what memory it needs")
    parser.add_argument("--json", action="store_true", help="print one line of JSON when it is ready")


def run(args) -> int:
    from gb10.engines import launch
    from gb10.errors import UserError

    model = args.model or "pico"
    if args.context is not None and args.context < 16:
        raise UserError(f"--context {args.context} is too short for a question and an answer: take 16 or more.")
    if args.timeout <= 0:
        raise UserError(f"--timeout {args.timeout:g} leaves no time to start: give seconds, 240 for instance.")
    if args.dry_run:
        return _dry_run(launch.plan(model, engine=args.engine, port=args.port, name=args.name, dtype=args.dtype,
                                    context=args.context), args.json)
    if args.repair:
        from gb10.engines import vllm_env

        vllm_env.ensure(repair=True)
    # Unlike a notebook, a person who typed no port expects 8000 and no other.
    server = launch.start(model, engine=args.engine, port=args.port or launch.PORT, name=args.name, dtype=args.dtype,
                          context=args.context, owner="up", timeout=args.timeout)
    note = server.note
    if args.json:
        print(json.dumps(note.contract()))
        return 0
    from gb10.engines.find import TITLES

    print(f"{TITLES.get(note.engine, note.engine)} serves {note.model} at {note.url} (pid {note.pid}, ready in {note.ready_s} s)")
    print(f"Log: {note.log}\n\nAsk it:\n{launch.snippets(note)}\n\nStop it: ./course down")
    return 0


def _dry_run(plan: dict, as_json: bool) -> int:
    if as_json:
        print(json.dumps(plan))
        return 0
    import shlex

    environment = " ".join(f"{k}={shlex.quote(v)}" for k, v in plan["environment"].items())
    print(f"{environment} \\\n  {shlex.join(plan['command'])}")
    parts = ", ".join(f"{what} {size / 1e9:.2f} GB" for what, size in plan["needs_bytes"].items())
    print(f"Memory: {parts}; available {plan['available_bytes'] / 1e9:.1f} GB", file=sys.stderr)
    return 0
