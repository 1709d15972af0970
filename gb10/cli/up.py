"""./course up: start an engine and wait until it answers."""

from __future__ import annotations

import json
import sys

HELP = """Start an engine on 127.0.0.1 and wait until it answers.

Without a name it is vLLM on the CPU with the course's small model, on any machine. Named, on a machine with an NVIDIA GPU,
it runs in a container (compose/), after its memory has been reckoned: what would over-commit a Spark is refused, with the
figures, and so is a second big engine beside the first."""
EXAMPLES = """\
  ./course up                               vLLM on the CPU serves pico, the model that comes with the course
  ./course up --model work/out/pico-nvfp4   a checkpoint of yours, BF16 or NVFP4, on the CPU
  ./course up --port 8003 --name small      beside the first one, under another name

  ./course up vllm --model Qwen3-8B --weights nvfp4        on a Spark: NVIDIA's checkpoint, in vLLM's container
  ./course up trtllm --model gpt-oss-120b                  TensorRT-LLM; likewise ollama, sglang, nim
  ./course up vllm --model Qwen3-235B-A22B --weights nvfp4 --two-sparks
  ./course up sglang --users 4 --context 32768             how many at once, and how long
  ./course up trtllm --model Llama-3.3-70B-Instruct --weights nvfp4 --dry-run --machine gb10
                                            what a Spark would be told, or why it would be refused; needs no Docker
  ./course up --json                        {"engine", "url", "model", "pid" or "container", "ready_s"} for a script

The first time, vLLM for the CPU is installed into .venv-vllm (2 GB, some minutes); images of containers are 10 to 25 GB.
A Hugging Face token for gated models is taken from HF_TOKEN and stored nowhere. Then: ./course status, logs, down.
"""


def add_arguments(parser) -> None:
    parser.add_argument("engine", nargs="?", metavar="ENGINE", help="vllm, trtllm, ollama, sglang or nim; or standin, a small "
                        "server over transformers for machines that vLLM has no wheel for (default: vllm on the CPU)")
    parser.add_argument("--model", metavar="M", help="pico (the default on the CPU), a name of the catalogue (./course fit "
                        "--list), a name on the hub, or a folder")
    parser.add_argument("--weights", metavar="F", help="nvfp4, fp8, bf16, …: which checkpoint of the model (default: what is "
                        "listed for the engine)")
    parser.add_argument("--kv", metavar="F", help="KV cache: bf16 (default) or fp8")
    parser.add_argument("--users", type=int, metavar="N", help="sequences at once that memory is kept for (default: 8, or what fits)")
    parser.add_argument("--context", type=int, metavar="T", help="longest prompt plus answer in tokens (default: 16384, or what "
                        "fits; on the CPU 2048)")
    parser.add_argument("--name", metavar="N", help="what requests call the model (default: the checkpoint's name)")
    parser.add_argument("--port", type=int, metavar="P", help="default: 8000 on the CPU, else vllm 8002, trtllm 8001, nim 8003, "
                        "ollama 11434, sglang 30000")
    parser.add_argument("--two-sparks", action="store_true", help="split the model over two linked Sparks (vllm, sglang)")
    parser.add_argument("--worker", action="store_true", help="with --two-sparks: this is the second one")
    parser.add_argument("--drop-caches", action="store_true", help="first give the page cache back (asks sudo)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="on the CPU: what to compute in")
    parser.add_argument("--timeout", type=float, metavar="S", help="give up after S seconds (default: 240; a container: 1800)")
    parser.add_argument("--repair", action="store_true", help="first check the CPU vLLM's installation and mend it")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run, and what memory it needs")
    parser.add_argument("--machine", metavar="M", help="with --dry-run: plan for this machine of the catalogue (gb10, h100, …)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON when it is ready")


def run(args) -> int:
    from gb10.errors import UserError

    if args.context is not None and args.context < 16:
        raise UserError(f"--context {args.context} is too short for a question and an answer: take 16 or more.")
    if args.timeout is not None and not args.timeout > 0:
        raise UserError(f"--timeout {args.timeout:g} leaves no time to start: give seconds, 240 for instance.")
    if args.machine and not args.dry_run:
        raise UserError("--machine is for --dry-run: an engine starts on the machine that you are at.")
    if args.worker and not args.two_sparks:
        raise UserError("--worker goes with --two-sparks: it is the second of the two.")
    return _container(args) if in_container(args) else _on_cpu(args)


def in_container(args) -> bool:
    """Does this request mean a container? Otherwise the CPU. Raises UserError for an engine that there isn't."""
    from gb10.engines.containers.spec import SPECS
    from gb10.errors import UserError

    wants = [w for w, there in (("--weights", args.weights), ("--kv", args.kv), ("--users", args.users), ("--machine", args.machine),
                                ("--two-sparks", args.two_sparks), ("--drop-caches", args.drop_caches)) if there]
    if args.engine not in (None, "standin", *SPECS):
        raise UserError(f"there is no engine '{args.engine}': take one of {', '.join((*SPECS, 'standin'))}.")
    if args.engine in (None, "standin"):
        if wants:
            raise UserError(f"{wants[0]} is for an engine in a container: name one, ./course up vllm {wants[0]} …")
        return False
    if args.engine != "vllm" or wants:
        return True
    if args.dtype or args.repair or args.model == "pico":
        return False
    from gb10.machine import detect

    return bool(detect().gpus)


def _container(args) -> int:
    from gb10.engines import containers

    plan = containers.plan(args.engine, args.model, weights=args.weights, kv=args.kv, machine=args.machine, users=args.users,
                           context=args.context, port=args.port, name=args.name, two_sparks=args.two_sparks, worker=args.worker)
    if args.dry_run:
        if args.json:
            print(json.dumps(plan.to_dict()))
            return 0
        _show_command(plan.environment, plan.command)
        print(f"Memory on {plan.machine}: {plan.budget}; for {plan.budget.users} at once of {plan.budget.context} tokens.", file=sys.stderr)
    else:
        _needs_gpu(plan)
        print(f"{plan.spec.title} with {plan.chosen.given}: {plan.budget}.", file=sys.stderr)
    for note in plan.notes:
        print(f"  {note}", file=sys.stderr)
    if args.dry_run:
        return 0
    note = containers.start(plan, timeout=args.timeout or 1800, drop_caches=args.drop_caches)
    if plan.role == "worker" and not args.json:
        print(f"The second half of {plan.chosen.name} runs here (container {note.container}) and waits for the first Spark, which answers.\n"
              f"Its log: ./course logs. Stop it: ./course down")
        return 0
    return _said(note, args.json)


def _needs_gpu(plan) -> None:
    from gb10.errors import UserError
    from gb10.machine import detect

    if not detect().gpus:
        raise UserError(f"{plan.spec.title} runs in a container on an NVIDIA GPU, and this machine has none: ./course up starts vLLM "
                        f"on the CPU; with --dry-run you see what a Spark would be told.")


def _on_cpu(args) -> int:
    from gb10.engines import launch, ports

    model = args.model or "pico"
    if args.dry_run:
        plan = launch.plan(model, engine=args.engine, port=args.port, name=args.name, dtype=args.dtype, context=args.context)
        if args.json:
            print(json.dumps(plan))
            return 0
        _show_command(plan["environment"], plan["command"])
        parts = ", ".join(f"{what} {size / 1e9:.2f} GB" for what, size in plan["needs_bytes"].items())
        print(f"Memory: {parts}; available {plan['available_bytes'] / 1e9:.1f} GB", file=sys.stderr)
        return 0
    if args.repair:
        from gb10.engines import vllm_env

        vllm_env.ensure(repair=True)
    # Unlike a notebook, a person who typed no port expects 8000 and no other.
    server = launch.start(model, engine=args.engine, port=args.port or ports.PORT, name=args.name, dtype=args.dtype,
                          context=args.context, owner="up", timeout=args.timeout or 240)
    return _said(server.note, args.json)


def _show_command(environment: dict, command: list[str]) -> None:
    import shlex

    print(" \\\n".join([*(f"{k}={shlex.quote(v)}" for k, v in environment.items()), f"  {shlex.join(command)}"]))


def _said(note, as_json: bool) -> int:
    """It is up: the address, and something to paste."""
    if as_json:
        print(json.dumps(note.contract()))
        return 0
    from gb10.engines import launch

    print(f"{note.title} serves {note.model} at {note.url} ({note.where}, ready in {note.ready_s} s)")
    print(f"Log: ./course logs --port {note.port}\n\nAsk it:\n{launch.snippets(note)}\n\nStop it: ./course down --port {note.port}")
    return 0
